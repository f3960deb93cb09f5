// @ts-check
/**
 * What happens, shown where it stands: events of `/ws/events` applied by id. A row is patched in place at once and then
 * fetched as the server renders it; nothing is re-sorted, inserted in the middle or resized.
 *
 * What a page marks, and what that means:
 *   [data-rows="/vms/rows"]            children with an id (`vm-<id>`) and data-version are fetched again as `?ids=a,b`
 *   [data-region="/url"][data-on="vm/<id> operation/*"]   its inside is fetched again when such an object changes
 *                                      (`work:vm/<id>`: when an operation on it does);
 *                                      [data-when-open="<id>"]: only while that popover is open
 *   [data-feed="/url"][data-on]        list of lines with data-seq; newer ones are fetched as `?after=<seq>` and put on top
 *   [data-count="guests"]              a number of /nav.json
 *   [data-new-for="vms"]               the pill "3 new, show" of a list, hidden until something is new
 *   [data-px="<id>"]                   a square of the fleet map
 *   [data-sample="vm/<id>"]            wants samples; sparkline, [data-cpu-text] and [data-memory-meter] inside are redrawn
 *   [data-sample="storage-pool/<id>"]  likewise; [data-pool-meter], [data-pool-used] and [data-pool-free]
 *   [data-fresh] with an id            replaced from a fresh copy of the page after a gap in the events
 */
import { json, part } from "./api.js";
import { Channel } from "./channel.js";
import { $, $$, debounce, pulse } from "./dom.js";
import { clock, level, moment, percent, refreshTimes, size } from "./format.js";
import { stateLabel, t, tn } from "./i18n.js";
import { say } from "./notify.js";

/** @typedef {import("./channel.js").LiveEvent} LiveEvent */

const root = document.documentElement;
const TURNING = ["shutting_down", "connecting", "op-running", "building"];
const ENDED = ["succeeded", "failed", "cancelled"];

/* ---- who listens ---- */
/** @type {Set<(event: LiveEvent) => void>} */
const listeners = new Set();
/**
 * @param {(event: LiveEvent) => void} fn called for every event, in order, before the page is patched
 * @returns {() => void} stops it
 */
export function onEvent(fn) {
  listeners.add(fn);
  return () => listeners.delete(fn);
}

/** @type {Map<string, Set<(data: any, at: Date) => void>>} */
const samplers = new Map();
/**
 * Samples of one object while somebody looks.
 * @param {string} object "vm/<id>" or "host/<id>"
 * @param {(data: any, at: Date) => void} fn
 * @returns {() => void}
 */
export function onSample(object, fn) {
  const set = samplers.get(object) ?? new Set();
  samplers.set(object, set.add(fn));
  chooseSamples();
  return () => {
    set.delete(fn);
    if (!set.size) samplers.delete(object);
    chooseSamples();
  };
}

/* ---- patching ---- */
/**
 * Puts a new state on a row, badge or square: class, glyph, word.
 * @param {HTMLElement} element has data-state, or is the badge itself
 * @param {string} to class of the state
 */
export function setState(element, to) {
  const from = element.dataset.state ?? "";
  const badges = element.matches(".state, .pill") ? [element] : $$(".state, .pill[data-state]", element).slice(0, 1);
  for (const one of [element, ...badges]) {
    if (from) one.classList.remove(from);
    if (one.dataset.state) one.classList.remove(one.dataset.state);
    one.classList.add(to);
    one.dataset.state = to;
  }
  for (const badge of badges) {
    const glyph = $(".g", badge);
    $("use", glyph)?.setAttribute("href", `${root.dataset.icons}#s-${to}`);
    glyph?.classList.toggle("spin", TURNING.includes(to));
    const word = $(".txt", badge);
    if (word) word.textContent = stateLabel(to);
  }
}

/**
 * @param {string} object
 * @param {string} wish data-on: objects and `type/*`, by blanks
 */
function concerns(object, wish) {
  const kind = `${object.split("/")[0]}/*`;
  return wish.split(/\s+/).some((one) => one === object || one === kind || one === "*");
}

/** Objects whose rows, regions and feeds are to be read again. @type {Set<string>} */
const stale = new Set();
/** @type {Set<Element>} */
const reading = new Set();

/**
 * A fresh row for an old one, with what the person did to it kept: selection, the mark of the cursor, the focus.
 * @param {HTMLElement} old
 * @param {HTMLElement} fresh
 */
