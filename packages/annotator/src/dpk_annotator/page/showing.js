/** Which image is on the stage: brought there, fetched ahead, and brightened as people like it. */

import { LocalContrast, filterOf } from "./adjust.js";

const AHEAD = [0, 1, 2, 3, -1, 4, -2, 10, 5, 6, -10];
/** Milliseconds in which an image that is here is painted. */
const PAINTED = 40;
/** Milliseconds until an image that could not be had is asked for again. */
const AGAIN = 2000;
const PLACE = "dpk-place";

export class Showing {
  /** Done when the image on the stage and its labels are here, or could not be had. @type {Promise<void>|undefined} */
  arrival;
  #contrast = new LocalContrast();
  #direction = 1;
  #soon = 0;

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.waiting = document.getElementById("waiting");
  }

  /**
   * @param {number} row
   * @returns {Promise<void>|undefined}
   */
  go(row) {
    const { app } = this;
    if (row < 0 || row >= app.rows.length) return this.arrival;
    app.keyboard.settle();
    if (row !== app.row) this.#direction = row < app.row ? -1 : 1;
    app.row = row;
    app.preview = null;
    app.hover = -1;
    const picture = app.images.peek(row);
    const state = app.rows.state(row);
    if (state && state.points) app.chooseFirst();
    this.#show(picture);
    app.emit("row", row);
    app.thumbs.show(row);
    this.#remember();
    this.arrival = this.#arrive(row, picture, state);
    this.#prefetchSoon();
    return this.arrival;
  }

  /** What is not here yet comes, and is shown if nobody has gone on to another image. */
  async #arrive(row, picture, state) {
    const { app } = this;
    const labels = async () => {
      await app.rows.get(row);
      if (row === app.row) app.chooseFirst();
    };
    try {
      await Promise.all([picture ? null : app.images.get(row), state ? null : labels()]);
      if (row !== app.row) return;
      this.#show(picture ?? app.images.peek(row));
      app.speak(`Image ${row}. ${app.spoken.progress()}`);
    } catch (error) {
      if (row === app.row && !(error instanceof DOMException)) this.#couldNotShow(row, error);
    }
  }

  #couldNotShow(row, error) {
    const { app } = this;
    this.waiting.hidden = false;
    this.waiting.textContent = `Image ${row} could not be loaded: ${error.message}. Trying again…`;
    setTimeout(() => {
      if (row === app.row && !app.stage.picture) this.go(row);
    }, AGAIN);
  }

  /** Brightness and contrast by the browser, local contrast by us. */
  adjust() {
    const { app } = this;
    const filter = filterOf(app.settings.values.adjustment);
    app.stage.image.style.filter = filter;
    app.loupe.canvas.style.filter = filter;
    if (app.row >= 0) this.#show(app.images.peek(app.row));
  }

  /** @param {ImageBitmap|null} picture */
  #show(picture) {
    const { app } = this;
    const confirmed = app.rows.confirmed(app.row);
    const { local } = app.settings.values.adjustment;
    const shown = picture && local ? (this.#contrast.peek(picture, local) ?? picture) : picture;
    app.stage.show(shown, confirmed ? [confirmed.width, confirmed.height] : null);
    app.stage.host.dataset.row = picture && confirmed ? String(app.row) : "";
    this.waiting.hidden = Boolean(picture);
    if (!picture) this.waiting.textContent = "Loading…";
    if (shown && shown === picture && local) this.#enhance(app.row, picture, local);
    app.loupe.show(app.pointer.place);
    app.showScale();
  }

  async #enhance(row, picture, strength) {
    const { app } = this;
    const made = await this.#contrast.make(picture, strength);
    const still = row === app.row && strength === app.settings.values.adjustment.local;
    if (still && made !== picture) this.#show(picture);
  }

  /** When the frame that the person waits for is painted: fetching ahead takes the same processor. */
  #prefetchSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.#prefetch(), PAINTED);
  }

  #prefetch() {
    const { row: here, rows, images } = this.app;
    const wanted = AHEAD.map((steps) => rows.step(here, steps * this.#direction));
    const ahead = [here, ...new Set(wanted.filter((row) => row !== here))];
    images.prefetch(ahead);
    for (const row of ahead) rows.get(row).catch(() => {});
  }

  // -- over a reload of the page -----------------------------------------------------------------

  get #key() {
    return `${PLACE}|${this.app.set.set_id}`;
  }

  #remember() {
    try {
      sessionStorage.setItem(this.#key, String(this.app.row));
    } catch {
      // A browser that keeps nothing.
    }
  }

  /** The image shown before a reload, else the first that is not finished. */
  remembered() {
    const { rows } = this.app;
    try {
      const row = Number(sessionStorage.getItem(this.#key) ?? -1);
      if (row >= 0 && row < rows.length) return row;
    } catch {
      // A browser that keeps nothing.
    }
    return rows.nextUnlabelled(-1) ?? 0;
  }
}
