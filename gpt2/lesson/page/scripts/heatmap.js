// Heat maps: colours, drawing, and what is under the pointer. They know nothing of GPT-2.
import { MASK_VALUE } from "./gpt2.js";

/**
 * @typedef {object} HeatMap what is drawn
 * @property {number} rows
 * @property {number} columns
 * @property {(row: number, column: number) => number} at
 * @property {Scale} scale
 * @property {string[]} rowLabels
 * @property {string[]} columnLabels
 * @property {boolean} named whether columns have names, not numbers alone
 * @property {boolean} square whether cells are as high as wide
 */

/**
 * @typedef {object} Scale
 * @property {number} min
 * @property {number} max
 * @property {number} limit the size at which a colour is full
 * @property {boolean} clipped whether some numbers are beyond the limit
 * @property {boolean} masked
 * @property {boolean} undefined whether some are NaN
 * @property {boolean} zeros whether an exact 0 means something: no number is negative
 */

/**
 * @typedef {object} Layout where things lie, in pixels
 * @property {number} left
 * @property {number} top
 * @property {number} width
 * @property {number} height
 * @property {number} cellWidth
 * @property {number} cellHeight
 * @property {number} gap between cells
 * @property {boolean} upright whether the columns' labels are turned
 * @property {number} every how many columns have one label
 * @property {number} longest that a label may be
 */

/** @typedef {[row: number, column: number]} Cell */
/** @typedef {CanvasRenderingContext2D} Context */

// From the most negative to the most positive: orange, paper, blue. Both ends stay apart for colour-blind eyes.
const COLOURS = {
  light: ["#7f3b08", "#c8691a", "#efa860", "#f9ddbb", "#f5f3ef", "#cfe1f0", "#86b6dc", "#367fba", "#0a3f78"],
  dark: ["#ffcf96", "#e2903c", "#a35f1d", "#553617", "#22262b", "#1c3d5c", "#2c6ba3", "#62a5dd", "#bfe0fb"],
};

