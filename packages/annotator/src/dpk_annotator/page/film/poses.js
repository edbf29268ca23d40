/** What a model found in a video: keypoints of the frames around one, and columns along all of it. */

import { get, post } from "../api.js";

const CHUNK = 200;
const MOST_CHUNKS = 60;
/** Bins of a timeline over all of it. */
const MOST_BINS = 4000;
/** Frames whose own values are asked for at once. */
const WINDOW = 2000;
/** A moment that lasts longer is cut here. */
const LONGEST = 250;

/**
 * @typedef {object} PosesInfo
 * @property {number} id
 * @property {string} name
 * @property {number|null} video
 * @property {number} n_frames
 * @property {number[]} individuals
 * @property {Record<string, string>} called Names of individuals, of those that have any.
 * @property {string[]} names
 * @property {number[]} parents
 * @property {number[]} swaps
 * @property {[number, number, number][]} exchanges Frame and two individuals of what may be taken back, the latest last.
 * @property {string|null} error
 */
/** @typedef {{track: number, points: [number|null, number|null, number][]}} Individual */
/** @typedef {{start: number, bins: number, frames_per_bin: number, confidence: (number|null)[], speed: (number|null)[]}} Columns */

export class FilmPoses {
  /** @type {Map<number, Map<number, Individual[]>>} By chunk, by frame. */
  #chunks = new Map();
  #busy = false;
  /** @type {number[]} */
  #wanted = [];
  /** @type {Columns|null} */
  #overview = null;
  /** Which state of the file is asked for: what comes of an earlier one is left aside. */
  #edition = 0;

  /**
   * @param {PosesInfo} info
   * @param {() => void} changed Called when more frames are here.
   */
  constructor(info, changed) {
    this.info = info;
    this.changed = changed;
    this.skeleton = { names: info.names, parents: info.parents, swaps: info.swaps };
  }

  /** What an individual is called: its name, or its number. @param {number} track */
  called(track) {
    return this.info.called[track] ?? String(track);
  }

  /**
   * The individuals of a frame; null while they are not here.
   *
   * @param {number} frame
   * @returns {Individual[]|null}
   */
  at(frame) {
    const chunk = this.#chunks.get(Math.floor(frame / CHUNK));
    return chunk ? (chunk.get(frame) ?? []) : null;
  }

  /**
   * Fetch these frames if they are not here.
   *
   * @param {number} first
   * @param {number} last
   */
  want(first, last) {
    const wanted = [];
    for (let chunk = Math.floor(last / CHUNK); chunk >= Math.floor(Math.max(0, first) / CHUNK); chunk -= 1) wanted.push(chunk);
    this.#wanted = wanted;
    this.#pump();
  }

  /**
   * Lowest confidence and highest speed in bins of the frames from start to before stop.
   *
   * @param {number} start
   * @param {number} stop
   * @param {number} bins
   * @returns {Promise<Columns>}
   */
  columns(start, stop, bins) {
    return get(`poses/${this.info.id}/columns?start=${start}&stop=${stop}&bins=${Math.min(MOST_BINS, Math.max(1, bins))}`);
  }

  /** Columns over all frames. */
  async overview() {
    if (!this.#overview) {
      const edition = this.#edition;
      const found = await this.columns(0, this.info.n_frames, MOST_BINS);
      if (edition !== this.#edition) return found;
      this.#overview = found;
    }
    return this.#overview;
  }

  /**
   * The worst frame of the next moment that is worth a look: frames in a row in which `beyond` says
   * so. The moment that `from` lies in is passed over.
   *
   * @param {"confidence"|"speed"} column
   * @param {number} from
   * @param {number} direction 1 or -1
   * @param {number} limit Confidence below it, speed from it on.
   * @returns {Promise<number|null>} Null when there is none.
   */
  async moment(column, from, direction, limit) {
    const low = column === "confidence";
    const beyond = (value) => value !== null && value !== undefined && (low ? value < limit : value >= limit);
    const overview = await this.overview();
    const width = overview.frames_per_bin;
    const value = this.#fine(column);
    let leaving = beyond(await value(from));
    let [best, worst, length] = [null, 0, 0];
    for (let frame = from + direction; frame >= 0 && frame < this.info.n_frames; frame += direction) {
      const bin = Math.floor(frame / width);
      if (best === null && !beyond(overview[column][bin])) {
        leaving = false;
        frame = direction > 0 ? (bin + 1) * width - 1 : bin * width;
        continue;
      }
      const here = await value(frame);
      if (!beyond(here)) {
        if (best !== null) break;
        leaving = false;
      } else if (!leaving) {
        if (best === null || (low ? here < worst : here > worst)) [best, worst] = [frame, here];
        length += 1;
        if (length >= LONGEST) break;
      }
    }
    return best;
  }

  /**
   * Exchange two individuals from a frame on, in the file, or take the last exchange back.
   *
   * @param {{frame: number, first: number, second: number, back?: boolean}} what
   * @returns {Promise<number>} How many rows have changed.
   */
  async exchange(what) {
    const { rows, exchanges } = await post(`poses/${this.info.id}/swap`, what);
    this.#take(exchanges);
    return rows;
  }

  /** The exchange that can be taken back; null when there is none. */
  get lastExchange() {
    const last = this.info.exchanges.at(-1);
    return last ? { frame: last[0], first: last[1], second: last[2] } : null;
  }

  /** Somebody else may have changed the file. */
  async refresh() {
    const { poses } = await get(this.info.video === null ? "poses" : `poses?video=${this.info.video}`);
    const now = poses.find(({ id, error }) => id === this.info.id && !error);
    if (now) this.#take(now.exchanges);
  }

  /** Other identities: all that is here is of earlier ones. */
  #take(exchanges) {
    this.info.exchanges = exchanges;
    this.#edition += 1;
    this.#chunks.clear();
    this.#overview = null;
  }

  /** Values frame by frame, asked for in windows. */
  #fine(column) {
    /** @type {Map<number, Columns>} */
    const windows = new Map();
    return async (frame) => {
      const number = Math.floor(frame / WINDOW);
      if (!windows.has(number)) windows.set(number, await this.columns(number * WINDOW, (number + 1) * WINDOW, WINDOW));
      return windows.get(number)[column][frame - number * WINDOW];
    };
  }

  async #pump() {
    if (this.#busy) return;
    this.#busy = true;
    for (;;) {
      const chunk = this.#wanted.find((each) => !this.#chunks.has(each));
      if (chunk === undefined) break;
      const edition = this.#edition;
      try {
        const { rows } = await get(`poses/${this.info.id}/frames?start=${chunk * CHUNK}&stop=${(chunk + 1) * CHUNK}`);
        if (edition === this.#edition) this.#put(chunk, rows);
        this.changed();
      } catch {
        // Asked for again with the next frame.
        break;
      }
    }
    this.#busy = false;
  }

  #put(chunk, rows) {
    /** @type {Map<number, Individual[]>} */
    const frames = new Map();
    for (const [frame, track, points] of rows) {
      if (!frames.has(frame)) frames.set(frame, []);
      frames.get(frame).push({ track, points });
    }
    this.#chunks.set(chunk, frames);
    if (this.#chunks.size > MOST_CHUNKS) this.#chunks.delete(this.#chunks.keys().next().value);
  }
}
