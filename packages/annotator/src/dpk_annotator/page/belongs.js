/** Whether a key means its action where the focus is, or something of the element that has it. */

/** Of these the key itself is wanted, wherever the focus is. */
const ALWAYS = new Set(["regions", "stage"]);

/**
 * Tab goes through keypoints on the image only, letters are letters where text is written, Enter and
 * space press buttons, arrows move sliders and tabs.
 *
 * @param {KeyboardEvent} event
 * @param {string} action
 * @param {(Element|null)[]} stages What the keys are about, when it has the focus.
 */
export function belongs(event, action, stages) {
  if (ALWAYS.has(action)) return true;
  const target = /** @type {HTMLElement} */ (event.target);
  const here = stages.includes(target);
  if (target.matches?.("input:not([type=range]):not([type=checkbox]), textarea, select")) return false;
  if (event.key === "Tab") return here;
  if (["Enter", " "].includes(event.key)) return here || target === document.body;
  if (/^(Arrow|Page|Home|End)/.test(event.key)) return here || !target.matches?.("input, [role=tab]");
  return true;
}
