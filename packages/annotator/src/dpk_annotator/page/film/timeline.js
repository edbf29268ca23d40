/**
 * The length of a video as a band: frame numbers, lowest confidence and highest speed, frames that
 * are in the set, and where one is. Pressed or dragged it goes there; the wheel enlarges.
 */

import { multiples, roundStep } from "../axis.js";
import { element } from "../dom.js";
import { Emitter } from "../emitter.js";
import { Ink } from "../ink.js";

const RULER = 16;
const LANE = 26;
const GAP = 3;
const MARKS = 12;
const OVERVIEW = 5;
const FONT = 10.5;
/** CSS pixels around a mark in which a press goes to it. */
const REACH = 4;
/** Milliseconds until columns are asked for after the last change of the view. */
const REST = 90;
/** CSS pixels between two numbers of the ruler, at least. */
const APART = 78;
/** Fewest frames across. */
const CLOSEST = 20;

/** Emits `go` (frame), and `view` when another part is seen. */
export class Timeline extends Emitter {
  n = 1;
  frame = 0;
  /** First frame in sight, and the one after the last. @type {[number, number]} */
  range = [0, 1];
  /** @type {Map<number, number[]>} Images by frame. */
  inSet = new Map();
  /** @type {Set<number>} */
  selected = new Set();
  /** @type {import("./poses.js").FilmPoses|null} */
  poses = null;
  limits = { unsure: 0.5, fast: Infinity };
  /** Where the pointer rests. @type {PointerEvent|null} */
  #pointer = null;
  /** @type {import("./poses.js").Columns|null} */
  #columns = null;
  #asked = 0;
  #timer = 0;
  #frame = 0;
  #dragging = false;
  /** @type {Ink} */
  #ink;

