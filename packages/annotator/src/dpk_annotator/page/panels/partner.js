/** The model as a partner: train it, let it guess, let it say what to label next. */

import { get, thumbnailAddress } from "../api.js";
import { button, element, uniqueId } from "../dom.js";
import { check, field } from "../fields.js";
import { JobCard } from "../job_card.js";
import { jobsOf } from "../jobs.js";
import { confirmable } from "../labels.js";
import { Suggested } from "../suggested.js";

/** @type {import("../panels.js").Panel} */
export const partnerPanel = { id: "partner", title: "Partner", icon: "M8 1.8 9.6 6.4 14.2 8 9.6 9.6 8 14.2 6.4 9.6 1.8 8 6.4 6.4z", feature: "partner", create: (app) => new PartnerPanel(app) };

const BY = {
  combined: "All together",
  confidence: "Low confidence",
  entropy: "Doubt between places",
  speed: "Fast movement",
  acceleration: "Sudden movement",
  autoregression: "Unexpected movement",
  diversity: "Unlike the labelled",
};
/** These look at the images alone; all others weigh what a model guessed. */
const WITHOUT_GUESSES = new Set(["diversity"]);

class PartnerPanel {
  /** @type {Map<number, JobCard>} */
  #cards = new Map();
  #summaries = new Map();
  #loaded = false;
  /** Models that there were when they were last asked for. @type {Set<string> | null} */
  #trained = null;
  /** The way of suggesting that the person wants, though it may have to wait for guesses. */
  #wanted = "combined";
  #asking = false;
  /** Where the latest run of a kind is shown. @type {Record<string, HTMLElement>} */
  #latest = {};

