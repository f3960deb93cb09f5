// @ts-check
/**
 * The definition's page. What is written is checked by the host before it is saved, with the difference before the eyes; whoever
 * was quicker is shown instead of overwritten; every definition that was can be looked at, compared and brought back.
 */
import { ApiError, api, text } from "./api.js";
import { amount, differenceTable } from "./diff.js";
import { $, $$, debounce, fill, html, icon } from "./dom.js";
import { t, tn } from "./i18n.js";
import { bind } from "./keys.js";
import { onEvent } from "./live.js";
import { ask, failure, say, toast } from "./notify.js";

const box = /** @type {HTMLElement} */ ($("[data-xml]"));
const path = box?.dataset.xml ?? "";
const fixed = box !== null && "fixed" in box.dataset;
const area = /** @type {HTMLTextAreaElement} */ ($("textarea", box ?? document));
const gutter = /** @type {HTMLElement} */ ($(".gutter", box ?? document));
const found = /** @type {HTMLElement} */ ($("[data-xml-found]"));
const shown = /** @type {HTMLElement} */ ($("[data-revision-shown]"));
const [, , vm] = path.split("/");
const object = `vm/${vm}`;
const INDENT = "  ";

/** What the host had when it was read, and the tag of that. */
let base = { text: "", etag: "" };
/** The text that was last checked, and what was found; nothing while it was changed since. @type {{ text: string, result: any } | null} */
let checked = null;
/** Lines that something is wrong with. @type {Set<number>} */
let wrong = new Set();
let saving = false;

const dirty = () => area.value !== base.text;

/* ---- the editor ---- */
function drawGutter() {
  const lines = area.value.split("\n").length;
  const parts = [];
  for (let n = 1; n <= lines; n++) parts.push(wrong.has(n) ? html`<b>${n}</b>\n` : html`${n}\n`);
  fill(gutter, html`${parts}`);
  gutter.scrollTop = area.scrollTop;
}

/** Where the caret is, how much there is, and whether it is what the host has. */
function drawPlace() {
  const before = area.value.slice(0, area.selectionStart).split("\n");
  const place = t("Line %(line)s, column %(column)s", {
    line: before.length,
    column: (before.at(-1)?.length ?? 0) + 1,
  });
  $("[data-xml-place]", box).textContent = dirty() ? t("%(place)s · changed, not saved", { place }) : place;
  const undo = $("[data-xml-undo]", box);
  if (undo) undo.disabled = !dirty();
}

let lines = 0;
function changed() {
  const now = area.value.split("\n").length;
  if (now !== lines || wrong.size) {
    lines = now;
    wrong = new Set();
    drawGutter();
  }
  drawPlace();
  if (checked?.text !== area.value && $("[data-check]", found)) {
    checked = null;
    outdated();
  }
}

/** What was found is about another text than there is now. */
function outdated() {
  $("[data-xml-check]", box)?.classList.add("primary");
  if (!dirty()) {
    fill(found, html``);
    return;
  }
  const verdict = $("[data-check] .state", found);
  if (verdict) {
    verdict.className = "state off";
    fill(verdict, html`${t("Changed since: validate again")}`);
  }
  $("[data-xml-form]", found)?.remove();
}

/** @param {string} value */
function put(value) {
  area.value = value;
  area.setSelectionRange(0, 0);
  area.scrollTop = 0;
  lines = 0;
  changed();
  drawGutter();
}

/** Replaces the selection as if it was typed, so that the browser's undo knows it. @param {string} value */
function type(value) {
  if (!document.execCommand("insertText", false, value))
    area.setRangeText(value, area.selectionStart, area.selectionEnd, "end");
  changed();
}

