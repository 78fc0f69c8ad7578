"""Inputs that expose wrong implementations. Hypothesis draws sizes and options; a random seed gives dense values.

The usual initialisation, N(0, 0.02) with zero biases, hides many bugs: gains of one, biases of zero and activations so
small that every GELU looks alike. So most values are "live": every parameter changes the output.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from parity.cases.contracts import Contract, Item, tree_axes
from parity.cases.supports import EVERYTHING, MODERATE, Supports
from reference.config import ACTIVATIONS, LEVELS, USUAL_ACTIVATIONS, GPT2Config

Array = NDArray[Any]

# Regimes: how the values are drawn, and which bugs that catches.
REGIMES = {
    "live": "dense values of order one: every parameter matters",
    "usual init": "N(0, 0.02), zero biases, unit gains: what a fresh model looks like",
    "large scores": "activations 8 times larger: a softmax that is nearly one-hot",
    "tiny variance": "rows that vary by a thousandth, all through a model: LayerNorm's epsilon shows",
    "large offset": "rows far from zero: a one-pass variance cancels",
    "denormals": "half of the values so small that their products underflow: what is held in too few bits becomes 0",
}
# Drawn in place of large scores for who has no large values.
REGIMES_OF_SOME = {MODERATE: "scores of up to about 1000: a softmax that does not subtract the maximum overflows"}
# Paddings: where attention_mask has pads, and which bugs that catches.
PADDINGS = {
    "none": "no pads",
    "left": "positions and caches that count pads; queries that see pads alone",
    "right": "the last token is not in the last column",
    "both": "each sequence has its own first and last column",
    "whole": "a sequence of nothing but pads, rows of scores with every key hidden: a softmax over nothing, NaN",
}
NO_MASK = "no mask"
# How the sizes are drawn, and which bugs that catches.
SIZES = {
    "any": "every size by itself",
    "ones": "every size 1 that may be: axes that broadcast or get lost, softmax over one key, LayerNorm of one channel",
    "full": "P + T = L, the last position in use: the last row of wpe, the last slot of a cache",
}
DROPOUTS, DROPOUT_RATES = ("embd_pdrop", "attn_pdrop", "resid_pdrop"), (0.0, 0.1, 0.5)
ACTIVATIONS_DRAWN = (*(5 * USUAL_ACTIVATIONS), *ACTIVATIONS[len(USUAL_ACTIVATIONS) :])  # the usual in 20 of 27 draws
USE_PADS = ("last_tokens", "sequence_classifier", "classify")  # functions that look for the last id that is no pad
ONE_LAYER = GPT2Config(n_layer=1)  # for trees of functions that take no configuration
LONGEST_WARMUP, LAST_STEP = 6, 20
LONGEST_TEXT = 20
LARGEST = {"B": 3, "T": 8, "P": 4, "H": 4, "D": 8, "N": 24, "I": 24, "V": 24, "K": 4}
# Sizes beyond every threshold in the sources: more than 64 tokens and rows, and 4,096 MLP elements; then more than 64
# channels, 2**16 MLP elements, and so many scores that not all heads fit into 2**18. A test looks for new ones.
LARGE = (
    {"B": 2, "T": 70, "P": 3, "H": 2, "D": 4, "I": 64, "N": 70, "V": 24, "K": 4},
    {"B": 1, "T": 300, "P": 3, "H": 3, "D": 24, "I": 240, "N": 300, "V": 24, "K": 4},
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One test case of one function, as drawn. `build` makes its arrays, the same on every machine."""

    contract: Contract = dataclasses.field(repr=False)
    sizes: dict[str, int]
    scalars: dict[str, Any]
    absent: frozenset[str]
    padding: str
    regime: str
    seed: int

    @property
    def config(self) -> GPT2Config:
        """The configuration, which decides the trees; its sizes are those of `sizes`."""
        return self.scalars.get("config", ONE_LAYER)

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
def configs(
    draw: st.DrawFn,
    sizes: dict[str, int],
    dropout: bool = False,
    pads: bool = False,
    supports: Supports = EVERYTHING,
) -> GPT2Config:
    """Draw a GPT-2 of those sizes, with every switch that changes the result, as far as it is supported.

    dropout: with its rates too; pads: in half of the draws with a pad_token_id.
    """

    def one_of(name: str, *values: Any) -> Any:
        return draw(st.sampled_from(supports.values(name, values)))

    def switch(name: str) -> bool:
        values = supports.values(name, (False, True))
        return draw(st.booleans() if len(values) > 1 else st.sampled_from(values))

    rates: dict[str, Any] = {name: draw(st.sampled_from(DROPOUT_RATES)) for name in DROPOUTS} if dropout else {}
    if pads and "pad_token_id" not in dict(supports.allowed):
        rates["pad_token_id"] = draw(st.none() | st.integers(0, sizes["V"] - 1))
    return GPT2Config(
        vocab_size=sizes["V"],
        n_positions=sizes["L"],
        n_embd=sizes["C"],
        n_head=sizes["H"],
        n_inner=sizes["I"],
        num_labels=sizes["K"],
        n_layer=draw(st.integers(1, 3)),
        activation_function=one_of("activation_function", *ACTIVATIONS_DRAWN),
        layer_norm_epsilon=one_of("layer_norm_epsilon", 1e-5, 1e-6, 1e-3),
        scale_attn_weights=one_of("scale_attn_weights", True, False),
        scale_attn_by_inverse_layer_idx=switch("scale_attn_by_inverse_layer_idx"),
        reorder_and_upcast_attn=switch("reorder_and_upcast_attn"),
        tie_word_embeddings=one_of("tie_word_embeddings", True, False),
        **rates,
    )


