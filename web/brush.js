// The hand that paints a mask: mouse, finger, pen or keyboard, and the tools beside the canvas.

/** Of the picture's longer side: what an arrow key moves the brush by. */
const STEP = 0.02;
const SIZES = { "[": 1 / 1.25, "]": 1.25 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Brush {
  #mask;
  #canvas = by("mask");
  #ring = by("brush");
  #erase = false;
  #drawing = false;
  /** Where the brush is, in pixels of the picture. */
  #at = [0, 0];

  /** @param {import("./mask.js").Mask} mask */
  constructor(mask) {
    this.#mask = mask;
    this.#listenToPointer();
    this.#listenToKeys();
    this.#wireTools();
    mask.addEventListener("change", () => this.#showTools());
    this.#showTools();
  }

  /** Back to the middle: there is another picture. */
  reset() {
    this.#at = [this.#mask.width / 2, this.#mask.height / 2];
    this.#ring.hidden = true;
  }

  /** In pixels of the picture; the slider tells per mille of its longer side. */
  get #size() {
    return (Number(by("brush-size").value) / 1000) * this.#side;
  }

  get #side() {
    return Math.max(this.#mask.width, this.#mask.height);
  }

  #begin() {
    this.#mask.begin(this.#at, { size: this.#size, erase: this.#erase });
  }

  #listenToPointer() {
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      canvas.setPointerCapture(event.pointerId);
      this.#move(event);
      this.#begin();
      this.#drawing = true;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.isPrimary) return;
      // A fast hand moves several times between two frames; all of them belong to the line.
      for (const each of event.getCoalescedEvents?.() ?? []) if (this.#drawing) this.#mask.drawTo(this.#place(each));
      this.#move(event);
      if (this.#drawing) this.#mask.drawTo(this.#at);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.#drawing = false));
    canvas.addEventListener("pointerleave", () => (this.#ring.hidden = true));
  }

  #listenToKeys() {
    this.#canvas.addEventListener("focus", () => {
      if (this.#canvas.matches(":focus-visible")) this.#showRing();
    });
    this.#canvas.addEventListener("blur", () => (this.#ring.hidden = true));
    this.#canvas.addEventListener("keydown", (event) => {
      if (this.#key(event)) event.preventDefault();
    });
  }

  /** @returns {boolean} whether the key meant something */
  #key(event) {
    if (event.ctrlKey || event.metaKey) {
      const key = event.key.toLowerCase();
      if (key !== "z" && key !== "y") return false;
      this.#step(key === "y" || event.shiftKey ? "redo" : "undo");
    } else if (event.key in ARROWS) {
      this.#walk(ARROWS[event.key], event.shiftKey);
    } else if (event.key === " ") {
      this.#begin();
      this.#say(this.#erase ? "Erased" : "Painted");
    } else if (event.key in SIZES) {
      this.#resize(SIZES[event.key]);
    } else if (event.key.toLowerCase() === "e") {
      this.#use(!this.#erase);
      this.#say(this.#erase ? "Eraser" : "Brush");
    } else {
      return false;
    }
    this.#showRing();
    return true;
  }

  #walk([right, down], drawing) {
    const before = this.#at;
    const [x, y] = before;
    this.#at = [clamp(x + right * STEP * this.#side, this.#mask.width), clamp(y + down * STEP * this.#side, this.#mask.height)];
    if (drawing) {
      this.#mask.begin(before, { size: this.#size, erase: this.#erase });
      this.#mask.drawTo(this.#at);
    }
    this.#say(drawing ? "Painted" : "Brush");
  }

  #step(way) {
    this.#mask[way]();
    this.#say(way === "undo" ? "Undone" : "Redone");
  }

  #resize(factor) {
    const slider = by("brush-size");
    slider.value = Math.round(Number(slider.value) * factor) || slider.min;
    this.#say("Brush size");
  }

  #use(erase) {
    this.#erase = erase;
    by("mask-paint").setAttribute("aria-pressed", String(!erase));
    by("mask-erase").setAttribute("aria-pressed", String(erase));
    this.#ring.classList.toggle("erasing", erase);
  }

  #wireTools() {
    by("mask-paint").addEventListener("click", () => this.#use(false));
    by("mask-erase").addEventListener("click", () => this.#use(true));
    by("mask-undo").addEventListener("click", () => this.#step("undo"));
    by("mask-redo").addEventListener("click", () => this.#step("redo"));
    by("mask-invert").addEventListener("click", () => this.#mask.invert());
    by("mask-clear").addEventListener("click", () => this.#mask.clear());
    by("mask-load").addEventListener("click", () => by("mask-file").click());
    by("mask-file").addEventListener("change", async () => {
      const [file] = by("mask-file").files;
      if (file) await this.#mask.load(file).catch(() => this.#say("This file is not a picture"));
      by("mask-file").value = "";
    });
  }

  #showTools() {
    by("mask-undo").disabled = !this.#mask.canUndo;
    by("mask-redo").disabled = !this.#mask.canRedo;
  }

  #move(event) {
    this.#at = this.#place(event);
    this.#showRing();
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#mask.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  #showRing() {
    const shown = this.#canvas.clientWidth / this.#mask.width;
    const style = this.#ring.style;
    [style.left, style.top] = this.#at.map((pixels) => `${pixels * shown}px`);
    style.width = style.height = `${this.#size * shown}px`;
    this.#ring.hidden = false;
  }

  /** For those who do not see the ring. */
  #say(what) {
    const [x, y] = [this.#at[0] / this.#mask.width, this.#at[1] / this.#mask.height].map((share) => Math.round(share * 100));
    by("mask-said").textContent = `${what}, ${x} % from the left, ${y} % from the top, ${Math.round(this.#size)} pixels wide`;
  }
}

function clamp(value, most) {
  return Math.min(Math.max(value, 0), most);
}

function by(id) {
  return document.getElementById(id);
}
