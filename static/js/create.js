// @ts-check
/**
 * The page of a new guest: what is chosen becomes a spec, the server says at once what would be made of it and where (a dry run
 * without the definition), and the same spec is what the button sends. What a place has no use for is hidden.
 */
import { ApiError, api, curl } from "./api.js";
import { $, $$, debounce, fill, html, icon, make } from "./dom.js";
import { look } from "./findings.js";
import { size } from "./format.js";
import { t, tn } from "./i18n.js";
import { say } from "./notify.js";

/**
 * @typedef {{ host: string, label: string, container: boolean, pools: boolean, content: boolean, networks: boolean, cpus: number, memory: number }} Place
 * @typedef {{ id: string, name: string, host: string, host_name: string, free?: number | null, words?: string }} Thing
 * @typedef {{ kind: string, size: number, cloud: boolean | null, name: string }} Image
 * @typedef {{ name: string, type: string, sets: string | null, required: boolean, default: any, choices: any[], minimum: number | null,
 *   maximum: number | null, help: string }} Parameter
 * @typedef {{ id: string, name: string, host: string, vcpus: number, memory: number, size: number, parameters: Parameter[] }} Template
 * @typedef {{ places: Record<string, Place>, pools: Thing[], networks: Thing[], images: Record<string, Image>, templates: Record<string, Template>, steps: number[], user: string }} Known
 */

const GIB = 1024 ** 3;
const form = /** @type {HTMLFormElement | null} */ ($("[data-create]"));
/** @type {Known} */
const known = JSON.parse(document.getElementById("known")?.textContent || "{}");
const KEYS = `new-guest-keys:${known.user ?? ""}`;
/** Where a pointer of the server's answer stands on the page; the longest that fits counts. */
const FIELDS = /** @type {[string, string][]} */ ([
  ["/name", "f-name"],
  ["/vcpus", "f-vcpus"],
  ["/memory_bytes", "f-memory"],
  ["/hypervisor", "f-hypervisor"],
  ["/disks/0/size_bytes", "f-disk"],
  ["/disks/0/pool", "f-pool"],
  ["/disks/0/image", "f-image"],
  ["/disks/1/image", "f-image"],
  ["/disks/0/template", "f-image"],
  ["/template", "f-image"],
  ["/disks", "f-disk"],
  ["/interfaces", "f-network"],
  ["/tags", "f-tags"],
  ["/project", "f-project"],
  ["/description", "f-description"],
  ["/container/image", "f-ct-image"],
  ["/container/root", "f-ct-root"],
  ["/container", "f-ct-image"],
  ["/cloud_init/user_data", "f-user-data"],
  ["/cloud_init/network_config", "f-net-config"],
  ["/cloud_init/ssh_keys", "f-keys"],
  ["/cloud_init/password_hash", "f-hash"],
  ["/cloud_init/user", "f-user"],
  ["/cloud_init/packages", "f-packages"],
  ["/cloud_init/hostname", "f-hostname"],
  ["/boot/kernel", "f-kernel"],
  ["/boot/initrd", "f-initrd"],
  ["/boot/cmdline", "f-cmdline"],
  ["/boot", "f-firmware"],
]);

/** @param {string} name @returns {any} */
const field = (name) => form?.elements.namedItem(name);
/** @param {string} name @returns {string} */
const value = (name) => (field(name)?.value ?? "").trim();
/** @param {string} name */
const checked = (name) => Boolean(field(name)?.checked);
/** @param {string} name */
const split = (name) =>
  value(name)
    .split(/[\s,]+/)
    .filter(Boolean);

/** The place that was chosen; nothing while the server chooses. @returns {Place | undefined} */
const place = () => known.places[value("hypervisor")];

/** The template that was chosen. @returns {Template | undefined} */
const template = () => known.templates[value("image").replace(/^template:/, "")];

/** Whether a parameter of the template stands in the place of a field of this page. @param {string} name */
const setByParameter = (name) => Boolean(template()?.parameters.some((one) => one.sets === name));

/** Whether nothing can be written into disks there: no image, no seed for cloud-init. */
const bare = () => Boolean(place() && !place()?.container && !place()?.content);

