/** How the picture is shown; the pixels in the set stay as they are. */

/** @typedef {{brightness: number, contrast: number, local: number}} Adjustment each -100 to 100; local 0 to 100 */

export const NO_ADJUSTMENT = { brightness: 0, contrast: 0, local: 0 };

/**
 * The CSS filter that does brightness and contrast.
 *
 * @param {Adjustment} adjustment
 */
export function filterOf({ brightness, contrast }) {
  if (!brightness && !contrast) return "none";
  return `brightness(${2 ** (brightness / 50)}) contrast(${2 ** (contrast / 50)})`;
}

/** Pictures with more local contrast, made in a worker. */
export class LocalContrast {
  /** @type {Worker|null} */
  #worker = null;
  /** @type {Map<number, (bitmap: ImageBitmap|null) => void>} */
  #waiting = new Map();
  #number = 0;
  /** @type {WeakMap<ImageBitmap, {strength: number, made: ImageBitmap}>} */
  #made = new WeakMap();

  /**
   * The picture if it is made already.
   *
   * @param {ImageBitmap} picture
   * @param {number} strength
   */
  peek(picture, strength) {
    const made = this.#made.get(picture);
    return made?.strength === strength ? made.made : null;
  }

  /**
   * @param {ImageBitmap} picture
   * @param {number} strength 0 to 100.
   * @returns {Promise<ImageBitmap>} The same picture where the browser cannot do it.
   */
  async make(picture, strength) {
    const ready = this.peek(picture, strength);
    if (ready) return ready;
    const made = await this.#ask(picture, strength);
    if (!made) return picture;
    this.#made.set(picture, { strength, made });
    return made;
  }

  async #ask(picture, strength) {
    this.#worker ??= this.#start();
    this.#number += 1;
    const id = this.#number;
    const copy = await createImageBitmap(picture);
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#worker.postMessage({ id, picture: copy, strength }, [copy]);
    });
  }

  #start() {
    const worker = new Worker(new URL("./contrast_worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }) => {
      this.#waiting.get(data.id)?.(data.made);
      this.#waiting.delete(data.id);
    });
    worker.addEventListener("error", () => {
      for (const resolve of this.#waiting.values()) resolve(null);
      this.#waiting.clear();
    });
    return worker;
  }
}
