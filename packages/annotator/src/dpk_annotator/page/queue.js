/**
 * Edits on their way: sent one after the other, in order, as soon as they are made. Each stays in
 * this browser's storage until the server has it on disk, so that neither a lost network nor a
 * closed tab loses any; its token makes a repeat harmless.
 */

import { Refusal, Unreachable, post, randomText } from "./api.js";
import { Emitter } from "./emitter.js";

/**
 * @typedef {object} Operation
 * @property {string} path `edit`, `undo`, `redo` or `confirm`.
 * @property {Record<string, any>} body What is sent: client, base, token and more.
 * @property {number|null} row The image it is about, if known.
 * @property {import("./labels.js").Edit|null} shown What to show until the answer comes.
 * @property {string} key Where it is kept.
 */

const LONGEST_PAUSE = 8000;
const UNAVAILABLE = new Set([408, 425, 429, 502, 503, 504]);

export class EditQueue extends Emitter {
  /** @type {Operation[]} */
  #waiting = [];
  #sending = false;
  /** Whether the first one waits for a person to decide. */
  #stopped = false;
  #pause = 0;
  #timer = 0;
  #number = 0;
  /** @type {"saved"|"saving"|"offline"|"refused"|"conflict"} */
  status = "saved";
  /** The sentence that goes with it. */
  message = "";
  /** Whether unsent edits survive a reload. */
  kept = true;

  /**
   * @param {string} setId
   * @param {string} client
   */
  constructor(setId, client) {
    super();
    this.set = setId;
    this.setId = encodeURIComponent(setId);
    this.client = client;
    addEventListener("online", () => this.retry());
  }

  /** @returns {readonly Operation[]} Not yet confirmed, the oldest first. */
  get waiting() {
    return this.#waiting;
  }

  /**
   * Send it when those before are through.
   *
   * @param {string} path
   * @param {Record<string, any>} body Without client and token.
   * @param {number|null} row
   * @param {import("./labels.js").Edit|null} shown
   */
  push(path, body, row, shown) {
    this.#number += 1;
    const stamp = `${Date.now().toString().padStart(15, "0")}-${this.#number.toString().padStart(8, "0")}`;
    /** @type {Operation} */
    const operation = {
      path,
      body: { client: this.client, set: this.set, ...body, token: randomText() },
      row,
      shown,
      key: `${this.#prefix(this.client)}${stamp}`,
    };
    this.#keep(operation);
    this.#waiting.push(operation);
    if (this.status === "saved") this.#say("saving");
    else this.emit("status");
    this.#pump();
  }

  /**
   * Take up what earlier tabs left unsent: this client's at once, that of others as soon as their
   * tab is gone.
   *
   * @param {(client: string) => Promise<unknown>} gone Resolves when this tab holds that name.
   */
  recover(gone) {
    const all = storedKeys(`dpk-edit|${this.setId}|`);
    const others = new Set(all.map((key) => decodeURIComponent(key.split("|")[2])));
    others.delete(this.client);
    this.#adopt(this.client);
    for (const client of others) gone(client).then(() => this.#adopt(client));
  }

  /** @param {string} client */
  #adopt(client) {
    const left = storedKeys(this.#prefix(client)).map(readOperation).filter((operation) => operation !== null);
    if (!left.length) return;
    this.#waiting.push(...left);
    this.#say("saving");
    this.emit("adopted", new Set(left.map(({ row }) => row)));
    this.#pump();
  }

  /** Try again now. */
  retry() {
    clearTimeout(this.#timer);
    this.#pause = 0;
    if (this.#waiting.length && this.status !== "conflict") {
      this.#stopped = false;
      this.#pump();
    }
  }

  /**
   * Insist: send the first one again as made on a later revision, and so with those behind it that
   * are about the same image.
   *
   * @param {number} revision
   */
  insist(revision) {
    const [first] = this.#waiting;
    if (!first) return;
    for (const operation of this.#waiting) {
      if (operation === first || operation.row === first.row) {
        operation.body.base = Math.max(operation.body.base, revision);
        this.#keep(operation);
      }
    }
    this.#goOn();
  }

  /**
   * Give up the first one, and those behind it that `also` says.
   *
   * @param {(operation: Operation) => boolean} [also]
   * @param {number} [revision] On which those that stay about the same image are made now.
   */
  discard(also = () => false, revision = 0) {
    const [first, ...rest] = this.#waiting;
    if (!first) return;
    for (const operation of [first, ...rest.filter(also)]) this.#forget(operation);
    for (const operation of this.#waiting) {
      if (operation.row === first.row) {
        operation.body.base = Math.max(operation.body.base, revision);
        this.#keep(operation);
      }
    }
    this.emit("discarded", first);
    this.#goOn();
  }

  #goOn() {
    this.#stopped = false;
    this.#say(this.#waiting.length ? "saving" : "saved");
    this.retry();
  }

  async #pump() {
    if (this.#sending || this.#stopped) return;
    this.#sending = true;
    clearTimeout(this.#timer);
    try {
      while (this.#waiting.length) {
        const operation = this.#waiting[0];
        const answer = await post(operation.path, operation.body);
        this.#pause = 0;
        this.#forget(operation);
        this.emit("answer", { operation, answer });
        this.#say(this.#waiting.length ? "saving" : "saved");
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#sending = false;
    }
    // One may have come in between the last look at the list and here.
    if (this.#waiting.length && this.status === "saving") this.#pump();
  }

  /** @param {unknown} error */
  #failed(error) {
    if (error instanceof Refusal && error.status === 409 && error.conflict) {
      this.#stopped = true;
      this.#say("conflict", error.message);
      this.emit("conflict", { operation: this.#waiting[0], conflict: error.conflict });
      return;
    }
    if (error instanceof Unreachable || (error instanceof Refusal && UNAVAILABLE.has(error.status))) {
      this.#say("offline");
      this.#later();
      return;
    }
    if (!(error instanceof Refusal)) throw error;
    this.#say("refused", error.message);
    this.emit("refused", { operation: this.#waiting[0], error });
    // The cause may pass: a full disk, a file that another program has open.
    if ([423, 500, 507].includes(error.status)) this.#later();
    else this.#stopped = true;
  }

  #later() {
    this.#pause = Math.min(LONGEST_PAUSE, Math.max(500, this.#pause * 2));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#pump(), this.#pause);
  }

  /**
   * @param {EditQueue["status"]} status
   * @param {string} [message]
   */
  #say(status, message = "") {
    this.status = status;
    this.message = message;
    this.emit("status");
  }

  /** @param {string} client */
  #prefix(client) {
    return `dpk-edit|${this.setId}|${encodeURIComponent(client)}|`;
  }

  /** @param {Operation} operation */
  #keep(operation) {
    const { key, ...rest } = operation;
    try {
      localStorage.setItem(key, JSON.stringify(rest));
    } catch {
      this.kept = false;
    }
  }

  /** @param {Operation} operation */
  #forget(operation) {
    this.#waiting = this.#waiting.filter((other) => other !== operation);
    try {
      localStorage.removeItem(operation.key);
    } catch {
      this.kept = false;
    }
  }
}

/** @param {string} prefix */
function storedKeys(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix)).sort();
  } catch {
    return [];
  }
}

/** @param {string} key @returns {Operation|null} */
function readOperation(key) {
  try {
    return { ...JSON.parse(localStorage.getItem(key)), key };
  } catch {
    return null;
  }
}
