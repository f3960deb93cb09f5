// @ts-check
/** Pages of snapshot schedules: switched on and off, run now, deleted; the form with what it would do beside it. */
import { track } from "./actions.js";
import { api, curl, part } from "./api.js";
import { $, $$, debounce } from "./dom.js";
import { t } from "./i18n.js";
import { ask, failure } from "./notify.js";
import { forgetWrong, send, showWrong } from "./wishes.js";

const FIELDS = /** @type {Record<string, string>} */ ({
  name: "sc-name",
  vm: "sc-vm",
  filter: "sc-filter",
  keep: "sc-keep",
  "when/at": "sc-at",
  "when/day": "sc-day",
  "when/time_zone": "sc-zone",
});

document.addEventListener("click", async (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  const place = /** @type {HTMLElement | null | undefined} */ (button?.closest("[data-schedule]"));
  if (!button || !place || button.dataset.why) return;
  const path = `/snapshot-schedules/${place.dataset.schedule}`;
  const name = place.dataset.name ?? "";
  button.setAttribute("aria-busy", "true");
  if ("scheduleEnabled" in button.dataset) {
    const enabled = button.getAttribute("aria-checked") !== "true";
    const answer = await send(t("Schedule: %(name)s", { name }), "PATCH", path, { enabled });
    if (answer) button.setAttribute("aria-checked", String(answer.enabled));
  }
  if ("scheduleRun" in button.dataset) await run(path, name);
  if ("scheduleDelete" in button.dataset) await remove(path, name);
  button.removeAttribute("aria-busy");
});

/** @param {string} path @param {string} name */
async function run(path, name) {
  const title = t("Snapshots of %(name)s", { name });
  try {
    track(await api("POST", `${path}/run`), title);
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: title }) });
  }
}

/** @param {string} path @param {string} name */
async function remove(path, name) {
  const yes = await ask({
    title: t("Delete the schedule %(name)s?", { name }),
    text: t("It takes no more snapshots. Those that it took stay, and nothing deletes them by itself any more."),
    action: t("Delete schedule"),
    danger: true,
    call: { method: "DELETE", path },
  });
  if (!yes) return;
  try {
    await api("DELETE", path);
    location.assign("/snapshot-schedules");
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: t("Delete schedule") }) });
  }
}

/* ---- the form ---- */
const maker = /** @type {HTMLFormElement | null} */ ($("[data-schedule-form]"));
if (maker) {
  const form = maker;
  const of = form.dataset.scheduleForm ?? "";
  const [method, path] = of
    ? /** @type {const} */ (["PATCH", `/snapshot-schedules/${of}`])
    : /** @type {const} */ (["POST", "/snapshot-schedules"]);
  const shown = /** @type {HTMLElement} */ ($("[data-schedule-preview]"));
  const field = (/** @type {string} */ name) => /** @type {any} */ (form.elements.namedItem(name));
  const zone = field("time_zone");
  if (!zone.value) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

  const body = () => {
    const every = field("every").value;
    /** @type {Record<string, unknown>} */
    const when = { every, at: field("at").value || "00:00", time_zone: zone.value.trim() };
    if (every === "hours") when.hours = Number(field("hours").value);
    if (every === "week") when.weekday = field("weekday").value;
    if (every === "month") when.day = Number(field("day").value);
    const kept = ["last", "daily", "weekly", "monthly"].map((name) => [name, Number(field(`keep_${name}`).value)]);
    return {
      name: field("name").value.trim(),
      ...(field("vm") ? { vm: field("vm").value } : { filter: field("filter").value.trim() }),
      memory: JSON.parse(field("memory").value),
      when,
      keep: Object.fromEntries(kept),
    };
  };

  let asked = 0;
  const foresee = debounce(async () => {
    const mine = ++asked;
    const wish = body();
    // What it would do does not hang on its name, which may come last.
    const spec = JSON.stringify({ ...wish, name: wish.name || "…" });
    try {
      const text = await part(`${form.dataset.preview}?${new URLSearchParams({ spec, of })}`);
      if (mine === asked) shown.innerHTML = text;
    } catch (error) {
      if (mine === asked) shown.textContent = error instanceof Error ? error.message : String(error);
    }
  }, 250);

  const draw = () => {
    const every = field("every").value;
    for (const one of $$("[data-for]", form)) one.hidden = !one.dataset.for.split(" ").includes(every);
    /** @type {HTMLElement} */ ($(".asrest pre", form)).textContent = curl(method, path, body());
    foresee();
  };
  form.addEventListener("input", draw);
  draw();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forgetWrong(form);
    const button = /** @type {HTMLElement} */ ($("[type=submit]", form));
    button.setAttribute("aria-busy", "true");
    try {
      const answer = await api(method, path, body());
      location.assign(`/snapshot-schedules/${answer.id}`);
    } catch (error) {
      showWrong(form, error, (name, pointer) => {
        const id = FIELDS[pointer] ?? FIELDS[name];
        return /** @type {HTMLElement | null} */ (id ? document.getElementById(id) : null);
      });
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}