/** A medium that is installed from: a disk goes beside it. */
const medium = () =>
  value("image") === "volume" ? /\.iso$/i.test(value("volume")) : known.images[value("image")]?.kind === "iso";

/* ---- what is asked for ---- */
/** Disks as the contract has them. */
function disks() {
  const image = value("image");
  const base = template();
  const gib = Number(value("disk").replace(",", "."));
  const common = {
    ...(value("pool") ? { pool: value("pool") } : {}),
    ...(value("bus") ? { bus: value("bus") } : {}),
  };
  const bytes = value("disk") && Number.isFinite(gib) ? { size_bytes: Math.round(gib * GIB) } : {};
  if (base) {
    const full = value("clone") === "full";
    const { pool, ...others } = common;
    const own = setByParameter("disk_bytes") ? {} : bytes;
    const disk = { ...own, ...others, ...(full ? { clone: "full", ...(pool ? { pool } : {}) } : {}) };
    return Object.keys(disk).length ? [{ template: base.id, ...disk }] : [];
  }
  const from = image === "volume" ? value("volume") : image;
  if (!image || medium()) {
    const empty = "size_bytes" in bytes ? [{ ...bytes, ...common }] : [];
    const at = value("pool") && image !== "volume" ? { pool: value("pool") } : {}; // one that lies there is found
    return image ? [...empty, { image: from, ...at }] : empty;
  }
  return [{ image: from, ...bytes, ...common, ...(value("clone") === "full" ? { clone: "full" } : {}) }];
}

function cloudInit() {
  if (bare()) return null;
  const keys = value("ssh_keys")
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
  /** @type {Record<string, unknown>} */
  const found = {};
  if (keys.length) found.ssh_keys = keys;
  for (const name of ["user_data", "network_config"]) if (value(name)) found[name] = field(name).value;
  for (const name of ["user", "password_hash", "hostname"]) if (value(name)) found[name] = value(name);
  if (split("packages").length) found.packages = split("packages");
  return Object.keys(found).length ? found : null;
}

function boot() {
  /** @type {Record<string, unknown>} */
  const found = {};
  for (const name of ["kernel", "initrd", "cmdline"]) if (value(name)) found[name] = value(name);
  if (value("firmware") !== "bios") found.firmware = "uefi";
  if (value("firmware") === "uefi-secure") found.secure_boot = true;
  if (checked("tpm")) found.tpm = true;
  if (value("kernel") && value("pool")) found.pool = value("pool");
  return Object.keys(found).length ? found : null;
}

function machine() {
  const cloud = cloudInit();
  const booting = boot();
  const cpu = {
    ...(value("cpu_mode") ? { mode: value("cpu_mode") } : {}),
    ...(checked("nested") ? { nested: true } : {}),
  };
  const base = template();
  const chosen = parameters();
  const asked = disks();
  return {
    ...(base ? { template: base.id, ...(Object.keys(chosen).length ? { parameters: chosen } : {}) } : {}),
    ...(base && !asked.length ? {} : { disks: asked }),
    ...(cloud ? { cloud_init: cloud } : {}),
    ...(booting ? { boot: booting } : {}),
    ...(Object.keys(cpu).length ? { cpu } : {}),
    ...(value("accelerator") === "auto" ? {} : { accelerator: value("accelerator") }),
    ...(value("graphics") === "vnc" ? {} : { graphics: value("graphics") }),
    ...(value("wait_for") && checked("start") ? { wait_for: value("wait_for") } : {}),
  };
}

/** What was chosen of the template's parameters; what is left empty is left to it. */
function parameters() {
  /** @type {Record<string, unknown>} */
  const found = {};
  for (const one of template()?.parameters ?? []) {
    const input = field(`parameter-${one.name}`);
    if (!input) continue;
    const words = input.value.trim();
    const number = Number(words.replace(",", "."));
    if (one.type === "boolean") found[one.name] = words === "true";
    else if (!words) continue;
    else if (one.type === "string") found[one.name] = words;
    else if (!Number.isFinite(number)) found[one.name] = words;
    else found[one.name] = one.type === "bytes" && !one.choices.length ? Math.round(number * GIB) : number;
  }
  return found;
}

