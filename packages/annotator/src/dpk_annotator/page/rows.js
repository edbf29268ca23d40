/**
 * What is known of the images: columns over all of them, the labels of those near the one shown,
 * and which of them pass the filter.
 */

import { get } from "./api.js";
import { Emitter } from "./emitter.js";
import { applyEdit, statusOf } from "./labels.js";

/** @typedef {import("./labels.js").RowState} RowState */
/**
 * @typedef {object} Columns
 * @property {number} revision
 * @property {number[]} status 0 untouched, 1 begun, 2 all dealt with.
 * @property {number[]} finished
 * @property {number[]} flag
 * @property {number[]} note
 * @property {(number|null)[]} confidence
 * @property {number[]} video
 * @property {number[]} frame
 * @property {(string|null)[]} individual
 * @property {string[]} label
 */

const MOST_STATES = 2000;

/** Filters by name; each says whether an image passes. */
export const FILTERS = {
  all: { title: "All images", test: () => true },
  unlabelled: {
    title: "Not finished",
    test: (/** @type {Columns} */ c, /** @type {number} */ i) => c.status[i] !== 2 && !c.finished[i],
  },
  begun: {
    title: "Begun",
    test: (/** @type {Columns} */ c, /** @type {number} */ i) => c.status[i] === 1 && !c.finished[i],
  },
  done: {
    title: "Done",
    test: (/** @type {Columns} */ c, /** @type {number} */ i) => c.status[i] === 2 || Boolean(c.finished[i]),
  },
  unsure: {
    title: "Low confidence",
    test: (/** @type {Columns} */ c, /** @type {number} */ i, /** @type {number} */ below) =>
      c.confidence[i] !== null && c.confidence[i] < below,
  },
  flagged: {
    title: "Flagged",
    test: (/** @type {Columns} */ c, /** @type {number} */ i) => Boolean(c.flag[i]),
  },
  noted: {
    title: "With a note",
    test: (/** @type {Columns} */ c, /** @type {number} */ i) => Boolean(c.note[i]),
  },
};

export class Rows extends Emitter {
  /** @type {Map<number, RowState>} As the server has them; the one used last stands last. */
  #states = new Map();
  /** @type {Map<number, Promise<RowState>>} */
  #coming = new Map();
  /** @type {Columns} */
  columns;
  /** @type {number[]} Images that pass the filter. */
  order = [];
  /** @type {keyof typeof FILTERS} */
  filter = "all";
  /** Below which confidence an image counts as unsure. */
  unsure = 0.5;
  /** Only images of this video; null for all. */
  video = null;

  /**
   * @param {import("./queue.js").EditQueue} queue
   * @param {() => import("./labels.js").Skeleton} skeleton
   */
  constructor(queue, skeleton) {
    super();
    this.queue = queue;
    this.skeleton = skeleton;
  }

  /** Load the columns anew. */
  async load() {
    this.columns = await get("rows");
    this.choose({});
    this.emit("columns", null);
  }

  get length() {
    return this.columns.status.length;
  }

  /**
   * Choose which images to go through.
   *
   * @param {{filter?: keyof typeof FILTERS, video?: number|null, unsure?: number}} choice
   */
  choose({ filter = this.filter, video = this.video, unsure = this.unsure }) {
    Object.assign(this, { filter, video, unsure });
    const { test } = FILTERS[filter];
    this.order = [];
    for (let row = 0; row < this.length; row += 1) {
      const passes = video === null || this.columns.video[row] === video;
      if (passes && test(this.columns, row, unsure)) this.order.push(row);
    }
    this.emit("order");
  }

