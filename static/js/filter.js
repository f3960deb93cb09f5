// @ts-check
/**
 * The search field of a list: terms `key:value` as chips, completion of keys and values, one text that is the address's `q`,
 * the API's `q` and a saved view. Filtering itself is the server's work. Used by the lists of guests, operations and events.
 */
import { json } from "./api.js";
import { $, $$, fill, html, icon, make } from "./dom.js";
import { t } from "./i18n.js";

/** @typedef {{ key: string, hint?: string, values?: { value: string, count?: number }[] }} Key */

/** Terms of a query; blanks inside quotes stay. @param {string} text @returns {string[]} */
export const terms = (text) => text.match(/-?(?:[\w.]+:)?(?:"[^"]*"|[^\s"]+)+/g) ?? [];

/** How many letters apart two short words are. @param {string} a @param {string} b */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

export class Filter {
  /**
   * @param {HTMLElement} box [data-search] with an input and a listbox; data-keys: address of the keys
   * @param {(query: string) => void} onChange the whole query, when it changed
   */
  constructor(box, onChange) {
    this.box = box;
    this.onChange = onChange;
    this.input = /** @type {HTMLInputElement} */ ($("input", box));
    this.list = /** @type {HTMLElement} */ ($("[role=listbox]", box));
    /** @type {Key[]} */
    this.keys = [];
    this.asked = false;
    this.at = -1;
    this.chips = terms(box.dataset.q ?? "");
    this.drawChips();
    this.input.addEventListener("input", () => {
      this.suggest();
      this.typed();
    });
    this.input.addEventListener("focus", () => this.readKeys());
    this.input.addEventListener("blur", () => setTimeout(() => this.shut(), 150));
    this.input.addEventListener("keydown", (e) => this.key(e));
    this.list.addEventListener("mousedown", (e) => {
      const option = /** @type {HTMLElement | null} */ (/** @type {Element} */ (e.target).closest(".opt"));
      if (!option) return;
      e.preventDefault();
      this.take(option.dataset.term ?? "");
    });
    box.addEventListener("click", (e) => e.target === box && this.input.focus());
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  async readKeys() {
    if (this.asked) {
      this.suggest();
      return;
    }
    this.asked = true;
    const answer = await json(this.box.dataset.keys ?? "").catch(() => ({ keys: [] }));
    this.keys = answer.keys;
    this.drawChips();
    if (document.activeElement === this.input) this.suggest();
  }

  /** Chips and what is being typed. */
  get query() {
    return [...this.chips, ...terms(this.input.value).filter((term) => !term.endsWith(":"))].join(" ");
  }

  /** Free words filter as one types, a moment after the last letter. */
  typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.onChange(this.query), 180);
  }

  changed() {
    clearTimeout(this.timer);
    this.drawChips();
    this.onChange(this.query);
  }

  /** @param {string} query */
  set(query) {
    this.show(query);
    this.onChange(this.query);
  }

  /** Shows a query that is in force already. @param {string} query */
  show(query) {
    clearTimeout(this.timer);
    this.chips = terms(query);
    this.input.value = "";
    this.drawChips();
  }

  drawChips() {
    for (const chip of $$(".chip", this.box)) chip.remove();
    for (const term of this.chips) {
      const [, not, key, value] = /^(-?)(?:([\w.]+):)?(.*)$/.exec(term) ?? [];
      const known = !key || !this.keys.length || this.keys.some((one) => one.key === key);
      const near = known ? "" : this.nearest(key);
      const label = value.replaceAll('"', "").replaceAll(",", ` ${t("or")} `);
      const chip =
        make(html`<span class="chip ${known ? "" : "bad"}" ${known ? "" : html`title="${t("No key %(key)s here: it is searched as a word.", { key })}"`}>
        ${not ? html`<b>${t("not")} </b>` : ""}${key ? html`<b>${key}:</b>` : ""}${label}
        ${near ? html`<button class="link" type="button" data-near>${t("%(key)s?", { key: near })}</button>` : ""}
        <button type="button" data-drop aria-label="${t("Remove %(term)s", { term })}">${icon("x")}</button></span>`);
      $("[data-drop]", chip).addEventListener("click", () => {
        this.chips = this.chips.filter((one) => one !== term);
        this.changed();
        this.input.focus();
      });
      $("[data-near]", chip)?.addEventListener("click", () => {
        this.chips = this.chips.map((one) => (one === term ? `${not}${near}:${value}` : one));
        this.changed();
      });
      this.input.before(chip);
    }
  }

  /** "Did you mean": a key within two letters. @param {string} key */
  nearest(key) {
    const best = this.keys.map((one) => ({ key: one.key, n: distance(key, one.key) })).sort((a, b) => a.n - b.n)[0];
    return best && (best.n <= 2 || best.key.startsWith(key)) ? best.key : "";
  }

  suggest() {
    const word = this.input.value.split(/\s+/).at(-1) ?? "";
    const not = word.startsWith("-") ? "-" : "";
    const [key, value] = word.slice(not.length).split(/:(.*)/);
    /** @type {{ term: string, hint: string }[]} */
    let options;
    if (word.includes(":")) {
      const found = this.keys.find((one) => one.key === key);
      const parts = (value ?? "").split(",");
      const last = parts.pop()?.toLowerCase() ?? "";
      const before = parts.length ? `${parts.join(",")},` : "";
      options = (found?.values ?? [])
        .filter((one) => one.value.toLowerCase().startsWith(last))
        .map((one) => ({
          term: `${not}${key}:${before}${/\s/.test(one.value) ? `"${one.value}"` : one.value}`,
          hint: one.count === undefined ? "" : String(one.count),
        }));
    } else {
      options = this.keys
        .filter((one) => one.key.startsWith(key))
        .map((one) => ({
          term: `${not}${one.key}:`,
          hint:
            one.hint ??
            (one.values ?? [])
              .slice(0, 3)
              .map((v) => v.value)
              .join(", "),
        }));
    }
    this.at = -1;
    fill(
      this.list,
      html`${options.slice(0, 10).map(({ term, hint }, i) => html`<li class="opt" role="option" id="qo-${i}" data-term="${term}" aria-selected="false"><code>${term}</code><small>${hint}</small></li>`)}`,
    );
    this.open(options.length > 0);
  }

  /** @param {boolean} on */
  open(on) {
    this.list.hidden = !on;
    this.input.setAttribute("aria-expanded", String(on));
    if (!on) this.input.removeAttribute("aria-activedescendant");
  }
  shut() {
    this.open(false);
  }

  /** @param {string} term */
  take(term) {
    const words = this.input.value.split(/\s+/);
    words.pop();
    if (term.endsWith(":")) {
      this.input.value = [...words, term].join(" ").trimStart();
      this.suggest();
    } else {
      this.chips.push(...words.filter(Boolean), term);
      this.input.value = "";
      this.shut();
      this.changed();
    }
    this.input.focus();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const options = $$(".opt", this.list);
    const by = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1 })[event.key];
    if (by && !this.list.hidden && options.length) {
      event.preventDefault();
      this.at = (this.at + by + options.length + (this.at < 0 && by < 0 ? 1 : 0)) % options.length;
      for (const [i, option] of options.entries()) option.setAttribute("aria-selected", String(i === this.at));
      this.input.setAttribute("aria-activedescendant", `qo-${this.at}`);
    } else if ((event.key === "Enter" || event.key === "Tab") && this.at >= 0) {
      event.preventDefault();
      this.take(options[this.at].dataset.term);
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.enter();
    } else if (event.key === "Backspace" && !this.input.value && this.chips.length) {
      event.preventDefault();
      this.input.value = this.chips.pop() ?? "";
      this.changed();
      this.suggest();
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.shut();
      this.box.dispatchEvent(new CustomEvent("vmm:leave"));
    }
  }

  /** Words become chips; on an empty field the list gets the focus. */
  enter() {
    const words = terms(this.input.value);
    if (!words.length) {
      this.shut();
      this.box.dispatchEvent(new CustomEvent("vmm:leave"));
      return;
    }
    this.chips.push(...words);
    this.input.value = "";
    this.shut();
    this.changed();
  }
}
