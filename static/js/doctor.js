// @ts-check
/**
 * The host doctor: tries a hypervisor step by step (`POST /hosts/probe`, which saves nothing), shows evidence and the command
 * that mends the first failure, tries again by itself, and adds the host when all is well. Works before a host is saved.
 *
 * Markup: form[data-doctor], of a saved one (data-hypervisor) or with the fields of hostform.js (data-endpoint); [data-steps] an
 * <ol class="steps">; [data-verdict]; [data-again], [data-report], [data-add].
 */
import { ApiError, api, curl } from "./api.js";
import { $, $$, copy, fill, html, icon } from "./dom.js";
import { hostForm } from "./hostform.js";
import { t } from "./i18n.js";
import { codeLine, failure, say, toast } from "./notify.js";

const form = /** @type {HTMLFormElement} */ ($("form[data-doctor]"));
const list = /** @type {HTMLElement} */ ($("[data-steps]"));
const verdict = $("[data-verdict]");
const RETRY = 45;

/** @type {Record<string, string>} */
const STEPS = {
  name: t("Name resolves"),
  reach: t("Host answers"),
  port: t("Port is open"),
  tls: t("TLS certificate or host key is the known one"),
  authentication: t("Sign-in works"),
  driver: t("Hypervisor answers"),
  rights: t("Rights are enough"),
  capabilities: t("Capabilities probed"),
};
const WORDS = /** @type {Record<string, [string, string]>} */ ({
  ok: ["succeeded", t("passed")],
  failed: ["failed", t("failed")],
  not_tried: ["queued", t("not tried")],
  running: ["op-running", t("under way")],
});

const endpoint = form.dataset.endpoint === undefined ? null : hostForm(form);

/** What is tried. A host that is saved already is tried with the credentials it has: they never come back to the browser. */
async function question() {
  if (!endpoint) return { hypervisor: form.dataset.hypervisor };
  const given = await endpoint.payload();
  return endpoint.keeps() ? { hypervisor: form.dataset.saved } : given;
}

/* ---- the steps ---- */
/** @param {any[]} steps */
function drawSteps(steps) {
  fill(
    list,
    html`${steps.map((step) => {
      const [css, word] = WORDS[step.state] ?? WORDS.not_tried;
      const seconds = step.duration_seconds ?? step.seconds;
      const took =
        typeof seconds === "number" && step.state !== "not_tried"
          ? seconds < 1
            ? `${Math.round(seconds * 1000)} ms`
            : `${seconds.toFixed(1)} s`
          : "";
      return html`<li class="${css}">${icon(`s-${css}`, css === "op-running" ? "g spin" : "g")}<b>${STEPS[step.step] ?? step.step}<span class="vh">: ${word}</span></b><span class="t3 small">${took}</span>
        ${step.evidence ? html`<span class="detail">${step.evidence}</span>` : ""}
        ${step.state === "failed" ? html`<div class="fix">${hint(step)}${offer(step)}${step.error?.code ? html`<p class="t3 small"><code>${step.error.code}</code></p>` : ""}</div>` : ""}</li>`;
    })}`,
  );
}

const COMMAND =
  /^(|.*?[:;] )((?:sudo|systemctl|apt|usermod|modprobe|journalctl|getent|ssh-keyscan|ping|nc|ss|date|ls|tail|openssl|scp|virsh|xe|xe-toolstack-restart|command|docker|dockerd|podman|pkg|cloud-hypervisor|VBoxManage|winrm|service-control|\/etc\/init\.d\/hostd|Get-\w+|Install-\w+)(?: .+?)?)((?:, then |\.? Or |\.$).*)?$/s;

/** A hint's sentences are text; the command in it, where there is one, can be copied. @param {any} step */
function hint(step) {
  const text = String(step.hint ?? "");
  const [, before, command, after] = COMMAND.exec(text) ?? ["", text, "", ""];
  const rest = (after ?? "").replace(/^[,.] ?/, "");
  return html`${before ? html`<p>${before}</p>` : ""}${command ? codeLine(command) : ""}${rest ? html`<p>${rest}</p>` : ""}`;
}

/** What the doctor saw and the form could believe: shown whole, with where to compare it, before anybody may take it. @param {any} step */
function offer(step) {
  const trust = step.trust;
  if (!trust) return "";
  const what = trust.credential === "verify" ? t("SHA-256 of its certificate") : t("Its host key");
  const button = endpoint?.takes(trust)
    ? html`<button class="btn" type="button" data-trust="${trust.value}" data-credential="${trust.credential}">${trust.credential === "verify" ? t("Trust this fingerprint") : t("Trust this host key")}</button>`
    : "";
  return html`<p class="t2">${what}</p><code class="print">${trust.credential === "verify" ? colons(trust.value) : trust.value}</code>
    ${trust.compare ? html`<p>${t("Compare it with what the host itself says. There:")}</p>${codeLine(trust.compare)}` : ""}${button}`;
}

/** As other tools write a fingerprint. @param {string} hex */
const colons = (hex) => (hex.toUpperCase().match(/../g) ?? []).join(":");

let last = /** @type {any} */ (null);
/** @type {ReturnType<typeof setInterval> | undefined} */
let ticking;
let running = false;

function stopClock() {
  clearInterval(ticking);
  const words = $("[data-countdown]");
  if (words) words.textContent = "";
}

/** Tries again by itself while the page is in front, with a visible countdown. */
function countDown() {
  stopClock();
  const words = $("[data-countdown]");
  let left = RETRY;
  ticking = setInterval(() => {
    if (document.hidden) return;
    left -= 1;
    if (words) words.textContent = t("Tries by itself again in %(n)s s", { n: left });
    if (left <= 0) probe();
  }, 1000);
}

