// The form: what may be entered comes from GET options and GET models; what was entered becomes a request's fields.

import { addErrorLine, showErrors } from "./field_errors.js";
import { boundBy, choices, choose, numberOf } from "./inputs.js";
import { Loras } from "./loras.js";
import { Reference } from "./reference.js";

/** Fields with a number in them. An empty one is left out, so that the service's default holds. */
const NUMBERS = [
  ...["width", "height", "steps", "cfg_scale", "seed", "batch_size", "strength"],
  ...["mask_blur", "inpaint_padding", "clip_skip", "reference_weight"],
];
/** Members of the second pass that are numbers. */
const OF_HIRES = ["scale", "steps", "strength"];
const TEXTS = ["prompt", "negative_prompt", "model", "sampler", "scheduler", "resize_mode", "inpaint_fill", "inpaint_area", "reference_method"];
/** Those that say how a reference picture is used; without one they mean nothing. */
const OF_REFERENCE = ["reference_weight", "reference_method"];
const METHODS = { adapter: "by IP-Adapter, best for a garment", attention: "by attention, for colours and texture" };
const TXT2IMG_SIDE = 512;

export class Form extends EventTarget {
  #form = document.getElementById("form");
  #defaults = {};
  reference = new Reference();
  #loras = new Loras();
  /** What no WebUI can do is not shown, unless it was chosen before: a kept request's value is not dropped in silence. */
  #able = { loras: false, hires: false, clip_skip: false, reference: false };

  constructor() {
    super();
    for (const place of document.querySelectorAll("main [data-field]")) addErrorLine(place, by(place.dataset.field));
    this.#loras.addEventListener("change", () => this.#changed(by("lora-list")));
    this.reference.addEventListener("change", () => this.#changed(by("reference-card")));
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
   * @param {{limits: object, defaults: object, samplers: string[], schedulers: string[], loras: object[],
   *   hires: ?{upscalers: string[]}, clip_skip: ?boolean, reference: ?{methods: string[]}}} options  GET options
   * @param {{default: string, models: {id: string, name: string, default: boolean}[]}} models  GET models
   */
  fill(options, models) {
    this.#defaults = options.defaults;
    for (const name of [...NUMBERS, ...OF_HIRES.map((member) => `hires.${member}`)]) setBounds(name, options.limits[name]);
    choices(by("model"), [["", `${models.default} (default)`], ...models.models.filter((one) => !one.default).map((one) => [one.id, one.id])]);
    choices(by("sampler"), [["", "The default"], ...options.samplers.map((name) => [name, name])]);
    choices(by("scheduler"), [["", "The default"], ...options.schedulers.map((name) => [name, name])]);
    choices(by("hires.upscaler"), (options.hires?.upscalers ?? []).map((name) => [name, name]));
    this.#loras.fill(options.loras, options.limits["loras[].weight"]);
    const methods = options.reference?.methods ?? [];
    choices(by("reference_method"), [["auto", "as works best"], ...methods.map((name) => [name, METHODS[name] ?? name])]);
    this.#able = {
      loras: options.loras.length > 0,
      hires: options.hires !== null,
      clip_skip: options.clip_skip === true,
      reference: options.reference !== null,
    };
    this.#showMode();
  }

  /** What the caller chose; what equals the service's default is left out, as in a hand-written call. */
  fields() {
    const defaults = this.#defaults[this.mode] ?? {};
    const fields = {};
    for (const name of [...TEXTS, ...NUMBERS]) {
      if (!applies(by(name), this.mode) || (OF_REFERENCE.includes(name) && !this.reference.current)) continue;
      const value = valueOf(by(name));
      if (name === "prompt" || (value !== "" && value !== defaults[name])) fields[name] = value;
    }
    if (this.#loras.value.length > 0) fields.loras = this.#loras.value;
    if (by("hires").checked && applies(by("hires"), this.mode)) fields.hires = this.#hires();
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
      if (input.tagName === "SELECT") choose(input, value);
      else input.value = value;
      this.#changed(input);
    }
    this.dispatchEvent(new Event("change"));
  }

  /** A kept request as it was: what it does not name is at its default. */
  restore(mode, { loras = [], hires, ...fields }) {
    this.mode = mode;
    this.#loras.value = loras;
    by("hires").checked = hires !== undefined;
    const members = hires ? Object.entries({ steps: "", strength: "", ...hires }) : [];
    this.set(Object.fromEntries(members.map(([name, value]) => [`hires.${name}`, value])));
    const names = [...TEXTS, ...NUMBERS].filter((name) => applies(by(name), mode));
    const empty = Object.fromEntries(names.map((name) => [name, this.#default(name)]));
    this.set({ ...empty, ...fields });
  }

  /** @returns the problems for which there is no field */
  showErrors(errors) {
    return showErrors(errors, (place) => applies(place, this.mode));
  }

  #changed(input) {
    if (input.name === "mode") this.#showMode();
    const slider = input.closest(".slider");
    if (slider) slider.querySelector(input.type === "range" ? "[name]" : "[type=range]").value = input.value;
    this.#showSize();
    this.#showAble();
    this.dispatchEvent(new Event("change"));
  }

  #hires() {
    const members = [...OF_HIRES.map((name) => [name, numberOf(by(`hires.${name}`))]), ["upscaler", by("hires.upscaler").value]];
    return Object.fromEntries(members.filter(([, value]) => value !== ""));
  }

  #showAble() {
    const chosen = {
      loras: this.#loras.value.length > 0,
      hires: by("hires").checked,
      clip_skip: by("clip_skip").value !== "",
      reference: this.reference.current !== null || this.reference.missing,
    };
    for (const part of document.querySelectorAll("[data-able]")) {
      const { able } = part.dataset;
      part.hidden = !applies(part, this.mode) || !(this.#able[able] || chosen[able]);
    }
    by("hires-fields").hidden = !chosen.hires;
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
    this.#showAble();
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

function valueOf(input) {
  return input.type === "number" ? numberOf(input) : input.value;
}

function setBounds(name, limits) {
  boundBy(limits, [by(name), by(name).closest(".slider")?.querySelector("[type=range]")].filter(Boolean));
}
