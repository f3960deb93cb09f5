// @ts-check
/** Images: files dropped anywhere on the page and sent, images from URLs, and what is done to one image. */
import { track } from "./actions.js";
import { ApiError, api, curl } from "./api.js";
import { $, $$, fill, html, icon, make } from "./dom.js";
import { percent, rate, size, words } from "./format.js";
import { t } from "./i18n.js";
import { ask, failure, say, toast } from "./notify.js";
import { begin, fingerprint, keep, kept, unfinished } from "./uploads.js";

/** @typedef {import("./uploads.js").Upload} Upload */

/* ---- forms ---- */
/**
 * What was wrong, beside its field; the rest at the foot.
 * @param {HTMLFormElement} form
 * @param {unknown} error
 */
function showWrong(form, error) {
  const problem = error instanceof ApiError ? error.problem : { detail: String(error) };
  let rest = problem.errors?.length ? "" : (problem.detail ?? problem.title ?? "");
  /** @type {HTMLElement | null} */
  let first = null;
  for (const { pointer, detail } of problem.errors ?? []) {
    const field = /** @type {any} */ (form.elements.namedItem(pointer.slice(1)));
    const note = field && document.getElementById(`${field.id}-e`);
    if (!note) {
      rest ||= problem.detail ?? detail;
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
function forgetWrong(form) {
  for (const note of $$(".err", form)) note.hidden = true;
  for (const field of $$("[aria-invalid]", form)) field.removeAttribute("aria-invalid");
}

/** @param {HTMLFormElement} form @param {string} name */
const value = (form, name) => /** @type {any} */ (form.elements.namedItem(name))?.value.trim() ?? "";

/**
 * Sends a form by `act`, once at a time; its dialog closes when that went well.
 * @param {HTMLFormElement} form
 * @param {() => Promise<void>} act
 */
function onSubmit(form, act) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = /** @type {HTMLElement} */ ($("[type=submit]", form));
    if (button.getAttribute("aria-busy") === "true") return;
    forgetWrong(form);
    button.setAttribute("aria-busy", "true");
    try {
      await act();
      form.closest("dialog")?.close();
    } catch (error) {
      showWrong(form, error);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

/* ---- files on their way ---- */
const card = /** @type {HTMLElement | null} */ ($("[data-uploads]"));
const list = /** @type {HTMLElement | null} */ ($("[data-uploads-list]"));
const picker = /** @type {HTMLInputElement | null} */ ($("[data-file]"));
/** @type {Map<string, { upload: Upload, row: HTMLElement, drawn: number }>} */
const rows = new Map();
/** Which upload the next chosen file is for. @type {Upload | null} */
let asked = null;

/** `debian-12-genericcloud-amd64.qcow2` → `debian-12-genericcloud-amd64` @param {string} name */
const stem = (name) => name.replace(/\.(qcow2|img|raw|iso|vmdk|vdi|vhdx|ova)$/i, "").slice(0, 100);

/** @param {Upload} upload */
function sentence(upload) {
  const share = `${percent(upload.ratio)} ${t("of %(size)s", { size: size(upload.size) })}`;
  if (upload.state === "waiting") return t("%(share)s is there. Choose the same file to go on.", { share });
  if (upload.state === "paused") return t("Paused at %(share)s", { share });
  if (upload.state === "failed") return upload.error?.problem.detail || upload.error?.message || "";
  if (upload.state === "sent") return t("All of it is there");
  const speed = upload.speed;
  const left = upload.left;
  if (speed === null) return share;
  return `${share}, ${rate(speed)}${left === null ? "" : `, ${t("%(time)s left", { time: words(left) })}`}`;
}

/** @param {Upload} upload */
function buttons(upload) {
  const one = (/** @type {string} */ act, /** @type {string} */ label) =>
    html`<button class="btn sm" type="button" data-upload-act="${act}" aria-label="${`${label}: ${upload.name}`}">${label}</button>`;
  const main =
    upload.state === "sending"
      ? one("pause", t("Pause"))
      : upload.state === "waiting"
        ? one("choose", t("Choose file"))
        : upload.state === "sent"
          ? one("make", t("Make the image"))
          : one("start", t("Go on"));
  return html`${main}<button class="btn ghost sm icon" type="button" data-upload-act="remove" aria-label="${t("Give up: %(name)s", { name: upload.name })}">${icon("x")}</button>`;
}

/**
 * Draws a row: the bar at each step, words at most four times a second, buttons only when its state changed.
 * @param {Upload} upload
 */
function draw(upload) {
  const entry = rows.get(upload.id);
  if (!entry) return;
  const { row } = entry;
  $("rect", row).setAttribute("width", `${(upload.ratio * 100).toFixed(1)}%`);
  const changed = row.dataset.upload !== upload.state;
  if (!changed && performance.now() - entry.drawn < 250) return;
  entry.drawn = performance.now();
  $("small", row).textContent = sentence(upload);
  $(".meter", row).setAttribute("aria-label", percent(upload.ratio));
  if (!changed) return;
  row.dataset.upload = upload.state;
  row.className = upload.state === "failed" ? "failed" : "";
  const focused = /** @type {HTMLElement | null} */ (
    row.contains(document.activeElement) ? document.activeElement : null
  );
  fill($(".in", row), buttons(upload));
  if (focused) $("button", row)?.focus();
}

/** @param {Upload} upload */
function show(upload) {
  if (!card || !list) return;
  const row = make(
    html`<li data-upload=""><span class="grow"><b>${upload.name}</b> ${upload.wish.name && upload.wish.name !== stem(upload.name) ? html`<span class="t3">${String(upload.wish.name)}</span>` : ""}<small aria-live="off"></small>
      <svg class="meter info" role="img" aria-label=""><rect width="0%" height="100%"/></svg></span><span class="in"></span></li>`,
  );
  rows.set(upload.id, { upload, row, drawn: 0 });
  row.addEventListener("click", (/** @type {Event} */ event) => {
    const button = /** @type {HTMLElement} */ (event.target).closest?.("[data-upload-act]");
    if (button instanceof HTMLElement) actOn(upload, button.dataset.uploadAct ?? "");
  });
  list.append(row);
  card.hidden = false;
  upload.onchange = () => draw(upload);
  upload.onsent = () => {
    say(t("%(name)s is uploaded", { name: upload.name }));
    makeImage(upload);
  };
  draw(upload);
}

/** @param {Upload} upload */
function forget(upload) {
  keep(upload.id, null);
  rows.get(upload.id)?.row.remove();
  rows.delete(upload.id);
  if (card && !rows.size) card.hidden = true;
}

/** @param {Upload} upload @param {string} act */
async function actOn(upload, act) {
  if (act === "start") upload.start();
  else if (act === "pause") upload.pause();
  else if (act === "make") makeImage(upload);
  else if (act === "choose" && picker) {
    asked = upload;
    picker.multiple = false;
    picker.click();
  } else if (act === "remove") {
    try {
      await upload.remove();
      forget(upload);
    } catch (error) {
      failure(error);
    }
  }
}

/** @param {Upload} upload */
async function makeImage(upload) {
  try {
    const operation = await api("POST", "/images", { ...upload.wish, upload: upload.id });
    forget(upload);
    track(operation, t("New image: %(name)s", { name: String(upload.wish.name) }));
  } catch (error) {
    upload.state = "sent";
    draw(upload);
    if (error instanceof ApiError && error.code === "already_exists") rename(upload);
    else failure(error);
  }
}

/** The name was taken meanwhile: what was sent is not sent again for that. @param {Upload} upload */
async function rename(upload) {
  const data = await ask({
    title: t("An image of this name is there already"),
    text: t("What was uploaded is kept. Give it another name."),
    action: t("Make the image"),
    extra: html`<div class="field"><label for="ask-name">${t("Name")}</label><input class="input" id="ask-name" name="name" maxlength="100" required value="${String(upload.wish.name)}-2"></div>`,
  });
  const name = String(data?.get("name") ?? "").trim();
  if (!name) return;
  upload.wish = { ...upload.wish, name };
  const was = kept()[upload.id];
  if (was) keep(upload.id, { ...was, wish: upload.wish });
  makeImage(upload);
}

/**
 * Files that were dropped or chosen: one that was begun before goes on, a new one is asked about, several go by their names.
 * @param {File[]} files
 */
async function take(files) {
  if (card?.dataset.none) {
    toast(t("There is no place for an image"), { detail: card.dataset.none, kind: "warn" });
    return;
  }
  const mine = kept();
  const most = Number(card?.dataset.most);
  const fresh = [];
  for (const file of files) {
    const known = [...rows.values()].find(
      ({ upload }) => !upload.file && mine[upload.id]?.fingerprint === fingerprint(file),
    );
    if (known) known.upload.take(file);
    else if (!file.size) toast(t("%(name)s is empty, or a folder", { name: file.name }), { kind: "warn" });
    else if (most && file.size > most)
      toast(t("%(name)s is too large", { name: file.name }), {
        detail: t("At most %(size)s are taken here.", { size: size(most) }),
        kind: "warn",
      });
    else fresh.push(file);
  }
  if (fresh.length === 1) openDialog(fresh[0]);
  else for (const file of fresh) await send(file, { name: stem(file.name) }).catch(failure);
}

/** @param {File} file @param {Record<string, unknown>} wish */
async function send(file, wish) {
  const upload = await begin(file, wish);
  show(upload);
  upload.start();
}

/** @param {File} file */
function openDialog(file) {
  const dialog = /** @type {HTMLDialogElement} */ ($("#from-file"));
  const form = /** @type {HTMLFormElement} */ ($("form", dialog));
  chosen = file;
  forgetWrong(form);
  $("[data-file-name]", dialog).textContent = file.name;
  $("[data-file-size]", dialog).textContent = size(file.size);
  /** @type {any} */ (form.elements.namedItem("name")).value = stem(file.name);
  dialog.showModal();
  /** @type {any} */ (form.elements.namedItem("name")).select();
}
/** @type {File | null} */
let chosen = null;

const fromFile = /** @type {HTMLFormElement | null} */ ($("[data-new-image=upload]"));
if (fromFile && picker && card) {
  onSubmit(fromFile, async () => {
    if (!chosen) return;
    const pool = value(fromFile, "pool");
    await send(chosen, { name: value(fromFile, "name"), ...(pool ? { pool } : {}) });
    chosen = null;
  });
  document.addEventListener("click", (event) => {
    if (!(/** @type {Element} */ (event.target).closest?.("[data-choose-file]"))) return;
    asked = null;
    picker.multiple = true;
    picker.click();
  });
  picker.addEventListener("change", () => {
    const files = [...(picker.files ?? [])];
    picker.value = "";
    const wanted = asked;
    asked = null;
    if (!wanted) return void take(files);
    const file = files[0];
    if (!file) return;
    if (kept()[wanted.id]?.fingerprint === fingerprint(file)) wanted.take(file);
    else
      toast(t("That is another file"), {
        detail: t("This upload was begun with %(name)s, %(size)s.", { name: wanted.name, size: size(wanted.size) }),
        kind: "warn",
      });
  });

  // Dropping works on the whole page; a counter, because leaving an element enters its parent.
  const zone = /** @type {HTMLElement} */ ($("[data-dropzone]"));
  let depth = 0;
  const carriesFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth++;
    zone.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event) && --depth <= 0) zone.hidden = true;
  });
  addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    zone.hidden = true;
    take([...(event.dataTransfer?.files ?? [])]);
  });
  addEventListener("beforeunload", (event) => {
    if ([...rows.values()].some(({ upload }) => upload.state === "sending")) event.preventDefault();
  });
  unfinished()
    .then((found) => found.forEach(show))
    .catch(() => {}); // what cannot be listed now is there at the next load
}

