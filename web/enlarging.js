// The row below the result by which the picture that is shown is enlarged.

import { boundBy, choices, numberOf } from "./inputs.js";

/** Says "change" when another enlarging is asked for. */
export class Enlarging extends EventTarget {
  #row = by("enlarging");
  #upscaler = by("upscale.upscaler");
  #scale = by("upscale.scale");
  #sides = { width: by("upscale.width"), height: by("upscale.height") };
  /** Sides are multiples of this. */
  #step = 8;

  constructor() {
    super();
    this.#row.addEventListener("input", () => this.#changed());
  }

  /** @param {{upscale?: ?{upscalers: string[]}, limits: object, defaults: object}} options  GET options */
  fill({ upscale, limits, defaults }) {
    this.#row.hidden = by("code-calls").hidden = !upscale;
    if (!upscale) return;
    choices(this.#upscaler, upscale.upscalers.map((name) => [name, name]));
    boundBy(limits["upscale.scale"], [this.#scale]);
    for (const [name, input] of Object.entries(this.#sides)) boundBy(limits[`upscale.${name}`], [input]);
    this.#step = limits["upscale.width"].multiple_of;
    this.#scale.value ||= defaults.upscale.scale;
    this.#changed();
  }

  /**
   * As fields of POST upscale, all but the picture. Of two sides one may be left out: it follows from the picture's shape.
   *
   * @param {number} ratio  width / height of the picture
   */
  fields(ratio) {
    const upscaler = this.#upscaler.value;
    const [width, height] = [numberOf(this.#sides.width), numberOf(this.#sides.height)];
    if (width === "" && height === "") {
      const scale = numberOf(this.#scale);
      return { upscaler, ...(scale === "" ? {} : { scale }) };
    }
    return { upscaler, width: width === "" ? this.#fitting(height * ratio) : width, height: height === "" ? this.#fitting(width / ratio) : height };
  }

  #fitting(side) {
    return Math.round(side / this.#step) * this.#step;
  }

  #changed() {
    this.#scale.disabled = Object.values(this.#sides).some((input) => input.value !== "" || input.validity.badInput);
    this.dispatchEvent(new Event("change"));
  }
}

function by(id) {
  return document.getElementById(id);
}
