"""The fast forms: the mathematics of model.py, with less memory traffic and a preallocated cache.

Each function replaces a plain one and must agree with it; read the plain one to learn what it computes.
Weights of affine maps are (out, in) here, the layout that accelerators multiply fastest: see `fast_parameters`.
"""

import math
from typing import Any

import numpy as np

from reference import activations
from reference.attention import attention_scale, attention_scores, mask_value, merge_heads
from reference.config import GPT2Config, map_tree, part
from reference.model import shift_labels
from reference.ops import Array, cross_entropy, dropout, embedding, layer_norm, matmul, softmax
from reference.precision import as_low_as, rounded_once
from reference.stages import observe


def fast_parameters(params: dict) -> dict:
    """The tree of parameters with every Conv1D weight transposed to (out, in).

    In NumPy that is a view, not a copy.
    """
    return map_tree(lambda name, x: x.T if ".c_" in name and name.endswith("weight") else x, params)


def make_cache(config: GPT2Config, batch_size: int, length: int, dtype: Any) -> list[tuple[Array, Array]]:
    """An empty cache for the keys and values of `length` tokens: a pair of zero arrays per layer.

    Each array is (B, H, S, D).
    """
    shape = (batch_size, config.n_head, length, config.head_size)
    return [(np.zeros(shape, dtype), np.zeros(shape, dtype)) for _ in range(config.n_layer)]


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """conv1d with the weight as (out, in): x @ weight.T + bias.

    Shapes: x (B, T, C), weight (N, C), bias (N) -> (B, T, N)
    """
    rows = _product(as_low_as(x, weight).reshape(-1, weight.shape[1]), weight)
    rows += bias
    return observe("linear", rows).reshape(*x.shape[:-1], weight.shape[0])


def _product(rows: Array, weight: Array) -> Array:
    """rows @ weight.T. OpenBLAS is faster if the large matrix is the left factor and the few rows are the right one."""
    if 1 < len(rows) <= 64:
        return np.ascontiguousarray(matmul(weight, rows.T).T)
    return matmul(rows, weight.T)


@rounded_once
def gelu_new_fast(x: Array) -> Array:
    """gelu_new as x sigmoid(2u) = x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3): the same function.

    Shapes: x (B, T, C) -> (B, T, C)
    """
    result = np.empty(x.shape, x.dtype)
    flat, out = x.reshape(-1), result.reshape(-1)
    slice_length = 1 << 16  # elements that stay in the processor's cache
    for start in range(0, flat.size, slice_length):
        part, y = flat[start : start + slice_length], out[start : start + slice_length]
        np.multiply(part, part, out=y)
        y *= 0.044715 * math.sqrt(2 / math.pi)
        y += math.sqrt(2 / math.pi)
        y *= part
        np.tanh(y, out=y)
        y[...] = observe("tanh", y)  # near -1 its last place is all that is left of 1 + tanh
        y += 1
        y *= 0.5
        y[...] = observe("sigmoid", y)
        y *= part
    return result


def hidden_keys(
    query_length: int, key_length: int, n_head: int, dtype: Any, slot: int = 0, attention_mask: Array | None = None
) -> Array:
    """The mask to add to the scores, 0 or half of mask_value: query t, at slot + t, sees no later slot and no pad.

    Half of the lowest number leaves room for the score: the sum does not overflow, and its exp is still zero.
    Shapes: attention_mask (B, S) mask -> (B, H, T, S)
    """
    visible = np.tri(query_length, key_length, slot, dtype=bool)[None, None]
    if attention_mask is not None:
        visible = visible & (attention_mask != 0)[:, None, None, :]
    hidden = np.where(visible, 0, mask_value(dtype) / 2).astype(dtype)
    return np.broadcast_to(hidden, (hidden.shape[0], n_head, query_length, key_length))


