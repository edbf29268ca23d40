/** What each action of the table of keys does while a video is shown. */

import { showHelp } from "../help.js";

const LIKE = 10;
const ZOOM = 1.25;
const ALONG = 1.5;

/** Actions that make sense when their key is held. */
const REPEATS = new Set(["film-next", "film-previous", "film-forward", "film-back", "film-second-on", "film-second-back", "film-closer", "film-farther", "film-zoom-in", "film-zoom-out"]);

/** @typedef {import("./mode.js").FilmMode} FilmMode */

/** @type {Record<string, (mode: FilmMode) => void>} */
const COMMANDS = {
  "film-next": (mode) => mode.goBy(1),
  "film-previous": (mode) => mode.goBy(-1),
  "film-forward": (mode) => mode.goBy(LIKE),
  "film-back": (mode) => mode.goBy(-LIKE),
  "film-second-on": (mode) => mode.goBy(second(mode)),
  "film-second-back": (mode) => mode.goBy(-second(mode)),
  "film-first": (mode) => mode.goBy(-mode.film.n_frames),
  "film-last": (mode) => mode.goBy(mode.film.n_frames),
  "film-play": (mode) => mode.player.toggle(),
  "film-number": (mode) => mode.bar.focusNumber(),
  "film-add": (mode) => mode.add([mode.frame]),
  "film-select": (mode) => mode.select(),
  "film-label": (mode) => mode.bar.label(),
  "film-unsure": (mode) => mode.moment("confidence", 1),
  "film-unsure-before": (mode) => mode.moment("confidence", -1),
  "film-fast": (mode) => mode.moment("speed", 1),
  "film-fast-before": (mode) => mode.moment("speed", -1),
  "film-exchange": (mode) => mode.exchange(),
  "film-take-back": (mode) => mode.takeBack(),
  "film-closer": (mode) => mode.timeline.zoom(ALONG),
  "film-farther": (mode) => mode.timeline.zoom(1 / ALONG),
  "film-zoom-in": (mode) => zoom(mode, ZOOM),
  "film-zoom-out": (mode) => zoom(mode, 1 / ZOOM),
  "film-fit": (mode) => {
    mode.stage.view.fit();
    mode.stage.redraw();
  },
  "film-poses": (mode) => mode.set({ shown: !mode.look.shown }),
  regions,
  stage: (mode) => {
    if (isStage(mode, document.activeElement)) mode.app.tabs.choose("label");
    else mode.host.focus();
  },
  help: (mode) => showHelp(mode.app.keys, "Video"),
};

/**
 * @param {FilmMode} mode
 * @param {string} action
 * @param {boolean} [held] Whether the key repeats itself.
 */
export function runFilmCommand(mode, action, held = false) {
  if (!held || REPEATS.has(action)) COMMANDS[action]?.(mode);
}

/** @param {FilmMode} mode @param {Element|null} element */
const isStage = (mode, element) => [mode.host, mode.timeline.canvas, document.body].includes(element);

/** Frames of a second. @param {FilmMode} mode */
const second = ({ film }) => Math.max(1, Math.round(film.fps || LIKE));

/** @param {FilmMode} mode @param {number} factor */
function zoom({ stage, pointer }, factor) {
  stage.view.zoom(factor, ...(pointer.place ?? []));
  stage.redraw();
}

/** On to the next part of the page, round and round. @param {FilmMode} mode */
function regions(mode) {
  const parts = [
    [mode.host, mode.host],
    [document.getElementById("side"), document.querySelector('[role="tab"][aria-selected="true"]')],
    [mode.bar.element, mode.timeline.canvas],
  ];
  const here = parts.findIndex(([region]) => region.contains(document.activeElement));
  /** @type {HTMLElement} */ (parts[(here + 1) % parts.length][1]).focus();
}
