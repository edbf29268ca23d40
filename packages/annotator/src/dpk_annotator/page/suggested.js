/** Images that should be labelled next, the most wanted first, kept while this tab lives. */

import { post } from "./api.js";
import { Emitter } from "./emitter.js";

const STORED = "dpk-suggested";

/** @typedef {{row: number, score: number, reasons: string[]}} Item */

/** Emits `items`. */
export class Suggested extends Emitter {
  /** @type {Item[]} */
  items = [];

  /** @param {import("./app.js").App} app */
  constructor(app) {
    super();
    this.app = app;
    this.#remember();
  }

  /**
   * Ask the server.
   *
   * @param {string} by
   * @param {number} n
   */
  async ask(by, n) {
    this.items = (await post("suggest", { by, n })).items;
    try {
      sessionStorage.setItem(this.#key, JSON.stringify(this.items));
    } catch {
      // A browser that keeps nothing: they are there until the page is closed.
    }
    this.emit("items");
  }

  /**
   * Some steps on from the image on the stage, round the ends; null when nothing is suggested.
   *
   * @param {number} steps
   * @returns {number|null} The image.
   */
  step(steps) {
    const n = this.items.length;
    if (!n) return null;
    const here = this.items.findIndex(({ row }) => row === this.app.row);
    const start = here < 0 && steps > 0 ? -1 : Math.max(here, 0);
    return this.items[(((start + steps) % n) + n) % n].row;
  }

  get #key() {
    return `${STORED}|${this.app.set.set_id}`;
  }

  #remember() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(this.#key) ?? "[]");
      const sound = ({ row }) => Number.isInteger(row) && row >= 0 && row < this.app.rows.length;
      if (Array.isArray(kept)) this.items = kept.filter(sound);
    } catch {
      this.items = [];
    }
  }
}
