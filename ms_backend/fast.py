"""The fast forms on MindSpore: an added mask, a static cache. Twin of reference/fast.py.

Speed was measured on CPU only, not on Ascend. The documentation of every operator used here lists Ascend.
"""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore import ops as P
from mindspore.ops import constexpr

from ms_backend import activations
from ms_backend.attention import attention_scale, mask_value, merge_heads, split_heads
from ms_backend.model import shift_labels
from ms_backend.ops import cross_entropy, dropout, embedding, layer_norm
from ms_backend.optim import _one_minus_power as one_minus_power
from ms_backend.optim import adamw
from reference.config import GPT2Config, map_tree, part


def fast_parameters(params: dict) -> dict:
    """The tree of parameters with every Conv1D weight transposed to (out, in)."""

    def turn(name: str, x: Parameter) -> Parameter:
        is_conv1d = ".c_" in name and name.endswith("weight")
        return Parameter(P.transpose(x, (1, 0)), name=x.name) if is_conv1d else x

    return map_tree(turn, params)


def make_cache(config: GPT2Config, batch_size: int, length: int, dtype: Any) -> list[tuple[Parameter, Parameter]]:
    """An empty cache for the keys and values of `length` tokens: a pair of zero arrays per layer.

    Each parameter is (B, H, S, D).
    """
    shape = (batch_size, config.n_head, length, config.head_size)
    names = [(f"cache.{layer}.k", f"cache.{layer}.v") for layer in range(config.n_layer)]
    return [(Parameter(P.zeros(shape, dtype), name=k), Parameter(P.zeros(shape, dtype), name=v)) for k, v in names]


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """conv1d with the weight as (out, in): x @ weight.T + bias.

    x may also be rows, (N, C), because every reshape takes time.
    """
    x = x.astype(weight.dtype)
    rows = x if x.ndim == 2 else x.reshape(-1, weight.shape[1])
    rows = P.BiasAdd()(_product(rows, weight), bias)
    return rows if x.ndim == 2 else rows.reshape(x.shape[:-1] + (weight.shape[0],))


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    """rows @ weight.T. oneDNN is faster if the large matrix is the left factor and the few rows are the right one."""
    if 1 < rows.shape[0] <= 64:
        return P.transpose(P.MatMul(transpose_b=True)(weight, rows), (1, 0))
    return P.MatMul(transpose_b=True)(rows, weight)


def gelu_new_fast(x: Tensor) -> Tensor:
    """gelu_new as x sigmoid(2u) = x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3): the same function."""
    return _gelu(x.astype(ms.float32)).astype(x.dtype)


class _Gelu(nn.Cell):
    """gelu_new_fast of float32, with a backward pass that keeps x alone: MindSpore's own would keep four arrays."""

    def construct(self, x):  # type: ignore[no-untyped-def]
        return x * P.sigmoid(x * (1.5957691216057308 + 0.07135481282815047 * x * x))

    def bprop(self, x, out, grad):  # type: ignore[no-untyped-def]
        square = x * x
        s = P.sigmoid(x * (1.5957691216057308 + 0.07135481282815047 * square))
        return (grad * s * (1.0 + x * (1.0 - s) * (1.5957691216057308 + 0.21406443848445142 * square)),)


_gelu = _Gelu(auto_prefix=False)


def hidden_keys(
    query_length: int, key_length: int, n_head: int, dtype: Any, slot: int = 0, attention_mask: Tensor | None = None
) -> Tensor:
    """The mask to add to the scores, 0 or half of mask_value: query t, at slot + t, sees no later slot and no pad.

    Half of the lowest number leaves room for the score: the sum does not overflow, and its exp is still zero.
    """
    unseen = _ahead(query_length, key_length) > slot
    if attention_mask is not None:
        unseen = P.logical_or(unseen, (attention_mask == 0).reshape(attention_mask.shape[0], 1, 1, -1))
    return P.tile(unseen * (mask_value(dtype) / 2), (1, n_head, 1, 1)).astype(dtype)


