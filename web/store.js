// IndexedDB as promises: pictures are too large for localStorage.

const NAME = "studio";
const STORES = ["jobs", "history"];

let opened;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => STORES.forEach((store) => request.result.createObjectStore(store, { keyPath: "id" }));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/** One kind of records, each with an `id`. In a private window nothing may be kept: then every call rejects. */
export class Store {
  /** @param {"jobs" | "history"} name */
  constructor(name) {
    this.name = name;
  }

  put(record) {
    return this.#run("readwrite", (store) => store.put(record));
  }

  get(id) {
    return this.#run("readonly", (store) => store.get(id));
  }

  all() {
    return this.#run("readonly", (store) => store.getAll());
  }

  delete(id) {
    return this.#run("readwrite", (store) => store.delete(id));
  }

  clear() {
    return this.#run("readwrite", (store) => store.clear());
  }

  async #run(mode, ask) {
    const transaction = (await database()).transaction(this.name, mode);
    const request = ask(transaction.objectStore(this.name));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }
}
