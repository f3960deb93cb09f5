// @ts-check
/**
 * Pages of networks: start, stop, whether one starts with its host, the form of a new one. What may be done, and why not, was
 * decided by the server (`actions`); each call is a REST call.
 */
import { api } from "./api.js";
import { $, $$, html } from "./dom.js";
import { t } from "./i18n.js";
import { ask } from "./notify.js";
import { forgetWrong, send, showCall, showWrong, toggle } from "./wishes.js";

const VERBS = /** @type {Record<string, string>} */ ({ start: t("Start"), stop: t("Stop") });

document.addEventListener("click", async (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  const place = /** @type {HTMLElement | null | undefined} */ (button?.closest("[data-network]"));
  if (!button || !place || button.dataset.why) return;
  const path = `/networks/${place.dataset.network}`;
  const name = place.dataset.name ?? "";
  const action = button.dataset.networkAction;
  if ("networkAutostart" in button.dataset) await toggle(button, path, name);
  if ("keep" in button.dataset) await keep(button, path, name);
  if (button.dataset.release) await release(button, path, name);
  if (!action) return;
  button.setAttribute("aria-busy", "true");
  await send(`${VERBS[action]}: ${name}`, "POST", `${path}/actions/${action}`);
  button.removeAttribute("aria-busy");
});

/**
 * An address for one MAC: asked for, filled with what is known.
 * @param {HTMLElement} button
 * @param {string} path
 * @param {string} name of the network
 */
async function keep(button, path, name) {
  const { keep: how, mac = "", address = "", name: known = "" } = button.dataset;
  const field = (/** @type {string} */ id, /** @type {string} */ label, /** @type {string} */ value, must = true) =>
    html`<div class="field"><label for="ask-${id}">${label}${must ? "" : html` <span class="t3">${t("optional")}</span>`}</label><input class="input mono" id="ask-${id}" name="${id}" value="${value}" maxlength="60" autocomplete="off" spellcheck="false" ${must ? html`required` : ""}></div>`;
  const data = await ask({
    title: mac ? t("A fixed address for %(mac)s", { mac }) : t("Fix an address"),
    text: t(
      "%(name)s gives it to this interface and to nobody else, at once and after a restart. A guest that has another one changes when its lease ends or it starts anew.",
      { name },
    ),
    action: how === "change" ? t("Change") : t("Fix address"),
    call: {
      method: how === "change" ? "PUT" : "POST",
      path: `${path}/dhcp-hosts${how === "change" ? `/${mac}` : ""}`,
      body: how === "change" ? { address, name: known } : { mac, address, name: known },
    },
    extra: html`${mac ? "" : field("mac", t("MAC address"), "")}${field("address", t("Address"), address)}${field("name", t("Name, by DNS too"), known, false)}`,
  });
  if (!data) return;
  const wish = { address: String(data.get("address")).trim(), name: String(data.get("name")).trim() };
  const whose = mac || String(data.get("mac")).trim();
  const title = t("Fixed address: %(address)s", { address: wish.address });
  if (how === "change") await send(title, "PUT", `${path}/dhcp-hosts/${encodeURIComponent(whose)}`, wish);
  else await send(title, "POST", `${path}/dhcp-hosts`, { mac: whose, ...wish });
}

/**
 * @param {HTMLElement} button
 * @param {string} path
 * @param {string} name of the network
 */
async function release(button, path, name) {
  const { release: mac = "", address = "" } = button.dataset;
  const call = /** @type {const} */ ({ method: "DELETE", path: `${path}/dhcp-hosts/${encodeURIComponent(mac)}` });
  const yes = await ask({
    title: t("Release %(address)s?", { address }),
    text: t("%(name)s keeps it for nobody any more. Who has it has it until its lease ends.", { name }),
    action: t("Release"),
    call,
  });
  if (yes) await send(t("Release: %(address)s", { address }), call.method, call.path);
}

