/** Times of a video as people write them. */

/**
 * Minutes, seconds and tenths.
 *
 * @param {number} seconds
 */
export function clock(seconds) {
  const tenths = Math.floor(seconds * 10 + 1e-6);
  const [minutes, rest] = [Math.floor(tenths / 600), tenths % 600];
  return `${minutes}:${String(Math.floor(rest / 10)).padStart(2, "0")}.${rest % 10}`;
}
