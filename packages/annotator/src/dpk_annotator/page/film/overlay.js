/** Poses drawn on a frame: skeletons with a colour for each individual, its number, its trail. */

import { looks } from "../colours.js";

const HALO = "rgb(0 0 0 / 0.6)";
const FONT = 12;
/** Degrees of hue between one individual and the next: all differ, neighbours most. */
const GOLDEN = 137.508;

/**
 * @typedef {object} PoseLook
 * @property {number} ratio Device pixels a CSS pixel.
 * @property {number} size Of a mark in CSS pixels.
 * @property {number} unsure Keypoints with a lower score are drawn hollow.
 * @property {boolean} numbers Whether individuals are numbered.
 * @property {number} trail How many frames back the trail goes.
 * @property {string} trailOf A keypoint, or "" for the middle of the animal.
 * @property {(number|null)[]} chosen Individuals that are marked.
 */

/** @param {number} track */
export function colourOf(track) {
  const number = track < 0 ? 0 : track;
  return `oklch(${[0.8, 0.72, 0.86][number % 3]} 0.15 ${((40 + number * GOLDEN) % 360).toFixed(1)})`;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {import("../view.js").View} view
 * @param {import("./poses.js").FilmPoses} poses
 * @param {number} frame
 * @param {PoseLook} look
 */
export function drawPoses(context, view, poses, frame, look) {
  const individuals = poses.at(frame);
  if (!individuals) return;
  const alone = poses.info.individuals.length <= 1;
  const own = alone ? looks(poses.skeleton).map(({ colour }) => colour) : null;
  context.save();
  context.lineJoin = context.lineCap = "round";
  if (look.trail > 0) drawTrails(context, view, poses, frame, look);
  for (const individual of individuals) {
    const colours = own ?? poses.skeleton.names.map(() => colourOf(individual.track));
    drawOne(context, view, individual, poses.skeleton, colours, look);
  }
  if (look.numbers && !alone) for (const individual of individuals) drawNumber(context, view, individual, poses.called(individual.track), look);
  context.restore();
}

function drawOne(context, view, { track, points }, skeleton, colours, { ratio, size, unsure, chosen }) {
  const places = points.map(([x, y]) => (x === null || y === null ? null : view.toDevice(x, y)));
  const wide = chosen.includes(track) ? 2 : 1;
  for (const halo of [true, false]) {
    skeleton.parents.forEach((parent, i) => {
      if (parent < 0 || !places[i] || !places[parent]) return;
      const doubtful = points[i][2] < unsure || points[parent][2] < unsure;
      if (halo && doubtful) return;
      context.setLineDash(doubtful ? [3 * ratio, 4 * ratio] : []);
      context.lineWidth = (halo ? 1.8 : 0) * ratio + 1.6 * wide * ratio;
      context.strokeStyle = halo ? "rgb(0 0 0 / 0.4)" : colours[i];
      context.beginPath();
      context.moveTo(...places[parent]);
      context.lineTo(...places[i]);
      context.stroke();
    });
  }
  context.setLineDash([]);
  places.forEach((place, i) => {
    if (!place) return;
    const doubtful = points[i][2] < unsure;
    context.beginPath();
    context.arc(place[0], place[1], size * 0.75 * ratio, 0, 2 * Math.PI);
    context.lineWidth = (doubtful ? 3.4 : 2.2) * ratio;
    context.strokeStyle = HALO;
    context.stroke();
    context.lineWidth = 1.5 * ratio;
    context.fillStyle = context.strokeStyle = colours[i];
    if (doubtful) context.stroke();
    else context.fill();
  });
}

function drawNumber(context, view, { track, points }, text, { ratio, chosen }) {
  const there = points.filter(([x, y]) => x !== null && y !== null);
  if (!there.length) return;
  const places = there.map(([x, y]) => view.toDevice(x, y));
  const x = places.reduce((sum, [left]) => sum + left, 0) / places.length;
  const y = Math.min(...places.map(([, top]) => top)) - 14 * ratio;
  context.font = `600 ${FONT * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.textAlign = "center";
  const half = context.measureText(text).width / 2 + 5 * ratio;
  context.fillStyle = chosen.includes(track) ? colourOf(track) : "rgb(0 0 0 / 0.6)";
  context.beginPath();
  context.roundRect(x - half, y - 9 * ratio, 2 * half, 18 * ratio, 5 * ratio);
  context.fill();
  context.fillStyle = chosen.includes(track) ? "#000" : colourOf(track);
  context.fillText(text, x, y + 0.5 * ratio);
  context.textAlign = "start";
}

/** Where each individual was, fading with time; a gap where it was not found. */
function drawTrails(context, view, poses, frame, { trail, trailOf, ratio }) {
  const keypoint = poses.skeleton.names.indexOf(trailOf);
  /** @type {Map<number, [number, number]>} */
  let before = new Map();
  context.lineWidth = 2 * ratio;
  for (let at = Math.max(0, frame - trail); at <= frame; at += 1) {
    const now = new Map();
    for (const { track, points } of poses.at(at) ?? []) {
      const place = keypoint < 0 ? middle(points) : points[keypoint];
      if (!place || place[0] === null) continue;
      const here = view.toDevice(place[0], place[1]);
      now.set(track, here);
      const last = before.get(track);
      if (!last) continue;
      context.globalAlpha = 0.15 + 0.75 * (1 - (frame - at) / trail);
      context.strokeStyle = colourOf(track);
      context.beginPath();
      context.moveTo(...last);
      context.lineTo(...here);
      context.stroke();
    }
    before = now;
  }
  context.globalAlpha = 1;
}

/**
 * The middle of an animal; null when nothing of it was found.
 *
 * @param {[number|null, number|null, number][]} points
 * @returns {[number, number]|null}
 */
export function middle(points) {
  const there = points.filter(([x, y]) => x !== null && y !== null);
  if (!there.length) return null;
  const mean = (/** @type {number} */ axis) => there.reduce((sum, point) => sum + point[axis], 0) / there.length;
  return [mean(0), mean(1)];
}
