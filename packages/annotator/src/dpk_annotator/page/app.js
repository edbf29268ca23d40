/**
 * The page as a whole: which image and keypoint are active, what is done to them, and who shows it.
 *
 * Emits `row`, `state`, `active`, `set`, `clicking`, `note`, `steps`, `changed` and `job`.
 */

import { Ahead } from "./ahead.js";
import { get, listen, post, randomText } from "./api.js";
import { LocalContrast, filterOf } from "./adjust.js";
import { hold } from "./client.js";
import { looks } from "./colours.js";
import { runCommand } from "./commands.js";
import { showConflict } from "./conflict.js";
import { Emitter } from "./emitter.js";
import { Images } from "./images.js";
import { Keys } from "./keys.js";
import { KeyHandler } from "./keyboard.js";
import { applyEdit, confirmable, difference, isAnnotated, isNothing, partsOf } from "./labels.js";
import { Loupe } from "./loupe.js";
import { marksOf } from "./marks.js";
import { Notices } from "./notices.js";
import { PANELS } from "./panels.js";
import { Pointer } from "./pointer.js";
import { EditQueue } from "./queue.js";
import { Rows } from "./rows.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { Tabs } from "./tabs.js";
import { Thumbs } from "./thumbs.js";
import { TopBar } from "./topbar.js";

const AHEAD = [0, 1, 2, 3, -1, 4, -2, 10, 5, 6, -10];
/** Milliseconds in which an image that is here is painted. */
const PAINTED = 40;
const PLACE = "dpk-place";

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

export class App extends Emitter {
  row = -1;
  /** Done when the image on the stage and its labels are here, or could not be had. @type {Promise<void>|undefined} */
  arrival;
  /** Index of the keypoint that the next click places. */
  active = 0;
  hover = -1;
  /** Pixels that W, A, S, D move by. */
  step = 1;
  /** How many steps can be taken back and done again; null while unknown. */
  steps = { undo: null, redo: null };
  /** A keypoint on its way under the pointer. @type {{name: string, x: number, y: number}|null} */
  preview = null;
  /** Takes clicks on the image in place of labelling. @type {((x: number, y: number) => void)|null} */
  clicking = null;
  /** @type {import("./skeleton_draft.js").Item[]} */
  #draft = [];
  #direction = 1;
  /** What this tab did last, to show at once what an undo will bring. */
  #done = /** @type {{row: number, before: any}[]} */ ([]);
  #undone = /** @type {{row: number, before: any}[]} */ ([]);

