"""Inputs that can tell right from wrong. Hypothesis draws what has structure; the values come dense from a seed.

The usual initialisation, N(0, 0.02) with zero biases, hides many bugs: gains of one, biases of zero and activations so
small that every GELU looks alike. So values are "live": every parameter matters to the output.
"""

import dataclasses
import math
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from parity.contracts import Contract, Item, tree_axes
from reference.config import ACTIVATIONS, GPT2Config, axis_sizes

Array = NDArray[Any]

# What the values are like, and what that regime catches.
REGIMES = {
    "live": "dense values of order one: every parameter matters",
    "usual init": "N(0, 0.02), zero biases, unit gains: what a fresh model looks like",
    "large scores": "activations 8 times larger: a softmax that is nearly one-hot",
    "tiny variance": "rows that vary by a thousandth: LayerNorm's epsilon shows",
    "large offset": "rows far from zero: a one-pass variance cancels",
}
PADDINGS = ("none", "left", "right", "both")


@dataclasses.dataclass(frozen=True)
class Case:
    """One input of one function: everything that was drawn. `build` makes the arrays, the same on every machine."""

    contract: Contract = dataclasses.field(repr=False)
    sizes: dict[str, int]
    scalars: dict[str, Any]
    absent: frozenset[str]
    padding: str
    regime: str
    seed: int

    def describe(self) -> str:
        """The case in one line."""
        sizes = " ".join(f"{letter}={size}" for letter, size in self.sizes.items())
        scalars = " ".join(f"{name}={_short(value)}" for name, value in self.scalars.items())
        return f"{sizes}; {scalars or 'no options'}; padding {self.padding}; {self.regime}; seed {self.seed}"


def _short(value: Any) -> str:
    if isinstance(value, GPT2Config):
        usual = GPT2Config().to_dict()
        drawn = {name: field for name, field in value.to_dict().items() if usual[name] != field}
        hidden = ("n_embd", "n_positions", "vocab_size", "id2label", "label2id")
        return "(" + ", ".join(f"{name}={field}" for name, field in drawn.items() if name not in hidden) + ")"
    return str(value)


@st.composite
def configs(draw: st.DrawFn, sizes: dict[str, int]) -> GPT2Config:
    """A GPT-2 of those sizes, with every switch that changes the result."""
    return GPT2Config(
        vocab_size=sizes["V"],
        n_positions=sizes["L"],
        n_embd=sizes["C"],
        n_head=sizes["H"],
        n_inner=sizes["I"],
        num_labels=sizes["K"],
        n_layer=draw(st.integers(1, 3)),
        activation_function=draw(st.sampled_from(ACTIVATIONS)),
        layer_norm_epsilon=draw(st.sampled_from([1e-5, 1e-6, 1e-3])),
        scale_attn_weights=draw(st.sampled_from([True, False])),
        scale_attn_by_inverse_layer_idx=draw(st.booleans()),
        reorder_and_upcast_attn=draw(st.booleans()),
        tie_word_embeddings=draw(st.sampled_from([True, False])),
    )


