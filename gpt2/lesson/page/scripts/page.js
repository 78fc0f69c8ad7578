// The page as a whole: its frame, and what happens when the reader does something. It starts here.
import { renderBroken } from "./broken.js";
import { renderFigure } from "./figure.js";
import { gpt2Stages } from "./gpt2.js";
import { config, lesson, said, state, weights, words } from "./lesson.js";
import { canAsk, renderPrompt, take } from "./prompt.js";
import { foldSteps, goTo, renderStep, renderSteps } from "./steps.js";
import { showBroken } from "./tensors.js";
import { $, all, make, one } from "./tools.js";

/** @import {Language} from "./lesson.js" */

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
  for (const button of all("#language button")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === state.language));
  }
  $("forward-label").textContent = say.forward;
  $("forward-about").textContent = say.forwardAbout;
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
  one(".breaker").hidden = !lesson.breaks.length;
}

/** Make a text the prompt and show what follows, or what is wrong with it.
 * @type {(text: string) => Promise<void>} */
async function run(text) {
  await take(text);
  state.cell = null;
  showBroken();
  render();
}

/** Plant the bug of that id; "" takes the last one out.
 * @type {(id: string) => void} */
function plant(id) {
  state.broken = lesson.breaks.find((each) => each.id === id) ?? null;
  showBroken();
  render();
}

function render() {
  renderFrame();
  renderPrompt(run);
  renderSteps();
  renderBroken();
  renderStep();
}

function listen() {
  $("language").addEventListener("click", (event) => {
    const chosen = /** @type {Element} */ (event.target).closest("button")?.dataset.language;
    if (chosen) {
      state.language = /** @type {Language} */ (chosen);
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
  $("break").addEventListener("change", () => plant($("break").value));
  document.addEventListener("keydown", (event) => {
    const typing = /** @type {Element} */ (event.target).closest("input, textarea, select");
    if (event.defaultPrevented || typing || event.ctrlKey || event.altKey || event.metaKey) return;
    /** @type {Record<string, number | undefined>} */
    const moves = { ArrowLeft: -1, k: -1, ArrowRight: 1, j: 1 };
    const move = moves[event.key];
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
