// @ts-check
/**
 * The guest list: filter, sort, group and paging by the server (swapped as one part, the address follows), selection with the
 * bulk bar and its dry run, keys, peek. Live changes are live.js's work.
 *
 * Markup: [data-table] around all; #list is what the server swaps, with [data-rows], rows `#vm-<id>` (data-vm, data-name, data-can:
 * allowed actions by blanks, data-sel), [data-total]; [data-shown] says how many, [data-group] groups by host; [data-bulk] the bar;
 * [data-withpeek] with [data-peek].
 */
import { ACTIONS, act, guestOf, openConsole } from "./actions.js";
import { api, part } from "./api.js";
import { $, $$, fill, html, icon } from "./dom.js";
import { Filter } from "./filter.js";
import { refreshTimes } from "./format.js";
import { t, tn } from "./i18n.js";
import { bind } from "./keys.js";
import { ask, codeLine, failure, say, showWhy, toast } from "./notify.js";

const page = /** @type {HTMLElement} */ ($("[data-table]"));
const BULK = ["start", "shutdown", "reboot", "suspend", "resume", "force-off"];
// Without a bin there is no way back: then each is deleted on its own page, by its name.
if ("bin" in page.dataset) BULK.push("delete");
const list = () => /** @type {HTMLElement} */ ($("#list"));
/** @returns {HTMLElement[]} */
const rows = () => $$("tr[data-vm]:not(.gone)", list());
const chosen = () => rows().filter((row) => row.dataset.sel === "true");
const total = () => Number($("[data-total]", list())?.dataset.total ?? rows().length);
/** @typedef {{ vm: string, name: string, allowed: boolean, reason: string, code?: string }} PlanItem one guest of a dry run */
/** The id of the row under the cursor: rows are replaced all the time, ids stay. */
let current = "";
let anchor = -1;
/** The whole filter is meant, also what is on other pages. */
let everything = false;

/* ---- what the server lists ---- */
/** @type {AbortController | null} */
let asking = null;
/**
 * Fetches the list for an address and puts it in place; the newest request wins.
 * @param {string} url
 * @param {{ push?: boolean }} [options]
 */
async function load(url, { push = true } = {}) {
  asking?.abort();
  asking = new AbortController();
  const late = setTimeout(() => list().setAttribute("aria-busy", "true"), 400);
  try {
    const text = await part(url, { signal: asking.signal });
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("list");
    if (!fresh) throw new Error(t("This part could not be read"));
    const keep = new Set(chosen().map((row) => row.id));
    const inside = list().contains(document.activeElement);
    list().replaceWith(fresh);
    /** @type {any} */ (globalThis).htmx?.process(fresh);
    for (const row of rows()) if (keep.has(row.id)) select(row, true);
    if (push) history.pushState(null, "", url);
    showWhatIsListed();
    everything = false;
    refreshTimes(fresh);
    mark();
    if (inside) move(0);
    bulk();
    say(tn("%(n)s guest", "%(n)s guests", total()));
    document.dispatchEvent(new CustomEvent("vmm:region"));
  } catch (error) {
    failure(error);
  } finally {
    clearTimeout(late);
    list().removeAttribute("aria-busy");
  }
}

/** What stands beside the list says what the list now is: the number of guests, the chips of the filter, the grouping. */
function showWhatIsListed() {
  const said = /** @type {HTMLTemplateElement | null} */ ($("[data-shown-copy]", list()));
  if (said) $("[data-shown]", page)?.replaceChildren(said.content.cloneNode(true));
  const query = new URL(location.href).searchParams;
  if (filter && filter.query !== (query.get("q") ?? "")) filter.show(query.get("q") ?? "");
  $("[data-group]", page)?.setAttribute("aria-pressed", String(query.get("group") === "host"));
  const pill = $("[data-new-for]", page);
  if (pill) pill.hidden = true;
}

