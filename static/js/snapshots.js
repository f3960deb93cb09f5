// @ts-check
/** The tab of a guest's snapshots: has a worker look which there are, takes, goes back, deletes. The tree itself is a region. */
import { guestOf, sent } from "./actions.js";
import { ApiError, api } from "./api.js";
import { $, $$, html } from "./dom.js";
import { t, tn } from "./i18n.js";
import { bind } from "./keys.js";
import { readRegion } from "./live.js";
import { ask, failure, showWhy } from "./notify.js";

const region = /** @type {HTMLElement} */ ($("[data-snapshots]"));
const dialog = /** @type {HTMLDialogElement} */ ($("#take"));
const form = /** @type {HTMLFormElement} */ ($("[data-take]", dialog));
const path = form.dataset.take ?? "";
const guest = guestOf(region);

/** Has a worker look; what differs comes as events, and the tree is drawn anew in any case. @param {boolean} asked by the person */
async function look(asked) {
  const button = $("[data-snapshots-again]", region);
  button?.setAttribute("aria-busy", "true");
  try {
    await api("GET", `${path}?limit=1`);
  } catch (error) {
    // What was last seen stands there, and says when that was; the page's head says when the host is out of reach.
    if (asked) failure(error, { title: t("The snapshots could not be read") });
  } finally {
    button?.removeAttribute("aria-busy");
    await readRegion(region);
  }
}

/* ---- take ---- */
/** A name to begin with: the moment. */
function moment() {
  const now = new Date();
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `${day} ${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
}

function openTake() {
  const button = /** @type {HTMLElement | null} */ ($("[data-snapshot-take]", region));
  if (!button) return;
  if (button.dataset.why) {
    showWhy(button);
    return;
  }
  clearErrors();
  const name = $("[name=name]", form);
  name.value = moment();
  dialog.showModal();
  name.focus();
  name.select();
}

function clearErrors() {
  for (const note of $$(".err", form)) note.hidden = true;
  for (const field of $$("[name]", form)) field.removeAttribute("aria-invalid");
}

/** @param {unknown} error */
function showErrors(error) {
  const errors = error instanceof ApiError ? (error.problem.errors ?? []) : [];
  let first = null;
  for (const { pointer, detail } of errors) {
    const field = $(`[name="${CSS.escape(pointer.split("/")[1] ?? "")}"]`, form);
    const note = field && document.getElementById(`${field.id}-e`);
    if (!note) continue;
    field.setAttribute("aria-invalid", "true");
    note.textContent = detail.replace(/^Value error, /, "");
    note.hidden = false;
    first ??= field;
  }
  if (error instanceof ApiError && error.code === "already_exists") first ??= $("[name=name]", form);
  if (first) first.focus();
  if (errors.length && first) return;
  const whole = $("[data-take-error]", form);
  whole.textContent = error instanceof Error ? error.message : String(error);
  whole.hidden = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearErrors();
  const go = $("[type=submit]", form);
  const memory = $("[name=memory]", form);
  const name = $("[name=name]", form).value.trim();
  const body = {
    name,
    description: $("[name=description]", form).value,
    memory: memory.disabled ? null : memory.checked,
  };
  go.setAttribute("aria-busy", "true");
  try {
    const operation = await api("POST", path, body);
    dialog.close();
    form.reset();
    sent(operation, t("Snapshot %(name)s", { name }), guest);
  } catch (error) {
    showErrors(error);
  } finally {
    go.removeAttribute("aria-busy");
  }
});

/* ---- go back, delete ---- */
/** What the server says of it, a line each: the first as the question's text, the others as a list. @param {string | undefined} lines */
function told(lines) {
  const [text = "", ...rest] = (lines ?? "").split("\n");
  return {
    text,
    list: rest.length ? html`<ul class="prose bullets">${rest.map((line) => html`<li>${line}</li>`)}</ul>` : "",
  };
}

/** @param {HTMLElement} row */
async function revert(row) {
  const name = row.dataset.snapshot ?? "";
  const call = { method: "POST", path: `${path}/${encodeURIComponent(name)}/revert` };
  const { text, list } = told(row.dataset.revertText);
  const yes = await ask({
    title: t("Take %(guest)s back to %(name)s?", { guest: guest.name, name }),
    text,
    extra: html`${list}`,
    action: t("Revert"),
    danger: true,
    typed: guest.name,
    call,
  });
  if (!yes) return;
  const title = t("Revert to %(name)s", { name });
  try {
    sent(await api("POST", call.path), title, guest);
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: title }) });
  }
}

/** @param {HTMLElement} row */
async function remove(row) {
  const name = row.dataset.snapshot ?? "";
  const below = Number(row.dataset.below);
  const url = `${path}/${encodeURIComponent(name)}`;
  const { text, list } = told(row.dataset.deleteText);
  const children = tn("With the one that was taken after it", "With the %(n)s that were taken after it", below);
  const data = await ask({
    title: t("Delete the snapshot %(name)s?", { name }),
    text,
    action: t("Delete snapshot"),
    danger: true,
    call: { method: "DELETE", path: url },
    extra: html`${list}${below ? html`<label class="check"><input type="checkbox" name="children"> ${children}</label>` : ""}`,
  });
  if (!data) return;
  const title = t("Delete snapshot %(name)s", { name });
  try {
    sent(await api("DELETE", `${url}${data.get("children") ? "?children=true" : ""}`), title, guest);
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: title }) });
  }
}

region.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  if (!button || button.dataset.why) return;
  const row = /** @type {HTMLElement | null} */ (button.closest("[data-snapshot]"));
  if ("snapshotsAgain" in button.dataset) look(true);
  if ("snapshotTake" in button.dataset) openTake();
  if (row && "snapshotRevert" in button.dataset) revert(row);
  if (row && "snapshotDelete" in button.dataset) remove(row);
});

/* ---- keys ---- */
/** @param {number} by */
const step = (by) => () => {
  const rows = $$("[data-snapshot]", region);
  if (!rows.length) return false;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : (at + by + rows.length) % rows.length].focus();
};
/** @param {string} what @param {(row: HTMLElement) => void} run */
const onRow = (what, run) => () => {
  const row = /** @type {HTMLElement | null} */ (document.activeElement?.closest("[data-snapshot]") ?? null);
  if (!row) return false;
  const button = /** @type {HTMLElement} */ ($(`[data-snapshot-${what}]`, row));
  if (button.dataset.why) showWhy(button);
  else run(row);
};
bind(t("Snapshots"), [
  { keys: "n", does: t("Take snapshot"), run: openTake },
  { keys: "↓ / ↑", does: t("Next, previous snapshot") },
  { keys: "r", does: t("Revert to the snapshot under the cursor"), run: onRow("revert", revert) },
  { keys: "Delete", does: t("Delete the snapshot under the cursor"), run: onRow("delete", remove) },
]);
addEventListener("keydown", (event) => {
  const inTree = document.activeElement === document.body || region.contains(document.activeElement);
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by || !inTree || dialog.open || event.ctrlKey || event.altKey || event.metaKey) return;
  if (step(by)() !== false) event.preventDefault();
});

if (location.hash === "#take") {
  history.replaceState(history.state, "", location.pathname);
  openTake();
}
look(false);
