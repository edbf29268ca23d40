/** Keys while a video is shown; those of labelling rest then. */

import { belongs } from "../belongs.js";
import { runFilmCommand } from "./commands.js";

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
    event.stopPropagation();
    if (event.defaultPrevented) return;
    const action = mode.app.keys.action(event, "video");
    if (action === null || !belongs(event, action, [mode.host, mode.timeline.canvas])) return;
    event.preventDefault();
    runFilmCommand(mode, action, event.repeat);
  }
}
