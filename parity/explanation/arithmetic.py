"""Not every difference is a mistake: float32 that is computed with fewer bits, as devices do to be fast.

Each profile is the reference with its arithmetic replaced, exact where its documentation is. Where that leaves
something open, there is one profile for each way to read it. A profile explains a result like any known mistake, and
only if the result is nearer to it than to the reference.

Sources: precision modes and HF32, mindspore.device_context.ascend.op_precision (MindSpore 2.10) and Ascend C's SetHF32,
which documents the ways to round; TF32, the CUDA C++ guide and torch.backends.cuda.matmul.allow_tf32; bfloat16
products, torch.set_float32_matmul_precision; attention, inner_precise of mindspore.ops.flash_attention_score.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from parity.explanation.candidates import Candidate
from parity.explanation.copies import Copy
from parity.mutants.base import Edit
from parity.mutants.mistake import Change

Array = NDArray[Any]
Rounding = Callable[[Array], Array]
TF32_BITS, HF32_BITS = 11, 12  # of the mantissa, with the one that is not stored
PRODUCT, LOW = "product_of_the_profile", "rounded_by_the_profile"  # in edited lines


def to_nearest_even(bits: int) -> Rounding:
    """Round to so many bits; of two that are as near, to the even one."""
    return _rounded(bits, np.rint)


def to_nearest_away(bits: int) -> Rounding:
    """Round to so many bits; of two that are as near, to the one farther from zero."""
    return _rounded(bits, lambda x: np.trunc(x + np.copysign(0.5, x)))


def toward_zero(bits: int) -> Rounding:
    """Cut after so many bits."""
    return _rounded(bits, np.trunc)


# How many units in the last place of float32 a number may have been moved by what came before, when it is rounded.
MOVED = 16
_random: ContextVar[np.random.Generator | None] = ContextVar("_random", default=None)


def _moved(x: Array) -> Array:
    """In a member of the orbit, x moved by what other roundings before may have done: beside a tie, to either side."""
    random = _random.get()
    if random is None:
        return x
    return (x * (1 + MOVED * np.finfo(np.float32).eps * (random.random(x.shape) - 0.5))).astype(x.dtype)


def _rounded(bits: int, whole: Rounding) -> Rounding:
    def rounded(x: Array) -> Array:
        x = _moved(x)
        fraction, exponent = np.frexp(x)
        with np.errstate(over="ignore", invalid="ignore"):  # infinities stay as they are
            return np.where(np.isfinite(x), np.ldexp(whole(np.ldexp(fraction, bits)), exponent - bits), x)

    return rounded


def in_dtype(dtype: Any) -> Rounding:
    """Round to what a 16-bit dtype can hold, its range included."""

    def rounded(x: Array) -> Array:
        with np.errstate(over="ignore"):
            return _moved(x).astype(np.float32).astype(dtype).astype(x.dtype)

    return rounded


float16, bfloat16 = in_dtype(np.float16), in_dtype(ml_dtypes.bfloat16)


def flushed(x: Array) -> Array:
    """0 in place of what is denormal in float32, with its sign."""
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.zeros_like(x), x), x)


def product_of(rounding: Rounding, result: Rounding | None = None) -> Callable[[Array, Array], Array]:
    """A matrix product whose factors are rounded before, and, if so, its result behind."""

    def product(a: Array, b: Array) -> Array:
        x = np.matmul(rounding(a), rounding(b))
        return x if result is None else result(x)

    return product


def summed_in_float16(a: Array, b: Array) -> Array:
    """A matrix product in float16 whose sum is rounded after every term."""
    a, b = float16(a), float16(b)
    total = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)
    for k in range(a.shape[-1]):
        total = float16(total + a[..., :, k, None] * b[..., k, None, :])
    return total


@dataclasses.dataclass(frozen=True)
class Profile(Candidate):
    """A way to compute. given: what its edited lines call."""

    given: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def backend(self, dtype: str) -> Any:
        return _copy(self.name).backend(dtype, name=self.name)

    def module(self, name: str) -> Any:
        return _copy(self.name).module(name)

    @contextlib.contextmanager
    def member(self, seed: int, number: int) -> Iterator[None]:
        before = _random.set(np.random.default_rng([seed, number, 2]) if number else None)
        try:
            yield
        finally:
            _random.reset(before)

    @property
    def changes(self) -> tuple[Change, ...]:
        """None: the lines of a simulation tell nothing."""
        return ()


@functools.cache
def _copy(name: str) -> Copy:
    profile = next(each for each in PROFILES if each.name == name)
    return Copy(profile.edits, profile.given)


_ORIGIN = 'mindspore.device_context.ascend.op_precision.precision_mode("must_keep_origin_dtype")'
_HF32 = "mindspore.device_context.ascend.op_precision.matmul_allow_hf32(False)"
_TF32 = (
    "torch.backends.cuda.matmul.allow_tf32 = False; mindspore.device_context.gpu.op_precision.matmul_allow_tf32(False)"
)
_HIGHEST = f'torch.set_float32_matmul_precision("highest"); {_ORIGIN}'
_MIXED = "leave the operator out of automatic mixed precision (its black list), or cast its input to float32"
_MATMUL = Edit("reference.ops.matmul", "np.matmul(a, b)", f"{PRODUCT}(a, b)")


def _of_products(name: str, story: str, product: Any, switch: str) -> Profile:
    return Profile(name, story, (_MATMUL,), given={PRODUCT: product}, switch=switch)


def _rounding_all_of(function: str, result: str) -> Edit:
    return Edit(function, result, f"{LOW}({result})")


def _of_softmax(name: str, rounding: Rounding) -> Profile:
    edits = (
        Edit("reference.ops.softmax", "weights = exp(", f"x = {LOW}(x)\n    weights = exp("),
        _rounding_all_of("reference.ops.softmax", "weights / weights.sum(axis=-1, keepdims=True)"),
    )
    return Profile(
        f"softmax that reads and writes {name}",
        "Its input and its result are rounded.",
        edits,
        given={LOW: rounding},
        switch=_MIXED,
    )


def _of_layer_norm(name: str, rounding: Rounding) -> Profile:
    edits = (
        Edit(
            "reference.ops.layer_norm",
            "centred = x",
            f"x, weight, bias = map({LOW}, (x, weight, bias))\n    centred = x",
        ),
        _rounding_all_of("reference.ops.layer_norm", "centred / np.sqrt(variance + eps) * weight + bias"),
    )
    story = "Its input, its parameters and its result are rounded."
    return Profile(f"LayerNorm that reads and writes {name}", story, edits, given={LOW: rounding}, switch=_MIXED)


def _of_attention(name: str, rounding: Rounding) -> Profile:
    edits = (
        Edit(
            "reference.attention.attention_scores",
            "matmul(q, k.swapaxes(-1, -2))",
            f"{LOW}(matmul({LOW}(q), {LOW}(k).swapaxes(-1, -2)))",
        ),
        Edit("reference.attention.attention", "matmul(weights, v)", f"{LOW}(matmul({LOW}(weights), {LOW}(v)))"),
    )
    story = "Queries, keys, values, scores and weights are rounded: fused attention has no float32."
    switch = f"inner_precise=0, or --attention plain where there is one; {_ORIGIN}"
    return Profile(f"attention in {name}", story, edits, given={LOW: rounding}, switch=switch)


def _of_every_operator(name: str, story: str, rounding: Rounding, switch: str) -> Profile:
    def of_arrays(x: Any) -> Any:
        return rounding(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x

    edit = Edit(
        "reference.precision.rounded_once",
        'return observe("rounding", op(*args, **kwargs))',
        f"given = {{name: {LOW}(x) for name, x in kwargs.items()}}\n"
        f'            return {LOW}(observe("rounding", op(*map({LOW}, args), **given)))',
    )
    return Profile(name, story, (edit,), given={LOW: of_arrays}, switch=switch)


PROFILES: tuple[Profile, ...] = (
    _of_products(
        "products in HF32",
        "float32 with 11 bits behind the point; ties go to the even one.",
        product_of(to_nearest_even(HF32_BITS)),
        _HF32,
    ),
    _of_products(
        "products in HF32, ties away from zero",
        "float32 with 11 bits behind the point; ties go to the one farther from zero.",
        product_of(to_nearest_away(HF32_BITS)),
        _HF32,
    ),
    _of_products(
        "products in HF32, cut",
        "float32 with 11 bits behind the point; further bits are cut.",
        product_of(toward_zero(HF32_BITS)),
        _HF32,
    ),
    _of_products(
        "products in TF32",
        "float32 with 10 bits behind the point.",
        product_of(to_nearest_even(TF32_BITS)),
        _TF32,
    ),
    _of_products(
        "products in bfloat16",
        "The factors are bfloat16, the sum is float32: allow_fp32_to_bf16, or the precision medium.",
        product_of(bfloat16),
        _HIGHEST,
    ),
    _of_products(
        "factors of products in float16",
        "The factors are float16, the sum is float32: allow_fp32_to_fp16.",
        product_of(float16),
        _ORIGIN,
    ),
    _of_products(
        "factors and results of products in float16",
        "The factors and the result are float16, the sum is float32: allow_fp32_to_fp16.",
        product_of(float16, float16),
        _ORIGIN,
    ),
    _of_products(
        "products summed in float16",
        "The factors are float16, and so is the sum after every term.",
        summed_in_float16,
        _ORIGIN,
    ),
    _of_softmax("float16", float16),
    _of_softmax("bfloat16", bfloat16),
    _of_layer_norm("float16", float16),
    _of_layer_norm("bfloat16", bfloat16),
    _of_attention("float16", float16),
    _of_attention("bfloat16", bfloat16),
    _of_every_operator(
        "everything in float16", "Every operator reads and writes float16: force_fp16.", float16, _ORIGIN
    ),
    _of_every_operator(
        "denormal numbers flushed",
        "What is smaller than 1.2e-38 becomes 0, before and behind every operator.",
        flushed,
        "torch.set_flush_denormal(False); compile without -ffast-math",
    ),
)
