// What the judge says of a stage, as a badge: in short, with the whole in a tooltip.
import { said, state, words } from "./lesson.js";
import { make } from "./tools.js";

/** @import {Verdict} from "./lesson.js" */

/** The verdict on the stage of that name; null if nobody would expect one.
 * @type {(name: string, verdict?: Verdict | null) => HTMLElement | null} */
export function badgeOf(name, verdict = state.verdicts?.[name]) {
  const say = words(), own = name in state.stages || /^h\.|^(wte|wpe|embeddings|ln_f|logits)$/.test(name);
  if (state.verdicts === null && own) return badge("", say.computedShort, say.computed);
  if (!verdict) return own ? badge("", say.notJudged, say.notJudgedLong) : null;
  /** @type {(value: number | null) => string | number} */
  const size = (value) => (value === null ? "∞" : value >= 100 ? Math.round(value) : Number(value.toPrecision(2)));
  const short = verdict.identical ? say.identical : say.judged(size(verdict.ulp), size(verdict.noise_ratio));
  const long = `${said(verdict.words)}. ${say.explain}`;
  return verdict.agrees ? badge("good", short, long) : badge("bad", `${say.differs}: ${short}`, long);
}

/** For a broken tensor: its error as a share of what is allowed.
 * @type {(error: number) => HTMLElement} */
export function brokenBadge(error) {
  return badge(error <= 1 ? "good" : "bad", errorInWords(error), words().explain);
}

/** An error as a share of what is allowed, in words.
 * @type {(error: number) => string} */
export function errorInWords(error) {
  const say = words();
  if (error === 0) return say.same;
  return say.times(error >= 1e4 ? error.toExponential(1).replace("e+", "e") : Number(error.toPrecision(2)));
}

/** @type {(kind: string, short: string, long: string) => HTMLElement} */
function badge(kind, short, long) {
  /** @type {(event: Event) => void} */
  const lift = (event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget);
    box.classList.toggle("leftwards", box.getBoundingClientRect().left > document.documentElement.clientWidth - 320);
  };
  const attributes = { type: "button", class: `badge ${kind}`, "data-key": "badge", onmouseenter: lift, onfocus: lift };
  return make("button", attributes, short, make("span", { role: "tooltip" }, long));
}
