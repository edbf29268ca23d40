/** What each action of the table of keys does. */

import { showHelp } from "./help.js";
import { HIDDEN, VISIBLE, isAnnotated, isMissing } from "./labels.js";
import { markOf } from "./marks.js";

const ZOOM = 1.25;
const NAMES = /** @type {const} */ (["auto", "all", "active", "none"]);

/** @typedef {import("./app.js").App} App */

/** @type {Record<string, (app: App) => void>} */
const COMMANDS = {
  "next-keypoint": (app) => app.select(app.active + 1),
  "previous-keypoint": (app) => app.select(app.active - 1),
  step: (app) => {
    app.step = app.step === 1 ? 10 : 1;
    app.notices.brief(`W, A, S, D move by ${app.step} ${app.step === 1 ? "pixel" : "pixels"}.`);
  },
  place,
  visibility: (app) => {
    const point = app.state?.points[app.activeName];
    if (!point || isMissing(point) || !isAnnotated(point)) {
      app.notices.brief(`Place ${app.activeName} first, then say whether it is hidden.`);
      return;
    }
    const visibility = point[2] === HIDDEN ? VISIBLE : HIDDEN;
    app.edit({ kind: "visibility", keypoint: app.activeName, visibility });
    app.speak(`${app.activeName} ${visibility === HIDDEN ? "hidden" : "visible"}`);
  },
  absent: (app) => {
    app.edit({ kind: "visibility", keypoint: app.activeName, visibility: 0 });
    app.speak(`${app.activeName} absent`);
    app.advance();
  },
  clear: (app) => {
    if (!isAnnotated(app.state?.points[app.activeName])) return;
    app.edit({ kind: "clear", keypoint: app.activeName });
    app.speak(`${app.activeName} cleared`);
  },
  "next-image": (app) => app.goBy(1),
  "previous-image": (app) => app.goBy(-1),
  forward: (app) => app.goBy(10),
  back: (app) => app.goBy(-10),
  "next-unlabelled": (app) => {
    const row = app.rows.nextUnlabelled(app.row);
    if (row === null) app.notices.brief("All images are finished.");
    else app.go(row);
  },
  "next-suggested": (app) => app.emit("suggested", 1),
  "previous-suggested": (app) => app.emit("suggested", -1),
  search: () => {
    const input = /** @type {HTMLInputElement} */ (document.getElementById("number"));
    input.focus();
    input.select();
  },
  finished: (app) => {
    if (!app.state) return;
    app.edit({ kind: "finished", finished: !app.state.finished });
    app.speak(app.state.finished ? "Finished" : "Not finished");
  },
  reset: (app) => {
    app.edit({ kind: "reset" });
    app.select(0);
    app.notices.brief("All labels of this image are cleared. Z brings them back.");
  },
  flag: (app) => {
    if (app.state) app.edit({ kind: "flag", flag: !app.state.flag });
  },
  note: (app) => {
    app.tabs.choose("label");
    app.emit("note");
  },
  swap: (app) => {
    app.edit({ kind: "swap" });
    app.speak("Left and right swapped");
  },
  copy,
  confirm: (app) => {
    if (!app.confirm(null)) app.notices.brief("There are no guesses to confirm.");
  },
  undo: (app) => app.undo(),
  redo: (app) => app.redo(),
  "zoom-in": (app) => zoom(app, ZOOM, app.pointer.place),
  "zoom-out": (app) => zoom(app, 1 / ZOOM, app.pointer.place),
  "zoom-in-left": (app) => zoom(app, ZOOM, placeOfActive(app)),
  "zoom-out-left": (app) => zoom(app, 1 / ZOOM, placeOfActive(app)),
  fit: (app) => {
    app.stage.view.fit();
    app.viewed();
  },
  loupe: (app) => app.settings.set({ loupe: !app.settings.values.loupe }),
  names: (app) => {
    const names = NAMES[(NAMES.indexOf(app.settings.values.names) + 1) % NAMES.length];
    app.settings.set({ names });
    app.notices.brief({ auto: "Names where there is room", all: "All names", active: "The name of the active keypoint", none: "No names" }[names]);
  },
  guesses: (app) => app.settings.set({ guesses: !app.settings.values.guesses }),
  regions,
  stage: (app) => {
    app.setClicking(null);
    app.focusStage();
  },
  help: (app) => showHelp(app.keys),
};

/**
 * @param {App} app
 * @param {string} action
 */
export function runCommand(app, action) {
  return COMMANDS[action]?.(app);
}

/** Where a keypoint that has no place begins when it is moved by keys. */
export function startOf(app) {
  const mark = app.state && markOf(app.state, app.activeName);
  if (mark) return [mark.x, mark.y];
  const { view } = app.stage;
  const [x, y] = view.toImage(view.width / 2, view.height / 2);
  const within = (value, size) => Math.round(Math.min(size - 1, Math.max(0, value)));
  return [within(x, view.imageWidth), within(y, view.imageHeight)];
}

function place(app) {
  if (!app.state) return;
  const name = app.activeName;
  if (!app.confirm([name]) && !isAnnotated(app.state.points[name])) {
    const [x, y] = startOf(app);
    app.move(name, x, y);
    app.speak(`${name} at ${x}, ${y}`);
  }
  app.advance();
}

async function copy(app) {
  const { row } = app;
  const source = app.rows.frameBefore(row);
  if (source === null) {
    app.notices.brief("There is no frame before this one.");
    return;
  }
  await app.rows.get(source);
  if (row !== app.row) return;
  const before = app.rows.state(source);
  const points = Object.fromEntries(
    Object.entries(before.points).filter(([, point]) => isAnnotated(point) && !isMissing(point)),
  );
  if (!Object.keys(points).length) app.notices.brief(`Image ${source}, the frame before, has no labels.`);
  else app.edit({ kind: "copy", source, points, overwrite: false });
}

function placeOfActive(app) {
  const mark = app.state && markOf(app.state, app.activeName);
  return mark ? app.stage.view.toDevice(mark.x, mark.y) : app.pointer.place;
}

function zoom(app, factor, place) {
  app.stage.view.zoom(factor, ...(place ?? []));
  app.viewed();
}

/** On to the next part of the page, round and round. */
function regions(app) {
  const parts = [
    app.stage.host,
    document.querySelector('[role="tab"][aria-selected="true"]'),
    document.getElementById("strip"),
    document.getElementById("previous"),
  ];
  const regionsOf = [app.stage.host, document.getElementById("side"), document.getElementById("strip"), document.querySelector("header")];
  const here = regionsOf.findIndex((region) => region.contains(document.activeElement));
  /** @type {HTMLElement} */ (parts[(here + 1) % parts.length]).focus();
}
