// @ts-check
/** Dialogs of guests like other guests: a clone, a template. Loaded at their first use. */
import { api } from "./api.js";
import { html } from "./dom.js";
import { size } from "./format.js";
import { t } from "./i18n.js";
import { ask, failure } from "./notify.js";

/** @typedef {{ id: string, name: string }} Guest */

/** @param {FormData} data @param {string} name */
const text = (data, name) => String(data.get(name) ?? "").trim();

/** Pools of a guest's host that take volumes. @param {any} vm @returns {Promise<any[]>} */
async function poolsOf(vm) {
  const found = await api("GET", `/storage-pools?host=${vm.host}&limit=500`);
  return found.items.filter((/** @type {any} */ pool) => pool.state === "running");
}

/** @param {any[]} pools */
const poolField = (pools) =>
  html`<div class="field"><label for="ask-pool">${t("Pool")}</label><select class="input" id="ask-pool" name="pool"><option value="">${t("Where each disk lies now")}</option>
    ${pools.map((pool) => html`<option value="${pool.id}">${pool.name}, ${size(pool.available_bytes)} ${t("free")}</option>`)}</select></div>`;

/**
 * A name for a clone that counts on: `web-01` → `web-02`.
 * @param {string} name
 */
function next(name) {
  const [, stem, digits] = /** @type {RegExpMatchArray} */ (name.match(/^(.*?)(\d*)$/));
  return digits ? stem + String(Number(digits) + 1).padStart(digits.length, "0") : `${name}-2`.slice(0, 63);
}

/**
 * What a clone shall be; null when it was left.
 * @param {Guest} guest
 */
export async function askClone(guest) {
  /** @type {any} */ let vm;
  /** @type {any[]} */ let pools;
  try {
    vm = await api("GET", `/vms/${guest.id}`);
    pools = await poolsOf(vm);
  } catch (error) {
    failure(error);
    return null;
  }
  const seeded = vm.disks.some((/** @type {any} */ disk) => disk.source?.endsWith("-seed.iso"));
  const body = (/** @type {FormData} */ data) => {
    const count = Math.min(20, Math.max(1, Number(data.get("count")) || 1));
    return {
      name: text(data, "name"),
      ...(count > 1 ? { count } : {}),
      ...(text(data, "pool") ? { pool: text(data, "pool") } : {}),
      ...(data.get("seed") ? { cloud_init: {} } : {}),
      ...(data.get("start") ? { start: true } : {}),
    };
  };
  const data = await ask({
    title: t("Clone %(name)s", { name: guest.name }),
    text: t(
      "Another guest with copies of its disks, and MAC addresses of its own. Inside it is the same: host name, host keys and machine id are the source's until something changes them.",
    ),
    action: t("Clone"),
    call: { method: "POST", path: `/vms/${guest.id}/actions/clone`, of: (data) => ({ body: body(data) }) },
    extra: html`<div class="duo"><div class="field"><label for="ask-name">${t("Name")}</label><input class="input" id="ask-name" name="name" value="${next(guest.name)}" maxlength="63" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" required autofocus autocomplete="off" autocapitalize="none" spellcheck="false"></div>
      <div class="field"><label for="ask-count">${t("How many")}</label><input class="input" id="ask-count" name="count" type="number" min="1" max="20" value="1" required></div></div>
      ${poolField(pools)}
      ${seeded ? html`<label class="check"><input type="checkbox" name="seed" checked> ${t("A new seed for cloud-init: it gets its own host name and host keys at its first boot")}</label>` : ""}
      <label class="check"><input type="checkbox" name="start"> ${t("Start it when it is there")}</label>`,
  });
  return data ? body(data) : null;
}

/* ---- a template ---- */
/** What can be left to whoever makes a guest: name of the parameter, field that it sets, words. */
const OPEN = /** @type {[string, string, string, string][]} */ ([
  ["vcpus", "vcpus", "integer", t("vCPUs")],
  ["memory", "memory_bytes", "bytes", t("Memory")],
  ["disk", "disk_bytes", "bytes", t("Disk size")],
  ["network", "network", "string", t("Network")],
  ["hostname", "hostname", "string", t("Host name")],
  ["tags", "tags", "string", t("Tags")],
]);

/** How a parameter stands in a document. */
const EXAMPLE = `$${"{domain}"}`;

