"""Masked multi-head self-attention, step by step, on MindSpore. Twin of reference/attention.py.

Stages have the same names as there; a compiled graph has no stages.
"""

import math
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from ms_backend.ops import Pair, conv1d, dropout, matmul, softmax
from ms_backend.stages import observe, observe_each
from reference.config import GPT2Config, part


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Cut the channels into heads and put the head axis before the tokens."""
    return x.reshape(x.shape[:-1] + (n_head, x.shape[-1] // n_head)).swapaxes(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo split_heads: put the heads' channels side by side again."""
    batch, heads, tokens, size = x.shape
    return x.swapaxes(1, 2).reshape(batch, tokens, heads * size)


def causal_bias(query_length: int, key_length: int) -> Tensor:
    """True where a query may look: each of the last T of S positions sees itself and every earlier position."""
    queries = ops.arange(key_length - query_length, key_length)[:, None]
    return ops.arange(key_length)[None] <= queries


def visible_keys(query_length: int, key_length: int, attention_mask: Tensor | None = None) -> Tensor:
    """causal_bias, also for padded batches: no query sees a key where attention_mask (1 token, 0 pad) is 0."""
    visible = causal_bias(query_length, key_length)[None, None]
    if attention_mask is None:
        return visible
    return ops.logical_and(visible, (attention_mask != 0)[:, None, None, :])


def mask_value(dtype: Any) -> float:
    """The lowest finite number of a float dtype: exp of it is zero, and no infinity can turn into NaN."""
    if dtype == ms.float16:
        return -65504.0
    if dtype == ms.bfloat16:
        return -3.3895313892515355e38
    return -3.4028234663852886e38


def mask_scores(scores: Tensor, visible: Tensor) -> Tensor:
    """Keep the visible scores; replace the others by mask_value."""
    return ops.where(visible, scores, Tensor(mask_value(scores.dtype), scores.dtype))


def mask_scores_by_addition(scores: Tensor, visible: Tensor) -> Tensor:
    """mask_scores as a sum, score + mask_value, which is fast on accelerators; the weights after softmax are the same.

    Adding to a negative score can overflow to -inf, so mask_value is the lower bound of the sum.
    """
    lowest = Tensor(mask_value(scores.dtype), scores.dtype)
    hidden = ops.logical_not(visible).astype(scores.dtype) * lowest
    return ops.maximum(scores + hidden, lowest)


def attention_scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """How well each query matches each key: q k^T / scale."""
    scores = matmul(q, k.swapaxes(-1, -2))
    return scores / Tensor(scale, scores.dtype)


def attention_scale(config: GPT2Config, layer: int) -> float:
    """The divisor of a layer's scores: sqrt(D) and, if config says so, the layer's number, counted from 1."""
    scale = math.sqrt(config.head_size) if config.scale_attn_weights else 1.0
    return scale * (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale


def queries_keys_values(x: Tensor, params: dict, config: GPT2Config, layer: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """One affine map gives each token a query (what it looks for), a key (what matches it), a value (what it gives)."""
    at = f"h.{layer}.attn"
    qkv = observe(f"{at}.qkv", conv1d(x, **params["c_attn"]))  # (B, T, 3C)
    q, k, v = [split_heads(third, config.n_head) for third in ops.split(qkv, config.n_embd, axis=-1)]  # (B, H, T, D)
    return observe_each(at, q=q, k=k, v=v)


def attention_weights(
    q: Tensor, k: Tensor, config: GPT2Config, layer: int = 0, attention_mask: Tensor | None = None
) -> Tensor:
    """How much each query takes from each visible key: softmax of the scores, so each row sums to 1."""
    at, dtype = f"h.{layer}.attn", q.dtype
    if config.reorder_and_upcast_attn:
        q, k = q.astype(ms.float32), k.astype(ms.float32)
    scores = observe(f"{at}.scores", attention_scores(q, k, attention_scale(config, layer)))  # (B, H, T, S)
    visible = visible_keys(q.shape[2], k.shape[2], attention_mask)
    masked_scores = observe(f"{at}.masked_scores", mask_scores(scores, visible))
    return observe(f"{at}.attn_weights", softmax(masked_scores).astype(dtype))


def attention(
    x: Tensor,
    params: dict,
    config: GPT2Config,
    layer: int = 0,
    attention_mask: Tensor | None = None,
    past: Pair | None = None,
    keep: dict | None = None,
) -> tuple[Tensor, Pair]:
    """Each token compares its query (q) with all visible keys (k) and takes the weighted mean of their values (v)."""
    at = f"h.{layer}.attn"
    q, k, v = queries_keys_values(x, params, config, layer)
    if past is not None:
        k, v = ops.cat((past[0], k), axis=2), ops.cat((past[1], v), axis=2)  # (B, H, S, D)
    weights = attention_weights(q, k, config, layer, attention_mask)
    weights = dropout(weights, part(keep, "attn_weights"), config.attn_pdrop)
    attn_output = observe(f"{at}.attn_output", matmul(weights, v))  # (B, H, T, D)
    merged = observe(f"{at}.merged", merge_heads(attn_output))  # (B, T, C)
    projected = observe(f"{at}.c_proj", conv1d(merged, **params["c_proj"]))
    return dropout(projected, part(keep, "c_proj"), config.resid_pdrop), (k, v)
