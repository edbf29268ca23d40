/** The place where the image is seen: one canvas for the picture, one above it for the labels. */

import { drawMarks, marksOf } from "./marks.js";
import { View } from "./view.js";

/** CSS pixels. */
const USUAL_FONT = 14;

export class Stage {
  view = new View();
  /** @type {ImageBitmap|OffscreenCanvas|null} */
  picture = null;
  /** Size of the picture proper within the image; beyond is padding. @type {[number, number]|null} */
  proper = null;
  /** Draw more above the labels. @type {((context: CanvasRenderingContext2D) => void)[]} */
  overlays = [];
  /** Device pixels a CSS pixel. */
  ratio = 1;
  /** How much larger than usual the page writes, as on large screens; marks follow. */
  enlarged = 1;
  #imageDirty = true;
  #marksDirty = true;
  #frame = 0;

  /**
   * @param {HTMLElement} host
   * @param {() => {state: import("./labels.js").RowState|null, drawing: import("./marks.js").Drawing, guesses: boolean}} scene
   */
  constructor(host, scene) {
    this.host = host;
    this.scene = scene;
    this.image = /** @type {HTMLCanvasElement} */ (host.querySelector("canvas.picture"));
    this.marks = /** @type {HTMLCanvasElement} */ (host.querySelector("canvas.marks"));
    this.imageContext = this.image.getContext("2d", { alpha: true });
    this.marksContext = this.marks.getContext("2d");
    const observer = new ResizeObserver(([entry]) => this.#resize(entry));
    try {
      observer.observe(this.image, { box: "device-pixel-content-box" });
    } catch {
      observer.observe(this.image);
    }
  }

  /**
   * Show a picture; null while it is not here yet.
   *
   * @param {ImageBitmap|OffscreenCanvas|null} picture
   * @param {[number, number]|null} proper
   */
  show(picture, proper) {
    this.picture = picture;
    this.proper = proper;
    if (picture) this.view.setImage(picture.width, picture.height);
    this.redraw();
  }

  /** The picture or the way it is seen has changed. */
  redraw() {
    this.#imageDirty = true;
    this.redrawMarks();
  }

  /** The labels have changed. */
  redrawMarks() {
    this.#marksDirty = true;
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  /**
   * Where a pointer is, in device pixels. A mouse stands on a whole device pixel, whose middle
   * counts; a pen or a finger may be between.
   *
   * @param {MouseEvent} event
   * @returns {[number, number]}
   */
  place(event) {
    const box = this.image.getBoundingClientRect();
    const x = (event.clientX - box.left) * (this.image.width / box.width);
    const y = (event.clientY - box.top) * (this.image.height / box.height);
    const mouse = !("pointerType" in event) || event.pointerType === "mouse";
    return mouse ? [Math.floor(x + 0.01) + 0.5, Math.floor(y + 0.01) + 0.5] : [x, y];
  }

  /** @param {ResizeObserverEntry} entry */
  #resize(entry) {
    this.ratio = devicePixelRatio || 1;
    this.enlarged = parseFloat(getComputedStyle(document.documentElement).fontSize) / USUAL_FONT;
    const css = [entry.contentRect.width, entry.contentRect.height].map((size) => Math.round(size * this.ratio));
    const exact = entry.devicePixelContentBoxSize?.[0];
    // What the browser says, unless it speaks of another density than the page has (as in emulation).
    const sound = exact && Math.abs(exact.inlineSize - css[0]) <= 1 && Math.abs(exact.blockSize - css[1]) <= 1;
    const [width, height] = sound ? [exact.inlineSize, exact.blockSize] : css;
    if (!width || !height) return;
    for (const canvas of [this.image, this.marks]) {
      canvas.width = width;
      canvas.height = height;
    }
    this.view.resize(width, height);
    this.redraw();
    // Now, for a canvas that has changed its size is blank until it is drawn.
    this.#draw();
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#imageDirty) this.#drawImage();
    if (this.#marksDirty) this.#drawMarks();
    this.#imageDirty = this.#marksDirty = false;
  }

  #drawImage() {
    const { imageContext: context, view, picture } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    if (!picture) return;
    context.setTransform(view.scale, 0, 0, view.scale, view.left, view.top);
    context.imageSmoothingEnabled = view.scale < 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (this.proper) this.#drawPadding(...this.proper);
  }

  /** Hatch what is no picture. */
  #drawPadding(width, height) {
    const { imageContext: context, view } = this;
    const [w, h] = [view.imageWidth, view.imageHeight];
    if (width >= w && height >= h) return;
    const [right, bottom] = view.toDevice(w - 0.5, h - 0.5);
    const [x, y] = view.toDevice(width - 0.5, height - 0.5);
    context.save();
    context.beginPath();
    context.rect(x, view.top, right - x, bottom - view.top);
    context.rect(view.left, y, x - view.left, bottom - y);
    context.clip();
    context.fillStyle = "#2b2f36";
    context.fillRect(view.left, view.top, right - view.left, bottom - view.top);
    context.strokeStyle = "#4a515c";
    context.lineWidth = this.ratio;
    const step = 10 * this.ratio;
    const [from, to] = [Math.max(0, view.top), Math.min(view.height, bottom)];
    context.beginPath();
    for (let start = Math.max(0, view.left) - (to - from); start < Math.min(view.width, right); start += step) {
      context.moveTo(start, to);
      context.lineTo(start + (to - from), from);
    }
    context.stroke();
    context.restore();
  }

  #drawMarks() {
    const { marksContext: context, view } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    const { state, drawing, guesses } = this.scene();
    if (state && this.picture) {
      drawMarks(context, view, marksOf(state, drawing.skeleton, guesses), { ...drawing, ratio: this.ratio * this.enlarged });
    }
    for (const overlay of this.overlays) overlay(context);
  }
}
