/** Inputs with what they are called beside them. */

import { element } from "./dom.js";

/**
 * @param {string} title
 * @param {HTMLElement} input With an id.
 * @returns {HTMLElement}
 */
export function field(title, input) {
  return element("div", { class: "field" }, element("label", { for: input.id, text: title }), input);
}

/**
 * @param {string} title
 * @param {HTMLElement} input
 * @returns {HTMLElement}
 */
export function check(title, input) {
  return element("label", { class: "check" }, input, element("span", { text: title }));
}
