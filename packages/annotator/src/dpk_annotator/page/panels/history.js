/** What was done, and the way back to any moment. */

import { get } from "../api.js";
import { button, element, openDialog } from "../dom.js";

const PAGE = 100;

/** @type {import("../panels.js").Panel} */
export const historyPanel = { id: "history", title: "History", icon: "M2.6 6.2a5.8 5.8 0 1 1-.4 2.6M2.2 2.6v3.8H6M8 4.9v3.4l2.3 1.5", create: (app) => new HistoryPanel(app) };

class HistoryPanel {
  #oldest = 0;
  #timer = 0;

  /** @param {import("../app.js").App} app */
  constructor(app) {
    this.app = app;
    this.list = element("ol", { class: "history", reversed: true });
    this.moments = element("ul", { class: "history moments" });
    this.more = button("Earlier", () => this.#load(this.#oldest), { class: "quiet framed wide" });
    this.said = element("p", { class: "hint", role: "status" });
    this.element = element(
      "section",
      { class: "history-panel" },
      element("h2", { text: "What was done" }),
      element("p", { class: "hint", text: "Going back is a step like any other: it can be undone." }),
      this.said,
      this.list,
      this.more,
      element("h2", { text: "Moments" }),
      this.moments,
    );
    app.on("changed", () => {
      clearTimeout(this.#timer);
      if (!this.element.hidden) this.#timer = setTimeout(() => this.#load(null), 300);
    });
  }

  shown() {
    this.#load(null);
  }

  /** @param {number|null} before */
  async #load(before) {
    let found;
    try {
      found = await get(`history?limit=${PAGE}${before === null ? "" : `&before=${before}`}`);
    } catch (error) {
      this.said.textContent = `The history could not be read: ${error.message}.`;
      return;
    }
    this.said.textContent = "";
    if (before === null) this.list.replaceChildren();
    this.list.append(...found.entries.map((entry) => this.#entry(entry)));
    if (!this.list.childElementCount) this.said.textContent = "Nothing was done yet.";
    this.more.hidden = found.entries.length < PAGE;
    this.#oldest = found.entries.at(-1)?.seq ?? 0;
    this.moments.replaceChildren(...(found.moments ?? []).map((moment) => this.#moment(moment)));
  }

  #entry(entry) {
    const where = entry.row === null ? "the set" : `image ${entry.row}`;
    return element(
      "li",
      {},
      element("span", { class: "text", text: `${where}: ${entry.text}` }),
      element("span", { class: "by", title: entry.client, text: `${entry.seq} · ${time(entry.time)}, ${entry.client}` }),
      element(
        "span",
        { class: "acts" },
        entry.row === null ? null : button("Look", () => this.app.go(entry.row), { class: "quiet small" }),
        this.app.readOnly ? null : button("Go back here", () => this.#ask(entry.seq, `after “${entry.text}”`), { class: "quiet small" }),
      ),
    );
  }

  #moment(moment) {
    return element(
      "li",
      {},
      element("span", { class: "text", text: moment.text }),
      element("span", { class: "by", text: moment.time === null ? "" : time(moment.time) }),
      element("span", { class: "acts" }, this.app.readOnly ? null : button("Go back here", () => this.#ask(moment.seq, moment.text), { class: "quiet small" })),
    );
  }

  #ask(seq, text) {
    const dialog = openDialog("Go back?", [
      element("p", { text: `All labels become what they were ${text}. What was done since is not lost: this step can be undone.` }),
      element(
        "div",
        { class: "buttons" },
        button("Leave it", () => dialog.close(), { class: "quiet framed" }),
        button("Go back", async () => {
          dialog.close();
          await this.app.restore(seq);
          this.#load(null);
        }, { class: "primary" }),
      ),
    ]);
  }
}

/** @param {number} seconds */
function time(seconds) {
  const date = new Date(seconds * 1000);
  const today = new Date().toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}
