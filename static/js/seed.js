// @ts-check
/** A guest's cloud-init: what stands in its seed, looked at while it is changed, and written over the one that was read. */
import { ApiError, api, text } from "./api.js";
import { $, $$, debounce } from "./dom.js";
import { look } from "./findings.js";
import { t } from "./i18n.js";
import { failure, say, showWhy, toast } from "./notify.js";

const form = /** @type {HTMLFormElement} */ ($("[data-seed]"));
const path = form.dataset.seed ?? "";
const state = /** @type {HTMLElement} */ ($("[data-seed-state]", form));
const wrong = /** @type {HTMLElement} */ ($("[data-error]", form));
const NAMES = ["user_data", "network_config", "hostname"];
/** What was read, and the tag of that. @type {{ seed: Record<string, string>, etag: string }} */
let base = { seed: {}, etag: "" };

/** @param {string} name @returns {any} */
const field = (name) => form.elements.namedItem(name);
const dirty = () => NAMES.some((name) => field(name).value !== (base.seed[name] ?? ""));

function show() {
  for (const name of NAMES) field(name).value = base.seed[name] ?? "";
  for (const one of $$("[data-of]", form)) one.textContent = base.seed[one.dataset.of ?? ""] ?? "";
  for (const one of $$("[data-seed-fields], [data-seed-facts]", form)) one.hidden = false;
  wrong.hidden = true;
  look(form);
}

/** Has a worker read it. What cannot be read can still be written over. */
async function read() {
  state.hidden = false;
  state.textContent = t("Reading …");
  try {
    const found = await text(path);
    base = { seed: JSON.parse(found.text), etag: found.etag };
    state.hidden = true;
    show();
  } catch (error) {
    state.textContent = error instanceof ApiError ? error.message : t("It could not be read.");
    if (error instanceof ApiError && error.code === "invalid_input") show();
  }
}

/** @param {unknown} error */
function refused(error) {
  const problem = error instanceof ApiError ? error.problem : { detail: String(error) };
  wrong.textContent = problem.detail ?? t("The server refused.");
  wrong.hidden = false;
  wrong.focus();
}

async function write() {
  const body = {
    ...Object.fromEntries(NAMES.filter((name) => field(name).value.trim()).map((name) => [name, field(name).value])),
    rerun: field("rerun").checked,
  };
  const done = await api("POST", path, body, { prefer: "wait=25", ifMatch: base.etag });
  if (done.state === "succeeded") {
    say(t("The seed was written."));
    toast(t("The seed was written."), { detail: t("It is read at the next boot."), kind: "ok" });
    await read();
  } else if (done.error) throw new ApiError(done.error);
  else toast(t("The seed is being written"), { href: `/operations/${done.id}` });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = /** @type {HTMLElement} */ ($("[type=submit]", form));
  if (button.getAttribute("aria-disabled") === "true") {
    showWhy(button);
    return;
  }
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  wrong.hidden = true;
  try {
    await write();
  } catch (error) {
    refused(error);
  } finally {
    $("[type=submit]", form)?.removeAttribute("aria-busy");
  }
});
form.addEventListener(
  "input",
  debounce(() => look(form), 400),
);
form.addEventListener("click", (event) => {
  if (/** @type {Element} */ (event.target).closest("[data-seed-again]"))
    read().catch((error) => failure(error, { title: t("The seed could not be read") }));
});
addEventListener("beforeunload", (event) => {
  if (base.etag && dirty()) event.preventDefault();
});
read();
