// One generation from the click to the answer. It outlives a reload of the page and a lost connection: the job is
// written down with its request id and its Idempotency-Key before it is sent, and whoever sends the same key again
// gets the first answer.

import { Problem, Unreachable } from "./api.js";
import { randomId } from "./ids.js";
import { Store } from "./store.js";

/** Seconds between two questions how far it is: quick at first, slower the longer it takes. */
const FIRST_PAUSE = 0.7;
const LONGEST_PAUSE = 5;
/** The service counts these calls too. With so few left this minute they get rare. */
const FEW_CALLS = 8;
const RARELY = 15;
const CANCELLED = { status: 409, code: "cancelled", title: "Cancelled", detail: "You cancelled this picture." };
const UNTOLD = { ...CANCELLED, detail: "The service cannot be reached to cancel the job, and may still finish the picture." };
const LOST = {
  status: 0,
  code: "lost",
  title: "The job failed",
  detail: "It failed while this page could not listen. Nothing was painted.",
  retryable: true,
};

/**
 * @typedef {object} Job
 * @property {string} id      X-Request-ID
 * @property {string} key     Idempotency-Key
 * @property {string} mode    txt2img, img2img or inpainting
 * @property {object} fields  what the caller chose; the rest is the service's default
 * @property {Object<string, Blob>} files  image, mask
 * @property {number} ratio   width / height of the picture to come
 */

/**
 * @typedef {object} Progress  reported while the job goes on
 * @property {"sending" | "queued" | "running" | "lost"} phase
 * @property {?number} share     0 … 1; null if unknown
 * @property {?number} position  in the queue, 1 is next
 * @property {?number} eta       seconds
 */

export class Jobs {
  #api;
  #store = new Store("jobs");
  #report;
  #current = null;

  /** @param {(progress: Progress) => void} report */
  constructor(api, report) {
    this.#api = api;
    this.#report = report;
  }

  /** @param {{mode: string, fields: object, files: Object<string, Blob>, ratio: number}} wanted */
  async run(wanted) {
    const job = { id: randomId(), key: randomId(), ...wanted };
    await this.#keep(job);
    return this.#finish(job, { begun: false });
  }

  /** The job that a reload interrupted, or null. @returns {Promise<?Job>} */
  async interrupted() {
    const id = sessionStorage.getItem("studio-job");
    return id === null ? null : ((await this.#store.get(id).catch(() => null)) ?? null);
  }

  /** Its answer, whether it still runs or has ended meanwhile. @param {Job} job */
  resume(job) {
    return this.#finish(job, { begun: true });
  }

  /** The running job ends with Problem "cancelled". */
  async cancel() {
    const current = this.#current;
    if (!current) return;
    current.cancelled = true;
    if (!current.sent) current.giveUp.abort();
    else await this.#api.cancel(current.id).catch(() => false); // not there yet, perhaps: the next look tries again
  }

  async #finish(job, { begun }) {
    const current = { id: job.id, cancelled: false, sent: begun, pause: FIRST_PAUSE, giveUp: new AbortController() };
    this.#current = current;
    try {
      for (;;) {
        if (begun) await this.#untilEnded(current);
        try {
          return await this.#attempt(job, current);
        } catch (error) {
          if (!(error instanceof Unreachable)) throw error;
          begun = true;
        }
      }
    } finally {
      this.#current = null;
      await this.#forget(job);
    }
  }

  /** Sends it and waits for the answer, looking meanwhile how far it is. */
  async #attempt(job, current) {
    const over = new AbortController();
    const watching = this.#watch(current, over.signal);
    try {
      return await this.#api.generate(job, {
        signal: current.giveUp.signal,
        onSent: (share) => {
          current.sent = share === 1;
          this.#report({ phase: "sending", share, position: null, eta: null });
        },
      });
    } catch (error) {
      throw error.name === "AbortError" ? new Problem(CANCELLED) : error;
    } finally {
      over.abort();
      await watching;
    }
  }

  async #watch(current, over) {
    while (!over.aborted) {
      await seconds(current.pause, over);
      if (!over.aborted && current.sent) await this.#look(current);
    }
  }

  /** Until asking again is right: it is done, or the service knows nothing of it. */
  async #untilEnded(current) {
    for (;;) {
      const status = await this.#look(current);
      if (status === "done" || status === "unknown") return;
      if (status === "cancelled") throw new Problem(CANCELLED);
      if (status === "failed") throw new Problem(LOST);
      if (status === "away") {
        if (current.cancelled) throw new Problem(UNTOLD);
        this.#report({ phase: "lost", share: null, position: null, eta: null });
      }
      await seconds(current.pause);
    }
  }

  /** Reports the progress; a cancel that the user asked for is repeated until it took. */
  async #look(current) {
    try {
      const found = await this.#api.request(current.id);
      current.pause = found.callsLeft < FEW_CALLS ? RARELY : Math.min(current.pause * 1.25, LONGEST_PAUSE);
      if (found.status === "queued" || found.status === "running") {
        if (current.cancelled) await this.#api.cancel(current.id);
        this.#report({ phase: found.status, share: found.progress, position: found.queue_position, eta: found.eta_seconds });
      }
      return found.status;
    } catch (error) {
      if (error instanceof Unreachable) return "away";
      if (!(error instanceof Problem)) throw error;
      if (error.retryAfter) current.pause = error.retryAfter;
      return error.status === 429 ? "later" : "unknown";
    }
  }

  async #keep(job) {
    try {
      await this.#store.put(job);
      sessionStorage.setItem("studio-job", job.id);
    } catch {
      // Where nothing may be kept a reload loses the job; painting goes on.
    }
  }

  async #forget(job) {
    sessionStorage.removeItem("studio-job");
    await this.#store.delete(job.id).catch(() => {});
  }
}

/** @param {?AbortSignal} over  ends the wait early */
function seconds(count, over = null) {
  return new Promise((resolve) => {
    setTimeout(resolve, count * 1000);
    over?.addEventListener("abort", resolve);
  });
}
