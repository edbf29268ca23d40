/**
 * What one image's labels are after an edit: the page's own picture of what the server will say,
 * so that nobody waits for it. The server's answer always has the last word.
 */

/** @typedef {[number|null, number|null, number, boolean]} Point x, y, visibility, annotated */
/**
 * @typedef {object} Guess
 * @property {Record<string, [number|null, number|null, number]>} points x, y, score by name
 * @property {string} model
 */
/**
 * @typedef {object} RowState
 * @property {number} row
 * @property {number} revision
 * @property {Record<string, Point>} points
 * @property {boolean} flag
 * @property {string} note
 * @property {boolean} finished
 * @property {Guess|null} guess
 * @property {number} width Of the picture proper; what lies beyond is padding.
 * @property {number} height
 * @property {string} source
 */
/**
 * @typedef {object} Skeleton
 * @property {string[]} names
 * @property {number[]} parents Index of each keypoint's parent, -1 for none.
 * @property {number[]} swaps Index of each keypoint's partner on the other side, -1 for none.
 * @property {number} [seq] Which edit of the set it is of.
 */
/** @typedef {{kind: string} & Record<string, any>} Edit */

export const HIDDEN = 1;
export const VISIBLE = 2;
/** @type {Point} */
const UNTOUCHED = [null, null, 0, false];

/** @param {Point|undefined} point */
export const isMissing = (point) => !point || point[0] === null;
/** @param {Point|undefined} point */
export const isAnnotated = (point) => Boolean(point && point[3]);

/**
 * @param {Skeleton} skeleton
 * @returns {number[]} For each keypoint the one it takes its place from when left and right swap.
 */
export function flipOrder(skeleton) {
  const { swaps } = skeleton;
  return swaps.map((partner, i) => (partner >= 0 && swaps[partner] === i ? partner : i));
}

/**
 * 0 nobody has dealt with any keypoint, 1 with some, 2 with all.
 *
 * @param {RowState} state
 * @param {Skeleton} skeleton
 */
export function statusOf(state, skeleton) {
  const done = skeleton.names.filter((name) => isAnnotated(state.points[name])).length;
  if (state.finished) return 2;
  if (done === 0) return 0;
  return done === skeleton.names.length ? 2 : 1;
}

/**
 * The keypoints that an edit touches, as `.NAME`, and `flag`, `note`, `finished`.
 *
 * @param {Edit} edit
 * @param {Skeleton} skeleton
 * @returns {Set<string>}
 */
export function partsOf(edit, skeleton) {
  const all = () => skeleton.names.map((name) => `.${name}`);
  switch (edit.kind) {
    case "move":
    case "visibility":
    case "clear":
      return new Set([`.${edit.keypoint}`]);
    case "flag":
    case "note":
      return new Set([edit.kind]);
    case "finished":
      return new Set([...all(), "finished"]);
    case "copy":
    case "confirm":
    case "patch": {
      const marks = ["flag", "note", "finished"].filter((mark) => (edit[mark] ?? null) !== null);
      return new Set([...Object.keys(edit.points ?? {}).map((name) => `.${name}`), ...marks]);
    }
    default:
      return new Set([...all(), "finished"]);
  }
}

