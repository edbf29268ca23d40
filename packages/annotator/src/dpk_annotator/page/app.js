/**
 * The page as a whole: its rooms, and what they and the panels ask of each other. Which image and
 * keypoint are active is known here; what is done to them is done in the rooms.
 *
 * Emits `row`, `state`, `active`, `set`, `clicking`, `note`, `steps`, `changed`, `line`,
 * `suggested` and `job`.
 */

import { Ahead } from "./ahead.js";
import { hold } from "./client.js";
import { looks } from "./colours.js";
import { runCommand } from "./commands.js";
import { Editing } from "./editing.js";
import { Emitter } from "./emitter.js";
import { handOn, round } from "./hand.js";
import { Images } from "./images.js";
import { KeyHandler } from "./keyboard.js";
import { Keys } from "./keys.js";
import { isAnnotated } from "./labels.js";
import { Loupe } from "./loupe.js";
import { markOf } from "./marks.js";
import { Notices } from "./notices.js";
import { PANELS } from "./panels.js";
import { Pointer } from "./pointer.js";
import { EditQueue } from "./queue.js";
import { Rows } from "./rows.js";
import { Scene } from "./scene.js";
import { SetNews } from "./set_news.js";
import { Settings } from "./settings.js";
import { Showing } from "./showing.js";
import { Spoken } from "./spoken.js";
import { Stage } from "./stage.js";
import { Tabs } from "./tabs.js";
import { Thumbs } from "./thumbs.js";
import { TopBar } from "./topbar.js";

/** Pixels before the image, and behind it, to which a label may be moved. */
const [BEFORE, BEHIND] = [900, 1000];

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

export class App extends Emitter {
  row = -1;
  /** Index of the keypoint that the next click places. */
  active = 0;
  hover = -1;
  /** Pixels that W, A, S, D move by. */
  step = 1;
  /** A keypoint on its way under the pointer. @type {{name: string, x: number, y: number}|null} */
  preview = null;
  /** Takes clicks on the image in place of labelling. @type {((x: number, y: number) => void)|null} */
  clicking = null;

  /**
   * @param {any} set As the server describes it.
   * @param {string} client
   */
  constructor(set, client) {
    super();
    this.set = set;
    this.client = client;
    this.looks = looks(set.skeleton);
    this.settings = new Settings();
    this.keys = new Keys();
    this.queue = new EditQueue(set.set_id, client);
    this.rows = new Rows(this.queue, () => this.skeleton);
    this.images = new Images(set.set_id);
    this.notices = new Notices(byId("notices"), this);
    this.spoken = new Spoken(this);
    this.stage = new Stage(byId("stage"), () => this.scene.now());
    this.scene = new Scene(this);
    this.loupe = new Loupe(this.stage.host.querySelector("canvas.loupe"), this.stage);
    this.showing = new Showing(this);
    this.editing = new Editing(this);
    this.news = new SetNews(this);
  }

