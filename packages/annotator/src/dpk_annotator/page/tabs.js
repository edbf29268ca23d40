/** Tabs over panels: https://www.w3.org/WAI/ARIA/apg/patterns/tabs/ */

import { element } from "./dom.js";

export class Tabs {
  #chosen = "";

  /**
   * @param {HTMLElement} list Where the tabs go.
   * @param {HTMLElement} room Where the panels go.
   * @param {{id: string, title: string, view: import("./panels.js").PanelView}[]} panels
   */
  constructor(list, room, panels) {
    this.panels = panels;
    this.tabs = panels.map(({ id, title }) =>
      element("button", {
        type: "button",
        role: "tab",
        id: `tab-${id}`,
        "aria-controls": `panel-${id}`,
        text: title,
        on: { click: () => this.choose(id), keydown: (event) => this.#key(event) },
      }),
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
      if (chosen) panel.view.shown?.();
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const here = this.panels.findIndex(({ id }) => id === this.#chosen);
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!steps) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (here + steps + this.panels.length) % this.panels.length;
    this.choose(this.panels[next].id);
    this.tabs[next].focus();
  }
}
