// @ts-check
/** What is said to the person: one polite sentence, toasts with undo, the reason behind a dead button, and questions. */
import { ApiError, curl as curlOf } from "./api.js";
import { $, copy, fill, html, icon, make, place } from "./dom.js";
import { t } from "./i18n.js";

/** @type {ReturnType<typeof setTimeout> | undefined} */
let sayTimer;
let saidAt = 0;

/**
 * One sentence for screen readers, at most one each 3 s: a later one replaces an earlier that has not been said yet.
 * @param {string} text
 */
export function say(text) {
  clearTimeout(sayTimer);
  sayTimer = setTimeout(
    () => {
      saidAt = Date.now();
      $("#say").textContent = text;
    },
    Math.max(300, saidAt + 3000 - Date.now()),
  );
}

/**
 * @typedef {{ label: string, run: () => unknown, key?: string }} Way
 * @typedef {{ detail?: string, ways?: Way[], seconds?: number, kind?: string, href?: string }} ToastOptions
 */

/**
 * Says that something happened, with ways on. Goes by itself after `seconds` unless that is 0 (failures stay).
 * While the pointer or the focus is on it, it stays too (WCAG 2.2.1).
 * @param {string} text
 * @param {ToastOptions} [options]
 */
export function toast(text, { detail = "", ways = [], seconds = 10, kind = "", href = "" } = {}) {
  const element = make(html`<div class="float toast ${kind}" role="group" aria-label="${text}">
    ${kind ? icon(kind === "crit" ? "warn" : "info", "i fg") : ""}
    <span class="grow"><b>${href ? html`<a class="name" href="${href}">${text}</a>` : text}</b><small>${detail}</small></span></div>`);
  let left = seconds * 1000;
  let since = Date.now();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const close = () => {
    clearTimeout(timer);
    const focused = element.contains(document.activeElement);
    element.remove();
    if (!$("#toasts").childElementCount) $("#toasts").hidePopover();
    if (focused) $("#main")?.focus({ preventScroll: true });
  };
  const run = () => {
    since = Date.now();
    if (seconds) timer = setTimeout(close, left);
  };
  const hold = () => {
    clearTimeout(timer);
    left = Math.max(2000, left - (Date.now() - since));
  };
  for (const [on, fn] of /** @type {const} */ ([
    ["pointerenter", hold],
    ["focusin", hold],
    ["pointerleave", run],
    ["focusout", run],
  ])) {
    element.addEventListener(on, fn);
  }
  for (const way of ways) {
    const button = make(
      html`<button class="btn sm" type="button" ${way.key ? html`data-undo` : ""}>${way.label}${way.key ? html`<kbd>${way.key}</kbd>` : ""}</button>`,
    );
    button.addEventListener("click", () => {
      close();
      way.run();
    });
    element.append(button);
  }
  const dismiss = make(
    html`<button class="btn ghost sm icon" type="button" aria-label="${t("Dismiss")}">${icon("x")}</button>`,
  );
  dismiss.addEventListener("click", close);
  element.append(dismiss);
  const list = $("#toasts");
  list.append(element);
  // In the top layer, above whatever dialog was opened before.
  if (list.matches(":popover-open")) list.hidePopover();
  list.showPopover();
  // Failures stay, everything else makes room: the fifth pushes out the oldest that may go.
  if (list.children.length > 4) $(".toast:not(.crit)", list)?.remove();
  say(detail ? `${text}. ${detail}` : text);
  run();
  return {
    close,
    /** @param {string} words */
    detail(words) {
      $("small", element).textContent = words;
    },
    element,
  };
}

/**
 * A call that failed. Stays until it is dismissed; code and request id are there, small.
 * @param {unknown} error
 * @param {{ title?: string, ways?: Way[], href?: string }} [options]
 */
export function failure(error, { title, ways = [], href } = {}) {
  if (error instanceof DOMException && error.name === "AbortError") return null;
  const problem = error instanceof ApiError ? error.problem : { detail: String(error) };
  const shown = toast(title ?? problem.title ?? t("That did not work"), {
    detail: problem.detail ?? "",
    kind: "crit",
    seconds: 0,
    ways,
    href,
  });
  const trace = [problem.code, problem.request_id].filter(Boolean).join(" · ");
  if (trace) $(".grow", shown.element).append(make(html`<code class="t3 small">${trace}</code>`));
  return shown;
}

/** @type {any} */
let why;

/**
 * Why a button does not work, or what a figure rests on: the reason, and a way on.
 * @param {HTMLElement} button carries data-why, and maybe data-why-href with data-why-label
 */
