"""Tensor operations that the reference does not have: arithmetic, sums, and numbers that only change places.

What only moves numbers, compares them or counts must be the same bit for bit. Everything else is computed in float64,
and in the recorded dtype with the rounding of each operation; 16 bits are computed in float32 and rounded once.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.recorded.operators.expectation import (
    Expectation,
    OperationRuns,
    References,
    Shuffle,
    by_operation,
    decided,
    elementwise,
    exactly,
)
from reference import elementary
from reference.attention import attention_scores, causal_bias, mask_scores
from reference.gradients.attention import attention_scores_vjp, mask_scores_vjp
from reference.gradients.ops import matmul_vjp, softmax_vjp
from reference.ops import matmul, softmax

Array = NDArray[Any]
Given = dict[str, Any]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """A function of each element of one or two arrays, x and y, that broadcast.

    vjp(grad, *arrays): the gradient of each array, before it is summed where that was broadcast. passes: how many of
    the gradients, from the first, are the incoming one itself.
    """

    function: Callable[..., Any]
    vjp: Callable[..., list[Any]] | None = None
    passes: int = 0


def _power_vjp(grad: Array, x: Array, y: Any) -> list[Any]:
    return [grad * (y * x ** (y - 1)), grad * (x**y * elementary.log(x))]


ELEMENTWISE = {
    "add": Elementwise(lambda x, y: x + y, lambda grad, x, y: [grad, grad], 2),
    "subtract": Elementwise(lambda x, y: x - y, lambda grad, x, y: [grad, -grad], 1),
    "multiply": Elementwise(lambda x, y: x * y, lambda grad, x, y: [grad * y, grad * x]),
    "divide": Elementwise(lambda x, y: x / y, lambda grad, x, y: [grad / y, -grad * x / (y * y)]),
    "power": Elementwise(lambda x, y: x**y, _power_vjp),
    "negative": Elementwise(lambda x: -x, lambda grad, x: [-grad]),
    "exp": Elementwise(elementary.exp, lambda grad, x: [grad * elementary.exp(x)]),
    "log": Elementwise(elementary.log, lambda grad, x: [grad / x]),
    "sqrt": Elementwise(np.sqrt, lambda grad, x: [grad / (2 * np.sqrt(x))]),
    "rsqrt": Elementwise(lambda x: 1 / np.sqrt(x), lambda grad, x: [-grad / (2 * x * np.sqrt(x))]),
    "square": Elementwise(lambda x: x * x, lambda grad, x: [grad * (2 * x)]),
}
COMPARISONS: dict[str, Callable[..., Any]] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_not": np.logical_not,
}


def _axis(given: Given, usual: int = 0) -> int:
    return usual if given.get("axis") is None else int(given["axis"])


def _reshape(given: Given, shapes: list[Shape]) -> list[Array]:
    return [given["x"].reshape(shapes[0])]


def _permute(given: Given, shapes: list[Shape]) -> list[Array]:
    order = given.get("order", ())
    order = order[0] if len(order) == 1 and isinstance(order[0], list | tuple) else order
    return [np.transpose(given["x"], [int(axis) for axis in order] or None)]


def _swap(given: Given, shapes: list[Shape]) -> list[Array]:
    x = given["x"]
    if x.ndim < 2:
        return [x]
    return [np.swapaxes(x, int(given.get("first", 0)), int(given.get("second", 1)))]


def _split(given: Given, shapes: list[Shape]) -> list[Array]:
    size, axis = given["size"], _axis(given)
    length = given["x"].shape[axis]
    cuts = np.cumsum(size)[:-1] if isinstance(size, list | tuple) else np.arange(int(size), length, int(size))
    return list(np.split(given["x"], [int(cut) for cut in cuts], axis))


def _chunk(given: Given, shapes: list[Shape]) -> list[Array]:
    each = -(-given["x"].shape[_axis(given)] // int(given["count"]))
    return _split(given | {"size": each}, shapes)


MOVES: dict[str, Callable[[Given, list[Shape]], list[Array]]] = {
    "reshape": _reshape,
    "permute": _permute,
    "swap": _swap,
    "split": _split,
    "chunk": _chunk,
}


def _pad(given: Given) -> Array:
    widths = [int(width) for width in given["widths"]]
    pairs = list(zip(widths[::2], widths[1::2], strict=True))[::-1]  # the last axis comes first
    x, fill = given["x"], given.get("value")
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    return np.pad(x, pairs, constant_values=0 if fill is None else fill)


def _arange(given: Given) -> Array:
    bounds = [given[name] for name in ("start", "end", "step") if given.get(name) is not None]
    return np.arange(*bounds)


def _difference(given: Given) -> Array:
    beside = {name: given[name] for name in ("prepend", "append") if given.get(name) is not None}
    return np.diff(given["x"], axis=_axis(given, -1), **beside)


def _over(function: Callable[..., Any]) -> Callable[[Given], Array]:
    return lambda given: np.asarray(function(given["x"], axis=None if given.get("axis") is None else _axis(given)))


COUNTED: dict[str, Callable[[Given], Array]] = {
    "pad": _pad,
    "arange": _arange,
    "difference": _difference,
    "zeros_like": lambda given: np.zeros_like(given["x"]),
    "ones_like": lambda given: np.ones_like(given["x"]),
    "full_like": lambda given: np.full(given["x"].shape, given["value"]),
    "all": _over(np.all),
    "any": _over(np.any),
    "cumulative_sum": lambda given: np.cumsum(given["x"], axis=_axis(given)),
}
FLOATS_TOO = ("pad", "all", "any", "zeros_like", "ones_like", "full_like")
OTHERS = (
    "baddbmm",
    "broadcast",
    "cast",
    "concatenate",
    "dropout",
    "masked_fill",
    "mean",
    "scaled_dot_product_attention",
    "sum",
    "where",
)
OPERATIONS = {f"tensor.{name}" for name in (*ELEMENTWISE, *COMPARISONS, *MOVES, *COUNTED, *OTHERS)}


def forward(
    function: str, given: Given, shapes: list[Shape], dtypes: list[np.dtype], known: References
) -> list[Expectation]:
    """What is expected of each result of a tensor operation. shapes, dtypes: of the recorded results.

    Raises ValueError, LookupError or TypeError if the arguments do not fit together.
    """
    name = function.removeprefix("tensor.")
    if name in ELEMENTWISE:
        return [_elementwise(ELEMENTWISE[name], _two(given), dtypes[0], known)]
    if name in COMPARISONS:
        return [exactly(np.asarray(COMPARISONS[name](*_two(given))).astype(dtypes[0]))]
    if name in MOVES:
        return [exactly(x) for x in MOVES[name](given, shapes)]
    if name in COUNTED:
        if name not in FLOATS_TOO and any(_is_floats(x) for x in given.values()):
            raise TypeError(f"{name} of floats is not in the table")
        return [exactly(COUNTED[name](given).astype(dtypes[0]))]
    if name in ("sum", "mean"):
        return [_reduction(name, given, shapes[0], dtypes[0], known)]
    if name == "baddbmm":
        return [_products_added(given, dtypes[0], known)]
    if name == "scaled_dot_product_attention":
        return by_operation(_attention(given), [given["q"], given["k"], given["v"]], shapes, dtypes, known.accuracy)
    if name == "dropout":
        return [_dropout(given, given["x"], known)]
    x: Any = given["x"]
    if name == "concatenate":
        return [exactly(np.concatenate(x, _axis(given)))]
    if name == "broadcast":
        return [exactly(np.broadcast_to(x, shapes[0]))]
    if name == "cast":
        with np.errstate(all="ignore"):
            return [exactly(x.astype(dtypes[0]))]
    y = given["y"] if name == "where" else given["value"]
    chosen = (given["condition"], x, y) if name == "where" else (given["mask"], y, x)
    one, other = (np.asarray(each).astype(dtypes[0]) for each in chosen[1:])
    return [exactly(np.where(chosen[0], one, other))]


def backward(
    function: str, given: Given, grads: list[Array | None], shapes: list[Shape], known: References
) -> dict[str, Expectation]:
    """What is expected of the gradients of a tensor operation, by the name of the argument; of a list "x.0", "x.1".

    shapes: of the forward call's results. Raises KeyError for an operation whose gradient the table does not have.
    """
    name, grad = function.removeprefix("tensor."), grads[0]
    if name in MOVES:
        return {"x": exactly(_moved_back(MOVES[name], given, grads, shapes))}
    if grad is None:
        raise ValueError("the gradient of the result is not recorded")
    if name in ELEMENTWISE:
        return _elementwise_backward(ELEMENTWISE[name], _two(given), grad, known)
    if name == "scaled_dot_product_attention":
        arrays = [given["q"], given["k"], given["v"]]
        like = [x.shape for x in arrays], [x.dtype for x in arrays]
        found = by_operation(_attention_vjp(given), [grad, *arrays], *like, known.accuracy)
        return dict(zip("qkv", found, strict=True))
    if name == "dropout":
        return {"x": _dropout(given, grad, known)}
    x = given["x"]
    if name == "baddbmm":
        return _products_added_backward(given, grad, known)
    if name == "cast":
        return {"x": exactly(grad.astype(x.dtype))}
    if name == "broadcast":
        return {"x": _summed_to(grad, x.shape, known)}
    if name == "concatenate":
        cuts = np.cumsum([len(np.moveaxis(each, _axis(given), 0)) for each in x])[:-1]
        pieces = np.split(grad, [int(cut) for cut in cuts], _axis(given))
        return {f"x.{i}": exactly(piece) for i, piece in enumerate(pieces)}
    if name == "masked_fill":
        return {"x": _summed_to(np.where(given["mask"], np.zeros_like(grad), grad), x.shape, known)}
    if name == "where":
        sides = {"x": np.where(given["condition"], grad, np.zeros_like(grad))}
        sides["y"] = np.where(given["condition"], np.zeros_like(grad), grad)
        return {side: _summed_to(sides[side], np.shape(given[side]), known) for side in sides}
    if name in ("sum", "mean"):
        axis = given.get("axis")
        wide = grad if axis is None or given.get("keepdims") else np.expand_dims(grad, axis)
        count = x.size // max(grad.size, 1) if name == "mean" else 1
        return {"x": elementwise(lambda grad: grad / count, [wide], x.shape, known.accuracy)}
    raise KeyError(f"the gradient of {name} is not in the table")


def _two(given: Given) -> list[Any]:
    return [given[name] for name in ("x", "y") if name in given]


def _is_floats(x: Any) -> bool:
    return isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind not in "iub")


def _elementwise(operation: Elementwise, arrays: list[Any], dtype: np.dtype, known: References) -> Expectation:
    if dtype.kind in "iub":
        return exactly(np.asarray(operation.function(*arrays)).astype(dtype))
    shape = np.broadcast_shapes(*(np.shape(x) for x in arrays))
    return elementwise(operation.function, [_floats(x) for x in arrays], shape, known.accuracy)


def _floats(x: Any) -> Any:
    """Integers as float64, which holds all that are recorded in practice."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind in "iub" else x


