/**
 * From image to screen and back. Image coordinates have (0, 0) in the centre of the top-left pixel,
 * so that the pixel covers -0.5 to 0.5; device coordinates are those of the canvas' own pixels,
 * (0, 0) its top-left corner.
 */

const SMALLEST = 0.02;
const LARGEST = 200;
/** How much of the picture stays in sight, in device pixels. */
const IN_SIGHT = 40;

export class View {
  /** Device pixels an image pixel. */
  scale = 1;
  /** Device coordinates of the image's top-left corner. */
  left = 0;
  top = 0;
  /** Size of the canvas in device pixels. */
  width = 1;
  height = 1;
  /** Size of the image in pixels. */
  imageWidth = 1;
  imageHeight = 1;
  /** Whether the whole picture is kept in sight when sizes change. */
  fitted = true;

  /** @param {number} x @param {number} y @returns {[number, number]} Device coordinates. */
  toDevice(x, y) {
    return [(x + 0.5) * this.scale + this.left, (y + 0.5) * this.scale + this.top];
  }

  /** @param {number} x @param {number} y @returns {[number, number]} Image coordinates. */
  toImage(x, y) {
    return [(x - this.left) / this.scale - 0.5, (y - this.top) / this.scale - 0.5];
  }

  /** @param {number} width @param {number} height Of the canvas. */
  resize(width, height) {
    const [x, y] = this.toImage(this.width / 2, this.height / 2);
    this.width = width;
    this.height = height;
    if (this.fitted) this.fit();
    else this.centre(x, y);
  }

  /** @param {number} width @param {number} height Of the image. */
  setImage(width, height) {
    if (width === this.imageWidth && height === this.imageHeight) return;
    this.imageWidth = width;
    this.imageHeight = height;
    this.fit();
  }

  /** Show the whole image with a little room around it. */
  fit() {
    const room = Math.min(this.width, this.height) * 0.03;
    const across = (this.width - 2 * room) / this.imageWidth;
    const down = (this.height - 2 * room) / this.imageHeight;
    this.scale = limit(Math.min(across, down));
    this.centre((this.imageWidth - 1) / 2, (this.imageHeight - 1) / 2);
    this.fitted = true;
  }

  /**
   * Enlarge about a place that stays where it is.
   *
   * @param {number} factor
   * @param {number} x Device coordinates.
   * @param {number} y
   */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = limit(this.scale * factor);
    const real = scale / this.scale;
    this.left = x - (x - this.left) * real;
    this.top = y - (y - this.top) * real;
    this.scale = scale;
    this.fitted = false;
    this.#keepInSight();
  }

  /** @param {number} dx Device pixels. @param {number} dy */
  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.fitted = false;
    this.#keepInSight();
  }

  /**
   * Bring a place of the image to the middle of the canvas.
   *
   * @param {number} x Image coordinates.
   * @param {number} y
   */
  centre(x, y) {
    this.left = this.width / 2 - (x + 0.5) * this.scale;
    this.top = this.height / 2 - (y + 0.5) * this.scale;
    if (Number.isInteger(this.scale)) this.#onWholePixels();
  }

  /**
   * Move just so much that a place is in sight.
   *
   * @param {number} x Image coordinates.
   * @param {number} y
   */
  reveal(x, y) {
    const [dx, dy] = this.toDevice(x, y);
    const edge = Math.min(60, this.width / 4, this.height / 4);
    const across = Math.max(edge - dx, 0) - Math.max(dx - (this.width - edge), 0);
    const down = Math.max(edge - dy, 0) - Math.max(dy - (this.height - edge), 0);
    if (across || down) this.pan(across, down);
  }

  #onWholePixels() {
    this.left = Math.round(this.left);
    this.top = Math.round(this.top);
  }

  #keepInSight() {
    const width = this.imageWidth * this.scale;
    const height = this.imageHeight * this.scale;
    this.left = Math.min(this.width - IN_SIGHT, Math.max(IN_SIGHT - width, this.left));
    this.top = Math.min(this.height - IN_SIGHT, Math.max(IN_SIGHT - height, this.top));
    if (Number.isInteger(this.scale)) this.#onWholePixels();
  }
}

/** @param {number} scale */
const limit = (scale) => Math.min(LARGEST, Math.max(SMALLEST, scale));
