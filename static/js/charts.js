// @ts-check
/**
 * A small canvas time chart: real times on the axis, gaps where a value is not known, marks of events, one cursor for all
 * charts of the page, keys, and the numbers as a table. New samples are appended at the right and push the old out at the left.
 */
import { $, $$, fill, html } from "./dom.js";
import { clock, exact, minute, NOT_KNOWN } from "./format.js";
import { t } from "./i18n.js";

/**
 * @typedef {{ name: string, css: string, values: (number | null)[] }} Series
 * @typedef {{ at: number, text: string }} Mark times in milliseconds
 * @typedef {{ title: string, series: Series[], start: number, step: number, format: (value: number | null) => string, max?: number,
 *   binary?: boolean, marks?: Mark[], read?: HTMLElement | null, at?: HTMLElement | null, table?: HTMLElement | null }} Options
 *   start and step in milliseconds; max: a fixed top, else one is chosen
 */

/** @type {Set<Chart>} */
const all = new Set();
/** The time under the cursor, shared. @type {number | null} */
let hover = null;

/** @param {number | null} at */
function point(at) {
  hover = at;
  for (const chart of all) chart.schedule();
}

/** The next round number, so that the axis does not jump with each sample. @param {number} value @param {boolean} binary */
export function roof(value, binary) {
  if (value <= 0) return 1;
  const base = binary ? 1024 : 10;
  let unit = base ** Math.floor(Math.log(value) / Math.log(base));
  if (unit > value) unit /= base;
  for (const n of binary ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] : [1, 2, 5, 10])
    if (n * unit >= value) return n * unit;
  return base * unit;
}

