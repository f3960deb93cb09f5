// @ts-check
/**
 * What pages of a host's things (pools, networks) have alike: a wish is sent and followed, a switch tells whether something starts
 * with its host, a form shows the call that it makes and, beside each field, why it was refused.
 */
import { track } from "./actions.js";
import { ApiError, api, curl } from "./api.js";
import { $, $$ } from "./dom.js";
import { t } from "./i18n.js";
import { failure } from "./notify.js";

/**
 * Sends, and says what became of it.
 * @param {string} title
 * @param {"POST" | "PUT" | "PATCH" | "DELETE"} method
 * @param {string} path below /api/v1
 * @param {unknown} [body]
 * @param {string} [prefer] how long the answer may wait for the end
 */
export async function send(title, method, path, body, prefer) {
  try {
    const answer = await api(method, path, body, { prefer });
    if (answer?.kind) track(answer, title);
    return answer;
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: title }) });
    return null;
  }
}

/**
 * Whether it starts with its host: the other way round from now on.
 * @param {HTMLElement} button a switch
 * @param {string} path of the thing, below /api/v1
 * @param {string} name
 */
export async function toggle(button, path, name) {
  const on = button.getAttribute("aria-checked") !== "true";
  button.setAttribute("aria-busy", "true");
  const answer = await send(`${t("Autostart")}: ${name}`, "PATCH", path, { autostart: on });
  button.removeAttribute("aria-busy");
  if (answer && "autostart" in answer) button.setAttribute("aria-checked", String(answer.autostart));
}

/**
 * Puts each wrong value's reason beside its field; what concerns none of them stands at the end.
 * @param {HTMLFormElement} form
 * @param {unknown} error
 * @param {(name: string, pointer: string) => HTMLElement | null} fieldOf by the name that the API has for it, and the whole way to it
 */
export function showWrong(form, error, fieldOf) {
  const errors = error instanceof ApiError ? (error.problem.errors ?? []) : [];
  /** @type {HTMLElement | null} */
  let first = null;
  let rest = errors.length ? "" : error instanceof Error ? error.message : String(error);
  for (const { pointer, detail } of errors) {
    const field = fieldOf(pointer.split("/")[1], pointer.slice(1));
    const note = field && document.getElementById(`${field.id}-e`);
    if (!field || !note || field.closest("[hidden]")) {
      rest ||= `${pointer.slice(1)}: ${detail}`;
      continue;
    }
    field.setAttribute("aria-invalid", "true");
    note.textContent = detail;
    note.hidden = false;
    first ??= field;
  }
  const whole = /** @type {HTMLElement} */ ($("[data-error]", form));
  whole.textContent = rest;
  whole.hidden = !rest;
  first?.focus();
}

/** @param {HTMLFormElement} form */
export function forgetWrong(form) {
  for (const note of $$(".err", form)) note.hidden = true;
  for (const field of $$("[aria-invalid]", form)) field.removeAttribute("aria-invalid");
}

/**
 * Keeps the curl line beside a form what the form would send.
 * @param {HTMLFormElement} form
 * @param {string} path
 * @param {() => unknown} body
 * @param {string} [method]
 */
export function showCall(form, path, body, method = "POST") {
  const code = /** @type {HTMLElement} */ ($(".asrest pre", form));
  const draw = () => {
    code.textContent = curl(method, path, body());
  };
  form.addEventListener("input", draw);
  draw();
}
