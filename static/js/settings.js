// @ts-check
/** The settings page: what forms do without us is done at once here. */
import { curl } from "./api.js";
import { $, $$ } from "./dom.js";

const LETTERS = "single-letter-keys";

for (const part of $$("[data-needs-js]")) part.hidden = false;

const letters = /** @type {HTMLInputElement | null} */ ($("[data-letters]"));
if (letters) {
  letters.checked = localStorage.getItem(LETTERS) !== "off";
  letters.addEventListener("change", () => {
    if (letters.checked) localStorage.removeItem(LETTERS);
    else localStorage.setItem(LETTERS, "off");
  });
}

// The buttons carry data-theme-set and data-density-set, which the shell answers; their form is for browsers without us.
document.addEventListener("submit", (event) => {
  if (/** @type {HTMLElement} */ (event.target).matches("[data-here]")) event.preventDefault();
});

// A question that is a page without us is a dialog with us.
document.addEventListener("click", (event) => {
  const link = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("a[data-ask]"));
  const dialog = link && document.getElementById(link.dataset.ask ?? "");
  if (!(dialog instanceof HTMLDialogElement)) return;
  event.preventDefault();
  dialog.showModal();
});

// The call beside the form says what the form says.
document.addEventListener("input", (event) => {
  const form = /** @type {HTMLElement} */ (event.target).closest("form");
  const call = form?.querySelector("[data-token-call]");
  if (!form || !call) return;
  const data = new FormData(/** @type {HTMLFormElement} */ (form));
  const days = Number(data.get("expires_in_days"));
  const body = { name: data.get("name"), scope: data.get("scope") };
  const until = days ? { expires_at: new Date(Date.now() + days * 86400000).toISOString() } : {};
  call.textContent = curl("POST", "/tokens", { ...body, ...until });
});
