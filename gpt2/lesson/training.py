"""Tensors that the page cannot compute itself: loss, gradients, tasks, mixed precision and accumulation."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import Backend
from gpt2.errors import GPT2Error
from gpt2.lesson.judged import described
from gpt2.lesson.tensors import packed
from gpt2.model.model import Model
from reference.attention import attention_scores, mask_value
from reference.config import axis_sizes, flatten, nest
from reference.gradients.ops import cross_entropy_vjp
from reference.model import language_model, language_model_loss, shift_labels
from reference.ops import log_softmax, softmax
from reference.stages import keep_in, observing
from reference.train import loss_and_gradients

Array = NDArray[Any]
Tensors = dict[str, dict[str, Any]]
Tokens = Callable[[Array], list[str]]

ANSWER = 8  # most tokens that the model adds to the prompt; the lesson trains on them
STEPS = np.linspace(-0.2, 0.6, 17)  # steps against the gradient; at 1 a straight line would reach loss 0
SCALES = 2.0 ** np.arange(0, 33, 2)
FACTORS = 2.0 ** np.arange(0, 11)
MICRO_BATCHES = 4
TASKS = ("copy", "reverse", "sort", "upper")


class Text:
    """The text of the lesson's training steps: the prompt and the model's continuation.

    ids (1, T); labels (1, T), -100 in the prompt.
    """

    def __init__(self, model: Model, prompt: Array, tokens: Tokens) -> None:
        self.model, self.prompt = model, prompt
        room = model.config.n_positions - prompt.shape[1]
        self.ids = model.generate(prompt, max_new_tokens=max(1, min(ANSWER, room)))[:, : model.config.n_positions]
        self.params = nest({name: x.astype(np.float32) for name, x in model.parameters.items()})
        self.labels = np.where(np.arange(self.ids.shape[1]) < prompt.shape[1], -100, self.ids)
        self.tokens = tokens(self.ids[0])

    @functools.cached_property
    def gradients(self) -> dict[str, Array]:
        """Gradients of the mean loss of all tokens, by parameter."""
        return flatten(self.gradients_of(self.ids))

    def gradients_of(self, ids: Array) -> dict:
        """Gradients for other ids (B, T), as a tree."""
        return loss_and_gradients(self.params, ids, ids, self.model.config)[1]

    def loss(self, params: dict) -> float:
        """The mean loss of all tokens under other weights."""
        return float(language_model_loss(params, self.ids, self.ids, self.model.config))


def training_tensors(text: Text, tokens: Tokens) -> Tensors:
    """The tensors of the step "loss" and all later steps."""
    logits, _ = language_model(text.params, text.ids, text.model.config)
    return {
        **_loss(text, logits, tokens),
        **_gradients(text, logits, tokens),
        **_tasks(text, tokens),
        **_precision(text),
        **_accumulation(text),
    }


def training_verdicts(text: Text, backend: Backend) -> dict[str, Any]:
    """Verdicts on the loss and all gradients of this text: the twin's autodiff against gradients derived by hand.

    Functions that the backend does not offer are left out.
    """
    arguments = {"params": text.params, "ids": text.ids, "labels": text.ids, "config": text.model.config}
    verdicts_by_name: dict[str, Any] = {}
    with contextlib.suppress(NotImplementedError):
        verdicts_by_name["loss"] = described(_compare("model.language_model_loss", arguments, backend)[0])
        verdicts = _compare("model.language_model_loss_vjp", arguments | {"grad": np.ones((), np.float32)}, backend)
        verdicts_by_name["gradients"] = described(max(verdicts, key=lambda verdict: verdict.severity))
        verdicts_by_name |= {f"gradients.{verdict.name}": described(verdict) for verdict in verdicts}
    return verdicts_by_name


def _compare(function: str, arguments: dict[str, Any], backend: Backend) -> list[Any]:
    """The judge's verdicts on a function of the mirror with these arguments."""
    from parity.cases.cases import Case
    from parity.cases.contracts import contracts
    from parity.verdict.trial import Trial

    contract, config, tokens = contracts()[function], arguments["config"], arguments["ids"].shape[1]
    sizes = axis_sizes(config) | {"B": 1, "T": tokens, "S": tokens}
    absent = frozenset(contract.optional) | {"keep"}
    case = Case(contract, sizes, {"config": config}, absent, padding="none", regime="live", seed=0)
    return list(Trial(case, backend, {"arguments": arguments}).compare())


def _loss(text: Text, logits: Array, tokens: Tokens) -> Tensors:
    surprise = -np.take_along_axis(log_softmax(logits[0, :-1]), text.ids[0, 1:, None], axis=-1)[:, 0]
    every = tokens(np.arange(logits.shape[-1]))
    return {
        "loss.surprise": packed(surprise, ("T",), {"T": text.tokens[1:]}),
        "loss.probabilities": packed(softmax(logits[0]), ("T", "V"), {"T": text.tokens, "V": every}),
    }


def _gradients(text: Text, logits: Array, tokens: Tokens) -> Tensors:
    d_logits = cross_entropy_vjp(np.ones((), np.float32), logits, shift_labels(text.ids))
    norms = np.array([np.linalg.norm(x) for x in text.gradients.values()], np.float32)
    every = tokens(np.arange(logits.shape[-1]))
    return {
        "gradients.logits": packed(d_logits[0], ("T", "V"), {"T": text.tokens, "V": every}),
        "gradients.norms": packed(norms, ("parameter",), {"parameter": list(text.gradients)}),
        "gradients.descent": _descent(text),
    }


