// What the page itself says, in both languages. The lesson's own text comes with the payload.

/**
 * What the page says of numbers and names.
 * @typedef {object} Sentences
 * @property {(name: string, parameters: number) => string} model
 * @property {(n: number) => string} layers
 * @property {(n: number) => string} heads
 * @property {(n: number) => string} channels
 * @property {(n: number) => string} context
 * @property {(n: number, context: number) => string} tokens
 * @property {(token: string, chance: string) => string} append
 * @property {(character: string, known: string) => string} unknown
 * @property {(n: number, context: number) => string} long
 * @property {(reason: string) => string} refused
 * @property {(n: number, all: number) => string} step
 * @property {(parts: string[]) => string} sampled
 * @property {(kept: number, all: number, axis: string) => string} sample
 * @property {(kept: number, all: number) => string} layersSampled
 * @property {(name: string, rows: string, columns: string) => string} map
 * @property {(rows: string, columns: string) => string} rows
 * @property {(layer: number | null, head: number | null) => string} pick
 * @property {(lowest: string) => string} masked
 * @property {(limit: string) => string} clipped
 * @property {(rows: number, columns: number) => string} tableCut
 * @property {(ulp: string | number, noise: string | number) => string} judged
 * @property {(x: string | number) => string} times
 * @property {(token: string, chance: string) => string} insteadOf
 */

/** @typedef {typeof ENGLISH} Words what every language has to say */

/** @satisfies {Sentences & Record<string, unknown>} */
const ENGLISH = {
  title: "GPT-2, step by step",
  skip: "Skip to the step",
  language: "Language",
  model: (name, parameters) => `model ${name}, ${parameters.toLocaleString("en")} parameters`,
  layers: (n) => `${n} ${n === 1 ? "layer" : "layers"}`,
  heads: (n) => `${n} ${n === 1 ? "head" : "heads"}`,
  channels: (n) => `${n} channels`,
  context: (n) => `context of ${n} tokens`,
  prompt: "Prompt",
  run: "Run",
  hint: "Enter runs it, Shift + Enter breaks the line (↵).",
  fixed: "This page holds one prompt. To type another: gpt2 lesson --model FOLDER --serve",
  examples: "Try",
  tokens: (n, context) => `${n} of ${context} tokens`,
  next: "Next token",
  append: (token, chance) => `${token}, ${chance}: append it to the prompt`,
  first: "Back to the first prompt",
  empty: "The prompt is empty: GPT-2 continues a text, so give at least one token.",
  unknown: (character, known) => `This model has no token for “${character}”. It knows ${known}.`,
  long: (n, context) => `${n} tokens exceed the context of ${context}: shorten the prompt by ${n - context}.`,
  refused: (reason) => `The server did not take it: ${reason}`,
  unreachable: "The server does not answer: is gpt2 lesson --serve still running?",
  forward: "Begin here: the whole forward pass on one page",
  forwardAbout: "reference/forward.py: ten minutes, NumPy alone. The steps below follow it line by line; in each you see the "
    + "full function, with batches, masks and a cache, beside its twin. The scores are the same, bit for bit.",
  steps: "Steps",
  step: (n, all) => `Step ${n} of ${all}`,
  previous: "Previous",
  following: "Next",
  keys: "← → or j k",
  groups: { tokens: "Input", ln_1: "Attention", ln_2: "MLP", layers: "Output", loss: "Training" },
  tensor: "Tensor",
  layer: "Layer",
  head: "Head",
  look: "Show",
  looks: { right: "as it is", broken: "broken", difference: "difference" },
  missing: "This tensor is not in the page.",
  sampled: (parts) => `Sampled: ${parts.join(", ")}.`,
  sample: (kept, all, axis) => `${kept} of ${all} ${axis}`,
  layersSampled: (kept, all) => `${kept} of ${all} layers`,
  map: (name, rows, columns) =>
    `Heat map of ${name}: rows are ${rows}, columns ${columns}. The arrow keys move from number to number.`,
  heatMap: "heat map",
  rows: (rows, columns) => `rows: ${rows} · columns: ${columns}`,
  pick: (layer, head) =>
    head === null ? `layer ${layer}` : layer === null ? `head ${head}` : `layer ${layer}, head ${head}`,
  overview: "All layers and heads; the picked one is enlarged below",
  masked: (lowest) => `${lowest}, masked`,
  zero: "exactly 0",
  clipped: (limit) => `full colour from ±${limit}`,
  table: "The numbers as a table",
  tableCut: (rows, columns) => `The first ${rows} rows and ${columns} columns.`,
  axes: {
    B: "sequence", T: "token", S: "key", H: "head", C: "channel", D: "channel of the head", I: "unit",
    V: "entry of the vocabulary", "3C": "channel of q, k, v", "3*H*D": "channel of q, k, v", "H*D": "channel",
    query: "query", series: "line", step: "step along the gradient",
    factor: "factor", scale: "scale of the loss", task: "task", parameter: "parameter", batch: "batch", mask: "mask",
  },
  plural: {
    B: "sequences", T: "tokens", S: "keys", H: "heads", C: "channels", D: "channels of the head", I: "units",
    V: "entries of the vocabulary", "3C": "channels of q, k, v", "3*H*D": "channels of q, k, v", "H*D": "channels",
    query: "queries", series: "lines", step: "steps",
    factor: "factors", scale: "scales", task: "tasks", parameter: "parameters", batch: "batches", mask: "masks",
  },
  id: "id",
  position: "position",
  value: "value",
  identical: "identical bits",
  judged: (ulp, noise) => `${ulp} ulp; ${noise} × noise`,
  differs: "differs",
  explain:
    "The verdict on the twin, against the reference in float64: " +
    "an error of at most 3 times this input's own rounding noise plus 4 ulp agrees.",
  computed: "computed in this page; judged for the first prompt only",
  computedShort: "computed here",
  notJudged: "not judged",
  notJudgedLong: "No second backend was there to be judged when this page was made.",
  ofFirst: "Stored with the first prompt; it does not follow yours.",
  code: "The two implementations",
  reference: "Reference",
  backend: "Twin",
  noTwin: "The reference alone has this function.",
  samePair: "tinted: where the two differ",
  question: "Question: ",
  breakIt: "Break it",
  breakNone: "nothing is broken",
  breakOther: "The bug was planted under the first prompt; figures and tensors of it are of that prompt.",
  planted: "The planted bug",
  found: "How the judge finds it",
  firstWrong: "First wrong stage",
  goThere: "Go there",
  strip: "Error of every stage, as a share of what is allowed",
  stripHint: "Logarithmic; above the line a stage is wrong. Arrow keys move, Enter goes to the step.",
  allowed: "allowed",
  times: (x) => `${x} × allowed`,
  same: "identical bits",
  thenNext: "Next token then",
  insteadOf: (token, chance) => `instead of ${token} ${chance}`,
  environment: "Made with",
};

