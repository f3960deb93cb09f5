// @ts-check
/**
 * Ctrl K: jumps to any guest, host or page, runs actions (a verb first: "start web"), and shows the API call of what is
 * marked. Loaded at its first use. `/palette.json?q=` gives `{"items": [{kind, id, name, state, sub, url, actions}], "complete"}`;
 * while it is complete the browser matches by itself, beyond that the server is asked as one types.
 */
import { ACTIONS, act, actionPath, openConsole } from "./actions.js";
import { curl, json } from "./api.js";
import { $, $$, copy, debounce, fill, html, icon, make } from "./dom.js";
import { t } from "./i18n.js";
import { showKeys } from "./keys.js";
import { say, toast } from "./notify.js";

/**
 * @typedef {{ kind: string, id: string, name: string, state: string, sub?: string, url: string, also?: string,
 *   actions?: Record<string, { allowed: boolean, reason?: string }> }} Item `also`: other words it is found by (addresses, UUID, MAC)
 * @typedef {import("./dom.js").Markup} Markup
 * @typedef {{ group: string, score: number, icon: Markup, text: Markup, right: string | Markup, dead?: string, call: string, run: () => unknown }} Entry
 */

const PAGES = [
  { name: t("Overview"), url: "/", icon: "overview", keys: "g o" },
  { name: t("Guests"), url: "/vms", icon: "guests", keys: "g v" },
  { name: t("Hosts"), url: "/hosts", icon: "hosts", keys: "g h" },
  { name: t("Storage"), url: "/storage", icon: "storage", keys: "g p" },
  { name: t("Networks"), url: "/networks", icon: "network", keys: "g n" },
  { name: t("Images"), url: "/images", icon: "image", keys: "g i" },
  { name: t("Topology"), url: "/topology", icon: "topology", keys: "g y" },
  { name: t("Snapshot schedules"), url: "/snapshot-schedules", icon: "clock", keys: "g t" },
  { name: t("Templates"), url: "/templates", icon: "clone", keys: "g m" },
  { name: t("Operations"), url: "/operations", icon: "ops", keys: "g j" },
  { name: t("Events"), url: "/events", icon: "events", keys: "g e" },
  { name: t("Architecture"), url: "/architecture", icon: "overview", keys: "g a" },
  { name: t("Capabilities"), url: "/capabilities", icon: "matrix", keys: "g c" },
  { name: t("Which is best?"), url: "/advise", icon: "search", keys: "g b" },
  { name: t("Settings"), url: "/settings", icon: "settings", keys: "g s" },
  { name: t("New guest"), url: "/vms/new", icon: "plus", keys: "" },
  { name: t("Add host"), url: "/hosts/new", icon: "plus", keys: "" },
  { name: t("New pool"), url: "/storage/new", icon: "plus", keys: "" },
];
const VIEWS = [
  { name: t("Guests that need a look"), url: "/vms?q=is:attention" },
  { name: t("Guests above 80 % CPU"), url: "/vms?q=cpu:>80" },
  { name: t("Failed operations"), url: "/operations?state=failed" },
  { name: t("Pools that are full"), url: "/storage?q=is:full" },
  { name: t("Pools that will be full soon"), url: "/storage?q=is:filling" },
];
/** Words of people → action. The first is shown. */
const VERBS = [
  ...Object.entries(ACTIONS)
    .filter(([name]) => !["autostart", "delete", "restore"].includes(name))
    .map(([name, action]) => ({
      name,
      label: action.label,
      icon: action.icon,
      words: [name, action.label.toLowerCase()],
    })),
  {
    name: "snapshot",
    label: t("Take snapshot of"),
    icon: "camera",
    words: ["snapshot", t("Take snapshot of").toLowerCase()],
  },
  { name: "console", label: t("Console of"), icon: "console", words: ["console", t("Console of").toLowerCase()] },
];
/** Kinds of things that are found: the group that they stand in, their icon, their path in the API, what they yield to others. */
const KINDS = /** @type {Record<string, { group: string, icon: string, path: string, behind: number }>} */ ({
  vm: { group: t("Guests"), icon: "guests", path: "/vms", behind: 0 },
  host: { group: t("Hosts"), icon: "hosts", path: "/hosts", behind: 1 },
  pool: { group: t("Storage"), icon: "storage", path: "/storage-pools", behind: 2 },
  network: { group: t("Networks"), icon: "network", path: "/networks", behind: 3 },
  image: { group: t("Images"), icon: "image", path: "/images", behind: 4 },
});
const RECENT = "palette-recent";

