/** Keys and what they do; people may choose others, which this browser remembers. */

import { Emitter } from "./emitter.js";
import { ACTIONS } from "./keys_table.js";

/** @typedef {"images"|"video"} Place */

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

/** Emits `change`. */
export class Keys extends Emitter {
  /** @type {Record<string, string[]>} Keys by action, where they are not those of the table. */
  chosen = {};
  /** @type {Record<Place, Map<string, string>>} Actions by key. */
  #actions = { images: new Map(), video: new Map() };

  constructor() {
    super();
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

  /** As an end of a name: the keys of an action in brackets. @param {string} action */
  hint(action) {
    const keys = this.of(action).map(keyLabel);
    return keys.length ? ` (${keys.slice(0, 2).join(" or ")})` : "";
  }

  /**
   * @param {KeyboardEvent} event
   * @param {Place} place What is shown: the same key may do other things there.
   * @returns {string|null} The action.
   */
  action(event, place = "images") {
    const name = keyName(event);
    return name === null ? null : (this.#actions[place].get(name) ?? null);
  }

  /**
   * Give an action these keys; they are taken from others that have them in the same place.
   *
   * @param {string} action
   * @param {string[]} keys
   */
  choose(action, keys) {
    const places = placesOf(ACTIONS.find(({ id }) => id === action));
    for (const other of ACTIONS) {
      const { id } = other;
      const meets = placesOf(other).some((place) => places.includes(place));
      const kept = this.of(id).filter((key) => !keys.includes(key));
      if (id !== action && meets && kept.length !== this.of(id).length) this.chosen[id] = kept;
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
    this.emit("change");
    try {
      localStorage.setItem(STORED, JSON.stringify(this.chosen));
    } catch {
      // A browser that keeps nothing: they hold until the page is closed.
    }
  }

  #index() {
    for (const map of Object.values(this.#actions)) map.clear();
    // What somebody chose holds, also where the table has gained an action with that key since.
    const chosen = (/** @type {import("./keys_table.js").Action} */ { id }) => Object.hasOwn(this.chosen, id);
    for (const action of [...ACTIONS.filter((one) => !chosen(one)), ...ACTIONS.filter(chosen)]) {
      for (const place of placesOf(action)) for (const key of this.of(action.id)) this.#actions[place].set(key, action.id);
    }
  }
}

/** Where an action can be asked for. @param {import("./keys_table.js").Action} action @returns {Place[]} */
function placesOf({ where }) {
  return where === "everywhere" ? ["images", "video"] : [where ?? "images"];
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