export class Chart {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Options} options
   */
  constructor(canvas, options) {
    this.canvas = canvas;
    this.options = options;
    this.marks = options.marks ?? [];
    this.pending = false;
    all.add(this);
    const at = (/** @type {PointerEvent} */ e) => this.timeOf((e.offsetX / canvas.clientWidth) * (this.length - 1));
    canvas.addEventListener("pointermove", (e) => point(at(e)));
    canvas.addEventListener("pointerdown", (e) => point(at(e)));
    canvas.addEventListener("pointerleave", () => point(null));
    canvas.addEventListener("blur", () => point(null));
    canvas.addEventListener("keydown", (e) => {
      const by = /** @type {Record<string, number>} */ ({
        ArrowLeft: -1,
        ArrowRight: 1,
        PageUp: -10,
        PageDown: 10,
        Home: -1e6,
        End: 1e6,
      })[e.key];
      if (!by) return;
      e.preventDefault();
      const from = hover === null ? this.length - 1 : this.indexOf(hover);
      const to = Math.max(0, Math.min(this.length - 1, from + by));
      point(this.timeOf(to));
      canvas.setAttribute("aria-valuetext", this.words(to));
    });
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(canvas);
    this.draw();
  }

  get length() {
    return this.options.series[0].values.length;
  }
  /** @param {number} index */
  timeOf(index) {
    return this.options.start + index * this.options.step;
  }
  /** @param {number} at */
  indexOf(at) {
    return Math.max(0, Math.min(this.length - 1, Math.round((at - this.options.start) / this.options.step)));
  }

  /**
   * The newest values. Time that passed without a sample becomes a gap.
   * @param {Date} at
   * @param {(number | null)[]} values one for each series
   */
  append(at, values) {
    const { options } = this;
    const index = Math.round((at.getTime() - options.start) / options.step);
    const grow = Math.min(index - (this.length - 1), this.length);
    if (index < 0) return;
    for (const [n, series] of options.series.entries()) {
      const value = values[n] ?? null;
      // One step left out is a sample that came a moment late, not a gap.
      for (let i = 0; i < grow; i++) {
        series.values.push(grow <= 2 ? value : null);
        series.values.shift();
      }
      // Several samples can fall into one step: the last one stands.
      series.values[Math.min(grow > 0 ? this.length - 1 : index, this.length - 1)] = value;
    }
    if (grow > 0) options.start += grow * options.step;
    this.schedule();
  }

  /** @param {Mark} mark */
  mark(mark) {
    this.marks = [...this.marks.filter((m) => m.at >= this.options.start), mark];
    this.schedule();
  }

  schedule() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  get top() {
    const { max, series, binary = false } = this.options;
    if (max) return max;
    return roof(Math.max(0, ...series.flatMap((s) => s.values.map((v) => v ?? 0))), binary);
  }

  /** What the chart says at one place. @param {number} index */
  words(index) {
    const { series, format } = this.options;
    const values = series.map(
      (s) =>
        `${series.length > 1 ? `${s.name} ` : ""}${s.values[index] === null ? t("not known") : format(s.values[index])}`,
    );
    return `${clock(this.timeOf(index))}: ${values.join(", ")}`;
  }

  draw() {
    const { canvas, options } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width) return;
    const scale = devicePixelRatio;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const x = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    x.setTransform(scale, 0, 0, scale, 0, 0);
    x.clearRect(0, 0, width, height);
    const n = this.length;
    const max = this.top;
    const top = 6;
    const bottom = height - 16;
    const px = (/** @type {number} */ i) => (i / (n - 1)) * width;
    const py = (/** @type {number} */ v) => bottom - (Math.min(v, max) / max) * (bottom - top);
    const ink = probe(canvas, "--text-3");
    this.axis(x, { width, height, top, bottom, ink });
    for (const series of options.series.toReversed())
      drawSeries(x, series.values, probe(canvas, `--${series.css}-solid`), px, py, bottom);
    const strong = probe(canvas, "--text-2");
    for (const mark of this.marks) {
      const i = (mark.at - options.start) / options.step;
      if (i >= 0 && i <= n - 1) drawMark(x, Math.round(px(i)) + 0.5, top, bottom, strong);
    }
    x.fillStyle = ink;
    this.label(x, options.format(max), 2, top + 12);
    this.cursor(x, { px, py, top, bottom, ink });
  }

  /**
   * @param {CanvasRenderingContext2D} x
   * @param {{ width: number, height: number, top: number, bottom: number, ink: string }} box
   */
  axis(x, { width, height, top, bottom, ink }) {
    x.font = `11px ${getComputedStyle(this.canvas).fontFamily}`;
    x.lineWidth = 1;
    x.strokeStyle = probe(this.canvas, "--line");
    x.fillStyle = ink;
    x.textAlign = "left";
    for (const f of [0, 0.5, 1]) {
      const y = Math.round(bottom - f * (bottom - top)) + 0.5;
      x.beginPath();
      x.moveTo(0, y);
      x.lineTo(width, y);
      x.stroke();
    }
    for (const [f, align] of /** @type {const} */ ([
      [0, "left"],
      [0.5, "center"],
      [1, "right"],
    ])) {
      x.textAlign = align;
      x.fillText(minute(this.timeOf(f * (this.length - 1))), f * width, height - 3);
    }
    x.textAlign = "left";
  }

  /**
   * Words that stay readable on a line: with a rim in the colour of the card.
   * @param {CanvasRenderingContext2D} x
   * @param {string} text
   * @param {number} left
   * @param {number} base
   */
  label(x, text, left, base) {
    x.save();
    x.lineWidth = 4;
    x.lineJoin = "round";
    x.strokeStyle = probe(this.canvas, "--surface");
    x.strokeText(text, left, base);
    x.restore();
    x.fillText(text, left, base);
  }

  /**
   * @param {CanvasRenderingContext2D} x
   * @param {{ px: (i: number) => number, py: (v: number) => number, top: number, bottom: number, ink: string }} box
   */
  cursor(x, { px, py, top, bottom, ink }) {
    const { series, read, at, step } = this.options;
    const index = hover === null ? this.newest() : this.indexOf(hover);
    if (hover !== null) {
      x.strokeStyle = ink;
      x.lineWidth = 1;
      x.beginPath();
      x.moveTo(Math.round(px(index)) + 0.5, top);
      x.lineTo(Math.round(px(index)) + 0.5, bottom);
      x.stroke();
      for (const s of series) {
        const value = s.values[index];
        if (value === null) continue;
        x.fillStyle = probe(this.canvas, `--${s.css}-solid`);
        x.beginPath();
        x.arc(px(index), py(value), 3, 0, 7);
        x.fill();
      }
    }
    if (read) fill(read, this.reading(index));
    if (!at) return;
    const near = this.marks.find((m) => Math.abs(m.at - this.timeOf(index)) < 2 * step);
    const now = hover === null ? t("now") : clock(this.timeOf(index));
    at.textContent = near && hover !== null ? `${now}, ${near.text}` : now;
  }

  /** The values at one place, each with the colour of its line where there are several. @param {number} index */
  reading(index) {
    const { series, format } = this.options;
    const word = (/** @type {Series} */ s) => (s.values[index] === null ? t("not known") : format(s.values[index]));
    if (series.length === 1) return html`${word(series[0])}`;
    return html`${series.map((s) => html`<span class="key ${s.css}" title="${s.name}"><span class="vh">${s.name}</span></span>${word(s)}`)}`;
  }

  /** The last place with a value, unless nothing has come for long: then the end, "not known". */
  newest() {
    const end = this.length - 1;
    for (let i = end; i > end - 3 && i >= 0; i--) if (this.options.series.some((s) => s.values[i] !== null)) return i;
    return end;
  }

  /** The numbers, for screen readers and for copying: one line a minute or so. */
  fillTable() {
    const { table, series, title, format } = this.options;
    if (!table) return;
    const every = Math.max(1, Math.round(this.length / 60));
    const rows = [];
    for (let i = this.length - 1; i >= 0; i -= every) {
      rows.push(
        html`<tr><th scope="row">${exact(this.timeOf(i))}</th>${series.map((s) => html`<td class="num">${s.values[i] === null ? NOT_KNOWN : format(s.values[i])}</td>`)}</tr>`,
      );
    }
    fill(
      table,
      html`<table class="tbl"><caption>${title}</caption><thead><tr><th scope="col">${t("Time")}</th>${series.map((s) => html`<th scope="col" class="num">${s.name}</th>`)}</tr></thead><tbody>${rows}</tbody></table>`,
    );
  }

  destroy() {
    this.observer.disconnect();
    all.delete(this);
  }
}

