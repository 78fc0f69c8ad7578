"""Calls as a reader returns them, with results that NumPy computed by other formulas than the reference's."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.recorded.recording import Call, RecordedRun, RecordedTensor, Statistics

Array = NDArray[Any]
B, T, C, N, H, V = 2, 5, 8, 12, 2, 11


def tensor(x: Any, with_numbers: bool = True) -> RecordedTensor:
    """An array as a recorded tensor."""
    x = np.asarray(x)
    wide = x.astype(np.float64)
    statistics = Statistics(float(wide.max()), float(wide.min()), float(wide.mean()), float(np.linalg.norm(wide)))
    return RecordedTensor(x.dtype.name, x.shape, statistics, "file", (lambda: x) if with_numbers else None)


def recorded(value: Any) -> Any:
    """A value with its arrays as recorded tensors."""
    if isinstance(value, np.ndarray):
        return tensor(value)
    return type(value)(recorded(entry) for entry in value) if isinstance(value, list | tuple) else value


def call(operator: str, arguments: Any, results: Any, path: str = "", **more: Any) -> Call:
    """A forward call."""
    name = f"Module.{path}.{operator}.forward.0" if path else f"Functional.{operator}.0.forward"
    more["keywords"] = {key: recorded(x) for key, x in more.get("keywords", {}).items()}
    more["parameters"] = {key: tensor(x) for key, x in more.get("parameters", {}).items()}
    return Call(
        more.pop("name", name),
        operator,
        path,
        False,
        0,
        recorded(tuple(arguments)),
        results=recorded(tuple(results)),
        **more,
    )


def backward(forward: Call, grads: Any, results: Any) -> Call:
    """The backward call of a forward call."""
    name = forward.name.replace("forward", "backward")
    return Call(name, forward.operator, forward.path, True, 0, recorded(tuple(grads)), results=recorded(tuple(results)))


def run(*calls: Call, framework: str = "pytorch", **more: Any) -> RecordedRun:
    """A run of these calls."""
    return RecordedRun(framework, "mix", "tensor", calls=calls, **more)


def with_result(call_: Call, which: int, x: Array) -> Call:
    """The call with another array as one of its results."""
    results = list(call_.results)
    results[which] = tensor(x)
    return dataclasses.replace(call_, results=tuple(results))


class Numbers:
    """Arrays in one dtype, and functions of them computed in float64 and rounded once."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype, self.random = np.dtype(dtype), np.random.default_rng(0)

    def __call__(self, *shape: int) -> Array:
        """Random numbers of that shape."""
        return self.random.standard_normal(shape).astype(self.dtype)

    def round(self, x: Any) -> Array:
        """A float64 result in the dtype."""
        return np.asarray(x).astype(self.dtype)


def wide(*arrays: Array) -> list[Array]:
    """The arrays in float64."""
    return [x.astype(np.float64) for x in arrays]