  /** @param {import("../app.js").App} app */
  constructor(app) {
    this.app = app;
    this.jobs = jobsOf(app);
    this.suggested = new Suggested(app);
    this.element = element("section", { class: "partner-panel" }, ...this.#training(), ...this.#guessing(), ...this.#suggesting(), ...this.#past());
    this.jobs.on("jobs", () => this.#fillJobs());
    this.jobs.on("job", (job) => this.#news(job));
    this.suggested.on("items", () => this.#fillItems());
    app.on("row state set", () => this.#later());
    app.rows.on("columns", () => this.#later());
    app.on("suggested", (steps) => this.go(steps));
    this.#fillItems();
  }

  shown() {
    this.#load();
    this.#later();
  }

  /** On to another suggested image. @param {number} steps */
  go(steps) {
    const row = this.suggested.step(steps);
    if (row === null) this.app.notices.brief("Nothing is suggested yet: ask in the Partner panel.");
    else this.app.go(row);
  }

  // -- the parts ---------------------------------------------------------------------------------

  #training() {
    this.network = element("select", { id: uniqueId("network"), on: { change: () => this.#summary() } });
    this.summary = element("p", { class: "hint" });
    this.minutes = element("input", { type: "number", id: uniqueId("minutes"), min: 0.1, max: 10080, step: "any", placeholder: "no limit", value: "10" });
    this.scale = element("input", { type: "number", id: uniqueId("scale"), min: 0.05, max: 4, step: 0.05, value: "1" });
    this.graph = element("input", { type: "checkbox" });
    this.train = button("Train", () => this.#begin("train"), { class: "primary" });
    this.trainSaid = problem();
    this.#latest.train = element("div", { class: "jobs" });
    return [
      element("h2", { text: "Train on the labels" }),
      field("Network", this.network),
      this.summary,
      field("Minutes", this.minutes),
      element(
        "details",
        { class: "more" },
        element("summary", { text: "More" }),
        field("Scale of the images", this.scale),
        check("Learn the posture graph, too", this.graph),
      ),
      this.train,
      this.trainSaid,
      this.#latest.train,
    ];
  }

  #guessing() {
    this.model = element("select", { id: uniqueId("model") });
    this.predict = button("Guess on all images", () => this.#begin("predict"), { class: "primary" });
    this.predictSaid = problem();
    this.#latest.predict = element("div", { class: "jobs" });
    this.threshold = element("input", { type: "number", id: uniqueId("from"), min: 0, max: 100, step: 5, value: "60", on: { input: () => this.#fillConfirm() } });
    this.confirm = button("Confirm", () => this.#confirm(), { class: "quiet framed wide" });
    return [
      element("h2", { text: "Let it guess" }),
      field("Model", this.model),
      this.predict,
      this.predictSaid,
      this.#latest.predict,
      field("Sure from (%)", this.threshold),
      this.confirm,
    ];
  }

  #suggesting() {
    const why = uniqueId("why");
    this.by = element("select", { id: uniqueId("by"), "aria-describedby": why, on: { change: () => this.#fillBy(this.by.value) } });
    this.why = element("p", { class: "hint", id: why });
    this.n = element("input", { type: "number", id: uniqueId("n"), min: 1, max: 1000, step: 1, value: "20" });
    this.suggest = button("Suggest", () => this.#suggest(), { class: "primary" });
    this.before = button("Before", () => this.go(-1), { class: "quiet framed" });
    this.next = button("Next suggested", () => this.go(1), { class: "quiet framed" });
    this.suggestSaid = problem();
    this.list = element("ol", { class: "suggested" });
    return [
      element("h2", { text: "What to label next" }),
      field("By", this.by),
      this.why,
      field("How many", this.n),
      this.suggest,
      this.suggestSaid,
      element("div", { class: "acts" }, this.before, this.next),
      this.list,
    ];
  }

  #past() {
    this.heading = element("h2", { text: "Earlier runs" });
    this.room = element("div", { class: "jobs" });
    return [this.heading, this.room];
  }

  // -- what there is -----------------------------------------------------------------------------

  async #load() {
    this.trainSaid.textContent = "";
    try {
      await Promise.all([this.#loadModels(), this.#loaded ? null : this.jobs.load()]);
      this.#loaded = true;
    } catch (error) {
      this.trainSaid.textContent = `What can be trained could not be asked: ${error.message}.`;
    }
  }

  async #loadModels() {
    const { architectures, trained, by } = await get("models");
    this.#summaries = new Map(architectures.map(({ name, summary }) => [name, summary]));
    fill(this.network, architectures.map(({ name }) => [name, name]), "StackedDenseNet");
    const known = this.#trained;
    this.#trained = new Set(trained);
    fill(this.model, trained.map((name) => [name, name]), "");
    const latest = known && trained.find((name) => !known.has(name));
    if (latest) this.model.value = latest; // who trains once more means that one
    fill(this.by, by.map((name) => [name, BY[name] ?? name]), this.#wanted);
    this.model.disabled = !trained.length;
    if (!trained.length) this.model.replaceChildren(element("option", { value: "", text: "none yet" }));
    if (!architectures.length) this.trainSaid.textContent = "No network is installed: python -m pip install dpk-models";
    this.#summary();
    this.#fillBy();
    this.#allow();
  }

  /** What runs already cannot be begun, nor what needs a network or a model where there is none. */
  #allow() {
    const running = (kind) => this.jobs.running(kind) !== null;
    this.train.disabled = running("train") || !this.network.options.length;
    this.predict.disabled = running("predict") || this.model.disabled;
  }

  #summary() {
    this.summary.textContent = this.#summaries.get(this.network.value) ?? "";
  }

  #fillJobs() {
    const shown = Object.fromEntries(Object.keys(this.#latest).map((kind) => [kind, []]));
    const earlier = [];
    for (const job of this.jobs.list) {
      if (!this.#cards.has(job.id)) this.#cards.set(job.id, new JobCard(this.jobs, job));
      const place = shown[job.kind]?.length === 0 ? shown[job.kind] : earlier;
      place.push(this.#cards.get(job.id).element);
    }
    for (const [kind, cards] of Object.entries(shown)) this.#latest[kind].replaceChildren(...cards);
    this.room.replaceChildren(...earlier);
    this.heading.hidden = !earlier.length;
  }

  #news(job) {
    this.#cards.get(job.id)?.update(job);
    this.#allow();
    if (job.state !== "running" && job.kind === "train" && job.has_result) this.#loadModels().catch(() => {});
  }

  #timer = 0;

  #later() {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      if (this.element.hidden) return;
      this.#fillConfirm();
      this.#fillBy();
      this.#mark();
    }, 0);
  }

  // -- what a person does ------------------------------------------------------------------------

  async #begin(kind) {
    const said = kind === "train" ? this.trainSaid : this.predictSaid;
    const act = kind === "train" ? this.train : this.predict;
    said.textContent = "";
    act.disabled = true;
    try {
      const job = await this.jobs.begin("jobs", { kind, settings: this.#settings(kind) });
      const card = this.#cards.get(job.id);
      if (card) card.element.open = true;
      card?.element.scrollIntoView({ block: "nearest" });
    } catch (error) {
      said.textContent = sentence(error.message);
      act.disabled = false;
    }
  }

  #settings(kind) {
    if (kind === "predict") return { model: this.model.value || null };
    const amount = (input) => (input.value.trim() === "" ? null : Number(input.value));
    return { model: this.network.value, minutes: amount(this.minutes), scale: amount(this.scale), graph: this.graph.checked };
  }

  async #suggest() {
    this.suggestSaid.textContent = "";
    this.#asking = true;
    this.#fillBy();
    try {
      await this.suggested.ask(this.by.value, Math.max(1, Math.round(Number(this.n.value) || 1)));
      if (!this.suggested.items.length) this.suggestSaid.textContent = "There is nothing left to suggest.";
    } catch (error) {
      this.suggestSaid.textContent = sentence(error.message);
    }
    this.#asking = false;
    this.#fillBy();
  }

  /** Offer the ways that have what they need; the wanted one as soon as it has. */
  #fillBy(wanted = this.#wanted) {
    this.#wanted = wanted;
    const guessed = this.app.rows.columns.confidence.some((value) => value !== null);
    const options = [...this.by.options];
    for (const option of options) {
      option.disabled = !guessed && !WITHOUT_GUESSES.has(option.value);
      option.textContent = `${BY[option.value] ?? option.value}${option.disabled ? " (needs guesses)" : ""}`;
    }
    const open = options.filter(({ disabled }) => !disabled).map(({ value }) => value);
    this.by.value = open.includes(wanted) ? wanted : (open[0] ?? wanted);
    this.suggest.disabled = this.#asking || !open.length || !this.app.rows.length;
    this.why.textContent = guessed || !options.length ? "" : "There are no guesses yet, which most ways need: train a model and let it guess first.";
  }

  #fillItems() {
    const { items } = this.suggested;
    this.before.disabled = this.next.disabled = !items.length;
    this.list.replaceChildren(...items.map((item) => this.#item(item)));
    this.#mark();
  }

  /** @param {import("../suggested.js").Item} item */
  #item({ row, score, reasons }) {
    const picture = element("img", { alt: "", decoding: "async", loading: "lazy", src: thumbnailAddress(row, this.app.set.set_id) });
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", class: "quiet", "data-row": row, on: { click: () => this.app.go(row) } },
        picture,
        element(
          "span",
          { class: "why" },
          element("span", { class: "which", text: `Image ${row}` }),
          element("span", { class: "score", text: `${Math.round(score * 100)} %`, title: "How much it is wanted" }),
          element("span", { class: "reasons", text: reasons.join(", ") }),
        ),
      ),
    );
  }

  /** Show which of them is on the stage, and which are dealt with. */
  #mark() {
    const { columns } = this.app.rows;
    for (const made of this.list.querySelectorAll("button")) {
      const row = Number(made.dataset.row);
      const here = row === this.app.row;
      if (here && made.getAttribute("aria-current") !== "true") made.scrollIntoView({ block: "nearest" });
      made.setAttribute("aria-current", String(here));
      made.dataset.done = String(Boolean(columns.finished[row]) || columns.status[row] === 2);
    }
  }

  #confirmable() {
    const { state } = this.app;
    const from = Math.min(100, Math.max(0, Number(this.threshold.value) || 0)) / 100;
    return state ? Object.keys(confirmable(state, null, from)) : [];
  }

  #fillConfirm() {
    const n = this.#confirmable().length;
    this.confirm.disabled = n === 0 || this.app.readOnly;
    this.confirm.lastElementChild.textContent = n ? `Confirm ${n} of this image` : "No such guess on this image";
  }

  #confirm() {
    const names = this.#confirmable();
    if (names.length) this.app.confirm(names);
    this.#fillConfirm();
  }
}

const problem = () => element("p", { class: "said problem", role: "alert" });

/** What the server says, as a sentence. @param {string} text */
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** Put choices into a list, and keep the one that was chosen. */
function fill(select, choices, preferred) {
  const before = select.value;
  select.replaceChildren(...choices.map(([value, text]) => element("option", { value, text })));
  const values = choices.map(([value]) => value);
  select.value = [before, preferred].find((value) => values.includes(value)) ?? values[0] ?? "";
}
