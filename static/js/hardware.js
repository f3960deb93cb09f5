// @ts-check
/**
 * The tab of a guest's hardware: has a worker look, opens the dialogs that the server draws, sends what they say. The list itself is a
 * region. A dialog's fields say by `data-name` and `data-kind` where in the call's body they stand, and as what.
 */
import { guestOf, sent } from "./actions.js";
import { ApiError, api, curl, part } from "./api.js";
import { $, $$, Markup, make } from "./dom.js";
import { t } from "./i18n.js";
import { bind } from "./keys.js";
import { onEvent, readRegion } from "./live.js";
import { failure, showWhy } from "./notify.js";
import { forgetWrong, showWrong } from "./wishes.js";

const UNITS = /** @type {Record<string, number>} */ ({ gib: 1024 ** 3, mib: 1024 ** 2, number: 1 });
const region = /** @type {HTMLElement} */ ($("[data-hardware]"));
const path = region.dataset.hardware ?? "";
const page = path.replace(/^\/vms\//, "/vms/");
const guest = guestOf(region);

/** Has a worker look; what differs comes as events, and the list is drawn anew in any case. @param {boolean} asked by the person */
async function look(asked) {
  const button = $("[data-hw-again]", region);
  button?.setAttribute("aria-busy", "true");
  try {
    await api("GET", path);
  } catch (error) {
    // What was last seen stands there, and says when that was; the page's head says when the host is out of reach.
    if (asked) failure(error, { title: t("The hardware could not be read") });
  } finally {
    button?.removeAttribute("aria-busy");
    await readRegion(region);
  }
}

/* ---- what a field says ---- */
/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Input */

/** Lines `left: right`; a line that is none is kept as it is, for the server to refuse. @param {string} text */
const pairs = (text) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const [left, ...right] = line.split(":");
      return /** @type {const} */ ([left.trim(), right.join(":").trim()]);
    });

/** @param {string} text @param {number} unit NaN becomes the text itself, for the server to refuse */
function amount(text, unit) {
  const value = Math.round(Number(text.trim().replace(",", ".")) * unit);
  return text.trim() && Number.isFinite(value) ? value : text;
}

/** @param {HTMLElement} field */
function saidBy(field) {
  const kind = field.dataset.kind ?? "text";
  if (kind === "radio") return /** @type {HTMLInputElement | null} */ ($(":checked", field))?.value ?? "";
  if (kind === "order") return $$("input", field).flatMap((one) => (one.checked ? [one.value] : []));
  const input = /** @type {Input} */ (field);
  const text = input.value;
  if (kind === "check" || kind === "danger") return /** @type {HTMLInputElement} */ (input).checked;
  if (kind in UNITS) return text.trim() ? amount(text, UNITS[kind]) : 0;
  if (kind === "pins") return Object.fromEntries(pairs(text));
  if (kind === "nodes") return pairs(text).map(([cpus, gib]) => ({ cpus, memory_bytes: amount(gib, UNITS.gib) }));
  return text.trim();
}

/** @param {HTMLFormElement} form */
const fields = (form) => /** @type {HTMLElement[]} */ ($$("[data-name]", form));

/** @param {HTMLElement} field */
const shown = (field) => !field.closest("[data-for][hidden]");

/** A part of the body by `a.b`. @param {Record<string, any>} body @param {string} name @param {unknown} value */
function put(body, name, value) {
  const parts = name.split(".");
  const last = /** @type {string} */ (parts.pop());
  let place = body;
  for (const one of parts) place = place[one] ??= {};
  place[last] = value;
}

/**
 * What was changed, or must be said anyway. What only leads to other fields (`kind`) is not said.
 * @param {HTMLFormElement} form @param {Map<HTMLElement, string>} before
 */
