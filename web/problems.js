// What went wrong, in words, and what can be done about it.

import { Problem } from "./api.js";
import { TITLES } from "./titles.js";

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
    // A newer service may have a code that is not known here: it keeps the service's own title.
    const { title, icon: name } = TITLES[problem.code] ?? { title: problem.title, icon: "i-alert" };
    const inFields = problem.errors.length > elsewhere.length;
    const detail = inFields ? "Each field says what is wrong with it." : sentence(problem.message);
    const parts = [icon(name), text("h3", title)];
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