@st.composite
def cases(
    draw: st.DrawFn,
    contract: Contract,
    dtype: np.dtype,
    supports: Supports = EVERYTHING,
) -> Case:
    """Draw a case for the function of a contract, as far as it is supported. dtype: that of the float arrays."""
    optional = [name for name in contract.optional if name != "attention_mask"]
    absent = {name for name in optional if name in supports.refused or not draw(st.booleans())}
    paddings = supports.paddings(_paddings(contract))
    if "attention_mask" in supports.refused & set(contract.optional):
        paddings = [NO_MASK]
    padding = draw(st.sampled_from(paddings))
    if padding == NO_MASK:
        absent.add("attention_mask")
    has_past = "key_length" in contract.scalars or ("past" in optional and "past" not in absent)
    sizes = draw(_sizes(has_past))
    if supports.has_usual_mlp:
        sizes["I"] = 4 * sizes["C"]
    if sizes["P"] == 0:
        absent.add("past")
    dropout = any("keep" in item.kinds and item.name not in absent for item in contract.inputs)
    scalars = {name: draw(value) for name, value in _scalars(contract, sizes, dtype, dropout, supports).items()}
    return Case(
        contract=contract,
        sizes=sizes,
        scalars=scalars,
        absent=frozenset(absent),
        padding="none" if padding == NO_MASK else padding,
        regime=draw(st.sampled_from(supports.regimes(REGIMES))),
        seed=draw(_seeds()),
    )


def resized(case: Case, sizes: dict[str, int]) -> Case:
    """The case with other sizes, and whatever depends on them."""
    wanted = case.sizes | {letter: size for letter, size in sizes.items() if letter != "P" or case.sizes["P"]}
    wanted["S"], wanted["C"] = wanted["P"] + wanted["T"], wanted["H"] * wanted["D"]
    wanted["L"] = wanted["S"]
    given = {"n_head": "H", "query_length": "T", "key_length": "S", "count": "K"}
    scalars = {name: wanted[given[name]] if name in given else value for name, value in case.scalars.items()}
    if "config" in scalars:
        fields = {
            "n_positions": "L",
            "n_embd": "C",
            "n_head": "H",
            "n_inner": "I",
            "vocab_size": "V",
            "num_labels": "K",
        }
        changed: dict[str, Any] = {field: wanted[letter] for field, letter in fields.items()}
        scalars["config"] = dataclasses.replace(case.config, **changed)
    if "slot" in scalars:
        scalars["slot"] = min(scalars["slot"], wanted["P"])
    return dataclasses.replace(case, sizes=wanted, scalars=scalars)