function isDark() {
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** @type {(hex: string) => number[]} */
function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** The colour of a number from -1 to 1, as [r, g, b].
 * @type {(position: number) => number[]} */
function colourAt(position) {
  const stops = COLOURS[isDark() ? "dark" : "light"].map(channels);
  const place = (Math.max(-1, Math.min(1, position)) + 1) / 2 * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return stops[low].map((value, i) => Math.round(value + (stops[low + 1][i] - value) * (place - low)));
}

/** The range of the numbers without masked ones, and the size at which a colour is full.
 * @type {(data: Float32Array) => Scale} */
export function scaleOf(data) {
  const usual = Array.from(data).filter((value) => value !== MASK_VALUE && Number.isFinite(value));
  const sizes = usual.map(Math.abs).sort((a, b) => a - b);
  const most = sizes[Math.floor((sizes.length - 1) * 0.97)] || 0, largest = sizes[sizes.length - 1] || 0;
  const min = usual.reduce((a, b) => Math.min(a, b), Infinity), max = usual.reduce((a, b) => Math.max(a, b), -Infinity);
  const shares = min >= 0 && max <= 1;
  // a few very large numbers, as in the residual stream, would leave all others without colour
  const limit = !shares && largest > 4 * most && largest < 1000 * most ? most : largest;
  return {
    min, max, limit: limit || 1, clipped: limit < largest,
    masked: data.includes(MASK_VALUE), undefined: data.includes(NaN),
    zeros: usual.every((value) => value >= 0) && usual.some((value) => value === 0),
  };
}

/** @type {(canvas: HTMLCanvasElement) => Context} */
function contextOf(canvas) {
  return /** @type {Context} */ (canvas.getContext("2d"));
}

/** One pixel per number; the style sheet enlarges it.
 * @type {(canvas: HTMLCanvasElement, map: HeatMap) => void} */
export function drawThumbnail(canvas, map) {
  canvas.width = map.columns;
  canvas.height = map.rows;
  const context = contextOf(canvas), image = context.createImageData(map.columns, map.rows);
  const grey = isDark() ? 70 : 205;
  for (let r = 0, i = 0; r < map.rows; r++) for (let c = 0; c < map.columns; c++, i += 4) {
    const value = map.at(r, c);
    const colour = value === MASK_VALUE ? [grey, grey, grey] : colourAt(value / map.scale.limit);
    image.data.set([...colour, 255], i);
  }
  context.putImageData(image, 0, 0);
}

const LABEL_FONT = '12px ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace';
const LINE = 13; // from one upright label to the next

/** Where the cells and labels of a map lie in that width.
 * @type {(map: HeatMap, width: number) => Layout} */
function layOut(map, width) {
  const context = contextOf(document.createElement("canvas"));
  context.font = LABEL_FONT;
  const longest = width > 480 ? 190 : 84;
  /** @type {(labels: string[]) => number[]} */
  const sizes = (labels) => labels.map((label) => Math.min(longest, context.measureText(label).width));
  const left = Math.ceil(Math.max(...sizes(map.rowLabels))) + 10;
  const room = Math.max(width - left - 2, 1);
  const fitting = room / map.columns;
  const cellWidth = map.square ? Math.max(13, Math.min(38, Math.floor(fitting)))
    : Math.max(1, Math.min(34, fitting >= 4 ? Math.floor(fitting) : fitting)); // narrow cells still fill the width
  const cellHeight = map.square ? cellWidth : Math.max(12, Math.min(26, Math.floor(420 / map.rows)));
  const long = sizes(map.columnLabels).filter((size) => size > Math.max(cellWidth - 4, 8)).length;
  const upright = map.named && long > map.columns / 16;
  const top = upright ? Math.ceil(Math.max(...sizes(map.columnLabels))) + 10 : 20;
  const every = upright ? Math.ceil(LINE / cellWidth)
    : map.named ? Math.ceil(7.5 / cellWidth) : tickDistance(map.columns, cellWidth);
  return {
    left, top, cellWidth, cellHeight, upright, every, longest, gap: Math.min(cellWidth, cellHeight) >= 10 ? 1 : 0,
    width: left + cellWidth * map.columns + 2, height: top + cellHeight * map.rows + 2,
  };
}

/** Draws the whole map with its labels, and tells where they lie.
 * @type {(canvas: HTMLCanvasElement, map: HeatMap, width: number, selected: Cell) => Layout} */
export function drawHeatMap(canvas, map, width, selected) {
  const layout = layOut(map, width), ratio = devicePixelRatio || 1, dark = isDark();
  canvas.width = layout.width * ratio;
  canvas.height = layout.height * ratio;
  canvas.style.width = `${layout.width}px`;
  canvas.style.height = `${layout.height}px`;
  const context = contextOf(canvas);
  context.scale(ratio, ratio);
  drawCells(context, map, layout, dark);
  drawLabels(context, map, layout, dark, selected);
  const [r, c] = selected;
  const x = layout.left + c * layout.cellWidth, y = layout.top + r * layout.cellHeight;
  const wide = Math.max(layout.cellWidth - layout.gap, 3), high = layout.cellHeight - layout.gap;
  context.lineWidth = 4;
  context.strokeStyle = dark ? "#15171a" : "#ffffff";
  context.strokeRect(x - 0.5, y - 0.5, wide + 1, high + 1);
  context.lineWidth = 2;
  context.strokeStyle = dark ? "#ffffff" : "#111418";
  context.strokeRect(x - 0.5, y - 0.5, wide + 1, high + 1);
  return layout;
}

/** @type {(context: Context, map: HeatMap, layout: Layout, dark: boolean) => void} */
function drawCells(context, map, layout, dark) {
  const hatch = hatchPattern(context, dark);
  for (let r = 0; r < map.rows; r++) for (let c = 0; c < map.columns; c++) {
    const x = layout.left + Math.round(c * layout.cellWidth), y = layout.top + r * layout.cellHeight;
    const wide = layout.left + Math.round((c + 1) * layout.cellWidth) - x - layout.gap;
    const high = layout.cellHeight - layout.gap, value = map.at(r, c);
    const known = value !== MASK_VALUE && !Number.isNaN(value);
    context.fillStyle = known ? `rgb(${colourAt(value / map.scale.limit)})` : hatch;
    context.fillRect(x, y, wide, high);
    if (value === 0 && map.scale.zeros && wide >= 8) {
      context.fillStyle = dark ? "#5d646d" : "#b5b1a8";
      context.beginPath();
      context.arc(x + wide / 2, y + high / 2, 1.4, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

/** @type {(context: Context, dark: boolean) => CanvasPattern} */
function hatchPattern(context, dark) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const lines = contextOf(tile);
  lines.fillStyle = dark ? "#2a2e34" : "#eceae5";
  lines.fillRect(0, 0, 6, 6);
  lines.strokeStyle = dark ? "#4a5059" : "#c4c0b8";
  lines.beginPath();
  for (const start of [-6, 0, 6]) {
    lines.moveTo(start, 6);
    lines.lineTo(start + 6, 0);
  }
  lines.stroke();
  return /** @type {CanvasPattern} */ (context.createPattern(tile, "repeat"));
}

/** @type {(context: Context, map: HeatMap, layout: Layout, dark: boolean, selected: Cell) => void} */
function drawLabels(context, map, layout, dark, [row, column]) {
  const quiet = dark ? "#a2a9b2" : "#5a6069", ink = dark ? "#ffffff" : "#111418";
  /** @type {(label: string, chosen: boolean, x: number, y: number, turned?: boolean) => void} */
  const write = (label, chosen, x, y, turned) => {
    context.save();
    context.font = (chosen ? "bold " : "") + LABEL_FONT;
    context.fillStyle = chosen ? ink : quiet;
    context.translate(x, y);
    if (turned) context.rotate(-Math.PI / 2);
    context.fillText(cut(context, label, layout.longest), 0, 0);
    context.restore();
  };
  context.textBaseline = "middle";
  context.textAlign = "right";
  map.rowLabels.forEach((label, r) => {
    write(label, r === row, layout.left - 6, layout.top + (r + 0.5) * layout.cellHeight);
  });
  context.textAlign = layout.upright ? "left" : "center";
  const room = layout.every * layout.cellWidth;
  /** @type {(c: number) => number} */
  const size = (c) => context.measureText(map.columnLabels[c]).width;
  // so many columns beside the chosen one have no label, to leave room for its own
  const reach = layout.upright ? layout.every : Math.ceil((size(column) / 2 + 6) / layout.cellWidth);
  map.columnLabels.forEach((label, c) => {
    const near = Math.abs(c - column) < reach || (!layout.upright && size(c) > Math.max(room, 8));
    if (c !== column && (c % layout.every !== 0 || near)) return;
    const x = layout.left + (c + 0.5) * layout.cellWidth - layout.gap / 2;
    const half = layout.upright ? 0 : size(c) / 2;
    const inside = Math.min(x, layout.width - half);
    write(label, c === column, inside, layout.upright ? layout.top - 6 : layout.top - 9, layout.upright);
  });
}

/** How many columns lie between two numbers that do not touch.
 * @type {(columns: number, cellWidth: number) => number} */
function tickDistance(columns, cellWidth) {
  return [1, 2, 4, 8, 16, 32, 64, 128, 256].find((n) => n * cellWidth >= 36) || columns;
}

/** @type {(context: Context, label: string, longest: number) => string} */
function cut(context, label, longest) {
  if (context.measureText(label).width <= longest) return label;
  let kept = label;
  while (kept && context.measureText(`${kept}…`).width > longest) kept = kept.slice(0, -1);
  return `${kept}…`;
}

/** The cell under a point of the canvas.
 * @type {(map: HeatMap, layout: Layout, x: number, y: number) => Cell | null} */
export function cellAt(map, layout, x, y) {
  const r = Math.floor((y - layout.top) / layout.cellHeight), c = Math.floor((x - layout.left) / layout.cellWidth);
  return r >= 0 && r < map.rows && c >= 0 && c < map.columns ? [r, c] : null;
}

/** The colour scale as a CSS gradient, from min to max.
 * @type {(scale: Scale) => string} */
export function gradientOf(scale) {
  const low = Math.max(scale.min, -scale.limit), high = Math.min(scale.max, scale.limit), n = 16;
  const stops = Array.from({ length: n + 1 }, (_, i) => `rgb(${colourAt((low + (high - low) * i / n) / scale.limit)})`);
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}
