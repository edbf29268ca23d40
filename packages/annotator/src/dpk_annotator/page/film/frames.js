/**
 * Frames of a video as pictures. One request is on its way at a time: what is wanted by then comes
 * next, so that a hand that drags never waits behind frames that it has passed; when nothing is
 * wanted, neighbours are fetched.
 */

import { Refusal, Unreachable } from "../api.js";

const MOST_BYTES = 256e6;
const FEWEST = 12;
const AHEAD = 10;
const BEHIND = 3;
/** Milliseconds that a frame must be wanted after a leap until its neighbours are fetched. */
const REST = 150;
/** Milliseconds until a server that could not be reached is asked again. */
const PAUSE = 1000;

/**
 * @param {number} video
 * @param {number} frame
 * @returns {Promise<ImageBitmap>}
 */
async function fetchFrame(video, frame) {
  let response, blob;
  try {
    response = await fetch(`api/videos/${video}/frames/${frame}`, { credentials: "omit" });
    if (response.ok) blob = await response.blob();
  } catch {
    throw new Unreachable("the server cannot be reached");
  }
  if (!response.ok) throw new Refusal(response.status, await response.json().catch(() => null));
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}

export class Frames {
  /** @type {Map<number, ImageBitmap>} The one used last stands last. */
  #ready = new Map();
  /** @type {Map<number, Error>} Frames that the server does not give. */
  #failed = new Map();
  #bytes = 0;
  #wanted = 0;
  #direction = 1;
  #busy = false;
  #closed = false;
  #timer = 0;

  /**
   * @param {number} video
   * @param {number} n How many there are.
   * @param {(frame: number, picture: ImageBitmap) => void} show Called with what comes, which may
   *   be a frame that was wanted a moment ago.
   * @param {(frame: number, error: Error) => void} fail
   */
  constructor(video, n, show, fail) {
    this.video = video;
    this.n = n;
    this.show = show;
    this.fail = fail;
  }

  /** @param {number} frame */
  want(frame) {
    const leap = Math.abs(frame - this.#wanted) > AHEAD;
    if (frame !== this.#wanted) this.#direction = frame < this.#wanted ? -1 : 1;
    this.#wanted = frame;
    if (leap) this.#rest();
    const ready = this.#peek(frame);
    if (ready) this.show(frame, ready);
    else if (this.#failed.has(frame)) this.fail(frame, this.#failed.get(frame));
    this.#pump();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#ready.clear();
  }

  /** A hand that drags leaps on: what lies around would only be in its way. */
  #rest() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#pump();
    }, REST);
  }

  async #pump() {
    if (this.#busy) return;
    this.#busy = true;
    for (let next = this.#next(); next !== null && !this.#closed; next = this.#next()) {
      const missing = !this.#ready.has(this.#wanted);
      try {
        const picture = await fetchFrame(this.video, next);
        if (this.#closed) return;
        this.#put(next, picture);
        if (next === this.#wanted || (missing && !this.#ready.has(this.#wanted))) this.show(next, picture);
      } catch (error) {
        if (this.#closed) return;
        const refused = error instanceof Refusal;
        if (refused) this.#failed.set(next, error);
        if (next === this.#wanted) this.fail(next, error);
        if (!refused) await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    }
    this.#busy = false;
  }

  /** What to fetch now: the wanted one, else its neighbours, those ahead first. */
  #next() {
    const steps = [0];
    if (!this.#timer) {
      for (let i = 1; i <= AHEAD; i += 1) steps.push(i);
      for (let i = 1; i <= BEHIND; i += 1) steps.push(-i);
    }
    for (const step of steps) {
      const frame = this.#wanted + step * this.#direction;
      const there = frame >= 0 && frame < this.n;
      if (there && !this.#ready.has(frame) && !this.#failed.has(frame)) return frame;
    }
    return null;
  }

  #peek(frame) {
    const picture = this.#ready.get(frame);
    if (picture) {
      this.#ready.delete(frame);
      this.#ready.set(frame, picture);
    }
    return picture ?? null;
  }

  #put(frame, picture) {
    this.#ready.set(frame, picture);
    this.#bytes += bytes(picture);
    for (const [oldest, old] of this.#ready) {
      if (this.#bytes <= MOST_BYTES || this.#ready.size <= FEWEST + AHEAD + BEHIND) break;
      this.#ready.delete(oldest);
      this.#bytes -= bytes(old);
      // Not closed by hand: it may be on the screen just now.
    }
  }
}

/** @param {ImageBitmap} picture */
const bytes = (picture) => picture.width * picture.height * 4;