function swapRow(old, fresh) {
  if (Number(fresh.dataset.version ?? 0) < Number(old.dataset.version ?? 0)) return old;
  const focused = old.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement) : null;
  const at = focused ? $$("a, button, input", old).indexOf(focused) : -1;
  if (old.dataset.sel === "true") {
    fresh.dataset.sel = "true";
    const box = $("input[type=checkbox]", fresh);
    if (box) box.checked = true;
  }
  for (const css of ["cur", "changed"]) if (old.classList.contains(css)) fresh.classList.add(css);
  old.replaceWith(fresh);
  /** @type {any} */ (globalThis).htmx?.process(fresh);
  refreshTimes(fresh);
  if (at >= 0) $$("a, button, input", fresh)[at]?.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("vmm:row", { detail: fresh }));
  return fresh;
}

/**
 * @param {HTMLElement} container
 * @param {HTMLElement[]} rows at most 50 a call
 */
async function readRows(container, rows) {
  const ids = rows.map((row) => row.id.slice(row.id.indexOf("-") + 1));
  const template = document.createElement("template");
  template.innerHTML = await part(`${container.dataset.rows}?ids=${ids.join(",")}`);
  for (const row of rows) {
    if (!row.isConnected) continue;
    const fresh = template.content.getElementById(row.id);
    if (fresh) swapRow(row, fresh);
    else goneRow(row);
  }
}

/** @param {HTMLElement} row */
function goneRow(row) {
  row.classList.add("gone");
  row.dataset.sel = "false";
  for (const control of $$("button, input", row)) control.disabled = true;
}

/** Fetches the inside of a region again. @param {HTMLElement} region */
export async function readRegion(region) {
  if (reading.has(region)) return;
  const gate = region.dataset.whenOpen;
  if (gate && !document.getElementById(gate)?.matches(":popover-open, [open], [data-open=true]")) return;
  reading.add(region);
  try {
    const text = await part(/** @type {string} */ (region.dataset.region));
    const focus = region.contains(document.activeElement) ? document.activeElement?.id : "";
    const menu = $("[popover]:popover-open", region)?.id;
    region.innerHTML = text;
    if (menu) /** @type {any} */ (document.getElementById(menu))?.showPopover();
    /** @type {any} */ (globalThis).htmx?.process(region);
    refreshTimes(region);
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
    region.dispatchEvent(new CustomEvent("vmm:region", { bubbles: true }));
  } catch {
    region.dataset.failed = "true"; // the next event tries again; what stands there stays readable
  } finally {
    reading.delete(region);
  }
}

/** @param {HTMLElement} feed */
async function readFeed(feed) {
  if (reading.has(feed) || feed.dataset.paused === "true") return;
  reading.add(feed);
  try {
    const url = new URL(/** @type {string} */ (feed.dataset.feed), location.href);
    const newest = /** @type {HTMLElement | null} */ (feed.querySelector("[data-seq]"))?.dataset.seq;
    if (newest) url.searchParams.set("after", newest);
    const template = document.createElement("template");
    template.innerHTML = await part(url.pathname + url.search);
    const lines = /** @type {HTMLElement[]} */ ([...template.content.querySelectorAll("[data-seq]")]);
    for (const line of lines) line.classList.add("new");
    if (lines.length) $("[data-feed-empty]", feed)?.remove();
    refreshTimes(template.content);
    feed.prepend(...lines);
    const most = Number(feed.dataset.limit ?? 50);
    for (const line of $$("[data-seq]", feed).slice(most)) line.remove();
  } catch {
    feed.dataset.failed = "true";
  } finally {
    reading.delete(feed);
  }
}

const readCounts = debounce(async () => {
  const counts = await json("/nav.json").catch(() => null);
  if (counts) setCounts(counts);
}, 400);

/** @param {Record<string, number>} counts */
function setCounts(counts) {
  for (const element of $$("[data-count]")) {
    const n = counts[element.dataset.count];
    if (n === undefined) continue;
    element.textContent = n.toLocaleString(root.lang);
    if ("alert" in element.dataset) element.classList.toggle("alert", n > 0);
  }
  for (const dot of $$("[data-count-dot]")) dot.hidden = !counts[dot.dataset.countDot];
}

