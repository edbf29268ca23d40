/** Keys while a video is shown; those of labelling rest then. */

const LIKE = 10;

/** What is shown in the panel. @type {[string, string][]} */
export const FILM_KEYS = [
  ["→ E L", "Next frame"],
  ["← Q J", "Frame before"],
  [". >", `${LIKE} frames on (Shift + →)`],
  [", <", `${LIKE} frames back (Shift + ←)`],
  ["Page Down", "A second on"],
  ["Page Up", "A second back"],
  ["Home End", "First, last frame"],
  ["Space", "Play, pause"],
  ["G 1", "Go to a frame by its number"],
  ["A", "Add this frame to the set"],
  ["S", "Select this frame, or not"],
  ["Enter", "Label this frame, when it is in the set"],
  ["U", "Next unsure moment (with Shift: before)"],
  ["F", "Next fast moment (with Shift: before)"],
  ["X", "Exchange the chosen individuals from here on"],
  ["↑ ↓", "Enlarge the timeline, or make it smaller"],
  ["+ − 0", "Enlarge the picture, make it smaller, fit"],
  ["H", "Poses shown or not"],
  ["Esc", "Back to the image"],
];

export class FilmKeys {
  /** @param {import("./mode.js").FilmMode} mode */
  constructor(mode) {
    this.mode = mode;
    // Before the window, where the keys of labelling are heard.
    document.addEventListener("keydown", (event) => this.#down(event));
    document.addEventListener("keyup", (event) => {
      if (mode.film) event.stopPropagation();
    });
  }

  /** @param {KeyboardEvent} event */
  #down(event) {
    const { mode } = this;
    if (!mode.film || document.querySelector("dialog[open]")) return;
    const target = /** @type {HTMLElement} */ (event.target);
    const writing = target.matches("input:not([type=range]):not([type=checkbox]), textarea, select");
    if (!writing && mode.app.keys.action(event) === "help") return;
    event.stopPropagation();
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = event.key === "Escape" || event.key === "F6" || !writing ? this.#act(event, target) : null;
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** @param {KeyboardEvent} event @param {HTMLElement} target @returns {(() => void)|null} */
  #act(event, target) {
    const { mode } = this;
    const { film, timeline } = mode;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const here = target === mode.host || target === timeline.canvas || target === document.body;
    if ([" ", "Enter"].includes(key) && !here) return null;
    if (/^(Arrow|Page|Home|End)/.test(key) && target.matches("input, [role=tab]")) return null;
    const far = event.shiftKey ? LIKE : 1;
    const back = event.shiftKey ? -1 : 1;
    const second = Math.max(1, Math.round(film.fps || LIKE));
    /** @type {Record<string, () => void>} */
    const acts = {
      ArrowRight: () => mode.goBy(far),
      ArrowLeft: () => mode.goBy(-far),
      e: () => mode.goBy(far),
      l: () => mode.goBy(far),
      q: () => mode.goBy(-far),
      j: () => mode.goBy(-far),
      ".": () => mode.goBy(LIKE),
      ">": () => mode.goBy(LIKE),
      ",": () => mode.goBy(-LIKE),
      "<": () => mode.goBy(-LIKE),
      PageDown: () => mode.goBy(second),
      PageUp: () => mode.goBy(-second),
      Home: () => mode.goBy(-film.n_frames),
      End: () => mode.goBy(film.n_frames),
      " ": () => mode.player.toggle(),
      g: () => mode.bar.focusNumber(),
      1: () => mode.bar.focusNumber(),
      "/": () => mode.bar.focusNumber(),
      a: () => mode.add([mode.frame]),
      s: () => mode.select(),
      Enter: () => mode.bar.label(),
      u: () => mode.moment("confidence", back),
      f: () => mode.moment("speed", back),
      x: () => mode.exchange(),
      h: () => mode.set({ shown: !mode.look.shown }),
      ArrowUp: () => timeline.zoom(1.5),
      ArrowDown: () => timeline.zoom(1 / 1.5),
      "+": () => this.#zoom(1.25),
      "=": () => this.#zoom(1.25),
      "-": () => this.#zoom(0.8),
      0: () => this.#fit(),
      F6: () => this.#region(),
      Escape: () => {
        if (here) mode.app.tabs.choose("label");
        else mode.host.focus();
      },
    };
    return acts[key] ?? null;
  }

  #zoom(factor) {
    const { stage, pointer } = this.mode;
    stage.view.zoom(factor, ...(pointer.place ?? []));
    stage.redraw();
  }

  #fit() {
    this.mode.stage.view.fit();
    this.mode.stage.redraw();
  }

  /** On to the next part of the page, round and round. */
  #region() {
    const { mode } = this;
    const parts = [
      [mode.host, mode.host],
      [document.getElementById("side"), document.querySelector('[role="tab"][aria-selected="true"]')],
      [mode.bar.element, mode.timeline.canvas],
    ];
    const here = parts.findIndex(([region]) => region.contains(document.activeElement));
    /** @type {HTMLElement} */ (parts[(here + 1) % parts.length][1]).focus();
  }
}