/**
 * @param {CanvasRenderingContext2D} x
 * @param {(number | null)[]} values
 * @param {string} colour
 * @param {(i: number) => number} px
 * @param {(v: number) => number} py
 * @param {number} bottom
 */
function drawSeries(x, values, colour, px, py, bottom) {
  const line = new Path2D();
  const area = new Path2D();
  let from = -1;
  const end = (/** @type {number} */ i) => {
    if (from < 0) return;
    // A lone value between two gaps is a point: as a line it would have no length.
    if (i === from) line.lineTo(px(i) + 1, py(/** @type {number} */ (values[i])));
    area.lineTo(px(i), bottom);
    area.lineTo(px(from), bottom);
    from = -1;
  };
  for (const [i, value] of values.entries()) {
    if (value === null) {
      end(i - 1);
      continue;
    }
    if (from < 0) {
      line.moveTo(px(i), py(value));
      area.moveTo(px(i), bottom);
      from = i;
    } else line.lineTo(px(i), py(value));
    area.lineTo(px(i), py(value));
  }
  end(values.length - 1);
  x.globalAlpha = 0.12;
  x.fillStyle = colour;
  x.fill(area);
  x.globalAlpha = 1;
  x.strokeStyle = colour;
  x.lineWidth = 1.5;
  x.lineJoin = "round";
  x.stroke(line);
}

/**
 * @param {CanvasRenderingContext2D} x
 * @param {number} at
 * @param {number} top
 * @param {number} bottom
 * @param {string} colour
 */
function drawMark(x, at, top, bottom, colour) {
  x.strokeStyle = colour;
  x.fillStyle = colour;
  x.lineWidth = 1;
  x.setLineDash([2, 3]);
  x.beginPath();
  x.moveTo(at, top);
  x.lineTo(at, bottom);
  x.stroke();
  x.setLineDash([]);
  x.beginPath();
  x.moveTo(at - 4, bottom);
  x.lineTo(at + 4, bottom);
  x.lineTo(at, bottom - 6);
  x.fill();
}

/** `light-dark()` is resolved by the browser only in a real property; asked once a theme. @type {Map<string, string>} */
const colours = new Map();
/** @param {HTMLElement} element @param {string} name */
function probe(element, name) {
  const known = colours.get(name);
  if (known) return known;
  const before = element.style.color;
  element.style.color = `var(${name})`;
  const found = getComputedStyle(element).color;
  element.style.color = before;
  colours.set(name, found);
  return found;
}

function recolour() {
  colours.clear();
  for (const chart of all) chart.draw();
}
document.addEventListener("vmm:theme", recolour);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

document.addEventListener("click", (event) => {
  const button = /** @type {Element} */ (event.target).closest?.("[data-chart-table]");
  if (!button) return;
  const box = /** @type {HTMLElement | null} */ (
    document.getElementById(button.getAttribute("data-chart-table") ?? "")
  );
  if (!box) return;
  box.hidden = !box.hidden;
  button.setAttribute("aria-expanded", String(!box.hidden));
  if (!box.hidden) for (const chart of all) chart.fillTable();
  for (const other of $$("[data-chart-table-word]", button))
    other.textContent = box.hidden ? t("Show as table") : t("Hide table");
});

/** All charts of the page share one time. */
export const charts = () => [...all];
/** @param {string} name @param {ParentNode} [root] */
export const chartParts = (name, root = document) => ({
  canvas: /** @type {HTMLCanvasElement} */ ($(`canvas[data-chart="${name}"]`, root)),
  read: $(`[data-read="${name}"]`, root),
  at: $(`[data-at="${name}"]`, root),
  table: $(`[data-table="${name}"]`, root),
});