  /**
   * @param {any} set As the server describes it.
   * @param {string} client
   */
  constructor(set, client) {
    super();
    this.set = set;
    this.client = client;
    this.revision = set.revision;
    this.looks = looks(set.skeleton);
    this.settings = new Settings();
    this.keys = new Keys();
    this.queue = new EditQueue(set.set_id, client);
    this.rows = new Rows(this.queue, () => this.skeleton);
    this.images = new Images(set.set_id);
    this.contrast = new LocalContrast();
    this.notices = new Notices(byId("notices"), this);
    this.stage = new Stage(byId("stage"), () => this.#scene());
    this.loupe = new Loupe(this.stage.host.querySelector("canvas.loupe"), this.stage);
  }

  get skeleton() {
    return this.set.skeleton;
  }

  get readOnly() {
    return this.set.read_only;
  }

  /** The labels of the image on the stage, with what is on its way; null while they come. */
  get state() {
    return this.rows.state(this.row);
  }

  get activeName() {
    return this.skeleton.names[this.active];
  }

  async start() {
    await this.rows.load();
    this.#listenToParts();
    this.pointer = new Pointer(this.stage, this.#pointerActs());
    this.keyboard = new KeyHandler(this);
    this.ahead = new Ahead(this);
    this.thumbs = new Thumbs(byId("strip"), this.rows, this.set.set_id, (row) => this.go(row));
    this.topbar = new TopBar(this);
    const panels = PANELS.filter(({ feature }) => !feature || this.set.features.includes(feature));
    this.tabs = new Tabs(byId("tabs"), byId("panels"), panels.map((panel) => ({ ...panel, view: panel.create(this) })));
    this.queue.recover(hold);
    listen(this.client, {
      changed: (change) => this.#changed(change),
      ping: (ping) => this.#caughtUp(ping?.revision),
      job: (job) => this.emit("job", job),
      warnings: ({ warnings }) => this.#warned(warnings),
      back: () => this.#changed({ rows: null, client: "" }),
    });
    this.adjust();
    const start = this.#remembered();
    if (this.rows.length) await this.go(start);
    if (this.skeleton.placeholder) this.tabs.choose("skeleton");
    this.focusStage();
    this.notices.welcome();
  }

  // -- images ------------------------------------------------------------------------------------

  /**
   * Show an image.
   *
   * @param {number} row
   */
  go(row) {
    if (row < 0 || row >= this.rows.length) return this.arrival;
    this.keyboard.settle();
    if (row !== this.row) this.#direction = row < this.row ? -1 : 1;
    this.row = row;
    this.preview = null;
    this.hover = -1;
    const picture = this.images.peek(row);
    const state = this.rows.state(row);
    if (state && state.points) this.#chooseFirst(state);
    this.#show(picture);
    this.emit("row", row);
    this.thumbs.show(row);
    this.#remember();
    this.arrival = this.#arrive(row, picture, state);
    this.#prefetchSoon();
    return this.arrival;
  }

  /** What is not here yet comes, and is shown if nobody has gone on to another image. */
  async #arrive(row, picture, state) {
    const labels = async () => {
      await this.rows.get(row);
      if (row === this.row) this.#chooseFirst(this.state);
    };
    try {
      await Promise.all([picture ? null : this.images.get(row), state ? null : labels()]);
      if (row !== this.row) return;
      this.#show(picture ?? this.images.peek(row));
      this.speak(`Image ${row}. ${this.#progress()}`);
    } catch (error) {
      if (row === this.row && !(error instanceof DOMException)) this.#couldNotShow(row, error);
    }
  }

  /** @param {number} steps In the order of the filter. */
  goBy(steps) {
    this.go(this.rows.step(this.row, steps));
  }

  #couldNotShow(row, error) {
    const text = byId("waiting");
    text.hidden = false;
    text.textContent = `Image ${row} could not be loaded: ${error.message}. Trying again…`;
    setTimeout(() => {
      if (row === this.row && !this.stage.picture) this.go(row);
    }, 2000);
  }

