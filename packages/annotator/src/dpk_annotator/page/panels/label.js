/** The keypoints of the image one by one, and what else is to be said about it. */

import { outline } from "../colours.js";
import { describePoint } from "../conflict.js";
import { button, element, svg } from "../dom.js";
import { HIDDEN, confirmable, isAnnotated, isMissing } from "../labels.js";
import { markOf } from "../marks.js";

/** @type {import("../panels.js").Panel} */
export const labelPanel = { id: "label", title: "Label", icon: "M8 1.5V5M8 11v3.5M1.5 8H5M11 8h3.5M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z", create: (app) => new LabelPanel(app) };

class LabelPanel {
  /** @type {HTMLButtonElement[]} */
  #buttons = [];
  #names = "";

  /** @param {import("../app.js").App} app */
  constructor(app) {
    this.app = app;
    this.list = element("div", { class: "keypoints", role: "group", "aria-label": "Keypoints" });
    this.progress = element("span", { class: "progress" });
    this.confirm = button("Confirm guesses", () => app.run("confirm"), { class: "quiet framed wide" });
    this.finished = toggle("Finished", "finished", app);
    this.flag = toggle("Flag", "flag", app);
    this.note = element("textarea", {
      id: "note",
      rows: 2,
      maxLength: 10000,
      placeholder: "A note about this image",
      "aria-label": "Note about this image",
      on: { change: () => app.setNote(this.note.value), keydown: (event) => this.#noteKey(event) },
    });
    this.source = element("p", { class: "source" });
    this.visibility = button("Hidden", () => app.run("visibility"), { class: "quiet framed" });
    this.absent = button("Absent", () => app.run("absent"), { class: "quiet framed" });
    this.clear = button("Clear", () => app.run("clear"), { class: "quiet framed" });
    const acts = element("div", { class: "acts" }, this.visibility, this.absent, this.clear);
    const whole = element(
      "div",
      { class: "acts" },
      button("Swap sides", () => app.run("swap"), { class: "quiet framed" }),
      button("Copy before", () => app.run("copy"), { class: "quiet framed", title: "Copy what is missing from the frame before" }),
      button("Reset", () => app.run("reset"), { class: "quiet framed" }),
    );
    this.element = element(
      "section",
      { class: "label-panel" },
      element("div", { class: "heading" }, element("h2", { text: "Keypoints" }), this.progress),
      this.list,
      acts,
      this.confirm,
      element("h2", { text: "This image" }),
      element("div", { class: "acts two" }, this.finished, this.flag),
      whole,
      this.note,
      this.source,
    );
    app.on("set", () => this.#build());
    app.on("row state active set", () => this.#later());
    app.on("note", () => this.note.focus());
    // A note that is being written when the page is closed is one, too.
    addEventListener("pagehide", () => {
      if (document.activeElement === this.note) app.setNote(this.note.value);
    });
    this.#build();
  }

  shown() {
    this.#later();
  }

  #noteKey(event) {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.app.setNote(this.note.value);
      this.app.focusStage();
    }
  }

  #build() {
    const { names } = this.app.skeleton;
    const looks = this.app.looks;
    const key = JSON.stringify([names, looks]);
    if (key === this.#names) return;
    this.#names = key;
    this.#buttons = names.map((name, i) =>
      element(
        "button",
        { type: "button", class: "keypoint", on: { click: () => this.app.select(i), dblclick: () => this.app.lookAt(i) } },
        swatch(looks[i]),
        element("span", { class: "name", text: name }),
        element("span", { class: "what" }),
      ),
    );
    this.list.replaceChildren(...this.#buttons);
  }

  #frame = 0;

  /** Soon: what the person waits for, the image, comes first. */
  #later() {
    if (this.#frame) return;
    this.#frame = setTimeout(() => {
      this.#frame = 0;
      this.#fill();
    }, 0);
  }

  #fill() {
    if (this.element.hidden) return;
    const { app } = this;
    const state = app.state;
    app.skeleton.names.forEach((name, i) => {
      const made = this.#buttons[i];
      if (!made) return;
      const current = i === app.active;
      if (current && made.getAttribute("aria-current") !== "true") made.scrollIntoView({ block: "nearest" });
      made.setAttribute("aria-current", String(current));
      const { text, kind } = what(state, name);
      made.dataset.kind = kind;
      const cell = made.lastElementChild;
      if (cell.textContent !== text) cell.textContent = text;
    });
    const done = state ? app.skeleton.names.filter((name) => isAnnotated(state.points[name])).length : 0;
    this.progress.textContent = `${done} of ${app.skeleton.names.length}`;
    this.#fillActs(state);
  }

  #fillActs(state) {
    const { app } = this;
    const point = state?.points[app.skeleton.names[app.active]];
    const no = !state || app.readOnly;
    for (const made of this.element.querySelectorAll("button:not(.keypoint)")) made.disabled = no;
    this.visibility.disabled = no || !isAnnotated(point) || isMissing(point);
    this.visibility.setAttribute("aria-pressed", String(Boolean(point && point[2] === HIDDEN)));
    this.absent.setAttribute("aria-pressed", String(isAnnotated(point) && isMissing(point)));
    this.clear.disabled = no || !isAnnotated(point);
    const guesses = state ? Object.keys(confirmable(state, null, 0)).length : 0;
    this.confirm.hidden = guesses === 0;
    this.confirm.lastElementChild.textContent = `Confirm ${guesses} ${guesses === 1 ? "guess" : "guesses"}`;
    this.finished.setAttribute("aria-pressed", String(Boolean(state?.finished)));
    this.flag.setAttribute("aria-pressed", String(Boolean(state?.flag)));
    this.note.disabled = app.readOnly;
    if (document.activeElement !== this.note) this.note.value = state?.note ?? "";
    const model = state?.guess?.model;
    this.source.textContent = state ? `${state.source}${model ? `. Guesses by ${model}` : ""}` : "";
  }
}

function toggle(name, action, app) {
  return button(name, () => app.run(action), { class: "quiet framed" });
}

/** The state of a keypoint in a word. */
function what(state, name) {
  if (!state) return { text: "", kind: "none" };
  const point = state.points[name];
  if (isAnnotated(point)) {
    const text = describePoint(point).replace(" hidden", " ◌");
    return { text, kind: isMissing(point) ? "absent" : "label" };
  }
  const mark = markOf(state, name);
  if (!mark) return { text: "", kind: "none" };
  return { text: mark.score === null ? "guess" : `guess ${Math.round(mark.score * 100)} %`, kind: "guess" };
}

/** The mark as it is drawn on the image. @param {import("../colours.js").Look} look */
export function swatch({ colour, side }) {
  const points = outline(side, 5);
  const shape = points
    ? svg("polygon", { points: points.map((point) => point.join(",")).join(" ") })
    : svg("circle", { r: 5 });
  shape.setAttribute("fill", colour);
  return svg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true", class: "swatch" }, shape);
}
