/** Making and changing the skeleton: by clicking on the image, from a CSV file, or in the table. */

import { post, randomText } from "../api.js";
import { readSkeletonCsv, writeSkeletonCsv } from "../csv.js";
import { button, element, uniqueId } from "../dom.js";
import { SkeletonDraft } from "../skeleton_draft.js";

/** @type {import("../panels.js").Panel} */
export const skeletonPanel = { id: "skeleton", title: "Skeleton", icon: "M4.6 4.4 7 6.8M9.2 7.2l2.4-1M7 9.3l-1.6 2.3M3.7 2a1.4 1.4 0 1 0 0 2.8 1.4 1.4 0 0 0 0-2.8zM8 6.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zM13 4.2a1.4 1.4 0 1 0 0 2.8 1.4 1.4 0 0 0 0-2.8zM4.8 11.4a1.4 1.4 0 1 0 0 2.8 1.4 1.4 0 0 0 0-2.8z", create: (app) => new SkeletonPanel(app) };

const UP = "M8 13V3M3.5 7.5 8 3l4.5 4.5";
const DOWN = "M8 3v10M3.5 8.5 8 13l4.5-4.5";
const REMOVE = "M4 4l8 8M12 4l-8 8";

class SkeletonPanel {
  /** What writes the names of a keypoint into its fields, by its id. @type {Map<number, () => void>} */
  #shown = new Map();