  /** @param {ImageBitmap|null} picture */
  #show(picture) {
    const confirmed = this.rows.confirmed(this.row);
    const { local } = this.settings.values.adjustment;
    const shown = picture && local ? (this.contrast.peek(picture, local) ?? picture) : picture;
    this.stage.show(shown, confirmed ? [confirmed.width, confirmed.height] : null);
    this.stage.host.dataset.row = picture && confirmed ? String(this.row) : "";
    const waiting = byId("waiting");
    waiting.hidden = Boolean(picture);
    if (!picture) waiting.textContent = "Loading…";
    if (shown && shown === picture && local) this.#enhance(this.row, picture, local);
    this.loupe.show(this.pointer.place);
    this.showScale();
  }

  async #enhance(row, picture, strength) {
    const made = await this.contrast.make(picture, strength);
    const still = row === this.row && strength === this.settings.values.adjustment.local;
    if (still && made !== picture) this.#show(picture);
  }

  #soon = 0;

  /** When the frame that the person waits for is painted: fetching ahead takes the same processor. */
  #prefetchSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.#prefetch(), PAINTED);
  }

  #prefetch() {
    const wanted = AHEAD.map((steps) => this.rows.step(this.row, steps * this.#direction));
    const rows = [this.row, ...new Set(wanted.filter((row) => row !== this.row))];
    this.images.prefetch(rows);
    for (const row of rows) this.rows.get(row).catch(() => {});
  }

  /** The first keypoint that nobody has dealt with, for a fresh image starts there. */
  #chooseFirst(state) {
    if (!state) return;
    const first = this.skeleton.names.findIndex((name) => !isAnnotated(state.points[name]));
    const begun = first > 0;
    this.active = begun ? first : 0;
    this.emit("active");
  }

  // -- keypoints ---------------------------------------------------------------------------------

  /** @param {number} index */
  select(index) {
    const n = this.skeleton.names.length;
    this.keyboard.settle();
    this.active = ((index % n) + n) % n;
    this.stage.redrawMarks();
    this.emit("active");
    this.speak(this.#describeActive());
  }

  /** Bring a keypoint into sight. @param {number} index */
  lookAt(index) {
    const mark = this.state && marksOf(this.state, this.skeleton).find((each) => each.index === index);
    if (!mark) return;
    this.stage.view.centre(mark.x, mark.y);
    this.stage.view.fitted = false;
    this.viewed();
  }

  /** After placing one: on to the next that has no label yet, if there is any. */
  advance() {
    if (!this.settings.values.advance) return;
    const { names } = this.skeleton;
    for (let i = 1; i < names.length; i += 1) {
      const index = (this.active + i) % names.length;
      if (!isAnnotated(this.state?.points[names[index]])) {
        this.select(index);
        return;
      }
    }
  }

  /**
   * Move a keypoint to a place in the image.
   *
   * @param {string} name
   * @param {number} x
   * @param {number} y
   */
  move(name, x, y) {
    const [left, top] = [round(x), round(y)];
    const limits = (value, size) => Math.min(size + 1000, Math.max(-900, value));
    this.edit({
      kind: "move",
      keypoint: name,
      x: limits(left, this.stage.view.imageWidth),
      y: limits(top, this.stage.view.imageHeight),
    });
  }

  // -- edits -------------------------------------------------------------------------------------

  /**
   * Do something to the image on the stage: shown at once, sent in order.
   *
   * @param {import("./labels.js").Edit} edit
   */
  edit(edit) {
    this.#push("edit", { changes: [{ row: this.row, edit }] }, edit);
  }

  /** Guesses become labels. @param {string[]|null} keypoints */
  confirm(keypoints) {
    const state = this.state;
    const points = state ? confirmable(state, keypoints, 0) : {};
    if (!Object.keys(points).length) return false;
    // The places that were seen, for the model may have guessed anew before this arrives.
    this.edit({ kind: "confirm", points });
    return true;
  }

  #push(path, body, shown, row = this.row) {
    const state = this.rows.state(row);
    if (!state || !this.#mayEdit() || isNothing(difference(state, applyEdit(state, shown, this.skeleton)))) return;
    this.#done.push({ row, before: state });
    this.#undone = [];
    this.queue.push(path, { base: this.rows.confirmed(row).revision, ...body }, row, shown);
    this.#shown(row);
  }

  #mayEdit() {
    if (this.readOnly) this.notices.readOnly();
    return !this.readOnly;
  }

  undo() {
    this.#takeBack("undo", this.#done, this.#undone);
  }

  redo() {
    this.#takeBack("redo", this.#undone, this.#done);
  }

  #takeBack(path, from, to) {
    if (!this.#mayEdit()) return;
    this.keyboard.settle();
    const step = from.pop();
    const now = step && this.rows.state(step.row);
    if (!step || !now) {
      this.queue.push(path, { base: 0 }, null, null);
      return;
    }
    to.push({ row: step.row, before: now });
    // As made on what this tab has seen: what others did since is theirs.
    this.queue.push(path, { base: 0 }, step.row, difference(now, step.before));
    if (step.row !== this.row) this.go(step.row);
    this.#shown(step.row);
  }

  /** @param {string} text */
  setNote(text) {
    if (this.state && text !== this.state.note) this.edit({ kind: "note", note: text });
  }

  /** All labels as they were after a moment. @param {number} seq */
  async restore(seq) {
    try {
      const answer = await post("restore", { client: this.client, seq, token: randomText() });
      this.#forgetSteps();
      await this.#reload(answer);
      this.speak("Back at the earlier moment.");
    } catch (error) {
      this.notices.say("restore", `Going back did not work: ${error.message}.`);
    }
  }

  /**
   * Take another skeleton, and label the keypoints that were clicked.
   *
   * @param {object} body
   * @param {{name: string, row: number, place: [number, number]}[]} places
   */
  async changeSkeleton(body, places) {
    const answer = await post("skeleton", { client: this.client, base: this.revision, ...body });
    this.#forgetSteps();
    await this.#reload(answer, answer.skeleton);
    for (const { name, row, place: [x, y] } of places) {
      await this.rows.get(row);
      const edit = { kind: "move", keypoint: name, x, y };
      this.#push("edit", { changes: [{ row, edit }] }, edit, row);
    }
    if (this.state) this.#chooseFirst(this.state);
  }

  #forgetSteps() {
    this.#done = [];
    this.#undone = [];
  }

  /** After a change of many images or of the skeleton. */
  async #reload(answer, skeleton = null) {
    this.revision = Math.max(this.revision, answer.revision);
    this.#count(answer);
    if (skeleton) this.#takeSkeleton(skeleton);
    this.rows.forget();
    await this.rows.refresh(null);
    await this.rows.get(this.row);
    this.#shown(this.row);
    this.emit("changed");
  }

  #takeSkeleton(skeleton) {
    this.set.skeleton = skeleton;
    this.looks = looks(skeleton);
    this.active = Math.min(this.active, skeleton.names.length - 1);
    this.emit("set");
  }

  // -- what comes back ---------------------------------------------------------------------------

  #listenToParts() {
    this.queue.on("answer", ({ operation, answer }) => this.#answered(operation, answer));
    this.queue.on("conflict", ({ operation, conflict }) => this.#conflicted(operation, conflict));
    this.queue.on("adopted", (rows) => rows.forEach((row) => this.#shown(row ?? this.row)));
    this.queue.on("discarded", (operation) => this.#shown(operation.row ?? this.row));
    this.rows.on("state", (row) => {
      if (row !== this.row) return;
      this.stage.redrawMarks();
      this.emit("state");
    });
    this.settings.on("change", (names) => {
      if (names.includes("adjustment")) this.adjust();
      this.loupe.on = this.settings.values.loupe;
      this.loupe.show(this.pointer.place);
      this.stage.redrawMarks();
    });
    this.loupe.on = this.settings.values.loupe;
    this.stage.overlays.push((context) => this.#drawDraft(context));
  }

  #answered(operation, answer) {
    this.#count(answer);
    if (answer.nothing) {
      if (operation.row !== null) this.#shown(operation.row);
      this.notices.brief(operation.path === "undo" ? "There is nothing to undo." : "There is nothing to redo.");
      return;
    }
    this.revision = Math.max(this.revision, answer.revision);
    const stepped = operation.path === "undo" || operation.path === "redo";
    if (stepped && !answer.rows.length) {
      this.#refreshSet();
      return;
    }
    if (answer.state) this.rows.put(answer.state);
    const others = answer.rows.slice(1);
    if (others.length) this.rows.refresh(others.length > 50 ? null : others);
    if (stepped && answer.rows.length && !answer.rows.includes(this.row)) this.go(answer.rows[0]);
    if (answer.merged) this.notices.brief("Somebody else works on this image, too; both changes are kept.");
    this.#shown(operation.row ?? this.row);
    this.emit("changed");
  }

  #count(answer) {
    if (answer.undo === undefined) return;
    this.steps = { undo: answer.undo, redo: answer.redo };
    this.emit("steps");
  }

  async #conflicted(operation, conflict) {
    const row = conflict.row ?? operation.row;
    const picture = row === null ? null : await this.images.get(row).catch(() => null);
    const drawing = { skeleton: this.skeleton, looks: this.looks, ratio: 1, size: this.settings.values.size };
    showConflict({
      conflict,
      operation,
      picture,
      drawing,
      mine: () => this.queue.insist(conflict.revision),
      theirs: () => this.#giveWay(operation, conflict),
    });
  }

  /** Leave out this edit and those behind it that touch the same. */
  #giveWay(operation, conflict) {
    const parts = new Set(conflict.parts);
    if (conflict.theirs) this.rows.put(conflict.theirs);
    this.#forgetSteps();
    this.queue.discard(
      (other) =>
        other.row === operation.row &&
        other.shown !== null &&
        [...partsOf(other.shown, this.skeleton)].some((part) => parts.has(part)),
      conflict.revision,
    );
    if (conflict.row === null || !conflict.theirs) this.#refreshSet();
  }

  /** Something was done here or elsewhere. */
  async #changed({ rows, client, revision = 0 }) {
    this.revision = Math.max(this.revision, revision);
    const own = client === this.client && rows !== null;
    if (!own) {
      if (rows === null) await this.#refreshSet();
      else await this.rows.refresh(rows);
    }
    this.emit("changed");
  }

  /** What is to be known of the set has changed. @param {string[]} warnings */
  #warned(warnings) {
    this.set.warnings = warnings;
    this.notices.welcome();
  }

  #caughtUp(revision) {
    // A revision that nobody told us of: the line was cut for a moment.
    if (revision > this.revision && !this.queue.waiting.length) {
      this.#changed({ rows: null, client: "", revision });
    }
  }

  async #refreshSet() {
    try {
      const set = await get("set");
      const grown = set.n !== this.set.n;
      const renamed = set.skeleton.seq !== this.skeleton.seq;
      this.set = { ...set, skeleton: this.skeleton };
      this.revision = Math.max(this.revision, set.revision);
      if (renamed) this.#takeSkeleton(set.skeleton);
      this.rows.forget();
      if (grown) await this.rows.load();
      else await this.rows.refresh(null);
      if (this.row >= 0) await this.rows.get(this.row);
      if (this.row < 0 && set.n) await this.go(0);
      this.#shown(this.row);
      this.notices.welcome();
    } catch {
      // The line is cut; when it stands again this is done again.
    }
  }

  #shown(row) {
    this.rows.touched(row);
    this.stage.redrawMarks();
  }

  // -- the stage ---------------------------------------------------------------------------------

  #scene() {
    let state = this.state;
    if (state && this.preview) {
      const { name, x, y } = this.preview;
      state = applyEdit(state, { kind: "move", keypoint: name, x, y }, this.skeleton);
    }
    const { names, size, guesses } = this.settings.values;
    return {
      state,
      guesses,
      drawing: { skeleton: this.skeleton, looks: this.looks, ratio: this.stage.ratio, size, names, active: this.clicking ? -1 : this.active, hover: this.hover },
    };
  }

  #pointerActs() {
    const name = (index) => this.skeleton.names[index];
    return {
      marks: () => {
        if (!this.state || this.clicking) return [];
        return marksOf(this.state, this.skeleton, this.settings.values.guesses);
      },
      active: () => this.active,
      placeAt: (x, y) => {
        this.focusStage();
        if (this.clicking) this.clicking(round(x), round(y));
        else if (this.stage.picture) {
          this.ahead.do("place", () => {
            this.move(this.activeName, x, y);
            this.speak(`${this.activeName} at ${x.toFixed(1)}, ${y.toFixed(1)}`);
            this.advance();
          });
        }
      },
      select: (index) => this.select(index),
      pressed: (index) => {
        this.focusStage();
        const guess = !isAnnotated(this.state?.points[name(index)]);
        if (index === this.active && guess && this.confirm([name(index)])) this.advance();
        else this.select(index);
      },
      preview: (index, x, y) => {
        if (index < 0) this.preview = null;
        else {
          this.preview = { name: name(index), x, y };
          if (index !== this.active) this.select(index);
        }
        this.stage.redrawMarks();
      },
      moveTo: (index, x, y) => {
        this.focusStage();
        this.preview = null;
        this.move(name(index), x, y);
      },
      hover: (index) => {
        if (index === this.hover) return;
        this.hover = index;
        this.stage.host.classList.toggle("over-mark", index >= 0);
        this.stage.redrawMarks();
      },
      moved: (place) => {
        this.loupe.show(place);
        this.#showPlace(place);
      },
      viewed: () => this.viewed(),
    };
  }

  /** The view has changed. */
  viewed() {
    this.stage.redraw();
    this.showScale();
  }

  showScale() {
    byId("scale").textContent = `${Math.round((this.stage.view.scale / this.stage.ratio) * 100)} %`;
  }

  #showPlace(place) {
    const text = byId("where");
    if (!place || !this.stage.picture) {
      text.textContent = "";
      return;
    }
    const [x, y] = this.stage.view.toImage(...place);
    text.textContent = `${x.toFixed(1)}, ${y.toFixed(1)}`;
  }

  /** Brightness and contrast by the browser, local contrast by us. */
  adjust() {
    const filter = filterOf(this.settings.values.adjustment);
    this.stage.image.style.filter = filter;
    this.loupe.canvas.style.filter = filter;
    if (this.row >= 0) this.#show(this.images.peek(this.row));
  }

  /** Clicks on the image go there and label nothing. @param {App["clicking"]} taker */
  setClicking(taker) {
    if (this.clicking === taker) return;
    this.clicking = taker;
    const text = byId("overhead");
    text.hidden = taker === null;
    text.textContent = "Click on the image to add keypoints.";
    this.stage.redrawMarks();
    this.emit("clicking");
  }

  /** Keypoints of a skeleton that is being made. */
  setDraftPlaces(items) {
    this.#draft = items.filter(({ place, origin }) => place && origin === null);
    this.stage.redrawMarks();
  }

  #drawDraft(context) {
    const { ratio, view } = this.stage;
    context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    for (const { name, place, row } of this.#draft) {
      if (row !== this.row) continue;
      const [x, y] = view.toDevice(...place);
      for (const [width, colour] of [[5, "rgb(0 0 0 / 0.6)"], [2, "#fff"]]) {
        context.lineWidth = Number(width) * ratio;
        context.strokeStyle = String(colour);
        context.beginPath();
        context.arc(x, y, 6 * ratio, 0, 2 * Math.PI);
        context.stroke();
      }
      context.lineWidth = 3 * ratio;
      context.strokeStyle = "rgb(0 0 0 / 0.65)";
      context.strokeText(name, x + 10 * ratio, y);
      context.fillStyle = "#fff";
      context.fillText(name, x + 10 * ratio, y);
    }
  }

  // -- the rest ----------------------------------------------------------------------------------

  /** @param {string} action As in the table of keys. */
  run(action) {
    this.ahead.do(action, () => runCommand(this, action));
  }

  focusStage() {
    this.stage.host.focus({ preventScroll: true });
  }

  /** Tell those who hear the page. @param {string} text */
  speak(text) {
    byId("spoken").textContent = text;
  }

  #describeActive() {
    const point = this.state?.points[this.activeName];
    if (!isAnnotated(point)) return `${this.activeName}, not labelled`;
    return point[0] === null ? `${this.activeName}, absent` : `${this.activeName} at ${point[0]}, ${point[1]}`;
  }

  #progress() {
    const { state } = this;
    if (!state) return "";
    const done = this.skeleton.names.filter((name) => isAnnotated(state.points[name])).length;
    return `${done} of ${this.skeleton.names.length} keypoints labelled${state.finished ? ", finished" : ""}.`;
  }

  #remember() {
    try {
      sessionStorage.setItem(`${PLACE}|${this.set.set_id}`, String(this.row));
    } catch {
      // A browser that keeps nothing.
    }
  }

  /** The image shown before a reload, else the first that is not finished. */
  #remembered() {
    try {
      const row = Number(sessionStorage.getItem(`${PLACE}|${this.set.set_id}`) ?? -1);
      if (row >= 0 && row < this.rows.length) return row;
    } catch {
      // A browser that keeps nothing.
    }
    return this.rows.nextUnlabelled(-1) ?? 0;
  }
}

/** To a thousandth of a pixel: what a hand can mean, and short in the file. */
const round = (value) => Math.round(value * 1000) / 1000;