def softmax(x: Array) -> Array:
    """Softmax, without the shift by the maximum."""
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def gelu_new(x: Array) -> Array:
    """The tanh form by way of the logistic function."""
    return x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def forward_calls(n: Numbers) -> dict[str, tuple[str, Call]]:
    """Correct calls of many kinds by name, each with its framework."""
    x, weight, bias, turned = n(B, T, C), n(C, N), n(N), n(N, C)
    gain, shift, wte, q, k, v = n(C), n(C), n(V, C), n(B, H, T, 4), n(B, H, T, 4), n(B, H, T, 4)
    ids, logits, labels = n.random.integers(0, V, (B, T)), n(B * T, V), n.random.integers(0, V, B * T)
    labels[2] = -100
    wx, ww, wb, wt, wg, ws, wl, wq, wk, wv = wide(x, weight, bias, turned, gain, shift, logits, q, k, v)
    affine = n.round(wx @ ww + wb)
    norm = (wx - wx.mean(-1, keepdims=True)) / np.sqrt(wx.var(-1, keepdims=True) + 1e-5) * wg + ws
    surprise = -np.log(softmax(wl))[np.arange(B * T), np.maximum(labels, 0)][labels >= 0].mean()
    mask = ~np.tri(T, dtype=bool)
    scores = wq @ wk.swapaxes(-1, -2) / 2
    hidden = np.where(mask, -np.inf, scores)
    rows = x.reshape(-1, C)
    return {
        "conv1d": (
            "pytorch",
            call("Conv1D", [x], [affine], "h.0.mlp.c_fc", parameters={"weight": weight, "bias": bias}),
        ),
        "addmm": ("pytorch", call("addmm", [bias, rows, weight], [affine.reshape(-1, N)])),
        "linear": ("pytorch", call("linear", [x, turned, bias], [n.round(wx @ wt.T + wb)])),
        "dense": ("mindspore", call("Dense", [x], [n.round(wx @ wt.T)], "head", parameters={"weight": turned})),
        "matmul": ("pytorch", call("matmul", [q, k.swapaxes(-1, -2)], [n.round(wq @ wk.swapaxes(-1, -2))])),
        "matmul of rows": ("mindspore", call("MatMul", [rows, weight], [n.round(rows.astype(float) @ ww)])),
        "layer_norm": ("pytorch", call("layer_norm", [x, [C], gain, shift, 1e-5], [n.round(norm)])),
        "LayerNorm": ("mindspore", call("LayerNorm", [x, gain, shift], [n.round(norm), n(B, T, 1), n(B, T, 1)])),
        "norm by name": (
            "mindspore",
            call("Norm", [x], [n.round(norm)], "h.0.ln_1", parameters={"gamma": gain, "beta": shift}),
        ),
        "softmax": ("pytorch", call("softmax", [x], [n.round(softmax(wx))], keywords={"dim": -1})),
        "softmax of columns": (
            "pytorch",
            call("softmax", [x, 1], [n.round(softmax(wx.swapaxes(1, 2)).swapaxes(1, 2))]),
        ),
        "log_softmax": ("mindspore", call("log_softmax", [x, -1], [n.round(np.log(softmax(wx)))])),
        "cross_entropy": ("pytorch", call("cross_entropy", [logits, labels], [np.array(surprise, np.float32)])),
        "gelu": ("pytorch", call("gelu", [x], [n.round(wx * np.vectorize(math.erfc)(-wx / math.sqrt(2)) / 2)])),
        "gelu_new": ("mindspore", call("gelu", [x], [n.round(gelu_new(wx))], keywords={"approximate": "tanh"})),
        "NewGELUActivation": ("pytorch", call("NewGELUActivation", [x], [n.round(gelu_new(wx))], "h.0.mlp.act")),
        "silu": ("pytorch", call("silu", [x], [n.round(wx / (1 + np.exp(-wx)))])),
        "tanh": ("pytorch", call("tanh", [x], [n.round(np.tanh(wx))])),
        "embedding": ("pytorch", call("embedding", [ids, wte], [wte[ids]])),
        "gather": ("mindspore", call("gather", [wte, ids, 0], [wte[ids]])),
        "add": ("pytorch", call("__add__", [x, shift], [n.round(wx + ws)])),
        "rsub": ("pytorch", call("__rsub__", [x, 1.0], [n.round(1 - wx)])),
        "mul": ("pytorch", call("__mul__", [x, 0.5], [n.round(wx / 2)])),
        "truediv": ("mindspore", call("__truediv__", [x, 2.5], [n.round(wx / 2.5)])),
        "pow": ("pytorch", call("pow", [x, 3.0], [n.round(wx * wx * wx)])),
        "mean": ("pytorch", call("mean", [x], [n.round(wx.mean(1))], keywords={"dim": 1})),
        "sum": ("pytorch", call("sum", [x, -1], [n.round(wx.sum(-1))])),
        "reshape": ("mindspore", call("reshape", [x, B, T, H, 4], [x.reshape(B, T, H, 4)])),
        "permute": ("mindspore", call("transpose", [q, 0, 2, 1, 3], [q.transpose(0, 2, 1, 3)])),
        "swap": ("pytorch", call("transpose", [q, 1, 2], [q.transpose(0, 2, 1, 3)])),
        "split": ("mindspore", call("split", [x, 4, 2], [x[..., :4], x[..., 4:]])),
        "concatenate": ("pytorch", call("cat", [[x, x]], [np.concatenate([x, x], -1)], keywords={"dim": -1})),
        "masked_fill": (
            "mindspore",
            call("masked_fill", [n.round(scores), mask, -9.0], [n.round(np.where(mask, -9.0, scores))]),
        ),
        "where": ("pytorch", call("where", [mask, n.round(scores), 0.0], [n.round(np.where(mask, scores, 0))])),
        "cast": ("pytorch", call("float", [x.astype(np.float16)], [x.astype(np.float16).astype(np.float32)])),
        "dropout that is off": ("pytorch", call("dropout", [x, 0.1, False], [x])),
        "dropout": ("pytorch", call("dropout", [x, 0.5, True], [n.round(np.where(wx > 0, 2 * wx, 0))])),
        "comparison": ("pytorch", call("__le__", [ids, ids[:, :1]], [ids <= ids[:, :1]])),
        "count": ("pytorch", call("cumsum", [ids > 3, -1], [np.cumsum(ids > 3, -1)])),
        "scaled_dot_product_attention": (
            "pytorch",
            call(
                "scaled_dot_product_attention", [q, k, v], [n.round(softmax(hidden) @ wv)], keywords={"is_causal": True}
            ),
        ),
    }


