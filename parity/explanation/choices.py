"""Mistakes with a choice from a few: another activation, another order of heads, positions or a mask off by k."""

import ast
import functools
import itertools
from collections.abc import Iterator

from parity.explanation.candidates import Candidate
from parity.mutants.base import Edit, original_sources
from reference.config import ACTIVATIONS, USUAL_ACTIVATIONS

AFFINE, NORM = "reference.ops.conv1d", "reference.ops.layer_norm"
NORMED = " * weight + bias"
# Where an affine map or a LayerNorm is called: the function, and the name of its parameters there.
MAPS = (
    ("reference.attention.queries_keys_values", "x", "c_attn"),
    ("reference.attention.attention", "merged", "c_proj"),
    ("reference.model.mlp", "x", "c_fc"),
    ("reference.model.mlp", "h", "c_proj"),
)
NORMS = {"ln_1": "reference.model.block", "ln_2": "reference.model.block", "ln_f": "reference.model.gpt2"}
HEAD_NUMBERS = {
    "one head": "1",
    "as many heads as a head has channels": "config.head_size",
    "twice as many heads": "2 * config.n_head",
    "half as many heads": "config.n_head // 2",
}
SHIFTED = "np.concatenate((labels[:, 1:], np.full_like(labels[:, :1], ignore_index)), axis=1)"
Choice = tuple[str, str, str, str, str]  # name, story, function, and its lines before and after


def _of_attention() -> Iterator[Choice]:
    """Heads, thirds and masks."""
    thirds = "reference.attention.queries_keys_values"
    for k in (1, 2, 3, -1, -2, -3):
        function, old, new = "reference.attention.causal_bias", "query_length, dtype", f"query_length + {k}, dtype"
        yield f"the mask off by {k}", f"A query sees {k:+d} keys more than it should.", function, old, new
    for order in list(itertools.permutations("qkv"))[1:]:
        names = ", ".join(order)
        story = "The thirds of c_attn are taken in another order."
        yield f"c_attn read as {names}", story, thirds, "    q, k, v = (split_heads", f"    {names} = (split_heads"
    for name, number in HEAD_NUMBERS.items():
        story = "The heads are cut by another number than the configuration's."
        yield name, story, thirds, "split_heads(third, config.n_head)", f"split_heads(third, {number})"
    split, merge, swapped = "reference.attention.split_heads", "reference.attention.merge_heads", "swapaxes(1, 2)"
    orders = {
        "from the last to the first": ("x[:, ::-1]", "[:, ::-1]"),
        "one place further": ("np.roll(x, 1, axis=1)", "[:, np.arange(n_head) - 1]"),
        "one place back": ("np.roll(x, -1, axis=1)", "[:, np.arange(n_head) - n_head + 1]"),
    }
    for name, (before, behind) in orders.items():
        story = "Each head stands in another's place."
        yield f"heads cut {name}", story, split, f".{swapped}", f".{swapped}{behind}"
        yield f"heads merged {name}", story, merge, f"x.{swapped}", f"{before}.{swapped}"
    turned = "x.transpose(0, 2, 3, 1).reshape(batch"
    yield "channels of the heads merged in turn", "'(d h)' for '(h d)'.", merge, f"x.{swapped}.reshape(batch", turned


def _of_parameters() -> Iterator[Choice]:
    """A bias or a gain that is missing, or there twice; a weight that is not transposed."""
    yield "no bias", "The bias of every affine map is missing.", AFFINE, " + bias)", ")"
    yield "every bias twice", "A fused product has added it already.", AFFINE, "+ bias)", "+ 2 * bias)"
    yield "weights not transposed", "(in, out) is read as (out, in).", AFFINE, "rows, weight)", "rows, weight.T)"
    for function, x, name in MAPS:
        where, part = f"{function.rpartition('.')[2]}: {name}", f'params["{name}"]'
        old = f"conv1d({x}, **{part})"
        for what, weight, bias in (
            ("without its bias", "{}['weight']", "0 * {}['bias']"),
            ("with its bias twice", "{}['weight']", "2 * {}['bias']"),
            ("with its weight not transposed", "{}['weight'].T", "{}['bias']"),
        ):
            new = f"conv1d({x}, {weight.format(part)}, {bias.format(part)})"
            yield f"{where} {what}", "One affine map alone.", function, old, new
    effects = {
        "without its bias": " * weight",
        "with its bias twice": " * weight + 2 * bias",
        "without its gain": " + bias",
        "with its gain twice": " * weight * weight + bias",
        "with a gain of 1 + weight": " * (1 + weight) + bias",
    }
    for what, new in effects.items():
        yield f"LayerNorm {what}", "In every LayerNorm.", NORM, NORMED, new
    one = {
        "without its bias": '"bias": 0 * {0}["bias"]',
        "with its bias twice": '"bias": 2 * {0}["bias"]',
        "without its gain": '"weight": 0 * {0}["weight"] + 1',
        "with its gain twice": '"weight": {0}["weight"] * {0}["weight"]',
    }
    for name, function in NORMS.items():
        part = f'params["{name}"]'
        for what, change in one.items():
            new = f"{{**{part}, {change.format(part)}}}, config"
            yield f"{name} {what}", "In one LayerNorm alone.", function, f"{part}, config", new


