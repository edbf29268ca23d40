/** What this browser remembers of how somebody likes the page. */

import { NO_ADJUSTMENT } from "./adjust.js";
import { Emitter } from "./emitter.js";

const STORED = "dpk-settings";

const DEFAULTS = {
  /** @type {"system"|"light"|"dark"} */
  theme: "system",
  loupe: true,
  /** @type {"auto"|"all"|"active"|"none"} */
  names: "auto",
  guesses: true,
  /** After a click, go on to the next keypoint. */
  advance: true,
  /** Size of a mark in CSS pixels. */
  size: 5,
  /** Below which mean score an image counts as unsure. */
  unsure: 0.5,
  adjustment: NO_ADJUSTMENT,
};

export class Settings extends Emitter {
  values = { ...DEFAULTS };

  constructor() {
    super();
    try {
      const stored = JSON.parse(localStorage.getItem(STORED) ?? "{}");
      for (const [name, value] of Object.entries(DEFAULTS)) {
        if (typeof stored[name] === typeof value) this.values[name] = stored[name];
      }
      this.values.adjustment = { ...NO_ADJUSTMENT, ...this.values.adjustment };
    } catch {
      this.values = { ...DEFAULTS };
    }
    this.#dress();
  }

  /** @param {Partial<typeof DEFAULTS>} values */
  set(values) {
    Object.assign(this.values, values);
    this.#dress();
    try {
      localStorage.setItem(STORED, JSON.stringify(this.values));
    } catch {
      // A browser that keeps nothing: they hold until the page is closed.
    }
    this.emit("change", Object.keys(values));
  }

  #dress() {
    document.documentElement.dataset.theme = this.values.theme;
  }
}
