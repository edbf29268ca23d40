/** Learning curves: how loss and error fall from epoch to epoch. */

import { multiples, roundStep } from "./axis.js";
import { element, svg } from "./dom.js";

/** @typedef {{epoch: number, loss: number|null, val_loss: number|null, val_error_px: number|null}} Epoch */
/** @typedef {{name: keyof Epoch, title: string, class: string}} Line */

const WIDTH = 320;
const HEIGHT = 104;
const LEFT = 40;
const RIGHT = 6;
const TOP = 6;
const BOTTOM = 16;
/** Where the largest is so many times the smallest, steps of the scale multiply. */
const WIDE = 8;
/** A step may be so much smaller than half of the scale. */
const SLACK = 0.7;

/** @type {{title: string, lines: Line[]}[]} */
const PLOTS = [
  {
    title: "Loss",
    lines: [
      { name: "loss", title: "training", class: "first" },
      { name: "val_loss", title: "validation", class: "second" },
    ],
  },
  { title: "Error in pixels", lines: [{ name: "val_error_px", title: "validation", class: "second" }] },
];

/**
 * A chart of its own for losses and for the error, with the values of one epoch in words.
 *
 * @param {Epoch[]} curve
 * @returns {HTMLElement|null} Null while there is nothing to draw.
 */
export function learningCurve(curve) {
  const last = curve.at(-1);
  if (!last) return null;
  const words = element("p", { class: "hint values", text: describe(last) });
  const plots = PLOTS.filter(({ lines }) => curve.some((epoch) => lines.some(({ name }) => epoch[name] !== null)));
  const point = (/** @type {PointerEvent} */ event) => {
    const box = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const place = ((x - LEFT) / (WIDTH - LEFT - RIGHT)) * (curve.length - 1);
    words.textContent = describe(curve[Math.min(curve.length - 1, Math.max(0, Math.round(place)))]);
  };
  return element(
    "div",
    { class: "curves" },
    ...plots.map(({ title, lines }) => {
      const drawn = plot(title, lines, curve);
      drawn.addEventListener("pointermove", point);
      drawn.addEventListener("pointerleave", () => {
        words.textContent = describe(last);
      });
      return element("figure", {}, element("figcaption", {}, element("span", { text: title }), ...legend(lines)), drawn);
    }),
    words,
  );
}

/** @param {Line[]} lines */
function legend(lines) {
  return lines.map((line) =>
    element(
      "span",
      { class: "key" },
      svg("svg", { viewBox: "0 0 16 8", width: 16, height: 8, "aria-hidden": "true" }, svg("path", { d: "M1 4h14", class: `line ${line.class}` })),
      element("span", { text: line.title }),
    ),
  );
}

function plot(title, lines, curve) {
  const values = curve.flatMap((epoch) => lines.map(({ name }) => epoch[name])).filter((value) => value !== null);
  const scale = scaleOf(values);
  const x = (i) => LEFT + ((WIDTH - LEFT - RIGHT) * (curve.length > 1 ? i / (curve.length - 1) : 0.5));
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - scale.place(value));
  const made = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "plot", "aria-label": `${title}, ${spoken(lines, curve)}` });
  for (const tick of scale.ticks) {
    made.append(svg("path", { d: `M${LEFT} ${y(tick)}H${WIDTH - RIGHT}`, class: "grid" }));
    made.append(label(short(tick), { x: LEFT - 5, y: y(tick), "text-anchor": "end", "dominant-baseline": "central" }));
  }
  const [first, last] = [curve[0].epoch, curve.at(-1).epoch];
  made.append(label(`epoch ${last}`, { x: WIDTH - RIGHT, y: HEIGHT - 3, "text-anchor": "end" }));
  if (last > first) made.append(label(String(first), { x: LEFT, y: HEIGHT - 3 }));
  for (const line of lines) {
    const points = curve.map((epoch, i) => [x(i), epoch[line.name]]).filter(([, value]) => value !== null);
    if (points.length === 1) made.append(svg("circle", { cx: points[0][0], cy: y(points[0][1]), r: 2.5, class: `dot ${line.class}` }));
    else if (points.length) {
      const path = points.map(([left, value], i) => `${i ? "L" : "M"}${left.toFixed(1)} ${y(value).toFixed(1)}`).join("");
      made.append(svg("path", { d: path, class: `line ${line.class}` }));
    }
  }
  return made;
}

function label(text, attributes) {
  const made = svg("text", attributes);
  made.textContent = text;
  return made;
}

/**
 * Where values stand between the bottom (0) and the top (1), and which of them are written.
 *
 * @param {number[]} values
 */
function scaleOf(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const wide = low > 0 && high / low > WIDE;
  const [to, from] = wide ? [Math.log10, (v) => 10 ** v] : [(v) => v, (v) => v];
  let [bottom, top] = [wide ? to(low) : Math.min(0, low), to(high)];
  if (top - bottom < 1e-12) top = bottom + 1;
  const ticks = wide ? decades(low, high) : rounds(bottom, top);
  top = Math.max(top, ...ticks.map(to));
  bottom = Math.min(bottom, ...ticks.map(to));
  return { place: (value) => (to(Math.max(value, from(bottom))) - bottom) / (top - bottom), ticks };
}

/** Powers of ten around the values, at most four. */
function decades(low, high) {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const step = Math.ceil((to - from) / 3);
  const ticks = [];
  for (let power = to; power >= from; power -= step) ticks.push(10 ** power);
  return ticks;
}

/** Round numbers between two, about three. */
function rounds(bottom, top) {
  const step = roundStep(((top - bottom) / 2) * SLACK);
  return multiples(bottom, top + step * (1 - 1e-3), step);
}

/** @param {number} value */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 0.001 && size < 10000 ? String(Number(value.toPrecision(3))) : value.toExponential(0).replace("e-", "e−").replace("e+", "e");
}

function describe(epoch) {
  const parts = [];
  if (epoch.loss !== null) parts.push(`loss ${short(epoch.loss)}`);
  if (epoch.val_loss !== null) parts.push(`validation ${short(epoch.val_loss)}`);
  if (epoch.val_error_px !== null) parts.push(`error ${short(epoch.val_error_px)} px`);
  return `Epoch ${epoch.epoch}: ${parts.join(", ")}`;
}

function spoken(lines, curve) {
  return lines
    .map(({ name, title }) => {
      const values = curve.map((epoch) => epoch[name]).filter((value) => value !== null);
      return values.length ? `${title} from ${short(values[0])} to ${short(values.at(-1))}` : "";
    })
    .filter(Boolean)
    .join(", ");
}
