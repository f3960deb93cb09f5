// @ts-check
/**
 * Pages of storage: a pool's actions, its volumes, the dialog of a new one, the form of a new pool. What may be done, and why not,
 * was decided by the server (`actions`); each call is a REST call, shown as curl beside the form that sends it.
 */
import { track } from "./actions.js";
import { api } from "./api.js";
import { $, $$, html } from "./dom.js";
import { size } from "./format.js";
import { t } from "./i18n.js";
import { bind } from "./keys.js";
import { ask } from "./notify.js";
import { forgetWrong, send, showCall, showWrong, toggle } from "./wishes.js";

const GIB = 1024 ** 3;
const page = /** @type {HTMLElement | null} */ ($("[data-page=storage-pool]"));
const pool = page?.dataset.pool ?? "";

/* ---- a pool ---- */
const VERBS = /** @type {Record<string, string>} */ ({
  start: t("Start"),
  stop: t("Stop"),
  refresh: t("Refresh"),
});

/** @param {HTMLElement} button */
async function poolAction(button) {
  const name = button.dataset.poolAction ?? "";
  button.setAttribute("aria-busy", "true");
  await send(`${VERBS[name]}: ${page?.dataset.name}`, "POST", `/storage-pools/${pool}/actions/${name}`);
  button.removeAttribute("aria-busy");
}

/* ---- volumes ---- */
/** What is typed as GiB, in bytes; NaN for what is no number. @param {string} text */
const bytes = (text) => Math.round(Number(text.trim().replace(",", ".")) * GIB);

/** @param {HTMLElement} button */
async function volumeAction(button) {
  const row = /** @type {HTMLElement} */ (button.closest("[data-volume]"));
  const { volume: id, name = "", capacity } = row.dataset;
  /** @type {any} */ (button.closest("[popover]"))?.hidePopover();
  const path = `/volumes/${id}`;
  if (button.dataset.volumeAction === "resize") {
    const has = Number(capacity);
    const data = await ask({
      title: t("Make %(name)s larger", { name }),
      text: t(
        "It has %(size)s now. A volume is never made smaller; what a guest makes of the room is the guest's own.",
        {
          size: size(has),
        },
      ),
      action: t("Make larger"),
      call: { method: "PATCH", path, body: { capacity_bytes: has * 2 } },
      extra: html`<div class="field"><label for="ask-s">${t("Size in GiB")}</label><input class="input" id="ask-s" name="size" inputmode="decimal" value="${String((has * 2) / GIB)}" required></div>`,
    });
    const wanted = data && bytes(String(data.get("size")));
    if (wanted) await send(t("Larger: %(name)s", { name }), "PATCH", path, { capacity_bytes: wanted });
  } else if (button.dataset.volumeAction === "clone") {
    const proposed = /\.\w+$/.test(name) ? name.replace(/(\.\w+)$/, "-copy$1") : `${name}-copy`;
    const data = await ask({
      title: t("Clone %(name)s", { name }),
      text: t(
        "All of it, beside it in the same pool. A guest that runs with it may write while it is copied: shut it down first.",
      ),
      action: t("Clone"),
      call: { method: "POST", path: `${path}/actions/clone`, body: { name: proposed } },
      extra: html`<div class="field"><label for="ask-s">${t("Name of the clone")}</label><input class="input" id="ask-s" name="name" value="${proposed}" maxlength="240" autocomplete="off" spellcheck="false" required></div>`,
    });
    const wanted = data && String(data.get("name")).trim();
    if (wanted) await send(t("Clone: %(name)s", { name }), "POST", `${path}/actions/clone`, { name: wanted });
  } else if (button.dataset.volumeAction === "wipe") {
    const yes = await ask({
      title: t("Wipe %(name)s?", { name }),
      text: t(
        "Zeros are written over all that is in it. It cannot be brought back, and what is left has no format any more.",
      ),
      action: t("Wipe volume"),
      danger: true,
      typed: name,
      call: { method: "POST", path: `${path}/actions/wipe` },
    });
    if (yes) await send(t("Wipe: %(name)s", { name }), "POST", `${path}/actions/wipe`);
  } else {
    const yes = await ask({
      title: t("Delete %(name)s?", { name }),
      text: t("It is deleted from its host for good, with all that is in it. No guest and no image uses it."),
      action: t("Delete volume"),
      danger: true,
      typed: name,
      call: { method: "DELETE", path },
    });
    if (yes) await send(t("Delete: %(name)s", { name }), "DELETE", path);
  }
}

