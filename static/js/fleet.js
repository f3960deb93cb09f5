// @ts-check
/**
 * Forms that answer while they are filled in: the capability matrix's filters, the advisor.
 *
 * `form[data-live-form="<id>"][data-part="/url"]`: at each change the element with that id is read again from `data-part`
 * with the form as its query, and the page's address says the same. Links with `data-with-query` follow.
 * Without this script the form is an ordinary one.
 */
import { part } from "./api.js";
import { $, $$ } from "./dom.js";
import { refreshTimes } from "./format.js";
import { failure, say } from "./notify.js";

const WAIT_MS = 180;

/** @param {HTMLFormElement} form */
function queryOf(form) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (typeof value === "string" && value) query.append(name, value);
  return query.toString();
}

/** @param {HTMLFormElement} form */
function follow(form) {
  const target = /** @type {HTMLElement} */ (document.getElementById(form.dataset.liveForm ?? ""));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {AbortController | null} */
  let asking = null;
  let shown = queryOf(form);

  async function read() {
    if (!form.checkValidity()) return;
    const query = queryOf(form);
    if (query === shown) return;
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    const url = `${form.dataset.part}?${query}`;
    target.setAttribute("aria-busy", "true");
    try {
      const text = await part(url, { signal });
      shown = query;
      target.innerHTML = text;
      if (target.dataset.region) target.dataset.region = url;
      refreshTimes(target);
      history.replaceState(null, "", query ? `?${query}` : location.pathname);
      for (const link of $$("[data-with-query]")) link.href = `${new URL(link.href).pathname}?${query}`;
      say($("[data-said]", target)?.textContent?.trim().replace(/\s+/g, " ") ?? "");
    } catch (error) {
      if (!signal.aborted) failure(error);
    } finally {
      if (!signal.aborted) target.removeAttribute("aria-busy");
    }
  }
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(read, WAIT_MS);
  };
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("reset", () => setTimeout(read));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    read();
  });
  for (const button of $$("[data-without-js]", form)) button.hidden = true;
}

for (const form of $$("form[data-live-form]")) follow(form);
