"""Masked multi-head self-attention, step by step.

S = P + T positions: P of the past, then T new tokens. N: keys whose order does not matter.
Each stage of the computation has a name, such as "h.0.attn.q" in the first layer. By this name the judge can read its
value, or replace it. Without a judge, the names change nothing: see stages.py.
"""

import math
from typing import Any

import numpy as np

from reference.config import GPT2Config, part
from reference.ops import Array, Pair, conv1d, dropout, matmul, softmax
from reference.stages import observe, observe_each


def split_heads(x: Array, n_head: int) -> Array:
    """Cut the channels into heads and put the head axis before the tokens.

    Shapes: x (B, T, H*D) -> (B, H, T, D)
    """
    return x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)


def merge_heads(x: Array) -> Array:
    """Undo split_heads: put the heads' channels side by side again.

    Shapes: x (B, H, T, D) -> (B, T, H*D)
    """
    batch, heads, tokens, size = x.shape
    return x.swapaxes(1, 2).reshape(batch, tokens, heads * size)


def causal_bias(query_length: int, key_length: int) -> Array:
    """True where a query may look: each of the last T of S positions sees itself and every earlier position.

    Shapes: -> (T, S) bool
    """
    return np.tri(query_length, key_length, key_length - query_length, dtype=bool)


def visible_keys(query_length: int, key_length: int, attention_mask: Array | None = None) -> Array:
    """causal_bias, also for padded batches: no query sees a key where attention_mask (1 token, 0 pad) is 0.

    Shapes: attention_mask (B, S) mask -> (B, 1, T, S) bool
    """
    visible = causal_bias(query_length, key_length)[None, None]
    return visible if attention_mask is None else visible & (attention_mask != 0)[:, None, None, :]


def mask_value(dtype: Any) -> float:
    """The lowest finite number of a float dtype: exp of it is zero, and no infinity can turn into NaN.

    Shapes: -> ()
    Source: `torch.finfo(dtype).min` in Hugging Face's modeling_gpt2.py; GPT-2's model.py uses -1e10.
    """
    if np.dtype(dtype).name == "bfloat16":
        return -3.3895313892515355e38  # NumPy's finfo does not know bfloat16
    return float(np.finfo(dtype).min)


def mask_scores(scores: Array, visible: Array) -> Array:
    """Keep the visible scores; replace the others by mask_value.

    Shapes: scores (B, H, T, N), visible (B, 1, T, N) bool -> (B, H, T, N)
    """
    return np.where(visible, scores, np.array(mask_value(scores.dtype), scores.dtype))


def mask_scores_by_addition(scores: Array, visible: Array) -> Array:
    """mask_scores as a sum, score + mask_value, which is fast on accelerators; the weights after softmax are the same.

    Adding to a negative score can overflow to -inf, so mask_value is the lower bound of the sum.
    Shapes: scores (B, H, T, N), visible (B, 1, T, N) bool -> (B, H, T, N)
    """
    lowest = np.array(mask_value(scores.dtype), scores.dtype)
    hidden = np.where(visible, np.zeros_like(lowest), lowest)
    with np.errstate(over="ignore"):
        return np.maximum(scores + hidden, lowest)


def attention_scores(q: Array, k: Array, scale: float) -> Array:
    """How well each query matches each key: q k^T / scale.

    Shapes: q (B, H, T, D), k (B, H, N, D) -> (B, H, T, N)
    Source: Vaswani et al. 2017, equation 1.
    """
    scores = matmul(q, k.swapaxes(-1, -2))
    return scores / np.array(scale, scores.dtype)


def attention_scale(config: GPT2Config, layer: int) -> float:
    """The divisor of a layer's scores: sqrt(D) and, if config says so, the layer's number, counted from 1.

    Shapes: -> ()
    Source: Vaswani et al. 2017, section 3.2.1; scale_attn_by_inverse_layer_idx: Hugging Face's modeling_gpt2.py.
    """
    scale = math.sqrt(config.head_size) if config.scale_attn_weights else 1.0
    return scale * (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale


def queries_keys_values(x: Array, params: dict, config: GPT2Config, layer: int = 0) -> tuple[Array, Array, Array]:
    """One affine map gives each token a query (what it looks for), a key (what matches it), a value (what it gives).

    Shapes: x (B, T, C), params {h.0.attn} -> (B, H, T, D), (B, H, T, D), (B, H, T, D)
    Source: `attn` in GPT-2's model.py.
    """
    at = f"h.{layer}.attn"
    qkv = observe(f"{at}.qkv", conv1d(x, **params["c_attn"]))  # (B, T, 3C)
    q, k, v = (split_heads(third, config.n_head) for third in np.split(qkv, 3, axis=-1))  # (B, H, T, D)
    return observe_each(at, q=q, k=k, v=v)


def attention_weights(
    q: Array, k: Array, config: GPT2Config, layer: int = 0, attention_mask: Array | None = None
) -> Array:
    """How much each query takes from each visible key: softmax of the scores, so each row sums to 1.

    Shapes: q (B, H, T, D), k (B, H, S, D), attention_mask (B, S) mask optional -> (B, H, T, S) kept
    Source: Vaswani et al. 2017, equation 1. reorder_and_upcast_attn (float32 scores of 16-bit inputs): Mistral, in
        Hugging Face's modeling_gpt2.py.
    """
    at, dtype = f"h.{layer}.attn", q.dtype
    if config.reorder_and_upcast_attn and q.dtype.itemsize == 2:
        q, k = q.astype(np.float32), k.astype(np.float32)
    scores = observe(f"{at}.scores", attention_scores(q, k, attention_scale(config, layer)))  # (B, H, T, S)
    visible = visible_keys(q.shape[2], k.shape[2], attention_mask)
    masked_scores = observe(f"{at}.masked_scores", mask_scores(scores, visible))
    return observe(f"{at}.attn_weights", softmax(masked_scores).astype(dtype))


def attention(
    x: Array,
    params: dict,
    config: GPT2Config,
    layer: int = 0,
    attention_mask: Array | None = None,
    past: Pair | None = None,
    keep: dict | None = None,
) -> tuple[Array, Pair]:
    """Each token compares its query (q) with all visible keys (k) and takes the weighted mean of their values (v).

    Shapes: x (B, T, C), params {h.0.attn}, attention_mask (B, S) mask optional, past (B, H, P, D) pair optional,
        keep {h.0.attn} keep optional -> (B, T, C) kept, (B, H, S, D) pair
    Source: GPT-2 paper, section 2.3; `attn` in GPT-2's model.py; for dropout, Hugging Face's modeling_gpt2.py.
    """
    at = f"h.{layer}.attn"
    q, k, v = queries_keys_values(x, params, config, layer)
    if past is not None:
        k, v = np.concatenate((past[0], k), axis=2), np.concatenate((past[1], v), axis=2)  # (B, H, S, D)
    weights = attention_weights(q, k, config, layer, attention_mask)
    weights = dropout(weights, part(keep, "attn_weights"), config.attn_pdrop)
    attn_output = observe(f"{at}.attn_output", matmul(weights, v))  # (B, H, T, D)
    merged = observe(f"{at}.merged", merge_heads(attn_output))  # (B, T, C)
    projected = observe(f"{at}.c_proj", conv1d(merged, **params["c_proj"]))
    return dropout(projected, part(keep, "c_proj"), config.resid_pdrop), (k, v)