@st.composite
def _seeds(draw: st.DrawFn) -> int:
    """Draw a seed below a million, two digits at a time.

    For numbers of 100 and more, Hypothesis also tries constants from the sources of all loaded modules. Another command
    loads other modules, and would then draw other cases.
    """
    first, second, third = (draw(st.integers(0, 99)) for _ in range(3))
    return 10_000 * first + 100 * second + third


@st.composite
def _sizes(draw: st.DrawFn, has_past: bool) -> dict[str, int]:
    kind = draw(st.sampled_from(["any"] * 5 + ["full"] * 2 + ["ones"]))
    largest = dict.fromkeys(LARGEST, 1) if kind == "ones" else LARGEST
    sizes = {letter: draw(st.integers(0 if letter == "P" else 1, largest[letter])) for letter in LARGEST}
    if not has_past:
        sizes["P"] = 0
    sizes["S"] = sizes["P"] + sizes["T"]
    sizes["C"] = sizes["H"] * sizes["D"]
    sizes["L"] = sizes["S"] + (draw(st.integers(0, 3)) if kind == "any" else 0)
    return sizes


def _paddings(contract: Contract) -> list[str]:
    """The paddings that make a difference to a function."""
    for item in contract.inputs:
        if "mask" in item.kinds:
            return [NO_MASK] * (2 if "optional" in item.kinds else 0) + list(PADDINGS)
        if "bool" in item.kinds or "hidden" in item.kinds:
            return ["none", "whole"]
    return ["none"]


# How a scalar argument is drawn, if nothing else decides it.
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "layer": st.integers(0, 3),
    "eps": st.sampled_from([1e-5, 1e-6, 1e-3]),
    "upcast": st.booleans(),
    "temperature": st.sampled_from([1.0, 0.5, 2.0]),
    "top_p": st.sampled_from([1.0, 0.9, 0.3]),
    "min_p": st.sampled_from([0.0, 0.05, 0.3]),
    "typical_p": st.sampled_from([1.0, 0.9, 0.3]),
    "penalty": st.sampled_from([1.0, 1.3, 0.5]),
    "size": st.integers(0, 3),
    "length": st.integers(1, LONGEST_TEXT),
    "longest": st.integers(LONGEST_TEXT, 2 * LONGEST_TEXT),
    "length_penalty": st.sampled_from([1.0, 0.0, -1.0, 2.0]),
    "early_stopping": st.sampled_from([False, True, "never"]),
    "last_only": st.just(False),
    "level": st.sampled_from(LEVELS),
    "recompute": st.booleans(),
    "rate": st.sampled_from(DROPOUT_RATES),
    "ignore_index": st.sampled_from([-100, -1]),
    "beta1": st.sampled_from([0.9, 0.5, 0.0]),
    "beta2": st.sampled_from([0.999, 0.9, 0.0]),
    "epsilon": st.sampled_from([1e-8, 1e-6, 1e-3]),
    "weight_decay": st.sampled_from([0.01, 0.0, 0.5]),
    "max_grad_norm": st.sampled_from([1.0, 0.01, 100.0]),
    "warmup_steps": st.integers(0, LONGEST_WARMUP),
    "total_steps": st.integers(LONGEST_WARMUP + 1, LAST_STEP),
    "final_lr": st.sampled_from([0.0, 1e-3]),
}


