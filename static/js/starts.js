// @ts-check
/** The part of a host's page that says in which order its guests start: a guest moves up and down by buttons, one place at a time. */
import { $, $$ } from "./dom.js";
import { t } from "./i18n.js";
import { readRegion } from "./live.js";
import { say } from "./notify.js";
import { send } from "./wishes.js";

const region = /** @type {HTMLElement} */ ($("[data-starts]"));

region.addEventListener("click", async (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-start-move]"));
  const row = /** @type {HTMLElement | null | undefined} */ (button?.closest("li"));
  const list = /** @type {HTMLElement | null | undefined} */ (row?.parentElement);
  if (!button || !row || !list || button.dataset.why || button.hasAttribute("aria-busy")) return;
  const rows = $$("li", list);
  const at = rows.indexOf(row);
  const by = Number(button.dataset.startMove);
  const order = rows.map((one) => one.dataset.vm);
  order.splice(at + by, 0, ...order.splice(at, 1));
  for (const one of $$("[data-start-move]", list)) one.setAttribute("aria-busy", "true");
  const name = row.dataset.name ?? "";
  const title = t("Start order of %(name)s", { name });
  const answer = await send(title, "PUT", `/hosts/${list.dataset.startsList}/autostart`, { vms: order }, "wait=10");
  // The button moves with its row, so that it can be pressed again.
  await readRegion(region);
  document.getElementById(button.id)?.focus();
  if (answer) say(t("%(name)s starts in place %(n)s", { name, n: at + by + 1 }));
});

readRegion(region);
