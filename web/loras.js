// The LoRAs of a request: chosen from those that the service lists, each with a weight.

import { addErrorLine } from "./field_errors.js";
import { boundBy, numberOf } from "./inputs.js";

const BASES = { sd1: "SD 1", sd2: "SD 2", sdxl: "SDXL" };

/** Says "change" when a LoRA comes or goes. A weight is an input of the form as any other. */
export class Loras extends EventTarget {
  #list = by("lora-list");
  #adder = by("lora-adder");
  #choice = by("lora");
  /** @type {{name: string, base: ?string}[]} */
  #known = [];
  #limits = {};
  #made = 0;

  constructor() {
    super();
    by("lora-add").addEventListener("click", () => {
      this.#add({ name: this.#choice.value });
      this.#changed();
      this.#list.lastElementChild.querySelector("[type=range]").focus();
    });
  }

  /** @param {{name: string, base: ?string}[]} known   @param {{minimum: number, maximum: number}} limits  of a weight */
  fill(known, limits) {
    this.#known = known;
    this.#limits = limits;
    for (const row of this.#list.children) boundBy(limits, row.querySelectorAll("input"));
    this.#showChoice();
  }

  /** As the field `loras`. @returns {{name: string, weight?: number}[]} */
  get value() {
    return Array.from(this.#list.children, (row) => {
      const weight = numberOf(row.querySelector("[type=number]"));
      return { name: row.dataset.lora, ...(weight === "" ? {} : { weight }) };
    });
  }

  set value(loras) {
    this.#list.replaceChildren();
    for (const lora of loras) this.#add(lora);
    this.#changed();
  }

  #add({ name, weight = 1 }) {
    const row = by("lora-template").content.firstElementChild.cloneNode(true);
    row.dataset.lora = name;
    row.querySelector(".lora-name").textContent = name;
    row.querySelector(".lora-base").textContent = baseOf(this.#known.find((lora) => lora.name === name));
    const [range, number] = row.querySelectorAll("input");
    boundBy(this.#limits, [range, number]);
    range.value = number.value = weight;
    range.setAttribute("aria-label", `Weight of ${name}, slider`);
    this.#made += 1;
    number.id = `lora-${this.#made}-weight`;
    row.querySelector("label").htmlFor = number.id;
    row.querySelector("label .unseen").textContent = `of ${name}`;
    const remove = row.querySelector("button");
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => this.#remove(row));
    const [namePlace, weightPlace] = row.querySelectorAll("[data-member]");
    addErrorLine(namePlace, remove, `lora-${this.#made}-name-error`);
    addErrorLine(weightPlace, number, `${number.id}-error`);
    this.#list.append(row);
  }

  #remove(row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    this.#changed();
    (next?.querySelector("button") ?? this.#choice).focus();
  }

  #changed() {
    // The service names them by their places in the list.
    for (const [index, row] of Array.from(this.#list.children).entries()) {
      for (const place of row.querySelectorAll("[data-member]")) place.dataset.field = `loras[${index}].${place.dataset.member}`;
    }
    this.#showChoice();
    this.dispatchEvent(new Event("change"));
  }

  /** Each can be chosen once. */
  #showChoice() {
    const chosen = this.value.map(({ name }) => name);
    const left = this.#known.filter(({ name }) => !chosen.includes(name));
    this.#choice.replaceChildren(...left.map((lora) => new Option([lora.name, baseOf(lora)].filter(Boolean).join(", "), lora.name)));
    this.#adder.hidden = left.length === 0;
  }
}

/** The family of models that it is made for, as far as its file says. */
function baseOf(lora) {
  return lora?.base ? `for ${BASES[lora.base] ?? lora.base}` : "";
}

function by(id) {
  return document.getElementById(id);
}
