// @ts-check
/** What cloud-init's own schema says of the documents in a form, line by line, while they are typed. */
import { api } from "./api.js";
import { $$, fill, html, icon } from "./dom.js";
import { t } from "./i18n.js";

const NAMES = ["user_data", "network_config"];

/**
 * Looks at `user_data` and `network_config`, and draws what was found into the form's lists `[data-findings]`.
 * @param {HTMLFormElement} form
 * @returns {Promise<boolean>} whether nothing speaks against them, as far as anybody could tell
 */
export async function look(form) {
  /** @param {string} name @returns {any} */
  const field = (name) => form.elements.namedItem(name);
  const body = Object.fromEntries(
    NAMES.filter((name) => (field(name)?.value ?? "").trim()).map((name) => [name, field(name).value]),
  );
  const lists = $$("[data-findings]", form);
  if (!Object.keys(body).length) {
    for (const one of lists) fill(one, html``);
    return true;
  }
  const found = await api("POST", "/cloud-init/validate", body, { idempotency: "" }).catch(() => null);
  if (!found) return true;
  for (const one of lists) {
    const start = `/${one.dataset.findings}`;
    const lines = [
      ...found.errors.map((/** @type {any} */ e) => ({ ...e, css: "crit" })),
      ...found.warnings.map((/** @type {any} */ w) => ({ ...w, css: "warn" })),
    ].filter((each) => each.path.startsWith(start));
    fill(
      one,
      html`${lines.map((each) => html`<li class="${each.css}">${icon("warn")}<span>${each.line ? t("Line %(n)s", { n: each.line }) : ""} <code>${each.path.slice(start.length)}</code> ${each.detail}</span></li>`)}`,
    );
  }
  return found.ok;
}
