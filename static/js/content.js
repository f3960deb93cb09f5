// @ts-check
/** A volume's content replaced by a file: chosen, asked about, sent, and put to use. The page of a pool loads this. */
import { track } from "./actions.js";
import { api } from "./api.js";
import { html, make } from "./dom.js";
import { percent, rate, size, words } from "./format.js";
import { t } from "./i18n.js";
import { ask, failure, toast } from "./notify.js";
import { begin, keep } from "./uploads.js";

/** @param {HTMLElement} row a volume's */
function choose(row) {
  const picker = /** @type {HTMLInputElement} */ (make(html`<input type="file">`));
  picker.addEventListener("change", () => {
    const file = picker.files?.[0];
    if (file) replace(file, row.dataset.volume ?? "", row.dataset.name ?? "");
  });
  picker.click();
}

/** @param {File} file @param {string} id @param {string} name of the volume */
async function replace(file, id, name) {
  const yes = await ask({
    title: t("Replace what is in %(name)s?", { name }),
    text: t("%(file)s, %(size)s, is written over it from its begin. What was there is lost.", {
      file: file.name,
      size: size(file.size),
    }),
    action: t("Replace"),
    danger: true,
    call: { method: "POST", path: `/volumes/${id}/content`, body: { upload: "<id>" } },
  });
  if (!yes) return;
  try {
    await send(file, id, name);
  } catch (error) {
    failure(error);
  }
}

/** @param {File} file @param {string} id @param {string} name */
async function send(file, id, name) {
  const upload = await begin(file, { volume: id });
  keep(upload.id, null); // only the page that asked goes on with it: a volume's content is not replaced by surprise
  const title = t("Upload: %(name)s", { name: file.name });
  const give = { label: t("Give up"), run: () => upload.remove().catch(failure) };
  /** @type {ReturnType<typeof toast> | null} */
  let shown = null;
  upload.onchange = () => {
    if (upload.state === "failed") {
      shown?.close();
      shown = null;
      failure(upload.error, { title, ways: [{ label: t("Go on"), run: () => upload.start() }, give] });
      return;
    }
    const { speed, left } = upload;
    if (upload.state !== "sending") return;
    shown ??= toast(title, { seconds: 0, ways: [give] });
    shown.detail(
      `${percent(upload.ratio)}${speed === null ? "" : `, ${rate(speed)}`}${left === null ? "" : `, ${t("%(time)s left", { time: words(left) })}`}`,
    );
  };
  upload.onsent = async () => {
    shown?.close();
    try {
      track(await api("POST", `/volumes/${id}/content`, { upload: upload.id }), t("New content: %(name)s", { name }));
    } catch (error) {
      failure(error, { title: t("%(name)s was left as it is", { name }) });
    }
  };
  addEventListener("beforeunload", (event) => {
    if (upload.state === "sending") event.preventDefault();
  });
  upload.start();
}

document.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (
    /** @type {Element} */ (event.target).closest?.("[data-volume-content]")
  );
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  /** @type {any} */ (button.closest("[popover]"))?.hidePopover();
  const row = /** @type {HTMLElement | null} */ (button.closest("[data-volume]"));
  if (row) choose(row);
});