def _elementwise_backward(
    operation: Elementwise, arrays: list[Any], grad: Array, known: References
) -> dict[str, Expectation]:
    if operation.vjp is None:
        raise KeyError("its gradient is not in the table")
    vjp, expected = operation.vjp, {}
    for which, (name, x) in enumerate(zip("xy", arrays, strict=False)):
        if not isinstance(x, np.ndarray) or not _is_floats(x):
            continue
        if which < operation.passes:
            expected[name] = _summed_to(grad, x.shape, known)
        elif x.shape == grad.shape:
            one = lambda *given, which=which: vjp(*given)[which]  # noqa: E731
            expected[name] = elementwise(one, [grad, *arrays], grad.shape, known.accuracy)
        else:
            expected[name] = _summed_vjp(vjp, which, [grad, *arrays], x.shape, known)
    return expected


def _summed_vjp(
    vjp: Callable[..., list[Any]], which: int, arrays: list[Any], shape: Shape, known: References
) -> Expectation:
    def function(shuffle: Shuffle, *given: Any) -> list[Any]:
        return [_sum_to(shuffle, np.broadcast_to(vjp(*given)[which], given[0].shape), shape)]

    return by_operation(function, arrays, [shape], [arrays[0].dtype], known.accuracy)[0]


def _summed_to(grad: Array, shape: Shape, known: References) -> Expectation:
    """The gradient itself, or its sums where the array had been broadcast."""
    if grad.shape == shape:
        return exactly(grad)
    function = lambda shuffle, grad: [_sum_to(shuffle, grad, shape)]  # noqa: E731
    return by_operation(function, [grad], [shape], [grad.dtype], known.accuracy)[0]