/** @type {Item[]} */
let items = [];
let complete = false;
/** @type {AbortController | null} */
let asking = null;

/**
 * Letters in order; early, adjacent and word-start letters score more.
 * @param {string} query
 * @param {string} text
 * @returns {[number, Set<number>]}
 */
export function score(query, text) {
  if (!query) return [1, new Set()];
  const low = text.toLowerCase();
  const at = low.indexOf(query);
  if (at >= 0) {
    const hit = new Set([...query].map((_, i) => at + i));
    return [100 - at - (text.length - query.length) / 10 + (at === 0 ? 20 : 0), hit];
  }
  const hit = new Set();
  let sum = 0;
  let last = -2;
  let j = 0;
  for (let i = 0; i < low.length && j < query.length; i++) {
    if (low[i] !== query[j]) continue;
    sum += last === i - 1 ? 5 : /[^a-z0-9]/.test(low[i - 1] ?? "-") ? 4 : 1;
    hit.add(i);
    last = i;
    j++;
  }
  return j === query.length ? [sum, hit] : [0, new Set()];
}

/**
 * @param {string} text
 * @param {Set<number>} hit
 */
function lit(text, hit) {
  /** @type {Markup[]} */
  const out = [];
  let run = "";
  let on = false;
  const flush = () => {
    if (run) out.push(on ? html`<mark>${run}</mark>` : html`${run}`);
    run = "";
  };
  [...text].forEach((char, i) => {
    if (hit.has(i) !== on) {
      flush();
      on = hit.has(i);
    }
    run += char;
  });
  flush();
  return html`<span>${out}</span>`;
}

/** @param {Item} item */
const glyph = (item) =>
  item.state
    ? html`<span class="${item.state}">${icon(`s-${item.state}`, "g")}</span>`
    : icon((KINDS[item.kind] ?? KINDS.vm).icon);

/** @param {string} url */
const go = (url) => () => location.assign(url);

/** @param {Item} item */
function visit(item) {
  const recent = recents().filter((one) => one.url !== item.url);
  localStorage.setItem(
    RECENT,
    JSON.stringify([{ kind: item.kind, id: item.id, name: item.name, url: item.url }, ...recent].slice(0, 5)),
  );
  location.assign(item.url);
}
/** @returns {Item[]} */
function recents() {
  try {
    return JSON.parse(localStorage.getItem(RECENT) ?? "[]");
  } catch {
    return [];
  }
}

/**
 * @param {string} first
 * @param {string} tail
 * @returns {Entry[]}
 */
function actionEntries(first, tail) {
  const verbs = VERBS.filter(({ words }) => first && words.some((word) => word.startsWith(first)));
  if (!verbs.length || (!tail && first.length < 3)) return [];
  /** @type {Entry[]} */
  const out = [];
  for (const verb of verbs) {
    for (const item of items) {
      const allowed = item.actions?.[verb.name];
      if (!allowed) continue; // this driver never can: it is in the host's capabilities, with its reason
      const [n, hit] = score(tail, item.name);
      if (!n) continue;
      const guest = { id: item.id, name: item.name };
      out.push({
        group: t("Actions"),
        score: n + (allowed.allowed ? 130 : -60),
        icon: icon(verb.icon),
        text: html`<span>${verb.label} ${lit(item.name, hit)}</span>`,
        right: allowed.allowed ? (item.sub ?? "") : t("not now: %(reason)s", { reason: allowed.reason ?? "" }),
        dead: allowed.allowed ? undefined : (allowed.reason ?? ""),
        call: callOf(verb.name, item.id),
        run: () => runOf(verb.name, guest),
      });
    }
  }
  return out;
}

/** The same as curl. @param {string} verb @param {string} id */
function callOf(verb, id) {
  if (verb === "console") return curl("POST", `/vms/${id}/console`, { type: "serial" });
  if (verb === "snapshot") return curl("POST", `/vms/${id}/snapshots`, { name: "before the upgrade" });
  return curl("POST", actionPath(id, verb));
}

