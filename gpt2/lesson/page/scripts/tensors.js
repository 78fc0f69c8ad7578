// Tensors by name: their numbers, and the names along their axes.
import { scaleOf } from "./heatmap.js";
import { config, isFirst, lesson, lowestOf, said, state, unpack, words } from "./lesson.js";
import { visible } from "./tools.js";

/** @import {HeatMap, Scale} from "./heatmap.js" */
/** @import {StoredTensor, Tensor} from "./lesson.js" */

/**
 * @typedef {object} OfTensor what a map of a tensor has besides
 * @property {number | null} rowAxis null where the tensor is one row
 * @property {number} columnAxis
 * @property {string} lowest what a masked score was replaced by
 */
/** @typedef {HeatMap & OfTensor} TensorMap */

/** The layers whose tensor of that name is in the page.
 * @type {(name: string) => number[]} */
export function layersOf(name) {
  return Array.from({ length: config.n_layer }, (_, layer) => layer).filter((layer) => tensorOf(fill(name, layer)));
}

/** The name of a tensor, from one that has {layer} for the number.
 * @type {(name: string, layer: number | null) => string} */
export function fill(name, layer) {
  return name.replace("{layer}", String(layer));
}

/** A tensor of the current prompt, or else of the lesson.
 * @type {(name: string) => Tensor | undefined} */
export function tensorOf(name) {
  const found = state.stages[name] ?? lesson.tensors[name];
  return found && (isStored(found) ? unpack(found) : found);
}

/** @type {(tensor: Tensor | StoredTensor) => tensor is StoredTensor} */
function isStored(tensor) {
  return typeof tensor.data === "string";
}

/** The tensor as the reader wants to see it: right, broken, or the difference of the two.
 * @type {(name: string) => Tensor | undefined} */
export function lookedAt(name) {
  const right = tensorOf(name), stored = state.look === "right" ? undefined : brokenTensor(name);
  if (!stored || !right) return right;
  const broken = unpack(stored);
  return state.look === "broken" ? broken : differenceOf(broken, right);
}

/** @type {(name: string) => StoredTensor | undefined} */
export function brokenTensor(name) {
  return state.broken && isFirst() ? state.broken.tensors[name] : undefined;
}

/** Where there is a broken tensor, show that one first. */
export function showBroken() {
  const template = lesson.steps[state.step].tensors[state.tensor] ?? "";
  state.look = brokenTensor(fill(template, state.layer)) ? "broken" : "right";
}

/** broken - right, at the places that the broken one has kept.
 * @type {(broken: Tensor, right: Tensor) => Tensor} */
function differenceOf(broken, right) {
  const places = broken.shape.map((size, axis) => Array.from({ length: size }, (_, i) => {
    const place = broken.at?.[axis]?.[i] ?? i;
    return right.at?.[axis]?.indexOf(place) ?? place;
  }));
  const data = broken.data.map((value, flat) => {
    let rest = flat, offset = 0, stride = 1;
    for (let axis = broken.shape.length - 1; axis >= 0; axis--) {
      offset += places[axis][rest % broken.shape[axis]] * stride;
      stride *= right.shape[axis];
      rest = Math.floor(rest / broken.shape[axis]);
    }
    return value - right.data[offset];
  });
  return { ...broken, data };
}

/** The names along an axis, if it has some: labels of the lesson, tokens of the prompt, or of the vocabulary.
 * @type {(tensor: Tensor, axis: number) => string[] | null} */
export function namesOf(tensor, axis) {
  const letter = tensor.axes[axis], places = placesOf(tensor, axis);
  if (tensor.labels?.[letter]) return tensor.labels[letter].map(said);
  const { tokens } = state.prompt, all = lesson.model.tokens;
  if ("TS".includes(letter) && tensor.full_shape[axis] === tokens.length) return places.map((i) => tokens[i]);
  if (letter === "V" && all) return places.map((i) => visible(all[i]));
  return null;
}

/** Where the entries along an axis stand in the full tensor.
 * @type {(tensor: Tensor, axis: number) => number[]} */
export function placesOf(tensor, axis) {
  return tensor.at?.[axis] ?? Array.from({ length: tensor.shape[axis] }, (_, i) => i);
}

/** What an axis is called. Where keys (S) stand beside it, T is a query.
 * @type {(tensor: Tensor, axis: number, form?: "axes" | "plural") => string} */
export function axisName(tensor, axis, form = "axes") {
  /** @type {Record<string, string>} */
  const known = words()[form], letter = tensor.axes[axis];
  return (letter === "T" && tensor.axes.includes("S") ? known.query : known[letter]) ?? letter;
}

/** The last two axes of a tensor, of one head if it has heads. scale: null for the map's own.
 * @type {(tensor: Tensor, head: number, scale?: Scale | null) => TensorMap} */
export function mapOf(tensor, head, scale = null) {
  const last = tensor.axes.length - 1, rowAxis = last ? last - 1 : null, heads = tensor.axes.indexOf("H");
  const columns = tensor.shape[last], rows = rowAxis === null ? 1 : tensor.shape[rowAxis];
  const start = (heads >= 0 && heads < last - 1 ? head : 0) * rows * columns;
  const shown = tensor.data.subarray(start, start + rows * columns);
  /** @type {(axis: number) => string[]} */
  const names = (axis) => namesOf(tensor, axis) ?? placesOf(tensor, axis).map(String);
  return {
    rows, columns, rowAxis, columnAxis: last, at: (r, c) => shown[r * columns + c], scale: scale ?? scaleOf(shown),
    rowLabels: rowAxis === null ? [""] : names(rowAxis), columnLabels: names(last),
    named: namesOf(tensor, last) !== null && columns <= 80,
    square: tensor.axes[last] === "S" && tensor.axes[last - 1] === "T", lowest: lowestOf(tensor)[1],
  };
}