function container() {
  return {
    container: {
      ...(value("ct_image") ? { image: value("ct_image") } : {}),
      ...(value("ct_root") ? { root: value("ct_root") } : {}),
      ...(value("ct_init") ? { init: value("ct_init") } : {}),
    },
  };
}

/** The spec, as it would be sent. @param {string} [name] */
function spec(name = value("name")) {
  const network = value("network");
  return {
    name,
    ...(value("hypervisor") ? { hypervisor: value("hypervisor") } : { placement: "auto" }),
    ...(setByParameter("vcpus") ? {} : { vcpus: Number(value("vcpus")) }),
    ...(setByParameter("memory_bytes") ? {} : { memory_bytes: Math.round(memoryGib() * GIB) }),
    ...(place()?.container ? container() : machine()),
    ...(network === "auto" || setByParameter("network") ? {} : { interfaces: network ? [{ network }] : [] }),
    ...(split("tags").length ? { tags: split("tags") } : {}),
    ...(value("project") ? { project: value("project") } : {}),
    ...(value("description") ? { description: value("description") } : {}),
    ...(checked("start") ? {} : { start: false }),
    ...(checked("autostart") ? { autostart: true } : {}),
  };
}

const memoryGib = () => known.steps[Number(value("memory"))] ?? 1;

/** `web-01`, 3 → `web-01 web-02 web-03`; a name without a number gets one. @returns {string[]} */
function names() {
  const count = Math.min(50, Math.max(1, Number(value("count")) || 1));
  const name = value("name");
  if (count === 1) return [name];
  const [, stem, digits] = /** @type {RegExpMatchArray} */ (name.match(/^(.*?)(\d*)$/));
  const width = Math.max(2, digits.length);
  const first = Number(digits || 1);
  const glue = digits || /[-._]$/.test(stem) ? stem : `${stem}-`;
  return Array.from({ length: count }, (_, n) => glue + String(first + n).padStart(width, "0"));
}

/* ---- what is shown ---- */
/** Hides what the chosen place has no use for, and lists only its pools and networks. */
function fit() {
  if (!form) return;
  const where = place();
  for (const part of $$("[data-machine]", form)) part.hidden = Boolean(where?.container);
  for (const part of $$("[data-container]", form)) part.hidden = !where?.container;
  for (const part of $$("[data-content]", form)) part.hidden = Boolean(where?.container) || bare();
  if (bare() && known.images[value("image")]) field("image").value = "";
  const image = value("image");
  const base = template();
  const copied = !medium() && (image === "volume" || known.images[image]?.kind === "disk" || Boolean(base));
  drawParameters();
  for (const part of $$("[data-set-by]", form)) part.hidden = setByParameter(part.dataset.setBy ?? "");
  // What stands on a template lies where that does.
  /** @type {HTMLElement} */ ($("[data-pool]", form)).hidden = Boolean(base) && value("clone") !== "full";
  const sizes = $$("[data-size] .field", form);
  /** @type {HTMLElement} */ ($("[data-size]", form)).hidden = Boolean(base) && sizes.every((each) => each.hidden);
  const usual = /** @type {HTMLOptionElement} */ (field("network").options[0]);
  usual.text = (base ? usual.dataset.template : usual.dataset.plain) ?? "";
  /** @type {HTMLElement} */ ($("[data-for-volume]", form)).hidden = image !== "volume";
  /** @type {HTMLElement} */ ($("[data-for-image]", form)).hidden = !copied;
  list("pool", known.pools, 1, (one) => [size(one.free ?? null), t("free")].join(" "));
  list("network", known.networks, 2, (one) => one.words ?? "");
  field("vcpus").max = where?.cpus || Math.max(1, ...Object.values(known.places).map((one) => one.cpus));
  const hint = /** @type {HTMLElement} */ ($("[data-disk-hint]", form));
  hint.textContent = base
    ? t("Empty: as large as the template's, %(size)s.", { size: size(base.size) })
    : copied && image !== "volume"
      ? t("The image has %(size)s.", { size: size(known.images[image].size) })
      : copied
        ? t("Empty: as large as the volume.")
        : t("Empty: no disk of its own.");
}

