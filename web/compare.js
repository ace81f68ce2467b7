// Two pictures over each other and a line between them: an <input type=range>, so that keys move it as well.

/**
 * @param {HTMLElement} place   is filled anew
 * @param {{before: string, after: string, fit: "fill" | "cover" | "contain"}} pictures  URLs; how the first is fitted
 */
export function compare(place, { before, after, fit }) {
  const first = picture(before, "Before");
  first.className = "before";
  first.style.objectFit = fit;
  const line = document.createElement("div");
  line.className = "line";
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, value: 50 });
  slider.setAttribute("aria-label", "Before and after: how much of the first picture is shown, per cent");
  const move = () => place.style.setProperty("--cut", `${slider.value}%`);
  slider.addEventListener("input", move);
  move();
  place.replaceChildren(picture(after, "After"), first, line, tag("before", "first"), tag("after", "second"), slider);
}

function picture(url, text) {
  return Object.assign(new Image(), { src: url, alt: text });
}

function tag(text, side) {
  const made = document.createElement("span");
  made.className = `tag ${side}`;
  made.textContent = text;
  return made;
}
