/**
 * Looking at a video in place of the image: its frames on a stage of their own, the bar with the
 * timeline below. The image that is being labelled stays where it is behind it.
 *
 * Emits `film` when another one is shown or none, `frame`, `poses`, `chosen` and `selected`.
 */

import { filterOf } from "../adjust.js";
import { get, post } from "../api.js";
import { element } from "../dom.js";
import { Emitter } from "../emitter.js";
import { Pointer } from "../pointer.js";
import { Stage } from "../stage.js";
import { FilmBar } from "./bar.js";
import { clock } from "./clock.js";
import { Frames } from "./frames.js";
import { FilmKeys } from "./keys.js";
import { drawPoses, middle } from "./overlay.js";
import { Player } from "./player.js";
import { FilmPoses } from "./poses.js";
import { Timeline } from "./timeline.js";

/** @typedef {{id: number, name: string, n_frames: number, fps: number, height: number, width: number, in_set: [number, number][]}} Film */

const BRIEF = 4000;
/** CSS pixels around an animal in which a press chooses it. */
const REACH = 40;
/** Milliseconds until the frames of the set are asked for again after a change. */
const REST = 400;
/** The part of all moments that are not fast. */
const USUAL = 0.995;
/** Frames of poses that are fetched ahead. */
const AHEAD = 60;

export class FilmMode extends Emitter {
  /** @type {Film|null} */
  film = null;
  /** The one that is wanted. */
  frame = 0;
  /** The one that is seen; -1 while there is none. */
  painted = -1;
  /** @type {FilmPoses|null} */
  poses = null;
  /** How poses are drawn. */
  look = { shown: true, numbers: true, trail: 0, trailOf: "", unsure: 0.5, fast: Infinity };
  /** Two individuals that may be exchanged. @type {(number|null)[]} */
  chosen = [null, null];
  /** Where one was in each video. @type {Map<number, number>} */
  #places = new Map();
  /** @type {Frames|null} */
  #frames = null;
  #opening = 0;
  #brief = 0;
  #timer = 0;

