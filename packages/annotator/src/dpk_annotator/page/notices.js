/** Short words to the user above the image, and the mark that says whether all is saved. */

import { button, element } from "./dom.js";

const BRIEF = 3500;

export class Notices {
  #timer = 0;
  #dismissed = new Set();

  /**
   * @param {HTMLElement} host
   * @param {import("./app.js").App} app
   */
  constructor(host, app) {
    this.host = host;
    this.app = app;
    this.mark = document.getElementById("save");
    this.text = document.getElementById("save-text");
    app.queue.on("status", () => this.#status());
    app.on("line", () => this.#status());
    app.queue.on("refused", ({ error }) => this.#refused(error));
    addEventListener("beforeunload", (event) => {
      // Unsent edits come back with the page, unless this browser keeps nothing.
      if (app.queue.waiting.length && !app.queue.kept) event.preventDefault();
    });
  }

  /** What is to be known of the set. */
  welcome() {
    const { set } = this.app;
    if (set.read_only) this.say("read-only", `This set can only be looked at: ${set.reason ?? "it is read-only"}.`);
    this.#warn(set.warnings ?? []);
    if (set.n === 0) this.say("empty", "There are no images in this set yet.");
  }

  /** Say these, and no longer those that have passed. @param {string[]} warnings */
  #warn(warnings) {
    const keys = warnings.map((warning) => `warning ${warning}`);
    for (const made of [...this.host.children]) {
      const { key } = /** @type {HTMLElement} */ (made).dataset;
      if (key.startsWith("warning ") && !keys.includes(key)) made.remove();
    }
    warnings.forEach((warning, i) => this.say(keys[i], warning));
  }

  /** Words that go by themselves. @param {string} text */
  brief(text) {
    let made = document.getElementById("brief");
    if (!made) {
      made = element("p", { id: "brief", class: "brief", role: "status" });
      document.getElementById("stage").append(made);
    }
    made.textContent = text;
    made.hidden = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      made.hidden = true;
    }, BRIEF);
  }

  readOnly() {
    this.brief(`This set can only be looked at: ${this.app.set.reason ?? "it is read-only"}.`);
  }

  /**
   * Words that stay until they are put away.
   *
   * @param {string} key What it is about: a second one about the same takes its place.
   * @param {string} text
   * @param {HTMLButtonElement[]} [buttons]
   */
  say(key, text, buttons = []) {
    const same = [...this.host.children].find((made) => /** @type {HTMLElement} */ (made).dataset.key === key);
    if (same?.firstElementChild.textContent === text || this.#dismissed.has(`${key} ${text}`)) return;
    this.unsay(key);
    const close = button("Put away", () => {
      this.#dismissed.add(`${key} ${text}`);
      made.remove();
    }, { class: "quiet small" });
    const made = element("p", { class: "notice", "data-key": key }, element("span", { text }), ...buttons, buttons.length ? null : close);
    this.host.append(made);
  }

  /** @param {string} key */
  unsay(key) {
    for (const made of [...this.host.children]) {
      if (/** @type {HTMLElement} */ (made).dataset.key === key) made.remove();
    }
  }

  #status() {
    const { queue } = this.app;
    const n = queue.waiting.length;
    const edits = `${n} ${n === 1 ? "edit" : "edits"}`;
    const { line } = this.app.news;
    if (line === "ended") this.#ended();
    else this.unsay("ended");
    if (queue.status === "saved" && line !== "open") {
      this.mark.dataset.status = "offline";
      this.text.textContent = "Offline";
      this.mark.title = "All edits are on the disk, but the server cannot be reached now.";
      return;
    }
    this.mark.dataset.status = queue.status;
    this.text.textContent = {
      saved: "Saved",
      saving: "Saving…",
      offline: `Offline, ${edits} kept`,
      refused: `${edits} not saved`,
      conflict: "Waits for you",
    }[queue.status];
    this.mark.title = {
      saved: "All edits are on the disk.",
      saving: `${edits} on the way.`,
      offline: "The server cannot be reached. The edits are kept in this browser and sent when it is back.",
      refused: queue.message,
      conflict: queue.message,
    }[queue.status];
    if (queue.status !== "refused") this.unsay("refused");
    if (!queue.kept && n) this.say("kept", "This browser keeps nothing: leave the page open until all is saved.");
  }

  #refused(error) {
    const { queue } = this.app;
    const passing = [423, 500, 507].includes(error.status);
    if (error.status === 403) return; // said by what is said of the line
    const text = `Not saved: ${error.message}.${passing ? " It is tried again; your edits are kept." : ""}`;
    const again = button("Try again", () => queue.retry(), { class: "quiet framed" });
    const leave = button("Leave this edit out", () => queue.discard(), { class: "quiet framed" });
    this.say("refused", text.replace(/\.\.$/, "."), passing ? [again] : [again, leave]);
  }

  /** The server was started anew: it has another address. */
  #ended() {
    const { queue } = this.app;
    const kept = queue.waiting.length ? ": your edits are kept and go there" : "";
    const again = button("Try again", () => queue.retry(), { class: "quiet framed" });
    const text = `This address is not valid any more. Open the one that dpk annotate shows now and close this tab${kept}.`;
    this.say("ended", text, queue.waiting.length ? [again] : []);
  }
}