page?.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  if (!button || button.dataset.why) return;
  if (button.dataset.poolAction) poolAction(button);
  if ("poolAutostart" in button.dataset) toggle(button, `/storage-pools/${pool}`, page.dataset.name ?? "");
  if (button.dataset.volumeAction) volumeAction(button);
});

/* ---- forms ---- */
const dialog = /** @type {HTMLFormElement | null} */ ($("[data-new-volume]"));
if (dialog) {
  const form = dialog;
  const value = (/** @type {string} */ name) => /** @type {any} */ (form.elements.namedItem(name))?.value.trim() ?? "";
  const begins = () => value("begins") || "empty";
  const body = () => {
    const kind = begins();
    const capacity = value("size") ? bytes(value("size")) : undefined;
    return {
      pool: form.dataset.pool,
      name: value("name"),
      ...(capacity === undefined ? {} : { capacity_bytes: Number.isFinite(capacity) ? capacity : 0 }),
      ...(kind === "backing" ? {} : { format: value("format") }),
      ...(kind === "empty" ? {} : { [kind]: value("base") }),
      ...(kind === "empty" && /** @type {any} */ (form.elements.namedItem("reserve")).checked
        ? { allocation_bytes: capacity }
        : {}),
    };
  };
  const choose = () => {
    for (const part of $$("[data-for]", form)) part.hidden = !part.dataset.for.split(" ").includes(begins());
    const sized = /** @type {HTMLInputElement} */ (form.elements.namedItem("size"));
    // What it is made from has a size of its own: left empty, that one is taken.
    if (sized.value === sized.defaultValue || !sized.value)
      sized.value = begins() === "empty" ? sized.defaultValue : "";
  };
  form.addEventListener("change", choose);
  showCall(form, "/volumes", body);
  form.addEventListener("change", () => form.dispatchEvent(new Event("input")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forgetWrong(form);
    const wish = body();
    try {
      const operation = await api("POST", "/volumes", wish);
      /** @type {HTMLDialogElement} */ (form.closest("dialog")).close();
      form.reset();
      choose();
      track(operation, t("New volume: %(name)s", { name: wish.name }));
    } catch (error) {
      const names = /** @type {Record<string, string>} */ ({
        capacity_bytes: "size",
        backing: "base",
        clone_of: "base",
        allocation_bytes: "size",
      });
      showWrong(form, error, (name) => /** @type {any} */ (form.elements.namedItem(names[name] ?? name)));
    }
  });
}

const maker = /** @type {HTMLFormElement | null} */ ($("[data-new-pool]"));
if (maker) {
  const form = maker;
  const type = () => /** @type {any} */ (form.elements.namedItem("type")).value;
  const part = () => /** @type {HTMLElement} */ ($(`[data-type="${type()}"]`, form));
  const body = () => {
    /** @type {Record<string, unknown>} */
    const wish = { host: $("#np-host", form).value, name: $("#np-name", form).value.trim(), type: type() };
    for (const field of $$(".input", part())) if (field.value.trim()) wish[field.name] = field.value.trim();
    const build = $("[name=build]", part());
    if (build) wish.build = build.checked;
    wish.autostart = $("[name=autostart]", form).checked;
    return wish;
  };
  const choose = () => {
    for (const one of $$("[data-type]", form)) one.hidden = one.dataset.type !== type();
  };
  form.addEventListener("change", choose);
  choose();
  showCall(form, "/storage-pools", body);
  form.addEventListener("change", () => form.dispatchEvent(new Event("input")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forgetWrong(form);
    const button = /** @type {HTMLElement} */ ($("[type=submit]", form));
    button.setAttribute("aria-busy", "true");
    try {
      const operation = await api("POST", "/storage-pools", body(), { prefer: "wait=20" });
      location.assign(operation.result?.pool ? `/storage/${operation.result.pool}` : `/operations/${operation.id}`);
    } catch (error) {
      showWrong(form, error, (name) => $(`[name="${name}"]`, part()) ?? $(`#np-${name}`, form));
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

if (page) {
  bind(t("On a pool"), [
    { keys: "n", does: t("New volume"), run: () => $("[data-dialog=new-volume]", page)?.click() },
    { keys: "r", does: t("Refresh"), run: () => $("[data-pool-action=refresh]", page)?.click() },
  ]);
}