def backward_calls(n: Numbers) -> dict[str, tuple[str, Call, Call]]:
    """Correct backward calls of many kinds by name, each with its framework and its forward call."""
    calls = {name: each for name, (_, each) in forward_calls(n).items()}
    frameworks = {name: framework for name, (framework, _) in forward_calls(Numbers()).items()}
    grad = n(B, T, C)
    found: dict[str, tuple[Call, list[Array], list[Any]]] = {}

    def numbers(name: str) -> list[Array]:
        return wide(*(x.numbers() for x in (*calls[name].arguments,) if isinstance(x, RecordedTensor)))

    g = grad.astype(np.float64)
    g_affine = n(B * T, N)
    wide_affine = g_affine.astype(np.float64)
    _, rows, weight = numbers("addmm")
    found["addmm"] = (
        calls["addmm"],
        [g_affine],
        [n.round(wide_affine.sum(0)), n.round(wide_affine @ weight.T), n.round(rows.T @ wide_affine)],
    )
    x, turned, _ = numbers("linear")
    d_turned = n.round(wide_affine.T @ x.reshape(-1, C))
    found["linear"] = (
        calls["linear"],
        [g_affine.reshape(B, T, N)],
        [n.round(wide_affine @ turned).reshape(x.shape), d_turned, n.round(wide_affine.sum(0))],
    )
    found["last step of linear"] = calls["linear"], [g_affine.reshape(B, T, N)], [g_affine]
    a, b = numbers("matmul")
    g_scores = n(B, H, T, T)
    found["matmul"] = (
        calls["matmul"],
        [g_scores],
        [n.round(g_scores.astype(float) @ b.swapaxes(-1, -2)), n.round(a.swapaxes(-1, -2) @ g_scores.astype(float))],
    )
    x, gain, _ = numbers("LayerNorm")
    size = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    normed, inner = (x - x.mean(-1, keepdims=True)) / size, g * gain
    d_x = (inner - inner.mean(-1, keepdims=True) - normed * (inner * normed).mean(-1, keepdims=True)) / size
    d_gain, d_shift = n.round((g * normed).sum((0, 1))), n.round(g.sum((0, 1)))
    found["layer_norm"] = calls["layer_norm"], [grad], [n.round(d_x), d_gain, d_shift]
    found["LayerNorm"] = calls["LayerNorm"], [grad], [d_shift, d_gain, n.round(d_x)]
    y = softmax(x)
    found["softmax"] = calls["softmax"], [grad], [n.round(y * (g - (g * y).sum(-1, keepdims=True)))]
    found["log_softmax"] = calls["log_softmax"], [grad], [n.round(g - y * g.sum(-1, keepdims=True))]
    logits, labels = (each.numbers() for each in calls["cross_entropy"].arguments)
    one_hot = (labels[:, None] == np.arange(V)) / (labels >= 0).sum()
    d_logits = np.where(labels[:, None] >= 0, softmax(logits.astype(np.float64)) / (labels >= 0).sum() - one_hot, 0)
    found["cross_entropy"] = calls["cross_entropy"], [np.ones((), np.float32)], [n.round(d_logits), None]
    found["last step of cross_entropy"] = calls["cross_entropy"], [np.ones((), np.float32)], [n.round(-one_hot)]
    step = 1e-5
    slope = (gelu_new(x + step) - gelu_new(x - step)) / (2 * step)  # of error 1e-10
    found["gelu_new"] = calls["gelu_new"], [grad], [n.round(g * slope)]
    found["tanh"] = calls["tanh"], [grad], [n.round(g / np.cosh(x) ** 2)]
    ids, wte = (each.numbers() for each in calls["embedding"].arguments)
    d_wte = np.zeros(wte.shape)
    np.add.at(d_wte, ids, g)
    found["embedding"] = calls["embedding"], [grad], [n.round(d_wte)]
    found["gather"] = calls["gather"], [grad], [n.round(d_wte), None]
    found["add"] = calls["add"], [grad], [grad, n.round(g.sum((0, 1)))]
    found["mul"] = calls["mul"], [grad], [n.round(g / 2), None]
    found["truediv"] = calls["truediv"], [grad], [n.round(g / 2.5)]
    found["pow"] = calls["pow"], [grad], [n.round(g * 3 * x * x)]
    found["mean"] = calls["mean"], [grad[:, 0]], [n.round(np.repeat(g[:, :1], T, 1) / T)]
    found["reshape"] = calls["reshape"], [grad.reshape(B, T, H, 4)], [grad]
    found["permute"] = calls["permute"], [n(B, T, H, 4)], []
    moved = found["permute"][1][0].transpose(0, 2, 1, 3)
    found["permute"] = calls["permute"], found["permute"][1], [moved]
    found["swap"] = calls["swap"], found["permute"][1], [moved]
    found["split"] = calls["split"], [grad[..., :4], grad[..., 4:]], [grad]
    mask = ~np.tri(T, dtype=bool)
    found["masked_fill"] = calls["masked_fill"], [g_scores], [np.where(mask, 0, g_scores).astype(n.dtype), None]
    return {
        name: (frameworks.get(name, "pytorch"), forward, backward(forward, grads, results))
        for name, (forward, grads, results) in found.items()
    }