  /** @param {import("../app.js").App} app */
  constructor(app) {
    super();
    this.app = app;
    this.#build();
    this.timeline = new Timeline();
    this.player = new Player(this);
    this.bar = new FilmBar(this);
    this.keys = new FilmKeys(this);
    document.body.append(this.host, this.bar.element);
    this.timeline.on("go", (frame) => {
      this.player.stop();
      this.go(frame);
    });
    app.settings.on("change", () => this.#adjust());
    app.on("changed", () => {
      clearTimeout(this.#timer);
      if (this.film) this.#timer = setTimeout(() => this.#refreshSet(), REST);
    });
  }

  #build() {
    this.place = element("p", { class: "where" });
    this.waiting = element("p", { class: "waiting", hidden: true });
    this.said = element("p", { class: "brief", role: "status", hidden: true });
    this.host = element(
      "section",
      {
        class: "stage film",
        id: "film",
        tabIndex: 0,
        role: "application",
        hidden: true,
        "aria-label": "Frame of a video. Arrows go to the next frame, space plays, Escape leads back to the images.",
      },
      element("canvas", { class: "picture", "aria-hidden": "true" }),
      element("canvas", { class: "marks", "aria-hidden": "true" }),
      this.waiting,
      this.said,
      this.place,
    );
    this.stage = new Stage(this.host, () => ({ state: null, guesses: false, drawing: null }));
    this.stage.overlays.push((context) => this.#draw(context));
    this.pointer = new Pointer(this.stage, {
      marks: () => [],
      active: () => -1,
      placeAt: (x, y) => this.#choose(x, y),
      select: () => {},
      pressed: () => {},
      preview: () => {},
      moveTo: () => {},
      hover: () => {},
      moved: () => {},
      viewed: () => this.stage.redraw(),
    });
  }

  // -- coming and going --------------------------------------------------------------------------

  /**
   * Show a video, where one was in it.
   *
   * @param {number} id
   * @param {number} [frame]
   * @throws {Error} What the server says when it cannot be read.
   */
  async open(id, frame = this.#places.get(id) ?? 0) {
    this.#opening += 1;
    const opening = this.#opening;
    const film = await get(`videos/${id}`);
    if (opening !== this.#opening) return;
    this.#leaveFilm();
    this.film = film;
    this.painted = -1;
    this.host.dataset.frame = "";
    this.stage.show(null, null);
    this.stage.view.fit();
    this.#frames = new Frames(id, film.n_frames, (number, picture) => this.#show(number, picture), (number, error) => this.#fail(number, error));
    this.timeline.open(film.n_frames);
    this.#takeInSet(film);
    this.#cover(true);
    this.emit("film");
    this.go(frame);
    this.host.focus({ preventScroll: true });
    await this.#findPoses(opening);
  }

  /** Back to the image. */
  close() {
    this.#opening += 1;
    if (!this.film) return;
    this.#leaveFilm();
    this.film = null;
    this.#cover(false);
    this.emit("film");
  }

  #leaveFilm() {
    this.player.stop();
    if (this.film) this.#places.set(this.film.id, this.frame);
    this.#frames?.close();
    this.#frames = null;
    this.poses = null;
    this.chosen = [null, null];
  }

  /** The image and what belongs to it make room. @param {boolean} on */
  #cover(on) {
    document.body.classList.toggle("filming", on);
    this.host.hidden = this.bar.element.hidden = !on;
    for (const part of [this.app.stage.host, document.getElementById("strip"), ...document.querySelectorAll(".bar nav, .bar .filters, #undo, #redo")]) {
      /** @type {HTMLElement} */ (part).inert = on;
    }
  }

  // -- frames ------------------------------------------------------------------------------------

  /** @param {number} frame */
  go(frame) {
    if (!this.film) return;
    this.frame = Math.min(this.film.n_frames - 1, Math.max(0, Math.round(frame)));
    this.#frames.want(this.frame);
    this.poses?.want(this.frame - this.look.trail, this.frame + AHEAD);
    this.timeline.to(this.frame, this.describe(this.frame));
    this.#wait();
    this.emit("frame");
  }

  /** @param {number} steps */
  goBy(steps) {
    this.player.stop();
    this.go(this.frame + steps);
    this.app.speak(this.describe(this.frame));
  }

  /** @param {number} frame */
  describe(frame) {
    const time = this.film.fps > 0 ? `, ${clock(frame / this.film.fps)}` : "";
    const rows = this.timeline.inSet.get(frame);
    return `Frame ${frame}${time}${rows ? `, image ${rows.join(" and ")} of the set` : ""}`;
  }

  #show(frame, picture) {
    this.painted = frame;
    this.stage.show(picture, null);
    this.host.dataset.frame = String(frame);
    this.place.textContent = this.describe(frame);
    this.#wait();
    this.emit("painted");
  }

