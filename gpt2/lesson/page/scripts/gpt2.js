// GPT-2's forward pass in the page itself. Stages have the names and shapes of `model.stages` in Python, and the steps
// are those of reference/model.py and reference/attention.py. Sums run in double precision; what is kept is float32.

/**
 * @typedef {object} Config those fields of config.json that the page needs
 * @property {number} vocab_size
 * @property {number} n_positions
 * @property {number} n_embd
 * @property {number} n_layer
 * @property {number} n_head
 * @property {string} activation_function
 * @property {number} layer_norm_epsilon
 * @property {boolean} scale_attn_weights
 * @property {boolean} scale_attn_by_inverse_layer_idx
 * @property {boolean} tie_word_embeddings
 */

/** @typedef {Record<string, Float32Array>} Weights */
/** @typedef {{axes: string[], shape: number[], full_shape: number[], data: Float32Array}} Stage */
/** @typedef {(name: string, axes: string[], shape: number[], data: Float32Array) => Float32Array} Observe */
/**
 * @typedef {(x: Float32Array, T: number, weights: Weights, config: Config, layer: number, observe: Observe) =>
 *   Float32Array} PartOfLayer
 */

export const MASK_VALUE = -3.4028234663852886e38; // the lowest finite float32

/** All stages of one prompt by name, in the order of computation.
 * @type {(config: Config, weights: Weights, ids: number[]) => Record<string, Stage>} */
export function gpt2Stages(config, weights, ids) {
  /** @type {Record<string, Stage>} */
  const stages = {};
  /** @type {Observe} */
  const observe = (name, axes, shape, data) => {
    stages[name] = { axes, shape, full_shape: shape, data };
    return data;
  };
  const T = ids.length, C = config.n_embd, V = config.vocab_size;
  const rows = ["B", "T", "C"], stream = [1, T, C];

  const tokens = observe("wte", rows, stream, embedding(ids, weights["wte.weight"], C));
  const positions = observe("wpe", rows, stream, embedding(ids.map((_, i) => i), weights["wpe.weight"], C));
  let x = observe("embeddings", rows, stream, add(tokens, positions));
  for (let layer = 0; layer < config.n_layer; layer++) x = block(x, T, weights, config, layer, observe);
  const normed = observe("ln_f", rows, stream, layerNorm(x, weights, "ln_f", config));
  const head = config.tie_word_embeddings ? "wte.weight" : "lm_head.weight";
  observe("logits", ["B", "T", "V"], [1, T, V], unembedding(normed, weights[head], C));
  return stages;
}

/** One layer: attention, then MLP, each behind its own LayerNorm and added to the residual stream.
 * @type {PartOfLayer} */
function block(x, T, weights, config, layer, observe) {
  const at = `h.${layer}`, rows = ["B", "T", "C"], stream = [1, T, config.n_embd];
  const normed = observe(`${at}.ln_1`, rows, stream, layerNorm(x, weights, `${at}.ln_1`, config));
  x = observe(`${at}.attn_residual`, rows, stream, add(x, attention(normed, T, weights, config, layer, observe)));
  const again = observe(`${at}.ln_2`, rows, stream, layerNorm(x, weights, `${at}.ln_2`, config));
  return observe(`${at}.mlp_residual`, rows, stream, add(x, mlp(again, T, weights, config, layer, observe)));
}

/** Each token asks (q) every visible token (k) and takes the weighted mean of what they offer (v).
 * @type {PartOfLayer} */