function wishOf(form, before) {
  /** @type {Record<string, any>} */
  const wish = {};
  let topology = false;
  for (const field of fields(form)) {
    const name = (field.dataset.name ?? "").split("@")[0];
    if (name === "kind" || field.dataset.kind === "danger" || !shown(field)) continue;
    const value = saidBy(field);
    const touched = JSON.stringify(value) !== before.get(field);
    if (!touched && !("keep" in field.dataset)) continue;
    if (form.dataset.method === "POST" && value === "" && !("keep" in field.dataset)) continue;
    put(wish, name, value);
    topology ||= ["sockets", "cores", "threads"].includes(name);
    if (field.dataset.kind === "device") {
      const chosen = /** @type {HTMLSelectElement} */ (field).selectedOptions[0];
      wish.type = chosen?.dataset.type ?? "pci";
    }
  }
  if (topology)
    for (const field of fields(form))
      if (["sockets", "cores", "threads"].includes(field.dataset.name ?? ""))
        put(wish, field.dataset.name ?? "", saidBy(field));
  const kind = /** @type {HTMLInputElement | null} */ ($("[name=kind]:checked", form))?.value;
  if (kind === "drive") wish.device = "cdrom";
  const root = form.dataset.root;
  if (root === "medium") return { medium: kind === "none" ? null : wish };
  return root ? { [root]: wish } : wish;
}

/** The call's query. @param {HTMLFormElement} form */
function queryOf(form) {
  const query = new URLSearchParams();
  const when = $("[data-when]", form)?.value;
  if (when === "next_start") query.set("when", when);
  for (const field of fields(form)) {
    const input = /** @type {HTMLInputElement} */ (field);
    if (field.dataset.kind === "danger" && input.checked) query.set(field.dataset.name ?? "", "delete");
  }
  return query.size ? `?${query}` : "";
}

/* ---- a dialog ---- */
/** Devices of the host, read by a worker: who has one is said, and it cannot be chosen. @param {HTMLSelectElement} select */
async function fillDevices(select) {
  const add = (/** @type {string} */ value, /** @type {string} */ label, type = "", taken = false) => {
    const option = new Option(label, value);
    option.dataset.type = type;
    option.disabled = taken;
    select.append(option);
  };
  add("", t("Reading …"));
  try {
    const { items } = await api("GET", select.dataset.from ?? "");
    select.replaceChildren();
    for (const one of items) {
      const words = [one.address, one.class, one.vendor, one.product].filter(Boolean).join(" ");
      const group = one.iommu_group === null ? "" : ` · ${t("IOMMU group %(n)s", { n: one.iommu_group })}`;
      const owner = one.guests.length ? ` · ${t("has %(name)s", { name: one.guests[0].name })}` : "";
      add(one.address, `${words}${group}${owner}`, one.kind, one.guests.length > 0);
    }
    if (!items.length) add("", t("The host has none that could be handed over"));
  } catch (error) {
    select.replaceChildren();
    add("", error instanceof Error ? error.message : String(error));
  }
  select.dispatchEvent(new Event("change", { bubbles: true }));
}

/** @param {HTMLFormElement} form */
function choose(form) {
  const kind =
    /** @type {HTMLInputElement | null} */ ($("[name=kind]:checked, [name=type]:checked", form))?.value ?? "";
  for (const one of $$("[data-for]", form)) {
    one.hidden = one.dataset.for !== "" && !one.dataset.for.split(" ").includes(kind);
  }
  const more = $("[data-more]", form);
  if (more) more.hidden = !$$("[data-name]", more).some(shown);
  const confirm = $("[data-confirm]", form);
  if (!confirm) return;
  const must = $("[data-kind=danger]", form)?.checked ?? false;
  confirm.hidden = !must;
  $("[type=submit]", form).disabled = must && $("input", confirm).value !== form.dataset.typed;
}

/** @param {HTMLElement} button moves a line of an order up or down */
function move(button) {
  const line = /** @type {HTMLElement} */ (button.closest("li"));
  const other = button.dataset.move === "-1" ? line.previousElementSibling : line.nextElementSibling;
  if (!other) return;
  if (button.dataset.move === "-1") other.before(line);
  else other.after(line);
  button.focus();
}