  constructor() {
    super();
    this.canvas = element("canvas", {
      class: "timeline",
      tabIndex: 0,
      role: "slider",
      "aria-label": "Frame",
      "aria-valuemin": 0,
      on: {
        pointerdown: (event) => this.#press(event),
        pointermove: (event) => this.#move(event),
        pointerup: (event) => this.#release(event),
        pointercancel: (event) => this.#release(event),
        pointerleave: () => this.#hover(null),
      },
    });
    this.canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#ink = new Ink(this.canvas);
    this.readout = element("p", { class: "readout", hidden: true });
    this.element = element("div", { class: "timeline-room" }, this.canvas, this.readout);
    new ResizeObserver(() => {
      this.#resize();
      this.#ask();
    }).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.dress());
  }

  /** @param {number} n Frames of the video. */
  open(n) {
    this.n = n;
    this.range = [0, n];
    this.frame = 0;
    this.inSet = new Map();
    this.selected = new Set();
    this.show(null);
    this.canvas.setAttribute("aria-valuemax", String(n - 1));
  }

  /** @param {import("./poses.js").FilmPoses|null} poses */
  show(poses) {
    this.poses = poses;
    this.#columns = null;
    this.#ask();
    this.dress();
  }

  /** What was found may be another now. */
  refresh() {
    this.#ask();
  }

  /** Colours may be others now. */
  dress() {
    this.#ink.forget();
    this.redraw();
  }

  /** @param {number} frame @param {string} words */
  to(frame, words) {
    this.frame = frame;
    this.canvas.setAttribute("aria-valuenow", String(frame));
    this.canvas.setAttribute("aria-valuetext", words);
    this.#follow();
    this.redraw();
  }

  /**
   * See more or less of it at once.
   *
   * @param {number} factor Above 1 enlarges.
   * @param {number} [about] A frame that stays where it is.
   */
  zoom(factor, about = this.frame) {
    const [from, to] = this.range;
    const span = Math.min(this.n, Math.max(Math.min(CLOSEST, this.n), (to - from) / factor));
    const part = Math.min(1, Math.max(0, (about + 0.5 - from) / (to - from)));
    this.#see(about + 0.5 - part * span, span);
  }

  whole() {
    this.#see(0, this.n);
  }

  redraw() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #see(from, span) {
    const left = Math.min(this.n - span, Math.max(0, from));
    this.range = [left, left + span];
    this.redraw();
    this.#ask();
    this.emit("view");
  }

  /** Keep the frame in sight. */
  #follow() {
    const [from, to] = this.range;
    const span = to - from;
    if (this.frame + 0.5 < from || this.frame + 0.5 > to) this.#see(this.frame + 0.5 - span / 2, span);
  }

  // -- pointer and wheel -------------------------------------------------------------------------

  #press(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#dragging = true;
    this.emit("go", this.#near(event) ?? this.#at(event));
  }

  #move(event) {
    const frame = this.#at(event);
    if (this.#dragging && frame !== this.frame) this.emit("go", frame);
    this.#hover(event);
  }

  #release(event) {
    this.#dragging = false;
    if (this.canvas.hasPointerCapture(event.pointerId)) this.canvas.releasePointerCapture(event.pointerId);
  }

  #wheel(event) {
    event.preventDefault();
    const [from, to] = this.range;
    const sideways = event.deltaX !== 0 && Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (sideways || event.shiftKey) {
      const pixels = event.deltaX || event.deltaY;
      this.#see(from + (pixels / this.canvas.clientWidth) * (to - from), to - from);
    } else this.zoom(Math.exp(-event.deltaY / 300), this.#at(event));
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [from, to] = this.range;
    const frame = Math.floor(from + ((event.clientX - box.left) / box.width) * (to - from));
    return Math.min(this.n - 1, Math.max(0, frame));
  }

  /** A marked frame close to where the row of marks was pressed. */
  #near(event) {
    const box = this.canvas.getBoundingClientRect();
    const top = box.height - MARKS - OVERVIEW - GAP;
    if (event.clientY - box.top < top) return null;
    const [from, to] = this.range;
    const place = event.clientX - box.left;
    let [best, least] = [null, REACH];
    for (const frame of [...this.inSet.keys(), ...this.selected]) {
      const far = Math.abs(((frame + 0.5 - from) / (to - from)) * box.width - place);
      if (far <= least) [best, least] = [frame, far];
    }
    return best;
  }

  /** Say what is under the pointer. @param {PointerEvent|null} event */
  #hover(event) {
    this.#pointer = event;
    this.readout.hidden = event === null;
    if (!event) return;
    const frame = this.#near(event) ?? this.#at(event);
    const parts = [`frame ${frame}`];
    const columns = this.#columns;
    const bin = columns ? Math.floor((frame - columns.start) / columns.frames_per_bin) : -1;
    const confidence = columns?.confidence[bin] ?? null;
    const speed = columns?.speed[bin] ?? null;
    if (confidence !== null) parts.push(`${Math.round(confidence * 100)} %`);
    if (speed !== null) parts.push(`${speed.toFixed(1)} px a frame`);
    if (this.inSet.has(frame)) parts.push(`image ${this.inSet.get(frame)[0]}`);
    this.readout.textContent = parts.join(", ");
    const box = this.canvas.getBoundingClientRect();
    const room = box.width - this.readout.offsetWidth - 4;
    this.readout.style.left = `${Math.min(room, Math.max(4, event.clientX - box.left + 10))}px`;
  }

  // -- columns -----------------------------------------------------------------------------------

  #ask() {
    clearTimeout(this.#timer);
    if (!this.poses) return;
    this.#timer = setTimeout(() => this.#fetch(), this.#columns ? REST : 0);
  }

  async #fetch() {
    const { poses } = this;
    const width = this.canvas.clientWidth;
    if (!poses || !width) return;
    this.#asked += 1;
    const asked = this.#asked;
    const [from, to] = this.range;
    const span = to - from;
    const start = Math.max(0, Math.floor(from - span / 2));
    const stop = Math.min(this.n, Math.ceil(to + span / 2));
    try {
      const columns = await poses.columns(start, stop, Math.ceil((width * (stop - start)) / span / 2));
      if (asked !== this.#asked || poses !== this.poses) return;
      this.#columns = columns;
      this.redraw();
      if (this.#pointer) this.#hover(this.#pointer);
    } catch {
      // Asked for again with the next change of the view.
    }
  }

  // -- drawing -----------------------------------------------------------------------------------

  /** CSS pixels it needs. */
  get height() {
    return RULER + (this.poses ? 2 * (LANE + GAP) : LANE / 2) + MARKS + OVERVIEW + GAP;
  }

  #resize() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight].map((size) => Math.round(size * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.redraw();
  }

  #draw() {
    this.#frame = 0;
    const { canvas } = this;
    const height = `${this.height}px`;
    if (canvas.style.height !== height) canvas.style.height = height;
    const ratio = devicePixelRatio || 1;
    const context = canvas.getContext("2d");
    const [width, tall] = [canvas.width / ratio, this.height];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, tall);
    context.font = `${FONT}px system-ui, sans-serif`;
    this.#drawRuler(context, width);
    if (this.poses) {
      this.#drawLane(context, width, RULER, "confidence");
      this.#drawLane(context, width, RULER + LANE + GAP, "speed");
    }
    this.#drawMarks(context, width, tall - OVERVIEW - GAP - MARKS);
    this.#drawOverview(context, width, tall - OVERVIEW);
    this.#drawHere(context, width, tall - OVERVIEW - GAP);
  }

  #x(frame, width) {
    const [from, to] = this.range;
    return ((frame - from) / (to - from)) * width;
  }

  #drawRuler(context, width) {
    const [from, to] = this.range;
    const step = roundStep(Math.max(1, ((to - from) * APART) / Math.max(1, width)));
    context.fillStyle = this.#ink.colour("soft");
    context.strokeStyle = this.#ink.colour("line");
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.beginPath();
    for (const frame of multiples(from, to, step)) {
      const x = Math.round(this.#x(frame + 0.5, width)) + 0.5;
      context.moveTo(x, 2);
      context.lineTo(x, this.height - OVERVIEW - GAP);
      const text = String(frame);
      if (x + 4 + context.measureText(text).width < width) context.fillText(text, x + 4, RULER / 2);
    }
    context.stroke();
  }

  /** Bars as high as the values; what is beyond the limit stands out. */
  #drawLane(context, width, top, name) {
    const columns = this.#columns;
    context.fillStyle = this.#ink.colour("sunk");
    context.fillRect(0, top, width, LANE);
    const low = name === "confidence";
    if (columns) {
      const values = columns[name];
      const most = low ? 1 : values.reduce((best, value) => Math.max(best, value ?? 0), 0) || 1;
      const { frames_per_bin: wide, start } = columns;
      for (const beyond of [false, true]) {
        context.fillStyle = this.#ink.colour(beyond ? (low ? "warn" : "bad") : "accent");
        context.globalAlpha = beyond ? 1 : 0.55;
        context.beginPath();
        values.forEach((value, i) => {
          if (value === null) return;
          const is = low ? value < this.limits.unsure : value >= this.limits.fast;
          if (is !== beyond) return;
          const left = this.#x(start + i * wide, width);
          const right = this.#x(start + (i + 1) * wide, width);
          if (right < 0 || left > width) return;
          const high = Math.max(1, (value / most) * (LANE - 2));
          context.rect(left, top + LANE - high, Math.max(right - left - (right - left > 3 ? 1 : 0), beyond ? 1.5 : 0.75), high);
        });
        context.fill();
      }
      context.globalAlpha = 1;
    }
    const text = low ? "lowest confidence" : "highest speed";
    const across = context.measureText(text).width;
    context.globalAlpha = 0.8;
    context.fillStyle = this.#ink.colour("panel");
    context.fillRect(2, top + 2, across + 8, FONT + 3);
    context.globalAlpha = 1;
    context.fillStyle = this.#ink.colour("text");
    context.fillText(text, 6, top + 2 + (FONT + 3) / 2);
  }

  #drawMarks(context, width, top) {
    const [from, to] = this.range;
    const seen = (frame) => frame + 1 > from && frame < to;
    context.fillStyle = this.#ink.colour("good");
    for (const frame of this.inSet.keys()) {
      if (seen(frame)) context.fillRect(this.#x(frame + 0.5, width) - 1.5, top + 1, 3, MARKS - 2);
    }
    context.strokeStyle = this.#ink.colour("accent");
    context.lineWidth = 1.6;
    for (const frame of this.selected) {
      if (!seen(frame)) continue;
      context.beginPath();
      context.arc(this.#x(frame + 0.5, width), top + MARKS / 2, 4, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  /** Which part of the video is in sight. */
  #drawOverview(context, width, top) {
    const [from, to] = this.range;
    if (to - from >= this.n) return;
    context.fillStyle = this.#ink.colour("sunk");
    context.fillRect(0, top, width, OVERVIEW);
    context.fillStyle = this.#ink.colour("soft");
    context.fillRect((from / this.n) * width, top, Math.max(8, ((to - from) / this.n) * width), OVERVIEW);
  }

  #drawHere(context, width, bottom) {
    const x = this.#x(this.frame + 0.5, width);
    const [left, right] = [this.#x(this.frame, width), this.#x(this.frame + 1, width)];
    if (right - left > 3) {
      context.globalAlpha = 0.16;
      context.fillStyle = this.#ink.colour("text");
      context.fillRect(left, 0, right - left, bottom);
      context.globalAlpha = 1;
    }
    context.fillStyle = this.#ink.colour("text");
    context.fillRect(x - 1, 0, 2, bottom);
    context.beginPath();
    context.moveTo(x - 5, 0);
    context.lineTo(x + 5, 0);
    context.lineTo(x, 7);
    context.fill();
  }
}