/** @type {Words} */
const CHINESE = {
  title: "逐步走进 GPT-2",
  skip: "跳到当前步骤",
  language: "语言",
  model: (name, parameters) => `模型 ${name}，${parameters.toLocaleString("en")} 个参数`,
  layers: (n) => `${n} 层`,
  heads: (n) => `${n} 个头`,
  channels: (n) => `${n} 个通道`,
  context: (n) => `上下文 ${n} 个词元`,
  prompt: "提示词",
  run: "运行",
  hint: "按 Enter 运行，按 Shift + Enter 换行（↵）。",
  fixed: "本页只存有一条提示词。想换一条：gpt2 lesson --model FOLDER --serve",
  examples: "试试",
  tokens: (n, context) => `${n} / ${context} 个词元`,
  next: "下一个词元",
  append: (token, chance) => `${token}，${chance}：接到提示词后面`,
  first: "回到最初的提示词",
  empty: "提示词是空的：GPT-2 是续写文本的，请至少给出一个词元。",
  unknown: (character, known) => `这个模型没有“${character}”对应的词元。它认识的有：${known}。`,
  long: (n, context) => `${n} 个词元超出了长度为 ${context} 的上下文：请把提示词缩短 ${n - context} 个词元。`,
  refused: (reason) => `服务器没有接受：${reason}`,
  unreachable: "服务器没有回应：gpt2 lesson --serve 还在运行吗？",
  forward: "从这里开始：一页读完整个前向传播",
  forwardAbout: "reference/forward.py：十分钟读完，只用 NumPy。下面的各个步骤逐行跟着它走；每一步里都能看到加上批次、掩码和缓存之后的完整函数，以及它的孪生实现。两者的分数逐位相同。",
  steps: "步骤",
  step: (n, all) => `第 ${n} 步，共 ${all} 步`,
  previous: "上一步",
  following: "下一步",
  keys: "← → 或 j k",
  groups: { tokens: "输入", ln_1: "注意力", ln_2: "MLP", layers: "输出", loss: "训练" },
  tensor: "张量",
  layer: "层",
  head: "头",
  look: "显示",
  looks: { right: "正确的", broken: "出错的", difference: "两者之差" },
  missing: "本页没有存这个张量。",
  sampled: (parts) => `已抽样：${parts.join("，")}。`,
  sample: (kept, all, axis) => `${axis}取 ${kept} / ${all}`,
  layersSampled: (kept, all) => `层取 ${kept} / ${all}`,
  map: (name, rows, columns) => `${name} 的热图：行是${rows}，列是${columns}。用方向键在数值之间移动。`,
  heatMap: "热图",
  rows: (rows, columns) => `行：${rows} · 列：${columns}`,
  pick: (layer, head) => (head === null ? `第 ${layer} 层` : layer === null ? `第 ${head} 头` : `第 ${layer} 层第 ${head} 头`),
  overview: "所有的层与头；选中的一个在下方放大",
  masked: (lowest) => `${lowest}，已遮盖`,
  zero: "恰好为 0",
  clipped: (limit) => `±${limit} 起为最深的颜色`,
  table: "以表格显示数值",
  tableCut: (rows, columns) => `前 ${rows} 行、${columns} 列。`,
  axes: {
    B: "序列", T: "词元", S: "键", H: "头", C: "通道", D: "头内通道", I: "单元", V: "词表项",
    "3C": "q、k、v 的通道", "3*H*D": "q、k、v 的通道", "H*D": "通道", query: "查询", series: "曲线", step: "沿梯度的步长",
    factor: "倍数", scale: "损失缩放", task: "任务", parameter: "参数", batch: "批次", mask: "掩码",
  },
  plural: {
    B: "序列", T: "词元", S: "键", H: "头", C: "通道", D: "头内通道", I: "单元", V: "词表项",
    "3C": "q、k、v 的通道", "3*H*D": "q、k、v 的通道", "H*D": "通道", query: "查询", series: "曲线", step: "沿梯度的步长",
    factor: "倍数", scale: "损失缩放", task: "任务", parameter: "参数", batch: "批次", mask: "掩码",
  },
  id: "编号",
  position: "位置",
  value: "数值",
  identical: "逐位相同",
  judged: (ulp, noise) => `${ulp} ulp；${noise} × 噪声`,
  differs: "不一致",
  explain: "对孪生实现的裁决，以 float64 参考实现为准：误差不超过该输入自身舍入噪声的 3 倍加 4 ulp，即为一致。",
  computed: "在本页中算出；只对最初的提示词做过裁决",
  computedShort: "本页算出",
  notJudged: "未裁决",
  notJudgedLong: "生成本页时没有第二个后端可供裁决。",
  ofFirst: "随最初的提示词存入，不随您的提示词变化。",
  code: "两份实现",
  reference: "参考实现",
  backend: "孪生实现",
  noTwin: "只有参考实现有这个函数。",
  samePair: "着色处：两者不同",
  question: "问题：",
  breakIt: "弄坏它",
  breakNone: "没有弄坏",
  breakOther: "错误是在最初的提示词下植入的；相关数字与张量都属于那条提示词。",
  planted: "植入的错误",
  found: "裁判怎样发现它",
  firstWrong: "最先出错的阶段",
  goThere: "去看看",
  strip: "各阶段的误差，与允许值之比",
  stripHint: "对数刻度；超过横线即出错。方向键移动，Enter 转到该步骤。",
  allowed: "允许值",
  times: (x) => `允许值的 ${x} 倍`,
  same: "逐位相同",
  thenNext: "这时的下一个词元",
  insteadOf: (token, chance) => `原本是 ${token} ${chance}`,
  environment: "生成环境",
};

export const WORDS = { en: ENGLISH, zh: CHINESE };
