// Drawings of one tensor: heat map, table, bars, curves.
import { MASK_VALUE } from "./gpt2.js";
import { cellAt, drawHeatMap, gradientOf } from "./heatmap.js";
import { isFirst, state, words } from "./lesson.js";
import { axisName, mapOf, namesOf, placesOf, tensorOf } from "./tensors.js";
import { $, make, makeSvg, note, percent, shownNumber } from "./tools.js";

/** @import {Cell, Layout, Scale} from "./heatmap.js" */
/** @import {Tensor} from "./lesson.js" */
/** @import {TensorMap} from "./tensors.js" */

/** How many rows down and columns to the right a key goes.
 * @typedef {Record<string, [down: number, right: number] | undefined>} Moves */

/** @type {Moves} */
export const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
/** @type {Moves} */
const TO_THE_ENDS = { Home: [0, -Infinity], End: [0, Infinity] };

/** The large map, which says one number in words, and its legend.
 * @type {(name: string, tensor: Tensor) => HTMLElement[]} */
export function heatMapOf(name, tensor) {
  const say = words(), map = mapOf(tensor, state.head), canvas = make("canvas", {});
  const like = state.look === "broken" && tensorOf(name);
  if (like) map.scale = scaleLike(mapOf(like, state.head).scale, map.scale);
  const rows = map.rowAxis === null ? "" : axisName(tensor, map.rowAxis, "plural");
  const columns = axisName(tensor, map.columnAxis, "plural");
  const readout = make("p", { class: "readout", id: "readout" });
  const box = make("div", {
    class: "map", id: "map", tabindex: 0, role: "application", "aria-roledescription": say.heatMap, "data-key": "map",
    "aria-label": say.map(name, rows, columns), "aria-describedby": "readout",
  }, canvas);
  const width = Math.max($("figure").clientWidth - 4, 120);
  /** @type {(cell: Cell) => Layout} */
  const select = (cell) => {
    state.cell = cell;
    readout.replaceChildren(...readingOf(tensor, map, cell));
    return drawHeatMap(canvas, map, width, cell);
  };
  const layout = select(state.cell ?? [map.rows - 1, 0]);
  /** @type {(event: PointerEvent) => void} */
  const point = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    const cell = cellAt(map, layout, event.clientX - left, event.clientY - top);
    if (cell && String(cell) !== String(state.cell)) select(cell);
  };
  box.addEventListener("pointermove", point);
  box.addEventListener("pointerdown", point);
  box.addEventListener("keydown", (event) => {
    const move = ARROWS[event.key] ?? TO_THE_ENDS[event.key];
    if (!move || !state.cell) return;
    event.preventDefault();
    /** @type {(value: number, n: number) => number} */
    const within = (value, n) => Math.max(0, Math.min(n - 1, value));
    const [row, column] = state.cell, [down, right] = move;
    select([within(row + down, map.rows), within(column + right, map.columns)]);
    $("announcer").textContent = readout.textContent;
  });
  return [
    note(rows ? say.rows(rows, columns) : columns), make("div", { class: "scroll" }, box), readout, legendOf(map),
  ];
}

/** The scale of a broken map with the limit of the right one: a number has the same colour in both.
 * @type {(right: Scale, broken: Scale) => Scale} */
function scaleLike(right, broken) {
  return { ...broken, limit: right.limit, clipped: Math.max(-broken.min, broken.max) > right.limit };
}

/** One number in words: where it stands, and its value.
 * @type {(tensor: Tensor, map: TensorMap, cell: Cell) => (Node | string)[]} */
function readingOf(tensor, map, [r, c]) {
  /** @type {(axis: number, i: number) => string} */
  const part = (axis, i) => {
    const place = placesOf(tensor, axis)[i], name = namesOf(tensor, axis)?.[i], letter = tensor.axes[axis];
    const called = axisName(tensor, axis), third = tensor.full_shape[axis] / 3;
    if (letter.startsWith("3")) return `${"qkv"[Math.floor(place / third)]}, ${words().axes.C} ${place % third}`;
    return name === undefined ? `${called} ${place}` : "TSV".includes(letter) ? `${called} ${place} “${name}”` : name;
  };
  const where = [...(map.rowAxis === null ? [] : [part(map.rowAxis, r)]), part(map.columnAxis, c)];
  const value = map.at(r, c), joint = map.square ? " → " : " · ";
  const text = value === MASK_VALUE ? words().masked(map.lowest)
    : value === 0 && map.scale.zeros ? words().zero : shownNumber(value);
  return [`${where.join(joint)}: `, make("b", {}, text)];
}