  /** @param {import("../app.js").App} app */
  constructor(app) {
    this.app = app;
    this.draft = new SkeletonDraft(app.skeleton);
    this.names = element("datalist", { id: uniqueId("names") });
    this.table = element("div", { class: "skeleton-rows", role: "group", "aria-label": "Keypoints of the skeleton" });
    this.said = element("p", { class: "said", role: "status" });
    this.preview = element("ul", { class: "preview", "aria-live": "polite" });
    this.file = element("input", { type: "file", accept: ".csv,text/csv", hidden: true, id: "skeleton-file", on: { change: () => this.#read() } });
    this.clicking = button("Add by clicking", () => this.#toggleClicking(), { class: "quiet framed" });
    this.apply = button("Take this skeleton", () => this.#apply(), { class: "primary" });
    this.leave = button("As it was", () => this.#restart(), { class: "quiet framed" });
    const add = button("Add", () => this.#add(null), { class: "quiet framed" });
    const read = button("From a CSV file…", () => this.file.click(), { class: "quiet framed" });
    const save = button("Save as CSV", () => this.#save(), { class: "quiet framed" });
    this.element = element(
      "section",
      { class: "skeleton-panel" },
      element("h2", { text: "Skeleton" }),
      element("p", { class: "hint", text: "“On” is the parent a keypoint hangs on, “twin” the same on the other side of the animal. Labels follow their keypoint by name." }),
      element("div", { class: "acts" }, this.clicking, add),
      element("div", { class: "acts" }, read, save),
      this.file,
      this.names,
      this.table,
      element("div", { class: "decide" }, this.said, this.preview, element("div", { class: "buttons" }, this.leave, this.apply)),
    );
    // They keep the focus where it is: a field that is left says what was wrong, which moves them,
    // and the press that has begun would go past them.
    for (const act of [this.apply, this.leave]) act.addEventListener("mousedown", (event) => event.preventDefault());
    app.on("set", () => {
      if (!this.draft.changed) this.#restart();
    });
    app.on("clicking", () => this.clicking.setAttribute("aria-pressed", String(app.clicking !== null)));
    this.#build();
    if (app.skeleton.placeholder) this.said.textContent = "This set has no skeleton yet: add its keypoints by clicking on the animal.";
  }

  hidden() {
    this.app.setClicking(null);
  }

  #restart() {
    this.app.setClicking(null);
    this.draft = new SkeletonDraft(this.app.skeleton);
    this.said.textContent = "";
    this.#build();
  }

  #toggleClicking() {
    if (this.app.clicking) this.app.setClicking(null);
    else this.app.setClicking((x, y) => this.#add([x, y]));
  }

  /** @param {[number, number]|null} place */
  #add(place) {
    const item = this.draft.add(place, this.app.row);
    this.said.textContent = "";
    this.#build();
    const name = this.table.querySelector(`[data-id="${item.id}"] input`);
    name?.closest(".skeleton-row").scrollIntoView({ block: "nearest" });
    name?.select();
  }

  async #read() {
    const [file] = this.file.files;
    this.file.value = "";
    if (!file) return;
    try {
      this.draft.replace(readSkeletonCsv(await file.text()));
      this.said.textContent = `From ${file.name}: look at it, then take it.`;
    } catch (error) {
      this.said.textContent = `${file.name} is no skeleton: ${error.message}.`;
    }
    this.#build();
  }

  #save() {
    const address = URL.createObjectURL(new Blob([writeSkeletonCsv(this.draft.rows())], { type: "text/csv" }));
    element("a", { href: address, download: "skeleton.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  #build() {
    this.#shown.clear();
    this.table.replaceChildren(...this.draft.items.map((item, i) => this.#row(item, i)));
    this.#refresh();
  }

  /**
   * Write the names anew and leave the elements: a name is taken when its field is left, and what
   * was pressed or chosen then must still be there.
   */
  #refresh() {
    this.names.replaceChildren(...this.draft.items.map(({ name }) => element("option", { value: name })));
    for (const show of this.#shown.values()) show();
    this.#changed();
  }

  #row(item, i) {
    const { draft } = this;
    const field = (label, write) =>
      element("input", {
        type: "text",
        spellcheck: false,
        autocomplete: "off",
        "aria-label": `${label} of keypoint ${i + 1}`,
        on: {
          change: (event) => {
            this.said.textContent = write(event.target.value.trim()) ?? "";
            this.#refresh();
          },
        },
      });
    const name = field("Name", (value) => draft.rename(item, value));
    const parent = field("Parent", (value) => draft.setParent(item, value));
    const swap = field("Partner", (value) => draft.setSwap(item, value));
    for (const input of [parent, swap]) input.setAttribute("list", this.names.id);
    const act = (label, path, action) =>
      button(label, () => {
        this.said.textContent = "";
        action();
        this.#build();
      }, { icon: path, iconOnly: true });
    const acts = {
      "Move up": act("Move up", UP, () => draft.move(item, -1)),
      "Move down": act("Move down", DOWN, () => draft.move(item, 1)),
      Remove: act("Remove", REMOVE, () => draft.remove(item)),
    };
    name.className = "name";
    this.#shown.set(item.id, () => {
      name.value = item.name;
      parent.value = item.parent?.name ?? "";
      swap.value = item.swap?.name ?? "";
      for (const [label, made] of Object.entries(acts)) {
        made.title = `${label} ${item.name}`;
        made.setAttribute("aria-label", made.title);
      }
    });
    return element(
      "div",
      { class: "skeleton-row", "data-id": item.id },
      name,
      element("label", { class: "parent" }, element("span", { text: "on" }), parent),
      element("label", { class: "partner" }, element("span", { text: "twin" }), swap),
      element("span", { class: "moves" }, ...Object.values(acts)),
    );
  }

  #timer = 0;
  #asked = 0;

  #changed() {
    const { changed } = this.draft;
    this.apply.disabled = !changed || this.app.readOnly;
    this.leave.disabled = !changed;
    this.app.setDraftPlaces(this.draft.items);
    clearTimeout(this.#timer);
    // What stands there stays until the answer: buttons should not jump.
    if (!changed) this.preview.replaceChildren();
    if (changed) this.#timer = setTimeout(() => this.#look(), 200);
  }

  /** What the server says would change. */
  async #look() {
    this.#asked += 1;
    const { draft } = this;
    const asked = this.#asked;
    const late = () => draft !== this.draft || asked !== this.#asked;
    try {
      const { text } = await post("skeleton/preview", draft.body());
      if (late()) return;
      this.preview.replaceChildren(...text.map((line) => element("li", { text: line })));
    } catch (error) {
      if (late()) return;
      this.preview.replaceChildren(element("li", { class: "problem", text: error.message }));
    }
  }

  async #apply() {
    const { draft, app } = this;
    this.said.textContent = "";
    /** @type {HTMLElement} */ (document.activeElement)?.blur(); // takes the name that is being written
    if (this.said.textContent) return;
    this.apply.disabled = true;
    try {
      await app.changeSkeleton({ ...draft.body(), token: randomText() }, draft.places());
      this.#restart();
      this.said.textContent = "The skeleton is taken.";
    } catch (error) {
      this.said.textContent = error.message;
      this.apply.disabled = false;
    }
  }
}
