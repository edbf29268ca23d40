/** Playing a video by the clock: a server that is slow leaves out frames and keeps the time. */

import { Emitter } from "../emitter.js";

/** Where a file does not tell. */
const USUAL_FPS = 25;

/** Emits `playing`. */
export class Player extends Emitter {
  playing = false;
  /** Times the speed of the video. */
  speed = 1;
  #from = 0;
  #since = 0;

  /** @param {import("./mode.js").FilmMode} mode */
  constructor(mode) {
    super();
    this.mode = mode;
  }

  toggle() {
    if (this.playing) this.stop();
    else this.#start();
  }

  /** @param {number} speed */
  setSpeed(speed) {
    this.speed = speed;
    this.#restart();
  }

  stop() {
    if (!this.playing) return;
    this.playing = false;
    this.emit("playing");
  }

  #start() {
    const { film, frame } = this.mode;
    if (!film) return;
    if (frame >= film.n_frames - 1) this.mode.go(0);
    this.playing = true;
    this.#restart();
    this.emit("playing");
    requestAnimationFrame(() => this.#tick());
  }

  #restart() {
    this.#from = this.mode.frame;
    this.#since = performance.now();
  }

  #tick() {
    const { mode } = this;
    if (!this.playing || !mode.film) return;
    const fps = (mode.film.fps > 0 ? mode.film.fps : USUAL_FPS) * this.speed;
    const frame = this.#from + Math.floor(((performance.now() - this.#since) * fps) / 1000);
    if (frame !== mode.frame) mode.go(frame);
    if (frame >= mode.film.n_frames - 1) this.stop();
    else requestAnimationFrame(() => this.#tick());
  }
}