def _sum_to(shuffle: Shuffle, x: Array, shape: Shape) -> Array:
    """The array summed to a shape that broadcasts to its own; what is summed is put in another order first."""
    wide = (1,) * (x.ndim - len(shape)) + shape
    axes = [i for i, (one, other) in enumerate(zip(wide, x.shape, strict=True)) if one == 1 and other != 1]
    return _sum_over(shuffle, x, axes).reshape(shape)


def _sum_over(shuffle: Shuffle, x: Array, axes: list[int]) -> Array:
    kept = [i for i in range(x.ndim) if i not in axes]
    turned = x.transpose(kept + axes)
    rows = turned.reshape(*(x.shape[i] for i in kept), math.prod(x.shape[i] for i in axes))
    return rows[..., shuffle(rows.shape[-1])].sum(axis=-1)


def _reduction(name: str, given: Given, shape: Shape, dtype: np.dtype, known: References) -> Expectation:
    x, axis = given["x"], given.get("axis")
    axes = range(x.ndim) if axis is None or axis == () else axis if isinstance(axis, list | tuple) else [axis]
    summed = sorted(int(each) % x.ndim for each in axes)
    expected = tuple(1 if i in summed else n for i, n in enumerate(x.shape) if i not in summed or given.get("keepdims"))
    if dtype.kind in "iub":
        return exactly(x.sum(axis=tuple(summed)).reshape(expected).astype(dtype))
    count = math.prod(x.shape[i] for i in summed) if name == "mean" else 1

    def function(shuffle: Shuffle, x: Array) -> list[Any]:
        return [(_sum_over(shuffle, x, summed) / count).reshape(expected)]

    return by_operation(function, [_floats(x)], [expected], [dtype], known.accuracy)[0]