/** @param {string} verb @param {{ id: string, name: string }} guest */
function runOf(verb, guest) {
  if (verb === "console") return openConsole(guest);
  if (verb === "snapshot") return location.assign(`/vms/${guest.id}/snapshots#take`);
  return act(verb, guest);
}

/** @param {string} query @returns {Entry[]} */
function objectEntries(query) {
  /** @type {Entry[]} */
  const out = [];
  for (const item of items) {
    const [byName, hit] = score(query, item.name);
    const also = query.length > 2 && item.also?.toLowerCase().includes(query) ? 90 : 0;
    const n = Math.max(byName, also);
    if (!n) continue;
    const kind = KINDS[item.kind] ?? KINDS.vm;
    out.push({
      group: kind.group,
      score: n - kind.behind,
      icon: glyph(item),
      text: lit(item.name, also > byName ? new Set() : hit),
      right: [also > byName ? item.also?.split(" ").find((word) => word.toLowerCase().includes(query)) : "", item.sub]
        .filter(Boolean)
        .join(", "),
      call: curl("GET", `${kind.path}/${item.id}`),
      run: () => visit(item),
    });
  }
  return out;
}

/** @param {string} raw @returns {Entry[]} */
function find(raw) {
  const query = raw.trim().toLowerCase().replace(/\s+/g, " ");
  const [first, ...rest] = query.split(" ");
  /** @type {Entry[]} */
  const out = [];
  for (const page of PAGES) {
    const [n, hit] = score(query, page.name);
    if (!n) continue;
    const right = page.keys ? html`${page.keys.split(" ").map((k) => html`<kbd>${k}</kbd> `)}` : "";
    out.push({
      group: t("Go to"),
      score: n + (query ? 0 : 50),
      icon: icon(page.icon),
      text: lit(page.name, hit),
      right,
      call: "",
      run: go(page.url),
    });
  }
  const [keysScore, keysHit] = score(query, t("Keyboard map"));
  if (query && keysScore) {
    out.push({
      group: t("Go to"),
      score: keysScore - 5,
      icon: icon("keyboard"),
      text: lit(t("Keyboard map"), keysHit),
      right: html`<kbd>?</kbd>`,
      call: "",
      run: showKeys,
    });
  }
  if (query) out.push(...actionEntries(first, rest.join(" ")), ...twoWordVerbs(query), ...objectEntries(query));
  else {
    for (const item of recents()) {
      out.push({
        group: t("Recent"),
        score: 60,
        icon: glyph(items.find((one) => one.id === item.id) ?? item),
        text: html`<span>${item.name}</span>`,
        right: "",
        call: "",
        run: go(item.url),
      });
    }
  }
  for (const view of VIEWS) {
    const [n, hit] = score(query, view.name);
    if (n)
      out.push({
        group: t("Saved views"),
        score: query ? n - 10 : 40,
        icon: icon("search"),
        text: lit(view.name, hit),
        right: "",
        call: "",
        run: go(view.url),
      });
  }
  /** @type {Record<string, number>} */
  const best = {};
  for (const entry of out) best[entry.group] = Math.max(best[entry.group] ?? Number.NEGATIVE_INFINITY, entry.score);
  return Object.keys(best)
    .sort((a, b) => best[b] - best[a])
    .flatMap((group) =>
      out
        .filter((entry) => entry.group === group)
        .sort((a, b) => b.score - a.score)
        .slice(0, group === t("Go to") && !query ? 8 : 6),
    );
}

/** "shut down web", "force off web": verbs of two words. @param {string} query */
function twoWordVerbs(query) {
  const [a, b, ...rest] = query.split(" ");
  return b && VERBS.some(({ words }) => words.some((word) => word.includes(" ") && word.startsWith(`${a} ${b}`)))
    ? actionEntries(`${a} ${b}`, rest.join(" "))
    : [];
}

/* ---- the dialog ---- */
/** @type {any} */
let dialog;
/** @type {HTMLInputElement} */
let input;
/** @type {HTMLElement} */
let list;
/** @type {HTMLElement} */
let call;
/** @type {Entry[]} */
let entries = [];
let at = 0;

