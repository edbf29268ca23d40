/** The page in words, for those who hear it. */

import { isAnnotated } from "./labels.js";

export class Spoken {
  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.room = document.getElementById("spoken");
  }

  /** @param {string} text */
  say(text) {
    this.room.textContent = text;
  }

  /** The active keypoint. */
  active() {
    const { state, activeName } = this.app;
    const point = state?.points[activeName];
    if (!isAnnotated(point)) return `${activeName}, not labelled`;
    return point[0] === null ? `${activeName}, absent` : `${activeName} at ${point[0]}, ${point[1]}`;
  }

  /** How far the image is. */
  progress() {
    const { state, skeleton } = this.app;
    if (!state) return "";
    const done = skeleton.names.filter((name) => isAnnotated(state.points[name])).length;
    return `${done} of ${skeleton.names.length} keypoints labelled${state.finished ? ", finished" : ""}.`;
  }
}
