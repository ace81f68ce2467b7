// What went wrong, in words, with what can be done about it.

import { Problem } from "./api.js";

/** Every code of docs/errors that a caller can get. One that a newer service may have keeps the service's title. */
const TITLES = {
  malformed_request: "The service could not read the request",
  unauthorized: "The service asks for an API key",
  forbidden: "This is not allowed here",
  not_found: "There is nothing at this address",
  image_not_found: "This picture is no longer stored",
  request_not_found: "The service does not know this job",
  method_not_allowed: "The service does not take this call",
  request_timeout: "Sending took too long",
  cancelled: "Cancelled",
  precondition_failed: "The picture is not the one that was meant",
  payload_too_large: "The pictures are too large to send",
  unsupported_media_type: "The service does not read this kind of request",
  range_not_satisfiable: "The picture has no such part",
  validation_error: "Something in the form is not accepted",
  model_not_found: "This model is not here",
  capability_missing: "No WebUI here can do this",
  idempotency_mismatch: "The job was sent before with other settings",
  rate_limited: "Too many requests",
  internal_error: "The service failed",
  webui_error: "The WebUI failed",
  webui_unavailable: "No WebUI can be reached",
  gpu_unavailable: "No GPU can be reached",
  queue_full: "The queue is full",
  queue_timeout: "No WebUI became free in time",
  queue_unavailable: "The queue cannot be kept",
  storage_unavailable: "Stored pictures cannot be reached",
  draining: "The service is shutting down",
  gpu_out_of_memory: "The GPU’s memory does not suffice",
  webui_timeout: "The picture took too long",
  service_unavailable: "The service cannot be reached",
  service_timeout: "The service gave no answer in time",
};

const AWAY = ["cancelled", "webui_unavailable", "gpu_unavailable", "queue_unavailable", "storage_unavailable", "service_unavailable"];
const LATE = ["rate_limited", "request_timeout", "queue_timeout", "webui_timeout", "service_timeout"];
const ICONS = Object.fromEntries([...AWAY.map((code) => [code, "i-off"]), ...LATE.map((code) => [code, "i-clock"])]);

/** Shows one failure; "Try again" waits for its Retry-After. */
export class ProblemView {
  #place = document.getElementById("problem");
  #timer = null;

  clear() {
    clearInterval(this.#timer);
    this.#place.replaceChildren();
  }

  /**
   * @param {Problem} problem
   * @param {{field: string, message: string}[]} elsewhere  those without a field here
   * @param {() => void} retry  called by "Try again"
   */
  show(problem, elsewhere, retry) {
    this.clear();
    const title = TITLES[problem.code] ?? problem.title;
    const inFields = problem.errors.length > elsewhere.length;
    const detail = inFields ? "What is wrong stands at its field." : sentence(problem.message);
    const parts = [icon(ICONS[problem.code] ?? "i-alert"), text("h3", title)];
    if (detail !== `${title}.`) parts.push(text("p", detail));
    if (inFields && elsewhere.length) parts.push(list(elsewhere));
    const again = text("button", "Try again");
    again.type = "button";
    again.addEventListener("click", retry);
    if (problem.retryAfter !== null) parts.push(this.#countdown(problem.retryAfter, again));
    if (problem.retryAfter !== null || problem.retryable || problem.code === "cancelled") parts.push(again);
    if (problem.requestId) parts.push(text("p", `Request ${problem.requestId}`, "id"));
    this.#place.append(...parts);
  }

  /** Counts down to the time when asking again has a chance; the alert itself is read out once, not each second. */
  #countdown(wait, button) {
    const line = text("p", "", "countdown");
    line.setAttribute("role", "timer");
    line.setAttribute("aria-live", "off");
    const until = Date.now() + wait * 1000;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      button.disabled = left > 0;
      line.textContent = left > 0 ? `Again in ${left} s` : "You can try again now.";
      if (left <= 0) clearInterval(this.#timer);
    };
    this.#timer = setInterval(tick, 250);
    tick();
    return line;
  }
}

function list(errors) {
  const made = document.createElement("ul");
  made.append(...errors.map(({ field, message }) => text("li", `${field}: ${message}`)));
  return made;
}

function sentence(words) {
  const first = words[0].toUpperCase() + words.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#${name}`);
  made.setAttribute("aria-hidden", "true");
  made.append(use);
  return made;
}

function text(tag, words, kind = "") {
  return Object.assign(document.createElement(tag), { textContent: words, className: kind });
}
