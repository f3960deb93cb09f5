// @ts-check
/**
 * Words of the browser's own sentences, in the language of the page.
 *
 * How it works: a sentence is written in English in the code, `t("Start %(name)s", { name })`, as in Django. `makemessages
 * -d djangojs` collects them (the names `t` and `tn` are told to xgettext in dashboard/management/commands/makemessages.py).
 * The server puts the translations into the page as `<script type="application/json" id="words">` (the tag `js_words`): a
 * data block is never run, so it stands under `script-src 'self'` (seen in Chromium), and costs no request; in English only
 * the words of states are in it. A sentence without a translation is shown in English.
 */

/** @type {{ states?: Record<string, string>, catalog?: Record<string, string | string[]> }} */
const words = JSON.parse(document.getElementById("words")?.textContent || "{}");
const catalog = words.catalog ?? {};

/**
 * What people read for a word of the contract: "Shut off" for `shutoff`.
 * @param {string} state
 */
export const stateLabel = (state) => words.states?.[state] ?? state;

export const language = document.documentElement.lang || "en";

const order = ["zero", "one", "two", "few", "many", "other"];
const rules = new Intl.PluralRules(language);
// gettext numbers its forms in the order of these categories; what only fractions use comes last and is cut off by the clamp.
const forms = rules
  .resolvedOptions()
  .pluralCategories.slice()
  .sort((a, b) => order.indexOf(a) - order.indexOf(b));

/**
 * @param {string} text
 * @param {Record<string, unknown>} [values]
 */
function fill(text, values) {
  return values ? text.replace(/%\((\w+)\)[sd]/g, (all, name) => (name in values ? String(values[name]) : all)) : text;
}

/**
 * A sentence in the page's language.
 * @param {string} message English, with `%(name)s` where a value goes
 * @param {Record<string, unknown>} [values]
 */
export function t(message, values) {
  const found = catalog[message];
  return fill(typeof found === "string" ? found : message, values);
}

/**
 * A sentence that counts something; `%(n)s` is the number.
 * @param {string} one
 * @param {string} many
 * @param {number} n
 * @param {Record<string, unknown>} [values]
 */
export function tn(one, many, n, values) {
  const found = catalog[one];
  const text = Array.isArray(found)
    ? found[Math.min(forms.indexOf(rules.select(n)), found.length - 1)]
    : n === 1
      ? one
      : many;
  return fill(text, { n: n.toLocaleString(language), ...values });
}
