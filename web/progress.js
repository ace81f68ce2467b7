// How far a job is, in words and as a bar.

const bar = document.getElementById("progress");
const words = document.getElementById("progress-text");
const more = document.getElementById("progress-more");

/** @param {import("./job.js").Progress} progress */
export function showProgress({ phase, share, position, eta }) {
  // What is sent waits: a full bar would run backwards when painting begins.
  const known = share !== null && (phase === "running" || share < 1) && phase !== "queued";
  if (known) bar.value = share;
  else bar.removeAttribute("value");
  say(text(phase, share, position));
  more.textContent = eta === null ? "" : `about ${duration(eta)} left`;
}

function text(phase, share, position) {
  if (phase === "sending") return share < 1 ? `Sending, ${Math.round(share * 100)} %` : "Sent";
  if (phase === "queued") return position === 1 ? "Waiting: you are next" : `Waiting: number ${position} in the queue`;
  if (phase === "running") return share === null ? "Painting" : `Painting, ${Math.round(share * 100)} %`;
  return "Connection lost; looking for the job";
}

/** A screen reader speaks each text once: the same one again is no news. */
function say(text) {
  if (words.textContent !== text) words.textContent = text;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