/** @param {Record<string, string>} changes "" takes a key away */
function address(changes) {
  const url = new URL(location.href);
  for (const [key, value] of Object.entries({ cursor: "", ...changes })) {
    if (value) url.searchParams.set(key, value);
    else url.searchParams.delete(key);
  }
  return url.pathname + (url.searchParams.size ? `?${url.searchParams}` : "");
}

const box = $("[data-search]", page);
const filter = box ? new Filter(box, (query) => load(address({ q: query, peek: "" }))) : null;
box?.addEventListener("vmm:leave", () => move(0));
addEventListener("popstate", () => location.reload());

page.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  const link = /** @type {HTMLAnchorElement | null} */ (target.closest("a[data-list]"));
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    load(link.pathname + link.search).then(() => document.getElementById(link.id)?.focus({ preventScroll: true }));
  }
  if (target.closest("[data-clear]")) filter?.set("");
  if (target.closest("[data-group]"))
    load(address({ group: new URL(location.href).searchParams.get("group") ? "" : "host" }));
  const more = /** @type {HTMLAnchorElement | null} */ (target.closest("a[data-more]"));
  if (more) {
    event.preventDefault();
    append(more);
  }
  if (target.closest("[data-new-for]")) {
    load(location.pathname + location.search, { push: false });
    /** @type {HTMLElement} */ (target.closest("[data-new-for]")).hidden = true;
  }
});

/** The next page under this one; find-in-page and screen readers keep working. @param {HTMLAnchorElement} more */
async function append(more) {
  more.setAttribute("aria-busy", "true");
  try {
    const text = await part(more.pathname + more.search);
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("list");
    const known = new Set($$("tr[id]", list()).map((row) => row.id));
    const body = $("tbody:last-of-type", list());
    const next = $$("tr[data-vm], tr.grp", fresh ?? document.createElement("div")).filter((row) => !known.has(row.id));
    body.append(...next);
    for (const row of next) /** @type {any} */ (globalThis).htmx?.process(row);
    const following = $("a[data-more]", fresh ?? document.createElement("div"));
    if (following) more.replaceWith(following);
    else more.remove();
    $("a.name", next[0] ?? body)?.focus({ preventScroll: true });
    refreshTimes(body);
    document.dispatchEvent(new CustomEvent("vmm:region"));
  } catch (error) {
    failure(error);
    more.removeAttribute("aria-busy");
  }
}

/* ---- selection and bulk ---- */
/**
 * @param {HTMLElement} row
 * @param {boolean} on
 */
function select(row, on) {
  row.dataset.sel = String(on);
  const check = $("input[type=checkbox]", row);
  if (check) check.checked = on;
}

/** @param {number} to @param {boolean} on */
function range(to, on) {
  const all = rows();
  const from = anchor < 0 ? to : anchor;
  for (let i = Math.min(from, to); i <= Math.max(from, to); i++) select(all[i], on);
}

const bar = $("[data-bulk]", page);
function bulk() {
  const many = chosen();
  if (!many.length) everything = false;
  if (!bar) return;
  bar.hidden = !many.length;
  document.body.classList.toggle("bulking", many.length > 0);
  if (!many.length) return;
  const count = everything ? total() : many.length;
  const buttons = BULK.map((name) => {
    const action = ACTIONS[name];
    const fit = many.filter((row) => (row.dataset.can ?? "").split(" ").includes(name)).length;
    if (name === "resume" && !fit) return "";
    const why = t("None of the %(n)s selected can do this now.", { n: many.length });
    return html`<button class="btn sm" type="button" data-do="${name}" ${fit || everything ? "" : html`aria-disabled="true" data-why="${why}"`}>${icon(action.icon)}${action.label}${fit && fit < many.length && !everything ? html`<small>${t("%(fit)s of %(all)s", { fit, all: many.length })}</small>` : ""}</button>`;
  });
  fill(
    bar,
    html`<b>${tn("%(n)s selected", "%(n)s selected", count)}</b>${!everything && many.length < total() ? html`<button class="link" type="button" data-every>${t("all %(n)s", { n: total() })}</button>` : ""}${buttons}<button class="btn ghost sm icon" type="button" data-none aria-label="${t("Clear selection")}" title="${t("Clear selection")}">${icon("x")}</button>`,
  );
}

