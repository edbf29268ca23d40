/** Somebody else was quicker: both versions side by side on the image, and the person decides. */

import { element, openDialog } from "./dom.js";
import { drawMarks, markOf, marksOf } from "./marks.js";
import { samePoint } from "./labels.js";
import { View } from "./view.js";

const WIDTH = 420;
const HEIGHT = 320;

/**
 * @param {object} what
 * @param {any} what.conflict As the server describes it.
 * @param {import("./queue.js").Operation} what.operation
 * @param {ImageBitmap|null} what.picture
 * @param {import("./marks.js").Drawing} what.drawing
 * @param {() => void} what.mine Called when the person insists.
 * @param {() => void} what.theirs Called when the person gives way.
 */
export function showConflict({ conflict, operation, picture, drawing, mine, theirs }) {
  const undoing = operation.path === "undo" || operation.path === "redo";
  const parts = conflict.parts.map((part) => part.replace(/^\./, ""));
  const who = `${conflict.client}, ${new Date(conflict.time * 1000).toLocaleTimeString()}`;
  const both = conflict.yours && conflict.theirs;
  const content = [
    element("p", {
      text: both
        ? `While you were at it, ${conflict.client} has changed the same: ${parts.join(", ")}. Nothing is overwritten yet. Which one is right?`
        : `${conflict.message}.`,
    }),
  ];
  if (both) {
    const views = [
      side("Yours", "with your edit", conflict.yours, conflict, picture, drawing),
      side("Theirs", who, conflict.theirs, conflict, picture, drawing),
    ];
    content.push(element("div", { class: "sides" }, ...views), table(conflict, parts));
  }
  const keepMine = element("button", {
    type: "button",
    class: "primary",
    text: undoing ? "Take it back all the same" : both ? "Keep mine" : "Do it all the same",
    on: { click: () => choose(mine) },
  });
  const keepTheirs = element("button", {
    type: "button",
    class: "quiet framed",
    text: both ? "Keep theirs" : "Leave it as it is",
    on: { click: () => choose(theirs) },
  });
  content.push(element("div", { class: "buttons" }, keepTheirs, keepMine));
  const where = conflict.row === null ? "The skeleton has changed" : `Image ${conflict.row} was changed elsewhere`;
  const dialog = openDialog(where, content, "conflict");
  // It has to be decided, for all later edits wait behind it.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  function choose(decision) {
    dialog.close();
    decision();
  }
}

/** One version on the image, large enough around what differs. */
function side(title, by, state, conflict, picture, drawing) {
  const ratio = devicePixelRatio || 1;
  const canvas = element("canvas", {
    width: Math.round(WIDTH * ratio),
    height: Math.round(HEIGHT * ratio),
    role: "img",
    "aria-label": `${title}: ${describe(state, conflict).join("; ")}`,
  });
  draw(canvas, state, conflict, picture, drawing, ratio);
  return element(
    "figure",
    {},
    element("figcaption", {}, element("strong", { text: title }), ` ${by}`),
    canvas,
  );
}

function draw(canvas, state, conflict, picture, drawing, ratio) {
  const context = canvas.getContext("2d");
  const view = new View();
  view.imageWidth = picture?.width ?? state.width;
  view.imageHeight = picture?.height ?? state.height;
  view.resize(canvas.width, canvas.height);
  const places = differing(conflict).flatMap((name) =>
    [conflict.yours, conflict.theirs].map((each) => markOf(each, name)).filter(Boolean),
  );
  if (places.length) {
    const xs = places.map(({ x }) => x);
    const ys = places.map(({ y }) => y);
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    const [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    const room = Math.max(12, 0.15 * Math.max(view.imageWidth, view.imageHeight));
    const wanted = Math.min(canvas.width / (x1 - x0 + room), canvas.height / (y1 - y0 + room));
    view.scale = Math.max(view.scale, wanted);
    view.centre((x0 + x1) / 2, (y0 + y1) / 2);
  }
  context.setTransform(view.scale, 0, 0, view.scale, view.left, view.top);
  context.imageSmoothingEnabled = view.scale < 1;
  if (picture) context.drawImage(picture, 0, 0);
  context.setTransform(1, 0, 0, 1, 0, 0);
  const active = drawing.skeleton.names.indexOf(differing(conflict)[0] ?? "");
  drawMarks(context, view, marksOf(state, drawing.skeleton), { ...drawing, ratio, active, hover: -1 });
}

/** Names of the keypoints that are not the same in both. */
function differing(conflict) {
  return conflict.parts
    .filter((part) => part.startsWith("."))
    .map((part) => part.slice(1))
    .filter((name) => !samePoint(conflict.yours.points[name], conflict.theirs.points[name]));
}

function table(conflict, parts) {
  const rows = describe(conflict.yours, conflict);
  const others = describe(conflict.theirs, conflict);
  const head = ["", "Yours", "Theirs"].map((text) => element("th", { scope: "col", text }));
  const shown = parts.slice(0, 12).map((part, i) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", text: part }),
      element("td", { text: rows[i] }),
      element("td", { text: others[i] }),
    ),
  );
  const more = parts.length > 12 ? [element("caption", { text: `and ${parts.length - 12} more` })] : [];
  return element("table", {}, ...more, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...shown));
}

function describe(state, conflict) {
  return conflict.parts.map((part) => {
    if (!part.startsWith(".")) {
      const value = state[part];
      return typeof value === "string" ? value || "no note" : value ? "yes" : "no";
    }
    return describePoint(state.points[part.slice(1)]);
  });
}

/** @param {import("./labels.js").Point|undefined} point */
export function describePoint(point) {
  if (!point || !point[3]) return "not labelled";
  if (point[0] === null) return "absent";
  return `${point[0].toFixed(1)}, ${point[1].toFixed(1)}${point[2] === 1 ? " hidden" : ""}`;
}
