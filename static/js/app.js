// @ts-check
/** The shell, on every page behind the sign-in: clicks that mean the same everywhere, theme, density, keys, live channel. */
import { act, cancelOperation, guestOf, openConsole, protect, remove } from "./actions.js";
import { $, $$, cookie, place } from "./dom.js";
import { startClock } from "./format.js";
import { t } from "./i18n.js";
import { bind, showKeys } from "./keys.js";
import { refetch } from "./live.js";
import { copyBeside, failure, showWhy } from "./notify.js";

const root = document.documentElement;

/** @param {string} [text] */
async function palette(text = "") {
  const { openPalette } = await import("./palette.js");
  openPalette(text);
}

/* ---- theme and density: the server reads the cookies, so the first paint is right ---- */
const isDark = () =>
  root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

/** @param {string} theme */
function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  cookie("theme", theme);
  press("theme-set", theme);
  document.dispatchEvent(new Event("vmm:theme"));
}
/** @param {string} density */
function setDensity(density) {
  if (density) root.dataset.density = density;
  else delete root.dataset.density;
  cookie("density", density);
  press("density-set", density);
}
/** @param {string} name @param {string} value */
function press(name, value) {
  for (const b of $$(`[data-${name}]`))
    b.setAttribute("aria-pressed", String(b.getAttribute(`data-${name}`) === value));
}

/* ---- clicks, one listener ---- */
document.addEventListener(
  "click",
  (event) => {
    const target = /** @type {Element} */ (event.target);
    const button = /** @type {HTMLElement | null} */ (target.closest?.("button, a"));
    if (!button) return;
    const data = button.dataset;
    if (data.why) {
      event.preventDefault();
      event.stopPropagation();
      showWhy(button);
      return;
    }
    if (button.getAttribute("aria-busy") === "true") {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if ("themeToggle" in data) setTheme(isDark() ? "light" : "dark");
    if (data.themeSet !== undefined) setTheme(data.themeSet);
    if (data.densitySet !== undefined) setDensity(data.densitySet);
    if ("palette" in data) palette(data.palette);
    if ("keys" in data) showKeys();
    if ("close" in data) button.closest("dialog")?.close();
    if (data.dialog) /** @type {any} */ (document.getElementById(data.dialog))?.showModal();
    if ("copy" in data) copyBeside(button);
    if (data.cancel) cancelOperation(button);
    if (data.action) {
      /** @type {any} */ (button.closest("[popover]"))?.hidePopover();
      act(data.action, guestOf(button), { params: data.params ? JSON.parse(data.params) : undefined });
    }
    if (data.delete !== undefined) {
      /** @type {any} */ (button.closest("[popover]"))?.hidePopover();
      remove(guestOf(button), { running: data.running === "true", text: data.delete });
    }
    if (data.protect) protect(guestOf(button), data.protect === "true");
    if (data.console !== undefined) {
      event.preventDefault();
      openConsole(guestOf(button), data.console || undefined);
    }
    if ("reload" in data) refetch();
    if (data.feedPause) pauseFeed(button, data.feedPause);
  },
  true,
);

/** @param {HTMLElement} button @param {string} id */
function pauseFeed(button, id) {
  const feed = document.getElementById(id);
  if (!feed) return;
  const on = feed.dataset.paused !== "true";
  feed.dataset.paused = String(on);
  button.setAttribute("aria-pressed", String(on));
  button.textContent = on ? t("Go on") : t("Pause");
}

document.addEventListener(
  "toggle",
  (event) => {
    const popover = /** @type {HTMLElement} */ (event.target);
    if (/** @type {ToggleEvent} */ (event).newState !== "open" || !popover.id) return;
    const by = $(`[popovertarget="${popover.id}"]`);
    if (by) place(popover, by);
  },
  true,
);
// A click beside a modal dialog closes it, as everybody expects; one that began inside (marking text) does not.
document.addEventListener("pointerdown", (event) => {
  const dialog = /** @type {HTMLElement} */ (event.target);
  if (!(dialog instanceof HTMLDialogElement) || !dialog.open) return;
  const box = dialog.getBoundingClientRect();
  const inside =
    event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  if (!inside) dialog.close();
});
// A small window of a menu follows no scroll: it closes.
addEventListener("resize", () => {
  for (const open of $$("[popover]:popover-open")) open.hidePopover();
});

/* ---- htmx: CSRF on every request, problems said, the sign-in page never swapped into a list ---- */
document.addEventListener("htmx:configRequest", (event) => {
  const detail = /** @type {CustomEvent} */ (event).detail;
  detail.headers["X-CSRFToken"] = $('meta[name="csrf-token"]')?.content ?? "";
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = /** @type {CustomEvent} */ (event).detail;
  if (xhr.responseURL && new URL(xhr.responseURL).pathname === "/login") {
    event.preventDefault();
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
});
for (const name of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(name, (event) => {
    const { xhr } = /** @type {CustomEvent} */ (event).detail;
    let problem;
    try {
      problem = JSON.parse(xhr?.responseText ?? "");
    } catch {
      problem = {};
    }
    failure(problem.detail ?? "", {
      title: problem.title ?? (name === "htmx:sendError" ? t("The server does not answer") : t("The server refused.")),
    });
  });
}

/* ---- keys ---- */
/** @param {string} url */
const go = (url) => () => location.assign(url);
bind(t("Everywhere"), [
  { keys: "Ctrl K", does: t("Search or run a command") },
  {
    keys: "/",
    does: t("Filter this list"),
    run: () => {
      const field = $("[data-search] input");
      if (field) field.focus();
      else palette();
    },
  },
  { keys: "g o", does: t("Overview"), run: go("/") },
  { keys: "g v", does: t("Guests"), run: go("/vms") },
  { keys: "g h", does: t("Hosts"), run: go("/hosts") },
  { keys: "g p", does: t("Storage"), run: go("/storage") },
  { keys: "g n", does: t("Networks"), run: go("/networks") },
  { keys: "g y", does: t("Topology"), run: go("/topology") },
  { keys: "g i", does: t("Images"), run: go("/images") },
  { keys: "g m", does: t("Templates"), run: go("/templates") },
  { keys: "g t", does: t("Snapshot schedules"), run: go("/snapshot-schedules") },
  { keys: "g j", does: t("Operations"), run: go("/operations") },
  { keys: "g e", does: t("Events"), run: go("/events") },
  { keys: "g a", does: t("Architecture"), run: go("/architecture") },
  { keys: "g c", does: t("Capabilities"), run: go("/capabilities") },
  { keys: "g b", does: t("Which is best?"), run: go("/advise") },
  { keys: "g s", does: t("Settings"), run: go("/settings") },
  { keys: "u", does: t("Undo the last change"), run: () => $(".toast:last-child [data-undo]")?.click() },
  { keys: "t", does: t("Light or dark"), run: () => setTheme(isDark() ? "light" : "dark") },
  { keys: "?", does: t("This map"), run: showKeys },
]);
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    palette();
  }
});

startClock();
if (sessionStorage.getItem("dock")) import("./dock.js").then((dock) => dock.restore());
