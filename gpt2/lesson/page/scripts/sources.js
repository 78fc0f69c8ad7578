// The two implementations of a step's functions, line by line, side by side.
import { lesson, state, words } from "./lesson.js";
import { fill } from "./tensors.js";
import { $, all, make, replace } from "./tools.js";
import { badgeOf } from "./verdicts.js";

/** @import {Shown, Side, Source} from "./lesson.js" */

export function renderFunctions() {
  const say = words(), { functions } = lesson.steps[state.step], section = $("functions");
  section.hidden = !functions.length;
  replace(section,
    make("h2", { id: "functions-title" }, say.code),
    functions.some((each) => each.backend) ? make("p", { class: "hint" }, say.samePair) : null,
    ...functions.map(functionOf));
  renderBadges();
}

/** @type {(shown: Shown, index: number) => HTMLElement} */
function functionOf(shown, index) {
  const say = words(), { reference, backend } = shown;
  /** @type {Side[]} */
  const sides = backend ? ["reference", "backend"] : ["reference"];
  const table = make("table", { class: "pair one", "data-shown": state.side },
    make("caption", { class: "unseen" }, shown.name),
    make("colgroup", {}, ...sides.flatMap((side) => [
      make("col", { class: "number", "data-side": side }), make("col", { "data-side": side })])),
    make("thead", {}, make("tr", {},
      sourceHead(reference, "reference"), backend ? sourceHead(backend, "backend") : null)),
    make("tbody", {}, ...shown.pairs.map((pair) => sourceRow(shown, pair))));
  if (!backend) table.classList.remove("one");
  return make("section", { class: "function", "aria-label": shown.name },
    make("header", {}, make("h3", {}, shown.name), make("span", { class: "verdict", "data-function": index })),
    shown.shapes ? make("p", { class: "shapes mono" }, shown.shapes) : null,
    backend ? tabsOf(index) : make("p", { class: "hint" }, say.noTwin), table);
}

/** On a narrow screen there is room for one source: the reader chooses.
 * @type {(index: number) => HTMLElement} */
function tabsOf(index) {
  const say = words();
  /** @type {Side[]} */
  const sides = ["reference", "backend"];
  return make("div", { class: "choice tabs", role: "group", "aria-label": say.code },
    ...sides.map((side) => make("button", {
      type: "button", "data-side": side, "data-key": `side-${index}-${side}`,
      "aria-pressed": String(side === state.side), onclick: () => showSide(side),
    }, say[side])));
}

/** @type {(side: Side) => void} */
function showSide(side) {
  state.side = side;
  for (const table of all(".pair")) table.dataset.shown = side;
  for (const button of all(".tabs button")) {
    button.setAttribute("aria-pressed", String(button.dataset.side === side));
  }
}

/** @type {(source: Source, side: Side) => HTMLElement} */
function sourceHead(source, side) {
  const place = make("span", { class: "mono" }, `${source.file}:${source.line}`);
  return make("th", { colspan: 2, scope: "colgroup", "data-side": side }, `${words()[side]} `, place);
}

/** @type {(shown: Shown, pair: Shown["pairs"][number]) => HTMLElement} */
function sourceRow({ reference, backend }, [left, right]) {
  const cells = sourceCells(reference, left, "reference");
  if (backend) cells.push(...sourceCells(backend, right, "backend"));
  const absent = left === null ? "reference" : right === null && backend !== null && "backend";
  const row = make("tr", { "data-absent": absent }, ...cells);
  /** @type {(cell: HTMLElement) => string} */
  const plain = (cell) => cell.textContent.replace(/"""$/, "").trim(); // where a docstring ends is no difference
  if (backend && left !== null && right !== null && plain(cells[1]) !== plain(cells[3])) row.classList.add("differs");
  return row;
}

/** @type {(source: Source, index: number | null, side: Side) => HTMLElement[]} */
function sourceCells(source, index, side) {
  if (index === null) {
    return ["number", "source"].map((kind) => make("td", { class: `${kind} absent`, "data-side": side }));
  }
  const cell = make("td", { class: "source", "data-side": side, html: source.lines[index] });
  cell.style.setProperty("--indent", String(cell.textContent.search(/[^ ]|$/)));
  return [make("td", { class: "number", "data-side": side }, String(source.line + index)), cell];
}

/** A function has the verdict on the stage that it computes, in the picked layer. */
export function renderBadges() {
  const { functions } = lesson.steps[state.step];
  for (const holder of all("[data-function]")) {
    /** @type {Partial<Shown>} */
    const { stage, verdict } = functions[Number(holder.dataset.function)] ?? {};
    const name = stage ? fill(stage, state.layer) : null;
    replace(holder, name ? badgeOf(name, state.verdicts?.[name] ?? verdict) : verdict ? badgeOf("", verdict) : null);
  }
}
