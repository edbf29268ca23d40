/**
 * What this tab calls itself. The first tab is the same client after a restart, so that its undo
 * goes on; two tabs are two clients.
 */

import { randomText } from "./api.js";

const NAMES = "dpk-clients";
/** Milliseconds until the page that a reload replaces has let go of its name. */
const UNLOADING = 1500;
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
    if (await hold(name, { ifAvailable: true })) {
      remember(name);
      return name;
    }
  }
}

/**
 * Hold a client's name until this tab closes.
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
      return lock === null ? undefined : new Promise(() => {});
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
