"""What a dump without numbers still tells: the statistics of a result that follow from those of the arguments.

Every rule is a bound that all correct implementations keep, so it proves little: numbers that changed places, and
wrong numbers within the bounds, are not seen. u is half the distance from 1 to the next number of the recorded dtype, n
the count of a tensor's numbers.

Proofs. *Moved numbers* (reshape, transpose, split, dropout that is off) are the same numbers: Max and Min are equal.
A sum of n numbers in any order errs by at most (n - 1) u times the sum of their absolute values to first order (Higham
2002, equation 4.4), which is at most sqrt(n) times the Norm: so two Means differ by at most 2 n u Norm / sqrt(n), and
two Norms, whose squares are sums of n numbers that are not negative, by at most 2 (n + 2) u Norm.
*Rows looked up* are rows of the weight, so no number is beyond its Max or Min.
*Monotone functions* (tanh, exp, sqrt, sigmoid, relu, a sum with or a product by a plain number): the largest result is
that of the largest argument, up to the error that the framework is known for. *A sum of two arrays* is at most the sum
of both Max, since rounding is monotone.
*softmax*: no number is below 0 or above 1, and the Mean is 1 / N of a row of N, up to the rounding of N + 3 operations
for a row, and of the Mean itself.
*LayerNorm*: the squares of a normed row of C numbers sum up to at most C, so none is beyond sqrt(C), and no result
beyond sqrt(C) max|gain| + max|bias|.
*Products*: the Norm of a product is at most the product of the Norms (Cauchy and Schwarz, for each element), a bias
adds at most its own Norm for every row, and no element is beyond the Norm of all.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from gpt2.backends import numpy_dtype
from parity.recorded.judgement import CallJudgement
from parity.recorded.operators import Bound
from parity.recorded.recording import Call, RecordedTensor, is_float, tensors
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, Verdict, ulp

NOTHING_FOLLOWS = "the dump holds statistics alone, from which nothing follows for its result"


@dataclasses.dataclass(frozen=True)
class _Limit:
    """A statistic of a result, and the bounds that it keeps. slack: by how much rounding may carry it beyond."""

    statistic: str
    value: float | None
    low: float = -math.inf
    high: float = math.inf
    slack: float = 0.0

    def verdict(self, dtype: np.dtype) -> Verdict | None:
        """The verdict, or None if one of the numbers is not known."""
        known = [self.value, self.slack] + [x for x in (self.low, self.high) if not math.isinf(x)]
        if self.value is None or len(known) < 3 or not all(x is not None and math.isfinite(x) for x in known):
            return None
        nearest = min(max(self.value, self.low), self.high)
        error, unit = abs(self.value - nearest), float(ulp(np.array(nearest), dtype))
        agrees = error <= self.slack + ULP_TERM * unit
        return Verdict(agrees, error, self.slack / NOISE_FACTOR, unit, (), self.value, nearest, name=self.statistic)


def judge(call: Call, bound: Bound | str, function: str, accuracy: Mapping[str, float]) -> CallJudgement:
    """The judgement on a call of which only statistics were recorded. accuracy: of the elementary functions."""
    if isinstance(bound, str) or call.is_backward:
        return CallJudgement(call, function, reason=NOTHING_FOLLOWS)
    verdicts = []
    for result, limits in _limits(call, bound, accuracy):
        dtype = numpy_dtype(result.dtype) if is_float(result) else np.dtype(np.float64)
        verdicts += [verdict for limit in limits if (verdict := limit.verdict(dtype)) is not None]
    if not verdicts:
        return CallJudgement(call, function, reason=NOTHING_FOLLOWS)
    return CallJudgement(call, function, tuple(verdicts), by_statistics=True)


def _limits(call: Call, bound: Bound, accuracy: Mapping[str, float]) -> Iterator[tuple[RecordedTensor, list[_Limit]]]:
    """The limits of each result for which a rule is known."""
    results = list(tensors(call.results))
    name, given = bound.function.partition(".")[2], bound.arguments
    x, y = given.get("x", given.get("a")), given.get("y")
    if not results:
        return
    result = results[0]
    if name == "embedding" and isinstance(given.get("weight"), RecordedTensor):
        yield result, _within(result, given["weight"])
    if not isinstance(x, RecordedTensor):
        return
    is_off = name == "dropout" and (given.get("training") is False or given.get("rate") == 0)
    if name in ("reshape", "permute", "swap") or is_off:
        yield result, _same_numbers(result, x, same_order=name not in ("permute", "swap"))
    elif name in ("split", "chunk"):
        for each in results:
            yield each, _within(each, x)
    elif name in MONOTONE:
        yield result, _at_ends(result, x, MONOTONE[name], accuracy.get(name, 0.0))
    elif name in ("add", "subtract", "multiply", "divide") and isinstance(y, int | float):
        yield result, _with_number(name, result, x, float(y))
    elif name == "add" and isinstance(y, RecordedTensor):
        yield result, _sum(result, x, y)
    elif name == "softmax":
        yield result, _shares(result, given.get("axis"))
    elif name == "layer_norm" and isinstance(given.get("weight"), RecordedTensor):
        yield result, _normed(result, given["weight"], given.get("bias"))
    elif name in ("matmul", "conv1d"):
        yield result, _product(result, x, given.get("weight", given.get("b")), given.get("bias"))


def _unit(tensor: RecordedTensor) -> float:
    """u of the tensor's dtype, of float32 at best: statistics may be computed in it."""
    info = ml_dtypes.finfo(numpy_dtype(tensor.dtype) if is_float(tensor) else np.float32)  # type: ignore[no-untyped-call]
    return max(float(info.eps), float(np.finfo(np.float32).eps)) / 2


