// What the service refuses, shown at the input that it is about.

/** Messages that say something of the field ("must be …", "is …"), not of something else ("no WebUI …", "the final picture …"). */
const GOES_ON = /^(?!(a|all|at|no|none|the|width)\b)/;

/** Gives a place, which has `data-field`, a line for its errors. @param {?Element} input  what the line is about */
export function addErrorLine(place, input, id = `${place.dataset.field}-error`) {
  const line = Object.assign(document.createElement("p"), { className: "error", id, hidden: true });
  place.append(line);
  const before = input?.getAttribute("aria-describedby");
  input?.setAttribute("aria-describedby", before ? `${before} ${id}` : id);
}

/**
 * Each problem at its field, the first one in view.
 *
 * @param {{field: string, message: string}[]} errors
 * @param {(place: Element) => boolean} applies  whether a place belongs to the chosen mode
 * @returns those for which there is no field
 */
export function showErrors(errors, applies) {
  clearErrors();
  const elsewhere = [];
  let first = null;
  for (const { field, message } of errors) {
    const place = document.querySelector(`[data-field="${CSS.escape(field)}"]`);
    if (!place || !applies(place)) {
      elsewhere.push({ field, message });
      continue;
    }
    const line = place.querySelector(":scope > .error");
    line.textContent = `${nameOf(place)}${GOES_ON.test(message) ? " " : ": "}${message}.`;
    line.hidden = false;
    for (const input of place.querySelectorAll(`[aria-describedby~="${CSS.escape(line.id)}"]`)) input.setAttribute("aria-invalid", "true");
    first ??= place;
  }
  for (let around = first?.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
  (first?.querySelector("input:not([type=range]):not([hidden]), select, textarea") ?? first?.querySelector("button"))?.focus();
  return elsewhere;
}

export function clearErrors() {
  for (const line of document.querySelectorAll("main .error")) line.hidden = true;
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** As a person calls it. */
function nameOf(place) {
  return place.dataset.name ?? place.querySelector("label").firstChild.textContent.trim();
}
