// @ts-check
/**
 * Files on their way to the server, piece by piece: with speed and time left, paused and resumed, also after the page was loaded anew.
 *
 * The server says how much it has (`received_bytes`); what is kept here, in localStorage, is which file an upload was of (a
 * fingerprint: the browser gives no file back by itself) and what is to be made of it.
 */
import { ApiError, api } from "./api.js";
import { t } from "./i18n.js";

const MIB = 1024 * 1024;
const PIECE_LEAST = 4 * MIB;
const PIECE_MOST = 64 * MIB;
const PIECE_SECONDS = 4;
const PAUSES = [1, 2, 5, 10, 20, 30];
const KEY = "uploads";

/**
 * @typedef {{ fingerprint: string, wish: Record<string, unknown> }} Kept
 * @typedef {"sending" | "paused" | "failed" | "waiting" | "sent"} State `waiting`: for its file to be chosen again
 */

/** @param {File} file */
export const fingerprint = (file) => `${file.name}:${file.size}:${file.lastModified}`;

/** @returns {Record<string, Kept>} upload's id → what is kept of it */
export function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {};
  }
}
/** @param {string} id @param {Kept | null} value null forgets it */
export function keep(id, value) {
  const all = kept();
  if (value) all[id] = value;
  else delete all[id];
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // A browser that keeps nothing resumes within the page only.
  }
}

const csrf = () => document.querySelector('meta[name="csrf-token"]')?.getAttribute("content") ?? "";

/** One file on its way. `onchange` is called whenever something of it changed. */
export class Upload {
  /** @type {State} */
  state = "waiting";
  received = 0;
  /** What the piece under way has sent beyond `received`. */
  sending = 0;
  /** @type {ApiError | null} */
  error = null;
  onchange = () => {};
  onsent = () => {};
  /** @type {XMLHttpRequest | null} */
  #request = null;
  #piece = PIECE_LEAST;
  #tries = 0;
  /** @type {{ at: number, bytes: number }[]} */
  #marks = [];

  /**
   * @param {{ id: string, filename: string, size_bytes: number, received_bytes: number, state: string }} row as the server has it
   * @param {Record<string, unknown>} wish what is to be made of it
   * @param {File | null} file null: to be chosen again
   */
  constructor(row, wish, file) {
    this.id = row.id;
    this.name = row.filename;
    this.size = row.size_bytes;
    this.received = row.received_bytes;
    this.wish = wish;
    this.file = file;
    this.state = row.state === "complete" ? "sent" : file ? "paused" : "waiting";
  }

  /** 0 to 1. */
  get ratio() {
    return this.size ? Math.min(1, (this.received + this.sending) / this.size) : 1;
  }

  /** Bytes a second over the last seconds; null where it cannot be told yet. */
  get speed() {
    const first = this.#marks[0];
    const last = this.#marks.at(-1);
    if (!first || !last || last.at - first.at < 500) return null;
    return ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
  }

  /** Seconds to go. */
  get left() {
    const speed = this.speed;
    return speed ? (this.size - this.received - this.sending) / speed : null;
  }

  /** @param {File} file the one it was begun with, chosen again */
  take(file) {
    this.file = file;
    this.state = "paused";
    this.start();
  }

  start() {
    if (!this.file || this.state === "sending" || this.state === "sent") return;
    this.state = "sending";
    this.error = null;
    this.#marks = [];
    this.onchange();
    this.#run();
  }

  pause() {
    if (this.state !== "sending") return;
    this.state = "paused";
    this.#request?.abort();
    this.onchange();
  }

  /** Gives it up, here and on the server. */
  async remove() {
    this.pause();
    this.state = "paused";
    keep(this.id, null);
    await api("DELETE", `/uploads/${this.id}`).catch((error) => {
      if (!(error instanceof ApiError) || error.code !== "not_found") throw error;
    });
  }

