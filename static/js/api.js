// @ts-check
/** The one way to the server: REST calls with their problems, and pieces of pages. */
import { t } from "./i18n.js";

/**
 * A problem document (RFC 9457), or what comes closest to it.
 * @typedef {{ title?: string, detail?: string, status?: number, code?: string, request_id?: string, operation?: any, context?: any,
 *   errors?: { pointer: string, detail: string }[], alternatives?: { kind: string, steps: string[] }[] }} Problem
 */

export class ApiError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail || problem.title || t("The server refused."));
    this.problem = problem;
  }
  /** The stable word: `wrong_state`, `host_unreachable`, or our own `offline`. */
  get code() {
    return this.problem.code ?? "";
  }
}

const token = () => document.querySelector('meta[name="csrf-token"]')?.getAttribute("content") ?? "";

/** 32 hex digits; `crypto.randomUUID` exists only in secure contexts. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

function signIn() {
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/**
 * @param {string} url
 * @param {RequestInit} init
 * @param {boolean} again a second try is harmless: a read, or a call with an idempotency key
 */
async function send(url, init, again) {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    if (again) {
      await new Promise((done) => setTimeout(done, 600));
      return send(url, init, false);
    }
    throw new ApiError({
      code: "offline",
      title: t("The server does not answer"),
      detail: t("The server does not answer. It is not known whether the request arrived."),
    });
  }
}

/**
 * One REST call. Resolves to the decoded answer (null where there is none); rejects with ApiError.
 *
 * A POST carries an `Idempotency-Key`, so that a call whose answer was lost can be sent again without doing its work twice; with
 * `idempotency: ""` none, for what does no work at all and is asked often.
 * @param {"GET" | "POST" | "PATCH" | "PUT" | "DELETE"} method
 * @param {string} path below /api/v1
 * @param {unknown} [body]
 * @param {{ prefer?: string, idempotency?: string, ifMatch?: string, type?: string, signal?: AbortSignal }} [options] type: of
 *   a body that is text as it stands, and no JSON
 * @returns {Promise<any>}
 */
export async function api(method, path, body, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRFToken"] = token();
  if (method === "POST" && options.idempotency !== "") headers["Idempotency-Key"] = options.idempotency ?? newKey();
  if (body !== undefined) headers["Content-Type"] = options.type ?? "application/json";
  if (options.prefer) headers.Prefer = options.prefer;
  if (options.ifMatch) headers["If-Match"] = options.ifMatch;
  const response = await send(
    `/api/v1${path}`,
    {
      method,
      headers,
      body: options.type ? String(body) : body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal: options.signal,
    },
    method === "GET" || method === "POST",
  );
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
  const data = text && isJson ? JSON.parse(text) : null;
  if (response.ok) return data;
  if (response.status === 401) signIn();
  throw new ApiError(
    data ?? {
      status: response.status,
      code: `http_${response.status}`,
      title: t("The server refused."),
      detail: t("The server answered %(status)s without a reason.", { status: response.status }),
      request_id: response.headers.get("X-Request-Id") ?? undefined,
    },
  );
}

/**
 * A REST answer that is text (a definition), with its tag. Rejects with ApiError.
 * @param {string} path below /api/v1
 * @returns {Promise<{ text: string, etag: string }>}
 */
export async function text(path) {
  const response = await send(`/api/v1${path}`, { credentials: "same-origin" }, true);
  const body = await response.text();
  if (response.ok) return { text: body, etag: response.headers.get("ETag") ?? "" };
  if (response.status === 401) signIn();
  const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
  throw new ApiError(isJson ? JSON.parse(body) : { status: response.status, code: `http_${response.status}` });
}

/**
 * A piece of a page, as the server renders it. Rejects with ApiError; a session that has ended leads to the sign-in.
 * @param {string} url
 * @param {{ signal?: AbortSignal }} [options]
 */
export async function part(url, options = {}) {
  const response = await send(
    url,
    { headers: { Accept: "text/html", "HX-Request": "true" }, credentials: "same-origin", signal: options.signal },
    true,
  );
  if (response.status === 401 || (response.redirected && new URL(response.url).pathname === "/login")) signIn();
  if (!response.ok)
    throw new ApiError({
      status: response.status,
      code: `http_${response.status}`,
      title: t("This part could not be read"),
      request_id: response.headers.get("X-Request-Id") ?? undefined,
    });
  return response.text();
}

/**
 * A JSON view that is not part of the REST contract (navigation counts, palette).
 * @param {string} url
 * @param {{ signal?: AbortSignal }} [options]
 * @returns {Promise<any>}
 */
export async function json(url, options = {}) {
  const response = await send(
    url,
    { headers: { Accept: "application/json" }, credentials: "same-origin", signal: options.signal },
    true,
  );
  if (response.status === 401 || (response.redirected && new URL(response.url).pathname === "/login")) signIn();
  if (!response.ok) throw new ApiError({ status: response.status, code: `http_${response.status}` });
  return response.json();
}

/** @param {string} text */
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * The same call for a terminal.
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {unknown} [body]
 */
export function curl(method, path, body) {
  const verb = method === "GET" ? "" : ` -X ${method}`;
  const data = body === undefined ? "" : ` -H "Content-Type: application/json" -d ${quote(JSON.stringify(body))}`;
  return `curl${verb} -H "Authorization: Bearer $VMM_TOKEN"${data} ${location.origin}/api/v1${path}`;
}