/** @param {boolean} back */
function indent(back) {
  const { value, selectionStart: from, selectionEnd: to } = area;
  const first = value.lastIndexOf("\n", from - 1) + 1;
  if (!back && !value.slice(from, to).includes("\n")) return type(INDENT);
  const marked = value.slice(first, to);
  const moved = marked
    .split("\n")
    .map((line) => (back ? line.replace(/^ {1,2}|^\t/, "") : line && INDENT + line))
    .join("\n");
  area.setSelectionRange(first, to);
  type(moved);
  area.setSelectionRange(first, first + moved.length);
}

/** @param {number} line */
function jump(line) {
  const rows = area.value.split("\n");
  const start = rows.slice(0, line - 1).reduce((sum, row) => sum + row.length + 1, 0);
  area.focus({ preventScroll: true });
  area.setSelectionRange(start, start + (rows[line - 1]?.length ?? 0));
  const height = Number.parseFloat(getComputedStyle(area).lineHeight) || 18;
  area.scrollTop = Math.max(0, (line - 5) * height);
  area.scrollIntoView({ block: "nearest" });
  drawPlace();
}

let leaving = false;
/** @param {KeyboardEvent} event */
function keys(event) {
  const send = (event.ctrlKey || event.metaKey) && (event.key === "Enter" || event.key === "s");
  if (send && !fixed) {
    event.preventDefault();
    validate();
  } else if (event.key === "Escape") {
    leaving = true;
  } else if (event.key === "Tab" && !fixed && !leaving && !event.ctrlKey && !event.altKey) {
    event.preventDefault();
    indent(event.shiftKey);
  } else if (event.key !== "Shift") {
    leaving = false;
  }
}

/* ---- reading ---- */
async function read() {
  const state = $("[data-xml-state]", box);
  const parts = $$(".editor, .xmlbar", box);
  state.hidden = false;
  state.textContent = t("Reading …");
  try {
    base = await text(path);
    state.hidden = true;
    for (const part of parts) part.hidden = false;
    $("[data-xml-news]", box).hidden = true;
    put(base.text);
    return true;
  } catch (error) {
    for (const part of parts) part.hidden = true;
    state.textContent = error instanceof Error ? error.message : String(error);
    return false;
  }
}

async function readAgain() {
  if (dirty()) {
    const yes = await ask({
      title: t("Read the definition again?"),
      text: t("What you changed and did not save is lost."),
      action: t("Read again"),
      danger: true,
    });
    if (!yes) return;
  }
  fill(found, html``);
  checked = null;
  if (await read()) say(t("Read again"));
}

/* ---- checking ---- */
/** @param {HTMLElement} button @param {boolean} on */
function busy(button, on) {
  if (on) button?.setAttribute("aria-busy", "true");
  else button?.removeAttribute("aria-busy");
}

async function validate() {
  const button = $("[data-xml-check]", box);
  if (!button || button.getAttribute("aria-busy") === "true") return;
  const value = area.value;
  busy(button, true);
  try {
    const result = await api("PUT", `${path}?dry_run=true`, value, { type: "application/xml", ifMatch: base.etag });
    checked = { text: value, result };
    drawCheck(result);
    if (value !== area.value) changed();
  } catch (error) {
    if (error instanceof ApiError && error.code === "stale") conflict(error.problem.context ?? {});
    else failure(error, { title: t("It could not be checked") });
  } finally {
    busy(button, false);
  }
}

/** @param {{ line: number | null, detail: string, fatal: boolean }} one */
const problem = (one) =>
  html`<li class="${one.fatal ? "crit" : "info"}">${icon(one.fatal ? "warn" : "info", "i fg")}${
    one.line
      ? html`<button class="link" type="button" data-jump="${one.line}">${t("Line %(line)s", { line: one.line })}</button>`
      : ""
  }<span class="grow">${one.detail}${one.fatal ? "" : html` <span class="t3">${t("Worth knowing; the host decides.")}</span>`}</span></li>`;

