/** What is drawn over the image: its labels, one on its way, and keypoints of a skeleton being made. */

import { applyEdit } from "./labels.js";
import { marksOf } from "./marks.js";

/** CSS pixels. */
const NAME = 12;
const RING = 6;

export class Scene {
  /** @type {import("./skeleton_draft.js").Item[]} */
  #draft = [];

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    app.stage.overlays.push((context) => this.#drawDraft(context));
  }

  /** As the stage wants it. */
  now() {
    const { app } = this;
    let { state } = app;
    if (state && app.preview) {
      const { name, x, y } = app.preview;
      state = applyEdit(state, { kind: "move", keypoint: name, x, y }, app.skeleton);
    }
    const { names, size, guesses } = app.settings.values;
    return {
      state,
      guesses,
      drawing: {
        skeleton: app.skeleton,
        looks: app.looks,
        ratio: app.stage.ratio,
        size,
        names,
        active: app.clicking ? -1 : app.active,
        hover: app.hover,
      },
    };
  }

  /** What the pointer can take hold of. */
  marks() {
    const { state, clicking, skeleton, settings } = this.app;
    return state && !clicking ? marksOf(state, skeleton, settings.values.guesses) : [];
  }

  /** Keypoints of a skeleton that is being made. @param {import("./skeleton_draft.js").Item[]} items */
  setDraft(items) {
    this.#draft = items.filter(({ place, origin }) => place && origin === null);
    this.app.stage.redrawMarks();
  }

  #drawDraft(context) {
    const { ratio, view } = this.app.stage;
    context.font = `600 ${NAME * ratio}px system-ui, sans-serif`;
    for (const { parent, place, row } of this.#draft) {
      if (row !== this.app.row || !parent?.place || parent.row !== row) continue;
      context.lineWidth = 1.5 * ratio;
      context.strokeStyle = "rgb(255 255 255 / 0.8)";
      context.beginPath();
      context.moveTo(...view.toDevice(...parent.place));
      context.lineTo(...view.toDevice(...place));
      context.stroke();
    }
    for (const { name, place, row } of this.#draft) {
      if (row !== this.app.row) continue;
      const [x, y] = view.toDevice(...place);
      for (const [width, colour] of [[5, "rgb(0 0 0 / 0.6)"], [2, "#fff"]]) {
        context.lineWidth = Number(width) * ratio;
        context.strokeStyle = String(colour);
        context.beginPath();
        context.arc(x, y, RING * ratio, 0, 2 * Math.PI);
        context.stroke();
      }
      context.lineWidth = 3 * ratio;
      context.strokeStyle = "rgb(0 0 0 / 0.65)";
      context.strokeText(name, x + 10 * ratio, y);
      context.fillStyle = "#fff";
      context.fillText(name, x + 10 * ratio, y);
    }
  }
}
