// @ts-check
/**
 * Doing things to guests: one way for rows, pages, peek, menus and palette. A button says what by `data-action`, on whom by
 * `data-vm` and `data-name`; what may be done, and why not, was decided by the server (`vm.actions`).
 */
import { ApiError, api, part } from "./api.js";
import { $$, html } from "./dom.js";
import { t } from "./i18n.js";
import { onEvent } from "./live.js";
import { ask, failure, say, toast } from "./notify.js";

/**
 * @typedef {{ label: string, icon: string, inverse?: string, ask?: (name: string) => { title: string, text: string },
 *   needs?: (guest: Guest) => Promise<unknown> }} Action needs: asks for its parameters; null calls it off
 * @typedef {{ id: string, name: string, host?: string }} Guest
 */

/** Verbs as in virsh; the keys are the contract's. @type {Record<string, Action>} */
export const ACTIONS = {
  start: { label: t("Start"), icon: "play", inverse: "shutdown" },
  shutdown: { label: t("Shut down"), icon: "power", inverse: "start" },
  reboot: { label: t("Reboot"), icon: "reboot" },
  suspend: { label: t("Suspend"), icon: "pause", inverse: "resume" },
  resume: { label: t("Resume"), icon: "play", inverse: "suspend" },
  "managed-save": { label: t("Save to disk"), icon: "disk", inverse: "start" },
  reset: {
    label: t("Reset"),
    icon: "reboot",
    ask: (name) => ({
      title: t("Reset %(name)s?", { name }),
      text: t("Like the reset button: the guest starts again at once, and what it has not written to disk is lost."),
    }),
  },
  "force-off": {
    label: t("Force off"),
    icon: "bolt",
    ask: (name) => ({
      title: t("Force off %(name)s?", { name }),
      text: t("Like pulling the plug: the guest is off at once, and what it has not written to disk is lost."),
    }),
  },
  "discard-managed-save": {
    label: t("Discard saved memory"),
    icon: "trash",
    ask: (name) => ({
      title: t("Discard the saved memory of %(name)s?", { name }),
      text: t("The next start boots the guest from the beginning. What ran in it when it was saved is lost."),
    }),
  },
  autostart: { label: t("Start with the host"), icon: "power" },
  restore: { label: t("Restore"), icon: "undo" },
  delete: {
    label: t("Delete"),
    icon: "trash",
    inverse: "restore",
    ask: (name) => ({
      title: t("Delete %(name)s?", { name }),
      text: t(
        "What is deleted goes to the bin, and can be had back from there for a while. Disks stay where they are.",
      ),
    }),
  },
  rename: { label: t("Rename"), icon: "tag", needs: askName },
  clone: {
    label: t("Clone"),
    icon: "clone",
    needs: async (guest) => (await import("./cloning.js")).askClone(guest),
  },
};

/**
 * Another name for a guest; null when it was left, or is the old one.
 * @param {Guest} guest
 */
async function askName(guest) {
  const data = await ask({
    title: t("Rename %(name)s", { name: guest.name }),
    text: t("Its identity, its disks and their files stay as they are."),
    action: t("Rename"),
    call: { method: "POST", path: actionPath(guest.id, "rename"), body: { name: guest.name } },
    extra: html`<div class="field"><label for="ask-name">${t("New name")}</label><input class="input" id="ask-name" name="name" value="${guest.name}" maxlength="255" required autofocus autocomplete="off" spellcheck="false"></div>`,
  });
  const name = String(data?.get("name") ?? "").trim();
  return name && name !== guest.name ? { name } : null;
}

/** @param {string} id @param {string} action */
export const actionPath = (id, action) => `/vms/${id}/actions/${action}`;

/** Operations this page asked for and has not seen the end of. @type {Map<string, { title: string, guest: Guest, close?: () => void }>} */
const mine = new Map();

/** @param {{ id: string }} operation */
async function ended(operation) {
  const job = mine.get(operation.id);
  if (!job) return;
  mine.delete(operation.id);
  const whole = await api("GET", `/operations/${operation.id}`).catch(() => null);
  if (whole?.state === "failed") {
    job.close?.();
    const ways = [];
    if (whole.kind === "vm.shutdown" && whole.error?.code === "timeout") {
      ways.push({ label: ACTIONS["force-off"].label, run: () => act("force-off", job.guest) });
    }
    failure(new ApiError({ ...whole.error, request_id: whole.request_id }), {
      title: t("%(what)s failed", { what: job.title }),
      href: `/operations/${whole.id}`,
      ways,
    });
  } else if (whole) {
    say(t("%(what)s: done", { what: job.title }));
  }
}

