/** The bar below a video: its timeline, and what is done to the frame that is seen. */

import { button, element, icon } from "../dom.js";
import { clock } from "./clock.js";

const PLAY = "M5 3.2v9.6L13 8z";
const PAUSE = "M5.5 3.5v9M10.5 3.5v9";
const BACK = "M10 3 5 8l5 5";
const ON = "m6 3 5 5-5 5";
const SMALLER = "M3.5 8h9";
const LARGER = "M3.5 8h9M8 3.5v9";
const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8];

export class FilmBar {
  /** @param {import("./mode.js").FilmMode} mode */
  constructor(mode) {
    this.mode = mode;
    const { timeline, player } = mode;
    this.play = button("Play", () => player.toggle(), { icon: PLAY, iconOnly: true });
    this.number = element("input", {
      inputMode: "numeric",
      autocomplete: "off",
      size: 7,
      "aria-label": "Number of the frame",
      on: {
        keydown: (event) => this.#key(event),
        focus: () => this.number.select(),
        blur: () => this.#fill(),
      },
    });
    this.total = element("span");
    this.time = element("span", { class: "time" });
    this.speed = element(
      "select",
      { "aria-label": "Speed of playing", on: { change: () => player.setSpeed(Number(this.speed.value)) } },
      ...SPEEDS.map((speed) => element("option", { value: speed, text: `${speed} ×`, selected: speed === 1 })),
    );
    this.unsure = button("Next unsure", () => mode.moment("confidence", 1), { class: "quiet framed" });
    this.fast = button("Next fast", () => mode.moment("speed", 1), { class: "quiet framed" });
    this.select = button("Select", () => mode.select(), { class: "quiet framed" });
    this.act = button("Add this frame", () => this.#act(), { class: "primary" });
    this.element = element(
      "footer",
      { class: "film-bar", hidden: true, "aria-label": "Video" },
      element(
        "div",
        { class: "transport" },
        element(
          "div",
          { class: "group" },
          button("Frame before", () => mode.goBy(-1), { icon: BACK, iconOnly: true }),
          this.play,
          button("Next frame", () => mode.goBy(1), { icon: ON, iconOnly: true }),
          element("label", { class: "counter" }, this.number, this.total),
          this.time,
          this.speed,
        ),
        element("div", { class: "group end" }, this.unsure, this.fast, this.select, this.act),
        element(
          "div",
          { class: "group", role: "group", "aria-label": "Part of the timeline" },
          button("Show more of the timeline", () => timeline.zoom(0.5), { icon: SMALLER, iconOnly: true }),
          button("Whole", () => timeline.whole(), { class: "quiet", title: "The whole video on the timeline" }),
          button("Enlarge the timeline", () => timeline.zoom(2), { icon: LARGER, iconOnly: true }),
        ),
      ),
      timeline.element,
    );
    this.#name();
    mode.app.keys.on("change", () => this.#name());
    mode.on("frame film selected painted", () => this.#fill());
    mode.on("poses film", () => {
      this.unsure.hidden = this.fast.hidden = mode.poses === null;
    });
    player.on("playing", () => {
      const name = player.playing ? "Pause" : "Play";
      this.play.replaceChildren(icon(player.playing ? PAUSE : PLAY));
      this.play.title = name;
      this.play.setAttribute("aria-label", name);
    });
  }

  focusNumber() {
    this.number.focus();
  }

  /** Say on hovering what there is a key for. */
  #name() {
    const { keys } = this.mode.app;
    this.unsure.title = `Next moment of low confidence${keys.hint("film-unsure")}`;
    this.fast.title = `Next moment of high speed${keys.hint("film-fast")}`;
    this.select.title = `Note this frame, to add it with others${keys.hint("film-select")}`;
    this.act.title = `Add this frame to the set${keys.hint("film-add")}, or label it${keys.hint("film-label")}`;
  }

  /** On to the image that this frame is. */
  async label() {
    const { mode } = this;
    const { app } = mode;
    const [row] = mode.images;
    if (row === undefined) {
      mode.say(`Frame ${mode.frame} is not in the set: add it first${app.keys.hint("film-add")}.`);
      return;
    }
    try {
      // The news that the set has grown may come later than the answer to the one who made it grow.
      if (row >= app.rows.length) await app.rows.load();
    } catch (error) {
      mode.say(`Image ${row} could not be asked for: ${error.message}.`);
      return;
    }
    app.tabs.choose("label");
    app.go(row);
  }

  #act() {
    if (this.mode.images.length) this.label();
    else this.mode.add([this.mode.frame]);
  }

  #key(event) {
    if (event.key !== "Enter") return;
    const { mode } = this;
    const frame = Number(this.number.value);
    if (Number.isInteger(frame) && this.number.value.trim() && frame >= 0 && frame < mode.film.n_frames) {
      mode.player.stop();
      mode.go(frame);
      mode.host.focus();
    } else {
      mode.say(`There is no frame ${this.number.value}: expected a number from 0 to ${mode.film.n_frames - 1}.`);
      this.number.select();
    }
  }

  #fill() {
    const { mode } = this;
    if (!mode.film) return;
    const { n_frames: n, fps } = mode.film;
    if (document.activeElement !== this.number) this.number.value = String(mode.frame);
    this.total.textContent = `of 0–${n - 1}`;
    this.time.textContent = fps > 0 ? clock(mode.frame / fps) : "";
    this.select.setAttribute("aria-pressed", String(mode.isSelected));
    const [row] = mode.images;
    this.act.lastElementChild.textContent = row === undefined ? "Add this frame" : `Label it (image ${row})`;
    this.act.disabled = row === undefined && mode.app.readOnly;
  }
}
