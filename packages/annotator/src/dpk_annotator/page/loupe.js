/** An enlarged view of what is under the pointer, beside it. */

import { drawMarks, marksOf } from "./marks.js";
import { View } from "./view.js";

const SIZE = 168;
const AWAY = 28;
/** Image pixels across when the picture is small on the screen. */
const ACROSS = 21;
/** From this enlargement on (CSS pixels an image pixel) nobody needs a loupe. */
const LARGE_ENOUGH = 6;

export class Loupe {
  #view = new View();

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./stage.js").Stage} stage
   */
  constructor(canvas, stage) {
    this.canvas = canvas;
    this.stage = stage;
    this.context = canvas.getContext("2d");
    this.on = true;
  }

  /**
   * @param {[number, number]|null} place Of the pointer in device pixels; null when it has left.
   */
  show(place) {
    const { stage, canvas } = this;
    const wanted = this.on && place && stage.picture && stage.view.scale / stage.ratio < LARGE_ENOUGH;
    canvas.hidden = !wanted;
    if (!wanted) return;
    const size = Math.round(SIZE * stage.ratio);
    if (canvas.width !== size) canvas.width = canvas.height = size;
    this.#put(place);
    this.#draw(place, size);
  }

  /** Beside the pointer, where there is room. */
  #put([x, y]) {
    const { ratio, view } = this.stage;
    const beside = (/** @type {number} */ at, /** @type {number} */ room) =>
      at / ratio + AWAY + SIZE < room / ratio ? at / ratio + AWAY : at / ratio - AWAY - SIZE;
    this.canvas.style.transform = `translate(${Math.round(beside(x, view.width))}px, ${Math.round(beside(y, view.height))}px)`;
  }

  #draw([x, y], size) {
    const { context, stage } = this;
    const view = this.#view;
    Object.assign(view, { width: size, height: size, imageWidth: stage.view.imageWidth, imageHeight: stage.view.imageHeight });
    const enlarged = Math.max(size / ACROSS, 3 * stage.view.scale);
    view.scale = Math.max(1, Math.round(Math.min(enlarged, size / 5)));
    const [ix, iy] = stage.view.toImage(x, y);
    view.left = size / 2 - (ix + 0.5) * view.scale;
    view.top = size / 2 - (iy + 0.5) * view.scale;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#1c1f24";
    context.fillRect(0, 0, size, size);
    context.setTransform(view.scale, 0, 0, view.scale, view.left, view.top);
    context.imageSmoothingEnabled = false;
    context.drawImage(stage.picture, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    const { state, drawing, guesses } = stage.scene();
    if (state) {
      const shown = { ...drawing, ratio: stage.ratio, names: /** @type {const} */ ("none"), opacity: 0.75, size: 4 };
      drawMarks(context, view, marksOf(state, drawing.skeleton, guesses), shown);
    }
    this.#cross(size);
  }

  #cross(size) {
    const { context } = this;
    const { ratio } = this.stage;
    const middle = size / 2;
    for (const [width, colour] of [[3, "rgb(0 0 0 / 0.5)"], [1, "rgb(255 255 255 / 0.95)"]]) {
      context.lineWidth = Number(width) * ratio;
      context.strokeStyle = String(colour);
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(middle + dx * 5 * ratio, middle + dy * 5 * ratio);
        context.lineTo(middle + dx * 16 * ratio, middle + dy * 16 * ratio);
      }
      context.stroke();
    }
  }
}
