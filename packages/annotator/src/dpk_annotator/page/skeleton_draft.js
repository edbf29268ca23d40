/** A skeleton that is being changed: keypoints know each other, whatever their names become. */

/**
 * @typedef {object} Item
 * @property {number} id
 * @property {string} name
 * @property {string|null} origin Its name in the skeleton there is; null for a new one.
 * @property {Item|null} parent
 * @property {Item|null} swap
 * @property {[number, number]|null} place Where it was clicked.
 * @property {number} row On which image.
 */

export class SkeletonDraft {
  /** @type {Item[]} */
  items = [];
  #number = 0;

  /** @param {import("./labels.js").Skeleton & {placeholder?: boolean}} skeleton */
  constructor(skeleton) {
    this.before = skeleton;
    if (skeleton.placeholder) return;
    this.items = skeleton.names.map((name) => this.#item(name, name));
    skeleton.parents.forEach((parent, i) => {
      this.items[i].parent = this.items[parent] ?? null;
    });
    skeleton.swaps.forEach((swap, i) => {
      this.items[i].swap = swap === i ? null : (this.items[swap] ?? null);
    });
  }

  /** Whether it differs from the skeleton there is. */
  get changed() {
    if (this.before.placeholder) return this.items.length > 0;
    const { names, parents, swaps } = this.body();
    const own = this.before.swaps.map((swap, i) => (swap === i ? -1 : swap));
    return JSON.stringify([names, parents, swaps]) !== JSON.stringify([this.before.names, this.before.parents, own]);
  }

  /** What the server wants to know. */
  body() {
    const at = (item) => (item ? this.items.indexOf(item) : -1);
    /** @type {Record<string, string>} */
    const renamed = Object.create(null);
    for (const { origin, name } of this.items) if (origin !== null && origin !== name) renamed[origin] = name;
    return {
      names: this.items.map(({ name }) => name),
      parents: this.items.map(({ parent }) => at(parent)),
      swaps: this.items.map(({ swap }) => at(swap)),
      renamed,
    };
  }

  /** Places that were clicked, and on which images. */
  places() {
    return this.items.filter(({ place }) => place).map(({ name, row, place }) => ({ name, row, place }));
  }

  rows() {
    return this.items.map(({ name, parent, swap }) => ({ name, parent: parent?.name ?? "", swap: swap?.name ?? "" }));
  }

  /**
   * Add one at the end; it hangs on the one before.
   *
   * @param {[number, number]|null} place
   * @param {number} row The image that it was clicked on.
   */
  add(place, row) {
    let number = this.items.length + 1;
    while (this.#named(`keypoint ${number}`)) number += 1;
    const item = this.#item(`keypoint ${number}`, null);
    item.parent = this.items.at(-1) ?? null;
    item.place = place;
    item.row = row;
    this.items.push(item);
    return item;
  }

  /** @param {Item} item @param {string} name @returns {string|undefined} Why it cannot be. */
  rename(item, name) {
    if (!name) return "A keypoint needs a name.";
    const other = this.#named(name);
    if (other && other !== item) return `There is a keypoint ${name} already.`;
    item.name = name;
    return undefined;
  }

  /** @param {Item} item @param {string} name */
  setParent(item, name) {
    const parent = name ? this.#named(name) : null;
    if (name && !parent) return `There is no keypoint ${name}.`;
    for (let up = parent; up; up = up.parent) {
      if (up === item) return `${item.name} would hang on itself.`;
    }
    item.parent = parent;
    return undefined;
  }

  /** @param {Item} item @param {string} name */
  setSwap(item, name) {
    const partner = name ? this.#named(name) : null;
    if (name && !partner) return `There is no keypoint ${name}.`;
    if (partner === item) return "A keypoint is no partner of itself.";
    for (const other of this.items) if (other.swap === item || other.swap === partner) other.swap = null;
    item.swap = partner;
    if (partner) partner.swap = item;
    return undefined;
  }

  /** @param {Item} item @param {number} steps */
  move(item, steps) {
    const from = this.items.indexOf(item);
    const to = Math.min(this.items.length - 1, Math.max(0, from + steps));
    this.items.splice(to, 0, ...this.items.splice(from, 1));
  }

  /** Take one out; what hung on it hangs on its parent then. @param {Item} item */
  remove(item) {
    this.items = this.items.filter((other) => other !== item);
    for (const other of this.items) {
      if (other.parent === item) other.parent = item.parent;
      if (other.swap === item) other.swap = null;
    }
  }

  /**
   * Take all from a table; keypoints with the same name stay the same.
   *
   * @param {{name: string, parent: string, swap: string}[]} rows
   * @throws {Error} With what is wrong.
   */
  replace(rows) {
    const names = rows.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw new Error(twice ? `${twice} stands there twice` : "a keypoint has no name");
    const known = this.before.placeholder ? [] : this.before.names;
    const items = rows.map(({ name }) => this.#item(name, known.includes(name) ? name : null));
    const find = (name, of) => {
      if (!name) return null;
      const found = items.find((item) => item.name === name);
      if (!found) throw new Error(`${of} names ${name}, which is no keypoint`);
      return found;
    };
    rows.forEach(({ name, parent, swap }, i) => {
      items[i].parent = find(parent, name);
      items[i].swap = swap === name ? null : find(swap, name);
    });
    this.items = items;
  }

  /** @param {string} name */
  #named(name) {
    return this.items.find((item) => item.name === name) ?? null;
  }

  /** @param {string} name @param {string|null} origin @returns {Item} */
  #item(name, origin) {
    this.#number += 1;
    return { id: this.#number, name, origin, parent: null, swap: null, place: null, row: -1 };
  }
}