/** @param {any} result */
function drawCheck(result) {
  const faults = result.problems.filter((/** @type {any} */ one) => one.fatal);
  const same = !result.added && !result.removed;
  const verdict = result.valid
    ? t("Valid")
    : tn("%(n)s fault: it would be refused", "%(n)s faults: it would be refused", faults.length);
  const effect =
    result.takes_effect === "now"
      ? t("It takes effect at once: the guest is off.")
      : t("It takes effect when the guest is next started from off. Until then it runs on as it is.");
  wrong = new Set(faults.map((/** @type {any} */ one) => one.line).filter(Boolean));
  drawGutter();
  fill(
    found,
    html`<section class="card" data-check aria-labelledby="check-h">
      <header><h2 id="check-h" tabindex="-1">${t("Before it is saved")}</h2>
        <span class="state ${result.valid ? "ok" : "crit"}">${icon(result.valid ? "s-succeeded" : "s-failed", "g")}${verdict}</span>
        <span class="sub push">${same ? "" : amount(result)}</span></header>
      ${result.problems.length ? html`<ul class="rows problems">${result.problems.map(problem)}</ul>` : ""}
      ${same ? html`<p class="pad t3">${t("It is what the host has already: there is nothing to save.")}</p>` : html`<p class="pad t2">${effect}</p>${differenceTable(result, t("From what the host has to what you wrote"))}`}
      ${
        result.valid && !same
          ? html`<form class="xmlbar" data-xml-form><div class="field grow"><label for="xml-why">${t("Why (kept with the revision)")}</label>
            <input class="input" id="xml-why" name="comment" maxlength="500" autocomplete="off"></div>
            <button class="btn primary" type="submit" data-xml-save>${t("Save")}</button></form>`
          : ""
      }</section>`,
  );
  // One main button on a page: the next step.
  $("[data-xml-check]", box).classList.toggle("primary", !result.valid || same);
  const first = faults[0];
  say(
    first
      ? `${verdict}. ${first.line ? t("Line %(line)s", { line: first.line }) : ""} ${first.detail}`
      : `${verdict}. ${same ? "" : amount(result)}`,
  );
  $("#check-h", found).scrollIntoView({ block: "nearest" });
}

/* ---- saving ---- */
async function save() {
  const button = $("[data-xml-save]", found);
  if (!checked || checked.text !== area.value || button?.getAttribute("aria-busy") === "true") return;
  const why = $("#xml-why", found)?.value ?? "";
  const query = why ? `?comment=${encodeURIComponent(why)}` : "";
  await carryOut(button, t("Change definition"), () =>
    api("PUT", `${path}${query}`, area.value, { type: "application/xml", ifMatch: base.etag, prefer: "wait=20" }),
  );
}

/**
 * One operation that changes the definition: waited for, and then what it has become is read.
 * @param {HTMLElement | null} button
 * @param {string} title
 * @param {() => Promise<any>} call
 */
async function carryOut(button, title, call) {
  if (button) busy(button, true);
  saving = true;
  try {
    let operation = await call();
    while (["queued", "running"].includes(operation.state))
      operation = await api("GET", `/operations/${operation.id}?wait=30`);
    if (operation.state !== "succeeded")
      throw new ApiError({ ...operation.error, detail: operation.error?.detail ?? operation.message });
    fill(found, html``);
    checked = null;
    $("[data-xml-check]", box).classList.add("primary");
    await read();
    const later = operation.result?.takes_effect === "next_start";
    toast(t("Saved"), {
      detail: later ? t("It takes effect when the guest is next started from off.") : "",
      href: `/operations/${operation.id}`,
      seconds: 6,
    });
  } catch (error) {
    if (error instanceof ApiError && error.code === "stale") await lookAtTheirs(error);
    else failure(error, { title: t("%(what)s failed", { what: title }) });
  } finally {
    saving = false;
    if (button) busy(button, false);
  }
}

/* ---- somebody else was quicker ---- */
/** The worker found it, or the server: the difference comes with the server's refusal. @param {ApiError} error */
async function lookAtTheirs(error) {
  if (error.problem.context?.etag) conflict(error.problem.context);
  else if (dirty()) await validate();
  else {
    failure(error, { title: t("Nothing was changed") });
    await read();
  }
}

