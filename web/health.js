// How the service is, from its health check, which costs nothing and counts nowhere.

import { Unreachable } from "./api.js";

const PAUSE_MS = 5000;

/** Says "change" when the service begins or ceases to be able to paint. */
export class Health extends EventTarget {
  #api;
  #line = document.getElementById("health");
  #text = document.getElementById("health-text");
  #status = null;

  constructor(api) {
    super();
    this.#api = api;
  }

  /** Looks now and from then on; a page in the background does not. */
  async watch() {
    for (;;) {
      if (!document.hidden) await this.look();
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async look() {
    try {
      const health = await this.#api.health();
      this.#show(health.status, words(health));
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      this.#show("away", "Service not reachable");
    }
  }

  #show(status, text) {
    this.#line.dataset.status = status;
    if (this.#text.textContent !== text) this.#text.textContent = text;
    if (status === this.#status) return;
    this.#status = status;
    this.dispatchEvent(new Event("change"));
  }
}

const TROUBLES = {
  draining: "Shutting down",
  no_webui: "No WebUI reachable",
  no_checkpoint: "No WebUI has a model",
  no_gpu: "No WebUI has a GPU",
};

function words({ device, webuis, queue, reasons = [] }) {
  const trouble = reasons.find((reason) => reason in TROUBLES);
  if (trouble) return TROUBLES[trouble];
  if (reasons.some((reason) => reason.startsWith("default_model_"))) return "No default model: choose one";
  const where = device === "gpu" ? "GPU" : "CPU";
  const waiting = queue.waiting ? `${queue.waiting} waiting` : webuis.busy ? `${webuis.busy} of ${webuis.available} busy` : "free";
  return `${where} · ${waiting}`;
}