@constexpr
def _ahead(query_length: int, key_length: int) -> Tensor:
    """By how many slots key s is ahead of query t if the queries begin at slot 0, (1, 1, T, S)."""
    return Tensor((np.arange(key_length) - np.arange(query_length)[:, None])[None, None], ms.int32)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hidden: Tensor,
    scale: float = 1.0,
    upcast: bool = False,
    keep: Tensor | None = None,
    rate: float = 0.0,
) -> Tensor:
    """softmax(q k^T / scale + hidden) v, with dropout if keep is given; in NumPy, a few heads at a time."""
    if upcast:
        q, k, hidden = q.astype(ms.float32), k.astype(ms.float32), hidden.astype(ms.float32)
    scores = P.BatchMatMul(transpose_b=True)(q, k) * (1 / scale) + hidden  # a division would be stored for its gradient
    weights = P.softmax(scores.astype(ms.float32), axis=-1).astype(v.dtype)
    return P.BatchMatMul()(dropout(weights, keep, rate), v)


def attention_fast(
    x: Tensor,
    params: dict,
    config: GPT2Config,
    hidden: Tensor,
    layer: int = 0,
    cache: tuple[Parameter, Parameter] | None = None,
    slot: int = 0,
    keep: dict | None = None,
) -> Tensor:
    """attention, with keys and values in a cache: the new ones are written in place, to slots slot .. slot + T - 1.

    x may also be (B, C), of one token each.
    """
    q, k, v = _split_heads(linear(x, **params["c_attn"]), config)  # (B, H, T, D)
    if cache is not None:
        k, v = _fill(cache[0], k, slot), _fill(cache[1], v, slot)  # (B, H, S, D)
    scale, upcast = attention_scale(config, layer), config.reorder_and_upcast_attn
    attended = attend(q, k, v, hidden, scale, upcast, part(keep, "attn_weights"), config.attn_pdrop)
    attended = attended.reshape(x.shape) if attended.shape[2] == 1 else merge_heads(attended)
    return dropout(linear(attended, **params["c_proj"]), part(keep, "c_proj"), config.resid_pdrop)


def _split_heads(qkv: Tensor, config: GPT2Config) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (B, H, T, D) each; for one token a reshape is enough, and costs nothing."""
    heads = 3 * config.n_head
    if qkv.ndim == 2 or qkv.shape[1] == 1:
        qkv = qkv.reshape(qkv.shape[0], heads, 1, config.head_size)
    else:
        qkv = split_heads(qkv, heads)
    return P.split(qkv, config.n_head, axis=1)


def _fill(kept: Parameter, new: Tensor, slot: int) -> Tensor:
    """Put new (B, H, T, D) into the slots slot .. slot + T - 1."""
    batch, heads, tokens, _ = new.shape
    places = _places(batch, heads, tokens) + slot * Tensor([0, 0, 1], ms.int32)
    return P.ScatterNdUpdate()(kept, places, new)


@constexpr
def _places(batch: int, heads: int, tokens: int) -> Tensor:
    """The index (b, h, t) of every row of an array (B, H, T, D)."""
    return Tensor(np.moveaxis(np.indices((batch, heads, tokens)), 0, -1), ms.int32)


def mlp_fast(x: Tensor, params: dict, config: GPT2Config, keep: dict | None = None) -> Tensor:
    """mlp, with gelu_new_fast in place of gelu_new."""
    name = config.activation_function
    h = linear(x, **params["c_fc"])
    few = h.size <= 1 << 12  # one slow operator is then faster than six fast ones
    h = gelu_new_fast(h) if name == "gelu_new" and not few else getattr(activations, name)(h)
    return dropout(linear(h, **params["c_proj"]), part(keep, "c_proj"), config.resid_pdrop)


def block_fast(
    x: Tensor,
    params: dict,
    config: GPT2Config,
    hidden: Tensor,
    layer: int = 0,
    cache: tuple[Parameter, Parameter] | None = None,
    slot: int = 0,
    keep: dict | None = None,
) -> Tensor:
    """block, made of attention_fast and mlp_fast."""
    eps = config.layer_norm_epsilon
    normed = layer_norm(x, **params["ln_1"], eps=eps)
    x = x + attention_fast(normed, params["attn"], config, hidden, layer, cache, slot, part(keep, "attn"))
    return x + mlp_fast(layer_norm(x, **params["ln_2"], eps=eps), params["mlp"], config, part(keep, "mlp"))


class _Block(nn.Cell):
    """block_fast as a cell, which MindSpore can compute again in the backward pass."""

    def construct(self, x, params, config, hidden, layer, cache, slot, keep):  # type: ignore[no-untyped-def]
        return block_fast(x, params, config, hidden, layer, cache, slot, keep)


_block = _Block(auto_prefix=False)


def gpt2_fast(
    params: dict,
    ids: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    cache: list[tuple[Parameter, Parameter]] | None = None,
    slot: int = 0,
    last_only: bool = False,
    keep: dict | None = None,
    recompute: bool = False,
) -> Tensor:
    """Hidden states of gpt2 for the tree of fast_parameters. Token t is in slot `slot` + t of the S slots of the cache.

    recompute: keep only the input of each block for the backward pass, and compute the rest again.
    """
    tokens = ids.shape[1]
    if position_ids is None:
        position_ids = (P.arange(tokens) + slot)[None]  # (1, T)
    keys = tokens if cache is None else cache[0][0].shape[2]
    x = embedding(ids, **params["wte"]) + embedding(position_ids, **params["wpe"])
    x = dropout(x, part(keep, "embeddings"), config.embd_pdrop)
    if tokens == 1 and cache is not None:
        x = x.reshape(-1, config.n_embd)  # (B, C)
    hidden = hidden_keys(tokens, keys, config.n_head, x.dtype, slot, attention_mask)
    for i, layer in enumerate(params["h"]):
        cached, kept = None if cache is None else cache[i], None if keep is None else keep["h"][i]
        if recompute:
            x = ms.recompute(_block, x, layer, config, hidden, i, cached, slot, kept)
        else:
            x = block_fast(x, layer, config, hidden, i, cached, slot, kept)
    if last_only and tokens > 1:
        x = x[:, -1:]
    x = layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)
    return x.reshape(ids.shape[0], -1, config.n_embd)  # (B, T, C)


def _head(params: dict, config: GPT2Config) -> Tensor:
    """The head's weight, (V, C). A graph must read it before it writes to a cache, or it copies the table twice."""
    head = params["wte"] if config.tie_word_embeddings else params["lm_head"]
    return head["weight"].reshape(config.vocab_size, config.n_embd)


