/** The strip of small pictures: only those in sight exist, however many images there are. */

import { thumbnailAddress } from "./api.js";
import { element, icon } from "./dom.js";

const WIDTH = 104;
const AROUND = 3;
const FLAG = "M3 15V1.5h9l-2 3.5 2 3.5H3";

export class Thumbs {
  /** @type {Map<number, HTMLButtonElement>} By position in the order. */
  #shown = new Map();
  #frame = 0;
  #row = -1;

  /**
   * @param {HTMLElement} host
   * @param {import("./rows.js").Rows} rows
   * @param {string} setId
   * @param {(row: number) => void} choose
   */
  constructor(host, rows, setId, choose) {
    this.host = host;
    this.rows = rows;
    this.setId = setId;
    this.choose = choose;
    this.room = element("div", { class: "room", role: "presentation" });
    this.empty = element("p", { class: "empty", text: "No image passes this filter.", hidden: true });
    host.replaceChildren(this.room, this.empty);
    host.addEventListener("scroll", () => this.#later());
    new ResizeObserver(() => this.#later()).observe(host);
    // A wheel that turns up and down goes along the strip.
    host.addEventListener("wheel", (event) => {
      if (event.deltaX !== 0) return;
      event.preventDefault();
      host.scrollLeft += event.deltaY;
    }, { passive: false });
    rows.on("order", () => this.reset());
    rows.on("columns", (row) => (row === null ? this.reset() : this.#mark(row)));
    this.reset();
  }

  /** Show which image is the one on the stage, and bring it into sight. */
  show(row) {
    const before = this.#row;
    this.#row = row;
    const position = this.rows.position(row);
    const left = position * WIDTH;
    const { scrollLeft, clientWidth } = this.host;
    if (left < scrollLeft + WIDTH || left + WIDTH > scrollLeft + clientWidth - WIDTH) {
      this.host.scrollLeft = left - clientWidth / 2 + WIDTH / 2;
    }
    this.#later();
    this.host.setAttribute("aria-activedescendant", `thumb-${row}`);
    this.#mark(before);
    this.#mark(row);
  }

  /** Make all anew. */
  reset() {
    for (const made of this.#shown.values()) made.remove();
    this.#shown.clear();
    const n = this.rows.order.length;
    this.room.style.width = `${n * WIDTH}px`;
    this.empty.hidden = n > 0;
    this.#later();
  }

  #later() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#fill());
  }

  #fill() {
    this.#frame = 0;
    const { scrollLeft, clientWidth } = this.host;
    const { order } = this.rows;
    const from = Math.max(0, Math.floor(scrollLeft / WIDTH) - AROUND);
    const to = Math.min(order.length, Math.ceil((scrollLeft + clientWidth) / WIDTH) + AROUND);
    for (const [position, made] of this.#shown) {
      if (position >= from && position < to) continue;
      made.querySelector("img").src = "";
      made.remove();
      this.#shown.delete(position);
    }
    for (let position = from; position < to; position += 1) {
      if (this.#shown.has(position)) continue;
      const made = this.#make(position, order[position], order.length);
      this.#shown.set(position, made);
      this.room.append(made);
    }
  }

  #make(position, row, total) {
    const picture = element("img", {
      alt: "",
      decoding: "async",
      draggable: false,
      src: thumbnailAddress(row, this.setId),
    });
    const made = element(
      "button",
      {
        type: "button",
        class: "thumb",
        id: `thumb-${row}`,
        role: "option",
        tabIndex: -1,
        "aria-setsize": total,
        "aria-posinset": position + 1,
        "data-row": row,
        title: this.rows.columns.label[row] ?? "",
        on: { click: () => this.choose(row) },
      },
      picture,
      element("span", { class: "number", text: String(row) }),
      element("span", { class: "marks" }),
    );
    made.style.left = `${position * WIDTH}px`;
    this.#dress(made, row);
    return made;
  }

  #mark(row) {
    const { order } = this.rows;
    const position = this.rows.position(row);
    const made = order[position] === row ? this.#shown.get(position) : undefined;
    if (made) this.#dress(made, row);
  }

  /** @param {HTMLButtonElement} made @param {number} row */
  #dress(made, row) {
    const { columns } = this.rows;
    const finished = Boolean(columns.finished[row]);
    const status = finished || columns.status[row] === 2 ? "done" : columns.status[row] ? "begun" : "untouched";
    made.dataset.status = status;
    made.setAttribute("aria-selected", String(row === this.#row));
    const words = [`Image ${row}`, { done: finished ? "finished" : "all labelled", begun: "begun", untouched: "not labelled" }[status]];
    const marks = made.querySelector(".marks");
    marks.replaceChildren();
    if (columns.flag[row]) {
      marks.append(icon(FLAG));
      words.push("flagged");
    }
    if (columns.note[row]) {
      marks.append(element("span", { class: "noted", text: "✎" }));
      words.push("with a note");
    }
    const confidence = columns.confidence[row];
    if (confidence !== null && status !== "done") {
      marks.append(element("span", { class: "confidence", text: `${Math.round(confidence * 100)}` }));
      words.push(`confidence ${Math.round(confidence * 100)} percent`);
    }
    made.setAttribute("aria-label", words.join(", "));
  }
}
