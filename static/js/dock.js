// @ts-check
/**
 * The console dock at the foot of every page: up to six consoles, each a same-origin frame (`/vms/<id>/console`, the one page
 * that may style inline). Which are open is remembered for the tab, so that a console survives going to another page; the
 * frame takes a fresh ticket there. Loaded at the first console.
 */
import { $, fill, html, icon, make } from "./dom.js";
import { t } from "./i18n.js";
import { onEvent } from "./live.js";
import { toast } from "./notify.js";

/** @typedef {{ key: string, id: string, name: string, type: string, state: string }} Tab */

const MOST = 6;
const SMALLEST = 140;
const dock = /** @type {HTMLElement} */ ($("#dock"));
/** @type {{ tabs: Tab[], active: string, open: boolean, height: number }} */
const memory = { tabs: [], active: "", open: false, height: 280 };
/** @type {Map<string, HTMLIFrameElement>} */
const frames = new Map();
/** @type {Element | null} */
let before = null;

/** @param {HTMLIFrameElement} frame */
const panelOf = (frame) => /** @type {HTMLElement} */ (frame.parentElement);

function remember() {
  if (memory.tabs.length) sessionStorage.setItem("dock", JSON.stringify(memory));
  else sessionStorage.removeItem("dock");
}

const GLYPHS = /** @type {Record<string, string>} */ ({
  open: "running",
  connecting: "connecting",
  waiting: "connecting",
  busy: "paused",
  off: "shutoff",
  closed: "failed",
});

function draw() {
  dock.hidden = !memory.tabs.length;
  dock.dataset.open = String(memory.open);
  dock.style.setProperty("--dock-h", `${memory.height}px`);
  document.documentElement.classList.toggle("docked", memory.open && !dock.hidden);
  const bar = $("header", dock) ?? dock.appendChild(make(html`<header></header>`));
  const focused = document.activeElement?.id;
  fill(
    bar,
    html`<div class="grip" role="separator" aria-orientation="horizontal" aria-label="${t("Height of the consoles")}" tabindex="0" aria-valuenow="${memory.height}" aria-valuemin="${SMALLEST}" aria-valuemax="${innerHeight - 120}"></div>
    <div role="tablist" aria-label="${t("Consoles")}">${memory.tabs.map(
      (
        tab,
      ) => html`<span class="tabs2" role="presentation"><button class="tab" type="button" role="tab" id="dt-${tab.key}" aria-selected="${tab.key === memory.active}" aria-controls="dp-${tab.key}" tabindex="${tab.key === memory.active ? 0 : -1}" data-tab="${tab.key}">
      <span class="${GLYPHS[tab.state] ?? "unknown"}">${icon(`s-${GLYPHS[tab.state] ?? "queued"}`, "g")}</span>${tab.name} <span class="t3">${tab.type}</span></button></span>`,
    )}</div>
    <span class="actions push">
    <a class="btn ghost sm icon hide-s" target="_blank" rel="noopener" data-window href="#" aria-label="${t("Open in its own window")}" title="${t("Open in its own window")}">${icon("window")}</a>
    <button class="btn ghost sm icon hide-s" type="button" data-dock="grow" aria-label="${t("Larger or smaller")}" title="${t("Larger or smaller")}">${icon("expand")}</button>
    <button class="btn ghost sm icon" type="button" data-dock="toggle" aria-expanded="${memory.open}" aria-label="${memory.open ? t("Hide consoles") : t("Show consoles")}" title="${memory.open ? t("Hide consoles") : t("Show consoles")}">${icon(memory.open ? "down" : "up")}</button>
    <button class="btn ghost sm icon" type="button" data-dock="close" aria-label="${t("Close this console")}" title="${t("Close this console")}">${icon("x")}</button></span>`,
  );
  const current = active();
  if (current) $("[data-window]", bar).href = address(current);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  for (const [key, frame] of frames) {
    panelOf(frame).hidden = key !== memory.active || !memory.open;
    if (!memory.tabs.some((tab) => tab.key === key)) {
      panelOf(frame).remove();
      frames.delete(key);
    }
  }
  remember();
}

const active = () => memory.tabs.find((tab) => tab.key === memory.active);
/** @param {Tab} tab */
const address = (tab) => `/vms/${tab.id}/console${tab.type ? `?type=${tab.type}` : ""}`;

/** Makes the frame of the shown tab, if it is not there yet. */
function load() {
  const tab = active();
  if (!tab || !memory.open) return;
  let frame = frames.get(tab.key);
  if (!frame) {
    const panel = make(
      html`<div role="tabpanel" id="dp-${tab.key}" aria-labelledby="dt-${tab.key}"><iframe class="screen" title="${t("Console of %(name)s", { name: tab.name })}" src="${address(tab)}" allow="clipboard-read; clipboard-write; fullscreen"></iframe></div>`,
    );
    dock.append(panel);
    frame = /** @type {HTMLIFrameElement} */ ($("iframe", panel));
    frames.set(tab.key, frame);
  }
  panelOf(frame).hidden = false;
  return frame;
}

