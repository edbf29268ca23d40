/** Keys and what they do; people may choose others, which this browser remembers. */

import { ACTIONS } from "./keys_table.js";

const STORED = "dpk-keys";
const MODIFIERS = new Set(["Shift", "Control", "Alt", "Meta", "AltGraph", "CapsLock", "Dead"]);

/**
 * The name of the key that an event is about, as in the table; null for none of its own.
 *
 * @param {KeyboardEvent} event
 */
export function keyName(event) {
  let { key } = event;
  if (MODIFIERS.has(key) || event.isComposing) return null;
  // With Alt some keyboards write another sign: then the place of the key says which it is.
  if (event.altKey && /^Key[A-Z]$/.test(event.code)) key = event.code.slice(3);
  if (key === " ") key = "Space";
  const letter = key.length === 1 && key.toLowerCase() !== key.toUpperCase();
  if (letter) key = key.toLowerCase();
  const shift = event.shiftKey && (letter || key.length > 1);
  const ctrl = event.ctrlKey || event.metaKey;
  return `${ctrl ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${shift ? "Shift+" : ""}${key}`;
}

/** How a key is shown to people. @param {string} name */
export function keyLabel(name) {
  const signs = { ArrowRight: "→", ArrowLeft: "←", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };
  return name
    .split(/\+(?=.)/)
    .map((part) => signs[part] ?? (part.length === 1 ? part.toUpperCase() : part))
    .join(" + ");
}

export class Keys {
  /** @type {Record<string, string[]>} Keys by action, where they are not those of the table. */
  chosen = {};
  /** @type {Map<string, string>} */
  #actions = new Map();

  constructor() {
    try {
      this.chosen = checked(JSON.parse(localStorage.getItem(STORED) ?? "{}"));
    } catch {
      this.chosen = {};
    }
    this.#index();
  }

  /** @param {string} action @returns {string[]} */
  of(action) {
    return this.chosen[action] ?? ACTIONS.find(({ id }) => id === action)?.keys ?? [];
  }

  /** @param {KeyboardEvent} event @returns {string|null} The action. */
  action(event) {
    const name = keyName(event);
    return name === null ? null : (this.#actions.get(name) ?? null);
  }

  /**
   * Give an action these keys; they are taken from others that have them.
   *
   * @param {string} action
   * @param {string[]} keys
   */
  choose(action, keys) {
    for (const { id } of ACTIONS) {
      const kept = this.of(id).filter((key) => !keys.includes(key));
      if (id !== action && kept.length !== this.of(id).length) this.chosen[id] = kept;
    }
    this.chosen[action] = keys;
    this.#store();
  }

  /** Back to the table. */
  reset() {
    this.chosen = {};
    this.#store();
  }

  /** As text that `read` takes. */
  write() {
    return JSON.stringify({ "dpk-keys": 1, keys: this.chosen }, null, 2);
  }

  /** @param {string} text @throws {Error} When it is none. */
  read(text) {
    const value = JSON.parse(text);
    if (value?.["dpk-keys"] !== 1) throw new Error("this is no file of keys from here");
    this.chosen = checked(value.keys);
    this.#store();
  }

  #store() {
    this.#index();
    try {
      localStorage.setItem(STORED, JSON.stringify(this.chosen));
    } catch {
      // A browser that keeps nothing: they hold until the page is closed.
    }
  }

  #index() {
    this.#actions.clear();
    for (const { id } of ACTIONS) for (const key of this.of(id)) this.#actions.set(key, id);
  }
}

/** @param {any} value @returns {Record<string, string[]>} What is sound of it. */
function checked(value) {
  /** @type {Record<string, string[]>} */
  const sound = {};
  for (const { id } of ACTIONS) {
    const keys = value?.[id];
    if (Array.isArray(keys) && keys.every((key) => typeof key === "string" && key)) sound[id] = keys;
  }
  return sound;
}
