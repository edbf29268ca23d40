/** Round numbers for scales, rulers and their steps. */

/**
 * The smallest of 1, 2, 5 times a power of ten that is not below a value.
 *
 * @param {number} least Above 0.
 */
export function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5].map((each) => each * power).find((step) => step >= least) ?? 10 * power;
}

/**
 * Multiples of a step, from a value on and below another one.
 *
 * @param {number} from
 * @param {number} below
 * @param {number} step
 */
export function multiples(from, below, step) {
  const ticks = [];
  for (let i = Math.ceil(from / step); i * step < below; i += 1) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}
