// The API key, where the service asks for one.

const dialog = by("key-dialog");

/** Asks for a key until one is accepted or the dialog is closed. */
export class KeyDialog {
  #api;
  #tried;

  /**
   * @param {import("./api.js").Api} api
   * @param {() => Promise<void>} tried  called with each key; rejects with a Problem 401 where it is wrong
   */
  constructor(api, tried) {
    this.#api = api;
    this.#tried = tried;
    by("key-button").addEventListener("click", () => this.open());
    by("key-cancel").addEventListener("click", () => dialog.close());
    by("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#use();
    });
  }

  open() {
    by("key-button").hidden = false;
    by("key").value = this.#api.key;
    by("key-error").hidden = true;
    if (!dialog.open) dialog.showModal();
  }

  async #use() {
    this.#api.key = by("key").value.trim();
    try {
      await this.#tried();
      dialog.close();
    } catch (error) {
      by("key-error").textContent = error.status === 401 ? "The service does not know this key." : error.message;
      by("key-error").hidden = false;
    }
  }
}

function by(id) {
  return document.getElementById(id);
}
