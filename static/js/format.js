// @ts-check
/** Units and ages, in the words and roundings of the template tags (dashboard/templatetags/ui.py). */
import { $$ } from "./dom.js";
import { language, t } from "./i18n.js";

const STEPS = /** @type {const} */ ([
  [1024 ** 5, "PiB"],
  [1024 ** 4, "TiB"],
  [1024 ** 3, "GiB"],
  [1024 ** 2, "MiB"],
  [1024, "KiB"],
]);
export const NOT_KNOWN = "–";

/** @param {number | null | undefined} value */
export function size(value) {
  if (value === null || value === undefined) return NOT_KNOWN;
  for (const [step, name] of STEPS) {
    if (Math.abs(value) >= step) return `${(value / step).toFixed(1).replace(/\.0$/, "")} ${name}`;
  }
  return `${Math.round(value)} B`;
}

/** @param {number | null | undefined} value bytes a second */
export const rate = (value) => (value === null || value === undefined ? NOT_KNOWN : `${size(value)}/s`);

/** @param {number | null | undefined} ratio */
export const percent = (ratio) => (ratio === null || ratio === undefined ? NOT_KNOWN : `${Math.round(ratio * 100)} %`);

/**
 * Class of a meter: neutral, amber from 80 %, red from 90 %.
 * @param {number} ratio
 */
export const level = (ratio) => (ratio < 0.8 ? "" : ratio < 0.9 ? "hot" : "full");

/** @param {number} seconds */
export function words(seconds) {
  const s = Math.max(0, seconds);
  if (s < 60) return t("%(n)s s", { n: Math.floor(s) });
  if (s < 3600) return t("%(n)s min", { n: Math.floor(s / 60) });
  if (s < 86400) return t("%(n)s h", { n: Math.floor(s / 3600) });
  return t("%(n)s d", { n: Math.floor(s / 86400) });
}

const clockFormat = new Intl.DateTimeFormat(language, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const minuteFormat = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(language, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
});
const dateFormat = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", year: "numeric" });
const exactFormat = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

/** @param {Date | number} at */
export const clock = (at) => clockFormat.format(at);
/** @param {Date | number} at */
export const minute = (at) => minuteFormat.format(at);
/** @param {Date | number} at */
export const exact = (at) => exactFormat.format(at);
/** @param {Date | number} at */
export const day = (at) => dayFormat.format(at);

/**
 * @param {Date} at
 * @param {string} style as in the tag `ago`: ago, age or clock
 */
export function moment(at, style = "ago") {
  const now = new Date();
  const seconds = (now.getTime() - at.getTime()) / 1000;
  if (style === "clock") return at.toDateString() === now.toDateString() ? clock(at) : day(at);
  if (style === "age") return words(seconds);
  if (seconds >= 86400) return at.getFullYear() === now.getFullYear() ? day(at) : dateFormat.format(at);
  return seconds < 1 ? t("now") : t("%(span)s ago", { span: words(seconds) });
}

/**
 * Brings all times under `root` to the reader's clock and zone. The server wrote them right for its own.
 * @param {ParentNode} [root]
 */
export function refreshTimes(root = document) {
  for (const time of $$("time[data-time]", root)) {
    const at = new Date(time.dateTime);
    const text = moment(at, time.dataset.time);
    if (time.textContent !== text) time.textContent = text;
    if (!time.dataset.exact) {
      time.title = exact(at);
      time.dataset.exact = "true";
    }
  }
}

/** Keeps all times right while somebody looks. */
export function startClock() {
  refreshTimes();
  setInterval(() => document.hidden || refreshTimes(), 10_000);
  document.addEventListener("visibilitychange", () => document.hidden || refreshTimes());
}