@st.composite
def cases(draw: st.DrawFn, contract: Contract, dtype: np.dtype) -> Case:
    """A case for the function of that contract. dtype is that of the arrays."""
    heads, head_size, past = draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(st.integers(0, 4))
    tokens = draw(st.integers(1, 8))
    sizes = {"B": draw(st.integers(1, 3)), "T": tokens, "P": past, "S": past + tokens, "H": heads, "D": head_size}
    sizes["C"] = heads * head_size
    sizes |= {letter: draw(st.integers(1, 24)) for letter in "NIV"}
    sizes["K"], sizes["L"] = draw(st.integers(1, 4)), past + tokens + draw(st.integers(0, 3))
    optional = [item.name for item in contract.inputs if "optional" in item.kinds]
    absent = {name for name in optional if draw(st.booleans())}
    if past == 0:
        absent.add("past")
    if "key_length" not in contract.scalars and ("past" not in optional or "past" in absent):
        sizes["P"], sizes["S"] = 0, tokens
    scalars = {name: draw(value) for name, value in _scalars(contract, sizes, dtype).items()}
    config = scalars.get("config")
    if config is not None and "I" in sizes:
        sizes |= axis_sizes(config)
    return Case(
        contract=contract,
        sizes=sizes,
        scalars=scalars,
        absent=frozenset(absent),
        padding=draw(st.sampled_from(PADDINGS)),
        regime=draw(st.sampled_from(list(REGIMES))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _scalars(contract: Contract, sizes: dict[str, int], dtype: np.dtype) -> dict[str, st.SearchStrategy[Any]]:
    known: dict[str, st.SearchStrategy[Any]] = {
        "config": configs(sizes),
        "n_head": st.just(sizes["H"]),
        "layer": st.integers(0, 3),
        "eps": st.sampled_from([1e-5, 1e-6, 1e-3]),
        "scale": st.sampled_from([1.0, math.sqrt(sizes["D"]), 3 * math.sqrt(sizes["D"])]),
        "upcast": st.booleans(),
        "query_length": st.just(sizes["T"]),
        "key_length": st.just(sizes["S"]),
        "slot": st.just(sizes["P"] if "query_length" in contract.scalars else 0),
        "dtype": st.just(dtype),
        "temperature": st.sampled_from([1.0, 0.5, 2.0]),
        "top_k": st.integers(0, sizes["V"] + 2),
        "top_p": st.sampled_from([1.0, 0.9, 0.3]),
        "last_only": st.just(False),
    }
    unknown = [name for name in contract.scalars if name not in known]
    if unknown:
        raise ValueError(f"{contract.function}: no strategy for {unknown}: add one here, or its shape to the docstring")
    return {name: known[name] for name in contract.scalars}


def build(case: Case, dtype: np.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a case, floats of that dtype, and a tree of the same form with the axes of every array."""
    arguments: dict[str, Any] = dict(case.scalars)
    axes: dict[str, Any] = dict.fromkeys(case.scalars)
    for item in case.contract.inputs:
        if item.name in case.absent:
            continue
        if item.tree is not None:
            axes[item.name] = tree_axes(item, case.scalars["config"])
        else:
            axes[item.name] = item.axes
            if "pair" in item.kinds:
                axes[item.name] = (item.axes, item.axes)
            elif "pairs" in item.kinds:
                axes[item.name] = [(item.axes, item.axes)] * case.scalars["config"].n_layer
        arguments[item.name] = _fill(case, item, item.name, axes[item.name], dtype)
    return arguments, axes


def is_axes(tree: Any) -> bool:
    """Whether a node of an axes tree stands for an array: a tuple of letters."""
    return isinstance(tree, tuple) and all(isinstance(axis, str) for axis in tree)


def axis_factors(axis: str, sizes: dict[str, int]) -> list[int]:
    """Sizes of the factors of an axis: [3, H, D] of "3*H*D"."""
    return [int(factor) if factor.isdigit() else sizes[factor] for factor in axis.split("*")]


def _fill(case: Case, item: Item, name: str, axes: Any, dtype: np.dtype) -> Any:
    if is_axes(axes):
        shape = tuple(math.prod(axis_factors(axis, case.sizes)) for axis in axes)
        values = _values(case, item, name, shape)
        return values.astype(dtype) if values.dtype.kind == "f" and "uniform" not in item.kinds else values
    if isinstance(axes, dict):
        return {key: _fill(case, item, f"{name}.{key}", value, dtype) for key, value in axes.items()}
    filled = [_fill(case, item, f"{name}.{i}", value, dtype) for i, value in enumerate(axes)]
    return filled if isinstance(axes, list) else tuple(filled)


def _values(case: Case, item: Item, name: str, shape: tuple[int, ...]) -> Array:
    random = np.random.default_rng([case.seed, zlib.crc32(name.encode())])
    kinds = set(item.kinds)
    if "int" in kinds:
        return random.integers(0, case.sizes[item.kinds[item.kinds.index("int") + 1]], shape)
    if "mask" in kinds:
        return padding_mask(random, shape, case.padding)
    if "bool" in kinds:
        return random.random(shape) < random.random()
    if "hidden" in kinds:
        visible = random.random(shape) < 0.7
        visible[..., 0] |= ~visible.any(axis=-1)  # every query sees a key
        return np.where(visible, 0.0, -3e4)  # exp of it is zero in every dtype
    if "uniform" in kinds:
        return random.integers(0, 128, shape) / 128  # exact in every dtype
    x = random.standard_normal(shape)
    if name.endswith(("weight", "bias")):
        return _parameter(x, name, shape, case.regime)
    if case.regime == "usual init":
        return x * 0.02
    if case.regime == "large scores":
        return x * 8
    offset = random.standard_normal((*shape[:-1], 1)) if shape else 0.0
    if case.regime == "tiny variance":
        return x * 1e-3 + offset
    if case.regime == "large offset":
        return x + 30 * offset
    return x


def _parameter(x: Array, name: str, shape: tuple[int, ...], regime: str) -> Array:
    is_bias, is_norm = name.endswith("bias"), ".ln_" in name or len(shape) == 1
    if regime == "usual init":
        return np.zeros(shape) if is_bias else np.ones(shape) if is_norm else x * 0.02
    if is_bias:
        return 0.5 * x
    if is_norm:
        return 1 + 0.5 * x
    fan_in = shape[-1] if "wte" in name or "wpe" in name or "lm_head" in name or "score" in name else shape[0]
    spread = 1.0 if "wte" in name or "wpe" in name else 1.5 / math.sqrt(fan_in)
    return x * spread * (2 if regime == "large scores" else 1)


def padding_mask(random: np.random.Generator, shape: tuple[int, ...], padding: str) -> Array:
    """attention_mask (B, S) of 1 and 0: rows of random lengths, at least one token each, padded on that side."""
    mask = np.ones(shape, np.int64)
    length = shape[1]
    for row in mask:
        left, right = random.integers(0, length, 2)
        if padding in ("left", "both"):
            row[: left if padding == "left" else left // 2] = 0
        if padding in ("right", "both"):
            row[length - (right if padding == "right" else right // 2) :] = 0
    return mask
