// @ts-check
/**
 * The keyboard: who listens to which key, and the map that `?` shows. Single letters never fire in a field or a dialog, and
 * can be turned off in the map (WCAG 2.1.4).
 */
import { $, html, icon, make } from "./dom.js";
import { t } from "./i18n.js";

/**
 * `keys` as shown ("g v", "Shift X", "Ctrl Enter"); `run` gives false to let the key pass.
 * @typedef {{ keys: string, does: string, run?: (event: KeyboardEvent) => unknown }} Binding
 */

/** @type {{ group: string, bindings: Binding[] }[]} */
const groups = [];
/** @type {Map<string, (event: KeyboardEvent) => unknown>} */
const letters = new Map();
/** @type {Map<string, (event: KeyboardEvent) => unknown>} */
const chords = new Map();

const STORE = "single-letter-keys";
const enabled = () => localStorage.getItem(STORE) !== "off";

/**
 * @param {string} group heading in the map
 * @param {Binding[]} bindings
 */
export function bind(group, bindings) {
  groups.push({ group, bindings });
  for (const { keys, run } of bindings) {
    if (!run) continue;
    const parts = keys.split(" ");
    if (parts.length === 2 && parts[0] === "g") chords.set(parts[1], run);
    else for (const key of keys.split(" / ")) letters.set(key, run);
  }
}

/** Where letters belong to the person and not to us. @param {EventTarget | null} target */
export const typing = (target) =>
  target instanceof Element &&
  Boolean(
    target.closest("input:not([type=checkbox], [type=radio]), textarea, select, dialog, [contenteditable], .term"),
  );

let chord = 0;

/** @param {KeyboardEvent} event */
function name(event) {
  const key =
    event.key.length === 1 && event.shiftKey && /[a-z]/i.test(event.key)
      ? `Shift ${event.key.toUpperCase()}`
      : event.key;
  return key === "ArrowDown" ? "↓" : key === "ArrowUp" ? "↑" : key === "Escape" ? "Esc" : key;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || typing(event.target)) return;
  const plain = event.key.length === 1;
  if (plain && !enabled() && event.key !== "?") return;
  const run = chord ? chords.get(event.key) : letters.get(name(event));
  chord = 0;
  if (run) {
    if (run(event) !== false) event.preventDefault();
  } else if (event.key === "g") {
    chord = 1;
    setTimeout(() => {
      chord = 0;
    }, 1200);
  }
});

/** @param {string} keys */
const caps = (keys) => keys.split(" ").map((k) => (k === "/" && keys.includes(" / ") ? " " : html`<kbd>${k}</kbd> `));

/** The map of all keys of this page. */
export function showKeys() {
  $("#keys")?.remove();
  const dialog = make(html`<dialog class="dlg" id="keys" aria-labelledby="keys-h">
    <header><h2 id="keys-h">${t("Keyboard map")}</h2>
      <button class="btn ghost icon push" type="button" data-close aria-label="${t("Close")}">${icon("x")}</button></header>
    <div class="pad">${groups.map(
      ({ group, bindings }) =>
        html`<h3>${group}</h3><dl class="facts keys">${bindings.map((b) => html`<dt>${caps(b.keys)}</dt><dd>${b.does}</dd>`)}</dl>`,
    )}<label class="check"><input type="checkbox" ${enabled() ? html`checked` : ""}> ${t("Single letters do something")}</label></div>
  </dialog>`);
  $("input", dialog).addEventListener("change", (/** @type {Event} */ e) => {
    const on = /** @type {HTMLInputElement} */ (e.target).checked;
    if (on) localStorage.removeItem(STORE);
    else localStorage.setItem(STORE, "off");
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
