// One photograph by the camera of the device.

export class Camera {
  #dialog = by("camera-dialog");
  #video = by("camera-video");
  #use;

  /** @param {(photo: Blob) => void} use */
  constructor(use) {
    this.#use = use;
    by("camera-shoot").addEventListener("click", () => this.#shoot());
    by("camera-cancel").addEventListener("click", () => this.#dialog.close());
    // However the dialog is closed, the lamp beside the lens goes out.
    this.#dialog.addEventListener("close", () => this.#stop());
  }

  /** Browsers give pages a camera on https and on localhost only. */
  get exists() {
    return Boolean(navigator.mediaDevices?.getUserMedia);
  }

  async open() {
    by("camera-error").hidden = true;
    by("camera-shoot").disabled = true;
    this.#dialog.showModal();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
      if (!this.#dialog.open) return stopAll(stream);
      this.#video.srcObject = stream;
      await this.#video.play();
      by("camera-shoot").disabled = false;
    } catch (error) {
      by("camera-error").textContent =
        error.name === "NotAllowedError" ? "The camera was not allowed for this page." : "No camera is available.";
      by("camera-error").hidden = false;
    }
  }

  async #shoot() {
    const canvas = new OffscreenCanvas(this.#video.videoWidth, this.#video.videoHeight);
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    const photo = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    this.#dialog.close();
    this.#use(photo);
  }

  #stop() {
    if (this.#video.srcObject) stopAll(this.#video.srcObject);
    this.#video.srcObject = null;
  }
}

function stopAll(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function by(id) {
  return document.getElementById(id);
}
