"""Recorded calls of functions of the reference, forward and backward: what is expected of each of their results.

Leading axes are one: the functions treat every row alike. So rows, or the columns of a weight, are also judged a part
at a time, and a result of 50,257 columns needs little memory.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.recorded.operators.expectation import (
    Expectation,
    References,
    by_operation,
    decided,
    elementwise,
    exactly,
    moved,
    parts,
    worst,
)
from parity.verdict.orbit import MEMBERS
from parity.verdict.steps import EVERY_STEP
from parity.verdict.verdict import Reference, Verdict
from reference.config import ACTIVATIONS
from reference.ops import layer_norm

Array = NDArray[Any]
EPSILON = 1e-5  # GPT-2's, for a norm whose own is not recorded
ROWS = {
    f"ops.{name}" if name in ("gelu_new", "gelu", "relu", "silu") else f"activations.{name}" for name in ACTIVATIONS
}
SOFTMAX = {"ops.softmax", "ops.log_softmax"}
FUNCTIONS = ROWS | SOFTMAX | {
    "ops.conv1d",
    "ops.matmul",
    "ops.layer_norm",
    "ops.cross_entropy",
    "ops.embedding",
}  # fmt: skip


def forward(function: str, given: dict[str, Any], dtype: np.dtype, known: References) -> list[Expectation]:
    """What is expected of each result of a function on these arguments. dtype: that of the recorded result.

    Raises ValueError, LookupError or TypeError if the arguments do not fit together.
    """
    if function == "ops.conv1d":
        x, weight, bias = _lowered(dtype, *_affine_arguments(given))
        return [_affine(x, weight, bias, known)]
    if function == "ops.matmul":
        a, b = _lowered(dtype, given["a"], given["b"])
        return [product(a, b, known)]
    if function == "ops.embedding":
        ids, weight = given["ids"], given["weight"]
        _require_ids(ids, weight)
        return [exactly(weight[ids])]
    if function == "ops.cross_entropy":
        return [_cross_entropy(given, known)]
    if function == "ops.layer_norm":
        x, weight, bias, eps = _norm_arguments(given, dtype)
        rows = {"x": x.reshape(1, -1, weight.size)}
        return [_by_rows(function, rows, {"weight": weight, "bias": bias, "eps": eps}, x.shape, dtype, known)]
    x = np.asarray(given["x"]).astype(dtype, copy=False)
    return [_along(function, {"x": x}, given.get("axis"), dtype, known)]


def backward(
    function: str, given: dict[str, Any], grad: Array, dtype: np.dtype, known: References
) -> dict[str, Expectation]:
    """What is expected of the gradient of each float argument, by its name, from that of the forward call's result.

    dtype: that the gradients are computed in.
    """
    if function == "ops.conv1d":
        x, weight, _ = _lowered(dtype, *_affine_arguments(given))
        rows, grads = x.reshape(-1, x.shape[-1]), grad.astype(dtype, copy=False).reshape(-1, weight.shape[1])
        expected = {"x": _reshaped(product(grads, weight.T, known), x.shape), "weight": product(rows.T, grads, known)}
        return expected | ({"bias": sum_of_rows(grads, known)} if given.get("bias") is not None else {})
    if function == "ops.matmul":
        a, b = _lowered(dtype, given["a"], given["b"])
        return _product_backward(a, b, grad.astype(dtype, copy=False), known)
    if function == "ops.embedding":
        return {"weight": _rows_added(given["ids"], given["weight"], grad, known)}
    if function == "ops.cross_entropy":
        return {"logits": _cross_entropy_backward(given, grad, known)}
    if function == "ops.layer_norm":
        return _norm_backward(given, grad, dtype, known)
    x = np.asarray(given["x"]).astype(dtype, copy=False)
    arguments = {"grad": grad.astype(dtype, copy=False), "x": x}
    return {"x": _along(f"{function}_vjp", arguments, given.get("axis"), dtype, known)}


def product(a: Array, b: Array, known: References) -> Expectation:
    """What is expected of a matrix product, whose leading axes broadcast."""
    a, b, shape = _at_least_matrices(np.asarray(a), np.asarray(b))
    if a.dtype.kind in "iub":
        return exactly(np.matmul(a, b).reshape(shape))
    if b.ndim == 2:
        a = a.reshape(1, -1, a.shape[-1])
        b = b[None]
    else:
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a = np.broadcast_to(a, leading + a.shape[-2:]).reshape(-1, *a.shape[-2:])
        b = np.broadcast_to(b, leading + b.shape[-2:]).reshape(-1, *b.shape[-2:])
    if a.shape[2] != b.shape[1]:
        raise ValueError(f"a product of {a.shape[1:]} and {b.shape[1:]}")
    whole = a.shape[0], a.shape[1], b.shape[2]

    def judge(value: Array) -> Verdict:
        flat, found = value.reshape(whole), []
        for batch in parts(whole[0], whole[1] * whole[2]):
            count = batch.stop - batch.start
            wider = whole[2] > whole[1]  # the larger factor is read once
            for part in parts(whole[2 if wider else 1], count * whole[1 if wider else 2]):
                rows, columns = (slice(None), part) if wider else (part, slice(None))
                arguments = {"a": a[batch, rows], "b": b[batch, :, columns]}
                verdict = known.verdict("ops.matmul", arguments, a.dtype, 0, flat[batch, rows, columns])
                offset = (batch.start, 0 if wider else part.start, part.start if wider else 0)
                found.append(moved(verdict, offset, whole, shape))
        return worst(found)

    return Expectation(shape, judge)


def sum_of_rows(x: Array, known: References) -> Expectation:
    """What is expected of the sum (N) of the rows of an array (rows, N)."""

    def function(shuffle: Any, x: Array) -> list[Any]:
        return [np.ascontiguousarray(x.T)[:, shuffle(len(x))].sum(axis=-1)]

    return by_operation(function, [x], [x.shape[1:]], [x.dtype], known.accuracy)[0]


def _lowered(dtype: np.dtype, *arrays: Any) -> list[Array]:
    """The factors of a product in the dtype of its result: under automatic mixed precision they are cast first."""
    if dtype.kind in "iub":
        return [np.asarray(x) for x in arrays]
    return [np.asarray(x).astype(dtype, copy=False) for x in arrays]


def _affine_arguments(given: dict[str, Any]) -> tuple[Array, Array, Array]:
    x, weight, bias = given["x"], given["weight"], given.get("bias")
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[:1]:
        raise ValueError(f"an affine map of {x.shape} by a weight (in, out) of {weight.shape}")
    return x, weight, np.zeros(weight.shape[1], weight.dtype) if bias is None else bias.reshape(weight.shape[1])


def _affine(x: Array, weight: Array, bias: Array, known: References) -> Expectation:
    rows, outputs = x.reshape(1, -1, x.shape[-1]), weight.shape[1]
    shape, whole = (*x.shape[:-1], outputs), (1, rows.shape[1], outputs)
    wider = outputs > rows.shape[1]

    def judge(value: Array) -> Verdict:
        flat, found = value.reshape(whole), []
        for part in parts(whole[2 if wider else 1], whole[1 if wider else 2]):
            at, columns = (slice(None), part) if wider else (part, slice(None))
            arguments = {"x": rows[:, at], "weight": weight[:, columns], "bias": bias[columns]}
            verdict = known.verdict("ops.conv1d", arguments, x.dtype, 0, flat[:, at, columns])
            found.append(moved(verdict, (0, 0, part.start) if wider else (0, part.start, 0), whole, shape))
        return worst(found)

    return Expectation(shape, judge)


def _product_backward(a: Array, b: Array, grad: Array, known: References) -> dict[str, Expectation]:
    if min(a.ndim, b.ndim) < 2:
        raise ValueError("the gradients of a product of vectors are not in the table")
    if b.ndim == 2:
        rows, grads = a.reshape(-1, a.shape[-1]), grad.reshape(-1, b.shape[1])
        return {"a": _reshaped(product(grads, b.T, known), a.shape), "b": product(rows.T, grads, known)}
    if a.shape[:-2] != b.shape[:-2]:
        raise ValueError("the gradients of a product whose leading axes broadcast are not in the table")
    return {"a": product(grad, b.swapaxes(-1, -2), known), "b": product(a.swapaxes(-1, -2), grad, known)}


def _reshaped(expected: Expectation, shape: tuple[int, ...]) -> Expectation:
    def judge(value: Array) -> Verdict:
        return moved(expected.judge(value.reshape(expected.shape)), (0,) * len(expected.shape), expected.shape, shape)

    return Expectation(shape, judge, expected.name)


def _at_least_matrices(a: Array, b: Array) -> tuple[Array, Array, tuple[int, ...]]:
    """Both factors with at least two axes, and the shape of their product."""
    matrices = a if a.ndim > 1 else a[None], b if b.ndim > 1 else b[:, None]
    leading = np.broadcast_shapes(matrices[0].shape[:-2], matrices[1].shape[:-2])
    return (*matrices, (*leading, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())))


def _along(function: str, arrays: dict[str, Array], axis: Any, dtype: np.dtype, known: References) -> Expectation:
    """A function of the rows along an axis, which is the last unless it is given."""
    shape = arrays["x"].shape
    if isinstance(axis, list | tuple):
        (axis,) = axis
    if axis is not None and shape:
        arrays = {name: np.moveaxis(x, int(axis), -1) for name, x in arrays.items()}
    turned = arrays["x"].shape
    last = turned[-1] if turned else 1
    rows = {name: x.reshape(1, -1, last) for name, x in arrays.items()}
    expected = _by_rows(function, rows, {}, turned, dtype, known)
    if turned == shape and (axis is None or int(axis) % len(shape) == len(shape) - 1):
        return expected
    return Expectation(shape, lambda value: expected.judge(np.moveaxis(value, int(axis), -1)))


def _by_rows(
    function: str,
    rows: dict[str, Array],
    others: dict[str, Any],
    shape: tuple[int, ...],
    dtype: np.dtype,
    known: References,
) -> Expectation:
    """A function that treats every row of arrays (1, rows, N) alike, with a result of the same shape."""
    whole = next(iter(rows.values())).shape
    if any(x.shape != whole for x in rows.values()):
        raise ValueError("two arguments of unequal shapes")

    def judge(value: Array) -> Verdict:
        flat, found = value.reshape(whole), []
        for part in parts(whole[1], whole[2]):
            arguments = {name: x[:, part] for name, x in rows.items()} | others
            verdict = known.verdict(function, arguments, dtype, 0, flat[:, part])
            found.append(moved(verdict, (0, part.start, 0), whole, shape))
        return worst(found)

    return Expectation(shape, judge)


def _norm_arguments(given: dict[str, Any], dtype: np.dtype) -> tuple[Array, Array, Array, float]:
    x, weight, bias = given["x"], given.get("weight"), given.get("bias")
    size = math.prod(given["shape"]) if given.get("shape") else weight.size if weight is not None else x.shape[-1]
    weight = np.ones(size, dtype) if weight is None else weight.reshape(size)
    bias = np.zeros(size, dtype) if bias is None else bias.reshape(size)
    eps = given.get("eps")
    return x.astype(dtype, copy=False), weight, bias, EPSILON if eps is None else float(eps)


def _norm_backward(given: dict[str, Any], grad: Array, dtype: np.dtype, known: References) -> dict[str, Expectation]:
    x, weight, bias, eps = _norm_arguments(given, dtype)
    rows = {"grad": grad.astype(dtype, copy=False).reshape(1, -1, weight.size), "x": x.reshape(1, -1, weight.size)}
    arguments = rows | {"weight": weight, "bias": bias, "eps": eps}
    shapes = {"x": x.shape, "weight": weight.shape, "bias": bias.shape}

    def expectation(which: int, shape: tuple[int, ...]) -> Expectation:
        own = rows["x"].shape if which == 0 else shape

        def judge(value: Array) -> Verdict:
            verdict = known.verdict("ops.layer_norm_vjp", arguments, dtype, which, value.reshape(own))
            if not verdict.agrees and which and dtype.itemsize == 2 and EVERY_STEP in known.accuracy:
                summed = known.runs("ops.layer_norm_vjp", arguments, dtype).references(MEMBERS)[which]
                flat = {name: x[0] for name, x in rows.items()}
                scaled = layer_norm(flat["x"], np.ones_like(weight), np.zeros_like(bias), eps) if which == 1 else 1
                kept_in_16_bits = np.add.reduce((flat["grad"] * scaled).astype(dtype), axis=0)  # row after row
                verdict = dataclasses.replace(summed, orbit=[*summed.orbit, kept_in_16_bits]).judge(value)
            return moved(verdict, (0,) * len(own), own, shape)

        return Expectation(shape, judge)

    expected = {name: expectation(which, shape) for which, (name, shape) in enumerate(shapes.items())}
    return {name: x for name, x in expected.items() if name == "x" or given.get(name) is not None}


def _rows_added(ids: Array, weight: Array, grad: Array, known: References) -> Expectation:
    """The gradient of looked-up rows, some columns at a time."""
    _require_ids(ids, weight)
    flat_ids, grads = ids.reshape(1, -1), grad.reshape(1, ids.size, weight.shape[1])

    def judge(value: Array) -> Verdict:
        found = []
        for part in parts(weight.shape[1], weight.shape[0]):
            arguments = {"grad": grads[:, :, part], "ids": flat_ids, "weight": weight[:, part]}
            verdict = known.verdict("ops.embedding_vjp", arguments, weight.dtype, 0, value[:, part])
            found.append(moved(verdict, (0, part.start), weight.shape, weight.shape))
        return worst(found)

    return Expectation(weight.shape, judge)


def _require_ids(ids: Array, weight: Array) -> None:
    if ids.dtype.kind not in "iu" or weight.ndim != 2:
        raise ValueError(f"rows of {weight.shape} looked up by {ids.dtype}")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(weight):
        raise ValueError(f"ids from {ids.min()} to {ids.max()} for {len(weight)} rows")


def _scored_rows(given: dict[str, Any]) -> tuple[Array, Array, int]:
    """Logits (1, rows, V), labels (1, rows), and the label that is ignored."""
    logits, labels = given["logits"], given["labels"]
    if labels.dtype.kind not in "iu" or logits.ndim not in (labels.ndim + 1, 2) or logits.ndim > 2:
        raise ValueError(f"cross-entropy of logits {logits.shape} and labels {labels.dtype} {labels.shape}")
    ignored = given.get("ignore_index")
    ignored = -100 if ignored is None else int(ignored)
    scored = labels[labels != ignored]
    if not scored.size:
        raise ValueError("no label is scored, and frameworks differ in what the mean of no losses is")
    if not 0 <= int(scored.min()) <= int(scored.max()) < logits.shape[-1]:
        raise ValueError(f"labels from {scored.min()} to {scored.max()} for {logits.shape[-1]} logits")
    return logits[None], labels.reshape(1, -1), ignored


class _MeanOfLosses:
    """The mean loss of all rows, from the mean losses of some rows at a time, weighed by how many are scored."""

    def __init__(self, given: dict[str, Any], known: References) -> None:
        self._logits, self._labels, self._ignored = _scored_rows(given)
        self._known = known

    def references(self, most: int) -> list[Reference]:
        """The reference of the loss."""
        rows, size = self._logits.shape[1:]
        found: list[tuple[int, Reference]] = []
        for part in parts(rows, size):
            labels = self._labels[:, part]
            arguments = {"logits": self._logits[:, part], "labels": labels, "ignore_index": self._ignored}
            runs = self._known.runs("ops.cross_entropy", arguments, self._logits.dtype)
            found.append((int((labels != self._ignored).sum()), runs.references(most)[0]))
        total = max(sum(count for count, _ in found), 1)

        def mean(losses: list[Array]) -> Array:
            weighed = [loss * (count / total) for (count, _), loss in zip(found, losses, strict=True)]
            return np.sum(weighed, axis=0).astype(losses[0].dtype)

        members = zip(*(reference.orbit for _, reference in found), strict=True)
        first = found[0][1]
        return [Reference(mean([x.oracle for _, x in found]), [mean(list(x)) for x in members], terms=first.terms)]


def _cross_entropy(given: dict[str, Any], known: References) -> Expectation:
    runs = _MeanOfLosses(given, known)
    return Expectation((), lambda value: decided(runs, 0, value, value.dtype))


def _cross_entropy_backward(given: dict[str, Any], grad: Array, known: References) -> Expectation:
    logits, labels, ignored = _scored_rows(given)
    total, shape = max(int((labels != ignored).sum()), 1), given["logits"].shape

    def judge(value: Array) -> Verdict:
        if known.framework == "pytorch" and _is_zero_beside(value, labels[0], ignored):
            return _loss_of_log_softmax(labels[0], ignored, grad, shape, known).judge(value)
        found = []
        for part in parts(shape[0], shape[1]):
            scored = max(int((labels[:, part] != ignored).sum()), 1)
            # the vjp divides by what is scored among these rows; in float64, since it is a factor and no input
            share = np.asarray(grad, np.float64).reshape(()) * scored / total
            arguments = {"grad": share, "logits": logits[:, part], "labels": labels[:, part], "ignore_index": ignored}
            verdict = known.verdict("ops.cross_entropy_vjp", arguments, logits.dtype, 0, value[None, part])
            found.append(moved(verdict, (0, part.start, 0), logits.shape, shape))
        return worst(found)

    return Expectation(shape, judge)


def _is_zero_beside(value: Array, labels: Array, ignored: int) -> bool:
    """Whether every number is 0 that is not at the label of its row."""
    rows = np.flatnonzero(labels != ignored)
    return int(np.count_nonzero(value)) == int(np.count_nonzero(value[rows, labels[rows]]))


def _loss_of_log_softmax(
    labels: Array, ignored: int, grad: Array, shape: tuple[int, ...], known: References
) -> Expectation:
    """The gradient of the loss by the logarithms of softmax: -grad / count at each scored label, 0 elsewhere.

    PyTorch computes cross_entropy in two steps, log_softmax and nll_loss, and hooks the last alone. The gradient by
    the logits is 0 beside the labels only where softmax is.
    """
    rows, total = np.flatnonzero(labels != ignored), max(int((labels != ignored).sum()), 1)
    chosen = elementwise(lambda grad: -grad / total, [np.broadcast_to(grad, rows.shape)], rows.shape, known.accuracy)

    def judge(value: Array) -> Verdict:
        verdict = chosen.judge(value[rows, labels[rows]])
        at = verdict.index[0] if verdict.index else 0
        return dataclasses.replace(verdict, index=(int(rows[at]), int(labels[rows[at]])))

    return Expectation(shape, judge)
