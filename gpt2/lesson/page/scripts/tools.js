// Small tools that know nothing of the lesson: elements of the page, and numbers and tokens as people read them.

/**
 * The elements of page.html.j2 that are more than an HTMLElement, by id.
 * @typedef {object} Special
 * @property {HTMLSelectElement} break
 * @property {HTMLButtonElement} following
 * @property {HTMLFormElement} form
 * @property {HTMLButtonElement} previous
 * @property {HTMLTextAreaElement} prompt
 * @property {HTMLDetailsElement} question
 * @property {HTMLDetailsElement} steps-fold
 */

/** The element of that id; page.html.j2 has it, or the caller has just made it.
 * @type {<Id extends string>(id: Id) => Id extends keyof Special ? Special[Id] : HTMLElement} */
export function $(id) {
  return /** @type {any} */ (document.getElementById(id));
}

/** The first element that fits; there is one.
 * @type {(selector: string, within?: ParentNode) => HTMLElement} */
export function one(selector, within = document) {
  return /** @type {HTMLElement} */ (within.querySelector(selector));
}

/** @type {(selector: string) => NodeListOf<HTMLElement>} */
export function all(selector) {
  return document.querySelectorAll(selector);
}

/** @typedef {string | number | boolean | null | undefined} Value */
/**
 * @typedef {{
 *   [name: string]: Value | ((event: any) => void),
 *   onclick?: (event: MouseEvent) => void, onmouseenter?: (event: MouseEvent) => void,
 *   onkeydown?: (event: KeyboardEvent) => void, onfocus?: (event: FocusEvent) => void,
 * }} Attributes
 */

/** A new element; an attribute that is a function is a listener, `html` is trusted text of the lesson.
 * @type {<Tag extends keyof HTMLElementTagNameMap>(
 *   tag: Tag, attributes?: Attributes, ...children: (Node | string | null)[]) => HTMLElementTagNameMap[Tag]} */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name === "html") element.innerHTML = String(value);
    else if (value !== false && value !== null) element.setAttribute(name, String(value));
  }
  element.append(...present(children));
  return element;
}

/** A new element of SVG.
 * @type {(tag: string, attributes: Record<string, string | number>, text?: string) => Element} */
export function makeSvg(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(text);
  return element;
}

/** Replace the children. Whoever had the focus keeps it: the new child with the same data-key gets it.
 * @type {(element: HTMLElement, ...children: (Node | string | null)[]) => void} */
export function replace(element, ...children) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const key = focused && element.contains(focused) ? focused.dataset.key : undefined;
  element.replaceChildren(...present(children));
  if (key === undefined) return;
  /** @type {HTMLElement | null} */
  const again = element.querySelector(`[data-key="${CSS.escape(key)}"]`);
  again?.focus({ preventScroll: true });
}

/** @type {(children: (Node | string | null)[]) => (Node | string)[]} */
function present(children) {
  return children.filter((child) => child !== null);
}

/** @type {(text: string) => HTMLElement} */
export function note(text) {
  return make("p", { class: "note" }, text);
}

/** Buttons that belong together, with a name before them.
 * @type {(label: string, ...children: Node[]) => HTMLElement} */
export function group(label, ...children) {
  const box = make("div", { class: "choice", role: "group", "aria-label": label }, ...children);
  return make("div", { class: "named" }, make("span", {}, label), box);
}

/** The numbers of base64 little-endian float32.
 * @type {(text: string) => Float32Array} */
export function floats(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

/** A number as people read it.
 * @type {(value: number) => string} */
export function shownNumber(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = Number.isInteger(value) && size < 1e6 ? String(value)
    : size >= 1e-3 && size < 1e6 ? value.toPrecision(5) : value.toExponential(3);
  return text.replace("-", "−").replace("e−", "e-").replace("e-", "e−").replace("e+", "e");
}

/** @type {(probability: number) => string} */
export function percent(probability) {
  const value = 100 * probability;
  return `${value >= 99.95 && value < 100 ? value.toFixed(3) : value >= 10 ? value.toFixed(1) : value.toPrecision(2)} %`
    .replace(/(\d)\.(\d*)e-(\d+)/, "$1.$2e−$3");
}

/** A token as people see it.
 * @type {(token: string) => string} */
export function visible(token) {
  return token.replaceAll("\n", "↵").replaceAll(" ", "␣").replaceAll("\t", "⇥");
}

/** The token, from what people see.
 * @type {(token: string) => string} */
export function raw(token) {
  return token.replaceAll("↵", "\n").replaceAll("␣", " ").replaceAll("⇥", "\t");
}
