// The picture that comes in: dropped, pasted, chosen, photographed, or one that was just made.

import { Camera } from "./camera.js";
import { pictureIn, readPicture } from "./picture_files.js";

/** Says "change" when there is another picture, or none. */
export class SourcePicture extends EventTarget {
  /** @type {?import("./picture_files.js").Source} */
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
      this.#say("", "Your browser cannot read this file as a picture.");
      return;
    }
    this.remove();
    this.current = source;
    by("source-image").src = this.current.url;
    by("easel").style.setProperty("--ratio", source.width / source.height);
    this.#say(source.remark, "");
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

  #say(remark, error) {
    by("source-remark").textContent = remark;
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

function by(id) {
  return document.getElementById(id);
}