bar?.addEventListener("click", (/** @type {MouseEvent} */ event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  if (!button) return;
  if ("every" in button.dataset) {
    for (const row of rows()) select(row, true);
    everything = rows().length < total();
    bulk();
  }
  if ("none" in button.dataset) clear();
  if (button.dataset.do && button.getAttribute("aria-disabled") !== "true") send(button.dataset.do);
});

function clear() {
  for (const row of rows()) select(row, false);
  everything = false;
  bulk();
  syncAll();
}

/**
 * A dry run first; when some are refused, or the action cannot be called back, a dialog lists who and why before anything is sent.
 * @param {string} name
 */
async function send(name) {
  const action = ACTIONS[name];
  const query = new URL(location.href).searchParams.get("q") ?? "";
  const who = everything ? { filter: query } : { ids: chosen().map((row) => row.dataset.vm) };
  const body = { action: name, ...who, params: {} };
  try {
    const plan = await api("POST", "/vms/bulk", { ...body, dry_run: true });
    /** @type {PlanItem[]} */
    const items = plan.items;
    const willing = items.filter((item) => item.allowed);
    const refused = items.filter((item) => !item.allowed);
    if (!willing.length) {
      toast(t("%(action)s: none of them can", { action: action.label }), {
        detail: refused[0]?.reason ?? "",
        kind: "warn",
      });
      return;
    }
    if (refused.length || action.ask || everything) {
      const yes = await ask({
        title: tn("%(action)s %(n)s guest?", "%(action)s %(n)s guests?", willing.length, { action: action.label }),
        text: action.ask
          ? action.ask("").text
          : t("Each guest is an operation of its own; one that fails does not stop the others."),
        action: action.label,
        danger: Boolean(action.ask),
        call: { method: "POST", path: "/vms/bulk", body },
        extra: refusals(refused),
      });
      if (!yes) return;
    }
    // Exactly those that the dry run allowed, also of a whole filter: what was shown is what is sent.
    const sent = { action: name, ids: willing.map((item) => item.vm), params: {} };
    const operation = await api("POST", "/vms/bulk", sent);
    toast(tn("%(action)s: %(n)s guest", "%(action)s: %(n)s guests", willing.length, { action: action.label }), {
      detail: t("Sent"),
      href: `/operations/${operation.id}`,
      ways: [{ label: t("Undo"), key: "u", run: () => undo(operation.id, name) }],
    });
    clear();
  } catch (error) {
    failure(error);
  }
}

/**
 * Cancels what has not begun; of deleted guests those that went meanwhile are had back.
 * @param {string} id of the operation
 * @param {string} name
 */
async function undo(id, name) {
  try {
    await api("POST", `/operations/${id}/cancel`).catch((error) => {
      if (name !== "delete") throw error; // all of them are in the bin already
    });
    if (name !== "delete") return;
    const whole = await api("GET", `/operations/${id}?wait=30`);
    /** @type {{ vm: string, state: string }[]} */
    const items = whole.result?.items ?? [];
    const ids = items.filter((item) => item.state === "succeeded").map((item) => item.vm);
    if (ids.length) await api("POST", "/vms/bulk", { action: "restore", ids });
    toast(tn("%(n)s guest is had back", "%(n)s guests are had back", ids.length), { seconds: 6 });
  } catch (error) {
    failure(error);
  }
}