/** @param {string} css @param {string} text */
function judge(css, text) {
  if (!verdict) return;
  verdict.hidden = false;
  verdict.className = `pill ${css}`;
  fill(verdict, html`${icon(`s-${css}`, css === "op-running" ? "g spin" : "g")}${text}`);
}

async function probe() {
  if (running) return;
  running = true;
  stopClock();
  const again = $("[data-again]");
  again?.setAttribute("aria-busy", "true");
  if (endpoint) $("#doctor-h")?.scrollIntoView({ block: "nearest" }); // on a phone it is below the form
  const begun = performance.now();
  drawSteps(Object.keys(STEPS).map((step, i) => ({ step, state: i === 0 ? "running" : "not_tried" })));
  judge("op-running", t("Trying …"));
  const clock = setInterval(
    () => judge("op-running", t("Trying, %(n)s s", { n: Math.round((performance.now() - begun) / 1000) })),
    1000,
  );
  try {
    last = await api("POST", "/hosts/probe", await question());
    drawSteps(last.steps);
    const at = last.steps.findIndex((/** @type {any} */ step) => step.state === "failed");
    if (last.ok) judge("succeeded", t("All is well"));
    else judge("failed", t("Stopped at step %(at)s of %(all)s", { at: at + 1, all: last.steps.length }));
    say(last.ok ? t("All is well") : `${STEPS[last.steps[at]?.step] ?? ""}: ${t("failed")}`);
    if (!last.ok) countDown();
  } catch (error) {
    last = null;
    drawSteps([]);
    if (verdict) verdict.hidden = true;
    showErrors(error);
  } finally {
    clearInterval(clock);
    running = false;
    again?.removeAttribute("aria-busy");
  }
}

/* ---- errors of the form: at their fields, the first gets the focus ---- */
/** @param {unknown} error */
function showErrors(error) {
  for (const old of $$("[data-field-error]", form)) old.remove();
  for (const field of $$("[aria-invalid]", form)) field.removeAttribute("aria-invalid");
  const errors = error instanceof ApiError ? (error.problem.errors ?? []) : [];
  let first = /** @type {HTMLElement | null} */ (null);
  for (const { pointer, detail } of errors) {
    const name = pointer.split("/").at(-1) ?? "";
    const found = form.elements.namedItem(name === "verify" ? "fingerprint" : name);
    const field = found instanceof RadioNodeList ? found[0] : found;
    if (!(field instanceof HTMLElement) || field.closest("[hidden]")) continue;
    field.setAttribute("aria-invalid", "true");
    const id = `err-${name}`;
    field.setAttribute("aria-describedby", id);
    field.insertAdjacentHTML(
      "afterend",
      html`<span class="err" id="${id}" data-field-error>${icon("warn")}${detail}</span>`.text,
    );
    first ??= field;
  }
  if (first) first.focus();
  else failure(error);
}

/** Adds the host, or one more hypervisor to it, or changes the one that is there. */
async function add() {
  if (!endpoint) return;
  const button = $("[data-add]");
  button?.setAttribute("aria-busy", "true");
  try {
    const given = await endpoint.payload();
    const { endpoint: mode, host, saved } = form.dataset;
    let id = host;
    if (mode === "host") {
      const name = String(new FormData(form).get("name") ?? "").trim();
      id = (await api("POST", "/hosts", { name, ...given })).id;
    } else if (mode === "hypervisor") await api("POST", `/hosts/${host}/hypervisors`, given);
    else await api("PATCH", `/hypervisors/${saved}`, endpoint.keeps() ? { uri: given.uri } : given);
    location.assign(`/hosts/${id}`);
  } catch (error) {
    showErrors(error);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const by = /** @type {SubmitEvent} */ (event).submitter;
  if (by && "add" in by.dataset) add();
  else probe();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && form.contains(/** @type {Node} */ (event.target)))
    form.requestSubmit();
});
document.addEventListener("click", async (event) => {
  const target = /** @type {Element} */ (event.target);
  if (target.closest("[data-again]")) probe();
  const trusted = /** @type {HTMLElement | null} */ (target.closest("[data-trust]"));
  if (trusted && endpoint) {
    endpoint.trust({ credential: trusted.dataset.credential ?? "", value: trusted.dataset.trust ?? "" });
    say(t("Filled in. Test again."));
  }
  if (target.closest("[data-report]") && last) {
    const lines = last.steps.map(
      (/** @type {any} */ s) =>
        `${s.state.padEnd(9)} ${s.step}: ${s.evidence ?? ""}${s.error?.code ? ` [${s.error.code}]` : ""}`,
    );
    const done = await copy(
      [`vmmanager host doctor, ${new Date().toISOString()}`, endpoint?.uri() ?? "", ...lines]
        .filter(Boolean)
        .join("\n"),
    );
    toast(done ? t("Report copied") : t("The browser did not allow copying"), { seconds: 3 });
  }
  if (target.closest("[data-probe-curl]")) {
    const box = $("[data-probe-call]");
    if (!box || !endpoint) return;
    try {
      const shown = await endpoint.payload();
      const hidden = Object.fromEntries(
        Object.entries(shown.credentials).map(([key, value]) => [key, key === "verify" ? value : "…"]),
      );
      box.textContent = curl("POST", "/hosts/probe", { uri: shown.uri, credentials: hidden });
    } catch (error) {
      box.textContent = error instanceof ApiError ? error.message : String(error);
    }
  }
});
if (form.dataset.auto !== undefined) probe();