export function showWhy(button) {
  why ??= document.body.appendChild(
    make(html`<div class="why" id="why" popover role="dialog" aria-labelledby="why-h"></div>`),
  );
  const dead = button.getAttribute("aria-disabled") === "true";
  const name =
    button.getAttribute("aria-label") || button.childNodes[0]?.textContent?.trim() || button.textContent?.trim();
  const { why: reason, whyHref, whyLabel } = button.dataset;
  fill(
    why,
    html`<h3 id="why-h">${dead ? t("%(action)s is not possible now", { action: name }) : name}</h3><p class="t2">${reason}</p>
      ${whyHref ? html`<div class="actions"><a href="${whyHref}">${whyLabel || t("More")}</a></div>` : ""}`,
  );
  why.showPopover();
  place(why, button);
  say(reason ?? "");
}

/**
 * A code line with its copy button.
 * @param {string} text
 */
export const codeLine = (text) =>
  html`<div class="copy"><pre class="code" tabindex="0">${text}</pre><button class="btn sm" type="button" data-copy>${icon("copy")}${t("Copy")}</button></div>`;

/**
 * Asks before something that cannot be called back. Resolves to the form's data, or null when it was left.
 * @param {{ title: string, text: string, action: string, danger?: boolean, typed?: string,
 *   call?: { method: string, path: string, body?: unknown, of?: (data: FormData) => { method?: string, path?: string, body?: unknown } },
 *   extra?: import("./dom.js").Markup, form?: string }} question `typed`: the name that must be typed first (where `form` has a
 *   [data-typed-if], only while that is checked); `call`: shown as curl, with `of` what is filled in; `form`: fields as the server
 *   rendered them
 * @returns {Promise<FormData | null>}
 */
export function ask({ title, text, action, danger = false, typed = "", call, extra, form: fields = "" }) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const dialog = make(html`<dialog class="dlg" aria-labelledby="ask-h" aria-describedby="ask-t"><form method="dialog">
      <header><h2 id="ask-h">${title}</h2><button class="btn ghost icon push" type="button" data-close aria-label="${t("Close")}">${icon("x")}</button></header>
      <div class="pad"><p id="ask-t">${text}</p>${extra ?? ""}<div data-fields hidden></div>
      ${typed ? html`<div class="field" data-typed><label for="ask-n">${t("Type the name to confirm")}</label><input class="input" id="ask-n" autofocus autocomplete="off" spellcheck="false"><span class="hint">${typed}</span></div>` : ""}
      ${call ? html`<details><summary>${t("The same call as curl")}</summary>${codeLine(curlOf(call.method, call.path, call.body))}</details>` : ""}</div>
      <footer><button class="btn push" type="button" data-close ${danger && !typed ? html`autofocus` : ""}>${t("Cancel")}</button>
      <button class="btn primary ${danger ? "danger" : ""}" type="submit" value="go" ${typed ? html`disabled` : ""} ${danger ? "" : html`autofocus`}>${action}</button></footer>
      </form></dialog>`);
    const form = $("form", dialog);
    const go = $("[type=submit]", dialog);
    const box = $("[data-fields]", dialog);
    box.hidden = !fields;
    box.innerHTML = fields;
    const { of } = call ?? {};
    const redraw = () => {
      if (!call || !of) return;
      const said = { ...call, ...of(new FormData(form)) };
      $("details pre", dialog).textContent = curlOf(said.method, said.path, said.body);
    };
    form.addEventListener("input", redraw);
    redraw();
    const field = $("#ask-n", dialog);
    const needed = $("[data-typed-if]", dialog);
    const check = () => {
      const must = Boolean(typed) && (!needed || needed.checked);
      if (field) $("[data-typed]", dialog).hidden = !must;
      go.disabled = must && field.value !== typed;
    };
    field?.addEventListener("input", check);
    needed?.addEventListener("change", () => {
      check();
      if (needed.checked) field?.focus();
    });
    check();
    dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => {
      if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && !go.disabled) form.requestSubmit(go);
    });
    dialog.addEventListener("close", () => {
      const data = dialog.returnValue === "go" ? new FormData(form) : null;
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
      resolve(data);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * The copy buttons beside code.
 * @param {HTMLElement} button
 */
export async function copyBeside(button) {
  const text = button.dataset.copy || button.parentElement?.querySelector("pre, code, output")?.textContent || "";
  if (await copy(text)) toast(t("Copied"), { seconds: 2 });
  else toast(t("The browser did not allow copying"), { detail: t("Mark the text and copy it by hand."), seconds: 6 });
}
