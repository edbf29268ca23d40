/**
 * What a hand does while the labels of the image are still on their way: done in order when they
 * are here. On a slow line fast fingers would otherwise flag, place or finish nothing, unsaid.
 */

import { ACTIONS } from "./keys_table.js";

/** Actions that read or change the labels of the image, or choose among its keypoints. */
const NEED_LABELS = new Set(
  ACTIONS.filter(({ group }) => group === "Keypoints" || group === "This image")
    .map(({ id }) => id)
    .filter((id) => !["step", "undo", "redo", "note"].includes(id)),
).add("write"); // of a note
/** Actions that lead to where text is written or read: what is typed next belongs there, at once. */
const AT_ONCE = new Set(["note", "search", "regions", "stage", "help"]);

export class Ahead {
  /** @type {{action: string, act: () => void|Promise<void>}[]} */
  #waiting = [];
  #runs = false;
  /** Whether the image is left by what is done here. */
  #own = false;

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    let shown = app.row;
    app.on("row", (row) => {
      // Another image was chosen meanwhile, by hand: what waits was not meant for it.
      if (row !== shown && !this.#own) this.#drop(shown);
      shown = row;
    });
  }

  /**
   * Do it now, or as soon as the labels that it needs are here and what came before it is done.
   *
   * @param {string} action As in the table of keys.
   * @param {() => void|Promise<void>} act What comes after it waits until it is done.
   */
  do(action, act) {
    if (AT_ONCE.has(action)) {
      act();
      return;
    }
    this.#waiting.push({ action, act });
    if (!this.#runs) this.#run();
  }

  async #run() {
    this.#runs = true;
    try {
      while (this.#waiting.length) {
        const [{ action, act }] = this.#waiting;
        if (NEED_LABELS.has(action) && !this.app.state && this.app.arrival) {
          const { row, arrival, rows } = this.app;
          await Promise.allSettled([arrival, rows.get(row)]);
          if (!this.app.state && row === this.app.row) this.#drop(row);
          continue;
        }
        this.#waiting.shift();
        const done = this.#begin(act);
        if (done) await done.catch((error) => this.app.notices.brief(`That did not work: ${error.message}.`));
      }
    } finally {
      this.#runs = false;
    }
  }

  /** @param {() => void|Promise<void>} act */
  #begin(act) {
    this.#own = true;
    try {
      return act();
    } finally {
      this.#own = false;
    }
  }

  /** @param {number} row The image that it was meant for. */
  #drop(row) {
    const n = this.#waiting.length;
    if (!n) return;
    this.#waiting = [];
    this.app.notices.brief(`Image ${row} had not come yet: ${n === 1 ? "what you did there is" : `${n} things you did there are`} not done.`);
  }
}
