/** Mouse, pen, fingers and wheel on the stage. */

/** CSS pixels around a mark in which a press takes hold of it. */
const REACH = 9;
/** CSS pixels that a press may wander and still be a click. */
const STILL = 3;
/** A wheel that turns in steps of at least this many pixels is a mouse's. */
const WHEEL_STEP = 40;
const ZOOM_STEP = 1.2;

/**
 * What is done when somebody presses, drags or points; places are in pixels of the image, `moved` in
 * device pixels.
 *
 * @typedef {object} Acts
 * @property {() => import("./marks.js").Mark[]} marks
 * @property {() => number} active
 * @property {(x: number, y: number) => void} placeAt
 * @property {(index: number) => void} select
 * @property {(index: number) => void} pressed
 * @property {(index: number, x: number, y: number) => void} preview
 * @property {(index: number, x: number, y: number) => void} moveTo
 * @property {(index: number) => void} hover
 * @property {(place: [number, number]|null) => void} moved
 * @property {() => void} viewed
 */

export class Pointer {
  /** @type {Map<number, [number, number]>} Fingers and buttons that are down, in device pixels. */
  #down = new Map();
  /** @type {null | {kind: "pan"|"drag"|"press"|"pinch", index: number, start: [number, number], offset: [number, number], moved: boolean}} */
  #gesture = null;
  /** Whether the space bar is held. */
  space = false;
  /** Whether the space bar was used to pan. */
  panned = false;
  /** @type {[number, number]|null} Where the pointer is, in device pixels. */
  place = null;

  /**
   * @param {import("./stage.js").Stage} stage
   * @param {Acts} acts
   */
  constructor(stage, acts) {
    this.stage = stage;
    this.acts = acts;
    const { host } = stage;
    host.addEventListener("pointerdown", (event) => this.#press(event));
    host.addEventListener("pointermove", (event) => this.#move(event));
    host.addEventListener("pointerup", (event) => this.#release(event));
    host.addEventListener("pointercancel", (event) => this.#cancel(event));
    host.addEventListener("pointerleave", () => {
      this.place = null;
      acts.moved(null);
      acts.hover(-1);
    });
    host.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    host.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Whether something is being dragged. */
  get busy() {
    return this.#gesture !== null;
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (event.target instanceof Element && event.target.closest("button")) return;
    this.stage.host.setPointerCapture(event.pointerId);
    const place = this.stage.place(event);
    this.#down.set(event.pointerId, place);
    if (this.#down.size === 2) {
      this.#gesture = { kind: "pinch", index: -1, start: place, offset: [0, 0], moved: true };
      return;
    }
    const pans = event.button === 1 || event.button === 2 || (event.button === 0 && this.space);
    if (pans) {
      this.#gesture = { kind: "pan", index: -1, start: place, offset: [0, 0], moved: false };
      this.stage.host.classList.add("panning");
      return;
    }
    if (event.button !== 0) return;
    const hit = event.shiftKey || event.ctrlKey || event.metaKey ? -1 : this.#hit(place);
    /** @type {[number, number]} */
    let offset = [0, 0];
    if (hit >= 0) {
      const mark = this.acts.marks().find(({ index }) => index === hit);
      const [x, y] = this.stage.view.toImage(...place);
      offset = [mark.x - x, mark.y - y];
    }
    this.#gesture = { kind: hit >= 0 ? "drag" : "press", index: hit, start: place, offset, moved: false };
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const place = this.stage.place(event);
    const before = this.#down.get(event.pointerId);
    this.place = place;
    const gesture = this.#gesture;
    if (gesture?.kind === "pinch" && before) {
      this.#pinch(event.pointerId, before, place);
      return;
    }
    if (before) this.#down.set(event.pointerId, place);
    if (gesture) {
      const far = Math.hypot(place[0] - gesture.start[0], place[1] - gesture.start[1]);
      gesture.moved ||= far > STILL * this.stage.ratio;
    }
    if (gesture?.kind === "pan" && before) {
      this.panned = true;
      this.stage.view.pan(place[0] - before[0], place[1] - before[1]);
      this.acts.viewed();
    } else if (gesture?.kind === "drag" && gesture.moved) {
      this.acts.preview(gesture.index, ...this.#dragged(place, gesture));
    } else if (!gesture) {
      this.acts.hover(this.#hit(place));
    }
    this.acts.moved(place);
  }

  /** @param {PointerEvent} event */
  #release(event) {
    const gesture = this.#gesture;
    const place = this.stage.place(event);
    this.#down.delete(event.pointerId);
    if (gesture?.kind === "pinch" && this.#down.size) return;
    this.#gesture = null;
    this.stage.host.classList.remove("panning");
    if (gesture?.kind === "drag") {
      if (gesture.moved) this.acts.moveTo(gesture.index, ...this.#dragged(place, gesture));
      else this.acts.pressed(gesture.index);
    } else if (gesture?.kind === "press") {
      // Where the press began: a hand that shakes while it lets go does not move the label.
      this.acts.placeAt(...this.stage.view.toImage(...(gesture.moved ? place : gesture.start)));
    }
  }

  /** @param {PointerEvent} event */
  #cancel(event) {
    this.#down.delete(event.pointerId);
    if (this.#gesture?.kind === "drag") this.acts.preview(-1, 0, 0);
    this.#gesture = null;
    this.stage.host.classList.remove("panning");
  }

  /** @param {[number, number]} place */
  #dragged(place, { offset }) {
    const [x, y] = this.stage.view.toImage(...place);
    return /** @type {[number, number]} */ ([x + offset[0], y + offset[1]]);
  }

  #pinch(id, before, place) {
    const other = [...this.#down].find(([key]) => key !== id)?.[1];
    this.#down.set(id, place);
    if (!other) return;
    const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
    const middle = (p) => [(p[0] + other[0]) / 2, (p[1] + other[1]) / 2];
    const [from, to] = [middle(before), middle(place)];
    this.stage.view.pan(to[0] - from[0], to[1] - from[1]);
    if (apart(before) > 0) this.stage.view.zoom(apart(place) / apart(before), to[0], to[1]);
    this.acts.viewed();
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const place = this.stage.place(event);
    const { view, ratio } = this.stage;
    // A pinch on a trackpad comes as a wheel with Ctrl; two fingers come in small or slanted steps.
    const lines = event.deltaMode !== WheelEvent.DOM_DELTA_PIXEL;
    const mouse = lines || (event.deltaX === 0 && Math.abs(event.deltaY) >= WHEEL_STEP);
    if (event.ctrlKey && !mouse) view.zoom(Math.exp(-event.deltaY / 100), ...place);
    else if (mouse || event.ctrlKey) view.zoom(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP, ...place);
    else view.pan(-event.deltaX * ratio, -event.deltaY * ratio);
    this.acts.viewed();
    this.acts.moved(place);
  }

  /** The mark that a press there takes hold of; -1 for none. The active one wins. */
  #hit([x, y]) {
    let best = -1;
    let least = REACH * this.stage.ratio;
    for (const mark of this.acts.marks()) {
      const [mx, my] = this.stage.view.toDevice(mark.x, mark.y);
      const far = Math.hypot(mx - x, my - y) - (mark.index === this.acts.active() ? this.stage.ratio : 0);
      if (far < least) [best, least] = [mark.index, far];
    }
    return best;
  }
}
