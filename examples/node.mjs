// From Node 20 or newer, without packages: a picture from words, then only a part of it painted anew.
//   node examples/node.mjs [folder]
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import path from "node:path";

const api = (process.env.SERVICE ?? "http://localhost:5002") + "/api/v1/ai/generation";
const out = process.argv[2] ?? "pictures";
const mask = new URL("samples/circle-mask.png", import.meta.url);

/** Resolves with the service's JSON; rejects with its own words. */
async function generate(route, init) {
  const headers = new Headers(init.headers);
  // Asked for again with the same key, a picture is not painted twice.
  headers.set("Idempotency-Key", randomUUID());
  if (process.env.API_KEY) headers.set("Authorization", `Bearer ${process.env.API_KEY}`);
  const response = await fetch(`${api}/${route}`, { ...init, method: "POST", headers });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.code}: ${answer.detail}`);
  return answer;
}

async function save(name, imageId) {
  const response = await fetch(`${api}/image/${imageId}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  await writeFile(path.join(out, name), bytes);
  return bytes;
}

await mkdir(out, { recursive: true });

const first = await generate("txt2img", {
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ prompt: "a lighthouse at sunset", seed: 7, response_format: "url" }),
});
const photo = await save("photo.png", first.image_id);
console.log(`photo.png: ${first.width} × ${first.height}, seed ${first.seed}`);

// A form may hold files; fetch() sets its Content-Type itself. In the mask, white is repainted and black is kept.
const form = new FormData();
form.append("prompt", "a blue sky");
form.append("response_format", "url");
form.append("image", new Blob([photo]), "photo.png");
form.append("mask", new Blob([await readFile(mask)]), "mask.png");
const second = await generate("inpainting", { body: form });
await save("sky.png", second.image_id);
console.log(`sky.png: painted in ${second.processing_time} s`);