def attend(
    q: Array,
    k: Array,
    v: Array,
    hidden: Array,
    scale: float = 1.0,
    upcast: bool = False,
    keep: Array | None = None,
    rate: float = 0.0,
) -> Array:
    """softmax(q k^T / scale + hidden) v, with dropout if keep is given; in NumPy, a few heads at a time.

    Shapes: q (B, H, T, D), k (B, H, N, D), v (B, H, N, D), hidden (B, H, T, N) hidden, keep (B, H, T, N) bool optional
        -> (B, H, T, D)
    """
    result = np.empty(q.shape, q.dtype)
    if upcast and q.dtype.itemsize == 2:
        q, k = q.astype(np.float32), k.astype(np.float32)
    heads_at_once = max(1, (1 << 18) // (q.shape[2] * k.shape[2]))  # scores that stay in the processor's cache
    for b in range(q.shape[0]):
        for start in range(0, q.shape[1], heads_at_once):
            heads = slice(start, start + heads_at_once)
            scores = attention_scores(q[b, heads], k[b, heads], scale)
            scores += hidden[b % len(hidden), heads]
            weights = dropout(softmax(scores).astype(v.dtype), None if keep is None else keep[b, heads], rate)
            result[b, heads] = matmul(weights, v[b, heads])
    return result


def attention_fast(
    x: Array,
    params: dict,
    config: GPT2Config,
    hidden: Array,
    layer: int = 0,
    cache: tuple[Array, Array] | None = None,
    slot: int = 0,
    keep: dict | None = None,
) -> Array:
    """attention, with keys and values in a cache: the new ones are written in place, to slots slot .. slot + T - 1.

    Shapes: x (B, T, C), params {h.0.attn} fast, hidden (B, H, T, T) hidden, keep {h.0.attn} keep optional -> (B, T, C)
    """
    qkv = linear(x, **params["c_attn"]).reshape(*x.shape[:2], 3, config.n_head, config.head_size)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # (B, H, T, D) each
    if cache is not None:
        for kept, new in zip(cache, (k, v), strict=True):
            kept[:, :, slot : slot + x.shape[1]] = new
        k, v = cache  # (B, H, S, D)
        k, v = (kept[:, :, : hidden.shape[-1]] for kept in (k, v))  # later slots are still empty
    scale, upcast = attention_scale(config, layer), config.reorder_and_upcast_attn
    attended = attend(q, k, v, hidden, scale, upcast, part(keep, "attn_weights"), config.attn_pdrop)
    return dropout(linear(merge_heads(attended), **params["c_proj"]), part(keep, "c_proj"), config.resid_pdrop)


def mlp_fast(x: Array, params: dict, config: GPT2Config, keep: dict | None = None) -> Array:
    """mlp, with gelu_new_fast in place of gelu_new.

    Shapes: x (B, T, C), params {h.0.mlp} fast, keep {h.0.mlp} keep optional -> (B, T, C)
    """
    name = config.activation_function
    h = linear(x, **params["c_fc"])
    h = gelu_new_fast(h) if name == "gelu_new" else getattr(activations, name)(h)
    return dropout(linear(h, **params["c_proj"]), part(keep, "c_proj"), config.resid_pdrop)


def block_fast(
    x: Array,
    params: dict,
    config: GPT2Config,
    hidden: Array,
    layer: int = 0,
    cache: tuple[Array, Array] | None = None,
    slot: int = 0,
    keep: dict | None = None,
) -> Array:
    """block, made of attention_fast and mlp_fast.

    Shapes: x (B, T, C), params {h.0} fast, hidden (B, H, T, T) hidden, keep {h.0} keep optional -> (B, T, C)
    """
    eps = config.layer_norm_epsilon
    normed = layer_norm(x, **params["ln_1"], eps=eps)
    attended = attention_fast(normed, params["attn"], config, hidden, layer, cache, slot, part(keep, "attn"))
    x = observe("attn_residual", x + attended)
    normed = layer_norm(x, **params["ln_2"], eps=eps)
    return observe("mlp_residual", x + mlp_fast(normed, params["mlp"], config, part(keep, "mlp")))


def gpt2_fast(
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    cache: list[tuple[Array, Array]] | None = None,
    slot: int = 0,
    last_only: bool = False,
    keep: dict | None = None,
    recompute: bool = False,
) -> Array:
    """Hidden states of gpt2 for the tree of fast_parameters. Token t is in slot `slot` + t of the S slots of the cache.

    last_only: return only those of the last token, (B, 1, C). Hidden states of pads mean nothing. recompute has no
    effect in NumPy, whose gradients always compute the forward pass again.
    Shapes: params {} fast, ids (B, T) int V, attention_mask (B, T) mask optional, position_ids (B, T) int L optional,
        keep {} keep optional -> (B, T, C) kept
    """
    tokens = ids.shape[1]
    if position_ids is None:
        position_ids = np.arange(slot, slot + tokens)[None]  # (1, T)
    keys = tokens if cache is None else slot + tokens
    attention_mask = None if attention_mask is None else attention_mask[:, :keys]
    x = observe("embeddings", embedding(ids, **params["wte"]) + embedding(position_ids, **params["wpe"]))
    x = dropout(x, part(keep, "embeddings"), config.embd_pdrop)
    hidden = hidden_keys(tokens, keys, config.n_head, x.dtype, slot, attention_mask)
    for i, layer in enumerate(params["h"]):
        cached, kept = None if cache is None else cache[i], None if keep is None else keep["h"][i]
        x = block_fast(x, layer, config, hidden, i, cached, slot, kept)
    if last_only:
        x = x[:, -1:]
    return layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)