/** Who is left out, by reason. @param {PlanItem[]} refused */
function refusals(refused) {
  /** @type {Map<string, string[]>} */
  const by = new Map();
  for (const item of refused) {
    // The same reason for many says each guest's own name: without it they are one line.
    const reason = item.reason.replaceAll(item.name, "…") || t("not possible now");
    by.set(reason, [...(by.get(reason) ?? []), item.name]);
  }
  return html`${[...by].map(
    ([reason, names]) =>
      html`<div class="note warn">${icon("warn")}<span class="grow"><b>${tn("%(n)s left out", "%(n)s left out", names.length)}</b>: ${reason}<small class="t3">${names.slice(0, 8).join(", ")}${names.length > 8 ? " …" : ""}</small></span></div>`,
  )}`;
}

function syncAll() {
  const all = $("[data-all]", list());
  if (!all) return;
  const many = chosen().length;
  all.checked = many > 0 && many === rows().length;
  all.indeterminate = many > 0 && many < rows().length;
}

page.addEventListener("click", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches("[data-all]")) {
    for (const row of rows()) select(row, /** @type {HTMLInputElement} */ (target).checked);
    bulk();
    return;
  }
  const row = /** @type {HTMLElement | null} */ (target.closest("tr[data-vm]"));
  if (!row) return;
  const at = rows().indexOf(row);
  if (target.matches("input[type=checkbox]")) {
    const on = /** @type {HTMLInputElement} */ (target).checked;
    if (event.shiftKey) range(at, on);
    select(row, on);
    anchor = at;
    current = row.id;
    mark();
    bulk();
    syncAll();
  } else if (target.closest("[data-more-row]")) {
    current = row.id;
    mark();
    peek(true);
  } else if (!target.closest("a, button, input")) {
    current = row.id;
    mark();
    if (peeking()) peek(true);
  }
});
page.addEventListener("dblclick", (event) => {
  const row = /** @type {HTMLElement} */ (event.target).closest("tr[data-vm]");
  if (row && !(/** @type {Element} */ (event.target).closest("a, button, input"))) $("a.name", row)?.click();
});

/* ---- the cursor and the keys ---- */
const here = () => rows().find((row) => row.id === current);
/** @param {boolean} [focus] */
function mark(focus = false) {
  for (const row of $$("tr.cur", list())) row.classList.remove("cur");
  const row = here();
  if (!row) return;
  row.classList.add("cur");
  if (!focus) return;
  $("a.name", row)?.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}
/** @param {number} by */
function move(by) {
  const all = rows();
  const from = all.findIndex((row) => row.id === current);
  const to = all[Math.max(0, Math.min(all.length - 1, from < 0 ? 0 : from + by))];
  if (!to) return;
  current = to.id;
  mark(true);
  if (peeking()) peek(true);
}
/** @param {(row: HTMLElement) => unknown} fn */
const onRow = (fn) => () => {
  const row = here();
  return row ? fn(row) : false;
};

bind(t("In a list"), [
  {
    keys: "n",
    does: t("New guest"),
    run: () => {
      const link = $("[data-new-guest]");
      if (!link) return false;
      link.click();
      return true;
    },
  },
  { keys: "j / ↓", does: t("Down"), run: (e) => (e.key === "j" || inList(e) ? move(1) : false) },
  { keys: "k / ↑", does: t("Up"), run: (e) => (e.key === "k" || inList(e) ? move(-1) : false) },
  {
    keys: "x",
    does: t("Select"),
    run: onRow((row) => {
      select(row, row.dataset.sel !== "true");
      anchor = rows().indexOf(row);
      bulk();
      syncAll();
    }),
  },
  {
    keys: "Shift X",
    does: t("Select to here"),
    run: onRow((row) => {
      range(rows().indexOf(row), true);
      bulk();
      syncAll();
    }),
  },
  {
    keys: "Enter",
    does: t("Open"),
    run: (e) =>
      e.target === document.body || e.target === $("#main") ? onRow((row) => $("a.name", row)?.click())() : false,
  },
  { keys: "p", does: t("Peek beside the list"), run: () => peek(!peeking()) },
  {
    keys: "s",
    does: t("Start, or shut down"),
    run: onRow((row) => {
      const button = $("[data-primary]", row);
      if (button?.dataset.why) showWhy(button);
      else if (button) act(button.dataset.action, guestOf(button));
    }),
  },
  {
    keys: "c",
    does: t("Console"),
    run: onRow((row) => {
      const button = $("[data-console]", row);
      if (button?.dataset.why) showWhy(button);
      else openConsole(guestOf(row));
    }),
  },
  { keys: ".", does: t("All actions of the row"), run: onRow(() => peek(true)) },
  {
    keys: "Esc",
    does: t("Clear the selection"),
    run: () => {
      if (chosen().length) clear();
      else if (peeking()) peek(false);
      else return false;
    },
  },
  { keys: "r", does: t("Show what is new"), run: () => load(location.pathname + location.search, { push: false }) },
]);
/** @param {KeyboardEvent} event */
const inList = (event) =>
  Boolean(/** @type {Element} */ (event.target).closest?.("#list")) || event.target === document.body;