/** @type {(map: TensorMap) => HTMLElement} */
function legendOf({ scale, lowest }) {
  const say = words(), low = Math.max(scale.min, -scale.limit), high = Math.min(scale.max, scale.limit);
  const zero = low < 0 && high > 0;
  const place = zero ? -low / (high - low) * 100 : 0;
  const ramp = make("i", { class: !zero && "no-zero", style: `background: ${gradientOf(scale)}; --zero: ${place}%` });
  const [least, most] = [scale.min, scale.max].map(shownNumber);
  return make("div", { class: "legend" },
    Number.isFinite(scale.min) ? make("span", { class: "ramp" }, least, ramp, most) : null,
    scale.clipped ? make("span", {}, say.clipped(shownNumber(scale.limit))) : null,
    scale.masked ? make("span", { class: "key" }, make("i", { class: "hatched" }), say.masked(lowest)) : null,
    scale.undefined ? make("span", { class: "key" }, make("i", { class: "hatched" }), "NaN") : null,
    scale.zeros ? make("span", { class: "key" }, make("i", { class: "dotted" }), say.zero) : null);
}

const MOST_ROWS = 64, MOST_COLUMNS = 128;

/** The numbers as a table, which is filled when somebody opens it: that takes a while.
 * @type {(name: string, tensor: Tensor) => HTMLElement} */
