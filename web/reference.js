// The picture that the result is to resemble, a garment or a style: dropped on its box, pasted there, or chosen.

import { pictureIn, readPicture } from "./picture_files.js";

/** Says "change" when there is another picture, or none. */
export class Reference extends EventTarget {
  /** @type {?import("./picture_files.js").Source} */
  current = null;
  /** Whether a kept request had one: the pictures that went in are not kept. */
  missing = false;

  constructor() {
    super();
    const file = by("reference-file");
    for (const id of ["reference-choose", "reference-replace"]) by(id).addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files.length) this.use(file.files[0]);
      file.value = "";
    });
    by("reference-remove").addEventListener("click", () => {
      this.remove();
      by("reference-choose").focus();
    });
    this.#listen(by("reference-card"), by("reference-drop"));
  }

  /** @param {Blob} blob  any picture that the browser can read */
  async use(blob) {
    let picture;
    try {
      picture = await readPicture(blob);
    } catch {
      this.#say("", "Your browser cannot read this file as a picture.");
      return;
    }
    this.remove();
    this.current = picture;
    by("reference-image").src = picture.url;
    this.#say(picture.remark);
    this.#changed();
  }

  remove() {
    if (this.current) URL.revokeObjectURL(this.current.url);
    this.current = null;
    this.missing = false;
    by("reference-image").removeAttribute("src");
    this.#say("");
    this.#changed();
  }

  /** For settings that were used with one. */
  ask() {
    this.missing = true;
    this.#say("", "The reference picture that was used is not kept: choose it again.");
    this.#changed();
  }

  #say(remark, error = "") {
    by("reference-remark").textContent = remark;
    by("reference-error").textContent = error;
    by("reference-error").hidden = !error;
  }

  #changed() {
    by("reference-drop").hidden = this.current !== null;
    by("reference-chosen").hidden = by("reference-fields").hidden = by("reference-tools").hidden = this.current === null;
    this.dispatchEvent(new Event("change"));
  }

  /** What is dropped or pasted here is not the picture to work on, as it is elsewhere on the page. */
  #listen(card, drop) {
    const mine = (event) => {
      event.preventDefault();
      event.stopPropagation();
    };
    const take = (event, transfer) => {
      mine(event);
      drop.classList.remove("over");
      const picture = pictureIn(transfer);
      if (picture) this.use(picture);
    };
    card.addEventListener("dragover", (event) => {
      mine(event);
      drop.classList.add("over");
    });
    card.addEventListener("dragleave", (event) => {
      if (!card.contains(event.relatedTarget)) drop.classList.remove("over");
    });
    card.addEventListener("drop", (event) => take(event, event.dataTransfer));
    card.addEventListener("paste", (event) => take(event, event.clipboardData));
  }
}

function by(id) {
  return document.getElementById(id);
}
