/** Drawing keypoints: labels filled, hidden ones as rings, guesses hollow and dashed. */

import { outline } from "./colours.js";
import { HIDDEN, isAnnotated, isMissing } from "./labels.js";

/**
 * @typedef {object} Mark
 * @property {number} index
 * @property {string} name
 * @property {number} x
 * @property {number} y
 * @property {"label"|"hidden"|"guess"} kind
 * @property {number|null} score
 */

const HALO = "rgb(0 0 0 / 0.65)";
const NAME_GROUND = "rgb(0 0 0 / 0.55)";
const NAME_FONT = 12;
/** Above so many keypoints they are drawn smaller, and only names near the pointer are written. */
const MANY = 60;

/**
 * What there is to draw of an image's labels: those, else the guesses.
 *
 * @param {import("./labels.js").RowState} state
 * @param {import("./labels.js").Skeleton} skeleton
 * @param {boolean} [guesses] Whether guesses are shown.
 * @returns {Mark[]}
 */
export function marksOf(state, skeleton, guesses = true) {
  /** @type {Mark[]} */
  const marks = [];
  skeleton.names.forEach((name, index) => {
    const mark = markOf(state, name);
    if (mark && (guesses || mark.kind !== "guess")) marks.push({ index, name, ...mark });
  });
  return marks;
}

/**
 * @param {import("./labels.js").RowState} state
 * @param {string} name
 * @returns {{x: number, y: number, kind: "label"|"hidden"|"guess", score: number|null}|null}
 */
export function markOf(state, name) {
  const point = state.points[name];
  if (isAnnotated(point)) {
    if (isMissing(point)) return null;
    return { x: point[0], y: point[1], kind: point[2] === HIDDEN ? "hidden" : "label", score: null };
  }
  const guesses = state.guess?.points ?? {};
  const guess = Object.hasOwn(guesses, name) ? guesses[name] : null;
  if (guess && guess[0] !== null) return { x: guess[0], y: guess[1], kind: "guess", score: guess[2] };
  if (!isMissing(point)) return { x: point[0], y: point[1], kind: "guess", score: null };
  return null;
}

/**
 * @typedef {object} Drawing
 * @property {import("./labels.js").Skeleton} skeleton
 * @property {import("./colours.js").Look[]} looks
 * @property {number} ratio Device pixels a CSS pixel.
 * @property {number} [size] Of a mark, in CSS pixels.
 * @property {number} [active] Index of the keypoint that the next click places.
 * @property {number} [hover] Index of the one under the pointer.
 * @property {"auto"|"all"|"active"|"none"} [names]
 * @property {number} [opacity]
 */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {import("./view.js").View} view
 * @param {Mark[]} marks
 * @param {Drawing} drawing
 */
export function drawMarks(context, view, marks, drawing) {
  const { ratio, active = -1, hover = -1 } = drawing;
  const size = (drawing.size ?? 5) * (marks.length > MANY ? 0.7 : 1) * ratio;
  const places = new Map(marks.map((mark) => [mark.index, view.toDevice(mark.x, mark.y)]));
  context.save();
  context.globalAlpha = drawing.opacity ?? 1;
  context.lineJoin = "round";
  drawEdges(context, marks, places, drawing);
  const last = marks.filter(({ index }) => index === active || index === hover);
  const first = marks.filter((mark) => !last.includes(mark));
  for (const mark of [...first, ...last]) {
    const [x, y] = places.get(mark.index);
    const large = mark.index === active ? 1.35 : mark.index === hover ? 1.2 : 1;
    drawMark(context, x, y, size * large, mark.kind, drawing.looks[mark.index], ratio);
    if (mark.index === active) drawCross(context, x, y, size * 1.35, ratio);
  }
  drawNames(context, [...last].reverse().concat(first), places, size, drawing, marks.length);
  context.restore();
}

