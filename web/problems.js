// What went wrong, in words, with what can be done about it.

import { Problem } from "./api.js";

const TITLES = {
  validation_error: "Something in the form is not accepted",
  model_not_found: "This model is not here",
  rate_limited: "Too many requests",
  webui_unavailable: "No WebUI can be reached",
  gpu_unavailable: "No GPU can be reached",
  queue_full: "The queue is full",
  queue_timeout: "No WebUI became free in time",
  gpu_out_of_memory: "The GPU’s memory does not suffice",
  webui_timeout: "The picture took too long",
  webui_error: "The WebUI failed",
  draining: "The service is shutting down",
  cancelled: "Cancelled",
};

const ICONS = { cancelled: "i-off", rate_limited: "i-clock", webui_unavailable: "i-off", gpu_unavailable: "i-off" };

/** Shows one failure; "Try again" waits for its Retry-After. */
export class ProblemView {
  #place = document.getElementById("problem");
  #timer = null;
  #retry;

  /** @param {() => void} retry */
  constructor(retry) {
    this.#retry = retry;
  }

  clear() {
    clearInterval(this.#timer);
    this.#place.replaceChildren();
  }

  /** @param {Problem} problem  @param {{field: string, message: string}[]} elsewhere  those without a field here */
  show(problem, elsewhere) {
    this.clear();
    const title = TITLES[problem.code] ?? problem.title;
    const inFields = problem.errors.length > elsewhere.length;
    const detail = inFields ? "What is wrong stands at its field." : sentence(problem.message);
    const parts = [icon(ICONS[problem.code] ?? "i-alert"), text("h3", title)];
    if (detail !== `${title}.`) parts.push(text("p", detail));
    if (inFields && elsewhere.length) parts.push(list(elsewhere));
    const again = text("button", "Try again");
    again.type = "button";
    again.addEventListener("click", () => this.#retry());
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
