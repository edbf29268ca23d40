/** Works beside the page: gives pictures back with more local contrast. */

import { equalize } from "./equalize.js";

addEventListener("message", ({ data: { id, picture, strength } }) => {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  picture.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  equalize(pixels, strength / 100);
  context.putImageData(pixels, 0, 0);
  const made = canvas.transferToImageBitmap();
  postMessage({ id, made }, { transfer: [made] });
});