  async #run() {
    try {
      while (this.state === "sending" && this.received < this.size) await this.#sendPiece();
      if (this.state !== "sending") return;
      this.state = "sent";
      this.onchange();
      this.onsent();
    } catch (error) {
      this.state = "failed";
      this.error = error instanceof ApiError ? error : new ApiError({ detail: String(error) });
      this.onchange();
    }
  }

  async #sendPiece() {
    const begun = performance.now();
    const end = Math.min(this.size, this.received + this.#piece);
    try {
      const row = await this.#patch(/** @type {File} */ (this.file).slice(this.received, end));
      this.received = row.received_bytes;
      this.#tries = 0;
      const seconds = Math.max(0.05, (performance.now() - begun) / 1000);
      this.#piece = Math.max(PIECE_LEAST, Math.min(PIECE_MOST, (this.#piece * PIECE_SECONDS) / seconds));
    } catch (error) {
      await this.#recover(error);
    }
    this.sending = 0;
    this.onchange();
  }

  /**
   * What broke off may have come all the same: the server knows.
   * @param {unknown} error
   */
  async #recover(error) {
    if (this.state !== "sending") return;
    const code = error instanceof ApiError ? error.code : "offline";
    if (code === "wrong_offset" && error instanceof ApiError) {
      this.received = /** @type {any} */ (error.problem).context?.received_bytes ?? this.received;
      return;
    }
    const passing = ["offline", "being_written", "upload_interrupted", "database_unavailable"].includes(code);
    if (!passing && !code.startsWith("http_5")) throw error;
    const pause = PAUSES[Math.min(this.#tries++, PAUSES.length - 1)];
    this.#marks = [];
    this.onchange();
    await new Promise((done) => setTimeout(done, pause * 1000));
    const row = await api("GET", `/uploads/${this.id}`).catch((why) => {
      if (why instanceof ApiError && why.code === "not_found") throw why;
      return null;
    });
    if (row) this.received = row.received_bytes;
  }

  /**
   * XMLHttpRequest, because `fetch` does not tell how far a body has gone.
   * @param {Blob} body
   * @returns {Promise<any>}
   */
  #patch(body) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.#request = request;
      request.open("PATCH", `/api/v1/uploads/${this.id}`);
      request.setRequestHeader("Content-Type", "application/offset+octet-stream");
      request.setRequestHeader("Upload-Offset", String(this.received));
      request.setRequestHeader("X-CSRFToken", csrf());
      request.upload.onprogress = (event) => {
        this.sending = event.loaded;
        this.#mark();
        this.onchange();
      };
      const offline = () => reject(new ApiError({ code: "offline", title: t("The server does not answer") }));
      request.onerror = offline;
      request.onabort = offline;
      request.onload = () => {
        let answer = null;
        try {
          answer = JSON.parse(request.responseText);
        } catch {
          // a proxy's page: the status says enough
        }
        if (request.status >= 200 && request.status < 300 && answer) resolve(answer);
        else reject(new ApiError(answer ?? { status: request.status, code: `http_${request.status}` }));
      };
      request.send(body);
    });
  }

  #mark() {
    const at = performance.now();
    this.#marks.push({ at, bytes: this.received + this.sending });
    while (this.#marks.length > 2 && at - this.#marks[0].at > 8000) this.#marks.shift();
  }
}

/**
 * Begins one: tells the server, and remembers what is to be made of it.
 * @param {File} file
 * @param {Record<string, unknown>} wish
 */
export async function begin(file, wish) {
  const row = await api("POST", "/uploads", { filename: file.name, size_bytes: file.size });
  keep(row.id, { fingerprint: fingerprint(file), wish });
  return new Upload(row, wish, file);
}

/** What was begun before this page was loaded, and is still there: to be gone on with. @returns {Promise<Upload[]>} */
export async function unfinished() {
  const mine = kept();
  if (!Object.keys(mine).length) return [];
  const rows = (await api("GET", "/uploads?limit=500")).items;
  const there = new Set(rows.map((/** @type {any} */ row) => row.id));
  for (const id of Object.keys(mine)) if (!there.has(id)) keep(id, null);
  return rows
    .filter((/** @type {any} */ row) => row.id in mine)
    .map((/** @type {any} */ row) => new Upload(row, mine[row.id].wish, null));
}
