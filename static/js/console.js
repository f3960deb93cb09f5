// @ts-check
/**
 * Inside the console frame: one guest's serial console or shell (xterm) or screen (noVNC) over `/ws/console`, opened with a
 * one-use ticket (api.md). All keys go to the guest; Ctrl Shift Q always leaves.
 */
import { ApiError, api } from "./api.js";
import { Channel } from "./channel.js";
import { $, $$, copy } from "./dom.js";
import { t } from "./i18n.js";

const body = document.body;
const vm = body.dataset.vm ?? "";
const guest = body.dataset.name ?? "";
let type = body.dataset.type ?? "serial";
const screen = /** @type {HTMLElement} */ ($("#screen"));

const LIVED_MS = 10_000;

/**
 * @typedef {"connecting" | "open" | "waiting" | "busy" | "off" | "closed"} State
 * @typedef {{ attach: (socket: WebSocket) => void, detach: () => void, focus: () => void, paste: (text: string) => void,
 *   selection: () => string, font?: (by: number) => void, find?: (text: string) => void, attention?: () => void }} View
 */

/** @type {View | null} */
let view = null;
/** @type {WebSocket | null} */
let socket = null;
/** @type {Channel | null} */
let watching = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let tries = 0;
let opened = 0;
let round = 0;

/* ---- what is said ---- */
/**
 * @param {State} state
 * @param {string} [text]
 * @param {{ label: string, run: () => void }[]} [ways]
 */
function show(state, text = "", ways = []) {
  body.dataset.state = state;
  const note = $("#note");
  note.hidden = !text;
  $("[data-text]", note).textContent = text;
  const box = $("[data-ways]", note);
  box.replaceChildren(
    ...ways.map(({ label, run }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "btn sm";
      button.textContent = label;
      button.addEventListener("click", run);
      return button;
    }),
  );
  if (parent !== window) parent.postMessage({ vmm: "state", state, type }, location.origin);
}

const again = () => ({ label: t("Connect again"), run: () => connect() });

