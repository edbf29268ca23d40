/** How image and labels are shown. */

import { NO_ADJUSTMENT } from "../adjust.js";
import { button, element, uniqueId } from "../dom.js";
import { check, field } from "../fields.js";

/** @type {import("../panels.js").Panel} */
export const displayPanel = { id: "display", title: "Display", icon: "M8 2.2a5.8 5.8 0 1 0 0 11.6 5.8 5.8 0 0 0 0-11.6v11.6M8.2 5h4.6M8.2 8h5.4M8.2 11h4.6", create: (app) => ({ element: build(app) }) };

/** @param {import("../app.js").App} app */
function build(app) {
  const { settings } = app;
  const adjust = (name, value) => settings.set({ adjustment: { ...settings.values.adjustment, [name]: value } });
  const sliders = [
    slider("Brightness", -100, 100, () => settings.values.adjustment.brightness, (v) => adjust("brightness", v)),
    slider("Contrast", -100, 100, () => settings.values.adjustment.contrast, (v) => adjust("contrast", v)),
    slider("Local contrast", 0, 100, () => settings.values.adjustment.local, (v) => adjust("local", v)),
    slider("Size of marks", 2, 12, () => settings.values.size, (v) => settings.set({ size: v })),
  ];
  const choices = [
    choice("Names", { auto: "Where there is room", all: "All", active: "The active one", none: "None" }, () => settings.values.names, (names) => settings.set({ names })),
    choice("Colours of the page", { system: "As the system", light: "Light", dark: "Dark" }, () => settings.values.theme, (theme) => settings.set({ theme })),
  ];
  const ticks = [
    tick("Loupe beside the pointer", () => settings.values.loupe, (loupe) => settings.set({ loupe })),
    tick("Guesses of the model", () => settings.values.guesses, (guesses) => settings.set({ guesses })),
    tick("After a click, on to the next keypoint", () => settings.values.advance, (advance) => settings.set({ advance })),
  ];
  const all = [...sliders, ...choices, ...ticks];
  settings.on("change", () => all.forEach((each) => each.fill()));
  return element(
    "section",
    { class: "display-panel" },
    element("h2", { text: "Image" }),
    ...sliders.slice(0, 3).map((each) => each.element),
    button("As it is in the set", () => settings.set({ adjustment: NO_ADJUSTMENT }), { class: "quiet framed wide" }),
    element("p", { class: "hint", text: "For the eye only: the set keeps its pixels." }),
    element("h2", { text: "Labels" }),
    sliders[3].element,
    choices[0].element,
    ...ticks.map((each) => each.element),
    element("h2", { text: "Page" }),
    choices[1].element,
    button("Keys…", () => app.run("help"), { class: "quiet framed wide" }),
  );
}

function slider(title, min, max, read, write) {
  const id = uniqueId("slider");
  const value = element("output", { for: id });
  const input = element("input", {
    type: "range", id, min, max, step: 1,
    on: { input: () => write(Number(input.value)) },
  });
  const fill = () => {
    input.value = String(read());
    value.textContent = String(read());
  };
  fill();
  return { fill, element: element("div", { class: "field" }, element("label", { for: id, text: title }), value, input) };
}

function choice(title, options, read, write) {
  const id = uniqueId("choice");
  const select = element(
    "select",
    { id, on: { change: () => write(select.value) } },
    ...Object.entries(options).map(([value, text]) => element("option", { value, text })),
  );
  const fill = () => {
    select.value = read();
  };
  fill();
  return { fill, element: field(title, select) };
}

function tick(title, read, write) {
  const input = element("input", { type: "checkbox", on: { change: () => write(input.checked) } });
  const fill = () => {
    input.checked = read();
  };
  fill();
  return { fill, element: check(title, input) };
}
