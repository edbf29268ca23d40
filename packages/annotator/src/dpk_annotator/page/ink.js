/** Colours of the page's theme for what is painted on a canvas. */

export class Ink {
  /** @type {Map<string, string>} */
  #colours = new Map();

  /** @param {HTMLElement} host What is painted on; its colours hold. */
  constructor(host) {
    this.host = host;
  }

  /** @param {string} name As in the style sheet, without the dashes. */
  colour(name) {
    if (!this.#colours.has(name)) {
      // By way of a property that is a colour: the browser says which of the theme's two it is.
      this.host.style.color = `var(--${name})`;
      this.#colours.set(name, getComputedStyle(this.host).color);
      this.host.style.color = "";
    }
    return this.#colours.get(name);
  }

  /** They may be others now. */
  forget() {
    this.#colours.clear();
  }
}