onEvent((event) => {
  if (event.type !== "operation.changed" || !["succeeded", "failed", "cancelled"].includes(event.data?.state)) return;
  ended({ id: event.object.id });
});

/**
 * An operation that this page asked for: said now, and once more when it fails.
 * @param {any} operation
 * @param {string} title
 */
export function track(operation, title) {
  const shown = toast(title, { detail: operation.message || t("Sent"), href: `/operations/${operation.id}` });
  mine.set(operation.id, { title, guest: { id: "", name: "" }, close: shown.close });
  if (["succeeded", "failed", "cancelled"].includes(operation.state)) ended(operation);
  else follow(operation.id);
}

/** @param {string} id @param {boolean} on */
function busy(id, on) {
  for (const element of $$(`[data-vm="${id}"][data-action], #vm-${id}`)) {
    if (on) element.setAttribute("aria-busy", "true");
    else element.removeAttribute("aria-busy");
  }
}

/**
 * Calls back what was asked: while it waits it is cancelled, else its opposite is asked for.
 * @param {any} operation
 * @param {Action} action
 * @param {Guest} guest
 */
async function undo(operation, action, guest) {
  try {
    await api("POST", `/operations/${operation.id}/cancel`);
    say(t("Cancelled"));
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "not_cancellable" || !action.inverse) {
      failure(error);
      return;
    }
    await act(action.inverse, guest, { quiet: true });
  }
}

/**
 * Asks where it must, sends, and says what became of it.
 * @param {string} name of the action, as in the contract
 * @param {Guest} guest
 * @param {{ params?: unknown, quiet?: boolean }} [options] quiet: no undo is offered (it is one)
 */
export async function act(name, guest, { params, quiet = false } = {}) {
  const action = ACTIONS[name] ?? { label: name, icon: "right" };
  const path = actionPath(guest.id, name);
  if (action.needs && params === undefined) {
    params = await action.needs(guest);
    if (!params) return null;
  }
  if (action.ask) {
    const question = action.ask(guest.name);
    const yes = await ask({
      ...question,
      action: action.label,
      danger: true,
      call: { method: "POST", path, body: params },
    });
    if (!yes) return null;
  }
  const title = `${action.label}: ${guest.name}`;
  busy(guest.id, true);
  try {
    const operation = await api("POST", path, params);
    const waits = operation.state === "queued" && operation.message;
    const ways =
      !quiet && action.inverse ? [{ label: t("Undo"), key: "u", run: () => undo(operation, action, guest) }] : [];
    const shown = toast(title, {
      detail: waits || (guest.host ? t("Sent to %(host)s", { host: guest.host }) : t("Sent")),
      ways,
      href: `/operations/${operation.id}`,
    });
    mine.set(operation.id, { title, guest, close: shown.close });
    if (["succeeded", "failed", "cancelled"].includes(operation.state)) ended(operation);
    else follow(operation.id);
    return operation;
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: title }), ways: instead(error, guest) });
    return null;
  } finally {
    busy(guest.id, false);
  }
}

/**
 * Buttons for what does about the same, where the hypervisor cannot do what was asked.
 * @param {unknown} error
 * @param {Guest} guest
 */
function instead(error, guest) {
  const found = error instanceof ApiError ? (error.problem.alternatives ?? []) : [];
  return found
    .filter((one) => one.kind === "action" && one.steps?.length === 1 && one.steps[0] in ACTIONS)
    .slice(0, 2)
    .map(({ steps }) => ({ label: ACTIONS[steps[0]].label, run: () => act(steps[0], guest) }));
}

/**
 * Says that an operation was asked for, and later what became of it.
 * @param {any} operation
 * @param {string} title
 * @param {Guest} guest
 */
export function sent(operation, title, guest) {
  const shown = toast(title, { detail: operation.message || t("Sent"), href: `/operations/${operation.id}` });
  mine.set(operation.id, { title, guest, close: shown.close });
  if (["succeeded", "failed", "cancelled"].includes(operation.state)) ended(operation);
  else follow(operation.id);
}

