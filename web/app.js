// The page's table of contents: every part is made and joined here.

import { Api, Problem, Unreachable } from "./api.js";
import { Brush } from "./brush.js";
import { Enlarging } from "./enlarging.js";
import { clearErrors } from "./field_errors.js";
import { Form } from "./form.js";
import { Health } from "./health.js";
import { History } from "./history.js";
import { Jobs } from "./job.js";
import { KeyDialog } from "./keys.js";
import { Mask } from "./mask.js";
import { ProblemView } from "./problems.js";
import { showProgress } from "./progress.js";
import { Result } from "./result.js";
import { snippet } from "./snippets.js";
import { SourcePicture } from "./source.js";

const SIMULATED = {
  all: "A simulator paints, no model",
  some: "A simulator paints some of them",
};
const AWAY = { title: "The service cannot be reached", detail: "No answer came.", retryable: true };
const BUSY = { phase: "sending", share: null, position: null, eta: null };

const api = new Api();
const form = new Form();
const source = new SourcePicture();
const mask = new Mask(by("mask"));
const brush = new Brush(mask);
const result = new Result();
const enlarging = new Enlarging();
const history = new History();
const health = new Health(api);
const jobs = new Jobs(api, showProgress);
const problems = new ProblemView();
const keys = new KeyDialog(api, load);
let needsKey = false;
let loaded = false;
/** Counts what the stage was asked to show: only what was asked last is shown. */
let asked = 0;

async function load() {
  const [options, models] = await Promise.all([api.options(), api.models()]);
  form.fill(options, models);
  enlarging.fill(options);
  loaded = options.samplers.length > 0 || models.models.length > 0;
  if (by("stage").dataset.state === "failed" && needsKey) result.reset();
  by("simulated").hidden = options.simulated === "none";
  by("simulated-text").textContent = SIMULATED[options.simulated] ?? "";
  changed();
}

/** What the form says, as a request; the pictures too. */
async function wanted() {
  const files = {};
  if (form.mode !== "txt2img" && source.current) files.image = source.current.blob;
  if (form.reference.current) files.reference = form.reference.current.blob;
  // Without a stroke none is sent: the service says best what is missing.
  if (form.mode === "inpainting" && source.current && !mask.isEmpty()) files.mask = await mask.file();
  return { mode: form.mode, fields: form.fields(), files, ratio: form.ratio(source.current) };
}

async function generate() {
  if (by("generate").disabled) return;
  const request = await wanted();
  await repeat(request);
}

/** The picture that is shown, by an upscaler. What it was painted by comes along: the enlarged one keeps that. */
async function enlarge({ made, image }) {
  const of = { mode: made.mode, fields: made.fields, model: made.model, used: made.used, seed: image.seed, blob: image.blob };
  const ratio = image.width / image.height;
  await repeat({ mode: "upscale", fields: { image: image.imageId, ...enlarging.fields(ratio) }, files: {}, ratio, of });
}

function repeat(request) {
  return follow(request, () => jobs.run(request));
}

/** From here to the answer or the problem. @param {() => Promise<object>} begin */
async function follow(request, begin) {
  asked += 1;
  clearErrors();
  problems.clear();
  by("generate").disabled = true;
  result.busy(request.ratio, request.of ? { ...request.of.used, upscale: request.fields } : { ...request.fields, ...request.files });
  showProgress(BUSY);
  by("stage").scrollIntoView({ block: "nearest" });
  try {
    await show(request, await begin());
  } catch (error) {
    if (request.of) refuse(error, () => repeat(request), "upscale.");
    else refuse(error);
  } finally {
    by("generate").disabled = false;
    health.look();
  }
}