def _scalars(
    contract: Contract, sizes: dict[str, int], dtype: np.dtype, dropout: bool, supports: Supports
) -> dict[str, st.SearchStrategy[Any]]:
    """How each scalar argument of a function is drawn."""
    decided: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "config": lambda: configs(sizes, dropout, any(name in contract.function for name in USE_PADS), supports),
        "n_head": lambda: st.just(sizes["H"]),
        "scale": lambda: st.sampled_from([1.0, math.sqrt(sizes["D"]), 3 * math.sqrt(sizes["D"])]),
        "query_length": lambda: st.just(sizes["T"]),
        "key_length": lambda: st.just(sizes["S"]),
        "slot": lambda: st.integers(0, sizes["P"] if "query_length" in contract.scalars else 0),
        "dtype": lambda: st.just(dtype),
        "top_k": lambda: st.integers(0, sizes["V"] + 2),
        "count": lambda: st.just(sizes["K"]),
    }
    unknown = [name for name in contract.scalars if name not in decided and name not in SCALARS]
    if unknown:
        raise ValueError(f"{contract.function}: no strategy for {unknown}: add one here, or its shape to the docstring")
    drawn = {name: decided[name]() if name in decided else SCALARS[name] for name in contract.scalars}
    fixed = {name: st.sampled_from(values) for name, values in supports.allowed if name in drawn}
    return drawn | fixed


def build(case: Case, dtype: np.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a case, floats of that dtype, and `case_axes`."""
    axes, items = case_axes(case), {item.name: item for item in case.contract.inputs}
    arrays = {name: _fill(case, item, name, axes[name], dtype) for name, item in items.items() if name in axes}
    if case.seed % 4 and "ids" in arrays and "attention_mask" in arrays:
        arrays["ids"] = _with_traps(arrays["ids"], arrays["attention_mask"][:, -arrays["ids"].shape[1] :])
    if "attention_mask" in arrays and isinstance(axes.get("grad"), tuple) and "T" in axes["grad"]:
        arrays["grad"] = _without_pads(arrays["grad"], axes["grad"], arrays["attention_mask"])
    return {**case.scalars, **arrays}, axes


def _without_pads(grad: Array, axes: tuple[str, ...], attention_mask: Array) -> Array:
    """The gradient with zeros where the result is that of a pad: it means nothing, so no loss depends on it."""
    kept = attention_mask[:, -grad.shape[axes.index("T")] :]
    others = [axis for axis in range(len(axes)) if axes[axis] not in ("B", "T")]
    return grad * np.expand_dims(kept, others).astype(grad.dtype)


def _with_traps(ids: Array, attention_mask: Array) -> Array:
    """The ids with that of the last token in every row's pads too: a pad does not count as read."""
    last = np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)
    return np.where(attention_mask != 0, ids, ids[np.arange(len(ids)), last][:, None])


def case_axes(case: Case) -> dict[str, Any]:
    """The tree of a case's arguments, with axes in place of arrays and None in place of anything else."""
    axes: dict[str, Any] = dict.fromkeys(case.scalars)
    for item in case.contract.inputs:
        if item.name in case.absent:
            continue
        if item.tree is not None:
            axes[item.name] = tree_axes(item, case.config)
        elif "pairs" in item.kinds:
            axes[item.name] = [(item.axes, item.axes)] * case.config.n_layer
        else:
            axes[item.name] = (item.axes, item.axes) if "pair" in item.kinds else item.axes
    return axes


def is_axes(tree: Any) -> bool:
    """Whether a node of an axes tree stands for an array: a tuple of letters."""
    return isinstance(tree, tuple) and all(isinstance(axis, str) for axis in tree)


def axis_factors(axis: str, sizes: dict[str, int]) -> list[int]:
    """Sizes of the factors of an axis: [3, H, D] of "3*H*D"."""
    return [int(factor) if factor.isdigit() else sizes[factor] for factor in axis.split("*")]


