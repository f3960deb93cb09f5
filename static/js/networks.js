// @ts-check
/**
 * Pages of networks: start, stop, whether one starts with its host, the form of a new one. What may be done, and why not, was
 * decided by the server (`actions`); each call is a REST call.
 */
import { api } from "./api.js";
import { $, $$ } from "./dom.js";
import { t } from "./i18n.js";
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
  if (!action) return;
  button.setAttribute("aria-busy", "true");
  await send(`${VERBS[action]}: ${name}`, "POST", `${path}/actions/${action}`);
  button.removeAttribute("aria-busy");
});

const maker = /** @type {HTMLFormElement | null} */ ($("[data-new-network]"));
if (maker) {
  const form = maker;
  const field = (/** @type {string} */ name) => /** @type {any} */ (form.elements.namedItem(name));
  const body = () => {
    /** @type {Record<string, unknown>} */
    const wish = { host: field("host").value, name: field("name").value.trim(), mode: field("mode").value };
    for (const input of $$(".input[data-wish]", form)) {
      if (input.value.trim() && !input.closest("[hidden]")) wish[input.name] = input.value.trim();
    }
    wish.autostart = field("autostart").checked;
    return wish;
  };
  const choose = () => {
    const mode = field("mode").value;
    const given = mode !== "bridge" && field("dhcp").checked;
    for (const part of $$("[data-for]", form)) part.hidden = !part.dataset.for.split(" ").includes(mode);
    for (const part of $$("[data-dhcp]", form)) part.hidden = !given;
  };
  form.addEventListener("change", choose);
  choose();
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