/* ---- peek: the guest beside the list, so that looking does not mean leaving ---- */
const frame = $("[data-withpeek]", page);
const pane = $("[data-peek]", page);
const peeking = () => Boolean(pane && !pane.hidden);
let peeked = "";

/** @param {boolean} on */
async function peek(on) {
  if (!pane) return;
  if (on && !here()) current = rows()[0]?.id ?? "";
  mark();
  const row = here();
  pane.hidden = !on || !row;
  frame.classList.toggle("open", !pane.hidden);
  const id = row?.dataset.vm ?? "";
  history.replaceState(
    null,
    "",
    address({ peek: pane.hidden ? "" : id, cursor: new URL(location.href).searchParams.get("cursor") ?? "" }),
  );
  if (pane.hidden || !row) {
    peeked = "";
    $("[data-peek-toggle]", page)?.setAttribute("aria-expanded", "false");
    return;
  }
  if (peeked !== id)
    fill(
      pane,
      html`<header><h2 class="trunc">${row.dataset.name}</h2></header><p class="pad t3">${t("Reading …")}</p>`,
    );
  peeked = id;
  try {
    const text = await part(`/vms/${id}/peek`);
    if (peeked !== id) return; // the cursor went on meanwhile
    pane.innerHTML = text;
    $("[data-peek-toggle]", page)?.setAttribute("aria-expanded", "true");
    refreshTimes(pane);
    document.dispatchEvent(new CustomEvent("vmm:region"));
  } catch (error) {
    failure(error);
  }
}
pane?.addEventListener("click", (/** @type {MouseEvent} */ event) => {
  if (!(/** @type {Element} */ (event.target).closest("[data-peek-close]"))) return;
  peek(false);
  mark(true);
});
// A screen that cannot be had now leaves no broken picture.
pane?.addEventListener(
  "error",
  (/** @type {Event} */ event) => event.target instanceof HTMLImageElement && event.target.remove(),
  true,
);
$("[data-peek-toggle]", page)?.addEventListener("click", () => peek(!peeking()));

document.addEventListener("vmm:row", (event) => {
  const row = /** @type {HTMLElement} */ (/** @type {CustomEvent} */ (event).detail);
  if (row.dataset.vm === peeked && peeking()) peek(true);
  bulk();
});
document.addEventListener("vmm:refetched", () => {
  mark();
  bulk();
  syncAll();
});

/** The view as a call: what the API answers for the same filter. */
$("[data-as-curl]", page)?.addEventListener("click", () => {
  const q = new URL(location.href).searchParams.get("q");
  ask({
    title: t("This list as a call"),
    text: t("The same filter, sorting and paging, for programs."),
    action: t("Close"),
    extra: codeLine(
      `curl -H "Authorization: Bearer $VMM_TOKEN" "${location.origin}/api/v1/vms${q ? `?q=${encodeURIComponent(q)}` : ""}"`,
    ),
  });
});

const wanted = new URL(location.href).searchParams.get("peek");
if (wanted && document.getElementById(`vm-${wanted}`)) {
  current = `vm-${wanted}`;
  peek(true);
}
bulk();
