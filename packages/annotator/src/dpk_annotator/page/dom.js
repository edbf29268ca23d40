/** Elements made of values: text is always text, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {Record<string, any>} [properties] `class`, `text`, `on` (listeners by event), `aria-...`,
 *   `data-...` and `role` are set as such, all else as properties of the element.
 * @param {...(Node|string|null|undefined)} children
 * @returns {any}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "role" || name === "for" || name.includes("-")) made.setAttribute(name, String(value));
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * Make an SVG element with attributes.
 *
 * @param {string} tag
 * @param {Record<string, string|number>} attributes
 * @param {...Node} children
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * A line icon of 16 x 16, from path data.
 *
 * @param {string} path
 */
export function icon(path) {
  return svg(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", class: "icon" },
    svg("path", { d: path }),
  );
}

/**
 * A button with a name, and an icon where there is one.
 *
 * @param {string} name What it does; shown, or (with `iconOnly`) read and shown on hovering.
 * @param {() => void} action
 * @param {{icon?: string, iconOnly?: boolean, class?: string, title?: string}} [options]
 * @returns {HTMLButtonElement}
 */
export function button(name, action, options = {}) {
  const hidden = options.icon && options.iconOnly;
  return element(
    "button",
    {
      type: "button",
      class: options.class ?? (hidden ? "quiet square" : "quiet"),
      title: options.title ?? (hidden ? name : undefined),
      "aria-label": hidden ? name : undefined,
      on: { click: action },
    },
    options.icon ? icon(options.icon) : null,
    hidden ? null : element("span", { text: name }),
  );
}

let numbered = 0;

/**
 * A name for an element that is used once in the page.
 *
 * @param {string} stem
 */
export function uniqueId(stem) {
  numbered += 1;
  return `${stem}-${numbered}`;
}

/**
 * Put a title, read by those who hear the page, and text into a dialog and show it.
 *
 * @param {string} title
 * @param {Node[]} content
 * @param {string} [className]
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, content, className = "") {
  const id = uniqueId("dialog");
  const dialog = element(
    "dialog",
    { class: className, "aria-labelledby": id },
    element("h2", { id, text: title }),
    ...content,
  );
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
