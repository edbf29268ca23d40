/** Videos around the set: choose one to look at, take frames of it, look through its poses. */

import { get } from "../api.js";
import { button, element, uniqueId } from "../dom.js";
import { check, field } from "../fields.js";
import { runFilmCommand } from "../film/commands.js";
import { FilmMode } from "../film/mode.js";
import { colourOf } from "../film/overlay.js";
import { JobCard } from "../job_card.js";
import { jobsOf } from "../jobs.js";

/** @type {import("../panels.js").Panel} */
export const videosPanel = { id: "videos", title: "Videos", icon: "M1.8 3.5h12.4v9H1.8zM6.6 5.9v4.2L10.2 8z", feature: "videos", create: (app) => new VideosPanel(app) };

class VideosPanel {
  /** @type {JobCard|null} */
  #card = null;

  /** @param {import("../app.js").App} app */
  constructor(app) {
    this.app = app;
    this.mode = new FilmMode(app);
    this.jobs = jobsOf(app);
    this.list = element("div", { class: "videos", role: "group", "aria-label": "Videos" });
    this.how = element("p", { class: "hint", text: "Press a video to look through it: for frames to add, and for what a model found in it.", hidden: true });
    this.said = element("p", { class: "said problem", role: "alert" });
    this.opening = element("p", { class: "hint", role: "status", hidden: true });
    this.back = button("Back to the image", () => app.tabs.choose("label"), { class: "quiet framed wide" });
    this.open = element("div", { class: "film-parts", hidden: true }, ...this.#taking(), ...this.#seeing(), ...this.#exchanging(), button("Keys", () => runFilmCommand(this.mode, "help"), { class: "quiet framed wide" }));
    this.element = element("section", { class: "videos-panel" }, element("h2", { text: "Videos" }), this.list, this.how, this.opening, this.said, this.back, this.open);
    const { mode } = this;
    mode.on("film", () => this.#fill());
    mode.on("frame selected", () => this.#fillFrame());
    mode.on("poses", () => this.#fillPoses());
    mode.on("chosen frame", () => this.#fillChosen());
    mode.on("look", () => this.#fillLook());
    this.jobs.on("job", (job) => this.#news(job));
    app.keys.on("change", () => this.#fillFrame());
    // Whoever goes to an image wants to see it.
    app.on("row", () => {
      if (mode.film) app.tabs.choose("label");
    });
    this.#fill();
  }

  shown() {
    this.#load();
    this.jobs.load().catch(() => {});
  }

  hidden() {
    const { film } = this.mode;
    this.mode.close();
    if (film) this.app.focusStage();
  }

  // -- the parts ---------------------------------------------------------------------------------

  #taking() {
    this.add = button("Add", () => this.mode.add([...this.mode.timeline.selected].sort((a, b) => a - b)), { class: "quiet framed wide" });
    this.n = element("input", { type: "number", id: uniqueId("n"), min: 1, max: 1000, step: 1, value: "20" });
    this.sample = button("Choose and add", () => this.#sample(), { class: "quiet framed wide", title: "Frames that differ much from each other, by k-means" });
    this.sampleSaid = element("p", { class: "said problem", role: "alert" });
    this.room = element("div", { class: "jobs" });
    return [
      element("h2", { text: "Frames for the set" }),
      this.add,
      field("Frames that differ much", this.n),
      this.sample,
      this.sampleSaid,
      this.room,
    ];
  }

  #seeing() {
    const { mode } = this;
    const set = (name, read) => ({ on: { input: (event) => mode.set({ [name]: read(event.target) }) } });
    this.poses = element("select", { id: uniqueId("poses"), on: { change: () => mode.choosePoses(this.poses.value === "" ? null : Number(this.poses.value)) } });
    this.posesSaid = element("p", { class: "hint" });
    this.shownPoses = element("input", { type: "checkbox", ...set("shown", (input) => input.checked) });
    this.numbers = element("input", { type: "checkbox", ...set("numbers", (input) => input.checked) });
    this.trail = element("input", { type: "range", id: uniqueId("trail"), min: 0, max: 200, step: 5, ...set("trail", (input) => Number(input.value)) });
    this.trailText = element("output", { for: this.trail.id });
    this.trailOf = element("select", { id: uniqueId("of"), ...set("trailOf", (input) => input.value) });
    this.unsure = element("input", { type: "number", id: uniqueId("unsure"), min: 0, max: 100, step: 5, ...set("unsure", (input) => Number(input.value) / 100) });
    this.fast = element("input", { type: "number", id: uniqueId("fast"), min: 0, step: "any", ...set("fast", (input) => (input.value === "" ? Infinity : Number(input.value))) });
    this.withPoses = element(
      "div",
      { class: "film-parts", hidden: true },
      check("Skeletons", this.shownPoses),
      check("Numbers of individuals", this.numbers),
      element("div", { class: "field" }, element("label", { for: this.trail.id, text: "Trail" }), this.trailText, this.trail),
      field("Trail of", this.trailOf),
      field("Unsure below (%)", this.unsure),
      field("Fast from (pixels a frame)", this.fast),
    );
    return [element("h2", { text: "Poses" }), field("File", this.poses), this.posesSaid, this.withPoses];
  }

  #exchanging() {
    const { mode } = this;
    const one = (place) => {
      const select = element("select", {
        "aria-label": place ? "The other individual" : "One individual",
        on: {
          change: () => {
            const pair = [...mode.chosen];
            pair[place] = Number(select.value);
            mode.choose(pair);
          },
        },
      });
      return select;
    };
    this.pair = [one(0), one(1)];
    this.exchange = button("Exchange", () => mode.exchange(), { class: "primary" });
    this.takeBack = button("Take back", () => mode.takeBack(), { class: "quiet framed wide" });
    this.exchanged = element("p", { class: "hint" });
    this.identities = element(
      "div",
      { class: "film-parts", hidden: true },
      element("h2", { text: "Who is who" }),
      element("p", { class: "hint", text: "Choose two individuals here, or press them in the picture." }),
      element("div", { class: "pair" }, this.pair[0], element("span", { text: "and" }), this.pair[1]),
      this.exchange,
      this.exchanged,
      this.takeBack,
    );
    return [this.identities];
  }

  // -- filling -----------------------------------------------------------------------------------

  async #load() {
    try {
      const { videos } = await get("videos");
      this.list.replaceChildren(...videos.map((video) => this.#entry(video)));
      if (!videos.length) this.list.replaceChildren(element("p", { class: "hint", text: "No video was found: beside the set, in videos/ there, or in a folder given with --videos." }));
      this.said.textContent = "";
      this.#mark();
    } catch (error) {
      this.said.textContent = `The videos could not be listed: ${error.message}.`;
    }
  }

  #entry({ id, name, present }) {
    return element(
      "button",
      { type: "button", class: "video", "data-video": id, on: { click: () => this.#open(id, name) } },
      element("span", { class: "name", text: name }),
      present ? null : element("span", { class: "gone", text: "not there" }),
    );
  }

  async #open(id, name) {
    this.said.textContent = "";
    // A long one takes seconds the first time: its frames are numbered then.
    this.opening.textContent = `Opening ${name}…`;
    this.opening.hidden = false;
    this.list.setAttribute("aria-busy", "true");
    try {
      await this.mode.open(id);
    } catch (error) {
      this.said.textContent = `${error.message}${/[.!?]$/.test(error.message) ? "" : "."}`;
    }
    this.opening.hidden = true;
    this.list.removeAttribute("aria-busy");
  }

  #mark() {
    const { film } = this.mode;
    const entries = [...this.list.querySelectorAll("button")];
    for (const made of entries) made.setAttribute("aria-current", String(Number(made.dataset.video) === film?.id));
    this.how.hidden = film !== null || !entries.length;
  }

  #fill() {
    const { film } = this.mode;
    this.open.hidden = this.back.hidden = film === null;
    this.#mark();
    if (!film) return;
    this.sampleSaid.textContent = "";
    this.sample.disabled = this.app.readOnly;
    this.#fillFrame();
    this.#fillPoses();
  }

  #fillFrame() {
    const n = this.mode.timeline.selected.size;
    this.add.disabled = n === 0 || this.app.readOnly;
    this.add.lastElementChild.textContent = n ? `Add ${n} selected ${n === 1 ? "frame" : "frames"}` : `No frame is selected${this.app.keys.hint("film-select")}`;
  }

  #fillPoses() {
    const { mode } = this;
    const { poses, known, problem } = mode;
    this.poses.replaceChildren(
      ...known.map(({ id, name }) => element("option", { value: id, text: name })),
      element("option", { value: "", text: known.length ? "None" : "none yet" }),
    );
    this.poses.value = poses ? String(poses.info.id) : "";
    this.poses.disabled = !known.length;
    this.posesSaid.textContent = problem || (known.length ? "" : "dpk predict writes them beside the video, as VIDEO.poses.h5.");
    this.withPoses.hidden = poses === null;
    const individuals = poses?.info.individuals ?? [];
    this.identities.hidden = individuals.length < 2;
    if (!poses) return;
    this.trailOf.replaceChildren(element("option", { value: "", text: "The middle" }), ...poses.info.names.map((name) => element("option", { value: name, text: name })));
    if (!poses.info.names.includes(mode.look.trailOf)) mode.look.trailOf = "";
    for (const select of this.pair) {
      select.replaceChildren(...individuals.map((track) => element("option", { value: track, text: poses.called(track) })));
    }
    this.#fillLook();
    this.#fillChosen();
  }

  #fillLook() {
    const { look } = this.mode;
    this.shownPoses.checked = look.shown;
    this.numbers.checked = look.numbers;
    this.trail.value = String(look.trail);
    this.trailText.textContent = look.trail ? `${look.trail} frames` : "none";
    this.trailOf.value = look.trailOf;
    const fill = (input, value) => {
      if (document.activeElement !== input) input.value = value;
    };
    fill(this.unsure, String(Math.round(look.unsure * 100)));
    fill(this.fast, Number.isFinite(look.fast) ? String(look.fast) : "");
  }

  #fillChosen() {
    const { mode, app } = this;
    this.pair.forEach((select, place) => {
      const track = mode.chosen[place];
      select.value = track === null ? "" : String(track);
      select.style.borderColor = track === null ? "" : colourOf(track);
    });
    const [first, second] = mode.chosen;
    this.exchange.disabled = first === null || second === null || first === second || app.readOnly;
    this.exchange.lastElementChild.textContent = `Exchange from frame ${mode.frame} on`;
    const n = mode.poses?.info.exchanges.length ?? 0;
    this.exchanged.textContent = n ? `The file notes ${n} ${n === 1 ? "exchange" : "exchanges"}; the last one can be taken back.` : "";
    const last = mode.poses?.lastExchange ?? null;
    this.takeBack.hidden = last === null;
    this.takeBack.disabled = app.readOnly;
    if (last) this.takeBack.lastElementChild.textContent = `Take back: ${last.first} and ${last.second} from frame ${last.frame}`;
  }

  // -- choosing frames ---------------------------------------------------------------------------

  async #sample() {
    const { film } = this.mode;
    this.sampleSaid.textContent = "";
    this.sample.disabled = true;
    try {
      await this.jobs.begin(`videos/${film.id}/sample`, { n: Math.max(1, Math.round(Number(this.n.value) || 1)) });
    } catch (error) {
      this.sampleSaid.textContent = `${error.message}.`;
      this.sample.disabled = false;
    }
  }

  /** The latest choice of frames, as long as it runs or has just ended. */
  #news(job) {
    if (job.kind !== "sample") return;
    const running = this.jobs.running("sample");
    this.sample.disabled = running !== null || this.app.readOnly;
    if (this.#card?.job.id === job.id) this.#card.update(job);
    else if (job.state === "running") {
      this.#card = new JobCard(this.jobs, job);
      this.room.replaceChildren(this.#card.element);
    }
  }
}