function attention(x, T, weights, config, layer, observe) {
  const at = `h.${layer}.attn`, C = config.n_embd, H = config.n_head, D = C / H;
  const heads = ["B", "H", "T", "D"], pairs = ["B", "H", "T", "S"];

  const qkv = observe(`${at}.qkv`, ["B", "T", "3C"], [1, T, 3 * C], conv1d(x, weights, `${at}.c_attn`));
  const q = observe(`${at}.q`, heads, [1, H, T, D], splitHeads(qkv, 0, T, H, D));
  const k = observe(`${at}.k`, heads, [1, H, T, D], splitHeads(qkv, 1, T, H, D));
  const v = observe(`${at}.v`, heads, [1, H, T, D], splitHeads(qkv, 2, T, H, D));

  const scale = attentionScale(config, layer);
  const scores = observe(`${at}.scores`, pairs, [1, H, T, T], attentionScores(q, k, scale, H, T, D));
  /** @type {(entry: number) => boolean} */
  const visible = (entry) => entry % T <= Math.floor(entry / T) % T; // the key is not after the query
  const masked = observe(`${at}.masked_scores`, pairs, [1, H, T, T],
    scores.map((score, entry) => (visible(entry) ? score : MASK_VALUE)));
  const attnWeights = observe(`${at}.attn_weights`, pairs, [1, H, T, T], softmax(masked, T));

  const output = observe(`${at}.attn_output`, heads, [1, H, T, D], weightedMeans(attnWeights, v, H, T, D));
  const merged = observe(`${at}.merged`, ["B", "T", "C"], [1, T, C], mergeHeads(output, H, T, D));
  return observe(`${at}.c_proj`, ["B", "T", "C"], [1, T, C], conv1d(merged, weights, `${at}.c_proj`));
}

/** Two affine maps with a non-linearity between them, on each token alone.
 * @type {PartOfLayer} */
function mlp(x, T, weights, config, layer, observe) {
  const at = `h.${layer}.mlp`, name = config.activation_function;
  let h = conv1d(x, weights, `${at}.c_fc`);
  const shape = [1, T, h.length / T];
  h = observe(`${at}.c_fc`, ["B", "T", "I"], shape, h);
  h = observe(`${at}.${name}`, ["B", "T", "I"], shape, h.map(ACTIVATIONS[name]));
  return observe(`${at}.c_proj`, ["B", "T", "C"], [1, T, config.n_embd], conv1d(h, weights, `${at}.c_proj`));
}

// The operations. Arrays are flat; a row is as long as its last axis.

/** @type {(a: Float32Array, b: Float32Array) => Float32Array} */
function add(a, b) {
  return a.map((value, i) => value + b[i]);
}

/** @type {(ids: number[], weight: Float32Array, C: number) => Float32Array} */
function embedding(ids, weight, C) {
  const out = new Float32Array(ids.length * C);
  ids.forEach((id, t) => out.set(weight.subarray(id * C, (id + 1) * C), t * C));
  return out;
}

/** The score of every row of weight (V, C): its product with each row of x (T, C).
 * @type {(x: Float32Array, weight: Float32Array, C: number) => Float32Array} */
function unembedding(x, weight, C) {
  const T = x.length / C, V = weight.length / C, out = new Float32Array(T * V);
  for (let t = 0; t < T; t++) for (let v = 0; v < V; v++) out[t * V + v] = dot(x, t * C, weight, v * C, C);
  return out;
}

/** x @ weight + bias of every row; the weight is (in, out).
 * @type {(x: Float32Array, weights: Weights, name: string) => Float32Array} */
function conv1d(x, weights, name) {
  const weight = weights[`${name}.weight`], bias = weights[`${name}.bias`];
  const N = bias.length, C = weight.length / N, out = new Float32Array(x.length / C * N);
  for (let t = 0; t * C < x.length; t++) {
    const sums = Float64Array.from(bias);
    for (let c = 0; c < C; c++) for (let n = 0; n < N; n++) sums[n] += x[t * C + c] * weight[c * N + n];
    out.set(sums, t * N);
  }
  return out;
}

/** Mean 0 and variance 1 of every row, then gain and bias.
 * @type {(x: Float32Array, weights: Weights, name: string, config: Config) => Float32Array} */
function layerNorm(x, weights, name, config) {
  const gain = weights[`${name}.weight`], bias = weights[`${name}.bias`], C = gain.length;
  const out = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += C) {
    const row = x.subarray(start, start + C);
    const mean = row.reduce((sum, value) => sum + value, 0) / C;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / C;
    const deviation = Math.sqrt(variance + config.layer_norm_epsilon);
    row.forEach((value, c) => { out[start + c] = (value - mean) / deviation * gain[c] + bias[c]; });
  }
  return out;
}

