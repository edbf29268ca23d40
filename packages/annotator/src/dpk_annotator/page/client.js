/**
 * What this tab calls itself. The first tab is the same client after a restart, so that its undo
 * goes on; two tabs are two clients.
 */

import { randomText } from "./api.js";

const NAMES = "dpk-clients";
/** Milliseconds until the page that a reload replaces has let go of its name. */
const UNLOADING = 1500;
/** Milliseconds in which a tab whose server has ended gives its name to one that asks. */
const ASKED = 1000;
const CHANNEL = "dpk-clients";
const WORDS = ["heron", "otter", "locust", "zebra", "ibis", "marten", "finch", "lynx", "stork", "newt", "wren", "hare"];

/**
 * Take the name that this tab had before it was loaded anew, else the first that no other tab
 * holds, for as long as this tab lives.
 *
 * @returns {Promise<string>}
 */
export async function claimClient() {
  if (!navigator.locks) return `${prefix()}-${randomText().slice(0, 8)}`;
  const before = remembered();
  if (before && (await hold(before, { signal: AbortSignal.timeout(UNLOADING) }))) return before;
  for (let number = 1; ; number += 1) {
    const name = `${prefix()}-${number}`;
    if ((await hold(name, { ifAvailable: true })) || (await askFor(name))) {
      remember(name);
      return name;
    }
  }
}

/** How to let go of the names that this tab holds. @type {Map<string, () => void>} */
const releases = new Map();

/**
 * Give this tab's name to another tab that asks for it, if this one has no use for it any more:
 * after a restart of the server the tab from before may still be open.
 *
 * @param {string} client
 * @param {() => Promise<boolean>} needed
 */
export function giveOnRequest(client, needed) {
  if (!globalThis.BroadcastChannel) return;
  const channel = new BroadcastChannel(CHANNEL);
  channel.addEventListener("message", async ({ data }) => {
    if (data.wanted !== client || !releases.has(client)) return;
    if (await needed()) {
      channel.postMessage({ kept: client });
      return;
    }
    releases.get(client)?.();
    releases.delete(client);
  });
}

/** Ask the tab that holds a name for it. @param {string} name */
async function askFor(name) {
  if (!globalThis.BroadcastChannel) return false;
  const channel = new BroadcastChannel(CHANNEL);
  const given = new AbortController();
  channel.addEventListener("message", ({ data }) => data.kept === name && given.abort());
  const timer = setTimeout(() => given.abort(), ASKED);
  const held = hold(name, { signal: given.signal });
  channel.postMessage({ wanted: name });
  try {
    return await held;
  } finally {
    clearTimeout(timer);
    channel.close();
  }
}

/**
 * Hold a client's name until this tab closes or gives it away.
 *
 * @param {string} name
 * @param {LockOptions} [options] Without any it waits until the tab that has the name is gone.
 * @returns {Promise<boolean>} Whether it is held.
 */
export function hold(name, options = {}) {
  if (!navigator.locks) return new Promise(() => {});
  return new Promise((resolve) => {
    const held = navigator.locks.request(`dpk-client:${name}`, options, (lock) => {
      resolve(lock !== null);
      if (lock === null) return undefined;
      return new Promise((release) => {
        releases.set(name, () => release(undefined));
      });
    });
    held.catch(() => resolve(false));
  });
}

function remembered() {
  try {
    return sessionStorage.getItem(NAMES);
  } catch {
    return null; // a browser that keeps nothing
  }
}

/** @param {string} name */
function remember(name) {
  try {
    sessionStorage.setItem(NAMES, name);
  } catch {
    // A browser that keeps nothing: after a reload it is another client.
  }
}

/** The word by which this browser is known. */
function prefix() {
  try {
    let word = localStorage.getItem(NAMES);
    if (!word) {
      const bytes = crypto.getRandomValues(new Uint8Array(3));
      word = `${WORDS[bytes[0] % WORDS.length]}${bytes[1].toString(16)}${bytes[2].toString(16)}`;
      localStorage.setItem(NAMES, word);
    }
    return word;
  } catch {
    return "guest"; // a browser that keeps nothing
  }
}