/** A field for each parameter of the template, by its type. Drawn anew only for another template. */
function drawParameters() {
  const box = /** @type {HTMLElement} */ ($("[data-parameters]", form ?? document));
  const base = template();
  box.hidden = !base?.parameters.length;
  if (box.dataset.template === (base?.id ?? "")) return;
  box.dataset.template = base?.id ?? "";
  fill(box, html`${(base?.parameters ?? []).map(parameterField)}`);
}

/** What a parameter is called that stands in the place of a field. @type {Record<string, string>} */
const FIELD_NAMES = {
  vcpus: t("vCPUs"),
  memory_bytes: t("Memory"),
  disk_bytes: t("Disk"),
  network: t("Network"),
  hostname: t("Host name"),
  tags: t("Tags"),
};

/** @param {Parameter} one */
function parameterField(one) {
  const id = `f-p-${one.name}`;
  const name = `parameter-${one.name}`;
  const bytes = one.type === "bytes" && !one.choices.length;
  const words = (/** @type {any} */ each) => (one.type === "bytes" ? size(each) : String(each));
  const option = (/** @type {any} */ each, /** @type {string} */ label) =>
    html`<option value="${String(each)}" ${one.default === each ? html`selected` : ""}>${label}</option>`;
  const options =
    one.type === "boolean"
      ? html`${option(false, t("no"))}${option(true, t("yes"))}`
      : html`${one.default === null ? html`<option value=""></option>` : ""}${one.choices.map((each) => option(each, words(each)))}`;
  const control =
    one.type === "boolean" || one.choices.length
      ? html`<select class="input" id="${id}" name="${name}" aria-describedby="${id}-e">${options}</select>`
      : html`<input class="input" id="${id}" name="${name}" ${one.required ? html`required` : ""} ${one.type === "string" ? "" : html`inputmode="decimal"`} maxlength="2000" spellcheck="false" value="${one.default === null ? "" : String(bytes ? one.default / GIB : one.default)}" aria-describedby="${id}-e">`;
  return html`<div class="field"><label for="${id}">${FIELD_NAMES[one.sets ?? ""] ?? one.name}${bytes ? ", GiB" : ""} ${one.required ? "" : html`<span class="t3">${t("optional")}</span>`}</label>${control}
    ${one.help ? html`<span class="hint">${one.help}</span>` : ""}<span class="err" id="${id}-e" role="alert" hidden></span></div>`;
}

/**
 * @param {string} name of a select
 * @param {Thing[]} things
 * @param {number} fixed options that stay
 * @param {(one: Thing) => string} more
 */
function list(name, things, fixed, more) {
  const select = /** @type {HTMLSelectElement} */ (field(name));
  const host = place()?.host ?? "";
  if (select.dataset.host === host) return;
  select.dataset.host = host;
  const before = select.value;
  while (select.options.length > fixed) select.remove(fixed);
  for (const one of things.filter((thing) => !host || thing.host === host)) {
    const words = [one.name, host ? "" : one.host_name, more(one)].filter(Boolean).join(", ");
    select.add(new Option(words, one.id));
  }
  if ([...select.options].some((option) => option.value === before)) select.value = before;
}

/** A disk that is not larger than its image is made as large; what was typed stays. */
function imageChosen() {
  const image = known.images[value("image")];
  const disk = field("disk");
  const base = template();
  if (base) {
    field("vcpus").value = String(base.vcpus);
    const step = known.steps.findIndex((gib) => gib * GIB >= base.memory);
    field("memory").value = String(step < 0 ? known.steps.length - 1 : step);
    if (!disk.dataset.typed) disk.value = "";
    return;
  }
  if (!disk.dataset.typed)
    disk.value = value("image") === "volume" ? "" : String(Math.max(10, Math.ceil((image?.size ?? 0) / GIB)));
}

function outputs() {
  if (!form) return;
  const memory = size(memoryGib() * GIB);
  $("[data-of=vcpus]", form).textContent = value("vcpus");
  $("[data-of=memory]", form).textContent = memory;
  field("memory").setAttribute("aria-valuetext", memory);
  const several = names();
  $("[data-names]", form).textContent = several.length > 1 ? `${several[0]} … ${several.at(-1)}` : "";
  $("pre", form).textContent = curl("POST", "/vms", spec(several[0] || "web-01"));
}

