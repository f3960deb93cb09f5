// @ts-check
/** Dialogs of guests like other guests: a clone. Loaded at their first use. */
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
    call: { method: "POST", path: `/vms/${guest.id}/actions/clone`, of: body },
    extra: html`<div class="duo"><div class="field"><label for="ask-name">${t("Name")}</label><input class="input" id="ask-name" name="name" value="${next(guest.name)}" maxlength="63" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" required autofocus autocomplete="off" autocapitalize="none" spellcheck="false"></div>
      <div class="field"><label for="ask-count">${t("How many")}</label><input class="input" id="ask-count" name="count" type="number" min="1" max="20" value="1" required></div></div>
      ${poolField(pools)}
      ${seeded ? html`<label class="check"><input type="checkbox" name="seed" checked> ${t("A new seed for cloud-init: it gets its own host name and host keys at its first boot")}</label>` : ""}
      <label class="check"><input type="checkbox" name="start"> ${t("Start it when it is there")}</label>`,
  });
  return data ? body(data) : null;
}
