// @ts-check
/** The guest page: an hour of charts that go on live, marks of its events, keys. Actions, console and state are shared work. */
import { act, guestOf, openConsole, shutdownBy, track } from "./actions.js";
import { ApiError, api } from "./api.js";
import { Chart, chartParts } from "./charts.js";
import { $, $$ } from "./dom.js";
import { percent, rate, size } from "./format.js";
import { stateLabel, t } from "./i18n.js";
import { bind } from "./keys.js";
import { onEvent, onSample } from "./live.js";
import { failure, showWhy, toast } from "./notify.js";

const page = /** @type {HTMLElement} */ ($("[data-page]"));
/** "vm/<id>" or "host/<id>": the page of a host shows the same charts. */
const object = page.dataset.object ?? "";
const path = object.replace(/^vm\//, "/vms/").replace(/^host\//, "/hosts/");

const BLUE = "info";
const VIOLET = "susp";
/** @type {Record<string, { title: string, series: { key: string, name: string, css: string }[], format: (v: number | null) => string, binary: boolean }>} */
const CHARTS = {
  cpu: { title: t("CPU"), series: [{ key: "cpu_ratio", name: t("CPU"), css: BLUE }], format: percent, binary: false },
  memory: {
    title: t("Memory"),
    series: [{ key: "memory_bytes", name: t("Memory"), css: BLUE }],
    format: size,
    binary: true,
  },
  disk: {
    title: t("Disk"),
    series: [
      { key: "disk_read_bytes_per_second", name: t("Read"), css: BLUE },
      { key: "disk_write_bytes_per_second", name: t("Written"), css: VIOLET },
    ],
    format: rate,
    binary: true,
  },
  network: {
    title: t("Network"),
    series: [
      { key: "network_receive_bytes_per_second", name: t("Received"), css: BLUE },
      { key: "network_transmit_bytes_per_second", name: t("Sent"), css: VIOLET },
    ],
    format: rate,
    binary: true,
  },
};
/** @type {Map<string, Chart>} */
const drawn = new Map();

async function readCharts() {
  const box = $("[data-charts]");
  if (!box) return;
  try {
    const [metrics, events] = await Promise.all([
      api("GET", `${path}/metrics`),
      api(
        "GET",
        `/events?object=${object}&type=vm.state_changed,vm.changed,vm.defined,host.online,host.offline&limit=30`,
      ).catch(() => ({ items: [] })),
    ]);
    const start = Date.parse(metrics.start);
    const marks = events.items
      .map((/** @type {any} */ event) => ({ at: Date.parse(event.at), text: describe(event) }))
      .filter((/** @type {any} */ mark) => mark.at >= start);
    for (const [name, chart] of Object.entries(CHARTS)) {
      const { canvas, read, at, table } = chartParts(name, box);
      if (!canvas) continue;
      const series = chart.series.map(({ key, name: label, css }) => ({
        name: label,
        css,
        values: [...(metrics.series[key] ?? [])],
      }));
      if (!series[0].values.length) continue;
      const most = Math.max(0, ...series[0].values.map((value) => value ?? 0));
      // What a guest's process holds on its host can be more than the guest has: then the chart finds its own top.
      const memory = Number(box.dataset.memory) >= most ? Number(box.dataset.memory) : undefined;
      const top = name === "cpu" ? 1 : name === "memory" ? memory || undefined : undefined;
      drawn.get(name)?.destroy();
      drawn.set(
        name,
        new Chart(canvas, {
          title: chart.title,
          series,
          start,
          step: metrics.step * 1000,
          format: chart.format,
          binary: chart.binary,
          max: top,
          marks,
          read,
          at,
          table,
        }),
      );
    }
    box.removeAttribute("data-failed");
  } catch (error) {
    box.dataset.failed = "true";
    const note = $("[data-charts-failed]", box);
    if (note) {
      note.hidden = false;
      $("[data-text]", note).textContent = error instanceof Error ? error.message : String(error);
    }
  }
}

/** @param {any} event */
function describe(event) {
  if (event.type.endsWith("state_changed")) return stateLabel(event.data?.to ?? "");
  if (event.type === "vm.changed") return t("changed");
  return stateLabel(event.type.split(".")[1]);
}

onSample(object, (data, at) => {
  for (const [name, chart] of drawn)
    chart.append(
      at,
      CHARTS[name].series.map(({ key }) => data[key] ?? null),
    );
});
onEvent((event) => {
  if (`${event.object?.type}/${event.object?.id}` !== object || event.type === "operation.changed") return;
  if (event.type === "vm.undefined") {
    location.reload(); // its address now says when it went, and keeps its history
    return;
  }
  for (const chart of drawn.values()) chart.mark({ at: Date.parse(event.at), text: describe(event) });
});
document.addEventListener("vmm:refetched", readCharts);
// A tab that was hidden got no samples: it reads the hour again.
let hiddenAt = 0;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = Date.now();
  else if (hiddenAt && Date.now() - hiddenAt > 30_000) readCharts();
});