/** @type {Record<string, (state: RowState, edit: any, skeleton: Skeleton) => Partial<RowState>>} */
const CHANGES = {
  move: (state, { keypoint, x, y }) => {
    const hidden = state.points[keypoint]?.[2] === HIDDEN;
    return withPoints(state, { [keypoint]: [x, y, hidden ? HIDDEN : VISIBLE, true] });
  },
  visibility: (state, { keypoint, visibility }) => {
    const point = state.points[keypoint];
    if (visibility === 0) return withPoints(state, { [keypoint]: [null, null, 0, true] });
    if (isMissing(point)) return {};
    return withPoints(state, { [keypoint]: [point[0], point[1], visibility, true] });
  },
  clear: (state, { keypoint }) => withPoints(state, { [keypoint]: UNTOUCHED }),
  flag: (_, { flag }) => ({ flag }),
  note: (_, { note }) => ({ note }),
  finished: (state, { finished }, skeleton) => {
    if (!finished) return { finished };
    /** @type {Record<string, Point>} */
    const points = byName();
    for (const name of skeleton.names) points[name] = annotated(state.points[name] ?? UNTOUCHED);
    return { finished, points };
  },
  swap: (state, _, skeleton) => {
    const { names } = skeleton;
    /** @type {Record<string, Point>} */
    const points = byName();
    flipOrder(skeleton).forEach((from, to) => {
      points[names[to]] = state.points[names[from]] ?? UNTOUCHED;
    });
    return { points };
  },
  copy: (state, { points, overwrite }) => withPoints(state, taken(state, points, overwrite)),
  confirm: (state, { points }) => withPoints(state, taken(state, points, false)),
  reset: (_, __, skeleton) => ({
    finished: false,
    points: Object.fromEntries(skeleton.names.map((name) => [name, UNTOUCHED])),
  }),
  patch: (state, { points, flag, note, finished }) => ({
    ...withPoints(state, points ?? {}),
    flag: flag ?? state.flag,
    note: note ?? state.note,
    finished: finished ?? state.finished,
  }),
};

/**
 * The state after an edit; the one given stays as it is.
 *
 * @param {RowState} state
 * @param {Edit} edit
 * @param {Skeleton} skeleton
 * @returns {RowState}
 */
export function applyEdit(state, edit, skeleton) {
  const change = CHANGES[edit.kind];
  return change ? { ...state, ...change(state, edit, skeleton) } : state;
}

/**
 * The edit that makes `after` out of `before`.
 *
 * @param {RowState} before
 * @param {RowState} after
 * @returns {Edit}
 */
export function difference(before, after) {
  /** @type {Edit} */
  const patch = { kind: "patch", points: byName(), flag: null, note: null, finished: null };
  for (const [name, point] of Object.entries(after.points)) {
    if (!samePoint(before.points[name], point)) patch.points[name] = point;
  }
  for (const mark of ["flag", "note", "finished"]) {
    if (before[mark] !== after[mark]) patch[mark] = after[mark];
  }
  return patch;
}

/**
 * Whether a patch changes nothing.
 *
 * @param {Edit} patch
 */
export const isNothing = ({ points, flag, note, finished }) =>
  !Object.keys(points).length && flag === null && note === null && finished === null;

/**
 * The guesses that a person may take over: good enough, and not labelled yet.
 *
 * @param {RowState} state
 * @param {string[]|null} keypoints Only these; null for all.
 * @param {number} threshold
 * @returns {Record<string, Point>}
 */
export function confirmable(state, keypoints, threshold) {
  /** @type {Record<string, Point>} */
  const points = byName();
  for (const [name, [x, y, score]] of Object.entries(state.guess?.points ?? {})) {
    if (x === null || y === null || score < threshold || isAnnotated(state.points[name])) continue;
    if (!keypoints || keypoints.includes(name)) points[name] = [x, y, VISIBLE, true];
  }
  return points;
}

/**
 * @param {Point|undefined} a
 * @param {Point|undefined} b
 */
export function samePoint(a, b) {
  if (!a || !b) return !a && !b;
  return a.every((value, i) => value === b[i]);
}

/** Values by name, whatever the name is: `__proto__` is one like any other. */
function byName() {
  return Object.create(null);
}

function withPoints(state, points) {
  return { points: { ...state.points, ...points } };
}

function taken(state, points, overwrite) {
  /** @type {Record<string, Point>} */
  const chosen = byName();
  for (const [name, point] of Object.entries(points)) {
    const free = overwrite || !isAnnotated(state.points[name]);
    if (Object.hasOwn(state.points, name) && !isMissing(point) && free) chosen[name] = annotated(point);
  }
  return chosen;
}

/** @param {Point} point @returns {Point} */
function annotated([x, y, visibility]) {
  return [x, y, x === null ? 0 : visibility || VISIBLE, true];
}
