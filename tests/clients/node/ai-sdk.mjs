// Calls through the AI SDK with its provider for servers that speak OpenAI's API; see answering.mjs.
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import * as ai from "ai";
import { answer } from "./answering.mjs";

const generateImage = ai.generateImage ?? ai.experimental_generateImage;
const model = ({ root, key }) =>
  createOpenAICompatible({ name: "sd", baseURL: `${root}/v1`, apiKey: key }).imageModel("sd-v1-5");
const pictures = (painted) => ({ pictures: painted.images.map((one) => one.base64) });

async function generate({ n = 1, size = "256x256", steps = 5, request_id, ...where }) {
  return pictures(
    await generateImage({
      model: model(where),
      prompt: "a lighthouse by the sea",
      n,
      size,
      providerOptions: { sd: { steps } },
      headers: request_id ? { "X-Request-ID": request_id } : {},
    }),
  );
}

async function edit({ image, mask, ...where }) {
  const prompt = { text: "a forest", images: [readFileSync(image)], mask: readFileSync(mask) };
  return pictures(await generateImage({ model: model(where), prompt }));
}

await answer({ generate, edit });
