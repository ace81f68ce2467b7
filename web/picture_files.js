// Picture files as the service reads them.

/** What the service reads; whatever else the browser can show becomes PNG. */
const READ_BY_SERVICE = ["image/png", "image/jpeg", "image/webp", "image/bmp"];
/** No side is painted larger than this: more would only make the upload longer. */
const LARGEST_SIDE = 2048;
const ENDINGS = { "image/jpeg": "jpg" };

/**
 * @typedef {object} Source
 * @property {Blob} blob   as it will be sent
 * @property {string} url  for <img>
 * @property {number} width   upright, pixels
 * @property {number} height
 * @property {string} remark   what became of the file, for people
 * @property {Original} original
 */

/**
 * @typedef {object} Original  at its full size, for programs: not all of them scale a picture before they send it
 * @property {string} name      of the file that the user has; where there is none, or the service does not read it, of
 *   the one that "Save picture" makes
 * @property {string} maskName  of the one that "Save mask" makes
 * @property {Blob} blob
 * @property {number} width   upright, pixels
 * @property {number} height
 */

/**
 * Its size upright, and bytes that the service reads: the file's own wherever those will do.
 *
 * @param {Blob} blob  any picture that the browser can read
 * @returns {Promise<Source>}
 */
export async function readPicture(blob) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const { width, height } = bitmap;
  const scale = Math.min(1, LARGEST_SIDE / Math.max(width, height));
  const read = READ_BY_SERVICE.includes(blob.type);
  const whole = read ? blob : await drawn(bitmap, { width, height }, "image/png");
  const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
  const sent = scale === 1 ? whole : await drawn(bitmap, size, whole.type === "image/jpeg" ? whole.type : "image/png");
  bitmap.close();
  const scaled = scale < 1 ? `, scaled down from ${width} × ${height} before sending` : "";
  const remark = `${size.width} × ${size.height} pixels${scaled}${read ? "" : ", sent as PNG"}`;
  return { blob: sent, url: URL.createObjectURL(sent), ...size, remark, original: { ...names(blob, whole.type), blob: whole, width, height } };
}

async function drawn(bitmap, { width, height }, type) {
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  return canvas.convertToBlob({ type, quality: 0.95 });
}

/** @param {Blob} given  a File, where it has a name   @param {string} type  of the bytes that the service reads */
function names(given, type) {
  // Browsers replace some signs in the names of what they save: here it is done before, so that the names hold.
  const stem = (given.name ?? "image").replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N} ._-]/gu, "_");
  const own = given.type === type ? given.name : undefined;
  return { name: own ?? `${stem}.${ENDINGS[type] ?? type.split("/")[1]}`, maskName: `${stem}-mask.png` };
}

export function pictureIn(transfer) {
  return Array.from(transfer?.files ?? []).find((file) => file.type.startsWith("image/"));
}