/* ---- what the server says of it ---- */
/** @param {string} pointer @returns {HTMLElement | null} */
function noteOf(pointer) {
  const parameter = pointer.match(/^\/parameters\/([a-z0-9_]+)$/);
  if (parameter) return document.getElementById(`f-p-${parameter[1]}-e`);
  const best = FIELDS.filter(([start]) => pointer === start || pointer.startsWith(`${start}/`)).sort(
    (a, b) => b[0].length - a[0].length,
  )[0];
  let id = best?.[1] ?? "";
  if (id === "f-image" && value("image") === "volume") id = "f-volume";
  return id ? document.getElementById(`${id}-e`) : null;
}

function forget() {
  for (const note of $$(".err", form ?? document)) note.hidden = true;
  for (const one of $$("[aria-invalid]", form ?? document)) one.removeAttribute("aria-invalid");
}

/**
 * Each reason beside its field, what concerns none of them at the end.
 * @param {unknown} error
 * @param {boolean} focus whether the first wrong field is gone to
 */
function showWrong(error, focus) {
  if (!form) return;
  const problem = error instanceof ApiError ? error.problem : { detail: String(error) };
  let rest = problem.errors?.length ? "" : (problem.detail ?? problem.title ?? "");
  /** @type {HTMLElement | null} */
  let first = null;
  for (const { pointer, detail } of problem.errors ?? []) {
    const note = noteOf(pointer);
    if (!note) {
      rest ||= problem.detail ?? detail;
      continue;
    }
    if (!focus && /^\/cloud_init\/(user_data|network_config)/.test(pointer)) continue; // its findings stand there already
    note.textContent = detail;
    note.hidden = false;
    const input = /** @type {HTMLElement | null} */ (document.getElementById(note.id.slice(0, -2)));
    input?.setAttribute("aria-invalid", "true");
    input?.closest("details")?.setAttribute("open", "");
    first ??= input ?? note;
  }
  const whole = /** @type {HTMLElement} */ ($("[data-error]", form));
  whole.textContent = focus ? rest : "";
  whole.hidden = !focus || !rest;
  if (focus) (first ?? whole).focus();
}

/** @param {any} draft */
function summary(draft) {
  const { spec: made, placement } = draft;
  const disk = made.disks.find((/** @type {any} */ one) => one.device === "disk");
  const facts = [
    [t("Guest"), names().length > 1 ? `${names()[0]} … ${names().at(-1)}` : made.name],
    [t("From"), made.container_image || made.root || imageWords(made)],
    [
      t("Size"),
      [
        tn("%(n)s vCPU", "%(n)s vCPU", made.vcpus),
        size(made.memory_bytes),
        disk ? t("disk %(size)s", { size: size(disk.size_bytes) }) : "",
      ]
        .filter(Boolean)
        .join(", "),
    ],
    disk ? [t("Pool"), disk.pool] : null,
    [t("Network"), made.interfaces.map((/** @type {any} */ nic) => nic.network).join(", ") || t("none")],
    [
      t("Ready when"),
      { running: t("it runs"), address: t("it has an address"), ssh: t("SSH answers") }[
        /** @type {string} */ (made.wait_for)
      ] ?? t("it is made"),
    ],
  ].filter((one) => one !== null);
  const better = placement.passed_over ?? [];
  fill(
    /** @type {HTMLElement} */ ($("[data-plan]", form ?? document)),
    html`<dl class="facts pad">${facts.map(([label, text]) => html`<dt>${label}</dt><dd>${text}</dd>`)}</dl>
      <div class="pad col"><p>${t("On")} <b>${placement.host_name}</b> <span class="t3">${known.places[placement.hypervisor]?.label ?? placement.driver}</span></p>
      <ul class="why-list">${placement.reasons.map((/** @type {string} */ reason) => html`<li>${reason}</li>`)}</ul>
      ${better.length ? html`<details><summary>${tn("%(n)s place was passed over", "%(n)s places were passed over", better.length)}</summary><ul class="why-list">${better.map((/** @type {any} */ one) => html`<li><b>${one.host}</b> ${one.reason}</li>`)}</ul></details>` : ""}</div>`,
  );
}