function draw() {
  entries = find(input.value);
  at = 0;
  let group = "";
  const lines = entries.map((entry, i) => {
    const head = entry.group === group ? "" : html`<li class="cat" role="presentation">${entry.group}</li>`;
    group = entry.group;
    return html`${head}<li class="opt" role="option" id="po-${i}" aria-selected="false" ${entry.dead === undefined ? "" : html`aria-disabled="true"`}>${entry.icon}${entry.text}<span class="r">${entry.right}</span></li>`;
  });
  const nothing = complete
    ? t('Nothing found. Try a name, an address, or a verb such as "start web".')
    : t("Reading …");
  fill(list, lines.length ? html`${lines}` : html`<li class="empty" role="presentation">${nothing}</li>`);
  mark();
}

function mark() {
  $$(".opt", list).forEach((option, i) => {
    option.setAttribute("aria-selected", String(i === at));
    if (i === at) option.scrollIntoView({ block: "nearest" });
  });
  if (entries.length) input.setAttribute("aria-activedescendant", `po-${at}`);
  else input.removeAttribute("aria-activedescendant");
  call.textContent = entries[at]?.call || " ";
}

function run() {
  const entry = entries[at];
  if (!entry) return;
  if (entry.dead !== undefined) {
    say(entry.dead);
    toast(t("Not possible now"), { detail: entry.dead, seconds: 6 });
    return;
  }
  dialog.close();
  entry.run();
}

/** @param {string} query */
async function read(query) {
  asking?.abort();
  asking = new AbortController();
  try {
    const answer = await json(`/palette.json${query ? `?q=${encodeURIComponent(query)}` : ""}`, {
      signal: asking.signal,
    });
    items = answer.items;
    complete = answer.complete ?? (!query && items.length < 2000);
    draw();
  } catch {
    if (asking.signal.aborted) return;
    complete = true;
    draw();
  }
}
const readLater = debounce(() => {
  if (!complete) read(input.value.trim());
}, 80);

function build() {
  dialog = make(html`<dialog class="dlg palette" aria-label="${t("Search or run a command")}">
    <label>${icon("search")}<span class="vh">${t("Search or run a command")}</span><input role="combobox" aria-expanded="true" aria-controls="po" aria-autocomplete="list" autocomplete="off" autocapitalize="none" spellcheck="false" placeholder="${t("Name, address, page, or: start web")}"></label>
    <ul role="listbox" id="po" aria-label="${t("Results")}"></ul>
    <footer><code tabindex="0"></code><span><kbd>↑</kbd> <kbd>↓</kbd> ${t("choose")}</span><span><kbd>Enter</kbd> ${t("run")}</span><span><kbd>Ctrl</kbd> <kbd>C</kbd> ${t("copy as curl")}</span><button class="btn ghost sm" type="button" data-close>${t("Close")}<kbd>Esc</kbd></button></footer></dialog>`);
  document.body.append(dialog);
  input = $("input", dialog);
  list = $("ul", dialog);
  call = $("footer code", dialog);
  input.addEventListener("input", () => {
    draw();
    readLater();
  });
  dialog.addEventListener("keydown", keys);
  list.addEventListener("click", (event) => {
    const option = /** @type {Element} */ (event.target).closest(".opt");
    if (!option) return;
    at = Number(option.id.slice(3));
    run();
  });
}

/** @param {KeyboardEvent} event */
async function keys(event) {
  const by = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1 })[event.key];
  if (by && entries.length) {
    event.preventDefault();
    at = (at + by + entries.length) % entries.length;
    mark();
  } else if (event.key === "Enter" && event.target === input) {
    event.preventDefault();
    run();
  } else if (
    event.ctrlKey &&
    event.key.toLowerCase() === "c" &&
    input.selectionStart === input.selectionEnd &&
    entries[at]?.call
  ) {
    event.preventDefault();
    const done = await copy(entries[at].call);
    toast(done ? t("Copied as curl") : t("The browser did not allow copying"), { seconds: 2 });
  }
}

/** @param {string} [text] what is in the field at first */
export function openPalette(text = "") {
  if (!dialog) build();
  if (!dialog.open) dialog.showModal();
  input.value = text;
  draw();
  input.focus();
  read(complete ? "" : text);
}
