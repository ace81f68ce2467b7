// The form: what may be entered comes from GET options and GET models; what was entered becomes a request's fields.

/** Fields with a number in them. An empty one is left out, so that the service's default holds. */
const NUMBERS = [
  ...["width", "height", "steps", "cfg_scale", "seed", "batch_size", "strength"],
  ...["mask_blur", "inpaint_padding"],
];
const TEXTS = ["prompt", "negative_prompt", "model", "sampler", "scheduler", "resize_mode", "inpaint_fill", "inpaint_area"];
const TXT2IMG_SIDE = 512;

export class Form extends EventTarget {
  #form = document.getElementById("form");
  #defaults = {};

  constructor() {
    super();
    this.#addErrorLines();
    this.#form.addEventListener("input", (event) => this.#changed(event.target));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.dispatchEvent(new Event("submit"));
    });
    by("size-swap").addEventListener("click", () => this.set({ width: by("height").value, height: by("width").value }));
    by("seed-random").addEventListener("click", () => this.set({ seed: "" }));
    for (const chip of document.querySelectorAll("[data-size]")) {
      const [width = "", height = ""] = chip.dataset.size.split("x");
      chip.addEventListener("click", () => this.set({ width, height }));
    }
    this.#showMode();
  }

  get mode() {
    return this.#form.elements.mode.value;
  }

  set mode(mode) {
    this.#form.elements.mode.value = mode;
    this.#showMode();
  }

  /**
   * Bounds and defaults from the service.
   *
   * @param {{limits: object, defaults: object, samplers: string[], schedulers: string[]}} options  GET options
   * @param {{default: string, models: {id: string, name: string, default: boolean}[]}} models  GET models
   */
  fill(options, models) {
    this.#defaults = options.defaults;
    for (const name of NUMBERS) setBounds(name, options.limits[name]);
    choices("model", [["", `${models.default} (default)`], ...models.models.filter((one) => !one.default).map((one) => [one.id, one.id])]);
    choices("sampler", [["", "The default"], ...options.samplers.map((name) => [name, name])]);
    choices("scheduler", [["", "The default"], ...options.schedulers.map((name) => [name, name])]);
    this.#showMode();
  }

  /** What the caller chose; what equals the service's default is left out, as in a hand-written call. */
  fields() {
    const defaults = this.#defaults[this.mode] ?? {};
    const fields = {};
    for (const name of [...TEXTS, ...NUMBERS]) {
      if (!applies(by(name), this.mode)) continue;
      const value = valueOf(by(name));
      if (name === "prompt" || (value !== "" && value !== defaults[name])) fields[name] = value;
    }
    return fields;
  }

  /** width / height of the picture to come. @param {?{width: number, height: number}} source */
  ratio(source) {
    const known = this.mode === "txt2img" ? { width: TXT2IMG_SIDE, height: TXT2IMG_SIDE } : (source ?? { width: 1, height: 1 });
    const [width, height] = [Number(by("width").value), Number(by("height").value)];
    if (width > 0 && height > 0) return width / height;
    // With a picture the other side follows; without, it is the default.
    if (this.mode !== "txt2img" || !(width > 0 || height > 0)) return known.width / known.height;
    return (width || TXT2IMG_SIDE) / (height || TXT2IMG_SIDE);
  }

  /** Puts values into the form. @param {Object<string, string | number>} values */
  set(values) {
    for (const [name, value] of Object.entries(values)) {
      const input = by(name);
      if (!input) continue;
      input.value = value;
      this.#changed(input);
    }
    this.dispatchEvent(new Event("change"));
  }

  /** A kept request as it was: what it does not name is at its default. */
  restore(mode, fields) {
    this.mode = mode;
    const names = [...TEXTS, ...NUMBERS].filter((name) => applies(by(name), mode));
    const empty = Object.fromEntries(names.map((name) => [name, this.#default(name)]));
    this.set({ ...empty, ...fields });
  }

  /** Each problem at its field, the first one in view. @returns those for which there is no field */
  showErrors(errors) {
    this.clearErrors();
    const elsewhere = [];
    let first = null;
    for (const { field, message } of errors) {
      const place = document.querySelector(`[data-field="${CSS.escape(field)}"]`);
      if (!place || !applies(place, this.mode)) {
        elsewhere.push({ field, message });
        continue;
      }
      const line = place.querySelector(".error");
      line.textContent = `${nameOf(place)} ${message}.`;
      line.hidden = false;
      for (const input of place.querySelectorAll(`#${CSS.escape(field)}`)) input.setAttribute("aria-invalid", "true");
      first ??= place;
    }
    for (let around = first?.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
    (first?.querySelector("input:not([type=range]):not([hidden]), select, textarea") ?? first?.querySelector("button"))?.focus();
    return elsewhere;
  }

  clearErrors() {
    for (const line of document.querySelectorAll("main .error")) line.hidden = true;
    for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  }

  #addErrorLines() {
    for (const place of document.querySelectorAll("main [data-field]")) {
      const line = document.createElement("p");
      line.className = "error";
      line.id = `${place.dataset.field}-error`;
      line.hidden = true;
      place.append(line);
      const input = by(place.dataset.field);
      const before = input?.getAttribute("aria-describedby");
      input?.setAttribute("aria-describedby", before ? `${before} ${line.id}` : line.id);
    }
  }

  #changed(input) {
    if (input.name === "mode") this.#showMode();
    const slider = input.closest(".slider");
    if (slider) slider.querySelector(input.type === "range" ? "[name]" : "[type=range]").value = input.value;
    this.#showSize();
    this.dispatchEvent(new Event("change"));
  }

  #showMode() {
    const mode = this.mode;
    for (const part of document.querySelectorAll("[data-modes]")) part.hidden = !applies(part, mode);
    // A value that nobody touched follows the mode's default (30 steps for inpainting, 20 else).
    for (const name of NUMBERS) {
      const input = by(name);
      const untouched = input.dataset.shown === undefined || input.value === input.dataset.shown;
      if (untouched && applies(input, mode)) input.value = this.#default(name);
      input.dataset.shown = this.#default(name);
      const range = input.closest(".slider")?.querySelector("[type=range]");
      if (range) range.value = input.value;
    }
    const placeholder = mode === "txt2img" ? String(TXT2IMG_SIDE) : "auto";
    for (const name of ["width", "height"]) by(name).placeholder = placeholder;
    this.#showSize();
    this.dispatchEvent(new Event("change"));
  }

  #showSize() {
    const size = by("width").value || by("height").value ? `${by("width").value}x${by("height").value}` : "";
    for (const chip of document.querySelectorAll("[data-size]")) {
      const shown = size === "" && this.mode === "txt2img" ? `${TXT2IMG_SIDE}x${TXT2IMG_SIDE}` : size;
      chip.setAttribute("aria-pressed", String(chip.dataset.size === shown));
    }
  }

  #default(name) {
    const value = this.#defaults[this.mode]?.[name] ?? "";
    return name === "seed" ? "" : String(value);
  }
}

function by(id) {
  return document.getElementById(id);
}

function applies(part, mode) {
  const modes = part.closest("[data-modes]")?.dataset.modes;
  return modes === undefined || modes.split(" ").includes(mode);
}

/** As a person calls it: the service's messages go on from there ("must be …", "is …"). */
function nameOf(place) {
  return place.dataset.name ?? place.querySelector("label").firstChild.textContent.trim();
}

/** What is no number is sent as that, for the service to refuse: a browser shows "2,5" and gives an empty text. */
function valueOf(input) {
  if (input.type !== "number") return input.value;
  if (input.validity.badInput) return NaN;
  return input.value === "" ? "" : Number(input.value);
}

function setBounds(name, limits) {
  const inputs = [by(name), by(name).closest(".slider")?.querySelector("[type=range]")];
  for (const input of inputs.filter(Boolean)) {
    input.min = limits.minimum;
    input.max = limits.maximum;
    if (limits.multiple_of) input.step = limits.multiple_of;
  }
}

function choices(id, pairs) {
  const select = by(id);
  const chosen = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  select.value = pairs.some(([value]) => value === chosen) ? chosen : "";
}
