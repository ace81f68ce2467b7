// Calls through node-sd-webui; see answering.mjs. It has no field for a key, nor for a mask.
import library from "node-sd-webui";
import { answer, sides } from "./answering.mjs";

async function generate({ root, n = 1, size = "256x256", steps = 5 }) {
  const [width, height] = sides(size);
  const options = { prompt: "a lighthouse by the sea", width, height, steps, batchSize: n };
  return { pictures: (await library({ apiUrl: root }).txt2img(options)).images };
}

await answer({ generate });