async function show(request, answer) {
  const { mode, fields, model, used, seed, blob } = request.of ?? { ...request, model: answer.model, blob: request.files.image };
  const made = {
    ...{ mode, fields, model },
    seconds: answer.processing_time,
    used: { ...used, ...answer.used },
    warnings: answer.warnings ?? [],
    before: blob ? URL.createObjectURL(blob) : null,
    images: (answer.images ?? [answer]).map((image) => imageOf({ seed, ...image })),
  };
  result.done(made);
  await history.add(made);
}

/**
 * @param {() => void} again  what "Try again" does
 * @param {string} before  what the names of the fields begin with in this page
 */
function refuse(error, again = generate, before = "") {
  result.failed(before === "upscale.");
  if (error instanceof Unreachable) error = new Problem(AWAY);
  if (!(error instanceof Problem)) {
    problems.show(new Problem({ title: "The page failed", detail: String(error.message) }), [], again);
    throw error;
  }
  problems.show(error, form.showErrors(error.errors.map((one) => ({ ...one, field: before + one.field }))), again);
  if (error.status === 401) {
    needsKey = true;
    keys.open();
  }
}

function imageOf({ image_id: imageId, image_base64: data, seed, width, height }) {
  const blob = blobOf(data);
  return { imageId, seed, width, height, blob, url: URL.createObjectURL(blob) };
}

