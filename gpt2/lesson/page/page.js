// The lesson: what is shown, and what the reader does. Everything shown follows from `state`.
"use strict";

const lesson = JSON.parse(document.getElementById("lesson").textContent);
const config = lesson.model.config;
const unpacked = new Map(); // tensors of the payload whose numbers have been read
const weights = lesson.model.weights && Object.fromEntries(
  Object.entries(lesson.model.weights).map(([name, stored]) => [name, floats(stored.data)]));

const state = {
  language: navigator.language.startsWith("zh") ? "zh" : "en",
  prompt: lesson.prompt, next: lesson.next, stages: {}, verdicts: lesson.verdicts, // of the prompt at hand
  error: null, // a function that says what is wrong with the prompt, in the language of the page
  step: 0, tensor: 0, layer: lesson.layers?.[0] ?? 0, head: 0, cell: null,
  broken: null, look: "right", side: "reference",
};

// Small tools.

function $(id) {
  return document.getElementById(id);
}

function words() {
  return WORDS[state.language];
}

/** A text of the payload in the language of the page. */
function said(text) {
  return text !== null && typeof text === "object" ? text[state.language] : String(text);
}

/** A new element; attributes that start with "on" are listeners, `html` is trusted text of the lesson. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "html") element.innerHTML = value;
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Put new children in, and the focus back on the one with the same data-key. */
function replace(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  element.replaceChildren(...children.filter((child) => child !== null));
  if (key !== undefined) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** The numbers of base64 little-endian float32. */
function floats(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

// The lowest finite number of a dtype, as float32 has it, and as people read it: what masked scores are replaced by.
const LOWEST = {
  float16: [-65504, "−65504"], bfloat16: [-3.3895313892515355e38, "−3.4e38"], float32: [MASK_VALUE, "−3.4e38"],
  float64: [-Infinity, "−1.8e308"],
};

function lowestOf({ dtype }) {
  return LOWEST[dtype] ?? LOWEST.float32;
}

function unpack(stored) {
  if (!unpacked.has(stored)) {
    const [lowest] = lowestOf(stored);
    const data = floats(stored.data).map((value) => (value === lowest ? MASK_VALUE : value)); // one mark for all dtypes
    unpacked.set(stored, { ...stored, data });
  }
  return unpacked.get(stored);
}

function percent(probability) {
  const value = 100 * probability;
  return `${value >= 99.95 && value < 100 ? value.toFixed(3) : value >= 10 ? value.toFixed(1) : value.toPrecision(2)} %`
    .replace(/(\d)\.(\d*)e-(\d+)/, "$1.$2e−$3");
}

function group(label, ...children) {
  const box = make("div", { class: "choice", role: "group", "aria-label": label }, ...children);
  return make("div", { class: "named" }, make("span", {}, label), box);
}

// The prompt.

/** Whether the page itself can read a prompt and compute it. */
const computes = Boolean(weights && lesson.model.tokens);

function canAsk() {
  return computes || lesson.server === true;
}

function isFirst() {
  return String(state.prompt.ids) === String(lesson.prompt.ids);
}

/** A token as people see it. */
function visible(token) {
  return token.replaceAll("\n", "↵").replaceAll(" ", "␣").replaceAll("\t", "⇥");
}

/** What people see, turned back. */
function raw(token) {
  return token.replaceAll("↵", "\n").replaceAll("␣", " ").replaceAll("⇥", "\t");
}

/** The ids of a text, each the longest token that fits; or the character that no token has. */
function tokenize(text) {
  const byLength = lesson.model.tokens.map((token, id) => [token, id]).sort((a, b) => b[0].length - a[0].length);
  const ids = [];
  for (let rest = text; rest;) {
    const found = byLength.find(([token]) => token && rest.startsWith(token));
    if (!found) return { unknown: String.fromCodePoint(rest.codePointAt(0)) };
    ids.push(found[1]);
    rest = rest.slice(found[0].length);
  }
  return { ids };
}

/** What is wrong with a text as a prompt, as a function that says it; null if nothing is. */
function objection(text) {
  if (!text) return () => words().empty;
  const { ids, unknown } = tokenize(text);
  if (unknown) return () => words().unknown(visible(unknown), lesson.model.tokens.map(visible).join(" "));
  return ids.length > config.n_positions ? () => words().long(ids.length, config.n_positions) : null;
}

async function run(text) {
  state.error = computes ? objection(text) : null;
  if (!state.error) await (computes ? compute(text) : ask(text));
  if (!state.error) $("prompt").value = text;
  state.cell = null;
  showBroken();
  render();
}

function compute(text) {
  const { ids } = tokenize(text), tokens = lesson.model.tokens;
  state.prompt = { text, ids, tokens: ids.map((id) => visible(tokens[id])) };
  state.stages = gpt2Stages(config, weights, ids);
  const last = softmax(state.stages.logits.data.slice(-config.vocab_size), config.vocab_size);
  const best = Array.from(last.keys()).sort((a, b) => last[b] - last[a]).slice(0, 10);
  state.next = best.map((id) => ({ id, token: visible(tokens[id]), probability: last[id] }));
  state.verdicts = isFirst() ? lesson.verdicts : null;
}

async function ask(text) {
  try {
    const answer = await fetch("/lesson", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ prompt: text }),
    });
    const found = await answer.json();
    if (!answer.ok) state.error = () => words().refused(found.error);
    else {
      const { prompt, next, tensors, verdicts } = found;
      Object.assign(state, { prompt, next, stages: tensors, verdicts });
    }
  } catch {
    state.error = () => words().unreachable;
  }
}

