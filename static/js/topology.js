// @ts-check
/**
 * The topology picture: lines between what the server laid out, brought out under the pointer or the focus, drawn anew when something
 * moves; hosts opened and closed; size and place by buttons, keys and dragging.
 *
 * Markup: [data-topology] > .topobox > [data-stage]; lanes [data-lane=<host>] (open ones are regions), in them
 * nodes [data-ref] with data-side left or right, guests [data-joins="<ref> <ref>"], and hosts. What is closed is numbers, read for all
 * hosts at once; guests on the page are patched by live.js.
 */
import { json, part } from "./api.js";
import { $, $$, debounce } from "./dom.js";
import { refreshTimes } from "./format.js";
import { t } from "./i18n.js";
import { bind } from "./keys.js";
import { onEvent, readRegion } from "./live.js";
import { failure } from "./notify.js";

const page = /** @type {HTMLElement | null} */ ($("[data-topology]"));
const SVG = "http://www.w3.org/2000/svg";
const SIZES = [0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 1, 1.15, 1.3, 1.6, 2];
const STEP = 160;
const COUNTS_MS = 3000;
const NARROW = matchMedia("(max-width: 760px)");

/** @param {HTMLElement} root */
function start(root) {
  const box = /** @type {HTMLElement} */ ($(".topobox", root));
  const stage = /** @type {HTMLElement} */ ($("[data-stage]", root));
  const focused = (root.dataset.focus ?? "").split(" ").filter(Boolean);
  const query = new URLSearchParams(root.dataset.query);
  query.delete("view");
  const partOf = (/** @type {string} */ host) => `/topology/hosts/${host}?${query}`;

  /* ---- lines ---- */
  /** @typedef {{ path: SVGPathElement, from: HTMLElement, to: HTMLElement }} Wire */
  /** @type {Wire[]} */
  let drawn = [];
  /** What is brought out. */
  let lit = focused;
  let size = 1;

  /**
   * One line, from the side of a network or pool to that of a guest or its host.
   * @param {SVGSVGElement} wires
   * @param {HTMLElement} node
   * @param {HTMLElement} guest
   * @param {DOMRect} origin
   * @param {string} css
   */
  function wire(wires, node, guest, origin, css) {
    const a = node.getBoundingClientRect();
    const b = guest.getBoundingClientRect();
    const left = node.dataset.side === "left";
    const x1 = (left ? a.right : a.left) - origin.left;
    const x2 = (left ? b.left : b.right) - origin.left;
    const y1 = a.top + a.height / 2 - origin.top;
    const y2 = b.top + b.height / 2 - origin.top;
    const bend = (x2 - x1) / 2;
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`);
    path.setAttribute("class", css);
    wires.append(path);
    drawn.push({ path, from: node, to: guest });
  }

  /** A host's lines are its own: they go with it to another column or page. @param {HTMLElement} lane */
  function wiresOf(lane) {
    const known = /** @type {SVGSVGElement | null} */ ($(":scope > .wires", lane));
    if (known) return known;
    const made = document.createElementNS(SVG, "svg");
    made.setAttribute("class", "wires");
    made.setAttribute("aria-hidden", "true");
    made.setAttribute("preserveAspectRatio", "xMinYMin meet");
    lane.append(made);
    return made;
  }

  /** @param {HTMLElement} lane */
  function drawLane(lane) {
    const wires = wiresOf(lane);
    const origin = lane.getBoundingClientRect();
    wires.replaceChildren();
    if (!origin.width || lane.matches(".folded")) return;
    // In the measure of the lane, whatever the size: what is measured is what is drawn.
    wires.setAttribute("viewBox", `0 0 ${origin.width} ${origin.height}`);
    const host = $(".hosthead", lane);
    if (!("open" in lane.dataset)) {
      for (const sum of $$("[data-sum]", lane)) {
        sum.dataset.side = sum.dataset.sum === "networks" ? "left" : "right";
        wire(wires, sum, host, origin, "of");
      }
      return;
    }
    /** @type {Map<string, HTMLElement>} */
    const nodes = new Map($$("[data-side]", lane).map((node) => [node.dataset.ref, node]));
    const lonely = new Set(nodes.values());
    for (const guest of $$("[data-joins]", lane)) {
      for (const ref of guest.dataset.joins.split(" ")) {
        const node = nodes.get(ref);
        if (!node) continue;
        wire(wires, node, guest, origin, guest.dataset.state === "running" ? "runs" : "rests");
        lonely.delete(node);
      }
    }
    for (const node of lonely) wire(wires, node, host, origin, "of");
  }

  function draw() {
    drawn = [];
    if (NARROW.matches) return; // no lines among cards
    for (const lane of $$("[data-lane]", stage)) drawLane(lane);
    bring(lit);
  }
  const drawSoon = debounce(draw, 30);
  // Networks and pools of a host that is higher than the window stay in sight: their lines follow.
  let drawing = false;
  function drawNext() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      draw();
    });
  }
  box.addEventListener("scroll", () => {
    if ($("[data-open]", stage)) drawNext();
  });

  /** Brings out what these are joined to; the rest steps back, unless it is what the page is about. @param {string[]} refs */
  function bring(refs) {
    lit = refs;
    for (const one of $$(".on", stage)) one.classList.remove("on");
    stage.classList.toggle("lit", refs !== focused);
    for (const node of $$("[data-ref]", stage)) if (refs.includes(node.dataset.ref)) node.classList.add("on");
    for (const { path, from, to } of drawn) {
      const ends = [from, to];
      if (!ends.some((end) => refs.includes(end.dataset.ref ?? ""))) continue;
      path.classList.add("on");
      path.parentNode?.append(path); // above the others
      for (const end of ends) end.classList.add("on");
    }
  }
  /** @param {Event} event */
  const light = (event) => {
    const node = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest?.("[data-ref]"));
    // A host holds all of its guests: it is no single thing to bring out.
    if (node && !node.matches(".hostbox")) bring([node.dataset.ref ?? ""]);
    else bring(focused);
  };
  stage.addEventListener("pointerover", light);
  stage.addEventListener("focusin", light);
  stage.addEventListener("pointerleave", () => bring(focused));
  stage.addEventListener("focusout", () => bring(focused));

  /* ---- open and closed hosts ---- */
  /** @param {HTMLElement} lane */
  async function open(lane) {
    const button = $("[data-open-lane]", lane);
    button?.setAttribute("aria-busy", "true");
    try {
      lane.innerHTML = await part(partOf(lane.dataset.lane ?? ""));
      lane.dataset.open = "";
      lane.dataset.region = partOf(lane.dataset.lane ?? "");
      refreshTimes(lane);
      lane.dispatchEvent(new CustomEvent("vmm:region", { bubbles: true }));
      $("[data-close-lane]", lane)?.focus({ preventScroll: true });
    } catch (error) {
      button?.removeAttribute("aria-busy");
      failure(error);
    }
    draw();
  }

  /** @type {Map<string, Node[]>} what a lane was before it was opened */
  const closed = new Map();
  root.addEventListener("click", (event) => {
    const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
    if (!button) return;
    const lane = /** @type {HTMLElement} */ (button.closest("[data-lane]"));
    if ("openLane" in button.dataset) {
      closed.set(lane.dataset.lane ?? "", [...lane.childNodes]);
      open(lane);
    } else if ("closeLane" in button.dataset) shut(lane);
    else if (button.dataset.zoom) zoom(button.dataset.zoom);
    else if (button.dataset.pan) {
      const [x, y] = button.dataset.pan.split(" ").map(Number);
      box.scrollBy(x * STEP, y * STEP);
    } else if ("print" in button.dataset) print();
  });

  /** @param {HTMLElement} lane */
  function shut(lane) {
    const before = closed.get(lane.dataset.lane ?? "");
    if (before) {
      delete lane.dataset.open;
      delete lane.dataset.region;
      lane.replaceChildren(...before);
      $("[data-open-lane]", lane)?.removeAttribute("aria-busy");
      $("[data-open-lane]", lane)?.focus({ preventScroll: true });
      readCounts();
    } else {
      // It came open with the page: its body is folded.
      const folded = lane.classList.toggle("folded");
      $("[data-close-lane]", lane)?.setAttribute("aria-expanded", String(!folded));
    }
    draw();
  }

  /* ---- size and place ---- */
  /** @param {number} to */
  function resize(to) {
    size = to;
    stage.style.setProperty("zoom", String(size));
    // From afar hosts stand in several columns.
    stage.classList.toggle("far", size < 0.6);
  }
  const fits = () => box.scrollHeight <= box.clientHeight + 1 && box.scrollWidth <= box.clientWidth + 1;

  /** @param {string} how "1", "-1", "0" or "fit" */
  function zoom(how) {
    const middle = (box.scrollTop + box.clientHeight / 2) / size;
    if (how === "fit") {
      for (const one of SIZES.filter((one) => one <= 1).reverse()) {
        resize(one);
        if (fits()) break;
      }
    } else if (how === "0") resize(1);
    else if (how === "1") resize(SIZES.find((one) => one > size + 0.01) ?? size);
    else resize(SIZES.findLast((one) => one < size - 0.01) ?? size);
    $("[data-zoom-text]", root).textContent = `${Math.round(size * 100)} %`;
    box.scrollTop = middle * size - box.clientHeight / 2;
    draw();
    overflow();
  }
  /** The arrows are there while there is something to move. */
  function overflow() {
    const wide = box.scrollWidth > box.clientWidth + 1;
    const high = box.scrollHeight > box.clientHeight + 1;
    for (const button of $$("[data-pan]", root)) button.hidden = !(button.dataset.pan.endsWith(" 0") ? wide : high);
  }

  bind(t("Topology"), [
    { keys: "+", does: t("Larger"), run: () => zoom("1") },
    { keys: "-", does: t("Smaller"), run: () => zoom("-1") },
    { keys: "0", does: t("As it was"), run: () => zoom("0") },
    { keys: "f", does: t("Fit into the window"), run: () => zoom("fit") },
  ]);

  /** @type {{ x: number, y: number, left: number, top: number } | null} */
  let held = null;
  box.addEventListener("pointerdown", (event) => {
    if (
      event.pointerType !== "mouse" ||
      event.button ||
      /** @type {Element} */ (event.target).closest("a, button, summary")
    )
      return;
    held = { x: event.clientX, y: event.clientY, left: box.scrollLeft, top: box.scrollTop };
  });
  addEventListener("pointermove", (event) => {
    if (!held) return;
    box.scrollTo(held.left - (event.clientX - held.x), held.top - (event.clientY - held.y));
  });
  addEventListener("pointerup", () => {
    held = null;
  });

  /* ---- what happens ---- */
  const readCounts = debounce(async () => {
    if (document.hidden) return;
    const found = await json(`/topology/counts.json?${query}`).catch(() => null);
    if (!found) return;
    for (const lane of $$("[data-lane]", stage)) {
      const now = found[lane.dataset.lane] ?? { total: 0, running: 0, bar: [] };
      if ("open" in lane.dataset) {
        if (Number($("[data-total]", lane)?.dataset.total) !== now.total) readRegion(lane);
        continue;
      }
      const words = { running: now.running, total: now.total };
      $("[data-count-text]", lane).textContent = t("%(running)s of %(total)s running", words);
      const bar = $("[data-bar]", lane);
      bar.replaceChildren(
        ...now.bar.map((/** @type {{ state: string, x: string, width: string }} */ one) => {
          const rect = document.createElementNS(SVG, "rect");
          rect.setAttribute("class", one.state);
          rect.setAttribute("x", one.x);
          rect.setAttribute("width", one.width);
          rect.setAttribute("height", "100%");
          return rect;
        }),
      );
    }
  }, COUNTS_MS);

  /** Hosts to be read again. @type {Set<HTMLElement>} */
  const stale = new Set();
  const readStale = debounce(() => {
    for (const lane of stale) if ("open" in lane.dataset) readRegion(lane);
    stale.clear();
  }, 400);

  onEvent((event) => {
    const ref = `${event.object?.type}/${event.object?.id}`;
    const changed = event.data?.changed ?? {};
    if (event.type === "vm.state_changed") {
      if ($(`[data-object="${CSS.escape(ref)}"]`, stage)) drawSoon();
      readCounts();
      return;
    }
    if (event.type.startsWith("vm.")) {
      const lane = $(`[data-object="${CSS.escape(ref)}"]`, stage)?.closest("[data-lane]");
      if (
        lane &&
        (event.type === "vm.undefined" || ["interfaces", "disks", "name", "binned_at"].some((key) => key in changed))
      )
        stale.add(lane);
      if (!lane) readCounts();
    } else if (/^(network|storage_pool|host|hypervisor)\./.test(event.type)) {
      const host = event.data?.host ?? (event.object?.type === "host" ? event.object.id : "");
      const key = ref.replace("storage_pool/", "storage-pool/");
      const lane =
        (host && $(`[data-lane="${CSS.escape(host)}"]`, stage)) ||
        $(`[data-ref="${CSS.escape(key)}"]`, stage)?.closest("[data-lane]");
      if (lane) stale.add(lane);
    }
    if (stale.size) readStale();
  });

  /* ---- when to draw ---- */
  new ResizeObserver(() => {
    drawSoon();
    overflow();
  }).observe(stage);
  new ResizeObserver(overflow).observe(box);
  document.addEventListener("vmm:region", draw);
  document.addEventListener("vmm:theme", drawSoon);
  // On paper the stage has a width of its own: laid out and measured so before it is printed.
  addEventListener("beforeprint", () => {
    stage.style.removeProperty("zoom");
    stage.classList.remove("far");
    stage.classList.add("paper");
    draw();
  });
  addEventListener("afterprint", () => {
    stage.classList.remove("paper");
    resize(size);
    draw();
  });
  draw();
  overflow();
}

if (page) start(page);
