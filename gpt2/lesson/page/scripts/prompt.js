// The prompt: what may be typed, its tokens, and the likeliest next ones.
import { gpt2Stages, softmax } from "./gpt2.js";
import { config, isFirst, lesson, state, weights, words } from "./lesson.js";
import { $, make, percent, raw, replace, visible } from "./tools.js";

/** @import {Weights} from "./gpt2.js" */
/** @import {Candidate, Lesson} from "./lesson.js" */

/** Whether the page itself can read a prompt and compute it. */
const computes = Boolean(weights && lesson.model.tokens);

/** Whether the page or a server can compute another prompt than the first. */
export function canAsk() {
  return computes || lesson.server === true;
}

/** The ids of a text, each the longest token that fits; or the character that no token has.
 * @type {(text: string, tokens: string[]) => {ids: number[], unknown?: string}} */
function tokenize(text, tokens) {
  /** @type {[token: string, id: number][]} */
  const pairs = tokens.map((token, id) => [token, id]);
  const byLength = pairs.sort((a, b) => b[0].length - a[0].length);
  const ids = [];
  for (let rest = text; rest;) {
    const found = byLength.find(([token]) => token && rest.startsWith(token));
    if (!found) return { ids, unknown: String.fromCodePoint(rest.codePointAt(0) ?? 0) };
    ids.push(found[1]);
    rest = rest.slice(found[0].length);
  }
  return { ids };
}

/** What is wrong with a text as a prompt, as a function that says it; null if nothing is.
 * @type {(text: string, tokens: string[]) => (() => string) | null} */
function objection(text, tokens) {
  if (!text) return () => words().empty;
  const { ids, unknown } = tokenize(text, tokens);
  if (unknown) return () => words().unknown(visible(unknown), tokens.map(visible).join(" "));
  return ids.length > config.n_positions ? () => words().long(ids.length, config.n_positions) : null;
}

/** Make a text the prompt, or put into the state why it cannot be.
 * @type {(text: string) => Promise<void>} */
export async function take(text) {
  const { tokens } = lesson.model;
  if (weights && tokens) {
    state.error = objection(text, tokens);
    if (!state.error) compute(text, tokens, weights);
  } else {
    state.error = null;
    await ask(text);
  }
  if (!state.error) $("prompt").value = text;
}

/** @type {(text: string, tokens: string[], parameters: Weights) => void} */
function compute(text, tokens, parameters) {
  const { ids } = tokenize(text, tokens), stages = gpt2Stages(config, parameters, ids);
  const last = softmax(stages.logits.data.slice(-config.vocab_size), config.vocab_size);
  const best = Array.from(last.keys()).sort((a, b) => last[b] - last[a]).slice(0, 10);
  state.prompt = { text, ids, tokens: ids.map((id) => visible(tokens[id])) };
  state.stages = stages;
  state.next = best.map((id) => ({ id, token: visible(tokens[id]), probability: last[id] }));
  state.verdicts = isFirst() ? lesson.verdicts : null;
}

/** @type {(text: string) => Promise<void>} */
async function ask(text) {
  try {
    const answer = await fetch("/lesson", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ prompt: text }),
    });
    const found = await answer.json();
    if (!answer.ok) state.error = () => words().refused(found.error);
    else {
      const { prompt, next, tensors, verdicts } = /** @type {Lesson} */ (found);
      Object.assign(state, { prompt, next, stages: tensors, verdicts });
    }
  } catch {
    state.error = () => words().unreachable;
  }
}

/** run: called with a text that is to become the prompt.
 * @type {(run: (text: string) => void) => void} */
export function renderPrompt(run) {
  const say = words(), box = $("prompt"), askable = canAsk();
  $("prompt-label").textContent = say.prompt;
  $("run").textContent = say.run;
  $("run").hidden = !askable;
  box.readOnly = !askable;
  box.setAttribute("aria-invalid", String(Boolean(state.error)));
  $("hint").textContent = askable ? say.hint : say.fixed;
  $("error").hidden = !state.error;
  $("error").textContent = state.error ? state.error() : "";
  /** @type {(text: string, label: string, key: string) => HTMLElement} */
  const offer = (text, label, key) =>
    make("button", { type: "button", "data-key": key, onclick: () => run(text) }, label);
  const examples = askable ? lesson.examples ?? [] : [];
  replace($("examples"),
    examples.length ? make("span", { class: "label" }, say.examples) : null,
    ...examples.map((text, i) => offer(text, visible(text), `example-${i}`)),
    isFirst() ? null : offer(lesson.prompt.text ?? "", say.first, "first"));
  $("token-count").textContent = say.tokens(state.prompt.ids.length, config.n_positions);
  replace($("tokens"), ...state.prompt.tokens.map((token) => make("li", {}, token)));
  $("next-label").textContent = say.next;
  replace($("next"), ...state.next.slice(0, 5).map((candidate, i) =>
    make("li", {}, candidateOf(candidate, i, askable ? run : null))));
}

/** One of the likeliest next tokens; where prompts can be changed, a button that appends it.
 * @type {(candidate: Candidate, i: number, run: ((text: string) => void) | null) => HTMLElement} */
function candidateOf({ id, token, probability }, i, run) {
  const inside = [make("b", {}, token), make("span", {}, percent(probability))];
  if (!run) return make("span", {}, ...inside);
  const text = lesson.model.tokens ? lesson.model.tokens[id] : raw(token);
  return make("button", {
    type: "button", "data-key": `next-${i}`, "aria-label": words().append(token, percent(probability)),
    onclick: () => run((state.prompt.text ?? "") + text),
  }, ...inside);
}
