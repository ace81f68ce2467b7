// One inpainting by fetch(): a form with two files out, JSON in, and an answer to everything that can go wrong.

import { drawMask } from "./browser_mask.js";

const service = new URLSearchParams(location.search).get("service") ?? "http://localhost:5002";
const API = service + "/api/v1/ai/generation";

const element = (id) => document.getElementById(id);
let mask = null;
let stopper = null;

element("photo").onchange = async () => {
  const [file] = element("photo").files;
  // Upright, as the service takes it: phones store photos lying on their side, with an orientation tag.
  const photo = await createImageBitmap(file, { imageOrientation: "from-image" });
  mask = drawMask(element("canvas"), photo, Math.max(photo.width, photo.height) / 12);
};

element("stop").onclick = () => stopper.abort(); // closes the connection, and the service stops the job

element("form").onsubmit = async (event) => {
  event.preventDefault();
  element("problem").textContent = "";
  if (!mask || mask.isEmpty()) return void (element("problem").textContent = "Paint over what is to change.");
  stopper = new AbortController();
  busy(true);
  try {
    const answer = await inpaint(element("photo").files[0], await mask.toBlob(), element("prompt").value, stopper.signal);
    if (!answer.image_url) throw new Error(answer.warnings.join(" ")); // painted, but not stored
    element("result").src = new URL(answer.image_url, service);
    element("result").hidden = false;
    element("status").textContent = `Seed ${answer.seed}, ${answer.processing_time} s`;
  } catch (error) {
    element("problem").textContent = error.name === "AbortError" ? "Stopped." : error.message;
    element("status").textContent = "";
  } finally {
    busy(false);
  }
};

/** @returns {Promise<{image_url: string, seed: number, processing_time: number}>} */
async function inpaint(photo, mask, prompt, signal) {
  const form = new FormData();
  form.append("prompt", prompt);
  form.append("response_format", "url");
  form.append("image", photo);
  form.append("mask", mask, "mask.png");
  for (;;) {
    // No Content-Type here: the browser adds the form's boundary to its own.
    const response = await fetch(`${API}/inpainting`, { method: "POST", body: form, signal });
    const answer = await response.json();
    if (response.ok) return answer;
    const wait = Number(response.headers.get("Retry-After"));
    if (!wait) throw new Error(answer.detail); // 422 names the wrong fields: answer.errors
    element("status").textContent = `${answer.title}: again in ${wait} s`;
    await later(wait * 1000, signal);
  }
}

function later(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

function busy(is) {
  element("send").disabled = is;
  element("stop").disabled = !is;
  if (is) element("status").textContent = "Painting …";
}