/** The live channel tells the end; should it be down, the operation itself is asked. @param {string} id */
async function follow(id) {
  await new Promise((done) => setTimeout(done, 8000));
  for (let round = 0; mine.has(id) && round < 20; round++) {
    const operation = await api("GET", `/operations/${id}?wait=30`).catch(() => null);
    if (!operation) return;
    if (["succeeded", "failed", "cancelled"].includes(operation.state)) await ended(operation);
  }
}

/**
 * Shutting down by a deadline, and what then.
 * @param {Guest} guest
 */
export async function shutdownBy(guest) {
  const data = await ask({
    title: t("Shut down %(name)s", { name: guest.name }),
    text: t("The guest is asked to shut down, and asked again while it does not. At the deadline you are told."),
    action: ACTIONS.shutdown.label,
    call: {
      method: "POST",
      path: actionPath(guest.id, "shutdown"),
      body: { timeout_seconds: 120, force_after: false },
    },
    extra: html`<div class="field"><label for="ask-s">${t("Deadline in seconds")}</label><input class="input" id="ask-s" name="seconds" type="number" min="1" max="3600" value="120" required></div>
      <label class="check"><input type="checkbox" name="force"> ${t("Force it off if it still runs then")}</label>`,
  });
  if (!data) return null;
  const seconds = Math.min(3600, Math.max(1, Number(data.get("seconds")) || 120));
  return act("shutdown", guest, { params: { timeout_seconds: seconds, force_after: data.get("force") === "on" } });
}

/**
 * Deleting, into the bin or out of it for good: what goes and what stays is listed by the server; what cannot be undone takes
 * the name typed.
 * @param {Guest} guest
 * @param {{ running?: boolean, text: string }} facts
 */
export async function remove(guest, { running = false, text }) {
  /** @type {string} */
  let form;
  try {
    form = await part(`/vms/${guest.id}/parts/delete`);
  } catch (error) {
    failure(error);
    return null;
  }
  const data = await ask({
    title: t("Delete %(name)s?", { name: guest.name }),
    text,
    form,
    action: t("Delete guest"),
    danger: true,
    typed: guest.name,
    call: { method: "DELETE", path: `/vms/${guest.id}?storage=keep` },
  });
  if (!data) return null;
  const query = new URLSearchParams({ storage: String(data.get("storage") ?? "keep") });
  if (data.get("gone")) query.set("bin", "false");
  if (running) query.set("force", "true");
  const title = t("Delete: %(name)s", { name: guest.name });
  try {
    const operation = await api("DELETE", `/vms/${guest.id}?${query}`);
    const back = () => undo(operation, ACTIONS.delete, guest);
    const shown = toast(title, {
      detail: data.get("gone") ? t("Sent") : t("It goes to the bin"),
      href: `/operations/${operation.id}`,
      ways: data.get("gone") ? [] : [{ label: t("Undo"), key: "u", run: back }],
    });
    mine.set(operation.id, { title, guest, close: shown.close });
    follow(operation.id);
    return operation;
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: title }) });
    return null;
  }
}

/**
 * Whether it can be deleted at all.
 * @param {Guest} guest
 * @param {boolean} on
 */
export async function protect(guest, on) {
  try {
    await api("PATCH", `/vms/${guest.id}`, { protected: on });
    say(on ? t("Protected from being deleted") : t("Can be deleted"));
  } catch (error) {
    failure(error);
  }
}

/**
 * The guest a button, row or page speaks of.
 * @param {HTMLElement} element
 * @returns {Guest}
 */
export function guestOf(element) {
  const holder = /** @type {HTMLElement} */ (element.closest("[data-vm]") ?? element);
  const named = /** @type {HTMLElement} */ (element.closest("[data-name]") ?? holder);
  return { id: holder.dataset.vm ?? "", name: named.dataset.name ?? "", host: named.dataset.host };
}

/** @param {HTMLElement} button */
export async function cancelOperation(button) {
  button.setAttribute("aria-busy", "true");
  try {
    await api("POST", `/operations/${button.dataset.cancel}/cancel`);
    say(t("Cancelled"));
  } catch (error) {
    failure(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/**
 * The console of a guest, in the dock of this page.
 * @param {Guest} guest
 * @param {string} [type] serial, shell or vnc; without, the server chooses
 */
export async function openConsole(guest, type) {
  const dock = await import("./dock.js");
  dock.open(guest, type);
}