  #fail(frame, error) {
    if (frame !== this.frame) return;
    this.waiting.hidden = false;
    this.waiting.textContent = `Frame ${frame} could not be read: ${error.message}.`;
    this.player.stop();
  }

  #wait() {
    this.waiting.hidden = this.painted >= 0;
    if (this.painted < 0) this.waiting.textContent = "Loading…";
    this.host.classList.toggle("behind", this.painted !== this.frame);
  }

  #adjust() {
    this.stage.image.style.filter = filterOf(this.app.settings.values.adjustment);
    this.timeline.dress();
    this.stage.redrawMarks();
  }

  // -- frames and the set ------------------------------------------------------------------------

  /** Frames become images of the set. @param {number[]} frames */
  async add(frames) {
    const { film } = this;
    if (!film || !frames.length) return;
    try {
      const { rows } = await post(`videos/${film.id}/add`, { frames });
      await this.#refreshSet();
      for (const frame of frames) this.timeline.selected.delete(frame);
      this.emit("selected");
      if (rows.length === 1 && frames.length === 1) this.say(`Frame ${frames[0]} is image ${rows[0]} now.`);
      else if (rows.length) this.say(`${rows.length} ${rows.length === 1 ? "frame is" : "frames are"} in the set now: image ${rows[0]} to ${rows.at(-1)}.`);
      else this.say(frames.length === 1 ? `Frame ${frames[0]} is in the set already.` : "They are in the set already.");
    } catch (error) {
      this.say(`${frames.length === 1 ? `Frame ${frames[0]}` : "The frames"} could not be added: ${error.message}`);
    }
  }

  /** Note this frame to be added with others, or not. */
  select() {
    const { selected } = this.timeline;
    if (!selected.delete(this.frame)) selected.add(this.frame);
    this.timeline.redraw();
    this.emit("selected");
    this.app.speak(`${selected.size} selected`);
  }

  get isSelected() {
    return this.timeline.selected.has(this.frame);
  }

  /** The images that this frame is; none when it is not in the set. */
  get images() {
    return this.timeline.inSet.get(this.frame) ?? [];
  }

  async #refreshSet() {
    const { film } = this;
    if (!film) return;
    try {
      const now = await get(`videos/${film.id}`);
      if (film === this.film) this.#takeInSet(now);
    } catch {
      // It is asked for again with the next change.
    }
  }

  #takeInSet(film) {
    /** @type {Map<number, number[]>} */
    const inSet = new Map();
    for (const [row, frame] of film.in_set) inSet.set(frame, [...(inSet.get(frame) ?? []), row]);
    this.timeline.inSet = inSet;
    this.timeline.to(this.frame, this.describe(this.frame));
    if (this.painted >= 0) this.place.textContent = this.describe(this.painted);
    this.emit("frame");
  }

  // -- poses -------------------------------------------------------------------------------------

  /** What models found in this video; the first of them is shown. */
  async #findPoses(opening) {
    let found = [];
    this.problem = "";
    try {
      found = (await get(`poses?video=${this.film.id}`)).poses;
    } catch (error) {
      this.problem = `Poses could not be asked for: ${error.message}.`;
    }
    if (opening !== this.#opening) return;
    this.known = found.filter(({ video, error }) => !error && video === this.film.id);
    const broken = found.filter(({ error }) => error);
    if (broken.length) this.problem = broken.map(({ error }) => error).join("\n");
    this.choosePoses(this.known[0]?.id ?? null);
  }

  /** Files of poses of this video. @type {import("./poses.js").PosesInfo[]} */
  known = [];
  /** Why there are none. */
  problem = "";

  /** @param {number|null} id */
  choosePoses(id) {
    const info = this.known.find((each) => each.id === id);
    this.poses = info ? new FilmPoses(info, () => this.stage.redrawMarks()) : null;
    this.chosen = info && info.individuals.length > 1 ? info.individuals.slice(0, 2) : [null, null];
    this.timeline.limits = { unsure: this.look.unsure, fast: this.look.fast };
    this.timeline.show(this.poses);
    this.#wantPoses();
    this.stage.redrawMarks();
    this.#findFast();
    this.emit("poses");
  }

  #wantPoses() {
    this.poses?.want(this.frame - this.look.trail, this.frame + AHEAD);
  }

  /** Fast is what few frames are, unless somebody says otherwise. */
  async #findFast() {
    const { poses } = this;
    const { fast } = this.look;
    if (!poses) return;
    try {
      const { speed } = await poses.overview();
      const known = speed.filter((value) => value !== null).sort((a, b) => a - b);
      if (poses !== this.poses || fast !== this.look.fast || !known.length) return;
      const usual = known[Math.floor(known.length * USUAL)];
      this.set({ fast: Number(usual.toPrecision(2)) });
    } catch {
      // Then somebody says what is fast.
    }
  }

  /** @param {Partial<FilmMode["look"]>} look */
  set(look) {
    Object.assign(this.look, look);
    this.timeline.limits = { unsure: this.look.unsure, fast: this.look.fast };
    this.timeline.redraw();
    this.#wantPoses();
    this.stage.redrawMarks();
    this.emit("look");
  }

  /**
   * On to a moment that is worth a look.
   *
   * @param {"confidence"|"speed"} column
   * @param {number} direction
   */
  async moment(column, direction) {
    const { poses } = this;
    if (!poses) {
      this.say("There are no poses of this video yet: dpk predict makes them.");
      return;
    }
    this.player.stop();
    try {
      const limit = column === "confidence" ? this.look.unsure : this.look.fast;
      const found = await poses.moment(column, this.frame, direction, limit);
      if (poses !== this.poses) return;
      if (found !== null) {
        this.go(found);
        this.app.speak(this.describe(found));
      } else this.say(`There is no ${column === "confidence" ? "unsure" : "fast"} moment ${direction > 0 ? "after" : "before"} this one.`);
    } catch (error) {
      this.say(`It could not be looked for: ${error.message}.`);
    }
  }

  /** Choose the animal that was pressed. */
  #choose(x, y) {
    this.host.focus({ preventScroll: true });
    const { poses } = this;
    if (!poses || poses.info.individuals.length < 2) return;
    const [left, top] = this.stage.view.toDevice(x, y);
    let [best, least] = [null, REACH * this.stage.ratio];
    for (const { track, points } of poses.at(this.painted) ?? []) {
      for (const place of [...points, middle(points)]) {
        if (!place || place[0] === null) continue;
        const [px, py] = this.stage.view.toDevice(place[0], place[1]);
        const far = Math.hypot(px - left, py - top);
        if (far < least) [best, least] = [track, far];
      }
    }
    if (best !== null && best !== this.chosen[1]) this.choose([this.chosen[1], best]);
  }

  /** @param {(number|null)[]} pair */
  choose(pair) {
    this.chosen = pair;
    this.stage.redrawMarks();
    this.emit("chosen");
  }

  /** Exchange the two individuals that are chosen, from the frame that is seen on. */
  async exchange() {
    const [first, second] = this.chosen;
    if (!this.poses || first === null || second === null || first === second) {
      this.say("Choose two individuals first.");
      return;
    }
    await this.#exchange({ frame: this.frame, first, second });
  }

  /** The last exchange that the file notes, whoever made it, and when. */
  async takeBack() {
    const last = this.poses?.lastExchange;
    if (last) await this.#exchange({ ...last, back: true });
    else this.say("There is no exchange to take back.");
  }

  async #exchange(what) {
    const { poses } = this;
    const { frame, first, second, back } = what;
    try {
      const rows = await poses.exchange(what);
      const words = `${first} and ${second} from frame ${frame} on, ${rows} poses`;
      this.say(back ? `Taken back: ${words}.` : `Exchanged: ${words}.`);
    } catch (error) {
      this.say(`${back ? "It could not be taken back" : "They could not be exchanged"}: ${error.message}`);
      // As far as the line stands: what another program made of the file is shown next.
      await poses.refresh().catch(() => {});
    }
    if (poses !== this.poses) return;
    this.timeline.refresh();
    this.#wantPoses();
    this.stage.redrawMarks();
    this.emit("chosen");
  }

  #draw(context) {
    if (!this.poses || !this.look.shown || this.painted < 0) return;
    const { size } = this.app.settings.values;
    const chosen = this.poses.info.individuals.length > 1 ? this.chosen : [];
    drawPoses(context, this.stage.view, this.poses, this.painted, { ...this.look, ratio: this.stage.ratio, size, chosen });
  }

  /** Words that go by themselves. @param {string} text */
  say(text) {
    this.said.textContent = text;
    this.said.hidden = false;
    clearTimeout(this.#brief);
    this.#brief = setTimeout(() => {
      this.said.hidden = true;
    }, BRIEF);
  }
}