/** @param {{ diff?: string, diff_cut?: boolean, changed?: string }} context of the refusal */
function conflict(context) {
  const theirs = context.changed
    ? html`<h3 class="pad">${t("What was changed meanwhile")}</h3>${differenceTable({ diff: context.changed }, t("What was changed meanwhile"))}`
    : "";
  fill(
    found,
    html`<section class="card" data-conflict aria-labelledby="conflict-h">
      <header><h2 id="conflict-h" tabindex="-1">${t("The definition changed since you read it")}</h2></header>
      <p class="pad t2">${t("Nothing was saved. Your text is still in the editor.")}</p>${theirs}
      <h3 class="pad">${t("From what the host has now to what you wrote")}</h3>
      ${differenceTable({ diff: context.diff ?? "", diff_cut: context.diff_cut }, t("From what the host has now to what you wrote"))}
      <div class="xmlbar"><span class="actions push">
        <button class="btn" type="button" data-take="theirs">${t("Take theirs into the editor")}</button>
        <button class="btn" type="button" data-take="mine">${t("Go on with mine, over theirs")}</button></span></div></section>`,
  );
  $("[data-xml-news]", box).hidden = true;
  $("#conflict-h", found).focus({ preventScroll: true });
  $("#conflict-h", found).scrollIntoView({ block: "nearest" });
  say(t("The definition changed since you read it"));
}

/** @param {string} whose */
async function take(whose) {
  const mine = area.value;
  fill(found, html``);
  checked = null;
  if (!(await read())) return;
  if (whose === "mine") {
    put(mine);
    await validate();
    return;
  }
  toast(t("This is theirs"), { seconds: 20, ways: [{ label: t("Bring mine back"), run: () => put(mine) }] });
}

onEvent((event) => {
  if (`${event.object?.type}/${event.object?.id}` !== object || saving) return;
  const touched =
    event.type === "vm.definition_changed" || (event.type === "vm.changed" && event.data?.changed?.definition);
  if (!touched) return;
  if (!dirty()) {
    refresh();
    return;
  }
  const news = $("[data-xml-news]", box);
  $("[data-text]", news).textContent = event.actor
    ? t("%(who)s changed the definition while you edit it.", { who: event.actor })
    : t("The definition was changed outside while you edit it.");
  news.hidden = false;
  say($("[data-text]", news).textContent);
});
const refresh = debounce(() => {
  if (!dirty() && !saving) read();
}, 300);

/* ---- revisions ---- */
const numbers = () => $$("[data-revision]").map((row) => Number(row.dataset.revision));

/** @param {number} number @param {string} [against] */
async function showRevision(number, against = "") {
  try {
    const one = await api(
      "GET",
      `${path.replace(/xml$/, "revisions")}/${number}${against ? `?against=${against}` : ""}`,
    );
    drawRevision(one);
  } catch (error) {
    failure(error);
  }
}

/** @param {any} one */
function drawRevision(one) {
  const others = numbers().filter((n) => n !== one.number);
  const restorable = !fixed && numbers()[0] !== one.number;
  fill(
    shown,
    html`<section class="card" data-number="${one.number}" aria-labelledby="revision-h">
      <header><h2 id="revision-h" tabindex="-1">${t("Revision %(number)s", { number: one.number })}</h2>
        ${
          others.length
            ? html`<label class="sub" for="revision-against">${t("compared with")}</label>
              <select class="input auto" id="revision-against">${others.map((n) => html`<option value="${n}" ${n === one.against ? html`selected` : ""}>${n}</option>`)}</select>`
            : ""
        }
        <span class="actions push">${fixed ? "" : html`<button class="btn sm" type="button" data-revision-edit>${t("Put into the editor")}</button>`}
        ${restorable ? html`<button class="btn sm" type="button" data-revision-restore="${one.number}">${t("Restore")}</button>` : ""}
        <button class="btn ghost icon" type="button" data-revision-close aria-label="${t("Close")}">${icon("x")}</button></span></header>
      ${
        one.against === null
          ? html`<pre class="code" tabindex="0" role="region" aria-label="XML">${one.xml}</pre>`
          : differenceTable(one, t("From revision %(from)s to revision %(to)s", { from: one.against, to: one.number }))
      }</section>`,
  );
  /** @type {any} */ (shown).xml = one.xml;
  $("#revision-h", shown).focus({ preventScroll: true });
  $("#revision-h", shown).scrollIntoView({ block: "nearest" });
}

