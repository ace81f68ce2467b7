// Calls through OpenAI's own package; see answering.mjs.
import { createReadStream } from "node:fs";
import OpenAI from "openai";
import { answer } from "./answering.mjs";

const client = ({ root, key }) => new OpenAI({ baseURL: `${root}/v1`, apiKey: key });
const pictures = (painted) => ({ pictures: painted.data.map((one) => one.b64_json) });

async function generate({ n = 1, size = "256x256", steps = 5, request_id, ...where }) {
  const body = { model: "sd-v1-5", prompt: "a lighthouse by the sea", n, size, steps };
  const headers = request_id ? { "X-Request-ID": request_id } : {};
  return pictures(await client(where).images.generate(body, { headers }));
}

async function stream({ n = 1, steps = 5, request_id, ...where }) {
  const body = { model: "sd-v1-5", prompt: "a lighthouse by the sea", n, size: "256x256", steps };
  const headers = request_id ? { "X-Request-ID": request_id } : {};
  const seen = [];
  const events = await client(where).images.generate({ ...body, stream: true, partial_images: 1 }, { headers });
  for await (const event of events) seen.push(event);
  return { events: seen.map((event) => event.type), pictures: seen.map((event) => event.b64_json) };
}

async function edit({ image, mask, ...where }) {
  return pictures(
    await client(where).images.edit({
      model: "sd-v1-5",
      prompt: "a forest",
      image: createReadStream(image),
      mask: createReadStream(mask),
    }),
  );
}

await answer({ generate, stream, edit });
