// A planted bug: what it changes, how the judge finds it, and the error of every stage.
import { renderFigure } from "./figure.js";
import { isFirst, lesson, said, state, words } from "./lesson.js";
import { goTo } from "./steps.js";
import { showBroken } from "./tensors.js";
import { $, make, note, percent, replace } from "./tools.js";
import { errorInWords } from "./verdicts.js";

/** @import {Bug} from "./lesson.js" */

/** Go to the step, layer and tensor that show a stage.
 * @type {(name: string) => void} */
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

export function renderBroken() {
  const say = words(), broken = state.broken, section = $("broken");
  section.hidden = !broken;
  if (!broken) {
    section.replaceChildren();
    return;
  }
  /** @type {Record<string, string>} */
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

/** @type {(broken: Bug) => HTMLElement} */
function thenNext(broken) {
  const [then] = broken.next, [now] = lesson.next;
  return make("p", {}, make("b", { class: "mono" }, then.token), ` ${percent(then.probability)} `,
    make("span", { class: "quiet" }, words().insteadOf(now.token, percent(now.probability))));
}

/** A bar for every stage: its error, and of that the part which is its own and not inherited.
 * @type {(broken: Bug) => HTMLElement} */
function stripOf(broken) {
  const say = words(), names = Object.keys(broken.noise);
  const most = Math.max(3, ...names.map((name) => Math.log10(broken.noise[name] || 1)));
  /** @type {(value: number) => number} */
  const height = (value) => (value === 0 ? 1 : 88 * Math.max(0.02, (Math.log10(value) + 2) / (most + 2)));
  const says = make("span", { class: "mono" });
  /** @type {(name: string) => string} */
  const tells = (name) => `${name}: ${errorInWords(broken.noise[name])}`;
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
        /** @type {Record<string, number | undefined>} */
        const places = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: names.length - 1 };
        const to = places[event.key], bars = strip.querySelectorAll("button");
        if (to === undefined) return;
        event.preventDefault();
        const target = bars[Math.max(0, Math.min(bars.length - 1, to))];
        for (const each of bars) each.tabIndex = each === target ? 0 : -1;
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
