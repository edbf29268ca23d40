/** Tabs over panels: https://www.w3.org/WAI/ARIA/apg/patterns/tabs/ */

import { element, icon } from "./dom.js";

export class Tabs {
  #chosen = "";

  /**
   * @param {HTMLElement} list Where the tabs go.
   * @param {HTMLElement} room Where the panels go.
   * @param {{id: string, title: string, icon: string, view: import("./panels.js").PanelView}[]} panels
   */
  constructor(list, room, panels) {
    this.panels = panels;
    this.tabs = panels.map(({ id, title, icon: path }) =>
      element(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${id}`,
          "aria-controls": `panel-${id}`,
          on: { click: () => this.choose(id), keydown: (event) => this.#key(event) },
        },
        icon(path),
        element("span", { text: title }),
      ),
    );
    list.replaceChildren(...this.tabs);
    for (const { id, view } of panels) {
      view.element.id = `panel-${id}`;
      view.element.setAttribute("role", "tabpanel");
      view.element.setAttribute("aria-labelledby", `tab-${id}`);
      room.append(view.element);
    }
    this.choose(panels[0].id);
  }

  get chosen() {
    return this.#chosen;
  }

  /** @param {string} id */
  choose(id) {
    const before = this.#chosen;
    this.#chosen = id;
    this.panels.forEach((panel, i) => {
      const chosen = panel.id === id;
      panel.view.element.hidden = !chosen;
      this.tabs[i].setAttribute("aria-selected", String(chosen));
      this.tabs[i].tabIndex = chosen ? 0 : -1;
      if (panel.id === before && !chosen) panel.view.hidden?.();
      // With large letters the row of tabs is longer than the room for it.
      if (chosen) this.tabs[i].scrollIntoView({ block: "nearest", inline: "nearest" });
      if (chosen) panel.view.shown?.();
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const n = this.panels.length;
    const here = this.panels.findIndex(({ id }) => id === this.#chosen);
    const to = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: n - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (to + n) % n;
    this.choose(this.panels[next].id);
    this.tabs[next].focus();
  }
}
