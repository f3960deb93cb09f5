// @ts-check
/** The events page: its filter swaps the list without a reload. What is new comes by `data-feed` (live.js). */
import { part } from "./api.js";
import { $ } from "./dom.js";
import { Filter } from "./filter.js";
import { refreshTimes } from "./format.js";
import { failure } from "./notify.js";

let asked = 0;

/** @param {string} query the whole text of the filter */
async function show(query) {
  const url = new URL(location.href);
  url.searchParams.delete("cursor");
  if (query) url.searchParams.set("q", query);
  else url.searchParams.delete("q");
  const mine = ++asked;
  try {
    const text = await part(url.pathname + url.search);
    if (mine !== asked) return; // a later query was asked meanwhile
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("list");
    const old = document.getElementById("list");
    if (!fresh || !old) return;
    old.replaceWith(fresh);
    /** @type {any} */ (globalThis).htmx?.process(fresh);
    refreshTimes(fresh);
    history.replaceState(history.state, "", url);
  } catch (error) {
    failure(error);
  }
}

const box = $("[data-search]");
if (box) new Filter(box, show);
