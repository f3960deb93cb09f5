// @ts-check
/** The difference viewer: a unified diff of the server's as a table with two columns of line numbers. Knows nothing of guests. */
import { html } from "./dom.js";
import { t, tn } from "./i18n.js";

const ROWS_MAX = 2000;
const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)$/;

/**
 * @typedef {{ diff: string, diff_cut?: boolean, added?: number, removed?: number }} Difference
 */

/** @param {string} place `domain/devices/disk` */
const where = (place) => place.split("/").join(" / ");

/** @param {string} text of a unified diff */
function rowsOf(text) {
  const rows = [];
  let before = 0;
  let after = 0;
  for (const line of text.split("\n").slice(0, ROWS_MAX)) {
    const hunk = HUNK.exec(line);
    if (hunk) {
      before = Number(hunk[1]);
      after = Number(hunk[2]);
      rows.push(html`<tr class="hunk"><th colspan="4" scope="colgroup">${where(hunk[3]) || t("At the top")}</th></tr>`);
      continue;
    }
    const sign = line[0];
    const css = sign === "+" ? "add" : sign === "-" ? "del" : "";
    const old = sign === "+" ? "" : before++;
    const now = sign === "-" ? "" : after++;
    rows.push(
      html`<tr class="${css}"><td class="n">${old}</td><td class="n">${now}</td><td class="s">${css ? sign : ""}</td><td><code>${line.slice(1)}</code></td></tr>`,
    );
  }
  return rows;
}

/** How much came and went, in words. @param {Difference} change */
export function amount({ added = 0, removed = 0 }) {
  return t("%(added)s, %(removed)s", {
    added: tn("%(n)s line added", "%(n)s lines added", added),
    removed: tn("%(n)s removed", "%(n)s removed", removed),
  });
}

/**
 * @param {Difference} change
 * @param {string} name what is compared with what, for the table's caption
 */
export function differenceTable(change, name) {
  if (!change.diff)
    return html`<p class="pad t3">${change.diff_cut ? t("This is too much to be compared here.") : t("Nothing differs.")}</p>`;
  const cut = change.diff_cut || change.diff.split("\n").length > ROWS_MAX;
  return html`<div class="diffbox" tabindex="0" role="region" aria-label="${name}"><table class="diff"><caption class="vh">${name}</caption>
    <thead class="vh"><tr><th scope="col">${t("Line before")}</th><th scope="col">${t("Line after")}</th><th scope="col">${t("Change")}</th><th scope="col">${t("Text")}</th></tr></thead>
    <tbody>${rowsOf(change.diff)}</tbody></table></div>${cut ? html`<p class="pad t3">${t("There is more than is shown here.")}</p>` : ""}`;
}
