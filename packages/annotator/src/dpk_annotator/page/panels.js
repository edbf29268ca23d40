/**
 * The panels beside the image, in the order of their tabs. A panel is an object with `id`, `title`,
 * `icon` (path data of 16 x 16) and `create(app)`, which gives `{element, shown?()}`; `shown` is called
 * whenever its tab is chosen. With `feature`, it is there only where the server has that feature.
 */

import { displayPanel } from "./panels/display.js";
import { historyPanel } from "./panels/history.js";
import { labelPanel } from "./panels/label.js";
import { mergePanel } from "./panels/merge.js";
import { partnerPanel } from "./panels/partner.js";
import { skeletonPanel } from "./panels/skeleton.js";
import { videosPanel } from "./panels/videos.js";

/** @typedef {{element: HTMLElement, shown?: () => void, hidden?: () => void}} PanelView */
/**
 * @typedef {object} Panel
 * @property {string} id
 * @property {string} title
 * @property {string} icon
 * @property {string} [feature]
 * @property {(app: import("./app.js").App) => PanelView} create
 */

/** @type {Panel[]} */
export const PANELS = [labelPanel, partnerPanel, videosPanel, displayPanel, skeletonPanel, mergePanel, historyPanel];
