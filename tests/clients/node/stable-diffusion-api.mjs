// Calls through stable-diffusion-api; see answering.mjs.
import sharp from "sharp";
import library from "stable-diffusion-api";
import { answer, sides } from "./answering.mjs";

const client = ({ root, key }) => new library.default({ baseUrl: root }).setAuth("anybody", key);

async function pictures(painted) {
  const files = await Promise.all(painted.images.map((one) => one.png().toBuffer()));
  return { pictures: files.map((file) => file.toString("base64")) };
}

async function generate({ n = 1, size = "256x256", steps = 5, ...where }) {
  const [width, height] = sides(size);
  const options = { prompt: "a lighthouse by the sea", width, height, steps, batch_size: n };
  return pictures(await client(where).txt2img(options));
}

async function edit({ image, mask, ...where }) {
  const options = { prompt: "a forest", width: 256, height: 256, init_images: [sharp(image)], mask_image: sharp(mask) };
  return pictures(await client(where).img2img(options));
}

await answer({ generate, edit });