function renderPrompt() {
  const say = words(), box = $("prompt"), askable = canAsk();
  $("prompt-label").textContent = say.prompt;
  $("run").textContent = say.run;
  $("run").hidden = !askable;
  box.readOnly = !askable;
  box.setAttribute("aria-invalid", String(Boolean(state.error)));
  $("hint").textContent = askable ? say.hint : say.fixed;
  $("error").hidden = !state.error;
  $("error").textContent = state.error ? state.error() : "";
  const offer = (text, label, key) =>
    make("button", { type: "button", "data-key": key, onclick: () => run(text) }, label);
  const examples = askable ? lesson.examples ?? [] : [];
  replace($("examples"),
    examples.length ? make("span", { class: "label" }, say.examples) : null,
    ...examples.map((text, i) => offer(text, visible(text), `example-${i}`)),
    isFirst() ? null : offer(lesson.prompt.text, say.first, "first"));
  $("token-count").textContent = say.tokens(state.prompt.ids.length, config.n_positions);
  replace($("tokens"), ...state.prompt.tokens.map((token) => make("li", {}, token)));
  $("next-label").textContent = say.next;
  replace($("next"), ...state.next.slice(0, 5).map((candidate, i) => make("li", {}, candidateOf(candidate, i, askable))));
}

/** One of the likeliest next tokens; where prompts can be changed, a button that appends it. */
function candidateOf({ id, token, probability }, i, askable) {
  const inside = [make("b", {}, token), make("span", {}, percent(probability))];
  if (!askable) return make("span", {}, ...inside);
  const text = lesson.model.tokens ? lesson.model.tokens[id] : raw(token);
  return make("button", {
    type: "button", "data-key": `next-${i}`, "aria-label": words().append(token, percent(probability)),
    onclick: () => run(state.prompt.text + text),
  }, ...inside);
}

// The steps.

