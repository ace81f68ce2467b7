// The picture that comes in: dropped, pasted, chosen, photographed, or one that was just made.

import { Camera } from "./camera.js";

/** What the service reads; whatever else the browser can show becomes PNG. */
const READ_BY_SERVICE = ["image/png", "image/jpeg", "image/webp", "image/bmp"];
/** No side is painted larger than this: more would only make the upload longer. */
const LARGEST_SIDE = 2048;

/**
 * @typedef {object} Source
 * @property {Blob} blob   as it will be sent
 * @property {string} url  for <img>
 * @property {number} width   upright, pixels
 * @property {number} height
 */

/** Says "change" when there is another picture, or none. */
export class SourcePicture extends EventTarget {
  /** @type {?Source} */
  current = null;

  constructor() {
    super();
    const file = by("source-file");
    for (const id of ["source-choose", "source-replace"]) by(id).addEventListener("click", () => file.click());
    by("source-remove").addEventListener("click", () => this.remove());
    file.addEventListener("change", () => {
      if (file.files.length) this.use(file.files[0]);
      file.value = "";
    });
    const camera = new Camera((photo) => this.use(photo));
    by("source-camera").hidden = !camera.exists;
    by("source-camera").addEventListener("click", () => camera.open());
    this.#listenForDrops();
    document.addEventListener("paste", (event) => {
      const pasted = pictureIn(event.clipboardData);
      if (pasted) this.use(pasted);
    });
  }

  /** @param {Blob} blob  any picture that the browser can read */
  async use(blob) {
    let source;
    try {
      source = await readPicture(blob);
    } catch {
      this.#say("", "This file is no picture that your browser can read.");
      return;
    }
    this.remove();
    this.current = { ...source, url: URL.createObjectURL(source.blob) };
    by("source-image").src = this.current.url;
    by("easel").style.setProperty("--ratio", source.width / source.height);
    this.#say(source.note, "");
    this.#changed();
  }

  remove() {
    if (this.current) URL.revokeObjectURL(this.current.url);
    this.current = null;
    by("source-image").removeAttribute("src");
    this.#say("", "");
    this.#changed();
  }

  #changed() {
    by("drop").hidden = this.current !== null;
    by("easel").hidden = by("source-tools").hidden = this.current === null;
    this.dispatchEvent(new Event("change"));
  }

  #say(note, error) {
    by("source-note").textContent = note;
    by("image-error").textContent = error;
    by("image-error").hidden = !error;
  }

  /** Anywhere on the page: who misses the box would else leave the page for the picture. */
  #listenForDrops() {
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      by("drop").classList.add("over");
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) by("drop").classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      by("drop").classList.remove("over");
      const dropped = pictureIn(event.dataTransfer);
      if (dropped) this.use(dropped);
    });
  }
}

/** Its size upright, and bytes that the service reads: the file's own wherever those will do. */
async function readPicture(blob) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const { width, height } = bitmap;
  const scale = Math.min(1, LARGEST_SIDE / Math.max(width, height));
  if (scale === 1 && READ_BY_SERVICE.includes(blob.type)) {
    bitmap.close();
    return { blob, width, height, note: `${width} × ${height} pixels` };
  }
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const type = blob.type === "image/jpeg" ? blob.type : "image/png";
  const made = await canvas.convertToBlob({ type, quality: 0.95 });
  const scaled = scale < 1 ? `, scaled down from ${width} × ${height} before sending` : ", sent as PNG";
  return { blob: made, width: canvas.width, height: canvas.height, note: `${canvas.width} × ${canvas.height} pixels${scaled}` };
}

function pictureIn(transfer) {
  return Array.from(transfer?.files ?? []).find((file) => file.type.startsWith("image/"));
}

function by(id) {
  return document.getElementById(id);
}
