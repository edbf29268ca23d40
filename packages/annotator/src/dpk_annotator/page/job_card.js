/** One job of the server: how far it is, how it went, and the way to end it. */

import { learningCurve } from "./chart.js";
import { button, element, uniqueId } from "./dom.js";

/** Lines of the log that are shown. */
const LINES = 60;
/** Milliseconds between looks at log and curve while it runs. */
const REST = 1000;
const STATES = { running: "running", done: "done", stopped: "stopped", failed: "failed" };

export class JobCard {
  #stopping = false;
  #timer = 0;
  #drawn = "";

  /**
   * @param {import("./jobs.js").Jobs} jobs
   * @param {import("./jobs.js").Job} job
   */
  constructor(jobs, job) {
    this.jobs = jobs;
    this.job = job;
    const id = uniqueId("job");
    this.title = element("span", { class: "title", id });
    this.state = element("span", { class: "state" });
    this.bar = element("progress", { max: 1, "aria-labelledby": id });
    this.text = element("p", { class: "hint", role: "status" });
    this.stop = button("Stop", () => this.#stop(), { class: "quiet framed" });
    this.said = element("p", { class: "said problem", role: "alert" });
    this.chart = element("div", { class: "chart" });
    this.log = element("pre", { class: "log", tabIndex: 0, role: "log", "aria-label": "Log", "aria-live": "off" });
    this.logs = element("details", { on: { toggle: () => this.#look() } }, element("summary", { text: "Log" }), this.log);
    this.row = element("div", { class: "going" }, this.bar, this.stop);
    this.element = element(
      "details",
      { class: "job", "data-job": job.id, open: job.state === "running", on: { toggle: () => this.#look() } },
      element("summary", {}, this.title, this.state),
      element("div", { class: "inside" }, this.row, this.text, this.said, this.chart, this.logs),
    );
    this.update(job);
  }

  /** @param {import("./jobs.js").Job} job */
  update(job) {
    const ended = this.job.state === "running" && job.state !== "running";
    this.job = job;
    const running = job.state === "running";
    this.element.dataset.state = job.state;
    this.title.textContent = titleOf(job);
    this.state.textContent = `${STATES[job.state] ?? job.state}${running ? "" : `, ${whenOf(job)}`}`;
    this.row.hidden = !running;
    this.stop.lastElementChild.textContent = this.#stopping ? "Stop at once" : "Stop";
    if (running && job.progress !== null && job.total) this.bar.value = Math.min(1, job.progress / job.total);
    else this.bar.removeAttribute("value");
    this.text.textContent = wordsOf(job, this.#stopping);
    this.text.hidden = !this.text.textContent;
    if (ended) this.#drawn = "";
    this.#look();
  }

  async #stop() {
    this.said.textContent = "";
    try {
      await this.jobs.stop(this.job.id);
      this.#stopping = true;
      this.update(this.job);
    } catch (error) {
      this.said.textContent = `It could not be stopped: ${error.message}.`;
    }
  }

  /** Log and curve, as long as they are open, and not too often. */
  #look() {
    if (!this.element.open || this.#timer || this.#drawn === this.job.state) return;
    const running = this.job.state === "running";
    if (!running) this.#drawn = this.job.state;
    this.#fetch();
    if (!running) return;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#look();
    }, REST);
  }

  async #fetch() {
    try {
      const { log, curve } = await this.jobs.details(this.job.id);
      const down = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 8;
      this.log.textContent = log.slice(-LINES).join("\n") || "Nothing yet.";
      if (down) this.log.scrollTop = this.log.scrollHeight;
      const chart = learningCurve(curve);
      // A chart under the pointer stays until it has left.
      if (!this.chart.matches(":hover")) this.chart.replaceChildren(...(chart ? [chart] : []));
      if (this.job.state === "failed" && !this.logs.open && !curve.length) this.logs.open = true;
    } catch (error) {
      this.#drawn = "";
      this.log.textContent = `The log could not be read: ${error.message}.`;
    }
  }
}

/** @param {import("./jobs.js").Job} job */
function titleOf({ id, kind, settings }) {
  const what = {
    train: () => `Training ${settings.model ?? ""}`,
    predict: () => `Guesses of ${settings.model ?? "a model"}`,
    sample: () => `${settings.n ?? "Some"} frames of ${settings.video ?? "a video"}`,
    merge: () => `Merged with ${settings.other ?? "another set"}`,
  }[kind];
  return `${id}. ${what ? what() : kind}`;
}

/** @param {import("./jobs.js").Job} job @param {boolean} stopping */
function wordsOf({ kind, state, text, details, progress, total, settings }, stopping) {
  if (state === "running") {
    if (stopping) return "It finishes its step and keeps what it has.";
    const part = progress !== null && total && kind !== "train" ? ` (${Math.round((100 * progress) / total)} %)` : "";
    return text ? `${text}${part}` : "It begins.";
  }
  if (state === "failed") return "It failed; the log tells why.";
  const error = details.validation_error_px;
  if (kind === "train" && typeof error === "number") return `${error.toFixed(1)} px off on average, on images that it did not learn from.`;
  if (kind === "merge") return state === "done" ? `To label on in it: dpk annotate ${settings.output}` : "Nothing was written.";
  if (state === "stopped") return "What it had until then is kept.";
  return { predict: "Its guesses are on the images.", sample: "The frames are in the set." }[kind] ?? "";
}

/** @param {import("./jobs.js").Job} job */
function whenOf({ began, ended }) {
  const date = new Date(began * 1000);
  const today = new Date().toDateString() === date.toDateString();
  const when = today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : date.toLocaleDateString();
  return ended === null ? when : `${when}, ${lasted(ended - began)}`;
}

/** @param {number} seconds */
function lasted(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