def language_model_fast(
    params: dict,
    ids: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    cache: list[tuple[Parameter, Parameter]] | None = None,
    slot: int = 0,
    last_only: bool = False,
    keep: dict | None = None,
) -> Tensor:
    """language_model for the tree that fast_parameters makes; arguments as in gpt2_fast."""
    head = _head(params, config)
    x = gpt2_fast(params, ids, config, attention_mask, position_ids, cache, slot, last_only, keep)
    return _product(x.reshape(-1, config.n_embd), head).reshape(x.shape[:2] + (config.vocab_size,))


def language_model_loss_fast(
    params: dict,
    ids: Tensor,
    labels: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
    recompute: bool = False,
) -> Tensor:
    """language_model_loss for the tree that fast_parameters makes."""
    head = _head(params, config)
    x = gpt2_fast(params, ids, config, attention_mask, position_ids, keep=keep, recompute=recompute)
    labels = shift_labels(labels, attention_mask, ignore_index).reshape(-1)
    scores = _product(x.reshape(-1, config.n_embd), head)
    return cross_entropy(scores, labels, ignore_index)  # with labels in a row: a reshape would copy all the scores


def adamw_fast(
    param: Parameter,
    grad: Tensor,
    m: Parameter,
    v: Parameter,
    step: Tensor,
    lr: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """adamw, but param, m and v are changed in place, and returned.

    One operator does the update, but it computes 1 - beta in float32, where 1 - 0.999 has a relative error of 1e-5.
    The part of the gradient that the operator loses is therefore added to m and v before.
    """
    if min(beta1, beta2) < 0.5:  # the operator computes v + (1 - beta2) (grad^2 - v), which cancels
        new = adamw(param, grad, m, v, step, lr, beta1, beta2, epsilon, weight_decay)
        return P.assign(param, new[0]), P.assign(m, new[1]), P.assign(v, new[2])
    root = P.sqrt(one_minus_power(beta2, step))
    share = root / one_minus_power(beta1, step)
    P.ApplyGradientDescent()(m, -_left_out(beta1), grad)  # m - rate x gradient, in place
    P.ApplyGradientDescent()(v, -_left_out(beta2), P.square(grad))
    betas = Tensor(beta1, ms.float32), Tensor(beta2, ms.float32)
    P.AdamWeightDecay()(param, m, v, lr * share, *betas, epsilon * root, weight_decay / share, grad)
    return param, m, v  # what the operator returns is not written to where it runs op by op


@constexpr  # computed by Python: a graph holds its own numbers as float32
def _left_out(beta: float) -> float:
    """x of rounded (m + x grad) + (1 - rounded) grad = rounded m + (1 - beta) grad, for beta rounded to float32."""
    rounded = float(np.float32(beta))
    return (rounded - beta) / rounded