/**
 * @param {string} name of the form
 * @param {string} [key] of the device
 */
async function open(name, key = "") {
  const before = document.activeElement;
  /** @type {HTMLDialogElement} */
  let dialog;
  try {
    dialog = make(new Markup(await part(`${page}/${name}${key ? `?key=${encodeURIComponent(key)}` : ""}`)));
  } catch (error) {
    failure(error, { title: t("The hardware has changed meanwhile") });
    look(false);
    return;
  }
  const form = /** @type {HTMLFormElement} */ ($("form", dialog));
  const method = /** @type {"POST" | "PATCH" | "DELETE"} */ (form.dataset.method ?? "POST");
  const first = new Map(fields(form).map((field) => [field, JSON.stringify(saidBy(field))]));
  const call = () => ({
    url: `${form.dataset.path}${queryOf(form)}`,
    body: method === "DELETE" ? undefined : wishOf(form, first),
  });
  const draw = () => {
    choose(form);
    const { url, body } = call();
    $(".asrest pre", form).textContent = curl(method, url, body);
  };
  form.addEventListener("input", draw);
  form.addEventListener("change", draw);
  form.addEventListener("click", (event) => {
    const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-move]"));
    if (button) move(button);
    if (button) draw();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forgetWrong(form);
    const go = $("[type=submit]", form);
    const { url, body } = call();
    go.setAttribute("aria-busy", "true");
    try {
      const ifMatch = form.dataset.digest ? `"${form.dataset.digest}"` : undefined;
      const operation = await api(method, url, body, { ifMatch });
      dialog.close();
      sent(operation, `${form.dataset.title}: ${guest.name}`, guest);
    } catch (error) {
      wrong(form, error);
    } finally {
      go.removeAttribute("aria-busy");
    }
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  draw();
  dialog.showModal();
  for (const select of $$("select[data-from]", form)) fillDevices(select);
}

/**
 * Puts what was refused beside its field, also of one within another; what changed meanwhile is read again.
 * @param {HTMLFormElement} form @param {unknown} error
 */
function wrong(form, error) {
  const root = form.dataset.root;
  const errors = error instanceof ApiError ? (error.problem.errors ?? []) : [];
  for (const one of errors) {
    let pointer = one.pointer.replace(/^\//, "");
    if (root && pointer.startsWith(`${root}/`)) pointer = pointer.slice(root.length + 1);
    if (root && pointer === root) pointer = "";
    const field = fields(form).find((input) =>
      pointer.startsWith((input.dataset.name ?? "").split("@")[0].replace(".", "/")),
    );
    one.pointer = `/${field?.id ?? pointer}`;
  }
  showWrong(form, error, (name) => document.getElementById(name));
  const more = /** @type {HTMLDetailsElement | null} */ ($("[data-more]", form));
  if (more && $("[aria-invalid]", more)) more.open = true;
  if (error instanceof ApiError && error.code === "stale") look(false);
}

/* ---- what is clicked, heard and pressed ---- */
region.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  if (!button || button.dataset.why) return;
  if ("hwAgain" in button.dataset) look(true);
  if (button.dataset.hw) open(button.dataset.hw, button.dataset.key);
});

onEvent((event) => {
  // Somebody else changed the definition: what waits for the next start is known only after a look.
  const ours = event.object?.id === guest.id && event.type === "vm.changed" && event.data?.changed?.definition;
  if (ours && !event.operation) look(false);
});

/** @param {string} name */
const byKey = (name) => () => {
  const button = /** @type {HTMLElement | null} */ ($(`[data-hw="${name}"]`, region));
  if (!button) return false;
  if (button.dataset.why) showWhy(button);
  else open(name, button.dataset.key);
};
bind(t("Hardware"), [
  { keys: "n", does: t("Add disk"), run: byKey("disk-attach") },
  { keys: "i", does: t("Add interface"), run: byKey("nic-attach") },
  { keys: "m", does: t("Change memory"), run: byKey("memory") },
]);
look(false);