export function numbersOf(name, tensor) {
  const say = words();
  const box = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${say.table}: ${name}` });
  const details = make("details", {
    class: "numbers",
    ontoggle: () => { if (details.open && !box.firstChild) fillTable(box, mapOf(tensor, state.head)); },
  }, make("summary", { "data-key": "numbers" }, say.table), box);
  return details;
}

/** @type {(box: HTMLElement, map: TensorMap) => void} */
function fillTable(box, map) {
  const rows = Math.min(map.rows, MOST_ROWS), columns = Math.min(map.columns, MOST_COLUMNS);
  /** @type {(n: number) => number[]} */
  const count = (n) => Array.from({ length: n }, (_, i) => i);
  /** @type {(value: number) => string} */
  const text = (value) => (value === MASK_VALUE ? map.lowest : shownNumber(value));
  const head = make("tr", {}, make("td", {}),
    ...count(columns).map((c) => make("th", { scope: "col" }, map.columnLabels[c])));
  const body = count(rows).map((r) => make("tr", {}, make("th", { scope: "row" }, map.rowLabels[r] || words().value),
    ...count(columns).map((c) => make("td", {}, text(map.at(r, c))))));
  if (rows < map.rows || columns < map.columns) box.append(note(words().tableCut(rows, columns)));
  box.append(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

/** One bar for every number of a row.
 * @type {(tensor: Tensor) => HTMLElement} */
export function barsOf(tensor) {
  const map = mapOf(tensor, 0), values = Array.from(tensor.data);
  return barList(values.map((value, i) => ({ name: map.columnLabels[i], value, text: shownNumber(value) })));
}

export function nextBars() {
  const next = state.look === "broken" && state.broken && isFirst() ? state.broken.next : state.next;
  return barList(next.map(({ token, probability }) => (
    { name: token, value: probability, text: percent(probability) })), 1);
}

/** @type {(entries: {name: string, value: number, text: string}[], most?: number) => HTMLElement} */
function barList(entries, most = Math.max(...entries.map(({ value }) => value), 0)) {
  const least = Math.min(0, ...entries.map(({ value }) => value)), span = most - least || 1;
  const longest = Math.max(...entries.map(({ name }) => [...name].length));
  const list = make("ol", { class: "bars" }, ...entries.map(({ name, value, text }) => {
    const from = (Math.min(value, 0) - least) / span * 100, size = Math.abs(value) / span * 100;
    const bar = make("i", { class: value < 0 && "negative", style: `--from: ${from}%; --size: ${size}%` });
    return make("li", {},
      make("span", { class: "name" }, name),
      make("span", { class: "track" }, bar),
      make("span", { class: "value" }, text));
  }));
  list.style.setProperty("--names", `${Math.min(Math.max(longest, 2), 22) * 0.56}rem`);
  return list;
}

const CURVE = { width: 640, height: 300, left: 58, right: 16, top: 14, bottom: 34 };

/** The rows of a tensor as lines over its last axis; logarithmic where the largest number is over 100 times the least.
 * @type {(tensor: Tensor) => (Node | null)[]} */
export function curveOf(tensor) {
  const map = mapOf(tensor, 0), usual = Array.from(tensor.data).filter(Number.isFinite);
  const least = Math.min(...usual), most = Math.max(...usual), logarithmic = least > 0 && most / least > 100;
  const ticks = logarithmic ? powersOfTen(least, most) : roundTicks(Math.min(0, least), most);
  /** @type {(value: number) => number} */
  const bend = logarithmic ? Math.log10 : (value) => value;
  const low = bend(ticks[0]), span = bend(ticks[ticks.length - 1]) - low;
  const { width, height, left, right, top, bottom } = CURVE;
  /** @type {(c: number) => number} */
  const x = (c) => left + c / Math.max(map.columns - 1, 1) * (width - left - right);
  /** @type {(value: number) => number} */
  const y = (value) => top + (1 - (bend(value) - low) / span) * (height - top - bottom);
  const svg = makeSvg("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", [...map.rowLabels.filter(Boolean), axisName(tensor, map.columnAxis)].join(" · "));
  for (const tick of ticks) {
    svg.append(makeSvg("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    svg.append(makeSvg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, shownNumber(tick)));
  }
  const every = Math.ceil(map.columns / 9);
  map.columnLabels.forEach((label, c) => {
    if (c % every === 0) svg.append(makeSvg("text", { x: x(c), y: height - 12, "text-anchor": "middle" }, label));
  });
  for (let r = 0; r < map.rows; r++) svg.append(...lineOf(map, r, x, y));
  const names = map.rowLabels.filter(Boolean).map((label, r) =>
    make("span", {}, make("i", { class: `line-${r % 3}` }), label));
  return [names.length ? make("div", { class: "lines" }, ...names) : null, svg, note(axisName(tensor, map.columnAxis))];
}

/** One row as a line. At a number that is not finite the line breaks, and the number is written at the top.
 * @type {(map: TensorMap, r: number, x: (c: number) => number, y: (value: number) => number) => Element[]} */
function lineOf(map, r, x, y) {
  const parts = [];
  let path = "", pen = "M";
  for (let c = 0; c < map.columns; c++) {
    const value = map.at(r, c), finite = Number.isFinite(value);
    if (finite) path += `${pen}${x(c)} ${y(value)}`;
    parts.push(finite ? makeSvg("circle", { class: `line-${r % 3}`, cx: x(c), cy: y(value), r: 3 })
      : makeSvg("text", { x: x(c), y: CURVE.top + 14 + 14 * r, "text-anchor": "middle" }, shownNumber(value)));
    pen = finite ? "L" : "M";
  }
  const dashes = ["none", "7 5", "2 4"][r % 3];
  return [makeSvg("path", { class: `line-${r % 3}`, "stroke-dasharray": dashes, d: path }), ...parts];
}

/** @type {(least: number, most: number) => number[]} */
function powersOfTen(least, most) {
  const first = Math.floor(Math.log10(least)), last = Math.ceil(Math.log10(most));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

/** About five round numbers from at most `least` to at least `most`.
 * @type {(least: number, most: number) => number[]} */
function roundTicks(least, most) {
  const rough = (most - least || 1) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((n) => n * power >= rough) ?? 10) * power, first = Math.floor(least / step);
  const count = Math.max(Math.ceil(most / step), first + 1) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Every token of the prompt with its id and position. */
export function tokenTable() {
  const say = words();
  return make("ol", { class: "token-table" }, ...state.prompt.tokens.map((token, position) => make("li", {},
    make("b", {}, token), make("span", {}, `${say.id} ${state.prompt.ids[position]}`),
    make("span", {}, `${say.position} ${position}`))));
}