function drawEdges(context, marks, places, { skeleton, looks, ratio }) {
  const kinds = new Map(marks.map((mark) => [mark.index, mark.kind]));
  for (const [width, halo] of [[3.2, true], [1.4, false]]) {
    for (const { index } of marks) {
      const parent = skeleton.parents[index];
      if (!places.has(parent)) continue;
      const guessed = kinds.get(index) === "guess" || kinds.get(parent) === "guess";
      if (halo && guessed) continue;
      context.setLineDash(guessed ? [4 * ratio, 4 * ratio] : []);
      context.lineWidth = Number(width) * ratio;
      context.strokeStyle = halo ? "rgb(0 0 0 / 0.35)" : looks[index].colour;
      context.beginPath();
      context.moveTo(...places.get(parent));
      context.lineTo(...places.get(index));
      context.stroke();
    }
  }
  context.setLineDash([]);
}

function tracePath(context, x, y, r, side) {
  context.beginPath();
  const points = outline(side, r);
  if (!points) {
    context.arc(x, y, r, 0, 2 * Math.PI);
    return;
  }
  points.forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + dx, y + dy));
  context.closePath();
}

function drawMark(context, x, y, r, kind, { colour, side }, ratio) {
  const guess = kind === "guess";
  tracePath(context, x, y, r, side);
  context.strokeStyle = HALO;
  context.lineWidth = (kind === "label" ? 2.4 : 4) * ratio;
  context.stroke();
  context.strokeStyle = colour;
  context.fillStyle = colour;
  if (kind === "label") {
    context.fill();
    // A dark pip where the label is: the middle of the mark, exactly.
    dot(context, x, y, Math.max(0.9 * ratio, r * 0.2), "rgb(0 0 0 / 0.8)");
    return;
  }
  context.lineWidth = (guess ? 1.5 : 2) * ratio;
  context.setLineDash(guess ? [2.5 * ratio, 2 * ratio] : []);
  tracePath(context, x, y, r, side);
  context.stroke();
  context.setLineDash([]);
  dot(context, x, y, guess ? 1 * ratio : r * 0.35, colour);
}

function dot(context, x, y, r, colour) {
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}

/** Four ticks around the active keypoint, which leave the place itself free. */
function drawCross(context, x, y, r, ratio) {
  const [from, to] = [r + 3 * ratio, r + 9 * ratio];
  for (const [width, colour] of [[3.5, HALO], [1.5, "#fff"]]) {
    context.lineWidth = Number(width) * ratio;
    context.strokeStyle = String(colour);
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * from, y + dy * from);
      context.lineTo(x + dx * to, y + dy * to);
    }
    context.stroke();
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Mark[]} marks The first of them has the first choice of a place.
 * @param {Map<number, [number, number]>} places In device pixels, by index.
 * @param {number} size Of a mark, in device pixels.
 * @param {Drawing} drawing
 * @param {number} n How many marks there are in all.
 */
function drawNames(context, marks, places, size, { names = "auto", active, hover, looks, ratio }, n) {
  if (names === "none") return;
  context.font = `500 ${NAME_FONT * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const height = NAME_FONT * 1.25 * ratio;
  /** @type {[number, number, number, number][]} Boxes that are taken. */
  const taken = [];
  for (const { index, name } of marks) {
    const chosen = index === active || index === hover;
    if (!chosen && (names === "active" || (names === "auto" && n > MANY))) continue;
    const [x, y] = places.get(index);
    const text = name.length > 40 ? `${name.slice(0, 39)}…` : name;
    const left = x + size * (chosen ? 1.35 : 1) + (index === active ? 14 : 6) * ratio;
    const box = [left, y - height / 2, left + context.measureText(text).width, y + height / 2];
    const hits = taken.some((b) => b[0] < box[2] && box[0] < b[2] && b[1] < box[3] && box[1] < b[3]);
    if (hits && names !== "all" && !chosen) continue;
    taken.push(/** @type {any} */ (box));
    const room = 3 * ratio;
    context.fillStyle = NAME_GROUND;
    context.beginPath();
    context.roundRect(box[0] - room, box[1], box[2] - box[0] + 2 * room, height, room);
    context.fill();
    context.fillStyle = chosen ? "#fff" : looks[index].colour;
    context.fillText(text, left, y);
  }
}