def _moved_back(
    move: Callable[[Given, list[Shape]], list[Array]], given: Given, grads: list[Array | None], shapes: list[Shape]
) -> Array:
    """The gradient of an array whose numbers only changed places: each is put back where it came from."""
    x = given["x"]
    places = move(given | {"x": np.arange(x.size).reshape(x.shape)}, shapes)
    back = np.zeros(x.size, next(grad.dtype for grad in grads if grad is not None))
    for place, grad in zip(places, grads, strict=True):
        if grad is not None:
            back[place.ravel()] = grad.ravel()
    return back.reshape(x.shape)


def _dropout(given: Given, x: Array, known: References) -> Expectation:
    """x itself if nothing is dropped; else x / (1 - rate) wherever the recorded result is not 0.

    Which elements were dropped is not recorded: of those that were not, the scale is judged.
    """
    rate = 0.0 if given.get("training") is False else given.get("rate")
    if rate is None:
        raise ValueError("the rate of dropout is not recorded")
    if not rate:
        return exactly(x)

    def judge(value: Array) -> Any:
        kept = value != 0
        function = lambda _, x: [np.where(kept, x / (1 - rate), 0)]  # noqa: E731
        return decided(OperationRuns(function, [x], [value.dtype], known.accuracy), 0, value, value.dtype)

    return Expectation(x.shape, judge)


