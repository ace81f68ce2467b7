// The row below the result by which the picture that is shown is enlarged.

import { boundBy, choices, numberOf } from "./inputs.js";

export class Enlarging {
  #row = by("enlarging");
  #upscaler = by("upscale.upscaler");
  #scale = by("upscale.scale");

  /** @param {{upscale?: ?{upscalers: string[]}, limits: object, defaults: object}} options  GET options */
  fill({ upscale, limits, defaults }) {
    this.#row.hidden = !upscale;
    if (!upscale) return;
    choices(this.#upscaler, upscale.upscalers.map((name) => [name, name]));
    boundBy(limits["upscale.scale"], [this.#scale]);
    this.#scale.value ||= defaults.upscale.scale;
  }

  /** As fields of POST upscale, all but the picture. */
  fields() {
    const scale = numberOf(this.#scale);
    return { upscaler: this.#upscaler.value, ...(scale === "" ? {} : { scale }) };
  }
}

function by(id) {
  return document.getElementById(id);
}
