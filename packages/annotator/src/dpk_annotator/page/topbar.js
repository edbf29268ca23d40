/** The bar at the top: which image, which ones to go through, undo and redo; and the view's buttons. */

import { element } from "./dom.js";
import { FILTERS } from "./rows.js";

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

export class TopBar {
  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    byId("set-name").textContent = app.set.name;
    document.title = `${app.set.name} - dpk annotate`;
    for (const [id, action] of Object.entries({ previous: "previous-image", next: "next-image", undo: "undo", redo: "redo", help: "help", fit: "fit" })) {
      byId(id).addEventListener("click", () => app.run(action));
    }
    for (const id of ["zoom-in", "zoom-out"]) {
      byId(id).addEventListener("click", () => {
        app.stage.view.zoom(id === "zoom-in" ? 1.25 : 0.8);
        app.viewed();
      });
    }
    this.#number();
    this.#filters();
    app.on("row", () => this.#fill());
    app.on("steps", () => this.#steps());
    app.rows.on("order", () => this.#fill());
    app.rows.on("columns", () => this.#later());
    this.#fill();
    this.#later();
  }

  #number() {
    const input = byId("number");
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      const row = Number(input.value);
      if (Number.isInteger(row) && input.value.trim() && row >= 0 && row < this.app.rows.length) {
        this.app.go(row);
        this.app.focusStage();
      } else {
        this.app.notices.brief(`There is no image ${input.value}: expected a number from 0 to ${this.app.rows.length - 1}.`);
        input.select();
      }
    });
    input.addEventListener("focus", () => input.select());
    input.addEventListener("blur", () => this.#fill());
  }

  #filters() {
    const { app } = this;
    const filter = byId("filter");
    filter.replaceChildren(...Object.entries(FILTERS).map(([value, { title }]) => element("option", { value, text: title })));
    filter.addEventListener("change", () => this.#choose({ filter: filter.value }));
    const below = byId("below");
    below.value = String(Math.round(app.settings.values.unsure * 100));
    app.rows.unsure = app.settings.values.unsure;
    below.addEventListener("change", () => {
      const unsure = Math.min(100, Math.max(0, Number(below.value) || 0)) / 100;
      app.settings.set({ unsure });
      this.#choose({ unsure });
    });
    const video = byId("video");
    const { videos } = app.set;
    video.hidden = videos.length < 2;
    video.replaceChildren(
      element("option", { value: "", text: "All videos" }),
      ...videos.map(({ id, name }) => element("option", { value: id, text: name })),
    );
    video.addEventListener("change", () => this.#choose({ video: video.value === "" ? null : Number(video.value) }));
  }

  #choose(choice) {
    const { app } = this;
    app.rows.choose(choice);
    byId("below-field").hidden = app.rows.filter !== "unsure";
    const { order } = app.rows;
    if (!order.length) return;
    const row = order[app.rows.position(app.row) % order.length];
    if (row === app.row) app.thumbs.show(row);
    else app.go(row);
  }

  #fill() {
    const { rows, row } = this.app;
    const input = byId("number");
    if (document.activeElement !== input) input.value = row < 0 ? "" : String(row);
    const all = rows.order.length === rows.length;
    byId("total").textContent = all ? `of 0–${Math.max(0, rows.length - 1)}` : `${rows.order.length} ${rows.order.length === 1 ? "image" : "images"}`;
  }

  #timer = 0;

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const { columns, length } = this.app.rows;
      const done = columns.status.filter((status, i) => status === 2 || columns.finished[i]).length;
      byId("done").textContent = length ? `${done} of ${length} done` : "";
    }, 50);
  }

  #steps() {
    const { undo, redo } = this.app.steps;
    byId("undo").disabled = undo === 0;
    byId("redo").disabled = redo === 0;
    byId("undo").title = undo ? `Undo (${undo})` : "Undo";
    byId("redo").title = redo ? `Redo (${redo})` : "Redo";
  }
}