def _scores(x: Array, params: dict, config: GPT2Config) -> Array:
    head = params["wte"] if config.tie_word_embeddings else params["lm_head"]
    rows = x.reshape(-1, x.shape[-1])  # one product for the whole batch
    return matmul(rows, head["weight"].T).reshape(*x.shape[:-1], config.vocab_size)


def language_model_fast(
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    cache: list[tuple[Array, Array]] | None = None,
    slot: int = 0,
    last_only: bool = False,
    keep: dict | None = None,
) -> Array:
    """language_model for the tree that fast_parameters makes; arguments as in gpt2_fast.

    Shapes: params {} fast, ids (B, T) int V, attention_mask (B, T) mask optional, position_ids (B, T) int L optional,
        keep {} keep optional -> (B, T, V) kept
    """
    x = gpt2_fast(params, ids, config, attention_mask, position_ids, cache, slot, last_only, keep)
    return _scores(x, params, config)


def language_model_loss_fast(
    params: dict,
    ids: Array,
    labels: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
    recompute: bool = False,
) -> Array:
    """language_model_loss for the tree that fast_parameters makes.

    Shapes: params {} fast, ids (B, T) int V, labels (B, T) labels V, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> ()
    """
    x = gpt2_fast(params, ids, config, attention_mask, position_ids, keep=keep, recompute=recompute)
    return cross_entropy(_scores(x, params, config), shift_labels(labels, attention_mask, ignore_index), ignore_index)


def adamw_fast(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: Array,
    lr: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """adamw, but param, m and v are changed in place, and returned.

    The bias corrections of m and v become part of rate and epsilon: lr m / c1 / (sqrt(v / c2) + epsilon), with
    c = 1 - beta^step, is lr sqrt(c2) / c1 times m / (sqrt(v) + epsilon sqrt(c2)).
    Source: Kingma and Ba 2015, end of section 2.
    """
    root = math.sqrt(1 - beta2 ** int(step))
    rate = float(lr) * root / (1 - beta1 ** int(step))
    rows = max(1, (1 << 16) * len(param) // max(1, param.size))  # elements that stay in the processor's cache
    for start in range(0, len(param), rows):
        p, g, mean, square = (x[start : start + rows] for x in (param, grad, m, v))
        part = g * (1 - beta1)
        mean *= beta1
        mean += part
        np.multiply(g, g, out=part)
        part *= 1 - beta2
        square *= beta2
        square += part
        np.sqrt(square, out=part)
        part += epsilon * root
        np.divide(mean, part, out=part)
        part *= rate
        p *= 1 - float(lr) * weight_decay
        p -= part
    return param, m, v
