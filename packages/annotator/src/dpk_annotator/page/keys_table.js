/**
 * What keys do unless somebody chooses others. Those of DeepPoseKit's annotator keep their meaning.
 * A key is what it writes (`w`, `<`, `?`) or its name (`Tab`, `Enter`), with `Shift+`, `Alt+` and
 * `Ctrl+` (Cmd on a Mac) before letters and names. Everything has a key for the left hand alone.
 */

/** @typedef {{id: string, group: string, text: string, keys: string[]}} Action */

/** @type {Action[]} */
export const ACTIONS = [
  { "id": "next-keypoint", "group": "Keypoints", "text": "Next keypoint", "keys": ["Tab", "k"] },
  { "id": "previous-keypoint", "group": "Keypoints", "text": "Keypoint before", "keys": ["Shift+Tab", "i"] },
  { "id": "up", "group": "Keypoints", "text": "Move up by the step", "keys": ["w"] },
  { "id": "left", "group": "Keypoints", "text": "Move left by the step", "keys": ["a"] },
  { "id": "down", "group": "Keypoints", "text": "Move down by the step", "keys": ["s"] },
  { "id": "right", "group": "Keypoints", "text": "Move right by the step", "keys": ["d"] },
  { "id": "step", "group": "Keypoints", "text": "Step of 1 or 10 pixels", "keys": ["Space"] },
  { "id": "up-fine", "group": "Keypoints", "text": "Move up by 0.1 pixels", "keys": ["Alt+w"] },
  { "id": "left-fine", "group": "Keypoints", "text": "Move left by 0.1 pixels", "keys": ["Alt+a"] },
  { "id": "down-fine", "group": "Keypoints", "text": "Move down by 0.1 pixels", "keys": ["Alt+s"] },
  { "id": "right-fine", "group": "Keypoints", "text": "Move right by 0.1 pixels", "keys": ["Alt+d"] },
  { "id": "up-far", "group": "Keypoints", "text": "Move up by 10 pixels", "keys": ["Shift+w"] },
  { "id": "left-far", "group": "Keypoints", "text": "Move left by 10 pixels", "keys": ["Shift+a"] },
  { "id": "down-far", "group": "Keypoints", "text": "Move down by 10 pixels", "keys": ["Shift+s"] },
  { "id": "right-far", "group": "Keypoints", "text": "Move right by 10 pixels", "keys": ["Shift+d"] },
  { "id": "place", "group": "Keypoints", "text": "Place the keypoint: at its guess, or in the middle of the view", "keys": ["Enter", "g"] },
  { "id": "visibility", "group": "Keypoints", "text": "Visible or hidden", "keys": ["v"] },
  { "id": "absent", "group": "Keypoints", "text": "Absent from the image", "keys": ["x"] },
  { "id": "clear", "group": "Keypoints", "text": "Clear the keypoint", "keys": ["c", "Delete", "Backspace"] },
  { "id": "next-image", "group": "Images", "text": "Next image", "keys": ["l", "e", "ArrowRight"] },
  { "id": "previous-image", "group": "Images", "text": "Image before", "keys": ["j", "q", "ArrowLeft"] },
  { "id": "forward", "group": "Images", "text": "10 images on", "keys": [">", ".", "Shift+e"] },
  { "id": "back", "group": "Images", "text": "10 images back", "keys": ["<", ",", "Shift+q"] },
  { "id": "next-unlabelled", "group": "Images", "text": "Next image that is not finished", "keys": ["u", "Shift+f"] },
  { "id": "next-suggested", "group": "Images", "text": "Next image that the partner suggests", "keys": ["]", "6"] },
  { "id": "previous-suggested", "group": "Images", "text": "Suggested image before", "keys": ["[", "Shift+r"] },
  { "id": "search", "group": "Images", "text": "Go to an image by its number", "keys": ["/", "Ctrl+g", "1"] },
  { "id": "finished", "group": "This image", "text": "Finished, or not", "keys": ["f"] },
  { "id": "reset", "group": "This image", "text": "Reset: clear all its labels", "keys": ["r"] },
  { "id": "flag", "group": "This image", "text": "Flag, or not", "keys": ["b"] },
  { "id": "note", "group": "This image", "text": "Write a note", "keys": ["m", "2"] },
  { "id": "swap", "group": "This image", "text": "Swap left and right", "keys": ["t"] },
  { "id": "copy", "group": "This image", "text": "Copy what is missing from the frame before", "keys": ["p", "Shift+v"] },
  { "id": "confirm", "group": "This image", "text": "Confirm all guesses", "keys": ["y", "Shift+g"] },
  { "id": "undo", "group": "This image", "text": "Undo", "keys": ["z", "Ctrl+z"] },
  { "id": "redo", "group": "This image", "text": "Redo", "keys": ["Shift+z", "Ctrl+Shift+z", "Ctrl+y"] },
  { "id": "zoom-in", "group": "View", "text": "Enlarge", "keys": ["+", "="] },
  { "id": "zoom-out", "group": "View", "text": "Make smaller", "keys": ["-", "_"] },
  { "id": "zoom-in-left", "group": "View", "text": "Enlarge about the keypoint", "keys": ["4"] },
  { "id": "zoom-out-left", "group": "View", "text": "Make smaller about the keypoint", "keys": ["3"] },
  { "id": "fit", "group": "View", "text": "Whole image", "keys": ["0", "5"] },
  { "id": "loupe", "group": "View", "text": "Loupe on or off", "keys": ["o", "Shift+c"] },
  { "id": "names", "group": "View", "text": "Names: some, all, the active one, none", "keys": ["n", "Shift+t"] },
  { "id": "guesses", "group": "View", "text": "Guesses shown or not", "keys": ["h", "Shift+x"] },
  { "id": "regions", "group": "Page", "text": "On to the next part of the page", "keys": ["F6"] },
  { "id": "stage", "group": "Page", "text": "Back to the image", "keys": ["Escape"] },
  { "id": "help", "group": "Page", "text": "Show the keys", "keys": ["?", "F1"] }
];