/* ---- connecting ---- */
/** @param {{ takeOver?: boolean }} [options] */
async function connect({ takeOver = false } = {}) {
  const mine = ++round;
  clearTimeout(timer);
  watching?.close();
  watching = null;
  drop();
  show("connecting", tries ? t("Connecting again …") : "");
  try {
    view ??= await (type === "vnc" ? screenView() : terminalView());
    const ticket = await api("POST", `/vms/${vm}/console`, { type, take_over: takeOver });
    if (mine !== round) return;
    const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${ticket.url}`;
    socket = new WebSocket(url, ticket.protocols);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      if (mine !== round) return;
      opened = Date.now();
      show("open");
      view?.focus();
    });
    socket.addEventListener("close", (event) => mine === round && closed(event.code, event.reason));
    view.attach(socket);
  } catch (error) {
    if (mine === round) refused(error);
  }
}

function drop() {
  const old = socket;
  socket = null;
  view?.detach();
  old?.close(1000);
}

function wait() {
  const roof = Math.min(15_000, 500 * 2 ** tries);
  tries += 1;
  timer = setTimeout(() => connect(), roof * (0.3 + 0.7 * Math.random()));
}

/** @param {unknown} error */
function refused(error) {
  const code = error instanceof ApiError ? error.code : "";
  const text = error instanceof Error ? error.message : String(error);
  if (code === "wrong_state") sleep(text);
  else if (code === "offline" || code === "host_unreachable" || code === "timeout") {
    show("waiting", text, [again()]);
    wait();
  } else show("closed", text, code === "unsupported" ? [] : [again()]);
}

/**
 * @param {number} code
 * @param {string} reason
 */
function closed(code, reason) {
  drop();
  // One that opens and breaks at once is no success: tried without a pause it asked its hypervisor ten times a second.
  if (opened && Date.now() - opened > LIVED_MS) tries = 0;
  opened = 0;
  const more = reason ? ` (${reason})` : "";
  if (code === 4409) {
    show("busy", t("Somebody else is connected to this console%(more)s. Only one can type at a time.", { more }), [
      { label: t("Ask for control"), run: () => connect({ takeOver: true }) },
      { label: t("Try again"), run: () => connect() },
    ]);
  } else if (code === 4403) {
    show("closed", t("Your role does not allow this console%(more)s.", { more }), [again()]);
  } else if (code === 4404) {
    sleep(t("%(name)s closed its console%(more)s.", { name: guest, more }));
  } else if (code === 4401 && tries < 2) {
    tries += 1; // the ticket was too old or used: a fresh one is taken at once
    connect();
  } else {
    show(
      "waiting",
      code === 1012
        ? t("The server restarts. The console comes back by itself.")
        : t("The connection was lost%(more)s. Trying again.", { more }),
      [again()],
    );
    wait();
  }
}

/** The guest is off: the console opens by itself when it starts. @param {string} text */
function sleep(text) {
  show("off", `${text} ${t("It opens by itself when the guest starts.")}`, [again()]);
  watching = new Channel({
    types: ["vm.state_changed"],
    objects: [`vm/${vm}`],
    onEvent: (event) => {
      if (event.object?.id !== vm || event.data?.to !== "running") return;
      tries = 0;
      connect();
    },
  });
}

/* ---- the terminal ---- */
const FONT = "console-font";
const MOST_WAITING = 8 * 1024 * 1024;

/** @returns {Promise<View>} */
async function terminalView() {
  const { Terminal, FitAddon, SearchAddon } = await import("../dist/xterm.js");
  const terminal = new Terminal({
    fontFamily: getComputedStyle(body).getPropertyValue("--mono"),
    fontSize: Number(localStorage.getItem(FONT)) || 13,
    lineHeight: 1.25,
    scrollback: 10_000,
    cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    macOptionIsMeta: true,
    screenReaderMode: false,
    minimumContrastRatio: 4.5,
    theme: { background: "#0b0d10", foreground: "#cdd6df", cursor: "#cdd6df", selectionBackground: "#2f6fe080" },
  });
  const fit = new FitAddon();
  const search = new SearchAddon();
  terminal.loadAddon(fit);
  terminal.loadAddon(search);
  terminal.open(screen);
  /** @type {WebSocket | null} */
  let wire = null;
  const encoder = new TextEncoder();
  let inside = 0; // bytes given to xterm and not drawn yet
  let skipped = 0;

  const size = () => {
    if (screen.clientWidth < 40 || screen.clientHeight < 20) return; // the tab is hidden: its guest keeps its size
    fit.fit();
    if (wire?.readyState === WebSocket.OPEN) wire.send(JSON.stringify({ resize: [terminal.cols, terminal.rows] }));
  };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let sizing;
  new ResizeObserver(() => {
    clearTimeout(sizing);
    sizing = setTimeout(size, 80);
  }).observe(screen);

  /** @type {Uint8Array[]} */
  let outbox = [];
  let sending = false;
  // A UART has a small buffer: long pastes go in small pieces, in order with what is typed meanwhile.
  const pump = () => {
    const next = outbox.shift();
    sending = Boolean(next);
    if (!next) return;
    if (wire?.readyState === WebSocket.OPEN) wire.send(next);
    if (outbox.length) setTimeout(pump, 12);
    else sending = false;
  };
  /** @param {Uint8Array} bytes */
  const send = (bytes) => {
    for (let at = 0; at < bytes.length; at += 256) outbox.push(bytes.subarray(at, at + 256));
    if (!sending) pump();
  };
  terminal.onData((/** @type {string} */ text) => send(encoder.encode(text)));
  terminal.onBinary((/** @type {string} */ text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  terminal.attachCustomKeyEventHandler((/** @type {KeyboardEvent} */ event) => {
    if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey) return true;
    const key = event.key.toLowerCase();
    if (key === "c" && terminal.hasSelection()) {
      event.preventDefault();
      copy(terminal.getSelection());
      return false;
    }
    return key !== "v" && key !== "q" && key !== "f"; // pasting is the browser's own event, the others are ours
  });

  /** @param {MessageEvent} message */
  const take = (message) => {
    if (!(message.data instanceof ArrayBuffer)) return;
    const bytes = new Uint8Array(message.data);
    // The socket cannot be paused; the server bounds what it sends ahead. Should output still come faster than it can be
    // drawn (`yes`, a kernel in a loop), what nobody could read is left out, and it says so.
    if (inside > MOST_WAITING) {
      skipped += bytes.length;
      return;
    }
    inside += bytes.length;
    terminal.write(bytes, () => {
      inside -= bytes.length;
      if (skipped && inside === 0) {
        terminal.write(`\r\n\x1b[7m ${t("%(n)s KiB left out", { n: Math.round(skipped / 1024) })} \x1b[0m\r\n`);
        skipped = 0;
      }
    });
  };

  return {
    attach(ws) {
      wire = ws;
      outbox = [];
      ws.addEventListener("message", take);
      ws.addEventListener("open", size);
    },
    detach() {
      wire?.removeEventListener("message", take);
      wire = null;
      outbox = [];
    },
    focus: () => terminal.focus(),
    paste: (text) => terminal.paste(text),
    selection: () => terminal.getSelection(),
    find: (text) => search.findPrevious(text),
    font(by) {
      const to = Math.max(9, Math.min(24, (terminal.options.fontSize ?? 13) + by));
      terminal.options.fontSize = to;
      localStorage.setItem(FONT, String(to));
      size();
    },
  };
}

/* ---- the screen ---- */
/** @returns {Promise<View>} */
async function screenView() {
  const { RFB } = await import("../dist/novnc.js");
  /** @type {any} */
  let rfb = null;
  return {
    attach(ws) {
      rfb = new RFB(screen, ws, { shared: true });
      rfb.scaleViewport = true;
      rfb.background = "#0b0d10";
      rfb.addEventListener("securityfailure", (/** @type {any} */ e) =>
        show("closed", t("The display refused: %(why)s", { why: e.detail.reason ?? e.detail.status }), [again()]),
      );
      rfb.addEventListener("clipboard", (/** @type {any} */ e) => copy(e.detail.text));
    },
    detach() {
      rfb?.disconnect();
      rfb = null;
      screen.replaceChildren();
    },
    focus: () => rfb?.focus({ preventScroll: true }),
    // A screen has no clipboard of its own at a login prompt: the text is typed, key by key.
    paste(text) {
      for (const char of text.replaceAll("\r\n", "\n")) {
        const code = /** @type {number} */ (char.codePointAt(0));
        rfb?.sendKey(char === "\n" ? 0xff0d : char === "\t" ? 0xff09 : code < 0x100 ? code : 0x0100_0000 | code);
      }
    },
    selection: () => "",
    attention: () => rfb?.sendCtrlAltDel(),
  };
}

/* ---- the bar ---- */
/** @param {string} to */
function change(to) {
  if (to === type) return;
  type = to;
  view?.detach();
  view = null;
  screen.replaceChildren();
  tries = 0;
  for (const button of $$("[data-type-to]")) button.setAttribute("aria-pressed", String(button.dataset.typeTo === to));
  body.dataset.type = to;
  history.replaceState(null, "", `?type=${to}`);
  connect();
}

document.addEventListener("click", async (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
  if (!button) return;
  const { typeTo, do: what } = button.dataset;
  if (typeTo) change(typeTo);
  if (what === "font-up") view?.font?.(1);
  if (what === "font-down") view?.font?.(-1);
  if (what === "copy") copy(view?.selection() ?? "");
  if (what === "paste") view?.paste(await navigator.clipboard.readText().catch(() => ""));
  if (what === "cad") view?.attention?.();
  if (what === "full")
    document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen();
  if (what === "leave") leave();
  if (what) view?.focus();
});

function leave() {
  if (parent !== window) parent.postMessage({ vmm: "leave" }, location.origin);
  else if (history.length > 1) history.back();
  else close();
}

const find = $("#find");
find?.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  if (event.key === "Enter") view?.find?.(find.value);
  if (event.key === "Escape") {
    find.hidden = true;
    view?.focus();
  }
});
addEventListener(
  "keydown",
  (event) => {
    if (!event.ctrlKey || !event.shiftKey) return;
    const key = event.key.toLowerCase();
    if (key === "q") {
      event.preventDefault();
      event.stopPropagation();
      leave();
    }
    if (key === "f" && view?.find && find) {
      event.preventDefault();
      event.stopPropagation();
      find.hidden = false;
      find.focus();
    }
  },
  true,
);
addEventListener("focus", () => document.activeElement === body && view?.focus());
addEventListener("online", () => body.dataset.state === "waiting" && connect());
addEventListener("pagehide", () => drop());

connect();
