// The steps: their list, the way from one to another, and the text of the current one.
import { renderFigure } from "./figure.js";
import { lesson, said, state, words } from "./lesson.js";
import { renderFunctions } from "./sources.js";
import { showBroken } from "./tensors.js";
import { $, make, one, replace } from "./tools.js";

export function renderSteps() {
  const say = words();
  /** @type {Record<string, string | undefined>} */
  const groups = say.groups; // by the first step of each
  /** @type {{name: string, items: Node[]}[]} */
  const parts = [];
  lesson.steps.forEach((step, i) => {
    const name = groups[step.id];
    if (name || !parts.length) parts.push({ name: name ?? say.steps, items: [] });
    parts[parts.length - 1].items.push(make("li", {}, make("button", {
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
  const list = $("steps"), current = one("[aria-current]", list);
  const { top, bottom } = current.getBoundingClientRect(), frame = list.getBoundingClientRect();
  if (top < frame.top || bottom > frame.bottom) list.scrollTop += top - frame.top - frame.height / 2;
}

/** On a narrow screen the list of steps is folded, on a wide one it always stands open. */
export function foldSteps() {
  $("steps-fold").open = matchMedia("(min-width: 60.01rem)").matches;
}

/** @type {(index: number) => void} */
export function goTo(index) {
  if (index < 0 || index >= lesson.steps.length) return;
  state.step = index;
  state.tensor = 0;
  state.cell = null;
  showBroken();
  history.replaceState(null, "", `#${lesson.steps[index].id}`);
  renderSteps();
  renderStep();
  $("announcer").textContent = `${words().step(index + 1, lesson.steps.length)}: ${said(lesson.steps[index].title)}`;
  const top = $("title").getBoundingClientRect().top;
  if (top < 0 || top > innerHeight * 0.6) $("title").closest("header")?.scrollIntoView();
}

export function renderStep() {
  const say = words(), step = lesson.steps[state.step];
  $("place").textContent = say.step(state.step + 1, lesson.steps.length);
  $("title").textContent = said(step.title);
  $("text").innerHTML = said(step.text);
  const question = $("question");
  question.open = false;
  one("summary", question).innerHTML = say.question + said(step.question);
  one("div", question).innerHTML = said(step.answer);
  $("previous").disabled = state.step === 0;
  $("following").disabled = state.step === lesson.steps.length - 1;
  renderFigure();
  renderFunctions();
}