def _same_numbers(result: RecordedTensor, x: RecordedTensor, same_order: bool) -> list[_Limit]:
    was, now, n, u = x.statistics, result.statistics, math.prod(x.shape), _unit(x)
    if same_order and was.md5 is not None and now.md5 is not None:
        return [_Limit("md5", float(was.md5 != now.md5), 0.0, 0.0)]
    limits = [_equal("Max", now.max, was.max), _equal("Min", now.min, was.min)]
    norm = was.norm
    if norm is not None and is_float(x):
        limits.append(_equal("Mean", now.mean, was.mean, 2 * n * u * norm / math.sqrt(max(n, 1))))
        limits.append(_equal("Norm", now.norm, norm, 2 * (n + 2) * u * norm))
    return limits


def _equal(statistic: str, value: float | None, expected: float | None, slack: float = 0.0) -> _Limit:
    if expected is None:
        return _Limit(statistic, None)
    return _Limit(statistic, value, expected, expected, slack)


def _within(result: RecordedTensor, x: RecordedTensor) -> list[_Limit]:
    low, high = x.statistics.min, x.statistics.max
    if low is None or high is None:
        return []
    now = result.statistics
    return [_Limit("Max", now.max, low, high), _Limit("Min", now.min, low, high)]


MONOTONE: dict[str, Callable[[float], Any]] = {
    "tanh": np.tanh,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: max(x, 0.0),
}


def _at_ends(
    result: RecordedTensor, x: RecordedTensor, function: Callable[[float], Any], error: float = 0.0
) -> list[_Limit]:
    was, now = x.statistics, result.statistics
    if was.max is None or was.min is None or not is_float(result):
        return []
    with np.errstate(all="ignore"):
        ends = sorted((float(function(was.min)), float(function(was.max))))
    return [
        _equal("Max", now.max, ends[1], error * abs(ends[1])),
        _equal("Min", now.min, ends[0], error * abs(ends[0])),
    ]


def _with_number(name: str, result: RecordedTensor, x: RecordedTensor, y: float) -> list[_Limit]:
    operations: dict[str, Callable[[float], float]] = {
        "add": lambda end: end + y,
        "subtract": lambda end: end - y,
        "multiply": lambda end: end * y,
        "divide": lambda end: end / y if y else math.nan,
    }
    limits = _at_ends(result, x, operations[name])
    # the plain number is rounded to the dtype, which shows where the sum nearly cancels
    slack = 2 * abs(y) * _unit(result) if name in ("add", "subtract") else 0.0
    return [dataclasses.replace(limit, slack=slack) for limit in limits]


def _sum(result: RecordedTensor, x: RecordedTensor, y: RecordedTensor) -> list[_Limit]:
    one, other, now = x.statistics, y.statistics, result.statistics
    if one.max is None or one.min is None or other.max is None or other.min is None:
        return []
    low, high = one.min + other.min, one.max + other.max
    return [_Limit("Max", now.max, low, high), _Limit("Min", now.min, low, high)]


def _shares(result: RecordedTensor, axis: Any) -> list[_Limit]:
    now, n, u = result.statistics, math.prod(result.shape), _unit(result)
    if not n or isinstance(axis, list | tuple):
        return []
    length = result.shape[-1 if axis is None else int(axis)]
    info = ml_dtypes.finfo(numpy_dtype(result.dtype))  # type: ignore[no-untyped-call]
    slack = (n + length + 3) * u / length + float(info.smallest_normal)  # what is smaller may be cut to 0
    limits = [_Limit("Max", now.max, 0.0, 1.0), _Limit("Min", now.min, 0.0, 1.0)]
    return [*limits, _equal("Mean", now.mean, 1 / length, slack)]


def _normed(result: RecordedTensor, weight: RecordedTensor, bias: Any) -> list[_Limit]:
    gain, shift = _largest(weight), _largest(bias) if isinstance(bias, RecordedTensor) else 0.0
    if gain is None or shift is None:
        return []
    size = math.prod(weight.shape)
    high = math.sqrt(size) * gain + shift
    slack = (size + 10) * _unit(result) * high
    now = result.statistics
    return [_Limit("Max", now.max, -high, high, slack), _Limit("Min", now.min, -high, high, slack)]


def _largest(tensor: RecordedTensor) -> float | None:
    """The largest absolute value."""
    low, high = tensor.statistics.min, tensor.statistics.max
    return None if low is None or high is None else max(abs(low), abs(high))


def _product(result: RecordedTensor, a: RecordedTensor, b: Any, bias: Any) -> list[_Limit]:
    norms = [x.statistics.norm for x in (a, b, bias) if isinstance(x, RecordedTensor)]
    if not isinstance(b, RecordedTensor) or any(norm is None for norm in norms):
        return []
    sizes = [float(norm) for norm in norms if norm is not None]
    rows = math.prod(result.shape[:-1])
    high = sizes[0] * sizes[1] + (math.sqrt(rows) * sizes[2] if len(sizes) > 2 else 0.0)
    counts = math.prod(a.shape) + math.prod(b.shape) + math.prod(result.shape) + a.shape[-1] + 10
    slack, now = counts * _unit(result) * high, result.statistics
    return [
        _Limit("Norm", now.norm, 0.0, high, slack),
        _Limit("Max", now.max, -high, high, slack),
        _Limit("Min", now.min, -high, high, slack),
    ]