/** Reads again what the events of the last moment touched. */
const readAgain = debounce(() => {
  const objects = [...stale];
  stale.clear();
  for (const container of $$("[data-rows]")) {
    const rows = $$("[id][data-version]", container).filter(
      (row) => objects.includes(row.dataset.object) && !row.matches(".gone"),
    );
    for (let i = 0; i < rows.length; i += 50) readRows(container, rows.slice(i, i + 50)).catch(() => {});
  }
  for (const region of $$("[data-region][data-on]"))
    if (objects.some((o) => concerns(o, region.dataset.on))) readRegion(region);
  for (const feed of $$("[data-feed]")) if (objects.some((o) => concerns(o, feed.dataset.on ?? "*"))) readFeed(feed);
  readCounts();
}, 120);

/** @type {Map<string, Set<string>>} */
const fresh = new Map();
/** @param {string} list @param {string} id */
function announceNew(list, id) {
  const pill = $(`[data-new-for="${list}"]`);
  if (!pill) return;
  const ids = fresh.get(list) ?? new Set();
  fresh.set(list, ids.add(id));
  pill.hidden = false;
  $("[data-new-text]", pill).textContent = tn("%(n)s new, show", "%(n)s new, show", ids.size);
}

/** @param {LiveEvent} event */
function patchVm(event) {
  const { id, name } = event.object;
  const row = document.getElementById(`vm-${id}`);
  if (event.type === "vm.undefined") {
    if (row) goneRow(row);
    return;
  }
  if (event.type === "vm.defined") {
    if (!row) announceNew("vms", id);
    return;
  }
  const had = event.data?.changed ?? {};
  if ("binned_at" in had && had.binned_at === null && !row) announceNew("vms", id); // out of the bin
  const version = Number(event.data?.version ?? 0);
  const to = event.type === "vm.state_changed" ? event.data?.to : "";
  for (const element of [row, ...$$(`[data-object="vm/${id}"][data-version]`).filter((e) => e !== row)]) {
    if (!element || (version && version <= Number(element.dataset.version ?? 0))) continue;
    if (version) element.dataset.version = String(version);
    if (to && to !== element.dataset.state) setState(element, to);
    pulse(element);
    if (to && (element.matches(".cur") || element.closest("[data-page]"))) say(`${name}: ${stateLabel(to)}`);
  }
  if (!to) return;
  for (const square of $$(`[data-px="${id}"]`)) {
    if (square.dataset.state === to) continue;
    setState(square, to);
    square.title = `${name}, ${stateLabel(to).toLowerCase()}`;
    pulse(square, "tick");
  }
}

/** @param {LiveEvent} event */
function patchOperation(event) {
  const { state, progress, message } = event.data ?? {};
  for (const row of $$(`[data-object="operation/${event.object.id}"]`)) {
    const to = state === "running" ? "op-running" : state;
    if (to && to !== row.dataset.state) {
      setState(row, to);
      pulse(row);
    }
    const bar = $("[data-progress]", row);
    if (bar) {
      const known = typeof progress === "number" && !ENDED.includes(state);
      bar.toggleAttribute("hidden", !known);
      if (known) {
        $("rect", bar).setAttribute("width", `${(progress * 100).toFixed(1)}%`);
        bar.setAttribute("aria-label", percent(progress));
      }
    }
    const text = $("[data-message]", row);
    if (text && message) text.textContent = message;
    const share = $("[data-progress-text]", row);
    if (share) share.textContent = typeof progress === "number" ? percent(progress) : "";
  }
  const inList = document.querySelector(`[data-object="operation/${event.object.id}"]`);
  if (!inList && state === "queued") announceNew("operations", event.object.id);
}

/** @param {LiveEvent} event */
function patch(event) {
  const key = `${event.object?.type}/${event.object?.id}`;
  if (event.type.startsWith("vm.")) patchVm(event);
  else if (event.type === "operation.changed") patchOperation(event);
  else if (event.type === "host.online" || event.type === "host.offline") {
    for (const element of $$(`[data-object="${key}"][data-state]`)) {
      setState(element, event.type.slice(5));
      pulse(element);
    }
  }
  // Progress alone changes no more than what was patched above.
  const onlyProgress =
    event.type === "operation.changed" && event.data?.state === "running" && event.data?.progress > 0;
  if (!onlyProgress) stale.add(key);
  if (!onlyProgress && event.type === "operation.changed" && event.data?.target) stale.add(`work:${event.data.target}`);
  for (const last of $$("[data-last-seq]")) last.textContent = `#${event.seq.toLocaleString(root.lang)}`;
}

