// What was made in this browser: a small picture of each, and what is needed to see and to repeat it. The pictures
// themselves stay at the service.

import { Store } from "./store.js";

const MOST = 60;
const THUMB_SIDE = 192;

/** Says "open" with a kept generation as its detail. */
export class History extends EventTarget {
  #store = new Store("history");
  #list = by("history");

  constructor() {
    super();
    by("history-clear").addEventListener("click", async () => {
      await this.#store.clear().catch(() => {});
      await this.load();
    });
  }

  async load() {
    const kept = await this.#store.all().catch(() => []); // a private window keeps nothing
    kept.sort((one, other) => other.when - one.when);
    for (const old of kept.splice(MOST)) await this.#store.delete(old.id);
    for (const image of this.#list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    this.#list.replaceChildren(...kept.map((entry) => this.#item(entry)));
    by("history-empty").hidden = kept.length > 0;
    by("history-clear").hidden = kept.length === 0;
  }

  /** @param {import("./result.js").Made} made */
  async add(made) {
    const { mode, fields, model, seconds, used } = made;
    // What the service could not store is kept here whole.
    const keep = made.warnings.length > 0;
    const images = made.images.map(({ imageId, seed, width, height, blob }) => ({
      ...{ imageId, seed, width, height },
      blob: keep ? blob : null,
    }));
    const entry = { id: made.images[0].imageId, when: Date.now(), mode, fields, model, seconds, used, images };
    await this.#store.put({ ...entry, thumb: await thumb(made.images[0].blob) }).catch(() => {});
    await this.load();
  }

  #item(entry) {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const alt = `${entry.fields.prompt}, seed ${entry.images[0].seed}`;
    button.append(Object.assign(new Image(), { src: URL.createObjectURL(entry.thumb), alt }));
    if (entry.images.length > 1) {
      const count = Object.assign(document.createElement("span"), { className: "count", textContent: `× ${entry.images.length}` });
      button.append(count);
    }
    button.addEventListener("click", () => this.dispatchEvent(new CustomEvent("open", { detail: entry })));
    item.append(button);
    return item;
  }
}

async function thumb(picture) {
  const bitmap = await createImageBitmap(picture);
  const scale = Math.min(1, THUMB_SIDE / Math.min(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/webp", quality: 0.8 });
}

function by(id) {
  return document.getElementById(id);
}
