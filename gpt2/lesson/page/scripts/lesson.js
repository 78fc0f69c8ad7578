// The lesson's data, which gpt2/lesson/payload.py has put into the page, and the state: what of it is shown.
import { MASK_VALUE } from "./gpt2.js";
import { $, floats } from "./tools.js";
import { WORDS } from "./words.js";

/** @import {Config, Stage, Weights} from "./gpt2.js" */

/** @typedef {"en" | "zh"} Language */
/** @typedef {{en: string, zh: string}} Text */
/** @typedef {"right" | "broken" | "difference"} Look at a tensor of a planted bug */
/** @typedef {"reference" | "backend"} Side of two sources */

/**
 * @typedef {object} Lesson all of it
 * @property {boolean} server whether a server answers other prompts
 * @property {Model} model
 * @property {string[]} examples prompts to try
 * @property {[name: string, value: string][]} environment what the numbers were made with
 * @property {number[]} layers those whose tensors are stored
 * @property {Step[]} steps
 * @property {Prompt} prompt the first one
 * @property {Candidate[]} next after the first prompt, the likeliest first
 * @property {Record<string, StoredTensor>} tensors
 * @property {Record<string, Verdict>} verdicts of the first prompt, by stage
 * @property {Bug[]} breaks
 */

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {Config} config
 * @property {number} parameters how many
 * @property {string[] | null} tokens all of them, where the page itself can read a prompt
 * @property {Record<string, {shape: number[], data: string}> | null} weights where the page itself can compute
 */

/** @typedef {{text: string | null, ids: number[], tokens: string[]}} Prompt */
/** @typedef {{id: number, token: string, probability: number}} Candidate */

/**
 * @typedef {object} Step
 * @property {string} id
 * @property {Text} title
 * @property {Text} text
 * @property {Text} question
 * @property {Text} answer
 * @property {string} view how the first of its tensors is drawn
 * @property {string[]} tensors names, in which {layer} is filled in later
 * @property {Shown[]} functions
 */

/**
 * @typedef {object} Stored what a tensor of the lesson has besides
 * @property {string} [dtype]
 * @property {(number[] | null)[]} [at] the places that are kept along each axis, null where all are
 * @property {Record<string, (string | Text)[]>} [labels] what stands along an axis, by its letter
 */

/** @typedef {Stage & Stored} Tensor */
/** @typedef {Omit<Stage, "data"> & Stored & {data: string}} StoredTensor its numbers are in base64 */

/**
 * @typedef {object} Shown a function in both implementations
 * @property {string} name
 * @property {string} shapes
 * @property {Source} reference
 * @property {Source | null} backend
 * @property {[reference: number | null, backend: number | null][]} pairs lines side by side
 * @property {string | null} stage that it computes
 * @property {Verdict | null} verdict
 */

/** @typedef {{file: string, line: number, lines: string[]}} Source its lines as HTML */

/**
 * @typedef {object} Verdict
 * @property {boolean} agrees
 * @property {boolean} identical
 * @property {number | null} ulp null if it is infinite
 * @property {number | null} noise_ratio null if it is infinite
 * @property {Text} words
 */

/**
 * @typedef {object} Bug a planted one
 * @property {string} id
 * @property {Text} name
 * @property {Text} story
 * @property {[sign: string, line: string][]} diff
 * @property {string} file
 * @property {Text} found_by
 * @property {string} first_wrong stage
 * @property {string} step where it shows
 * @property {Record<string, number>} noise the error of every stage, as a share of what is allowed
 * @property {Record<string, number>} alone the part of it that is not inherited
 * @property {Record<string, StoredTensor>} tensors
 * @property {Candidate[]} next
 */

/** @type {Lesson} */
export const lesson = JSON.parse($("lesson").textContent);
export const config = lesson.model.config;

/** @type {Weights | null} */
export const weights = lesson.model.weights && Object.fromEntries(
  Object.entries(lesson.model.weights).map(([name, stored]) => [name, floats(stored.data)]));

/** All that is shown follows from it. */
export const state = {
  /** @type {Language} */
  language: navigator.language.startsWith("zh") ? "zh" : "en",
  // of the current prompt:
  prompt: lesson.prompt,
  next: lesson.next,
  /** @type {Record<string, Tensor | StoredTensor>} */
  stages: {},
  /** @type {Record<string, Verdict> | null} */
  verdicts: lesson.verdicts, // null: nobody has judged this prompt
  /** @type {(() => string) | null} */
  error: null, // says what is wrong with the prompt, in the language of the page
  step: 0,
  tensor: 0, // of those of the step
  layer: lesson.layers?.[0] ?? 0,
  head: 0,
  /** @type {[row: number, column: number] | null} */
  cell: null,
  /** @type {Bug | null} */
  broken: null,
  /** @type {Look} */
  look: "right",
  /** @type {Side} */
  side: "reference",
};

/** What the page says, in its language. */
export function words() {
  return WORDS[state.language];
}

/** A text of the lesson, in the language of the page.
 * @type {(text: string | Text) => string} */
export function said(text) {
  return text !== null && typeof text === "object" ? text[state.language] : String(text);
}

/** Whether the current prompt is the one that the lesson was made with. */
export function isFirst() {
  return String(state.prompt.ids) === String(lesson.prompt.ids);
}

/** What a masked score is in each dtype, its lowest finite number: as float32, and as people read it.
 * @type {Record<string, [number: number, text: string]>} */
const LOWEST = {
  float16: [-65504, "−65504"], bfloat16: [-3.3895313892515355e38, "−3.4e38"], float32: [MASK_VALUE, "−3.4e38"],
  float64: [-Infinity, "−1.8e308"],
};

/** @type {(tensor: {dtype?: string}) => [number: number, text: string]} */
export function lowestOf({ dtype = "float32" }) {
  return LOWEST[dtype] ?? LOWEST.float32;
}

/** Tensors whose base64 has been read: once is enough.
 * @type {Map<StoredTensor, Tensor>} */
const unpacked = new Map();

/** @type {(stored: StoredTensor) => Tensor} */
export function unpack(stored) {
  let tensor = unpacked.get(stored);
  if (!tensor) {
    const [lowest] = lowestOf(stored);
    const data = floats(stored.data).map((value) => (value === lowest ? MASK_VALUE : value)); // one mark for all dtypes
    tensor = { ...stored, data };
    unpacked.set(stored, tensor);
  }
  return tensor;
}