def _descent(text: Text) -> dict[str, Any]:
    """The loss along steps against the gradient, and the straight line that the gradient predicts."""
    gradients = text.gradients
    loss, slope = text.loss(text.params), sum(float(np.sum(x * x)) for x in gradients.values())
    lengths = STEPS * loss / slope
    weights = flatten(text.params)
    walked = [
        text.loss(nest({name: x - np.float32(length) * gradients[name] for name, x in weights.items()}))
        for length in lengths
    ]
    rows = np.array([walked, loss - lengths * slope], np.float32)
    series = [{"en": "the loss", "zh": "损失"}, {"en": "what the gradient promises", "zh": "梯度预言的直线"}]
    return packed(rows, ("series", "step"), {"series": series, "step": [f"{length:.3g}" for length in lengths]})


def _tasks(text: Text, tokens: Tokens) -> Tensors:
    """Next-token probabilities for the same input under every task, and which tokens of a sample are scored."""
    model = text.model
    scored = (shift_labels(text.labels)[0] != -100).astype(np.float32)
    tensors = {"task.scored": packed(scored, ("T",), {"T": text.tokens})}
    rows, names = [], []
    for task, ids in _prompts(model):
        answer = model.generate(ids, max_new_tokens=ANSWER)[0, ids.shape[1] :]
        rows.append(softmax(language_model(text.params, ids, model.config)[0][0, -1]))
        names.append(f"{task} → {''.join(tokens(answer))}")
    if rows:
        every = tokens(np.arange(model.config.vocab_size))
        tensors["task.next"] = packed(np.array(rows), ("task", "V"), {"task": names, "V": every})
    return tensors


def _prompts(model: Model) -> Iterator[tuple[str, Array]]:
    """Yield one prompt per task, if the model's tokenizer can encode it and it fits the context."""
    for task in TASKS:
        try:
            ids = model.encode(f"{task}: hbxa\n")
        except GPT2Error:
            return
        if ids.shape[1] + ANSWER <= model.config.n_positions:
            yield task, ids


def _precision(text: Text) -> Tensors:
    seen: dict[str, Array] = {}
    with observing(keep_in(seen)):
        language_model(text.params, text.ids, text.model.config)
    q, k = seen["h.0.attn.q"], seen["h.0.attn.k"]
    largest: list[list[float]] = [[], []]
    with np.errstate(all="ignore"):
        for factor in FACTORS:
            for row, dtype in zip(largest, (np.float32, np.float16), strict=True):
                scores = attention_scores((q * factor).astype(dtype), k.astype(dtype), text.model.config.head_size**0.5)
                row.append(float(np.abs(scores).max()))
        gradients = np.concatenate([x.ravel() for x in text.gradients.values()])
        gradients = gradients[gradients != 0]
        scaled = [(gradients * np.float32(scale)).astype(np.float16) for scale in SCALES]
    lost = np.array([[np.mean(x == 0) for x in scaled], [np.mean(~np.isfinite(x)) for x in scaled]], np.float32)
    lost_names = [
        {"en": "share that became 0", "zh": "变成 0 的比例"},
        {"en": "share that overflowed", "zh": "溢出的比例"},
    ]
    return {
        "precision.largest_score": packed(
            np.array(largest, np.float32),
            ("series", "factor"),
            {"series": ["float32", "float16"], "factor": _powers(FACTORS)},
        ),
        "precision.weights": _masks_in_float16(seen["h.0.attn.scores"][0, 0]),
        "precision.lost_gradients": packed(lost, ("series", "scale"), {"series": lost_names, "scale": _powers(SCALES)}),
    }


def _masks_in_float16(scores: Array) -> dict[str, Any]:
    """Attention weights in float16 if all keys, or all but one, are masked with float32's or float16's lowest number.

    The former is -inf in float16, and -inf minus -inf is NaN.
    """
    row = np.tile(scores[-1, :4].astype(np.float16), (4, 1))
    seen = np.array([[False] * 4, [False] * 4, [True] + [False] * 3, [True] + [False] * 3])
    with np.errstate(all="ignore"):
        for i, dtype in enumerate((np.float32, np.float16, np.float32, np.float16)):
            row[i] = np.where(seen[i], row[i], np.float16(mask_value(dtype)))
        weights = softmax(row)
    low = {np.float32: "−3.4e38 = −inf", np.float16: "−65504"}
    names = [
        {"en": f"{what_en}: {low[dtype]}", "zh": f"{what_zh}：{low[dtype]}"}
        for what_en, what_zh in (("all hidden", "全部遮住"), ("one visible", "只露一个"))
        for dtype in (np.float32, np.float16)
    ]
    return packed(weights, ("mask", "S"), {"mask": names, "S": ["0", "1", "2", "3"]})


def _powers(numbers: Array) -> list[str]:
    return [f"2^{round(np.log2(number))}" for number in numbers]


def _accumulation(text: Text) -> Tensors:
    """The gradient of h.0.ln_1.weight from one batch, and the mean of those from its micro-batches, by channel."""
    random = np.random.default_rng(0)
    rows = np.stack([random.permutation(text.ids[0]) for _ in range(MICRO_BATCHES)])
    name = "h.0.ln_1.weight"
    whole = flatten(text.gradients_of(rows))[name]
    parts = [flatten(text.gradients_of(row[None]))[name] for row in rows]
    mean = np.sum(parts, axis=0) / np.float32(MICRO_BATCHES)
    names: list[Any] = [{"en": f"micro-batch {i + 1}", "zh": f"微批次 {i + 1}"} for i in range(MICRO_BATCHES)]
    names += [{"en": "their mean", "zh": "它们的平均"}, {"en": "one batch of all", "zh": "合成一个批次"}]
    return {
        "accumulation.gradients": packed(np.stack([*parts, mean, whole]), ("batch", "C"), {"batch": names}),
        "accumulation.difference": packed(mean - whole, ("C",)),
    }
