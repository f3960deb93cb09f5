// @ts-check
/**
 * The form that leads to a hypervisor: kind, way, and only that way's fields, drawn from what `GET /api/v1/drivers` says (it stands
 * in the page as #dialog). The server makes the URI of the answers and names a bad one at its field; nothing is put together here.
 *
 * Markup: form[data-endpoint]; [data-kinds] with radios `kind`, [data-way-list], [data-fields], [data-uri-shown], [data-proof],
 * [data-warning]; for a saved one #present and [data-keep].
 */
import { ApiError, api } from "./api.js";
import { $, $$, fill, html, icon } from "./dom.js";
import { t } from "./i18n.js";
import { say } from "./notify.js";

/**
 * @typedef {{ name: string, label: string, hint: string, placeholder: string, required: boolean, multiline: boolean,
 *   secret: boolean, choices: string[] }} Field
 * @typedef {{ name: string, label: string, scheme: string, port: number | null, local: boolean, warning: string,
 *   fields: Field[] }} Way
 * @typedef {{ label: string, proof: string, ways: Way[] }} Kind
 * @typedef {{ uri: string, credentials: Record<string, unknown> }} Payload
 */

const PARTS = ["user", "host", "port", "path", "socket"];
const LENGTHS = /** @type {Record<string, number>} */ ({
  host: 253,
  user: 32,
  port: 5,
  uri: 1000,
  path: 800,
  socket: 107,
});

/** @param {string} id @returns {any} */
const data = (id) => JSON.parse(document.getElementById(id)?.textContent || "null");