/** @param {string} key */
function show(key) {
  memory.active = key;
  memory.open = true;
  draw();
  load()?.focus({ preventScroll: true });
}

/** @param {boolean} [on] */
export function toggle(on = !memory.open) {
  memory.open = on && memory.tabs.length > 0;
  draw();
  if (memory.open) load()?.focus({ preventScroll: true });
  else leave();
}

function leave() {
  const back = before instanceof HTMLElement && before.isConnected ? before : $("#main");
  back?.focus({ preventScroll: true });
}

/** @param {string} key */
function shut(key) {
  memory.tabs = memory.tabs.filter((tab) => tab.key !== key);
  if (memory.active === key) memory.active = memory.tabs.at(-1)?.key ?? "";
  if (!memory.tabs.length) memory.open = false;
  draw();
  if (memory.open) load()?.focus({ preventScroll: true });
  else leave();
}

/**
 * Opens the console of a guest, or shows it if it is open.
 * @param {{ id: string, name: string }} guest
 * @param {string} [type] serial, shell or vnc; without, the server chooses
 */
export function open(guest, type = "") {
  before = document.activeElement;
  const there = memory.tabs.find((tab) => tab.id === guest.id && (!type || tab.type === type));
  if (there) {
    show(there.key);
    return;
  }
  if (memory.tabs.length >= MOST) {
    toast(t("Six consoles are open"), { detail: t("Close one to open another."), seconds: 6 });
    return;
  }
  const key = `${guest.id}-${type || "any"}`;
  memory.tabs.push({ key, id: guest.id, name: guest.name, type, state: "connecting" });
  show(key);
}

/** What was open on the page before. */
export function restore() {
  try {
    Object.assign(memory, JSON.parse(sessionStorage.getItem("dock") ?? "{}"));
  } catch {
    sessionStorage.removeItem("dock");
  }
  for (const tab of memory.tabs) tab.state = "connecting";
  draw();
  load();
}

/** @param {number} height */
function resize(height) {
  memory.height = Math.round(Math.max(SMALLEST, Math.min(innerHeight - 120, height)));
  dock.style.setProperty("--dock-h", `${memory.height}px`);
}

dock.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  if (!button) return;
  const { tab, dock: what } = button.dataset;
  if (tab) {
    if (tab === memory.active && memory.open) toggle(false);
    else show(tab);
  }
  if (what === "toggle") toggle();
  if (what === "close") shut(memory.active);
  if (what === "grow") {
    resize(memory.height > innerHeight / 2 ? 280 : innerHeight - 160);
    memory.open = true;
    draw();
    load();
  }
});
dock.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches(".grip") && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    event.preventDefault();
    resize(memory.height + (event.key === "ArrowUp" ? 24 : -24));
    target.setAttribute("aria-valuenow", String(memory.height));
    remember();
  }
  if (target.matches("[role=tab]") && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    const at = memory.tabs.findIndex((tab) => tab.key === target.dataset.tab);
    const next = memory.tabs[(at + (event.key === "ArrowRight" ? 1 : memory.tabs.length - 1)) % memory.tabs.length];
    memory.active = next.key;
    draw();
    load();
    document.getElementById(`dt-${next.key}`)?.focus();
  }
});
dock.addEventListener("pointerdown", (event) => {
  if (!(/** @type {HTMLElement} */ (event.target).matches(".grip"))) return;
  const from = event.clientY;
  const height = memory.height;
  memory.open = true;
  dock.classList.add("dragging"); // frames must not swallow the pointer while it drags
  const move = (/** @type {PointerEvent} */ e) => resize(height + from - e.clientY);
  const up = () => {
    dock.classList.remove("dragging");
    removeEventListener("pointermove", move);
    draw();
    load();
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", up, { once: true });
  addEventListener("pointercancel", up, { once: true });
});

// A guest that is gone has no console to come back to.
onEvent((event) => {
  if (event.type !== "vm.undefined") return;
  for (const tab of memory.tabs.filter((one) => one.id === event.object.id)) shut(tab.key);
});

// What a frame tells: only our own frames, only from our own origin.
addEventListener("message", (event) => {
  if (event.origin !== location.origin) return;
  const key = [...frames].find(([, frame]) => frame.contentWindow === event.source)?.[0];
  const tab = memory.tabs.find((one) => one.key === key);
  if (!tab) return;
  if (event.data?.vmm === "leave") toggle(false);
  if (event.data?.vmm === "close") shut(tab.key);
  if (event.data?.vmm === "state") {
    if (tab.state === event.data.state && tab.type === event.data.type) return;
    tab.state = event.data.state;
    tab.type = event.data.type;
    draw();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "q" && memory.open) {
    event.preventDefault();
    toggle(false);
  }
});
