// A mask as a list of steps on a canvas: undo is the list without its last, painted anew.

/** Shown over the picture; in the file that is sent the same is white, and the rest black. */
const TINT = "#ff2d78";

/**
 * @typedef {{kind: "stroke", erase: boolean, size: number, points: [number, number][]}
 *   | {kind: "invert"} | {kind: "clear"} | {kind: "load", bitmap: ImageBitmap}} Step
 *   sizes and points in pixels of the picture
 */

/** Says "change" whenever there is more or less to undo. */
export class Mask extends EventTarget {
  #canvas;
  #pen;
  /** @type {Step[]} */
  #steps = [];
  /** @type {Step[]} */
  #undone = [];

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d", { willReadFrequently: true });
  }

  get width() {
    return this.#canvas.width;
  }

  get height() {
    return this.#canvas.height;
  }

  get canUndo() {
    return this.#steps.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** For another picture: empty, nothing to undo. */
  reset(width, height) {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#steps = [];
    this.#undone = [];
    this.#changed();
  }

  /** Begins a stroke, a dot until it is drawn on. */
  begin(point, { size, erase }) {
    this.#do({ kind: "stroke", erase, size, points: [point] });
  }

  /** Draws the stroke that was begun on to here. */
  drawTo(point) {
    const stroke = this.#steps.at(-1);
    const from = stroke.points.at(-1);
    stroke.points.push(point);
    this.#paint({ ...stroke, points: [from, point], begun: true });
  }

  invert() {
    this.#do({ kind: "invert" });
  }

  clear() {
    if (!this.isEmpty()) this.#do({ kind: "clear" });
  }

  /** Takes a mask from a file, white for what is repainted, stretched over the picture. */
  async load(file) {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    this.#do({ kind: "load", bitmap: await whiteParts(bitmap, this.width, this.height) });
  }

  undo() {
    if (!this.canUndo) return;
    this.#undone.push(this.#steps.pop());
    this.#pen.clearRect(0, 0, this.width, this.height);
    for (const step of this.#steps) this.#paint(step);
    this.#changed();
  }

  redo() {
    if (!this.canRedo) return;
    this.#steps.push(this.#undone.pop());
    this.#paint(this.#steps.at(-1));
    this.#changed();
  }

  isEmpty() {
    const { data } = this.#pen.getImageData(0, 0, this.width, this.height);
    for (let at = 3; at < data.length; at += 4) if (data[at] > 127) return false;
    return true;
  }

  /**
   * A PNG: white is repainted, black is kept.
   *
   * @param {{width: number, height: number}} size  as the picture that it goes with; by default the one it was painted on
   * @returns {Promise<Blob>}
   */
  async file({ width, height } = this) {
    const sheet = new OffscreenCanvas(width, height);
    const pen = sheet.getContext("2d");
    pen.imageSmoothingEnabled = false; // an edge stays an edge
    pen.drawImage(this.#canvas, 0, 0, width, height);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "destination-over";
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, width, height);
    return sheet.convertToBlob({ type: "image/png" });
  }

  #do(step) {
    this.#steps.push(step);
    this.#undone = [];
    this.#paint(step);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {Step} step */
  #paint(step) {
    const pen = this.#pen;
    pen.save();
    pen.fillStyle = pen.strokeStyle = TINT;
    if (step.kind === "stroke") {
      pen.globalCompositeOperation = step.erase ? "destination-out" : "source-over";
      this.#line(step);
    } else if (step.kind === "invert") {
      pen.globalCompositeOperation = "xor"; // what is covered twice is empty again
      pen.fillRect(0, 0, this.width, this.height);
    } else {
      pen.clearRect(0, 0, this.width, this.height);
      if (step.kind === "load") pen.drawImage(step.bitmap, 0, 0);
    }
    pen.restore();
  }

  /** Piece by piece, as it was drawn: the edge of one long path would be smoothed otherwise than that of its pieces. */
  #line({ points, size, begun }) {
    const pen = this.#pen;
    pen.lineWidth = size;
    pen.lineCap = "round";
    points.forEach((point, number) => {
      if (number === 0 && begun) return;
      pen.beginPath();
      if (number === 0) {
        pen.arc(...point, size / 2, 0, 2 * Math.PI);
        pen.fill();
      } else {
        pen.moveTo(...points[number - 1]);
        pen.lineTo(...point);
        pen.stroke();
      }
    });
  }
}

/** The tint wherever a picture is brighter than half grey and not transparent. */
async function whiteParts(bitmap, width, height) {
  const sheet = new OffscreenCanvas(width, height);
  const pen = sheet.getContext("2d");
  pen.drawImage(bitmap, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height);
  const tint = [1, 3, 5].map((at) => parseInt(TINT.slice(at, at + 2), 16));
  for (let at = 0; at < pixels.data.length; at += 4) {
    const [red, green, blue, alpha] = pixels.data.subarray(at, at + 4);
    const white = alpha > 127 && red * 0.299 + green * 0.587 + blue * 0.114 > 127;
    pixels.data.set([...tint, white ? 255 : 0], at);
  }
  return createImageBitmap(pixels);
}