/* ---- pace: a frame each, or each 500 ms when more than 20 a second come; a hidden tab waits and catches up ---- */
/** @type {LiveEvent[]} */
let queue = [];
let scheduled = false;
let overflow = false;
/** @type {number[]} */
let recent = [];
const MOST_WAITING = 2000;

function flush() {
  scheduled = false;
  if (document.hidden) return;
  const events = queue;
  queue = [];
  if (overflow) {
    overflow = false;
    refetch();
    return;
  }
  // Only the last word on each object matters, save for what comes and goes.
  /** @type {Map<string, LiveEvent>} */
  const latest = new Map();
  for (const event of events) latest.set(`${event.type} ${event.object?.id}`, event);
  for (const event of latest.values()) patch(event);
  if (stale.size) readAgain();
}

function schedule() {
  if (scheduled || document.hidden) return;
  scheduled = true;
  const now = performance.now();
  recent = recent.filter((at) => now - at < 1000);
  if (recent.length > 20) setTimeout(flush, 500);
  else requestAnimationFrame(flush);
}

/** @param {LiveEvent} event */
function take(event) {
  lastAt = new Date();
  recent.push(performance.now());
  for (const fn of listeners) fn(event);
  if (queue.length < MOST_WAITING) queue.push(event);
  else overflow = true;
  schedule();
}

/**
 * After a gap: one quiet fresh copy of the page; what is marked is replaced, scroll and selection stay.
 */
export async function refetch() {
  try {
    const text = await part(location.pathname + location.search);
    const page = new DOMParser().parseFromString(text, "text/html");
    const chosen = new Set($$("[data-sel=true]").map((row) => row.id));
    for (const old of $$("[data-fresh][id]")) {
      const copy = page.getElementById(old.id);
      if (!copy) continue;
      old.replaceWith(copy);
      /** @type {any} */ (globalThis).htmx?.process(copy);
      for (const row of $$("[data-sel]", copy)) {
        if (!chosen.has(row.id)) continue;
        row.dataset.sel = "true";
        const box = $("input[type=checkbox]", row);
        if (box) box.checked = true;
      }
    }
    refreshTimes();
    for (const region of $$("[data-region]")) readRegion(region);
    for (const feed of $$("[data-feed]")) readFeed(feed);
    readCounts();
    chooseSamples();
    document.dispatchEvent(new CustomEvent("vmm:refetched"));
  } catch {
    // The next event or reconnect tries again; the page stays as it is, and the dot says how old it is.
  }
}

/* ---- samples ---- */
/** @type {Channel | null} */
let sampleChannel = null;

/** Subscribes to the samples of what this page shows, and to none while nobody looks. */
const chooseSamples = debounce(() => {
  const objects = [...new Set([...samplers.keys(), ...$$("[data-sample]").map((e) => e.dataset.sample)])].sort();
  if (document.hidden || !objects.length) {
    sampleChannel?.close();
    sampleChannel = null;
  } else if (sampleChannel) sampleChannel.watch(objects);
  else sampleChannel = new Channel({ types: ["metrics.sample"], objects, onEvent: takeSample });
}, 200);

/** @param {any} message */
function takeSample(message) {
  if (message.type !== "metrics.sample") return;
  const object = typeof message.object === "string" ? message.object : `${message.object.type}/${message.object.id}`;
  for (const fn of samplers.get(object) ?? []) fn(message.data, new Date(message.at));
  if (document.hidden) return;
  for (const holder of $$(`[data-sample="${object}"]`)) drawSample(holder, message.data);
}

/**
 * @param {HTMLElement} holder
 * @param {any} data
 */
function drawSample(holder, data) {
  if ("available_bytes" in data) drawPool(holder, data);
  const ratio = data.cpu_ratio;
  const text = $("[data-cpu-text]", holder);
  if (text) text.textContent = percent(ratio);
  if (typeof ratio === "number") {
    const value = Math.min(1, Math.max(0, ratio));
    const cell = $("[data-spark]", holder);
    cell?.classList.toggle("hot", value > 0.85);
    for (const line of $$(".spark polyline", holder)) {
      const area = line.matches(".area");
      const points = line.getAttribute("points").trim().split(/\s+/);
      const heights = (area ? points.slice(1, -1) : points).map((/** @type {string} */ p) => p.split(",")[1]);
      heights.shift();
      heights.push((19 - value * 18).toFixed(1));
      const step = 72 / (heights.length - 1);
      const drawn = heights
        .map((/** @type {string} */ y, /** @type {number} */ i) => `${(i * step).toFixed(1)},${y}`)
        .join(" ");
      line.setAttribute("points", area ? `0,20 ${drawn} 72,20` : drawn);
    }
    meter($("[data-cpu-meter]", holder), value);
  }
  const memory = $("[data-memory-meter]", holder);
  const most = Number(memory?.dataset.max);
  // All it has, or more, is what its process holds on the host: it says nothing of how full the guest is.
  if (memory && most && typeof data.memory_bytes === "number" && data.memory_bytes < most) {
    meter(memory, data.memory_bytes / most);
    memory.setAttribute("aria-label", t("%(used)s of %(all)s", { used: size(data.memory_bytes), all: size(most) }));
  }
}