/**
 * Parameters as they were ticked, and one for each `${name}` of the document that is none of them.
 * @param {FormData} data @param {any} vm @param {string} document
 */
function parametersOf(data, vm, document) {
  /** @type {Record<string, any>} */
  const defaults = { vcpus: vm.vcpus, memory: vm.memory_bytes };
  const found = OPEN.filter(([name]) => data.get(`may-${name}`)).map(([name, sets, type]) => ({
    name,
    type,
    sets,
    ...(name in defaults ? { default: defaults[name] } : {}),
  }));
  const names = new Set(found.map((one) => one.name));
  const further = [...document.matchAll(/\$\{([a-z][a-z0-9_]{0,39})\}/g)].map((match) => match[1]);
  return [
    ...found,
    ...[...new Set(further)]
      .filter((name) => !names.has(name))
      .map((name) => ({ name, type: "string", required: true })),
  ];
}

/**
 * What is to become a template, as a call; null when it was left. The name of one that is there: another version of it.
 * @param {Guest} guest
 * @returns {Promise<{ method: string, path: string, body: unknown } | null>}
 */
export async function askTemplate(guest) {
  /** @type {any} */ let vm;
  /** @type {any[]} */ let there;
  try {
    [vm, { items: there }] = await Promise.all([api("GET", `/vms/${guest.id}`), api("GET", "/templates?limit=500")]);
  } catch (error) {
    failure(error);
    return null;
  }
  const call = (/** @type {FormData} */ data) => {
    const name = text(data, "name");
    const known = there.find((one) => one.name.toLowerCase() === name.toLowerCase());
    const document = text(data, "user_data");
    const parameters = parametersOf(data, vm, document);
    const body = {
      vm: guest.id,
      ...(known ? {} : { name }),
      mode: text(data, "mode") || "copy",
      ...(text(data, "notes") ? { notes: text(data, "notes") } : {}),
      ...(document ? { user_data: document } : {}),
      ...(parameters.length ? { parameters } : {}),
    };
    return { method: "POST", path: known ? `/templates/${known.id}/versions` : "/templates", body };
  };
  const data = await ask({
    title: t("Make a template of %(name)s", { name: guest.name }),
    text: t("Guests made from it are there in a second: their disks stand on its, which nobody writes to any more."),
    action: t("Make template"),
    call: { ...call(new FormData()), of: call },
    extra: html`<div class="field"><label for="ask-name">${t("Name")}</label><input class="input" id="ask-name" name="name" value="${guest.name}" maxlength="100" pattern="[^\\/@]+" list="ask-there" required autofocus autocomplete="off" spellcheck="false"><datalist id="ask-there">${there.map((one) => html`<option value="${one.name}"></option>`)}</datalist>
      <span class="hint">${t("The name of a template that is there makes another version of it.")}</span></div>
      <div class="col" role="radiogroup" aria-labelledby="ask-mode"><p class="t2" id="ask-mode">${t("This guest")}</p>
      <label class="check"><input type="radio" name="mode" value="copy" checked> <span>${t("stays as it is: its disks are copied")}</span></label>
      <label class="check"><input type="radio" name="mode" value="convert"> <span>${t("becomes the template: it is no guest any more, and its disks stay where they are. That cannot be undone.")}</span></label></div>
      <div class="col" role="group" aria-labelledby="ask-may"><p class="t2" id="ask-may">${t("May be chosen with each guest")}</p><div class="trio two-s">
      ${OPEN.map(([name, , , words]) => html`<label class="check"><input type="checkbox" name="may-${name}" ${["vcpus", "memory", "disk"].includes(name) ? html`checked` : ""}> ${words}</label>`)}</div></div>
      <details><summary>${t("cloud-config for its guests, and notes")}</summary>
      <div class="field"><label for="ask-ud">${t("cloud-config")}</label><textarea class="input mono" id="ask-ud" name="user_data" rows="5" spellcheck="false" placeholder="#cloud-config"></textarea><span class="hint">${t("What stands in it like %(example)s is asked for when a guest is made.", { example: EXAMPLE })}</span></div>
      <div class="field"><label for="ask-notes">${t("Notes")}</label><textarea class="input" id="ask-notes" name="notes" rows="2" maxlength="10000"></textarea></div></details>`,
  });
  return data ? call(data) : null;
}
