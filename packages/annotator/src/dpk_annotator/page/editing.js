/** Edits: shown at once and sent in order; taken back and done again; decided about where two meet. */

import { showConflict } from "./conflict.js";
import { applyEdit, confirmable, difference, isNothing, partsOf } from "./labels.js";

/** More images than these are asked for all at once. */
const MOST_ROWS = 50;
/** Edits that are about the image as a whole. */
const MARKS = new Set(["flag", "note", "finished"]);

export class Editing {
  /** How many steps can be taken back and done again; null while unknown. */
  steps = { undo: null, redo: null };
  /** What this tab did last, to show at once what an undo will bring. */
  #done = /** @type {{row: number, before: any}[]} */ ([]);
  #undone = /** @type {{row: number, before: any}[]} */ ([]);

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    const { queue } = app;
    queue.on("answer", ({ operation, answer }) => this.#answered(operation, answer));
    queue.on("conflict", ({ operation, conflict }) => this.#conflicted(operation, conflict));
    queue.on("adopted", (rows) => rows.forEach((row) => app.touched(row ?? app.row)));
    queue.on("discarded", (operation) => app.touched(operation.row ?? app.row));
  }

  /**
   * Do something to an image.
   *
   * @param {import("./labels.js").Edit} edit
   * @param {number} row
   */
  edit(edit, row) {
    const { rows, skeleton, queue } = this.app;
    const state = rows.state(row);
    if (!state || !this.#mayEdit(!MARKS.has(edit.kind)) || isNothing(difference(state, applyEdit(state, edit, skeleton)))) return;
    this.#done.push({ row, before: state });
    this.#undone = [];
    queue.push("edit", { base: rows.confirmed(row).revision, changes: [{ row, edit }] }, row, edit);
    this.app.touched(row);
  }

  /**
   * Guesses of the image on the stage become labels.
   *
   * @param {string[]|null} keypoints
   */
  confirm(keypoints) {
    const { state, row } = this.app;
    const points = state ? confirmable(state, keypoints, 0) : {};
    if (!Object.keys(points).length) return false;
    // The places that were seen, for the model may have guessed anew before this arrives.
    this.edit({ kind: "confirm", points }, row);
    return true;
  }

  undo() {
    this.#takeBack("undo", this.#done, this.#undone);
  }

  redo() {
    this.#takeBack("redo", this.#undone, this.#done);
  }

  /** What an undo brings is not known any more. */
  forget() {
    this.#done = [];
    this.#undone = [];
  }

  /** Take the numbers of steps from what the server answers. */
  count(answer) {
    if (answer.undo === undefined) return;
    this.steps = { undo: answer.undo, redo: answer.redo };
    this.app.emit("steps");
  }

  /** @param {boolean} [labels] Whether it is about keypoints. */
  #mayEdit(labels = false) {
    const { readOnly, notices, skeleton } = this.app;
    const nameless = labels && skeleton.placeholder;
    if (readOnly) notices.readOnly();
    else if (nameless) notices.brief("This set has no skeleton yet: make one in the Skeleton tab, then label.");
    return !readOnly && !nameless;
  }

  #takeBack(path, from, to) {
    const { app } = this;
    if (!this.#mayEdit()) return;
    app.keyboard.settle();
    const step = from.pop();
    const now = step && app.rows.state(step.row);
    if (!step || !now) {
      app.queue.push(path, { base: 0 }, null, null);
      return;
    }
    to.push({ row: step.row, before: now });
    // As made on what this tab has seen: what others did since is theirs.
    app.queue.push(path, { base: 0 }, step.row, difference(now, step.before));
    if (step.row !== app.row) app.go(step.row);
    app.touched(step.row);
  }

  #answered(operation, answer) {
    const { app } = this;
    this.count(answer);
    if (answer.nothing) {
      if (operation.row !== null) app.touched(operation.row);
      app.notices.brief(operation.path === "undo" ? "There is nothing to undo." : "There is nothing to redo.");
      return;
    }
    app.news.reached(answer.revision);
    const stepped = operation.path === "undo" || operation.path === "redo";
    if (stepped && !answer.rows.length) {
      app.news.refreshSet();
      return;
    }
    if (answer.state) app.rows.put(answer.state);
    const others = answer.rows.slice(1);
    if (others.length) app.rows.refresh(others.length > MOST_ROWS ? null : others);
    if (stepped && answer.rows.length && !answer.rows.includes(app.row)) app.go(answer.rows[0]);
    if (answer.merged) app.notices.brief("Somebody else works on this image, too; both changes are kept.");
    app.touched(operation.row ?? app.row);
    app.emit("changed");
  }

  async #conflicted(operation, conflict) {
    const { app } = this;
    const row = conflict.row ?? operation.row;
    const picture = row === null ? null : await app.images.get(row).catch(() => null);
    const drawing = { skeleton: app.skeleton, looks: app.looks, ratio: 1, size: app.settings.values.size };
    showConflict({
      conflict,
      operation,
      picture,
      drawing,
      mine: () => app.queue.insist(conflict.revision),
      theirs: () => this.#giveWay(operation, conflict),
    });
  }

  /** Leave out this edit and those behind it that touch the same. */
  #giveWay(operation, conflict) {
    const { app } = this;
    const parts = new Set(conflict.parts);
    if (conflict.theirs) app.rows.put(conflict.theirs);
    this.forget();
    app.queue.discard(
      (other) =>
        other.row === operation.row &&
        other.shown !== null &&
        [...partsOf(other.shown, app.skeleton)].some((part) => parts.has(part)),
      conflict.revision,
    );
    if (conflict.row === null || !conflict.theirs) app.news.refreshSet();
  }
}
