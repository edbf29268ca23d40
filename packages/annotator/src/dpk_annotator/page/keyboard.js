/** Keys pressed anywhere in the page: which action they mean there, and when it is done. */

import { belongs } from "./belongs.js";
import { startOf } from "./commands.js";
import { round } from "./hand.js";

const DIRECTIONS = { up: [0, -1], down: [0, 1], left: [-1, 0], right: [1, 0] };
/** Actions that make sense when their key is held. */
const REPEATS = new Set(["next-keypoint", "previous-keypoint", "next-image", "previous-image", "forward", "back", "undo", "redo", "zoom-in", "zoom-out", "zoom-in-left", "zoom-out-left"]);
/** A held key is one edit, made when it is let go or rests this long. */
const REST = 250;
/** Before a held key begins to repeat there is a longer pause. */
const FIRST = 1000;

export class KeyHandler {
  /** A keypoint that keys are moving. @type {{name: string, x: number, y: number}|null} */
  #moving = null;
  #timer = 0;

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    addEventListener("keydown", (event) => this.#down(event));
    addEventListener("keyup", (event) => this.#up(event));
    addEventListener("blur", () => {
      this.settle();
      this.#space(false);
    });
    addEventListener("pagehide", () => this.settle());
  }

  /** Make an edit of what keys have moved so far. */
  settle() {
    clearTimeout(this.#timer);
    const moving = this.#moving;
    this.#moving = null;
    if (!moving) return;
    this.app.preview = null;
    this.app.move(moving.name, moving.x, moving.y);
    this.app.speak(`${moving.name} at ${moving.x.toFixed(1)}, ${moving.y.toFixed(1)}`);
  }

  /** @param {KeyboardEvent} event */
  #down(event) {
    const { app } = this;
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (inStrip(target) && this.#strip(event)) return;
    const action = app.keys.action(event);
    if (action === null || !belongs(event, action, [app.stage.host])) return;
    event.preventDefault();
    if (action === "step") {
      this.#space(true);
      return;
    }
    if (event.repeat && !REPEATS.has(action) && !nudgeOf(action)) return;
    const nudge = nudgeOf(action);
    if (nudge) app.ahead.do(action, () => this.#nudge(nudge, event.repeat));
    else {
      this.settle();
      app.run(action);
    }
  }

  /** @param {KeyboardEvent} event */
  #up(event) {
    if (this.#moving) this.settle();
    if (event.key !== " " || !this.app.pointer.space) return;
    // A space bar that was held to pan does not change the step.
    const { panned } = this.app.pointer;
    this.#space(false);
    if (!panned) this.app.run("step");
  }

  #space(held) {
    const { pointer, stage } = this.app;
    if (held && !pointer.space) pointer.panned = false;
    pointer.space = held;
    stage.host.classList.toggle("can-pan", held);
  }

  /** One press is one edit; a key that is held is one, too. */
  #nudge({ direction, by }, repeated) {
    const { app } = this;
    if (!app.state || app.readOnly) return;
    if (!repeated || this.#moving?.name !== app.activeName) this.settle();
    const [x, y] = this.#moving ? [this.#moving.x, this.#moving.y] : startOf(app);
    const [dx, dy] = DIRECTIONS[direction];
    const size = by ?? app.step;
    this.#moving = { name: app.activeName, x: round(x + dx * size), y: round(y + dy * size) };
    app.preview = this.#moving;
    app.stage.view.reveal(this.#moving.x, this.#moving.y);
    app.viewed();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.settle(), repeated ? REST : FIRST);
  }

  /** Arrows in the strip of small pictures. */
  #strip(event) {
    const { app } = this;
    const act = {
      ArrowRight: () => app.goBy(1),
      ArrowLeft: () => app.goBy(-1),
      PageDown: () => app.goBy(10),
      PageUp: () => app.goBy(-10),
      Home: () => app.go(app.rows.order[0] ?? app.row),
      End: () => app.go(app.rows.order.at(-1) ?? app.row),
      Enter: () => app.focusStage(),
    }[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return false;
    event.preventDefault();
    act();
    return true;
  }
}

const inStrip = (target) => target.closest?.("#strip") !== null && target.closest !== undefined;

/** @param {string} action @returns {{direction: string, by: number|null}|null} */
function nudgeOf(action) {
  const [direction, far] = action.split("-");
  if (!(direction in DIRECTIONS)) return null;
  return { direction, by: { fine: 0.1, far: 10 }[far] ?? null };
}
