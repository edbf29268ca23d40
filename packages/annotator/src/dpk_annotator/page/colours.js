/**
 * Colours and shapes that tell keypoints apart, also for those who don't see red and green: one side
 * of the animal is warm and square, the other cool and round, its middle pale and a diamond. Within
 * a side, hue and lightness step along; where there are no sides, over all hues.
 */

/** @typedef {"first"|"second"|"middle"} Side */
/** @typedef {{colour: string, side: Side}} Look */

const LEFT = /(^|[^a-z])[lL]([^a-z]|$)|L\d*$/;
/** Hue in degrees from and to, of OKLCH. */
const HUES = { first: [25, 95], second: [205, 300], middle: [120, 165] };
const CHROMA = { first: 0.16, second: 0.14, middle: 0.07 };
/** Where no keypoint has a twin, all hues are free to tell them apart. */
const UNSIDED = { hues: [25, 325], chroma: 0.14 };

/**
 * @param {import("./labels.js").Skeleton} skeleton
 * @returns {Look[]} One a keypoint.
 */
export function looks(skeleton) {
  const sides = skeleton.names.map((_, i) => sideOf(skeleton, i));
  const total = { first: 0, second: 0, middle: 0 };
  for (const side of sides) total[side] += 1;
  const seen = { first: 0, second: 0, middle: 0 };
  const unsided = total.middle === sides.length;
  return sides.map((side) => {
    const place = total[side] > 1 ? seen[side] / (total[side] - 1) : 0.5;
    const [from, to] = unsided ? UNSIDED.hues : HUES[side];
    const chroma = unsided ? UNSIDED.chroma : CHROMA[side];
    const lightness = [0.82, 0.7, 0.76][seen[side] % 3];
    seen[side] += 1;
    const hue = from + (to - from) * place;
    return { side, colour: `oklch(${lightness} ${chroma} ${hue.toFixed(1)})` };
  });
}

/**
 * @param {import("./labels.js").Skeleton} skeleton
 * @param {number} i
 * @returns {Side}
 */
function sideOf({ names, swaps }, i) {
  const partner = swaps[i];
  if (partner < 0 || partner === i) return "middle";
  const left = isLeft(names[i]);
  const other = isLeft(names[partner]);
  if (left !== other && (left || other)) return left ? "first" : "second";
  return i < partner ? "first" : "second";
}

/** @param {string} name */
function isLeft(name) {
  const low = name.toLowerCase();
  if (/left/.test(low)) return true;
  if (/right/.test(low)) return false;
  return LEFT.test(name);
}

/**
 * The outline of a keypoint's shape, as points around (0, 0).
 *
 * @param {Side} side
 * @param {number} r
 * @returns {[number, number][]|null} Null for a circle.
 */
export function outline(side, r) {
  if (side === "second") return null;
  if (side === "middle") {
    const d = r * 1.25;
    return [[0, -d], [d, 0], [0, d], [-d, 0]];
  }
  const h = r * 0.92;
  return [[-h, -h], [h, -h], [h, h], [-h, h]];
}