/** @param {HTMLFormElement} form */
export function hostForm(form) {
  const dialog = /** @type {Record<string, Kind>} */ (data("dialog"));
  const present = /** @type {Record<string, string> | null} */ (data("present"));
  const fields = /** @type {HTMLElement} */ ($("[data-fields]", form));
  const shown = /** @type {HTMLElement} */ ($("[data-uri-shown]", form));
  /** What was typed, whichever way is chosen just now. @type {Record<string, string>} */
  const typed = present ? { ...present } : {};
  let uri = "";
  let named = false;
  /** @type {AbortController | undefined} */
  let asking;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  /** @param {string} name */
  const chosen = (name) => /** @type {any} */ (form.elements.namedItem(name))?.value ?? "";
  const kind = () => form.dataset.kind || chosen("kind");
  const ways = () => dialog[kind()]?.ways ?? [];
  const way = () => ways().find((one) => one.name === chosen("way")) ?? ways()[0];
  const keeps = () => chosen("keep") === "yes";
  const asked = () => (way()?.fields ?? []).filter((field) => !keeps() || PARTS.includes(field.name));

  /* ---- drawing ---- */
  function drawWays() {
    const list = /** @type {HTMLElement} */ ($("[data-way-list]", form));
    const before = chosen("way") || present?.way;
    const known = ways().some((one) => one.name === before);
    fill(
      list,
      html`${ways().map(
        (
          one,
          i,
        ) => html`<label class="pick"><input type="radio" name="way" value="${one.name}" ${(known ? one.name === before : i === 0) ? html`checked` : ""}>
          <b>${one.label}</b><small>${one.port ? t("port %(port)s", { port: one.port }) : one.local ? t("where vmmanager runs") : ""}</small></label>`,
      )}`,
    );
    /** @type {HTMLElement} */ ($("[data-ways]", form)).hidden = ways().length < 2;
    const proof = /** @type {HTMLElement} */ ($("[data-proof]", form));
    const words = dialog[kind()]?.proof ?? "";
    proof.hidden = !words;
    fill(proof, html`${icon("info")}<span class="grow">${words}</span>`);
    drawFields();
  }

  /** @param {Field} field */
  function drawField(field) {
    const id = `f-${field.name}`;
    if (field.choices.length) return drawVerify(field);
    const more = html`${field.required ? html`required` : ""} ${field.hint ? html`aria-describedby="${id}-h"` : ""}`;
    const value = typed[field.name] ?? "";
    const width = LENGTHS[field.name] ?? (field.multiline ? 32768 : 200);
    const input = field.multiline
      ? html`<textarea class="input mono" id="${id}" name="${field.name}" rows="3" maxlength="${width}" autocomplete="off" spellcheck="false" placeholder="${field.placeholder}" ${more}>${value}</textarea>`
      : html`<input class="input ${field.name === "uri" ? "mono" : ""}" id="${id}" name="${field.name}" maxlength="${width}" value="${value}" spellcheck="false" placeholder="${field.placeholder}"
          type="${field.secret ? "password" : "text"}" autocomplete="${field.secret ? "new-password" : "off"}" ${field.name === "port" ? html`inputmode="numeric" pattern="[0-9]{1,5}"` : ""} ${more}>`;
    return html`<div class="field"><label for="${id}">${field.label}${field.required ? "" : html` <span class="t3">${t("optional")}</span>`}</label>${input}${field.hint ? html`<span class="hint" id="${id}-h">${field.hint}</span>` : ""}</div>`;
  }

  /** @param {Field} field */
  function drawVerify(field) {
    const words = /** @type {Record<string, [string, string]>} */ ({
      check: [t("Check it"), t("authority and name must be right")],
      pin: [t("Believe one fingerprint"), t("exactly this certificate")],
      anybody: [t("Do not check"), t("anybody in between can read along")],
    });
    const now = field.choices.includes(typed.verify) ? typed.verify : field.choices[0];
    return html`<fieldset class="kinds"><legend class="lbl">${field.label}</legend>
      <div class="trio">${field.choices.map((choice) => html`<label class="pick"><input type="radio" name="verify" value="${choice}" ${choice === now ? html`checked` : ""}><b>${words[choice]?.[0]}</b><small>${words[choice]?.[1]}</small></label>`)}</div></fieldset>
      ${
        now === "pin"
          ? html`<div class="field"><label for="f-fingerprint">${t("SHA-256 fingerprint")}</label><input class="input mono" id="f-fingerprint" name="fingerprint" required maxlength="103" autocomplete="off" spellcheck="false" value="${typed.fingerprint ?? ""}" placeholder="AB:CD:…" aria-describedby="f-fingerprint-h"><span class="hint" id="f-fingerprint-h">${t("The host doctor shows it; compare it with what the host itself says.")}</span></div>`
          : ""
      }
      ${now === "anybody" ? html`<div class="note warn">${icon("warn")}<span class="grow">${t("The password goes to whoever answers at that address. Only for a first look in a network of your own.")}</span></div>` : ""}`;
  }

  function drawFields() {
    const now = way();
    const warning = /** @type {HTMLElement} */ ($("[data-warning]", form));
    warning.hidden = !now?.warning;
    /** @type {HTMLElement} */ ($("[data-warning-text]", form)).textContent = now?.warning ?? "";
    fill(fields, html`${asked().map(drawField)}`);
    showUri();
  }

  /* ---- the URI ---- */
  /** What the server makes of the answers. Rejects with ApiError that names the field. @param {AbortSignal} [signal] */
  async function compose(signal) {
    if (kind() === "uri") return (typed.uri ?? "").trim();
    // What is there stays as it is written, until somebody changes a part of it.
    if (present && way()?.name === present.way && PARTS.every((part) => (typed[part] ?? "") === (present[part] ?? "")))
      return present.uri ?? "";
    const query = new URLSearchParams({ way: way()?.name ?? "" });
    for (const field of way()?.fields ?? [])
      if (PARTS.includes(field.name) && typed[field.name]) query.set(field.name, typed[field.name]);
    const answer = await api("GET", `/drivers/${encodeURIComponent(kind())}/uri?${query}`, undefined, { signal });
    return String(answer.uri);
  }

  function showUri() {
    clearTimeout(timer);
    const missing = asked().some((field) => field.required && PARTS.includes(field.name) && !typed[field.name]?.trim());
    uri = "";
    shown.textContent = missing ? "…" : shown.textContent;
    if (missing) return;
    timer = setTimeout(async () => {
      asking?.abort();
      asking = new AbortController();
      try {
        uri = await compose(asking.signal);
        shown.textContent = uri || "…";
      } catch (error) {
        if (!(error instanceof ApiError)) return; // a later question took its place
        const detail = error.problem.errors?.[0]?.detail ?? error.message;
        shown.textContent = `… ${detail}`;
      }
    }, 150);
  }

  /* ---- what was typed ---- */
  function remember() {
    for (const field of $$("[data-fields] :is(input, textarea)", form)) {
      if (field.type !== "radio") typed[field.name] = field.value;
      else if (field.checked) typed[field.name] = field.value;
    }
  }

  /** A name to begin with: the first part of the address, until somebody types one. */
  function suggestName() {
    const name = /** @type {HTMLInputElement | null} */ (form.elements.namedItem("name"));
    const host = typed.host?.trim() ?? "";
    if (name && !named) name.value = /^[\d.:[\]]+$/.test(host) ? host : (host.split(".")[0] ?? "");
  }

  form.addEventListener("input", (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    if (field.name === "name") named = field.value !== "";
    if (field.matches("[data-kind-search]")) return search(field.value);
    remember();
    if (field.name === "host") suggestName();
    if (field.type !== "radio") return showUri();
    if (field.name === "kind") drawWays();
    else drawFields();
    // Drawn anew, the field that had the focus is another element.
    const again = $(`input[name="${field.name}"]:checked`, form);
    if (again && !again.contains(document.activeElement)) again.focus({ preventScroll: true });
  });

  /** Hides the kinds that the words do not fit. @param {string} words */
  function search(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const group of $$(".kindgroup", form)) {
      const of = group.dataset.words ?? "";
      const picks = $$(".pick", group);
      for (const pick of picks) {
        pick.hidden = !wanted.every((word) => `${of} ${pick.dataset.words}`.includes(word));
        if (!pick.hidden) count += 1;
      }
      group.hidden = picks.every((pick) => pick.hidden);
    }
    const none = /** @type {HTMLElement} */ ($("[data-kind-none]", form));
    none.hidden = count > 0;
    say(count ? t("%(n)s kinds", { n: count }) : (none.textContent ?? ""));
  }
  $("[data-kind-search]", form)?.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault(); // Enter chooses the first that is shown instead of testing
    const first = $(".kindgroup:not([hidden]) .pick:not([hidden]) input:not(:disabled)", form);
    if (!first) return;
    first.checked = true;
    first.dispatchEvent(new Event("input", { bubbles: true }));
    first.focus();
  });

  /** @returns {Record<string, unknown>} */
  function credentials() {
    /** @type {Record<string, unknown>} */
    const found = {};
    for (const field of asked()) {
      if (PARTS.includes(field.name) || field.name === "uri") continue;
      const value = typed[field.name] ?? "";
      if (!field.choices.length) {
        if (value) found[field.name] = value;
      } else if (value === "pin")
        found.verify = (typed.fingerprint ?? "").replace(/^sha-?256[:=\s]*/i, "").replace(/\s/g, "");
      else if (value === "anybody") found.verify = false;
    }
    return found;
  }

  drawWays();
  return {
    /** What goes to the server: never an empty secret. Rejects with ApiError. @returns {Promise<Payload>} */
    async payload() {
      remember();
      uri = await compose();
      shown.textContent = uri || "…";
      return { uri, credentials: credentials() };
    },
    /** Whether the saved credentials are to stay. */
    keeps,
    /** The URI as last shown. */
    uri: () => uri,
    /** Whether the chosen way can believe it. @param {{ credential: string }} offer */
    takes: (offer) =>
      asked().some(
        (field) => field.name === offer.credential && (!field.choices.length || field.choices.includes("pin")),
      ),
    /** Fills in what the doctor saw, and goes there. @param {{ credential: string, value: string }} offer */
    trust(offer) {
      remember();
      if (offer.credential === "verify") {
        typed.verify = "pin";
        typed.fingerprint = offer.value;
      } else typed[offer.credential] = offer.value;
      drawFields();
      $(`#f-${offer.credential === "verify" ? "fingerprint" : offer.credential}`, form)?.focus();
    },
  };
}
