/** What the pointer does to the image on the stage: place, take hold, drag, point. */

import { isAnnotated } from "./labels.js";

/**
 * @param {import("./app.js").App} app
 * @returns {import("./pointer.js").Acts}
 */
export function handOn(app) {
  const name = (index) => app.skeleton.names[index];
  return {
    marks: () => app.scene.marks(),
    active: () => app.active,
    placeAt: (x, y) => {
      app.focusStage();
      if (app.clicking) app.clicking(round(x), round(y));
      else if (app.stage.picture) {
        app.ahead.do("place", () => {
          app.keyboard.settle();
          place(app, x, y);
        });
      }
    },
    select: (index) => app.select(index),
    pressed: (index) => {
      app.focusStage();
      const guess = !isAnnotated(app.state?.points[name(index)]);
      if (index === app.active && guess && app.confirm([name(index)])) app.advance();
      else app.select(index);
    },
    preview: (index, x, y) => {
      if (index < 0) app.preview = null;
      else {
        app.preview = { name: name(index), x, y };
        if (index !== app.active) app.select(index);
      }
      app.stage.redrawMarks();
    },
    moveTo: (index, x, y) => {
      app.focusStage();
      app.preview = null;
      app.move(name(index), x, y);
    },
    hover: (index) => {
      if (index === app.hover) return;
      app.hover = index;
      app.stage.host.classList.toggle("over-mark", index >= 0);
      app.stage.redrawMarks();
    },
    moved: (at) => {
      app.loupe.show(at);
      showPlace(app, at);
    },
    viewed: () => app.viewed(),
  };
}

/** To a thousandth of a pixel: what a hand can mean, and short in the file. @param {number} value */
export const round = (value) => Math.round(value * 1000) / 1000;

function place(app, x, y) {
  app.move(app.activeName, x, y);
  app.speak(`${app.activeName} at ${x.toFixed(1)}, ${y.toFixed(1)}`);
  app.advance();
}

/** Which pixel is under the pointer. */
function showPlace({ stage }, at) {
  const text = document.getElementById("where");
  if (!at || !stage.picture) {
    text.textContent = "";
    return;
  }
  const [x, y] = stage.view.toImage(...at);
  text.textContent = `${x.toFixed(1)}, ${y.toFixed(1)}`;
}