  /**
   * Position in the order of the first image that is not before `row`.
   *
   * @param {number} row
   */
  position(row) {
    let [low, high] = [0, this.order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.order[middle] < row) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * The image some steps on in the order, round the ends as in DeepPoseKit.
   *
   * @param {number} row
   * @param {number} steps
   */
  step(row, steps) {
    const n = this.order.length;
    if (!n) return row;
    const here = this.position(row);
    const stands = this.order[here] === row;
    const to = here + steps - (!stands && steps > 0 ? 1 : 0);
    return this.order[((to % n) + n) % n];
  }

  /**
   * The next image after this one that is not dealt with, null when all are.
   *
   * @param {number} row
   */
  nextUnlabelled(row) {
    const n = this.order.length;
    const start = this.position(row);
    for (let i = 0; i <= n; i += 1) {
      const candidate = this.order[(start + i) % n];
      if (candidate === undefined || candidate === row) continue;
      if (FILTERS.unlabelled.test(this.columns, candidate)) return candidate;
    }
    return null;
  }

  /**
   * The frame before this one in its video (and of the same individual), as far as it is in the
   * set; the image before where there is no video.
   *
   * @param {number} row
   */
  frameBefore(row) {
    const { video, frame, individual } = this.columns;
    if (video[row] < 0) return row > 0 ? row - 1 : null;
    let best = null;
    for (let i = 0; i < this.length; i += 1) {
      const same = video[i] === video[row] && individual[i] === individual[row];
      if (same && frame[i] < frame[row] && (best === null || frame[i] > frame[best])) best = i;
    }
    return best;
  }

  // -- labels ------------------------------------------------------------------------------------

  /**
   * The labels as the server has them, if they are here.
   *
   * @param {number} row
   */
  confirmed(row) {
    return this.#states.get(row) ?? null;
  }

  /**
   * The labels as this tab sees them: with what is still on its way. Null when not here yet.
   *
   * @param {number} row
   */
  state(row) {
    let state = this.#states.get(row) ?? null;
    if (!state) return null;
    for (const operation of this.queue.waiting) {
      if (operation.row === row && operation.shown) {
        state = applyEdit(state, operation.shown, this.skeleton());
      }
    }
    return state;
  }

  /**
   * @param {number} row
   * @returns {Promise<RowState>}
   */
  async get(row) {
    const here = this.#states.get(row);
    if (here) return here;
    if (!this.#coming.has(row)) {
      const coming = get(`rows/${row}`)
        .then((state) => this.put(state))
        .finally(() => this.#coming.delete(row));
      this.#coming.set(row, coming);
    }
    return this.#coming.get(row);
  }

  /**
   * Take what the server says of one image.
   *
   * @param {RowState} state
   * @returns {RowState}
   */
  put(state) {
    const before = this.#states.get(state.row);
    if (before && before.revision > state.revision) return before;
    this.#states.delete(state.row);
    this.#states.set(state.row, state);
    if (this.#states.size > MOST_STATES) this.#states.delete(this.#states.keys().next().value);
    this.#reflect(state.row);
    this.emit("state", state.row);
    return state;
  }

  /**
   * What is on its way has changed: bring the columns and those who show it up to date.
   *
   * @param {number} row
   */
  touched(row) {
    this.#reflect(row);
    this.emit("state", row);
  }

  /**
   * Others have changed these; null for any.
   *
   * @param {number[]|null} rows
   */
  async refresh(rows) {
    if (rows === null || rows.length > 50) {
      const kept = [...this.#states.keys()];
      this.#states.clear();
      this.columns = await get("rows");
      this.emit("columns", null);
      for (const row of kept) this.emit("state", row);
      return;
    }
    await Promise.allSettled(
      rows.map(async (row) => {
        if (row < this.length) this.put(await get(`rows/${row}`));
      }),
    );
  }

  /** Forget the labels of all images: they may have other names now. */
  forget() {
    this.#states.clear();
  }

  /** @param {number} row */
  #reflect(row) {
    const state = this.state(row);
    if (!state || !this.columns || row >= this.length) return;
    const values = {
      status: statusOf(state, this.skeleton()),
      finished: Number(state.finished),
      flag: Number(state.flag),
      note: Number(Boolean(state.note)),
      confidence: confidenceOf(state),
    };
    let changed = false;
    for (const [name, value] of Object.entries(values)) {
      changed = changed || this.columns[name][row] !== value;
      this.columns[name][row] = value;
    }
    if (changed) this.emit("columns", row);
  }
}

/** The mean score of a guess, as in the columns; null where there is none. @param {RowState} state */
function confidenceOf({ guess }) {
  const scores = Object.values(guess?.points ?? {}).map(([, , score]) => score);
  return scores.length ? Math.round((1e4 * scores.reduce((sum, score) => sum + score, 0)) / scores.length) / 1e4 : null;
}
