/** Trainings, predictions, choices of frames and merges that the server runs, as it tells of them. */

import { get, post } from "./api.js";
import { Emitter } from "./emitter.js";

/**
 * @typedef {object} Job
 * @property {number} id
 * @property {"train"|"predict"|"sample"|"merge"} kind
 * @property {"running"|"done"|"stopped"|"failed"} state
 * @property {number|null} progress
 * @property {number|null} total
 * @property {string} text
 * @property {Record<string, any>} details What the command tells of itself.
 * @property {number} began Seconds since 1970.
 * @property {number|null} ended
 * @property {Record<string, any>} settings
 * @property {boolean} has_result
 */

/** Milliseconds between looks at all jobs when something else has changed. */
const REST = 1000;

/** Emits `jobs` when the list is another, and `job` with each of which there is news. */
export class Jobs extends Emitter {
  /** @type {Job[]} The latest first. */
  list = [];
  #timer = 0;

  /** @param {import("./app.js").App} app */
  constructor(app) {
    super();
    app.on("job", (job) => this.take(job));
    // The server may be another one now, which heard nothing of what ran before.
    app.on("changed", () => {
      clearTimeout(this.#timer);
      if (this.running()) this.#timer = setTimeout(() => this.load().catch(() => {}), REST);
    });
  }

  /** Ask for all of them. */
  async load() {
    this.list = (await get("jobs")).jobs;
    this.emit("jobs");
    for (const job of this.list) this.emit("job", job);
  }

  /**
   * Begin one.
   *
   * @param {string} path
   * @param {object} body
   * @returns {Promise<Job>}
   */
  async begin(path, body) {
    const job = await post(path, body);
    this.take(job);
    return job;
  }

  /** @param {number} id */
  async stop(id) {
    this.take(await post(`jobs/${id}/stop`, {}));
  }

  /**
   * One with its log and its learning curve.
   *
   * @param {number} id
   * @returns {Promise<Job & {log: string[], curve: import("./chart.js").Epoch[]}>}
   */
  async details(id) {
    return get(`jobs/${id}`);
  }

  /**
   * The one that runs, of this kind or of any.
   *
   * @param {string} [kind]
   */
  running(kind) {
    return this.list.find((job) => job.state === "running" && (!kind || job.kind === kind)) ?? null;
  }

  /** @param {Job} job */
  take(job) {
    const place = this.list.findIndex(({ id }) => id === job.id);
    if (place >= 0) this.list[place] = job;
    else {
      this.list = [job, ...this.list].sort((a, b) => b.id - a.id);
      this.emit("jobs");
    }
    this.emit("job", job);
  }
}

/** @type {WeakMap<object, Jobs>} */
const known = new WeakMap();

/**
 * The jobs of a page, which all its panels share.
 *
 * @param {import("./app.js").App} app
 */
export function jobsOf(app) {
  let jobs = known.get(app);
  if (!jobs) {
    jobs = new Jobs(app);
    known.set(app, jobs);
  }
  return jobs;
}