/** What is chosen, while the server has nothing to say to it, and why. @param {string} why */
function standing(why) {
  fill(
    /** @type {HTMLElement} */ ($("[data-plan]", form ?? document)),
    html`<dl class="facts pad"><dt>${t("Guest")}</dt><dd>${names()[0]}</dd><dt>${t("Size")}</dt><dd>${value("vcpus")} vCPU, ${size(memoryGib() * GIB)}</dd></dl>
      <div class="note warn">${icon("warn")}<span class="grow">${why}</span></div>`,
  );
}

/** @param {any} made */
function imageWords(made) {
  if (made.template) return known.templates[made.template]?.name ?? t("a template");
  const words = made.disks.map((/** @type {any} */ one) => known.images[one.image]?.name || one.source).filter(Boolean);
  return words.join(", ") || (made.kernel ? made.kernel.volume : t("nothing: an empty disk"));
}

/** @type {AbortController | null} */
let asking = null;

/** Asks what would be made; wrong values show at their fields, though nobody is taken there. */
async function plan() {
  asking?.abort();
  if (!value("name") || !form) return;
  asking = new AbortController();
  const { signal } = asking;
  try {
    const draft = await api("POST", "/vms?dry_run=true&definition=false", spec(names()[0]), {
      signal,
      idempotency: "",
    });
    if (signal.aborted) return;
    forget();
    summary(draft);
  } catch (error) {
    if (signal.aborted) return;
    forget();
    showWrong(error, false);
    standing(error instanceof ApiError ? error.message : String(error));
  }
}
const planLater = debounce(plan, 350);

/* ---- documents ---- */
const lookLater = debounce(() => form && look(form), 400);

/* ---- sending ---- */
/** @param {HTMLElement} button @param {() => Promise<void>} work */
async function once(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  forget();
  try {
    await work();
  } catch (error) {
    showWrong(error, true);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function create() {
  if (!value("name")) {
    showWrong(new ApiError({ errors: [{ pointer: "/name", detail: t("Give it a name.") }] }), true);
    return;
  }
  localStorage.setItem(KEYS, value("ssh_keys"));
  /** @type {any[]} */
  const operations = [];
  for (const name of names()) operations.push(await api("POST", "/vms", spec(name)));
  location.assign(operations.length === 1 ? `/operations/${operations[0].id}` : "/operations");
}

async function dryRun() {
  const draft = await api("POST", "/vms?dry_run=true", spec(names()[0] || "web-01"), { idempotency: "" });
  summary(draft);
  const dialog =
    make(html`<dialog class="dlg wide" aria-labelledby="dry-h"><header><h2 id="dry-h">${t("Dry run of %(name)s", { name: draft.spec.name })}</h2>
    <button class="btn ghost icon push" type="button" data-close aria-label="${t("Close")}">${icon("x")}</button></header>
    <div class="pad col"><p class="t2">${t("Nothing was made. This is what %(host)s would be given.", { host: draft.placement.host_name })}</p>
    <div class="copy"><pre class="code" tabindex="0" role="region" aria-label="${t("Definition")}">${draft.definition}</pre><button class="btn sm" type="button" data-copy>${icon("copy")}${t("Copy")}</button></div></div></dialog>`);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  say(t("Nothing was made."));
}

if (form) {
  const remembered = localStorage.getItem(KEYS);
  if (remembered) field("ssh_keys").value = remembered;
  const two = known.steps.indexOf(2);
  field("memory").value = String(two < 0 ? known.steps.length - 1 : two);
  form.addEventListener("input", (event) => {
    const name = /** @type {any} */ (event.target).name;
    if (name === "disk") field("disk").dataset.typed = "yes";
    if (name === "image") imageChosen();
    fit();
    outputs();
    planLater();
    if (name === "user_data" || name === "network_config") lookLater();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    once(/** @type {HTMLElement} */ ($("[type=submit]", form)), create);
  });
  $("[data-dry-run]", form).addEventListener("click", (/** @type {Event} */ event) =>
    once(/** @type {HTMLElement} */ (event.currentTarget), dryRun),
  );
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Enter" && /** @type {Element} */ (event.target).matches("input:not([type=checkbox])")) {
      event.preventDefault(); // a long form is not sent by the Enter that ends a word
    }
  });
  imageChosen();
  fit();
  outputs();
  plan();
}