/** One of q, k, v (part 0, 1, 2), its channels cut into heads: (T, 3HD) -> (H, T, D).
 * @type {(qkv: Float32Array, part: number, T: number, H: number, D: number) => Float32Array} */
function splitHeads(qkv, part, T, H, D) {
  const out = new Float32Array(H * T * D);
  for (let h = 0; h < H; h++) for (let t = 0; t < T; t++) {
    const start = (3 * t + part) * H * D + h * D;
    out.set(qkv.subarray(start, start + D), (h * T + t) * D);
  }
  return out;
}

/** The heads' channels side by side again: (H, T, D) -> (T, HD).
 * @type {(x: Float32Array, H: number, T: number, D: number) => Float32Array} */
function mergeHeads(x, H, T, D) {
  const out = new Float32Array(H * T * D);
  for (let h = 0; h < H; h++) for (let t = 0; t < T; t++) {
    out.set(x.subarray((h * T + t) * D, (h * T + t + 1) * D), (t * H + h) * D);
  }
  return out;
}

/** @type {(config: Config, layer: number) => number} */
function attentionScale(config, layer) {
  const scale = config.scale_attn_weights ? Math.sqrt(config.n_embd / config.n_head) : 1;
  return config.scale_attn_by_inverse_layer_idx ? scale * (layer + 1) : scale;
}

/** How well each query fits each key: q k^T / scale.
 * @type {(q: Float32Array, k: Float32Array, scale: number, H: number, T: number, D: number) => Float32Array} */
function attentionScores(q, k, scale, H, T, D) {
  const out = new Float32Array(H * T * T);
  for (let h = 0; h < H; h++) for (let t = 0; t < T; t++) for (let s = 0; s < T; s++) {
    out[(h * T + t) * T + s] = dot(q, (h * T + t) * D, k, (h * T + s) * D, D) / scale;
  }
  return out;
}

/** Exponentials of each row of n, divided by their sum; the row's maximum is taken off first.
 * @type {(x: Float32Array, n: number) => Float32Array} */
export function softmax(x, n) {
  const out = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += n) {
    const row = Array.from(x.subarray(start, start + n)), max = row.reduce((a, b) => Math.max(a, b));
    const powers = row.map((value) => Math.exp(value - max)), sum = powers.reduce((a, b) => a + b);
    out.set(powers.map((power) => power / sum), start);
  }
  return out;
}

/** Each query's mean of the values, weighted: (H, T, T), (H, T, D) -> (H, T, D).
 * @type {(attnWeights: Float32Array, v: Float32Array, H: number, T: number, D: number) => Float32Array} */
function weightedMeans(attnWeights, v, H, T, D) {
  const out = new Float32Array(H * T * D);
  for (let h = 0; h < H; h++) for (let t = 0; t < T; t++) {
    const sums = new Float64Array(D);
    for (let s = 0; s < T; s++) for (let d = 0; d < D; d++) {
      sums[d] += attnWeights[(h * T + t) * T + s] * v[(h * T + s) * D + d];
    }
    out.set(sums, (h * T + t) * D);
  }
  return out;
}

/** @type {(a: Float32Array, i: number, b: Float32Array, j: number, n: number) => number} */
function dot(a, i, b, j, n) {
  let sum = 0;
  for (let k = 0; k < n; k++) sum += a[i + k] * b[j + k];
  return sum;
}

/** @type {Record<string, (x: number) => number>} */
const ACTIVATIONS = {
  gelu_new: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  relu: (x) => Math.max(x, 0),
  silu: (x) => x / (1 + Math.exp(-x)),
};

/** JavaScript has no erf: 2/sqrt(pi) exp(-x^2) (x + 2x^3/3 + 4x^5/15 + ...), all terms of one sign.
 * @type {(x: number) => number} */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= 2 * x * x / (2 * n + 1);
    sum += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}
