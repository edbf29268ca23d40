/** Asking the server, in its own words: see the schema at api/schema.json. */

/** A request that the server refused; `message` is its sentence for the user. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {any} body
   */
  constructor(status, body) {
    super(body?.error ?? body?.conflict?.message ?? `the server answered ${status}`);
    this.status = status;
    /** @type {any} */
    this.conflict = body?.conflict ?? null;
  }
}

/** The server could not be reached, or what came was cut off. */
export class Unreachable extends Error {}

/**
 * @param {string} path Relative to the page, as "api/set".
 * @param {RequestInit} [options]
 */
async function ask(path, options = {}) {
  let response, text;
  try {
    response = await fetch(path, { credentials: "omit", cache: "no-store", ...options });
    text = await response.text();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable("the server cannot be reached");
  }
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    if (response.ok) throw new Unreachable("the server's answer was cut off");
  }
  if (!response.ok) throw new Refusal(response.status, body);
  return body;
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 */
export const get = (path, signal) => ask(`api/${path}`, { signal });

/**
 * @param {string} path
 * @param {object} body
 */
export const post = (path, body) =>
  ask(`api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

/**
 * @param {number} row
 * @param {string} setId
 */
export const imageAddress = (row, setId) => `api/images/${row}?set=${encodeURIComponent(setId)}`;
/**
 * @param {number} row
 * @param {string} setId
 */
export const thumbnailAddress = (row, setId) =>
  `api/thumbnails/${row}?set=${encodeURIComponent(setId)}`;

/**
 * The pixels of an image exactly as they are in the set: no colour management, no blending.
 *
 * @param {number} row
 * @param {string} setId
 * @param {AbortSignal} [signal]
 * @param {"high"|"low"} [priority]
 * @returns {Promise<ImageBitmap>}
 */
export async function fetchImage(row, setId, signal, priority = "high") {
  let response, blob;
  try {
    // @ts-ignore: `priority` is newer than some type tables
    response = await fetch(imageAddress(row, setId), { signal, priority, credentials: "omit" });
    if (response.ok) blob = await response.blob();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable("the server cannot be reached");
  }
  if (!response.ok) {
    throw new Refusal(response.status, await response.json().catch(() => null));
  }
  return createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/** Milliseconds after which a line is opened again that the browser has given up. */
const LINE_PAUSE = 5000;
/** A tab that is out of sight so long hangs up: browsers allow few lines to one server. */
const OUT_OF_SIGHT = 10_000;

/**
 * Hear what happens on the server, for as long as the tab is seen.
 *
 * @param {string} client
 * @param {Record<string, (value: any) => void>} listeners By event; `cut` is called when the line
 *   is cut, or not to be had, and `back` when it stands again.
 */
export function listen(client, listeners) {
  let source = null;
  let cut = false;
  let timer = 0;
  const hangUp = () => {
    source?.close();
    source = null;
    cut = true;
  };
  const call = () => {
    clearTimeout(timer);
    if (source) return;
    source = new EventSource(`api/events?client=${encodeURIComponent(client)}`);
    source.addEventListener("error", () => {
      cut = true;
      listeners.cut?.(null);
      if (source?.readyState !== EventSource.CLOSED) return;
      hangUp();
      timer = setTimeout(call, LINE_PAUSE);
    });
    source.addEventListener("open", () => {
      if (cut) listeners.back?.(null);
      cut = false;
    });
    for (const [name, listener] of Object.entries(listeners)) {
      if (!["cut", "back"].includes(name)) source.addEventListener(name, (event) => listener(JSON.parse(event.data)));
    }
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(hangUp, OUT_OF_SIGHT);
    else call();
  });
  call();
}

/** A text that nobody else has; also where the page is not in a secure context. */
export function randomText() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
