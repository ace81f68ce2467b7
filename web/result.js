// The place where the picture appears: empty, busy, done or failed, always in the picture's own shape.

import { compare } from "./compare.js";

/**
 * @typedef {object} Made
 * @property {string} mode
 * @property {object} fields  as they were sent
 * @property {string} model
 * @property {number} seconds  from the accepted request to the stored picture
 * @property {?{reference?: {method: string, model: ?string}, loras?: {name: string, hash: ?string}[],
 *   hires?: {upscaler: string}, upscale?: {upscaler: string}}} used  by the WebUI's account; none in what was kept before there was such an account
 * @property {string[]} warnings
 * @property {{imageId: string, url: string, blob: ?Blob, seed: number, width: number, height: number}[]} images
 * @property {?string} before  URL of the picture that went in
 */

/** How the service fits a picture of another shape, in CSS' words. */
const FITS = { stretch: "fill", crop: "cover", fill: "contain" };
const FACTS = ["Seed", "Size", "Model", "Time"];
/** Those of what was used, by the fields and files that ask for it. */
const USED = { reference: "Reference", loras: "LoRAs", hires: "Second pass", upscale: "Enlarged by" };

/**
 * Says "upscale", "use-seed", "use-picture" and "use-settings" with { made, image } as its detail, and "change" when
 * another picture is shown.
 */
export class Result extends EventTarget {
  /** @type {?Made} */
  #made = null;
  #chosen = 0;
  #comparing = false;
  #stage = by("stage");

  constructor() {
    super();
    this.#state("empty");
    by("compare-button").addEventListener("click", () => {
      this.#comparing = !this.#comparing;
      this.#show();
    });
    by("download").addEventListener("click", () => this.#download());
    for (const name of ["upscale", "use-seed", "use-picture", "use-settings"]) {
      by(name).addEventListener("click", () => {
        const detail = { made: this.#made, image: this.image };
        this.dispatchEvent(new CustomEvent(name, { detail }));
      });
    }
  }

  /** The picture that is shown, or was shown last; null before the first. */
  get image() {
    return this.#made?.images[this.#chosen] ?? null;
  }

  /** While nothing is shown that has a shape. @param {number} ratio width / height */
  expect(ratio) {
    if (this.#stage.dataset.state === "empty") this.#shape(ratio);
  }

  /** @param {number} ratio  width / height   @param {object} fields  as they are sent, files too: what will have been used */
  busy(ratio, fields) {
    this.#shape(ratio);
    const count = fields.batch_size ?? 1;
    by("batch").replaceChildren(...Array.from({ length: count }, () => document.createElement("span")));
    by("batch").hidden = count < 2;
    this.#state("busy");
    showFacts({}, fields);
  }

  /** As at the start: whatever was refused is no longer. */
  reset() {
    this.#state("empty");
  }

  /** @param {boolean} upscaling  the picture that was to be enlarged still can be, by other values */
  failed(upscaling = false) {
    by("batch").hidden = true;
    this.#state("failed");
    by("upscale").disabled = !upscaling || this.#made === null;
  }

  /** @param {Made} made */
  done(made) {
    this.#made = made;
    this.#chosen = 0;
    this.#comparing = made.before !== null && made.mode === "inpainting";
    this.#state("done");
    this.#show();
  }

  /** Lines and buttons below the picture are always there: nothing moves when it comes. */
  #state(state) {
    this.#stage.dataset.state = state;
    for (const button of document.querySelectorAll(".actions button, #upscale")) button.disabled = state !== "done";
    by("warnings").hidden = true;
    if (state !== "done") showFacts({});
  }

  #shape(ratio) {
    this.#stage.style.setProperty("--ratio", ratio);
  }

  #show() {
    const { image } = this;
    const made = this.#made;
    this.#shape(image.width / image.height);
    by("compare-button").disabled = made.before === null;
    by("compare-button").setAttribute("aria-pressed", String(this.#comparing));
    if (this.#comparing && made.before) {
      const fit = FITS[made.fields.resize_mode ?? "stretch"];
      compare(by("picture"), { before: made.before, after: image.url, fit });
    } else {
      by("picture").replaceChildren(Object.assign(new Image(), { src: image.url, alt: made.fields.prompt }));
    }
    this.#showBatch();
    this.#showFacts(image);
    this.dispatchEvent(new Event("change"));
  }

  #showBatch() {
    const buttons = this.#made.images.map((image, number) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.setAttribute("aria-pressed", String(number === this.#chosen));
      button.append(Object.assign(new Image(), { src: image.url, alt: `Image ${number + 1}, seed ${image.seed}` }));
      button.addEventListener("click", () => {
        this.#chosen = number;
        this.#show();
        by("batch").children[number].focus();
      });
      return button;
    });
    by("batch").replaceChildren(...buttons);
    by("batch").hidden = buttons.length < 2;
  }

  #showFacts(image) {
    const { model, seconds, warnings } = this.#made;
    const used = this.#made.used ?? {};
    const facts = { Seed: image.seed, Size: `${image.width} × ${image.height}`, Model: model, Time: `${seconds.toFixed(1)} s` };
    if (used.reference) facts[USED.reference] = used.reference.model ?? used.reference.method;
    if (used.loras) facts[USED.loras] = used.loras.map(({ name, hash }) => (hash ? `${name} (${hash})` : name)).join(", ");
    for (const field of ["hires", "upscale"]) if (used[field]) facts[USED[field]] = used[field].upscaler;
    showFacts(facts, used);
    by("warnings").hidden = warnings.length === 0;
    by("warnings").textContent = warnings.join("; ");
  }

  #download() {
    const { image } = this;
    Object.assign(document.createElement("a"), { href: image.url, download: `${image.imageId}.png` }).click();
  }
}

/** @param {object} more  has the keys of USED that have a line too */
function showFacts(facts, more = {}) {
  const names = [...FACTS, ...Object.keys(USED).filter((field) => field in more).map((field) => USED[field])];
  by("meta").replaceChildren(...names.map((name) => pair(name, facts[name] ?? "–")));
}

function pair(name, value) {
  const made = document.createElement("div");
  const term = document.createElement("dt");
  const definition = document.createElement("dd");
  term.textContent = name;
  definition.textContent = value;
  made.append(term, definition);
  return made;
}

function by(id) {
  return document.getElementById(id);
}