def _fill(case: Case, item: Item, name: str, axes: Any, dtype: np.dtype) -> Any:
    if is_axes(axes):
        shape = tuple(math.prod(axis_factors(axis, case.sizes)) for axis in axes)
        values = np.asarray(_values(case, item, name, shape, dtype))
        if "square" in item.kinds:
            values = values * values
        return values if values.dtype.kind != "f" or "uniform" in item.kinds else values.astype(dtype)
    if isinstance(axes, dict):
        return {key: _fill(case, item, f"{name}.{key}", value, dtype) for key, value in axes.items()}
    filled = [_fill(case, item, f"{name}.{i}", value, dtype) for i, value in enumerate(axes)]
    return filled if isinstance(axes, list) else tuple(filled)


def _values(case: Case, item: Item, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    random = np.random.default_rng([case.seed, zlib.crc32(name.encode())])
    kinds, whole = set(item.kinds), case.padding == "whole"
    if "int" in kinds:
        return _integers(random, shape, item.kinds[item.kinds.index("int") + 1], case.sizes)
    if "labels" in kinds:
        letter = item.kinds[item.kinds.index("labels") + 1]
        return _labels(random, shape, case.sizes[letter], case.scalars.get("ignore_index", -100))
    if "mask" in kinds:
        return padding_mask(random, shape, case.padding)
    if "keep" in kinds:
        return random.random(shape) >= _dropout_rate(case, name)
    if "bool" in kinds:
        visible = random.random(shape) < random.random()
        return visible & ~_hidden_rows(random, shape) if whole else visible
    if "hidden" in kinds:
        visible = random.random(shape) < 0.7
        visible[..., 0] |= ~visible.any(axis=-1)  # every query sees a key
        hidden = np.where(visible, 0.0, -3e4)  # exp of it is zero in every dtype
        return np.where(whole & _hidden_rows(random, shape), float(_info(dtype).min) / 2, hidden)
    if case.seed % 4 == 0 and name in ("m", "v", "step") and "beta1" in case.scalars:
        return np.ones(shape, np.int64) if name == "step" else np.zeros(shape)  # the first update
    if "step" in kinds:  # a schedule starts at 0, the first update is number 1
        return np.asarray(random.integers(0 if "warmup_steps" in case.scalars else 1, LAST_STEP + 2, shape))
    if name == "lr":
        return np.asarray(10 ** random.uniform(-5, 0, shape))
    if "uniform" in kinds:
        return random.integers(0, 128, shape) / 128  # exact in every dtype
    x = random.standard_normal(shape)
    if name == "logits" and (case.seed % 2 or case.scalars.get("typical_p", 1.0) < 1):
        # Many equal scores, to test their order; and which of two is nearer to the mean is not for rounding to say.
        return np.round(2 * x) / 2
    if name in ("beam_scores", "finished"):
        return np.where(random.random(shape) < 0.25, -np.inf, x)  # some beams do not exist, some places are free
    if name.endswith(("weight", "bias")):
        return _parameter(x, name, case.regime, dtype, random)
    if case.regime in ("usual init", "large scores"):
        return x * (0.02 if case.regime == "usual init" else 8)
    if case.regime == MODERATE:  # where there are weights, these are larger, and the numbers that come in hardly
        weighed = any(each.tree is not None for each in case.contract.inputs)
        return x * (1.4 if weighed else 9 if name in ("q", "k") else 40)
    return x if not shape else _rows(x, case.regime, dtype, random)


def _integers(random: np.random.Generator, shape: tuple[int, ...], letter: str, sizes: dict[str, int]) -> Array:
    x = random.integers(0, sizes[letter], shape)
    if letter == "L" and sizes["S"] == sizes["L"]:
        x[..., -1] = sizes["L"] - 1  # a full context ends at the last position
    return x


def _labels(random: np.random.Generator, shape: tuple[int, ...], count: int, ignore_index: int) -> Array:
    """Random labels, some ignored; one time in four, all labels of one row are ignored, or all labels."""
    labels = np.where(random.random(shape) < 0.3, ignore_index, random.integers(0, count, shape))
    if random.random() < 0.25:
        labels[random.integers(len(labels)) if random.random() < 0.5 else ...] = ignore_index
    return labels


def _dropout_rate(case: Case, name: str) -> float:
    """The probability that dropout drops an element of a mask."""
    if "rate" in case.scalars:
        return case.scalars["rate"]
    stage = name.rpartition(".")[2]
    return getattr(case.config, {"embeddings": "embd_pdrop", "attn_weights": "attn_pdrop"}.get(stage, "resid_pdrop"))


def _hidden_rows(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """True for about half of the rows, and for the first."""
    hidden = random.random((*shape[:-1], 1)) < 0.5
    hidden.flat[0] = True
    return hidden


def _info(dtype: np.dtype) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def _rows(x: Array, regime: str, dtype: np.dtype, random: np.random.Generator) -> Array:
    if regime == "denormals":
        x[..., 1:] *= _tiny_scale(x[..., 1:].shape, dtype, random)
        return x
    offset = random.standard_normal((*x.shape[:-1], 1))
    far = 2.0 ** (int(_info(dtype).nmant) - 6)  # the values of a row that far from zero still differ by many ulp
    if regime == "tiny variance":
        return 1e-3 * (x + min(1000, far) * offset)
    if regime == "large offset":
        return x + min(30, far) * offset
    return x


def _tiny_scale(shape: tuple[int, ...], dtype: np.dtype, random: np.random.Generator) -> Array:
    """1 for about half of the elements; for the others the root of dtype's smallest number, or up to 32 times less.

    The product of two such values underflows. In float16 the values themselves are denormal. In float32 they are not,
    because libraries may flush float32 denormals to 0 in some functions or shapes (MindSpore does on CPU), which is no
    error. Every sum also has values of order one, so that what is flushed is below their rounding.
    """
    info = _info(dtype)
    root = (int(info.minexp) - int(info.nmant)) // 2
    return np.where(random.random(shape) < 0.5, 2.0 ** (root - random.integers(0, 6, shape)), 1.0)


def _parameter(x: Array, name: str, regime: str, dtype: np.dtype, random: np.random.Generator) -> Array:
    is_bias, is_norm = name.endswith("bias"), ".ln_" in name or x.ndim == 1
    if regime == "usual init":
        return np.zeros(x.shape) if is_bias else np.ones(x.shape) if is_norm else x * 0.02
    added_to_the_stream = "wpe" in name or "c_proj" in name
    spread = 1e-3 if regime == "tiny variance" and added_to_the_stream else 1.0
    if is_bias:
        return 0.5 * x * spread
    if is_norm:
        return 1 + 0.5 * x
    if "wte" in name:
        return _rows(x, regime, dtype, random)
    if "wpe" in name:
        return x * spread
    fan_in = x.shape[-1] if "lm_head" in name or "score" in name else x.shape[0]
    gain = 1.5 / math.sqrt(fan_in) * {"large scores": 2, MODERATE: 6}.get(regime, 1) * spread
    if regime == "denormals":
        x[1:] *= _tiny_scale(x[1:].shape, dtype, random)
    return x * gain


def padding_mask(random: np.random.Generator, shape: tuple[int, ...], padding: str) -> Array:
    """attention_mask (B, S) of 1 and 0: sequences of random lengths of at least one token, padded on that side.

    "whole" pads both sides, and gives one of the sequences pads only.
    """
    mask = np.ones(shape, np.int64)
    length = shape[1]
    for row in mask:
        left, right = random.integers(0, length, 2)
        if padding in ("left", "both", "whole"):
            row[: left if padding == "left" else left // 2] = 0
        if padding in ("right", "both", "whole"):
            row[length - (right if padding == "right" else right // 2) :] = 0
    if padding == "whole":
        mask[random.integers(len(mask))] = 0
    return mask
