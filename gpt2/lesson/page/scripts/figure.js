// The figure of a step: the choice of tensor, layer and head, and what is drawn of it.
import { ARROWS, barsOf, curveOf, heatMapOf, nextBars, numbersOf, tokenTable } from "./drawings.js";
import { drawThumbnail, scaleOf } from "./heatmap.js";
import { config, isFirst, lesson, state, words } from "./lesson.js";
import { renderBadges } from "./sources.js";
import { axisName, brokenTensor, fill, layersOf, lookedAt, mapOf, placesOf, showBroken } from "./tensors.js";
import { $, group, make, note, one, replace, shownNumber } from "./tools.js";
import { badgeOf, brokenBadge } from "./verdicts.js";

/** @import {Look, Step, Tensor} from "./lesson.js" */

export function renderFigure() {
  const step = lesson.steps[state.step], figure = $("figure");
  one(".lesson").classList.toggle("plain", !step.tensors.length && step.view !== "tokens");
  if (!step.tensors.length) replace(figure, step.view === "tokens" ? tokenTable() : null);
  else drawTensor(figure, step);
  renderBadges();
}

/** @type {(figure: HTMLElement, step: Step) => void} */
function drawTensor(figure, step) {
  const template = step.tensors[state.tensor], layers = template.includes("{layer}") ? layersOf(template) : [];
  if (layers.length && !layers.includes(state.layer)) state.layer = layers[0];
  const name = fill(template, state.layer), tensor = lookedAt(name);
  const heads = tensor && tensor.axes.includes("H") ? placesOf(tensor, tensor.axes.indexOf("H")) : [];
  if (heads.length && state.head >= heads.length) state.head = 0;
  const pick = () => { state.cell = null; renderFigure(); };
  const controls = controlsOf(step, name, layers, heads, pick);
  if (!tensor) {
    replace(figure, controls, note(words().missing));
    return;
  }
  const view = viewOf(step, tensor), hasOverview = view === "map" && (layers.length > 1 || heads.length > 1);
  const inOverview = layers.filter((layer) => state.look === "right" || brokenTensor(fill(template, layer)));
  replace(figure,
    controls, captionOf(name, tensor), ...notesOf(name, tensor, layers),
    hasOverview ? overviewOf(template, inOverview, heads, pick) : null,
    ...drawingOf(view, name, tensor),
    ["next", "scalar"].includes(view) ? null : numbersOf(name, tensor));
}

/** @type {(view: string, name: string, tensor: Tensor) => (Node | null)[]} */
function drawingOf(view, name, tensor) {
  switch (view) {
    case "scalar": return [make("p", { class: "scalar" }, shownNumber(tensor.data[0]))];
    case "next": return [nextBars()];
    case "bars": return [barsOf(tensor)];
    case "curve": return curveOf(tensor);
    default: return heatMapOf(name, tensor);
  }
}

/** How a tensor is drawn: the first of a step as the step says, the others by their shape.
 * @type {(step: Step, tensor: Tensor) => string} */
function viewOf(step, tensor) {
  const axes = tensor.axes.length;
  if (step.id === "next_token") return "next";
  if (axes === 0) return "scalar";
  if (axes === 1) return state.tensor === 0 && step.view === "curve" ? "curve" : tensor.shape[0] <= 40 ? "bars" : "map";
  return tensor.axes[0] === "series" ? "curve" : "map";
}

/** @type {(step: Step, name: string, layers: number[], heads: number[], pick: () => void) => HTMLElement} */
function controlsOf(step, name, layers, heads, pick) {
  const say = words();
  /** @type {(id: string, label: string, options: number[][], value: number, set: (chosen: number) => void) => Node} */
  const choose = (id, label, options, value, set) => {
    const select = make("select", { id, "data-key": id, onchange: () => { set(Number(select.value)); pick(); } },
      ...options.map(([each, text]) => make("option", { value: each }, String(text))));
    select.value = String(value);
    return make("label", {}, label, select);
  };
  /** @type {(full: string) => string} */
  const short = (full) => full.replace(/^h\.\{layer\}\./, "").replace(/^\w+\./, "");
  /** @type {Look[]} */
  const looks = step.id === "next_token" ? ["right", "broken"] : ["right", "broken", "difference"];
  return make("div", { class: "controls" },
    step.tensors.length < 2 ? null : group(say.tensor, ...step.tensors.map((each, i) => make("button", {
      type: "button", class: "mono", "data-key": `tensor-${i}`, "aria-pressed": String(i === state.tensor),
      onclick: () => { state.tensor = i; showBroken(); pick(); },
    }, short(each)))),
    layers.length < 2 ? null : choose("layer", say.layer, layers.map((layer) => [layer, layer]), state.layer,
      (layer) => { state.layer = layer; showBroken(); }),
    heads.length < 2 ? null : choose("head", say.head, heads.map((head, i) => [i, head]), state.head,
      (head) => { state.head = head; }),
    !brokenTensor(name) ? null : group(say.look, ...looks.map((look) => make("button", {
      type: "button", "data-key": `look-${look}`, "aria-pressed": String(look === state.look),
      onclick: () => { state.look = look; pick(); },
    }, say.looks[look]))));
}

