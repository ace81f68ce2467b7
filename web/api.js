// The service's HTTP API as JavaScript: a method per route, and two kinds of failure.

import { asForm } from "./as_form.js";
import { post } from "./upload.js";

/** Relative, so that it also holds where a proxy puts the service below a path. */
const BASE = new URL("api/v1/ai/generation/", document.baseURI).href;
const KEY = "studio-api-key";

/** The service answered, and the answer is no: RFC 9457, as every failure of the service is. */
export class Problem extends Error {
  /** @param {object} problem  the problem+json   @param {?number} retryAfter  seconds */
  constructor(problem, retryAfter = null) {
    super(problem.detail ?? problem.title);
    this.status = problem.status;
    this.code = problem.code;
    this.title = problem.title;
    /** @type {{field: string, message: string, received?: unknown}[]} */
    this.errors = problem.errors ?? [];
    this.retryable = problem.retryable ?? false;
    this.requestId = problem.request_id;
    this.retryAfter = retryAfter;
  }
}

/** No answer came: whether the service got the request is not known. */
export class Unreachable extends Error {}

export class Api {
  get base() {
    return BASE;
  }

  /** For this tab only: sessionStorage ends with it. */
  get key() {
    return sessionStorage.getItem(KEY) ?? "";
  }

  set key(key) {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  }

  options() {
    return this.#json("options");
  }

  models() {
    return this.#json("models");
  }

  /** Also when it is "unhealthy", which is an answer with status 503. */
  async health() {
    const response = await reach(() => fetch(BASE + "health", { cache: "no-store" }));
    const body = await json(response);
    if (!body?.webuis) throw new Unreachable("the health check gave no report");
    return body;
  }

  /**
   * One generation. Resolves with the service's answer.
   *
   * @param {{id: string, key: string, mode: string, fields: object, files: Object<string, Blob>}} job
   *   `id` is what it can be followed and cancelled by; with the same `key` the first answer comes again.
   * @param {{onSent?: (share: number) => void, signal?: AbortSignal}} options
   */
  async generate(job, options = {}) {
    const files = Object.entries(job.files);
    const headers = { ...this.#headers(), "X-Request-ID": job.id, "Idempotency-Key": job.key };
    let body;
    if (files.length) {
      body = new FormData();
      for (const [name, value] of Object.entries(asForm(job.fields))) body.append(name, String(value));
      for (const [name, file] of files) body.append(name, file, name);
    } else {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(job.fields);
    }
    const answer = await reach(() => post(BASE + job.mode, { ...options, headers, body }));
    return accepted(answer);
  }

  /** The status of a request. The rest of this minute's calls comes along: who follows closely must know it. */
  async request(id, signal) {
    const response = await reach(() => fetch(this.#request(id), { headers: this.#headers(), signal, cache: "no-store" }));
    return { ...(await accepted(response)), callsLeft: Number(response.headers.get("X-RateLimit-Remaining") ?? Infinity) };
  }

  /** @returns {Promise<boolean>} false: there is nothing to cancel, not yet or no more. */
  async cancel(id) {
    const response = await reach(() => fetch(this.#request(id), { method: "DELETE", headers: this.#headers() }));
    if (response.status === 404) return false;
    await accepted(response);
    return true;
  }

  /** A stored picture. @returns {Promise<Blob>} @throws {Problem} among others where it is stored no longer */
  async image(imageId) {
    const response = await reach(() => fetch(`${BASE}image/${imageId}`));
    if (!response.ok) await accepted(response);
    return reach(() => response.blob());
  }

  #request(id) {
    return `${BASE}requests/${id}`;
  }

  #headers() {
    // Encoded as the bytes of UTF-8, since a header is Latin-1.
    return this.key ? { Authorization: `Bearer ${utf8AsLatin1(this.key)}` } : {};
  }

  async #json(route) {
    return accepted(await reach(() => fetch(BASE + route, { headers: this.#headers(), cache: "no-store" })));
  }
}

async function reach(call) {
  try {
    return await call();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("no connection to the service", { cause: error });
  }
}

/** The JSON of a success. @throws {Problem} */
async function accepted(response) {
  const body = response.status === 204 ? {} : await json(response);
  if (response.status < 300 && body) return body;
  const wait = Number(response.headers.get("Retry-After"));
  const foreign = `Something between here and the service answered ${response.status}.`;
  const problem = body?.code ? body : { title: "Unexpected answer", detail: foreign };
  throw new Problem({ retryable: response.status >= 502, ...problem, status: response.status }, wait > 0 ? wait : null);
}

async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw new Unreachable("the answer was cut off", { cause: error });
  }
}

function utf8AsLatin1(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
