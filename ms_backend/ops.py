"""The operations GPT-2 is made of, on MindSpore. The reference of each stands in reference/ops.py under its name."""

import mindspore as ms
from mindspore import Tensor, ops

Pair = tuple[Tensor, Tensor]


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product over the last two axes."""
    # ops.matmul is MatMulExt, whose gradient fails where the inner size is 1 (MindSpore 2.10)
    return ops.MatMul()(a, b) if a.ndim == 2 else ops.BatchMatMul()(a, b)


def conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Affine map of the last axis, x @ weight + bias; GPT-2 calls it conv1d and stores the weight as (in, out).

    It runs in the dtype of the weight, as mixed precision requires.
    """
    rows = x.astype(weight.dtype).reshape(-1, weight.shape[0])
    return (matmul(rows, weight) + bias).reshape(x.shape[:-1] + (weight.shape[1],))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Shift and scale each row to mean 0 and variance 1 (the biased variance), then apply gain and bias."""
    wide, gain, shift = x.astype(ms.float32), weight.astype(ms.float32), bias.astype(ms.float32)  # sums need float32
    return ops.LayerNorm(-1, -1, eps)(wide, gain, shift)[0].astype(x.dtype)


def gelu_new(x: Tensor) -> Tensor:
    """GPT-2's GELU, the tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    return ops.gelu(x.astype(ms.float32), approximate="tanh").astype(x.dtype)  # ops.tanh alone is off by 1e-4


def gelu(x: Tensor) -> Tensor:
    """GELU itself, x times the normal distribution function: x/2 (1 + erf(x / sqrt 2))."""
    return ops.gelu(x.astype(ms.float32), approximate="none").astype(x.dtype)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return ops.relu(x)


def silu(x: Tensor) -> Tensor:
    """x times its logistic sigmoid, also called swish: x / (1 + exp(-x))."""
    wide = x.astype(ms.float32)
    return (wide * ops.sigmoid(wide)).astype(x.dtype)


def softmax(x: Tensor) -> Tensor:
    """Exponentials of each row, divided by their sum; the row's maximum is subtracted first, so nothing overflows."""
    wide = x.astype(ms.float32)
    # Not ops.softmax: if its first gradient in a process is over a single number, MindSpore 2.10 gets the later ones
    # wrong on CPU, op by op.
    weights = ops.exp(wide - ops.stop_gradient(wide.max(axis=-1, keepdims=True)))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(x.dtype)


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Rows of weight, looked up by id; ids from 0 to V - 1 (not checked here: NumPy lets -1 mean the last row)."""
    return ops.gather(weight, ids, 0)


def log_softmax(x: Tensor) -> Tensor:
    """Logarithm of softmax: x - log(sum(exp(x))); the row's maximum is subtracted first."""
    return ops.log_softmax(x.astype(ms.float32), axis=-1).astype(x.dtype)


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The loss: mean of -log softmax(logits)[label] over all labels that are not ignore_index; 0 if there are none.

    PyTorch returns NaN if no label is scored; one such micro-batch would spoil a whole training run. The loss is at
    least float32, because it sums many small numbers.
    """
    scored = labels != ignore_index
    places = ops.where(scored, labels, ops.zeros_like(labels))[..., None]
    chosen = ops.gather_elements(log_softmax(logits.astype(ms.float32)), -1, places)[..., 0]
    scored = scored.astype(ms.float32)
    return -(chosen * scored).sum() / ops.maximum(scored.sum(), Tensor(1.0, ms.float32))


def dropout(x: Tensor, keep: Tensor | None, rate: float) -> Tensor:
    """x / (1 - rate) where keep is True, 0 elsewhere: on average, x. Without keep, x itself.

    The caller draws keep, True with probability 1 - rate, so that both implementations can get the same mask.
    """
    return x if keep is None else ops.where(keep, x / (1 - rate), ops.zeros_like(x))


def unembedding(x: Tensor, weight: Tensor) -> Tensor:
    """Score of every row of weight: its dot product with x."""
    rows = x.reshape(-1, weight.shape[1])
    return matmul(rows, ops.transpose(weight, (1, 0))).reshape(x.shape[:-1] + (weight.shape[0],))
