// @ts-check
/** Finding, making and placing elements. Knows nothing of guests or of the server. */

/**
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {any} the first match, or null
 */
export const $ = (selector, root = document) => root.querySelector(selector);

/**
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {any[]}
 */
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** @param {unknown} text */
export const esc = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** Markup that is safe as it stands: made by `html` only, so a value can never become an element by accident. */
export class Markup {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function put(value) {
  if (value instanceof Markup) return value.text;
  if (Array.isArray(value)) return value.map(put).join("");
  return value === null || value === undefined || value === false ? "" : esc(value);
}

/**
 * Markup from a template literal; every value is escaped unless it is Markup itself. null and false give nothing.
 * @param {TemplateStringsArray} strings
 * @param {...unknown} values
 */
export function html(strings, ...values) {
  return new Markup(strings.reduce((all, part, i) => all + put(values[i - 1]) + part));
}

/**
 * @param {Element} element
 * @param {Markup} markup
 */
export function fill(element, markup) {
  element.innerHTML = markup.text;
}

/**
 * The first element of a piece of markup (also table rows, which only a template parses alone).
 * @param {Markup} markup
 * @returns {any}
 */
export function make(markup) {
  const template = document.createElement("template");
  template.innerHTML = markup.text.trim();
  return template.content.firstElementChild;
}

const root = document.documentElement;

/**
 * An icon of the sprite; the sprite's address carries a hash, so the server tells it.
 * @param {string} name
 * @param {string} [css]
 */
export const icon = (name, css = "i") =>
  html`<svg class="${css}" aria-hidden="true"><use href="${root.dataset.icons}#${name}"/></svg>`;

/**
 * Puts a popover under its button, or above where there is no room.
 * @param {HTMLElement} popover
 * @param {Element} anchor
 */
export function place(popover, anchor) {
  const a = anchor.getBoundingClientRect();
  const p = popover.getBoundingClientRect();
  const below = a.bottom + 4 + p.height < innerHeight;
  popover.style.top = `${Math.max(8, below ? a.bottom + 4 : a.top - 4 - p.height)}px`;
  popover.style.left = `${Math.max(8, Math.min(a.left, innerWidth - p.width - 12))}px`;
}

/**
 * Starts a CSS animation again on an element that may be in the middle of it.
 * @param {Element} element
 * @param {string} [css]
 */
export function pulse(element, css = "changed") {
  element.classList.remove(css);
  void (/** @type {HTMLElement} */ (element).offsetWidth);
  element.classList.add(css);
}

/**
 * @param {string} name
 * @param {string} value "" takes it away
 */
export function cookie(name, value) {
  const age = value ? 31536000 : 0;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  // biome-ignore lint/suspicious/noDocumentCookie: the Cookie Store API is not in Firefox and Safari yet
  document.cookie = `${name}=${value}; Path=/; Max-Age=${age}; SameSite=Lax${secure}`;
}

/** @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not a secure context, or the user said no
  }
}

/**
 * @param {() => void} fn
 * @param {number} ms
 */
export function debounce(fn, ms) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(fn, ms);
  };
}
