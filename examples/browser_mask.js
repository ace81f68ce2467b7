// A mask drawn on a canvas: the photo below, strokes above, and a file in which white is what is repainted.

const COLOUR = "#ff2d78";

/**
 * Shows the photo on the canvas and lets the mouse, a finger or a pen draw on it.
 * @param {HTMLCanvasElement} canvas  @param {ImageBitmap} photo  @param {number} brush  in pixels of the photo
 * @returns {{toBlob: () => Promise<Blob>, isEmpty: () => boolean}}
 */
export function drawMask(canvas, photo, brush) {
  canvas.width = photo.width;
  canvas.height = photo.height;
  const strokes = new OffscreenCanvas(photo.width, photo.height);
  const pen = strokes.getContext("2d");
  pen.lineWidth = brush;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = COLOUR;
  let empty = true;
  let last = null;

  function show() {
    const screen = canvas.getContext("2d");
    screen.drawImage(photo, 0, 0);
    screen.globalAlpha = 0.6;
    screen.drawImage(strokes, 0, 0);
    screen.globalAlpha = 1;
  }

  // The page may show the canvas smaller than it is.
  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * canvas.width) / box.width,
      ((event.clientY - box.top) * canvas.height) / box.height,
    ];
  }

  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    canvas.onpointermove(event);
  };
  canvas.onpointermove = (event) => {
    if (!last) return;
    pen.beginPath();
    pen.moveTo(...last);
    last = place(event);
    pen.lineTo(...last);
    pen.stroke();
    empty = false;
    show();
  };
  canvas.onpointerup = canvas.onpointercancel = () => (last = null);
  show();

  return { isEmpty: () => empty, toBlob: () => whiteOnBlack(strokes) };
}

/** White where something was drawn, black elsewhere, as large as the photo. */
function whiteOnBlack(strokes) {
  const mask = new OffscreenCanvas(strokes.width, strokes.height);
  const pen = mask.getContext("2d");
  pen.drawImage(strokes, 0, 0);
  pen.globalCompositeOperation = "source-in"; // only where there is something already
  pen.fillStyle = "white";
  pen.fillRect(0, 0, mask.width, mask.height);
  pen.globalCompositeOperation = "destination-over"; // only below it
  pen.fillStyle = "black";
  pen.fillRect(0, 0, mask.width, mask.height);
  return mask.convertToBlob({ type: "image/png" });
}