def _of_tokens() -> Iterator[Choice]:
    """Positions and labels that are shifted, and means over another count."""
    for k in (1, 2, 3, -1, -2):
        story = f"The position is read {k:+d} places away; OPT, for one, shifts by 2."
        new = f"embedding(np.clip(position_ids + {k}, 0, config.n_positions - 1), **"
        yield f"positions shifted by {k}", story, "reference.model.embed", "embedding(position_ids, **", new
    for k in (-2, -1, 0, 2, 3):
        filled = f"np.full_like(labels[:, :{abs(k)}], ignore_index)"
        parts = f"labels[:, {k}:], {filled}" if k >= 0 else f"{filled}, labels[:, :{k}]"
        story = f"A position is labelled with the token {k} places behind it, not 1."
        new = f"np.concatenate(({parts}), axis=1)"
        yield f"labels shifted by {k}", story, "reference.model.shift_labels", SHIFTED, new
    function, old = "reference.ops._mean_surprise", "max(scored.sum(), 1)"
    yield "the mean over all labels", "Ignored labels count too.", function, old, "scored.size"
    yield "the sum of all labels", "Nothing is divided.", function, old, "1"
    yield (
        "the mean of the sequences' means",
        "Each sequence has the same weight, whatever its length.",
        function,
        "return -np.sum(np.where(scored, log_probabilities, 0)) / count",
        "sums = np.where(scored, log_probabilities, 0).sum(axis=-1) / np.maximum(scored.sum(axis=-1), 1)\n"
        "    return (-sums.mean()).astype(count.dtype)",
    )
    function, old = "reference.gradients.ops.cross_entropy_vjp", "max(scored.sum(), 1)"
    yield "the gradient's mean over all labels", "Ignored labels count too.", function, old, "scored.size"
    yield "the gradient divided twice", "The mean is taken once more.", function, old, "max(scored.sum(), 1) ** 2"
    yield "the gradient not divided", "The gradient of the sum.", function, old, "1"


# What stands in place of an activation, by name: those of the reference, and some that it has not.
OTHERS = {
    "identity": "x",
    "elu": "np.where(x > 0, x, np.expm1(np.minimum(x, 0)))",
    "softplus": "np.logaddexp(x, np.zeros_like(x))",
    "hard swish": "x * np.clip(x + 3, 0, 6) / 6",
    "hard sigmoid": "np.clip(x + 3, 0, 6) / 6",
    "relu6": "np.clip(x, 0, 6)",
    "selu": "1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))",
    "softsign": "x / (1 + np.abs(x))",
}


def choices() -> Iterator[Candidate]:
    """The mistakes with a choice from a few."""
    for name, story, function, old, new in (*_of_attention(), *_of_parameters(), *_of_tokens()):
        yield Candidate(name, story, (Edit(function, old, new),))
    for ours in ACTIVATIONS:
        module = "ops" if ours in USUAL_ACTIVATIONS else "activations"
        function = f"reference.{module}.{ours}"
        others = {name: f"_other.{name}(x)" for name in ACTIVATIONS if name != ours} | OTHERS
        parts = returned(function)
        for name, formula in others.items():
            lines = f"from reference import activations as _other\n    return {formula}"
            if "_other." not in formula:
                lines = f"import numpy as np\n    return {formula}"
            edit = Edit(function, joined(parts), lines)
            yield Candidate(f"{name} for {ours}", "Another activation function.", (edit,))


@functools.cache
def every_choice() -> tuple[Candidate, ...]:
    """`choices`, made once."""
    return tuple(choices())


def joined(parts: list[str]) -> str:
    """A function's last statement, which returns these."""
    return f"return {', '.join(parts)}"


def returned(function: str) -> list[str]:
    """The texts of what a function's last statement returns. Raises LookupError if it returns nothing so."""
    module, _, name = function.rpartition(".")
    text = original_sources()[module.replace(".", "/") + ".py"]
    found = [x for x in ast.parse(text).body if isinstance(x, ast.FunctionDef) and x.name == name]
    last = found[0].body[-1]
    if not isinstance(last, ast.Return) or last.value is None:
        raise LookupError(function)
    parts = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
    return [ast.get_source_segment(text, part) or "" for part in parts]