page.addEventListener("click", async (event) => {
  const target = /** @type {Element} */ (event.target);
  if (target.closest("[data-charts-again]")) readCharts();
  if (target.closest("[data-edit-open]")) edit(/** @type {HTMLElement} */ (target.closest("[data-edit-open]")));
  const template = /** @type {HTMLElement | null} */ (target.closest("[data-make-template]"));
  if (template && !template.dataset.why) {
    /** @type {any} */ (template.closest("[popover]"))?.hidePopover();
    await makeTemplate(guestOf(template));
  }
  const deadline = /** @type {HTMLElement | null} */ (target.closest("[data-shutdown-by]"));
  if (deadline && !deadline.dataset.why) {
    /** @type {any} */ (deadline.closest("[popover]"))?.hidePopover();
    await shutdownBy(guestOf(deadline));
  }
});

/** @param {import("./actions.js").Guest} guest */
async function makeTemplate(guest) {
  const { askTemplate } = await import("./cloning.js");
  const call = await askTemplate(guest);
  if (!call) return;
  const title = t("Template of %(name)s", { name: guest.name });
  try {
    track(await api("POST", call.path, call.body), title);
  } catch (error) {
    failure(error, { title: t("%(what)s was refused", { what: title }) });
  }
}

/* ---- title, description, tags ---- */
/** @param {HTMLElement} [by] */
function edit(by) {
  /** @type {any} */ (by?.closest("[popover]"))?.hidePopover();
  const dialog = /** @type {HTMLDialogElement | null} */ ($("#edit"));
  if (!dialog) return false;
  dialog.showModal();
  $("input", dialog).focus();
}

/** @param {HTMLFormElement} form @returns {Record<string, unknown>} what was changed since the page came, and only that */
function changesOf(form) {
  /** @type {Record<string, unknown>} */
  const changes = {};
  for (const field of $$("[name]", form)) {
    if (field.type === "checkbox") {
      if (field.checked !== field.defaultChecked) changes[field.name] = field.checked;
      continue;
    }
    if (field.value === field.defaultValue) continue;
    changes[field.name] = said(field);
  }
  return changes;
}

/** @param {HTMLInputElement} field */
function said(field) {
  if (field.type === "number") return field.value === "" ? null : Number(field.value);
  return field.name === "tags" ? field.value.split(/[\s,]+/).filter(Boolean) : field.value;
}

$("[data-edit]")?.addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  const dialog = /** @type {HTMLDialogElement} */ (form.closest("dialog"));
  const changes = changesOf(form);
  for (const note of $$(".err", form)) note.hidden = true;
  for (const field of $$("[name]", form)) field.removeAttribute("aria-invalid");
  if (!Object.keys(changes).length) {
    dialog.close();
    return;
  }
  try {
    await api("PATCH", form.dataset.edit ?? "", changes);
    for (const field of $$("[name]", form)) {
      if (field.type === "checkbox") field.defaultChecked = field.checked;
      else field.defaultValue = field.value;
    }
    dialog.close();
    toast(t("Saved"), { seconds: 3 });
  } catch (error) {
    showWrong(form, error);
  }
});

/** @param {HTMLFormElement} form @param {unknown} error */
function showWrong(form, error) {
  const errors = error instanceof ApiError ? (error.problem.errors ?? []) : [];
  /** @type {HTMLElement | null} */
  let first = null;
  for (const { pointer, detail } of errors) {
    const field = $(`[name="${pointer.split("/")[1]}"]`, form);
    const note = field && document.getElementById(`${field.id}-e`);
    if (!note) continue;
    field.setAttribute("aria-invalid", "true");
    note.textContent = detail;
    note.hidden = false;
    first ??= field;
  }
  if (first) {
    first.focus();
    return;
  }
  const whole = $("[data-edit-error]", form);
  whole.textContent = error instanceof Error ? error.message : String(error);
  whole.hidden = false;
}

/** @param {string} selector @param {(button: HTMLElement) => void} run */
const press = (selector, run) => () => {
  const button = $(selector, page);
  if (!button) return false;
  if (button.dataset.why) showWhy(button);
  else run(button);
};
if (object.startsWith("vm/")) {
  bind(t("On a guest"), [
    { keys: "c", does: t("Console"), run: press("[data-console]", (button) => openConsole(guestOf(button))) },
    {
      keys: "s",
      does: t("Start, or shut down"),
      run: press(
        "[data-action=start]:not([aria-disabled]), [data-action=resume]:not([aria-disabled]), [data-action=shutdown]",
        (button) => act(button.dataset.action ?? "", guestOf(button)),
      ),
    },
    { keys: "e", does: t("Title, description, tags"), run: () => edit() },
    { keys: "1 … 4", does: t("Tabs") },
  ]);
  for (const [i, tab] of $$(".tabs a").entries()) bindQuietly(String(i + 1), () => tab.click());
}
/** @param {string} key @param {() => void} run */
function bindQuietly(key, run) {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {Element} */ (event.target);
    if (
      event.key === key &&
      !event.ctrlKey &&
      !event.altKey &&
      !event.metaKey &&
      !target.closest("input, textarea, select, dialog")
    )
      run();
  });
}

const deepLink = () => location.hash === "#console" && openConsole(guestOf(page));
addEventListener("hashchange", deepLink);
deepLink();
readCharts();