/**
 * How full a storage pool is.
 * @param {HTMLElement} holder
 * @param {{ capacity_bytes: number | null, available_bytes: number | null }} data
 */
function drawPool(holder, { capacity_bytes: all, available_bytes: free }) {
  if (!all || typeof free !== "number") return;
  const used = Math.max(0, 1 - free / all);
  for (const bar of $$("[data-pool-meter]", holder)) {
    meter(bar, used);
    bar.setAttribute("aria-label", t("%(share)s of %(all)s used", { share: percent(used), all: size(all) }));
  }
  for (const text of $$("[data-pool-used]", holder)) text.textContent = percent(used);
  for (const text of $$("[data-pool-free]", holder)) text.textContent = size(free);
}

/**
 * @param {Element | null} element
 * @param {number} ratio
 */
function meter(element, ratio) {
  if (!element) return;
  $("rect", element).setAttribute("width", `${(Math.min(1, ratio) * 100).toFixed(1)}%`);
  element.classList.remove("hot", "full");
  const css = level(ratio);
  if (css) element.classList.add(css);
}

/* ---- the indicator ---- */
let lastAt = new Date();
let since = new Date();
let state = /** @type {import("./channel.js").ChannelState} */ ("connecting");
/** @type {ReturnType<typeof setTimeout> | undefined} */
let slow;

/** @param {import("./channel.js").ChannelState} next */
function showState(next) {
  if (next === "waiting" && state === "open") lastAt = new Date();
  if (next === "open" && state !== "open") since = new Date();
  state = next;
  clearTimeout(slow);
  // A restart of a second needs no alarm: the word changes only when it lasts.
  if (next === "open" || next === "signed-out") drawState();
  else slow = setTimeout(drawState, 1500);
}

function drawState() {
  const button = $("[data-live]");
  if (!button) return;
  const at = clock(lastAt).slice(0, 5);
  const [css, word, text] =
    state === "open"
      ? ["ok", t("Live"), t("Connected since %(at)s. What happens shows here by itself.", { at: clock(since) })]
      : state === "signed-out"
        ? ["crit", t("Signed out"), t("The session has ended. Sign in again to go on.")]
        : [
            "warn",
            t("As of %(at)s", { at }),
            t(
              "The server does not answer. The page shows what was known at %(at)s; nothing is lost, it is caught up on return.",
              { at },
            ),
          ];
  button.classList.remove("ok", "warn", "crit");
  button.classList.add(css);
  button.title = text;
  $("[data-live-word]", button).textContent = word;
  const long = $("[data-live-text]");
  if (long) {
    const seq = events.seq ?? 0;
    long.textContent =
      state === "open" && seq
        ? `${text} ${t("Last event #%(seq)s, %(ago)s.", { seq: seq.toLocaleString(root.lang), ago: moment(lastAt) })}`
        : text;
  }
  document.body.classList.toggle("offline-page", state !== "open");
}

const start = root.dataset.seq ? Number(root.dataset.seq) : null;
const events = new Channel({ after: start, onEvent: take, onReset: refetch, onState: showState });

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) schedule();
  chooseSamples();
});
document.addEventListener(
  "toggle",
  (e) => {
    const popover = /** @type {HTMLElement} */ (e.target);
    if (/** @type {ToggleEvent} */ (e).newState !== "open") return;
    if (popover.id === "live-pop") drawState();
    for (const region of $$(`[data-when-open="${popover.id}"]`)) readRegion(region);
  },
  true,
);
document.addEventListener("htmx:afterSwap", () => {
  refreshTimes();
  chooseSamples();
});
document.addEventListener("vmm:region", chooseSamples);
addEventListener("pagehide", () => sampleChannel?.close());
chooseSamples();