/** @type {(name: string, tensor: Tensor) => HTMLElement} */
function captionOf(name, tensor) {
  const shape = tensor.axes.map((axis, i) => `${axis} ${tensor.full_shape[i]}`).join(", ");
  return make("div", { class: "caption" }, make("code", {}, name), make("span", { class: "quiet shape" }, `(${shape})`),
    state.look === "right" || !state.broken ? badgeOf(name) : brokenBadge(state.broken.noise[name]));
}

/** @type {(name: string, tensor: Tensor, layers: number[]) => (HTMLElement | null)[]} */
function notesOf(name, tensor, layers) {
  const say = words();
  /** @type {string[]} */
  const parts = [];
  tensor.axes.forEach((_, i) => {
    const kept = tensor.shape[i], all = tensor.full_shape[i];
    if (kept < all) parts.push(say.sample(kept, all, axisName(tensor, i, "plural")));
  });
  if (layers.length && layers.length < config.n_layer) parts.push(say.layersSampled(layers.length, config.n_layer));
  const stale = !isFirst() && !(name in state.stages);
  return [parts.length ? note(say.sampled(parts)) : null, stale ? note(say.ofFirst) : null];
}

/** Every layer and head as a small picture; one is picked, with the mouse or the arrow keys.
 * @type {(template: string, layers: number[], heads: number[], pick: () => void) => HTMLElement} */
function overviewOf(template, layers, heads, pick) {
  const say = words(), rows = layers.length ? layers : [null], columns = heads.length ? heads : [null];
  const choices = rows.flatMap((layer, r) => columns.map((head, c) => ({ layer, head, r, c })));
  /** @typedef {{layer: number | null, c: number}} Choice */
  /** @type {(choice: Choice) => void} */
  const choose = ({ layer, c }) => {
    if (layer !== null) state.layer = layer;
    state.head = heads.length ? c : state.head;
    showBroken();
    pick();
  };
  /** @type {(choice: Choice) => boolean} */
  const isPicked = ({ layer, c }) => (layer === null || layer === state.layer) && (!heads.length || c === state.head);
  const grid = make("div", { class: "overview", role: "radiogroup", "aria-label": say.overview });
  const boxes = [];
  const fitting = Math.floor(($("figure").clientWidth - 80) / columns.length) - 16;
  const wide = heads.length ? Math.max(18, Math.min(76, fitting)) : 200;
  for (const choice of choices) {
    const tensor = lookedAt(fill(template, choice.layer)), canvas = make("canvas", {});
    if (!tensor) continue;
    const map = mapOf(tensor, choice.c, scaleOf(tensor.data));
    drawThumbnail(canvas, map);
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${map.square ? wide : heads.length ? Math.round(wide * 0.6) : rows.length > 4 ? 20 : 44}px`;
    const button = make("button", {
      type: "button", role: "radio", "aria-checked": String(isPicked(choice)), tabindex: isPicked(choice) ? 0 : -1,
      "aria-label": say.pick(choice.layer, choice.head), "data-key": `pick-${choice.r}-${choice.c}`,
      onclick: () => choose(choice),
      onkeydown: (event) => {
        const move = ARROWS[event.key];
        if (!move) return;
        event.preventDefault();
        const [down, right] = move;
        const r = (choice.r + down + rows.length) % rows.length;
        const c = (choice.c + right + columns.length) % columns.length;
        const next = one(`[data-key="pick-${r}-${c}"]`, grid);
        next.focus();
        next.click();
      },
    }, canvas);
    if (choice.c === 0 && choice.layer !== null) {
      boxes.push(make("span", { class: "row-name", "aria-hidden": "true" }, say.pick(choice.layer, null)));
    }
    boxes.push(button);
  }
  grid.style.gridTemplateColumns = `repeat(${columns.length + (layers.length ? 1 : 0)}, max-content)`;
  grid.append(...boxes);
  return make("div", { class: "scroll overview-box" }, grid);
}
