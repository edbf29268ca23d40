/**
 * Contrast-limited adaptive histogram equalization of the lightness.
 *
 * Source: Zuiderveld (1994), Contrast Limited Adaptive Histogram Equalization, Graphics Gems IV,
 * section VIII.5: a histogram a tile, clipped, and its curve interpolated between four tiles.
 */

const TILES = 8;
const BINS = 256;
/** A bin may hold so many times the mean. */
const CLIP = 3;

/**
 * Change pixels in place.
 *
 * @param {{data: Uint8ClampedArray, width: number, height: number}} pixels RGBA.
 * @param {number} strength 0 leaves them, 1 does all.
 */
export function equalize({ data, width, height }, strength) {
  const across = Math.max(1, Math.min(TILES, Math.floor(width / 4)));
  const down = Math.max(1, Math.min(TILES, Math.floor(height / 4)));
  const light = lightness(data);
  const curves = tileCurves(light, width, height, across, down);
  for (let y = 0; y < height; y += 1) {
    const [top, bottom, v] = between(y, height, down);
    for (let x = 0; x < width; x += 1) {
      const [left, right, u] = between(x, width, across);
      const i = y * width + x;
      const value = light[i];
      const upper = curves[top * across + left][value] * (1 - u) + curves[top * across + right][value] * u;
      const lower = curves[bottom * across + left][value] * (1 - u) + curves[bottom * across + right][value] * u;
      const wanted = value + ((upper * (1 - v) + lower * v) - value) * strength;
      const gain = value ? wanted / value : 1;
      const lift = value ? 0 : wanted;
      for (let c = 4 * i; c < 4 * i + 3; c += 1) data[c] = data[c] * gain + lift;
    }
  }
}

/** Rec. 601 luma of each pixel. */
function lightness(data) {
  const light = new Uint8Array(data.length / 4);
  for (let i = 0; i < light.length; i += 1) {
    const j = 4 * i;
    light[i] = (data[j] * 299 + data[j + 1] * 587 + data[j + 2] * 114 + 500) / 1000;
  }
  return light;
}

/** For each tile, what each lightness becomes. */
function tileCurves(light, width, height, across, down) {
  const curves = [];
  for (let ty = 0; ty < down; ty += 1) {
    for (let tx = 0; tx < across; tx += 1) {
      const counts = new Float64Array(BINS);
      const [x0, x1] = [Math.floor((tx * width) / across), Math.floor(((tx + 1) * width) / across)];
      const [y0, y1] = [Math.floor((ty * height) / down), Math.floor(((ty + 1) * height) / down)];
      for (let y = y0; y < y1; y += 1) {
        for (let x = x0; x < x1; x += 1) counts[light[y * width + x]] += 1;
      }
      curves.push(curve(counts, (x1 - x0) * (y1 - y0)));
    }
  }
  return curves;
}

/** The clipped histogram's running sum, over 0 to 255. */
function curve(counts, total) {
  const most = (CLIP * total) / BINS;
  let excess = 0;
  for (let i = 0; i < BINS; i += 1) {
    excess += Math.max(0, counts[i] - most);
    counts[i] = Math.min(counts[i], most);
  }
  const values = new Float32Array(BINS);
  let sum = 0;
  for (let i = 0; i < BINS; i += 1) {
    sum += counts[i] + excess / BINS;
    values[i] = (sum / total) * (BINS - 1);
  }
  return values;
}

/** The two tiles whose middles a pixel lies between, and how far along. */
function between(position, size, tiles) {
  const at = ((position + 0.5) * tiles) / size - 0.5;
  const first = Math.min(tiles - 1, Math.max(0, Math.floor(at)));
  const second = Math.min(tiles - 1, first + (at > first ? 1 : 0));
  return [first, second, Math.min(1, Math.max(0, at - first))];
}
