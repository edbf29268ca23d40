/** The keys, shown and chosen anew. */

import { button, element, openDialog } from "./dom.js";
import { keyLabel, keyName } from "./keys.js";
import { ACTIONS } from "./keys_table.js";

/**
 * @param {import("./keys.js").Keys} keys
 * @param {string} [first] The group that is at the top.
 */
export function showHelp(keys, first = "") {
  const groups = element("div", { class: "key-groups" });
  const said = element("p", { class: "said", role: "status" });
  const file = element("input", { type: "file", accept: ".json,application/json", hidden: true });
  const fill = () => groups.replaceChildren(...groupNames(first).map((name) => group(name, keys, fill, said)));
  fill();
  file.addEventListener("change", async () => {
    try {
      keys.read(await file.files[0].text());
      said.textContent = "The keys from the file hold now.";
    } catch (error) {
      said.textContent = `That file could not be taken: ${error instanceof Error ? error.message : error}.`;
    }
    file.value = "";
    fill();
  });
  const dialog = openDialog(
    "Keys",
    [
      element("p", {
        class: "hint",
        text: "Click places the active keypoint, and drags what is there already. Shift and click places it even close to another. Wheel or pinch enlarges, space and drag (or the right button) pans. Press a key below to choose another.",
      }),
      groups,
      said,
      element(
        "div",
        { class: "buttons" },
        file,
        button("Keys from a file…", () => file.click(), { class: "quiet framed" }),
        button("Save as a file", () => save(keys.write()), { class: "quiet framed" }),
        button("All as at first", () => {
          keys.reset();
          said.textContent = "All keys are as at first.";
          fill();
        }, { class: "quiet framed" }),
        button("Close", () => dialog.close(), { class: "primary" }),
      ),
    ],
    "help",
  );
  /** @type {HTMLElement} */ (dialog.querySelector(".primary")).focus();
}

function groupNames(first) {
  const names = new Set(ACTIONS.map(({ group: name }) => name));
  return names.has(first) ? [first, ...[...names].filter((name) => name !== first)] : [...names];
}

function group(name, keys, changed, said) {
  const rows = ACTIONS.filter((action) => action.group === name).map((action) => {
    const shown = element("span", { class: "keys" });
    for (const key of keys.of(action.id)) shown.append(element("kbd", { text: keyLabel(key) }));
    if (!keys.of(action.id).length) shown.append(element("span", { class: "none", text: "no key" }));
    return element(
      "li",
      {},
      element("span", { text: action.text }),
      element(
        "button",
        {
          type: "button",
          class: "quiet keys-of",
          "data-action": action.id,
          "aria-label": `${action.text}: ${keys.of(action.id).map(keyLabel).join(" or ") || "no key"}. Choose another`,
          on: { click: (event) => choose(event.currentTarget, action, keys, changed, said) },
        },
        shown,
      ),
    );
  });
  return element("section", {}, element("h3", { text: name }), element("ul", {}, ...rows));
}

/** Wait for a key, and take it. */
function choose(target, action, keys, changed, said) {
  said.textContent = `Press the key for “${action.text}”. Delete leaves it without one, Esc leaves it as it is.`;
  target.classList.add("waiting");
  const done = () => {
    removeEventListener("keydown", take, true);
    target.removeEventListener("blur", done);
    target.classList.remove("waiting");
  };
  const take = (/** @type {KeyboardEvent} */ event) => {
    const name = keyName(event);
    if (name === null) return;
    event.preventDefault();
    event.stopPropagation();
    done();
    if (name === "Escape") said.textContent = "";
    else {
      keys.choose(action.id, name === "Delete" ? [] : [name]);
      said.textContent = name === "Delete" ? `“${action.text}” has no key now.` : `“${action.text}”: ${keyLabel(name)}.`;
    }
    changed();
    /** @type {HTMLElement|null} */ (document.querySelector(`[data-action="${action.id}"]`))?.focus();
  };
  addEventListener("keydown", take, true);
  target.addEventListener("blur", done);
}

function save(text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href: address, download: "dpk-keys.json" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