function renderFrame() {
  const say = words();
  document.documentElement.lang = { en: "en", zh: "zh-Hans" }[state.language];
  document.title = say.title;
  $("heading").textContent = say.title;
  $("skip").textContent = say.skip;
  $("model").textContent = [
    say.model(lesson.model.name, lesson.model.parameters), say.layers(config.n_layer), say.heads(config.n_head),
    say.channels(config.n_embd), say.context(config.n_positions),
  ].join(" · ");
  $("language").setAttribute("aria-label", say.language);
  for (const button of $("language").children) {
    button.setAttribute("aria-pressed", String(button.dataset.language === state.language));
  }
  $("environment-label").textContent = say.environment;
  $("environment").replaceChildren(...lesson.environment.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  $("previous").textContent = say.previous;
  $("following").textContent = say.following;
  $("keys").textContent = say.keys;
  $("break-label").textContent = say.breakIt;
  $("break").replaceChildren(make("option", { value: "" }, say.breakNone),
    ...lesson.breaks.map((each) => make("option", { value: each.id }, said(each.name))));
  $("break").value = state.broken?.id ?? "";
  $("break").closest("div").hidden = !lesson.breaks.length;
}

function renderSteps() {
  const say = words(), parts = [];
  lesson.steps.forEach((step, i) => {
    if (say.groups[step.id] || !parts.length) parts.push({ name: say.groups[step.id] ?? say.steps, items: [] });
    parts.at(-1).items.push(make("li", {}, make("button", {
      type: "button", "data-key": step.id, "aria-current": i === state.step && "step",
      class: state.broken?.step === step.id && "marked",
      onclick: () => { goTo(i); foldSteps(); },
    }, make("span", { "aria-hidden": "true" }, String(i + 1)), said(step.title))));
  });
  $("steps-label").textContent = say.steps;
  $("steps-place").textContent = `${state.step + 1} / ${lesson.steps.length}`;
  replace($("step-list"), ...parts.flatMap(({ name, items }, i) => [
    make("p", { class: "label", id: `group-${i}` }, name), make("ol", { "aria-labelledby": `group-${i}` }, ...items),
  ]));
  const list = $("steps"), current = list.querySelector("[aria-current]");
  const { top, bottom } = current.getBoundingClientRect(), frame = list.getBoundingClientRect();
  if (top < frame.top || bottom > frame.bottom) list.scrollTop += top - frame.top - frame.height / 2;
}

/** On a narrow screen the list of steps is folded, on a wide one it always stands open. */
function foldSteps() {
  $("steps-fold").open = matchMedia("(min-width: 60.01rem)").matches;
}

function goTo(index) {
  if (index < 0 || index >= lesson.steps.length) return;
  Object.assign(state, { step: index, tensor: 0, cell: null, look: "right" });
  showBroken();
  history.replaceState(null, "", `#${lesson.steps[index].id}`);
  renderSteps();
  renderStep();
  $("announcer").textContent = `${words().step(index + 1, lesson.steps.length)}: ${said(lesson.steps[index].title)}`;
  const top = $("title").getBoundingClientRect().top;
  if (top < 0 || top > innerHeight * 0.6) $("title").closest("header").scrollIntoView();
}

function renderStep() {
  const say = words(), step = lesson.steps[state.step];
  $("place").textContent = say.step(state.step + 1, lesson.steps.length);
  $("title").textContent = said(step.title);
  $("text").innerHTML = said(step.text);
  const question = $("question");
  question.open = false;
  question.querySelector("summary").innerHTML = say.question + said(step.question);
  question.querySelector("div").innerHTML = said(step.answer);
  $("previous").disabled = state.step === 0;
  $("following").disabled = state.step === lesson.steps.length - 1;
  renderFigure();
  renderFunctions();
}

// Tensors.

/** The layers of which the page has the tensor of that name. */
function layersOf(name) {
  return Array.from({ length: config.n_layer }, (_, layer) => layer).filter((layer) => tensorOf(fill(name, layer)));
}

function fill(name, layer) {
  return name.replace("{layer}", layer);
}

/** A tensor of the prompt at hand, or one that is stored with the lesson; undefined if there is neither. */
function tensorOf(name) {
  const found = state.stages[name] ?? lesson.tensors[name];
  return found && (typeof found.data === "string" ? unpack(found) : found);
}

/** The tensor as the reader wants to look at it: right, broken, or the difference of the two. */
function lookedAt(name) {
  const right = tensorOf(name), stored = state.look !== "right" && brokenTensor(name);
  if (!stored || !right) return right;
  const broken = unpack(stored);
  return state.look === "broken" ? broken : differenceOf(broken, right);
}

function brokenTensor(name) {
  return state.broken && isFirst() ? state.broken.tensors[name] : undefined;
}

/** broken - right, at the places that the broken one is sampled at. */
function differenceOf(broken, right) {
  const places = broken.shape.map((size, axis) => Array.from({ length: size }, (_, i) => {
    const place = broken.at?.[axis]?.[i] ?? i;
    return right.at?.[axis] ? right.at[axis].indexOf(place) : place;
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

/** What stands at an axis, if it has names: tokens, entries of the vocabulary, or labels of the payload. */
function namesOf(tensor, axis) {
  const letter = tensor.axes[axis], places = placesOf(tensor, axis);
  if (tensor.labels?.[letter]) return tensor.labels[letter].map(said);
  const { tokens } = state.prompt;
  if ("TS".includes(letter) && tensor.full_shape[axis] === tokens.length) return places.map((i) => tokens[i]);
  if (letter === "V" && lesson.model.tokens) return places.map((i) => visible(lesson.model.tokens[i]));
  return null;
}

/** The places along an axis that are kept, in the full tensor. */
function placesOf(tensor, axis) {
  return tensor.at?.[axis] ?? Array.from({ length: tensor.shape[axis] }, (_, i) => i);
}

/** The scale of a broken map in the colours of the right one: the same number has the same colour in both. */
function scaleLike(right, broken) {
  return { ...broken, limit: right.limit, clipped: Math.max(-broken.min, broken.max) > right.limit };
}

/** How the axis is called: what is T elsewhere is a query where keys stand beside it. */
function axisName(tensor, axis, form = "axes") {
  const letter = tensor.axes[axis], known = words()[form];
  return (letter === "T" && tensor.axes.includes("S") ? known.query : known[letter]) ?? letter;
}

/** The last two axes of a tensor as a map of rows and columns; of a head, if it has heads. scale: unless its own. */
function mapOf(tensor, head, scale = null) {
  const last = tensor.axes.length - 1, rowAxis = last ? last - 1 : null, heads = tensor.axes.indexOf("H");
  const columns = tensor.shape[last], rows = rowAxis === null ? 1 : tensor.shape[rowAxis];
  const start = (heads >= 0 && heads < last - 1 ? head : 0) * rows * columns;
  const shown = tensor.data.subarray(start, start + rows * columns);
  const names = (axis) => namesOf(tensor, axis) ?? placesOf(tensor, axis).map(String);
  return {
    rows, columns, rowAxis, columnAxis: last, at: (r, c) => shown[r * columns + c], scale: scale ?? scaleOf(shown),
    rowLabels: rowAxis === null ? [""] : names(rowAxis), columnLabels: names(last),
    named: namesOf(tensor, last) !== null && columns <= 80,
    square: tensor.axes[last] === "S" && tensor.axes[last - 1] === "T", lowest: lowestOf(tensor)[1],
  };
}

// The figure of a step.

function renderFigure() {
  const step = lesson.steps[state.step], figure = $("figure");
  document.querySelector(".lesson").classList.toggle("plain", !step.tensors.length && step.view !== "tokens");
  if (!step.tensors.length) replace(figure, step.view === "tokens" ? tokenTable() : null);
  else drawTensor(figure, step);
  renderBadges();
}

function drawTensor(figure, step) {
  const template = step.tensors[state.tensor], layers = template.includes("{layer}") ? layersOf(template) : [];
  if (layers.length && !layers.includes(state.layer)) state.layer = layers[0];
  const name = fill(template, state.layer), tensor = lookedAt(name);
  const heads = tensor && tensor.axes.includes("H") ? placesOf(tensor, tensor.axes.indexOf("H")) : [];
  if (heads.length && state.head >= heads.length) state.head = 0;
  const pick = () => { state.cell = null; renderFigure(); };
  const controls = controlsOf(step, name, layers, heads, pick);
  if (!tensor) return replace(figure, controls, note(words().missing));
  const view = viewOf(step, tensor), hasOverview = view === "map" && (layers.length > 1 || heads.length > 1);
  const inOverview = layers.filter((layer) => state.look === "right" || brokenTensor(fill(template, layer)));
  replace(figure,
    controls, captionOf(name, tensor), ...notesOf(name, tensor, layers),
    hasOverview ? overviewOf(template, inOverview, heads, pick) : null,
    ...drawingOf(view, name, tensor),
    ["next", "scalar"].includes(view) ? null : numbersOf(name, tensor));
}

function note(text) {
  return make("p", { class: "note" }, text);
}

function drawingOf(view, name, tensor) {
  switch (view) {
    case "scalar": return [make("p", { class: "scalar" }, shownNumber(tensor.data[0]))];
    case "next": return [nextBars()];
    case "bars": return [barsOf(tensor)];
    case "curve": return curveOf(tensor);
    default: return heatMapOf(name, tensor);
  }
}

/** How a tensor is drawn: the first of a step as the step says, the others by their shape. */
function viewOf(step, tensor) {
  const axes = tensor.axes.length;
  if (step.id === "next_token") return "next";
  if (axes === 0) return "scalar";
  if (axes === 1) return state.tensor === 0 && step.view === "curve" ? "curve" : tensor.shape[0] <= 40 ? "bars" : "map";
  return tensor.axes[0] === "series" ? "curve" : "map";
}

function controlsOf(step, name, layers, heads, pick) {
  const say = words();
  const choose = (id, label, options, value, set) => {
    const select = make("select", { id, "data-key": id, onchange: () => { set(Number(select.value)); pick(); } },
      ...options.map(([each, text]) => make("option", { value: each }, text)));
    select.value = value;
    return make("label", {}, label, select);
  };
  const short = (full) => full.replace(/^h\.\{layer\}\./, "").replace(/^\w+\./, "");
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

function captionOf(name, tensor) {
  const shape = tensor.axes.map((axis, i) => `${axis} ${tensor.full_shape[i]}`).join(", ");
  return make("div", { class: "caption" }, make("code", {}, name), make("span", { class: "quiet shape" }, `(${shape})`),
    state.look === "right" ? badgeOf(name) : brokenBadge(name));
}

function notesOf(name, tensor, layers) {
  const say = words(), parts = [];
  tensor.axes.forEach((axis, i) => {
    const kept = tensor.shape[i], all = tensor.full_shape[i];
    if (kept < all) parts.push(say.sample(kept, all, axisName(tensor, i, "plural")));
  });
  if (layers.length && layers.length < config.n_layer) parts.push(say.layersSampled(layers.length, config.n_layer));
  const stale = !isFirst() && !(name in state.stages);
  return [parts.length ? note(say.sampled(parts)) : null, stale ? note(say.ofFirst) : null];
}

/** Every layer and head as a small picture; one is picked, with the mouse or the arrow keys. */
function overviewOf(template, layers, heads, pick) {
  const say = words(), rows = layers.length ? layers : [null], columns = heads.length ? heads : [null];
  const choices = rows.flatMap((layer, r) => columns.map((head, c) => ({ layer, head, r, c })));
  const choose = ({ layer, c }) => {
    if (layer !== null) state.layer = layer;
    state.head = heads.length ? c : state.head;
    showBroken();
    pick();
  };
  const isPicked = ({ layer, c }) => (layer === null || layer === state.layer) && (!heads.length || c === state.head);
  const grid = make("div", { class: "overview", role: "radiogroup", "aria-label": say.overview });
  const boxes = [];
  const fitting = Math.floor(($("figure").clientWidth - 80) / columns.length) - 16;
  const wide = heads.length ? Math.max(18, Math.min(76, fitting)) : 200;
  for (const choice of choices) {
    const tensor = lookedAt(fill(template, choice.layer)), canvas = make("canvas", {});
    const map = mapOf(tensor, choice.c, scaleOf(tensor.data));
    drawThumbnail(canvas, map);
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${map.square ? wide : heads.length ? Math.round(wide * 0.6) : rows.length > 4 ? 20 : 44}px`;
    const button = make("button", {
      type: "button", role: "radio", "aria-checked": String(isPicked(choice)), tabindex: isPicked(choice) ? 0 : -1,
      "aria-label": say.pick(choice.layer, choice.head), "data-key": `pick-${choice.r}-${choice.c}`,
      onclick: () => choose(choice),
      onkeydown: (event) => {
        const [down, right] = ARROWS[event.key] ?? [0, 0];
        if (!down && !right) return;
        event.preventDefault();
        const r = (choice.r + down + rows.length) % rows.length, c = (choice.c + right + columns.length) % columns.length;
        const button = grid.querySelector(`[data-key="pick-${r}-${c}"]`);
        button.focus();
        button.click();
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

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** The enlarged map with what it says of one number, and its legend. */
function heatMapOf(name, tensor) {
  const say = words(), map = mapOf(tensor, state.head), canvas = make("canvas", {});
  if (state.look === "broken") map.scale = scaleLike(mapOf(tensorOf(name), state.head).scale, map.scale);
  const rows = map.rowAxis === null ? "" : axisName(tensor, map.rowAxis, "plural");
  const columns = axisName(tensor, map.columnAxis, "plural");
  const readout = make("p", { class: "readout", id: "readout" });
  const box = make("div", {
    class: "map", id: "map", tabindex: 0, role: "application", "aria-roledescription": say.heatMap, "data-key": "map",
    "aria-label": say.map(name, rows, columns), "aria-describedby": "readout",
  }, canvas);
  const width = Math.max($("figure").clientWidth - 4, 120);
  state.cell ??= [map.rows - 1, 0];
  let layout;
  const draw = () => {
    layout = drawHeatMap(canvas, map, width, state.cell);
    readout.replaceChildren(...readingOf(tensor, map, state.cell));
  };
  const point = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    const cell = cellAt(map, layout, event.clientX - left, event.clientY - top);
    if (cell && String(cell) !== String(state.cell)) {
      state.cell = cell;
      draw();
    }
  };
  box.addEventListener("pointermove", point);
  box.addEventListener("pointerdown", point);
  box.addEventListener("keydown", (event) => {
    const [down, right] = ARROWS[event.key] ?? { Home: [0, -Infinity], End: [0, Infinity] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const within = (value, n) => Math.max(0, Math.min(n - 1, value));
    state.cell = [within(state.cell[0] + down, map.rows), within(state.cell[1] + right, map.columns)];
    draw();
    $("announcer").textContent = readout.textContent;
  });
  draw();
  return [
    note(rows ? say.rows(rows, columns) : columns), make("div", { class: "scroll" }, box), readout, legendOf(map),
  ];
}

/** One number in words: where it stands, and how large it is. */
function readingOf(tensor, map, [r, c]) {
  const part = (axis, i) => {
    const place = placesOf(tensor, axis)[i], name = namesOf(tensor, axis)?.[i], letter = tensor.axes[axis];
    const called = axisName(tensor, axis), third = tensor.full_shape[axis] / 3;
    if (letter.startsWith("3")) return `${"qkv"[Math.floor(place / third)]}, ${words().axes.C} ${place % third}`;
    return name === undefined ? `${called} ${place}` : "TSV".includes(letter) ? `${called} ${place} “${name}”` : name;
  };
  const value = map.at(r, c), where = [...(map.rowAxis === null ? [] : [part(map.rowAxis, r)]), part(map.columnAxis, c)];
  const joint = map.square ? " → " : " · ";
  const text = value === MASK_VALUE ? words().masked(map.lowest) : value === 0 && map.scale.zeros ? words().zero : shownNumber(value);
  return [`${where.join(joint)}: `, make("b", {}, text)];
}

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

/** The same numbers as a table, written when somebody opens it. */
function numbersOf(name, tensor) {
  const say = words();
  const box = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${say.table}: ${name}` });
  const details = make("details", {
    class: "numbers",
    ontoggle: () => { if (details.open && !box.firstChild) fillTable(box, mapOf(tensor, state.head)); },
  }, make("summary", { "data-key": "numbers" }, say.table), box);
  return details;
}

function fillTable(box, map) {
  const rows = Math.min(map.rows, MOST_ROWS), columns = Math.min(map.columns, MOST_COLUMNS);
  const count = (n) => Array.from({ length: n }, (_, i) => i);
  const head = make("tr", {}, make("td", {}),
    ...count(columns).map((c) => make("th", { scope: "col" }, map.columnLabels[c])));
  const body = count(rows).map((r) => make("tr", {}, make("th", { scope: "row" }, map.rowLabels[r] || words().value),
    ...count(columns).map((c) => make("td", {}, map.at(r, c) === MASK_VALUE ? map.lowest : shownNumber(map.at(r, c))))));
  if (rows < map.rows || columns < map.columns) box.append(note(words().tableCut(rows, columns)));
  box.append(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

/** One bar for every number of a row. */
function barsOf(tensor) {
  const map = mapOf(tensor, 0), values = Array.from(tensor.data);
  return barList(values.map((value, i) => ({ name: map.columnLabels[i], value, text: shownNumber(value) })));
}

function nextBars() {
  const broken = state.look === "broken" && state.broken && isFirst();
  const next = broken ? state.broken.next : state.next;
  return barList(next.map(({ token, probability }) => ({ name: token, value: probability, text: percent(probability) })), 1);
}

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

/** The rows of a tensor as lines over its last axis; logarithmic where the numbers span magnitudes. */
function curveOf(tensor) {
  const map = mapOf(tensor, 0), usual = Array.from(tensor.data).filter(Number.isFinite);
  const least = Math.min(...usual), most = Math.max(...usual), logarithmic = least > 0 && most / least > 100;
  const ticks = logarithmic ? powersOfTen(least, most) : roundTicks(Math.min(0, least), most);
  const bend = logarithmic ? Math.log10 : (value) => value, low = bend(ticks[0]), span = bend(ticks.at(-1)) - low;
  const { width, height, left, right, top, bottom } = CURVE;
  const x = (c) => left + c / Math.max(map.columns - 1, 1) * (width - left - right);
  const y = (value) => top + (1 - (bend(value) - low) / span) * (height - top - bottom);
  const svg = draw("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", [...map.rowLabels.filter(Boolean), axisName(tensor, map.columnAxis)].join(" · "));
  for (const tick of ticks) {
    svg.append(draw("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    svg.append(draw("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, shownNumber(tick)));
  }
  const every = Math.ceil(map.columns / 9);
  map.columnLabels.forEach((label, c) => {
    if (c % every === 0) svg.append(draw("text", { x: x(c), y: height - 12, "text-anchor": "middle" }, label));
  });
  for (let r = 0; r < map.rows; r++) svg.append(...lineOf(map, r, x, y));
  const names = map.rowLabels.filter(Boolean).map((label, r) =>
    make("span", {}, make("i", { class: `line-${r % 3}` }), label));
  return [names.length ? make("div", { class: "lines" }, ...names) : null, svg, note(axisName(tensor, map.columnAxis))];
}

/** One row as a line; where a number is not finite the line breaks, and the number stands at the top. */
function lineOf(map, r, x, y) {
  const parts = [];
  let path = "", pen = "M";
  for (let c = 0; c < map.columns; c++) {
    const value = map.at(r, c), finite = Number.isFinite(value);
    if (finite) path += `${pen}${x(c)} ${y(value)}`;
    parts.push(finite ? draw("circle", { class: `line-${r % 3}`, cx: x(c), cy: y(value), r: 3 })
      : draw("text", { x: x(c), y: CURVE.top + 14 + 14 * r, "text-anchor": "middle" }, shownNumber(value)));
    pen = finite ? "L" : "M";
  }
  return [draw("path", { class: `line-${r % 3}`, "stroke-dasharray": ["none", "7 5", "2 4"][r % 3], d: path }), ...parts];
}

function draw(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(text);
  return element;
}

function powersOfTen(least, most) {
  const first = Math.floor(Math.log10(least)), last = Math.ceil(Math.log10(most));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

/** About five round numbers from at most `least` to at least `most`. */
function roundTicks(least, most) {
  const rough = (most - least || 1) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power, first = Math.floor(least / step);
  const count = Math.max(Math.ceil(most / step), first + 1) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Every token of the prompt with its id and position. */
function tokenTable() {
  const say = words();
  return make("ol", { class: "token-table" }, ...state.prompt.tokens.map((token, position) => make("li", {},
    make("b", {}, token), make("span", {}, `${say.id} ${state.prompt.ids[position]}`),
    make("span", {}, `${say.position} ${position}`))));
}

// Verdicts.

/** The judge's verdict on the stage of that name, short, with the whole of it in a tooltip. */
function badgeOf(name, verdict = state.verdicts?.[name]) {
  const say = words(), own = name in state.stages || /^h\.|^(wte|wpe|embeddings|ln_f|logits)$/.test(name);
  if (state.verdicts === null && own) return badge("", say.computedShort, say.computed);
  if (!verdict) return own ? badge("", say.notJudged, say.notJudgedLong) : null;
  const size = (value) => (value === null ? "∞" : value >= 100 ? Math.round(value) : Number(value.toPrecision(2)));
  const short = verdict.identical ? say.identical : say.judged(size(verdict.ulp), size(verdict.noise_ratio));
  const long = `${said(verdict.words)}. ${say.explain}`;
  return verdict.agrees ? badge("good", short, long) : badge("bad", `${say.differs}: ${short}`, long);
}

/** The same of a broken tensor: how far it is from what is allowed. */
function brokenBadge(name) {
  const error = state.broken.noise[name];
  return badge(error <= 1 ? "good" : "bad", errorInWords(error), words().explain);
}

/** An error as a share of what is allowed, in words. */
function errorInWords(error) {
  const say = words();
  if (error === 0) return say.same;
  return say.times(error >= 1e4 ? error.toExponential(1).replace("e+", "e") : Number(error.toPrecision(2)));
}

function badge(kind, short, long) {
  const lift = (event) => {
    const box = event.currentTarget;
    box.classList.toggle("leftwards", box.getBoundingClientRect().left > document.documentElement.clientWidth - 320);
  };
  const attributes = { type: "button", class: `badge ${kind}`, "data-key": "badge", onmouseenter: lift, onfocus: lift };
  return make("button", attributes, short, make("span", { role: "tooltip" }, long));
}

// The two implementations.

function renderFunctions() {
  const say = words(), { functions } = lesson.steps[state.step], section = $("functions");
  section.hidden = !functions.length;
  replace(section,
    make("h2", { id: "functions-title" }, say.code),
    functions.some((each) => each.backend) ? make("p", { class: "hint" }, say.samePair) : null,
    ...functions.map(functionOf));
  renderBadges();
}

function functionOf(shown, index) {
  const say = words(), both = shown.backend !== null;
  const table = make("table", { class: "pair one", "data-shown": state.side },
    make("caption", { class: "unseen" }, shown.name),
    make("colgroup", {}, ...(both ? ["reference", "backend"] : ["reference"]).flatMap((side) => [
      make("col", { class: "number", "data-side": side }), make("col", { "data-side": side })])),
    make("thead", {}, make("tr", {},
      sourceHead(shown.reference, "reference"), both ? sourceHead(shown.backend, "backend") : null)),
    make("tbody", {}, ...shown.pairs.map((pair) => sourceRow(shown, pair, both))));
  if (!both) table.classList.remove("one");
  return make("section", { class: "function", "aria-label": shown.name },
    make("header", {}, make("h3", {}, shown.name), make("span", { class: "verdict", "data-function": index })),
    shown.shapes ? make("p", { class: "shapes mono" }, shown.shapes) : null,
    both ? tabsOf(index) : make("p", { class: "hint" }, say.noTwin), table);
}

/** Where there is no room for both sources, the reader says which one to show. */
function tabsOf(index) {
  const say = words();
  return make("div", { class: "choice tabs", role: "group", "aria-label": say.code },
    ...["reference", "backend"].map((side) => make("button", {
      type: "button", "data-side": side, "data-key": `side-${index}-${side}`, "aria-pressed": String(side === state.side),
      onclick: () => showSide(side),
    }, say[side])));
}

function showSide(side) {
  state.side = side;
  for (const table of document.querySelectorAll(".pair")) table.dataset.shown = side;
  for (const button of document.querySelectorAll(".tabs button")) {
    button.setAttribute("aria-pressed", String(button.dataset.side === side));
  }
}

function sourceHead(source, side) {
  const place = make("span", { class: "mono" }, `${source.file}:${source.line}`);
  return make("th", { colspan: 2, scope: "colgroup", "data-side": side }, `${words()[side]} `, place);
}

function sourceRow(shown, [left, right], both) {
  const cells = sourceCells(shown.reference, left, "reference");
  if (both) cells.push(...sourceCells(shown.backend, right, "backend"));
  const row = make("tr", { "data-absent": left === null ? "reference" : right === null && both && "backend" }, ...cells);
  const plain = (cell) => cell.textContent.replace(/"""$/, "").trim(); // where a docstring ends is no difference
  if (both && left !== null && right !== null && plain(cells[1]) !== plain(cells[3])) row.classList.add("differs");
  return row;
}

function sourceCells(source, index, side) {
  if (index === null) return ["number", "source"].map((kind) => make("td", { class: `${kind} absent`, "data-side": side }));
  const cell = make("td", { class: "source", "data-side": side, html: source.lines[index] });
  cell.style.setProperty("--indent", cell.textContent.match(/^ */)[0].length);
  return [make("td", { class: "number", "data-side": side }, String(source.line + index)), cell];
}

/** A function is judged by the stage that it computes, of the layer that is picked. */
function renderBadges() {
  const { functions } = lesson.steps[state.step];
  for (const holder of document.querySelectorAll("[data-function]")) {
    const { stage, verdict } = functions[holder.dataset.function] ?? {};
    const name = stage ? fill(stage, state.layer) : null;
    replace(holder, name ? badgeOf(name, state.verdicts?.[name] ?? verdict) : verdict ? badgeOf("", verdict) : null);
  }
}

// Break it.

function plant(id) {
  state.broken = lesson.breaks.find((each) => each.id === id) ?? null;
  showBroken();
  render();
}

/** Look at the broken tensor wherever there is one. */
function showBroken() {
  const template = lesson.steps[state.step].tensors[state.tensor] ?? "";
  state.look = brokenTensor(fill(template, state.layer)) ? "broken" : "right";
}

/** Go to the step, layer and tensor that show a stage. */
function goToStage(name) {
  const layer = /^h\.(\d+)\./.exec(name)?.[1], template = name.replace(/^h\.\d+\./, "h.{layer}.");
  const index = lesson.steps.findIndex((step) => step.tensors.includes(template));
  if (index < 0) return;
  if (layer !== undefined) state.layer = Number(layer);
  goTo(index);
  state.tensor = lesson.steps[index].tensors.indexOf(template);
  showBroken();
  renderFigure();
}

function renderBroken() {
  const say = words(), broken = state.broken, section = $("broken");
  section.hidden = !broken;
  if (!broken) return section.replaceChildren();
  const sign = { "-": "minus", "+": "plus", " ": "" };
  replace(section,
    make("h2", { id: "broken-title" }, said(broken.name)),
    isFirst() ? null : note(say.breakOther),
    make("div", { class: "broken-columns" },
      make("div", {},
        make("div", { class: "text", html: said(broken.story) }),
        make("p", { class: "label" }, say.found), make("div", { class: "text found", html: said(broken.found_by) })),
      make("div", {},
        make("p", { class: "label" }, `${say.planted} · `, make("span", { class: "mono" }, broken.file)),
        make("ol", { class: "diff" },
          ...broken.diff.map(([kind, text]) => make("li", { class: sign[kind] }, `${kind} ${text}`))),
        make("p", { class: "label" }, say.thenNext),
        thenNext(broken))),
    stripOf(broken));
}

function thenNext(broken) {
  const [then] = broken.next, [now] = lesson.next;
  return make("p", {}, make("b", { class: "mono" }, then.token), ` ${percent(then.probability)} `,
    make("span", { class: "quiet" }, words().insteadOf(now.token, percent(now.probability))));
}

/** A bar for every stage: its error, and of that the part which is its own and not inherited. */
function stripOf(broken) {
  const say = words(), names = Object.keys(broken.noise);
  const most = Math.max(3, ...names.map((name) => Math.log10(broken.noise[name] || 1)));
  const height = (value) => (value === 0 ? 1 : 88 * Math.max(0.02, (Math.log10(value) + 2) / (most + 2)));
  const says = make("span", { class: "mono" }), tells = (name) => `${name}: ${errorInWords(broken.noise[name])}`;
  const strip = make("div", { class: "strip", role: "toolbar", "aria-label": say.strip, id: "strip" });
  names.forEach((name, i) => {
    const all = broken.noise[name], alone = Math.min(broken.alone[name], all);
    strip.append(make("button", {
      type: "button", "data-key": `stage-${i}`, "data-stage": name, "aria-label": tells(name),
      tabindex: name === broken.first_wrong ? 0 : -1,
      class: [all <= 1 && "agrees", name === broken.first_wrong && "first"].filter(Boolean).join(" "),
      style: `--all: ${height(all)}%; --alone: ${height(alone)}%`,
      onclick: () => goToStage(name), onfocus: () => { says.textContent = tells(name); },
      onmouseenter: () => { says.textContent = tells(name); },
      onkeydown: (event) => {
        const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: names.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        const target = strip.children[Math.max(0, Math.min(names.length - 1, to))];
        for (const each of strip.querySelectorAll("button")) each.tabIndex = each === target ? 0 : -1;
        target.focus();
      },
    }, make("i", { class: "inherited" }), make("i", { class: "own" })));
  });
  strip.append(make("span", { class: "limit", style: `--limit: ${height(1)}%`, "aria-hidden": "true" },
    make("span", {}, say.allowed)));
  says.textContent = tells(broken.first_wrong);
  return make("div", { class: "strip-box" },
    make("p", { class: "label" }, say.strip), make("div", { class: "scroll" }, strip),
    make("p", { class: "strip-says" }, says), make("p", { class: "hint" }, say.stripHint),
    make("p", { class: "row-of" }, make("span", {}, `${say.firstWrong}: `, make("code", {}, broken.first_wrong)),
      make("button", {
        type: "button", id: "show-broken", "data-key": "show-broken", onclick: () => goToStage(broken.first_wrong),
      }, say.goThere)));
}

// All together, and what the reader does.

function render() {
  renderFrame();
  renderPrompt();
  renderSteps();
  renderBroken();
  renderStep();
}

function listen() {
  $("language").addEventListener("click", (event) => {
    const chosen = event.target.closest("button")?.dataset.language;
    if (chosen) {
      state.language = chosen;
      render();
    }
  });
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (canAsk()) run($("prompt").value);
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("form").requestSubmit();
    }
  });
  $("previous").addEventListener("click", () => goTo(state.step - 1));
  $("following").addEventListener("click", () => goTo(state.step + 1));
  $("break").addEventListener("change", (event) => plant(event.target.value));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.defaultPrevented || typing || event.ctrlKey || event.altKey || event.metaKey) return;
    const move = { ArrowLeft: -1, k: -1, ArrowRight: 1, j: 1 }[event.key];
    if (move) goTo(state.step + move);
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (width !== innerWidth) renderFigure();
    width = innerWidth;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renderFigure);
  matchMedia("(min-width: 60.01rem)").addEventListener("change", foldSteps);
}

function start() {
  if (weights) state.stages = gpt2Stages(config, weights, lesson.prompt.ids);
  $("prompt").value = lesson.prompt.text ?? lesson.prompt.tokens.join(" ");
  state.step = Math.max(0, lesson.steps.findIndex(({ id }) => `#${id}` === location.hash));
  foldSteps();
  listen();
  render();
}

start();