  async start() {
    await this.rows.load();
    this.rows.on("state", (row) => {
      if (row !== this.row) return;
      // Many were changed, and all are forgotten: that of the one in sight is asked for at once.
      if (!this.state) this.rows.get(row).catch(() => {});
      this.stage.redrawMarks();
      this.loupe.show(this.pointer.place);
      this.emit("state");
    });
    this.settings.on("change", (names) => this.#dress(names));
    this.loupe.on = this.settings.values.loupe;
    this.pointer = new Pointer(this.stage, handOn(this));
    this.keyboard = new KeyHandler(this);
    this.ahead = new Ahead(this);
    this.thumbs = new Thumbs(byId("strip"), this.rows, this.set.set_id, (row) => this.go(row));
    this.topbar = new TopBar(this);
    const panels = PANELS.filter(({ feature }) => !feature || this.set.features.includes(feature));
    this.tabs = new Tabs(byId("tabs"), byId("panels"), panels.map((panel) => ({ ...panel, view: panel.create(this) })));
    this.queue.recover(hold);
    this.news.listen();
    this.adjust();
    const first = this.showing.remembered();
    if (this.rows.length) await this.go(first);
    if (this.skeleton.placeholder) this.tabs.choose("skeleton");
    this.focusStage();
    this.notices.welcome();
  }

  // -- what there is -----------------------------------------------------------------------------

  get skeleton() {
    return this.set.skeleton;
  }

  get readOnly() {
    return this.set.read_only;
  }

  get revision() {
    return this.news.revision;
  }

  /** The labels of the image on the stage, with what is on its way; null while they come. */
  get state() {
    return this.rows.state(this.row);
  }

  get activeName() {
    return this.skeleton.names[this.active];
  }

  /** How many steps can be taken back and done again; null while unknown. */
  get steps() {
    return this.editing.steps;
  }

  /** Done when the image on the stage and its labels are here, or could not be had. */
  get arrival() {
    return this.showing.arrival;
  }

  // -- images ------------------------------------------------------------------------------------

  /** Show an image. @param {number} row */
  go(row) {
    return this.showing.go(row);
  }

  /** @param {number} steps In the order of the filter. */
  goBy(steps) {
    this.go(this.rows.step(this.row, steps));
  }

  /** Brightness and contrast as chosen. */
  adjust() {
    this.showing.adjust();
  }

  // -- keypoints ---------------------------------------------------------------------------------

  /** @param {number} index */
  select(index) {
    const n = this.skeleton.names.length;
    this.keyboard.settle();
    this.active = ((index % n) + n) % n;
    this.stage.redrawMarks();
    this.emit("active");
    this.speak(this.spoken.active());
  }

  /** The first keypoint that nobody has dealt with, for a fresh image starts there. */
  chooseFirst() {
    const { state } = this;
    if (!state) return;
    this.active = Math.max(0, this.skeleton.names.findIndex((name) => !isAnnotated(state.points[name])));
    this.emit("active");
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

  /** Bring a keypoint into sight. @param {number} index */
  lookAt(index) {
    const mark = this.state && markOf(this.state, this.skeleton.names[index]);
    if (!mark) return;
    this.stage.view.centre(mark.x, mark.y);
    this.stage.view.fitted = false;
    this.viewed();
  }

  // -- edits -------------------------------------------------------------------------------------

  /**
   * Do something to the image on the stage: shown at once, sent in order.
   *
   * @param {import("./labels.js").Edit} edit
   */
  edit(edit) {
    this.editing.edit(edit, this.row);
  }

  /**
   * Move a keypoint to a place in the image.
   *
   * @param {string} name
   * @param {number} x
   * @param {number} y
   */
  move(name, x, y) {
    const { imageWidth, imageHeight } = this.stage.view;
    const within = (value, size) => Math.min(size + BEHIND, Math.max(-BEFORE, round(value)));
    this.edit({ kind: "move", keypoint: name, x: within(x, imageWidth), y: within(y, imageHeight) });
  }

  /** Guesses become labels. @param {string[]|null} keypoints */
  confirm(keypoints) {
    return this.editing.confirm(keypoints);
  }

  /** @param {string} text */
  setNote(text) {
    this.ahead.do("write", () => {
      if (this.state && text !== this.state.note) this.edit({ kind: "note", note: text });
    });
  }

  undo() {
    this.editing.undo();
  }

  redo() {
    this.editing.redo();
  }

  /** All labels as they were after a moment. @param {number} seq */
  restore(seq) {
    return this.news.restore(seq);
  }

  /**
   * Take another skeleton, and label the keypoints that were clicked.
   *
   * @param {object} body
   * @param {{name: string, row: number, place: [number, number]}[]} places
   */
  changeSkeleton(body, places) {
    return this.news.changeSkeleton(body, places);
  }

  /** The labels of an image are others now. @param {number} row */
  touched(row) {
    this.rows.touched(row);
    this.stage.redrawMarks();
  }

  // -- the stage ---------------------------------------------------------------------------------

  /** The view has changed. */
  viewed() {
    this.stage.redraw();
    this.showScale();
  }

  showScale() {
    const { picture, view, ratio } = this.stage;
    byId("scale").textContent = picture ? `${Math.round((view.scale / ratio) * 100)} %` : "";
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
    this.scene.setDraft(items);
  }

  focusStage() {
    this.stage.host.focus({ preventScroll: true });
  }

  #dress(names) {
    if (names.includes("adjustment")) this.adjust();
    this.loupe.on = this.settings.values.loupe;
    this.loupe.show(this.pointer.place);
    this.stage.redrawMarks();
  }

  // -- the rest ----------------------------------------------------------------------------------

  /** @param {string} action As in the table of keys. */
  run(action) {
    this.ahead.do(action, () => {
      this.keyboard.settle(); // also what a key moved that had to wait itself
      return runCommand(this, action);
    });
  }

  /** Tell those who hear the page. @param {string} text */
  speak(text) {
    this.spoken.say(text);
  }
}