/** @param {HTMLElement} button */
async function restore(button) {
  const number = button.dataset.revisionRestore;
  const target = `${path.replace(/xml$/, "revisions")}/${number}/restore`;
  const lost = dirty() ? ` ${t("What you changed in the editor and did not save is lost.")}` : "";
  busy(button, true);
  const would = await api("GET", `${path.replace(/xml$/, "revisions")}/${number}?against=${numbers()[0]}`).catch(
    failure,
  );
  busy(button, false);
  if (!would?.xml) return;
  if (!would.diff) {
    toast(t("The definition is that already"), { seconds: 4 });
    return;
  }
  const data = await ask({
    title: t("Restore revision %(number)s?", { number }),
    text:
      t("The definition becomes what it was then; what it is now is kept as a revision. Console passwords stay.") +
      lost,
    action: t("Restore"),
    call: { method: "POST", path: target },
    extra: html`${differenceTable(would, t("What it would change"))}<div class="field"><label for="restore-why">${t("Why (kept with the revision)")}</label><input class="input" id="restore-why" name="comment" maxlength="500" autocomplete="off"></div>`,
  });
  if (!data) return;
  const why = String(data.get("comment") ?? "");
  put(base.text);
  await carryOut(button, t("Restore"), () =>
    api("POST", target + (why ? `?comment=${encodeURIComponent(why)}` : ""), undefined, {
      ifMatch: base.etag,
      prefer: "wait=20",
    }),
  );
}

/* ---- what is pressed ---- */
/** @type {Record<string, (button: HTMLElement) => unknown>} */
const PRESSED = {
  "[data-xml-again]": readAgain,
  "[data-xml-check], [data-xml-look]": validate,
  "[data-xml-undo]": () => put(base.text),
  "[data-jump]": (button) => jump(Number(button.dataset.jump)),
  "[data-take]": (button) => take(button.dataset.take ?? ""),
  "[data-revision-show]": (button) => showRevision(Number(button.dataset.revisionShow)),
  "[data-revision-restore]": restore,
  "[data-revision-close]": () => fill(shown, html``),
  "[data-revision-edit]": () => {
    put(/** @type {any} */ (shown).xml);
    area.focus();
    area.scrollIntoView({ block: "nearest" });
  },
};

if (box) {
  area.addEventListener("input", changed);
  area.addEventListener("keydown", keys);
  area.addEventListener("scroll", () => {
    gutter.scrollTop = area.scrollTop;
  });
  document.addEventListener("selectionchange", () => {
    if (document.activeElement === area) drawPlace();
  });
  document.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    for (const [selector, run] of Object.entries(PRESSED)) {
      const button = /** @type {HTMLElement | null} */ (target.closest(selector));
      if (button) run(button);
    }
  });
  found.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  shown.addEventListener("change", (event) => {
    const select = /** @type {HTMLSelectElement} */ (event.target);
    if (select.id === "revision-against") showRevision(Number($("[data-number]", shown).dataset.number), select.value);
  });
  addEventListener("beforeunload", (event) => {
    if (dirty()) event.preventDefault();
  });
  if (!fixed)
    bind(t("In the definition"), [
      { keys: "Ctrl Enter", does: t("Validate") },
      { keys: "Esc Tab", does: t("Leave the editor") },
    ]);
  read();
}
