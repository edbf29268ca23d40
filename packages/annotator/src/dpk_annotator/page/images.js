/** Pictures, decoded before they are wanted. */

import { fetchImage } from "./api.js";

const MOST_BYTES = 400e6;
const FEWEST = 4;

export class Images {
  /** @type {Map<number, ImageBitmap>} The one used last stands last. */
  #ready = new Map();
  /** @type {Map<number, {controller: AbortController, promise: Promise<ImageBitmap>}>} */
  #coming = new Map();
  #bytes = 0;

  /** @param {string} setId */
  constructor(setId) {
    this.setId = setId;
  }

  /**
   * The picture if it is here.
   *
   * @param {number} row
   */
  peek(row) {
    const bitmap = this.#ready.get(row);
    if (bitmap) {
      this.#ready.delete(row);
      this.#ready.set(row, bitmap);
    }
    return bitmap ?? null;
  }

  /**
   * @param {number} row
   * @param {"high"|"low"} [priority]
   * @returns {Promise<ImageBitmap>}
   */
  async get(row, priority = "high") {
    const ready = this.peek(row);
    if (ready) return ready;
    const coming = this.#coming.get(row);
    if (coming) return coming.promise;
    const controller = new AbortController();
    const promise = fetchImage(row, this.setId, controller.signal, priority)
      .then((bitmap) => {
        this.#put(row, bitmap);
        return bitmap;
      })
      .finally(() => {
        if (this.#coming.get(row)?.controller === controller) this.#coming.delete(row);
      });
    this.#coming.set(row, { controller, promise });
    return promise;
  }

  /**
   * Fetch these, in this order; give up those on their way that are not among them.
   *
   * @param {number[]} rows
   */
  async prefetch(rows) {
    for (const [row, { controller, promise }] of this.#coming) {
      if (rows.includes(row)) continue;
      this.#coming.delete(row);
      promise.catch(() => {});
      controller.abort();
    }
    const size = this.#ready.size ? this.#bytes / this.#ready.size : 0;
    const room = size ? Math.max(FEWEST, Math.floor(MOST_BYTES / size) - 1) : rows.length;
    await Promise.allSettled(rows.slice(0, room).map((row) => this.get(row, "low")));
  }

  /** Forget all: the set has other images now. */
  clear() {
    for (const { controller } of this.#coming.values()) controller.abort();
    this.#coming.clear();
    this.#ready.clear();
    this.#bytes = 0;
  }

  /**
   * @param {number} row
   * @param {ImageBitmap} bitmap
   */
  #put(row, bitmap) {
    this.#ready.set(row, bitmap);
    this.#bytes += bytes(bitmap);
    for (const [oldest, old] of this.#ready) {
      if (this.#bytes <= MOST_BYTES || this.#ready.size <= FEWEST) break;
      this.#ready.delete(oldest);
      this.#bytes -= bytes(old);
      // Not closed by hand: it may be on the screen just now.
    }
  }
}

/** @param {ImageBitmap} bitmap */
const bytes = (bitmap) => bitmap.width * bitmap.height * 4;
