// @ts-check
/** The page of a template: what people say of it, which version is meant, and its end. */
import { track } from "./actions.js";
import { api } from "./api.js";
import { $, html } from "./dom.js";
import { t } from "./i18n.js";
import { ask, failure, say } from "./notify.js";

const page = /** @type {HTMLElement} */ ($("[data-page=template]"));
const path = `/templates/${page.dataset.template}`;

/** @param {HTMLElement} button */
async function edit(button) {
  const name = page.dataset.name ?? "";
  const { description = "", project = "", current = "", versions = "" } = button.dataset;
  const body = (/** @type {FormData} */ data) => ({
    name: String(data.get("name") ?? "").trim(),
    description: String(data.get("description") ?? ""),
    project: String(data.get("project") ?? "").trim(),
    current: Number(data.get("current")),
  });
  const data = await ask({
    title: t("Edit %(name)s", { name }),
    text: t("A version itself never changes: make another one of a guest, and choose here which is meant."),
    action: t("Save"),
    call: { method: "PATCH", path, of: (data) => ({ body: body(data) }) },
    extra: html`<div class="field"><label for="ask-name">${t("Name")}</label><input class="input" id="ask-name" name="name" value="${name}" maxlength="100" required autofocus></div>
      <div class="field"><label for="ask-d">${t("Description")}</label><textarea class="input" id="ask-d" name="description" rows="3" maxlength="10000">${description}</textarea></div>
      <div class="duo"><div class="field"><label for="ask-p">${t("Project")}</label><input class="input" id="ask-p" name="project" value="${project}" maxlength="100"></div>
      <div class="field"><label for="ask-v">${t("Current version")}</label><select class="input" id="ask-v" name="current">${versions
        .split(" ")
        .map(
          (one) => html`<option value="${one}" ${one === current ? html`selected` : ""}>${one}</option>`,
        )}</select></div></div>`,
  });
  if (!data) return;
  try {
    const changed = await api("PATCH", path, body(data));
    page.dataset.name = changed.name;
    say(t("Saved"));
  } catch (error) {
    failure(error);
  }
}

async function remove() {
  const name = page.dataset.name ?? "";
  const yes = await ask({
    title: t("Delete %(name)s?", { name }),
    text: t("All its versions go with their disks, for good."),
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
}

page.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  const editing = /** @type {HTMLElement | null} */ (target.closest("[data-edit-template]"));
  if (editing) edit(editing);
  const deleting = target.closest("[data-delete-template]");
  if (deleting && deleting.getAttribute("aria-disabled") !== "true") remove();
});
