/** Bringing two people's labels together: the open set and one beside it, into a new file. */

import { get, post } from "../api.js";
import { button, element, uniqueId } from "../dom.js";
import { field } from "../fields.js";
import { JobCard } from "../job_card.js";
import { jobsOf } from "../jobs.js";

/** @type {import("../panels.js").Panel} */
export const mergePanel = { id: "merge", title: "Merge", icon: "M3.5 2v2.2C3.5 7 8 7.4 8 10v4M12.5 2v2.2C12.5 7 8 7.4 8 10M5.8 11.8 8 14l2.2-2.2", feature: "merge", create: (app) => new MergePanel(app) };

const PREFER = {
  first: "This set's",
  second: "The other set's",
  newest: "That of the file changed last",
};

class MergePanel {
  /** @type {JobCard|null} */
  #card = null;
  #asked = 0;

  /** @param {import("../app.js").App} app */
  constructor(app) {
    this.app = app;
    this.jobs = jobsOf(app);
    this.other = element("select", { id: uniqueId("other"), on: { change: () => this.#look() } });
    this.prefer = element(
      "select",
      { id: uniqueId("prefer"), on: { change: () => this.#look() } },
      ...Object.entries(PREFER).map(([value, text]) => element("option", { value, text })),
    );
    this.said = element("p", { class: "said problem", role: "alert" });
    this.preview = element("ul", { class: "preview", "aria-live": "polite" });
    this.conflicts = element("ol", { class: "history conflicts" });
    this.act = button("Merge", () => this.#begin(), { class: "primary" });
    this.room = element("div", { class: "jobs" });
    this.fields = element("div", { class: "film-parts" }, field("With", this.other), field("Where labels differ, keep", this.prefer));
    this.element = element(
      "section",
      { class: "merge-panel" },
      element("h2", { text: "Merge with another set" }),
      element("p", { class: "hint", text: "Keypoints come together by name, images by their pixels. Both sets stay as they are: the result is a new file beside them." }),
      this.fields,
      this.said,
      this.preview,
      this.act,
      this.room,
      this.conflicts,
    );
    this.jobs.on("job", (job) => this.#news(job));
  }

  shown() {
    this.#load();
    this.jobs.load().catch(() => {});
  }

  async #load() {
    const before = this.other.value;
    try {
      const { sets } = await get("merge");
      const sound = sets.filter(({ error }) => !error);
      this.other.replaceChildren(...sound.map(({ id, name, n }) => element("option", { value: id, text: `${name}, ${n} images` })));
      if ([...this.other.options].some(({ value }) => value === before)) this.other.value = before;
      this.fields.hidden = this.act.hidden = !sound.length;
      const broken = sets.filter(({ error }) => error).map(({ error }) => error);
      this.said.textContent = broken.join("\n") || (sound.length ? "" : "There is no other set in this folder.");
      if (sound.length) this.#look();
    } catch (error) {
      this.said.textContent = `The sets could not be listed: ${error.message}.`;
    }
  }

  #body() {
    return { id: Number(this.other.value), prefer: this.prefer.value };
  }

  /** What would become of it. */
  async #look() {
    this.#asked += 1;
    const asked = this.#asked;
    this.act.disabled = true;
    this.said.textContent = "";
    this.conflicts.replaceChildren();
    this.preview.replaceChildren(element("li", { text: "Comparing images…" }));
    try {
      const found = await post("merge/preview", this.#body());
      if (asked !== this.#asked) return;
      this.#show(found);
      this.act.disabled = this.jobs.running("merge") !== null;
    } catch (error) {
      if (asked !== this.#asked) return;
      this.preview.replaceChildren();
      this.said.textContent = error.message;
    }
  }

  #show({ output, n, new: fresh, filled, n_conflicts: differ, conflicts, notes }) {
    const lines = [
      `${output}: ${n} images, of which ${fresh} are in the other set alone.`,
      `${filled} labels complete images that both have.`,
      differ ? `${differ} ${differ === 1 ? "label differs" : "labels differ"}, ${differ > conflicts.length ? `the first ${conflicts.length} are` : "all"} listed below.` : "No label differs.",
      ...notes.map((note) => `${asSentence(note)}.`),
    ];
    this.preview.replaceChildren(...lines.map((text) => element("li", { text })));
    this.conflicts.replaceChildren(...conflicts.map((conflict) => this.#conflict(conflict)));
    this.act.lastElementChild.textContent = `Write ${output}`;
  }

  #conflict({ row, other_row: otherRow, keypoint, difference, kept }) {
    const where = row === null ? `image ${otherRow} there` : `image ${row} here, ${otherRow} there`;
    return element(
      "li",
      {},
      element("span", { class: "text", text: `${keypoint}: ${difference}; ${kept === "this" ? "this set's" : "the other's"} is kept` }),
      element("span", { class: "by", text: where }),
      element("span", { class: "acts" }, row === null ? null : button("Look", () => this.#go(row, keypoint), { class: "quiet small" })),
    );
  }

  #go(row, keypoint) {
    this.app.go(row);
    this.app.select(this.app.skeleton.names.indexOf(keypoint));
  }

  async #begin() {
    this.said.textContent = "";
    this.act.disabled = true;
    try {
      await this.jobs.begin("merge", this.#body());
    } catch (error) {
      this.said.textContent = error.message;
      this.act.disabled = false;
    }
  }

  /** The merge that runs or has just ended. */
  #news(job) {
    if (job.kind !== "merge") return;
    if (this.#card?.job.id === job.id) {
      const ended = this.#card.job.state === "running" && job.state !== "running";
      this.#card.update(job);
      // The new set is beside this one now, and the next one gets another name.
      if (ended && !this.element.hidden) this.#load();
    } else if (job.state === "running") {
      this.#card = new JobCard(this.jobs, job);
      this.room.replaceChildren(this.#card.element);
    }
  }
}

/** With a capital, unless it begins with the name of a file. @param {string} note */
const asSentence = (note) => (/^\S*[./\\]\S/.test(note) ? note : `${note.charAt(0).toUpperCase()}${note.slice(1)}`);
