/**
 * What this tab calls itself. The first tab is the same client after a restart, so that its undo
 * goes on; two tabs are two clients.
 */

import { randomText } from "./api.js";

const NAMES = "dpk-clients";
const WORDS = ["heron", "otter", "locust", "zebra", "ibis", "marten", "finch", "lynx", "stork", "newt", "wren", "hare"];

/**
 * Take the first name that no other tab holds, for as long as this tab lives.
 *
 * @returns {Promise<string>}
 */
export async function claimClient() {
  if (!navigator.locks) return `${prefix()}-${randomText().slice(0, 8)}`;
  for (let number = 1; ; number += 1) {
    const name = `${prefix()}-${number}`;
    if (await hold(name)) return name;
  }
}

/**
 * Hold a client's name if nobody does, until the tab closes.
 *
 * @param {string} name
 * @returns {Promise<boolean>}
 */
export function hold(name) {
  if (!navigator.locks) return Promise.resolve(false);
  return new Promise((resolve) => {
    navigator.locks.request(`dpk-client:${name}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise(() => {});
    });
  });
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
