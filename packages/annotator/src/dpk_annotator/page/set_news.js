/** The set as a whole, as the server has it now: changed by others, gone back, given another skeleton. */

import { Refusal, get, listen, post, randomText } from "./api.js";
import { giveOnRequest } from "./client.js";
import { looks } from "./colours.js";

export class SetNews {
  /** @type {"open"|"cut"|"ended"} Whether the server is heard; "ended" when this address is no longer its. */
  line = "open";
  #asked = 0;

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.revision = app.set.revision;
  }

  /** Hear what is done here or elsewhere, from now on. */
  listen() {
    const { app } = this;
    listen(app.client, {
      changed: (change) => this.#changed(change),
      ping: (ping) => {
        this.#lineIs("open");
        this.#caughtUp(ping?.revision);
      },
      job: (job) => app.emit("job", job),
      warnings: ({ warnings }) => this.#warned(warnings),
      cut: () => this.#heardNothing(),
      back: () => {
        this.#lineIs("open");
        this.#changed({ rows: null, client: "" });
      },
    });
    app.queue.on("refused", ({ error }) => {
      if (error.status === 403) this.#lineIs("ended");
    });
    giveOnRequest(app.client, async () => {
      await this.#heardNothing();
      const needed = this.line !== "ended" || app.queue.waiting.length > 0;
      // What is done here from now on is somebody else's.
      if (!needed) app.client = app.queue.client = `${app.client}-${randomText().slice(0, 8)}`;
      return needed;
    });
  }

  /** Ask whether the server is there, and whether it still knows this page. */
  async #heardNothing() {
    this.#asked += 1;
    const asked = this.#asked;
    try {
      await get("set");
      if (asked === this.#asked) this.#lineIs("open");
    } catch (error) {
      if (asked === this.#asked) this.#lineIs(error instanceof Refusal && error.status === 403 ? "ended" : "cut");
    }
  }

  /** @param {SetNews["line"]} line */
  #lineIs(line) {
    this.#asked += 1; // an answer to an earlier question is out of date
    if (this.line === line) return;
    this.line = line;
    this.app.emit("line");
  }

  /** @param {number} revision */
  reached(revision) {
    this.revision = Math.max(this.revision, revision);
  }

  /** All labels as they were after a moment. @param {number} seq */
  async restore(seq) {
    const { app } = this;
    try {
      const answer = await post("restore", { client: app.client, seq, token: randomText() });
      app.editing.forget();
      await this.#reload(answer);
      app.speak("Back at the earlier moment.");
    } catch (error) {
      app.notices.say("restore", `Going back did not work: ${error.message}.`);
    }
  }

  /**
   * Take another skeleton, and label the keypoints that were clicked.
   *
   * @param {object} body
   * @param {{name: string, row: number, place: [number, number]}[]} places
   */
  async changeSkeleton(body, places) {
    const { app } = this;
    const answer = await post("skeleton", { client: app.client, base: this.revision, ...body });
    app.editing.forget();
    await this.#reload(answer, answer.skeleton);
    for (const { name, row, place: [x, y] } of places) {
      await app.rows.get(row);
      app.editing.edit({ kind: "move", keypoint: name, x, y }, row);
    }
    app.chooseFirst();
  }

  /** Ask for everything anew. */
  async refreshSet() {
    const { app } = this;
    try {
      const set = await get("set");
      const grown = set.n !== app.set.n;
      const renamed = set.skeleton.seq !== app.skeleton.seq;
      app.set = { ...set, skeleton: app.skeleton };
      this.reached(set.revision);
      if (renamed) this.#takeSkeleton(set.skeleton);
      app.rows.forget();
      if (grown) await app.rows.load();
      else await app.rows.refresh(null);
      if (app.row >= 0) await app.rows.get(app.row);
      if (app.row < 0 && set.n) await app.go(0);
      app.touched(app.row);
      app.notices.welcome();
    } catch {
      // The line is cut; when it stands again this is done again.
    }
  }

  /** After a change of many images or of the skeleton. */
  async #reload(answer, skeleton = null) {
    const { app } = this;
    this.reached(answer.revision);
    app.editing.count(answer);
    if (skeleton) this.#takeSkeleton(skeleton);
    app.rows.forget();
    await app.rows.refresh(null);
    await app.rows.get(app.row);
    app.touched(app.row);
    app.emit("changed");
  }

  #takeSkeleton(skeleton) {
    const { app } = this;
    app.set.skeleton = skeleton;
    app.looks = looks(skeleton);
    app.active = Math.min(app.active, skeleton.names.length - 1);
    app.emit("set");
  }

  /** Something was done here or elsewhere. */
  async #changed({ rows, client, revision = 0 }) {
    const { app } = this;
    this.reached(revision);
    const own = client === app.client && rows !== null;
    if (!own) {
      if (rows === null) await this.refreshSet();
      else await app.rows.refresh(rows);
    }
    app.emit("changed");
  }

  /** What is to be known of the set has changed. @param {string[]} warnings */
  #warned(warnings) {
    this.app.set.warnings = warnings;
    this.app.notices.welcome();
  }

  #caughtUp(revision) {
    // A revision that nobody told us of: the line was cut for a moment.
    if (revision > this.revision && !this.app.queue.waiting.length) {
      this.#changed({ rows: null, client: "", revision });
    }
  }
}