def _products_added(given: Given, dtype: np.dtype, known: References) -> Expectation:
    x, a, b = (given[name].astype(dtype, copy=False) for name in ("x", "a", "b"))
    shape = (*a.shape[:2], b.shape[2])
    beta, alpha = (1 if given.get(name) is None else given[name] for name in ("beta", "alpha"))

    def function(shuffle: Shuffle, x: Array, a: Array, b: Array) -> list[Any]:
        order = shuffle(a.shape[2])
        scaled = alpha * matmul(a[:, :, order], b[:, order])
        return [scaled + beta * x if beta else scaled]  # of a beta of 0, x does not count, not even NaN

    return by_operation(function, [x, a, b], [shape], [dtype], known.accuracy)[0]


def _products_added_backward(given: Given, grad: Array, known: References) -> dict[str, Expectation]:
    a, b = (given[name].astype(grad.dtype, copy=False) for name in ("a", "b"))
    beta, alpha = (1 if given.get(name) is None else given[name] for name in ("beta", "alpha"))

    def function(shuffle: Shuffle, grad: Array, a: Array, b: Array) -> list[Any]:
        d_a, d_b = matmul_vjp(grad, a, b)
        return [alpha * d_a, alpha * d_b]

    found = by_operation(function, [grad, a, b], [a.shape, b.shape], [grad.dtype] * 2, known.accuracy)
    x = given["x"]
    added = (
        {"x": elementwise(lambda grad: beta * grad, [grad], grad.shape, known.accuracy)}
        if x.shape == grad.shape
        else {}
    )
    return added | dict(zip("ab", found, strict=True))


def _scale_and_mask(given: Given) -> tuple[float, Any, Any]:
    """The divisor of the scores, which keys are visible (None: all), what is added to the scores (None: nothing)."""
    q, k, mask = given["q"], given["k"], given.get("mask")
    if q.ndim != 4 or k.ndim != 4 or q.shape[1] != k.shape[1]:
        raise ValueError(f"attention of queries {q.shape} and keys {k.shape} is not in the table: (B, H, T, D) is")
    scale = math.sqrt(q.shape[-1]) if given.get("scale") is None else 1 / float(given["scale"])
    visible = causal_bias(q.shape[2], k.shape[2]) if given.get("is_causal") else None
    if mask is not None and mask.dtype == bool:
        return scale, mask if visible is None else mask & visible, None
    return scale, visible, mask


def _attention(given: Given) -> Callable[..., list[Any]]:
    scale, visible, added = _scale_and_mask(given)

    def function(shuffle: Shuffle, q: Array, k: Array, v: Array) -> list[Any]:
        return [matmul(softmax(_scores(shuffle, q, k, scale, visible, added)), v)]

    return function


def _scores(shuffle: Shuffle, q: Array, k: Array, scale: float, visible: Any, added: Any) -> Array:
    order = shuffle(q.shape[-1])
    scores = attention_scores(q[..., order], k[..., order], scale)
    scores = scores if added is None else scores + added.astype(scores.dtype)
    return scores if visible is None else mask_scores(scores, visible)


def _attention_vjp(given: Given) -> Callable[..., list[Any]]:
    scale, visible, added = _scale_and_mask(given)

    def function(shuffle: Shuffle, grad: Array, q: Array, k: Array, v: Array) -> list[Any]:
        scores = _scores(shuffle, q, k, scale, visible, added)
        d_weights, d_v = matmul_vjp(grad, softmax(scores), v)
        d_scores = softmax_vjp(d_weights, scores)
        d_scores = d_scores if visible is None else mask_scores_vjp(d_scores, scores, visible)
        return [*attention_scores_vjp(d_scores, q, k, scale), d_v]

    return function