/** What a field of the form of a new network says. @param {any} input */
function wished(input) {
  const text = input.value.trim();
  const numbers = (/** @type {string} */ list) =>
    list
      .split(/[\s,]+/)
      .filter(Boolean)
      .map(whole);
  switch (input.dataset.wish) {
    case "number":
      return whole(text);
    case "numbers":
      return numbers(text);
    case "groups":
      return text
        .split("\n")
        .filter((/** @type {string} */ line) => line.trim())
        .map((/** @type {string} */ line) => {
          const [label, ...tags] = line.split(":");
          const name = label.trim();
          return { name: name.replace(/^\*\s*/, ""), vlans: numbers(tags.join(":")), default: name.startsWith("*") };
        });
    default:
      return text;
  }
}

/** A number where it is one: else the server says what is wrong with it. @param {string} text */
const whole = (text) => (/^\d+$/.test(text) ? Number(text) : text);

const maker = /** @type {HTMLFormElement | null} */ ($("[data-new-network]"));
if (maker) {
  const form = maker;
  const field = (/** @type {string} */ name) => /** @type {any} */ (form.elements.namedItem(name));
  const body = () => {
    /** @type {Record<string, unknown>} */
    const wish = { host: field("host").value, name: field("name").value.trim(), mode: field("mode").value };
    for (const input of $$(".input[data-wish]", form)) {
      if (input.value.trim() && !input.closest("[hidden]")) wish[input.name] = wished(input);
    }
    wish.autostart = field("autostart").checked;
    return wish;
  };
  const choose = () => {
    const mode = field("mode").value;
    for (const part of $$("[data-for]", form)) part.hidden = !part.dataset.for.split(" ").includes(mode);
    const given = !field("dhcp").closest("[hidden]") && field("dhcp").checked;
    for (const part of $$("[data-dhcp]", form)) part.hidden = !given;
  };
  /** What the chosen host has, to choose from. */
  const offer = async () => {
    const found = await api("GET", `/hosts/${field("host").value}/interfaces`).catch(() => ({ items: [] }));
    const fill = (/** @type {string} */ id, /** @type {(kind: string) => boolean} */ fits) =>
      /** @type {HTMLElement} */ (document.getElementById(id)).replaceChildren(
        ...found.items
          .filter((/** @type {any} */ one) => fits(one.kind))
          .map((/** @type {any} */ one) => new Option(one.up === false ? t("no link") : one.kind, one.name)),
      );
    fill("nn-bridges", (kind) => kind === "bridge");
    fill("nn-devices", (kind) => !["bridge", "loopback"].includes(kind));
  };
  form.addEventListener("change", choose);
  field("host").addEventListener("change", offer);
  choose();
  offer();
  showCall(form, "/networks", body);
  form.addEventListener("change", () => form.dispatchEvent(new Event("input")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forgetWrong(form);
    const button = /** @type {HTMLElement} */ ($("[type=submit]", form));
    button.setAttribute("aria-busy", "true");
    try {
      const operation = await api("POST", "/networks", body(), { prefer: "wait=20" });
      location.assign(
        operation.result?.network ? `/networks/${operation.result.network}` : `/operations/${operation.id}`,
      );
    } catch (error) {
      showWrong(form, error, (name) => /** @type {HTMLElement | null} */ (document.getElementById(`nn-${name}`)));
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

/* ---- filters ---- */
const editor = /** @type {HTMLFormElement | null} */ ($("[data-filter]"));
if (editor) {
  const form = editor;
  const { filter: method = "POST", path = "" } = form.dataset;
  const value = (/** @type {string} */ name) => /** @type {any} */ (form.elements.namedItem(name))?.value;
  const body = () => ({ ...(value("host") ? { host: value("host") } : {}), xml: value("xml") });
  showCall(form, path, body, method);
  form.addEventListener("change", () => form.dispatchEvent(new Event("input")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forgetWrong(form);
    const button = /** @type {HTMLElement} */ ($("[type=submit]", form));
    button.setAttribute("aria-busy", "true");
    try {
      const operation = await api(method === "PUT" ? "PUT" : "POST", path, body(), { prefer: "wait=20" });
      if (operation.state === "failed") throw new Error(operation.error.detail);
      const made = operation.result?.network_filter ?? (method === "PUT" ? path.split("/").pop() : "");
      location.assign(made ? `/networks/filters/${made}` : `/operations/${operation.id}`);
    } catch (error) {
      showWrong(form, error, (name) => /** @type {any} */ (form.elements.namedItem(name)));
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}