/** The data URI's bytes. Not by fetch, which the page's policy lets go to the service alone. */
function blobOf(dataUri) {
  const bytes = Uint8Array.from(atob(dataUri.slice(dataUri.indexOf(",") + 1)), (char) => char.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

/** Whatever follows from the form: the expected shape, the columns, the code. */
function changed() {
  by("side").dataset.columns = form.mode === "txt2img" ? "1" : "2";
  result.expect(form.ratio(source.current));
  showCode();
}

function showCode() {
  const enlarges = chosen("call") === "upscale" && !by("code-calls").hidden;
  const call = enlarges ? enlargingCall() : generatingCall();
  by("code").textContent = snippet(chosen("language"), { ...call, needsKey });
  const files = Object.values(call.files);
  by("code-remark").textContent = `It reads ${files.join(" and ")} from the folder where it runs.`;
  by("code-files").hidden = files.length === 0;
  by("code-reference").hidden = !call.files.reference;
  for (const id of ["code-image", "code-mask"]) {
    by(id).hidden = enlarges || !by(id).dataset.modes.split(" ").includes(form.mode);
    by(id).disabled = source.current === null;
  }
}

function generatingCall() {
  const { image, mask, reference } = fileNames();
  const files = { txt2img: {}, img2img: { image }, inpainting: { image, mask } }[form.mode];
  if (reference) files.reference = reference;
  return { url: api.base + form.mode, fields: form.fields(), files };
}

/** The picture that is shown, which the service knows by its id; before there is one, a file. */
function enlargingCall() {
  const { image } = result;
  const fields = enlarging.fields(image ? image.width / image.height : 1);
  const url = `${api.base}upscale`;
  return image ? { url, fields: { image: image.imageId, ...fields }, files: {} } : { url, fields, files: { image: "picture.png" } };
}

function chosen(name) {
  return document.querySelector(`[name=${name}]:checked`).value;
}

/** As the user has them, or as they are saved here. @returns {{image: string, mask: string, reference: ?string}} */
function fileNames() {
  const { name: image, maskName: mask } = source.current?.original ?? { name: "image.png", maskName: "mask.png" };
  const own = form.reference.current?.original.name;
  const taken = form.mode !== "txt2img" && [image, mask].includes(own);
  return { image, mask, reference: taken ? `reference-${own}` : own };
}

/** The saved mask fits the picture as its owner has it, not the one that was scaled down to be sent. */
function showMaskSize() {
  const own = source.current?.original;
  by("mask-size").textContent = own ? `Save makes ${own.maskName}: ${own.width} × ${own.height} pixels, as large as your file.` : "";
}

/** A kept generation: its pictures come from the service again, where it still has them. */
async function openKept(entry) {
  const mine = ++asked;
  const images = await Promise.all(entry.images.map(fetched)).catch((error) => error);
  if (mine !== asked) return;
  problems.clear();
  if (images instanceof Error) refuse(images, () => openKept(entry));
  else result.done({ ...entry, images, warnings: [], before: null });
  by("stage").scrollIntoView({ block: "nearest" });
}

async function fetched(image) {
  const blob = image.blob ?? (await api.image(image.imageId));
  return { ...image, blob, url: URL.createObjectURL(blob) };
}

/** All but the pictures that went in, which are not kept. */
function useSettings({ made, image }) {
  form.restore(made.mode, { ...made.fields, seed: image.seed });
  if (!made.used?.reference) form.reference.remove();
  else if (!form.reference.current) form.reference.ask();
}

async function paintOn({ image }) {
  await source.use(new File([image.blob], `${image.imageId}.png`, { type: image.blob.type })); // as Download calls it
  if (form.mode === "txt2img") form.mode = "inpainting";
  by("easel").scrollIntoView({ block: "nearest" });
}

async function saveMask() {
  const { original } = source.current;
  save(await mask.file(original), original.maskName);
}

function saveReference() {
  save(form.reference.current.original.blob, fileNames().reference);
}

function saveImage() {
  const { blob, name } = source.current.original;
  save(blob, name);
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}

async function copyCode() {
  const text = by("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
    by("code-copy-text").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(by("code")); // http without localhost has no clipboard
    by("code-copy-text").textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => (by("code-copy-text").textContent = "Copy"), 2500);
}

function wire() {
  form.addEventListener("submit", generate);
  form.addEventListener("change", changed);
  source.addEventListener("change", () => {
    if (source.current) mask.reset(source.current.width, source.current.height);
    by("mask-tools").inert = source.current === null;
    brush.reset();
    showMaskSize();
    changed();
  });
  for (const part of [result, enlarging]) part.addEventListener("change", showCode);
  result.addEventListener("use-seed", ({ detail }) => form.set({ seed: detail.image.seed }));
  result.addEventListener("use-picture", ({ detail }) => paintOn(detail));
  result.addEventListener("upscale", ({ detail }) => enlarge(detail));
  result.addEventListener("use-settings", ({ detail }) => useSettings(detail));
  history.addEventListener("open", ({ detail }) => openKept(detail));
  for (const idea of by("ideas").children) idea.addEventListener("click", () => form.set({ prompt: idea.textContent }));
  by("cancel").addEventListener("click", () => jobs.cancel());
  for (const id of ["mask-save", "code-mask"]) by(id).addEventListener("click", saveMask);
  by("code-image").addEventListener("click", saveImage);
  by("code-reference").addEventListener("click", saveReference);
  by("code-copy").addEventListener("click", copyCode);
  for (const radio of document.querySelectorAll("[name=language], [name=call]")) radio.addEventListener("change", showCode);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate();
  });
  // A WebUI that comes back brings its models and samplers along.
  health.addEventListener("change", () => loaded || load().catch(unloaded));
}

/** Without connection the health line says so, and load comes again when there is one. */
function unloaded(error) {
  if (error.status === 429) setTimeout(() => load().catch(unloaded), (error.retryAfter ?? 5) * 1000);
  else if (!(error instanceof Unreachable)) refuse(error);
}

async function start() {
  wire();
  by("mask-tools").inert = true;
  changed();
  history.load();
  health.watch();
  const interrupted = await jobs.interrupted();
  await load().catch(unloaded);
  if (!interrupted) return;
  const { mode, fields } = interrupted.of ?? interrupted;
  form.restore(mode, fields);
  if (interrupted.files.image) await source.use(interrupted.files.image);
  if (interrupted.files.reference) await form.reference.use(interrupted.files.reference);
  await follow(interrupted, () => jobs.resume(interrupted));
}

function by(id) {
  return document.getElementById(id);
}

start();
