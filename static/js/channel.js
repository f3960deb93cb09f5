// @ts-check
/** One WebSocket to `/ws/events` that comes back by itself and misses nothing (api.md, WebSockets). Knows no page. */

/**
 * @typedef {{ seq: number, type: string, at: string, object: { type: string, id: string, name: string }, actor: any, operation: any, data: any }} LiveEvent
 * @typedef {"connecting" | "open" | "waiting" | "signed-out" | "closed"} ChannelState
 */

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;

export class Channel {
  /**
   * @param {{ types?: string[], objects?: string[], after?: number | null,
   *   onEvent: (event: any) => void, onReset?: (seq: number) => void, onState?: (state: ChannelState) => void }} options
   */
  constructor({ types = [], objects = [], after = null, onEvent, onReset = () => {}, onState = () => {} }) {
    this.types = types;
    this.objects = objects;
    /** The last `seq` seen: a reconnect goes on after it. @type {number | null} */
    this.seq = after;
    this.onEvent = onEvent;
    this.onReset = onReset;
    this.onState = onState;
    this.tries = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.wanted = true;
    this.wake = () => this.now();
    addEventListener("online", this.wake);
    addEventListener("pageshow", this.wake);
    this.open();
  }

  open() {
    this.onState("connecting");
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/events`);
    this.socket = socket;
    socket.onopen = () => this.subscribe();
    socket.onmessage = (message) => this.take(JSON.parse(message.data));
    socket.onclose = (close) => socket === this.socket && this.lost(close.code);
  }

  subscribe() {
    /** @type {{ subscribe: { types: string[], objects: string[] }, after?: number }} */
    const wish = { subscribe: { types: this.types, objects: this.objects } };
    if (this.seq !== null) wish.after = this.seq;
    this.socket?.send(JSON.stringify(wish));
  }

  /** @param {any} message */
  take(message) {
    if (message.type === "subscribed") {
      this.tries = 0;
      this.seq ??= message.seq;
      this.onState("open");
    } else if (message.type === "reset") {
      this.seq = message.seq;
      this.onReset(message.seq);
    } else {
      if (typeof message.seq === "number") {
        if (this.seq !== null && message.seq <= this.seq) return; // seen already
        this.seq = message.seq;
      }
      this.onEvent(message);
    }
  }

  /** @param {number} code */
  lost(code) {
    this.socket = null;
    if (!this.wanted) return;
    if (code === 4401 || code === 4403) {
      this.onState("signed-out");
      return;
    }
    this.onState("waiting");
    // 4008: we were too slow; the server is well, so the first try comes at once. All others wait, with full jitter, so that
    // a restarted server does not meet every browser in the same moment.
    const roof = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.tries);
    const wait = code === 4008 && this.tries === 0 ? 50 : roof * (0.3 + 0.7 * Math.random());
    this.tries += 1;
    this.timer = setTimeout(() => this.open(), wait);
  }

  /** Tries at once instead of at the end of the wait. */
  now() {
    if (!this.wanted || this.socket) return;
    clearTimeout(this.timer);
    this.open();
  }

  /** Other objects from now on; `seq` is kept. @param {string[]} objects */
  watch(objects) {
    if (objects.length === this.objects.length && objects.every((o, i) => o === this.objects[i])) return;
    this.objects = objects;
    if (this.socket?.readyState === WebSocket.OPEN) this.subscribe();
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    removeEventListener("online", this.wake);
    removeEventListener("pageshow", this.wake);
    this.socket?.close(1000);
    this.socket = null;
    this.onState("closed");
  }
}