/* ---- from a URL ---- */
const fromUrl = /** @type {HTMLFormElement | null} */ ($("[data-new-image=url]"));
if (fromUrl) {
  const form = fromUrl;
  const known = /** @type {HTMLSelectElement} */ ($("[data-known]", form));
  const body = () => {
    const sha256 = value(form, "sha256");
    const pool = value(form, "pool");
    const one = known.selectedOptions[0];
    const same = one?.value && one.value === value(form, "url");
    return {
      name: value(form, "name"),
      url: value(form, "url"),
      ...(sha256 ? { sha256 } : {}),
      ...(pool ? { pool } : {}),
      ...(same ? { os_id: one.dataset.os, architecture: "x86_64", cloud_init: true } : {}),
    };
  };
  const drawCall = () => {
    $(".asrest pre", form).textContent = curl("POST", "/images", body());
  };
  known.addEventListener("change", () => {
    const one = known.selectedOptions[0];
    /** @type {any} */ (form.elements.namedItem("url")).value = one?.value ?? "";
    /** @type {any} */ (form.elements.namedItem("name")).value = one?.dataset.name ?? "";
    drawCall();
  });
  /** @type {any} */ (form.elements.namedItem("url")).addEventListener("change", () => {
    const name = /** @type {HTMLInputElement} */ (form.elements.namedItem("name"));
    const last = value(form, "url").split(/[?#]/)[0].split("/").pop() ?? "";
    if (!name.value && last) name.value = stem(last);
  });
  form.addEventListener("input", drawCall);
  drawCall();
  onSubmit(form, async () => {
    const wish = body();
    const operation = await api("POST", "/images", wish);
    form.reset();
    track(operation, t("New image: %(name)s", { name: wish.name }));
  });
}

/* ---- one image ---- */
const page = /** @type {HTMLElement | null} */ ($("[data-page=image]"));
if (page) {
  const path = `/images/${page.dataset.image}`;
  const edit = /** @type {HTMLFormElement | null} */ ($("[data-edit-image]"));
  if (edit)
    onSubmit(edit, async () => {
      const cloud = value(edit, "cloud_init");
      await api("PATCH", path, {
        name: value(edit, "name"),
        title: value(edit, "title"),
        os_id: value(edit, "os_id"),
        tags: value(edit, "tags").split(/\s+/).filter(Boolean),
        ...(cloud ? { cloud_init: cloud === "true" } : {}),
      });
      say(t("Saved"));
    });
  const copy = /** @type {HTMLFormElement | null} */ ($("[data-copy-image]"));
  if (copy)
    onSubmit(copy, async () => {
      const operation = await api("POST", `${path}/copies`, { pool: value(copy, "pool") });
      track(operation, t("Copy: %(name)s", { name: page.dataset.name }));
    });
  page.addEventListener("click", async (event) => {
    const button = /** @type {HTMLElement | null} */ (
      /** @type {Element} */ (event.target).closest?.("[data-delete-image]")
    );
    if (!button || button.getAttribute("aria-disabled") === "true") return;
    const name = page.dataset.name ?? "";
    const yes = await ask({
      title: t("Delete %(name)s?", { name }),
      text: t("All its copies are deleted from their pools, for good."),
      action: t("Delete"),
      danger: true,
      typed: name,
      call: { method: "DELETE", path },
    });
    if (!yes) return;
    try {
      track(await api("DELETE", path), t("Delete: %(name)s", { name }));
    } catch (error) {
      failure(error);
    }
  });
}
