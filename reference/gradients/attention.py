"""The gradients of attention.py, derived by hand, in the order of that file. ops.py here says what a vjp is."""

import numpy as np

from reference.attention import (
    attention_scale,
    attention_scores,
    attention_weights,
    mask_scores,
    merge_heads,
    queries_keys_values,
    split_heads,
    visible_keys,
)
from reference.config import GPT2Config, affine, part
from reference.gradients.ops import conv1d_vjp, matmul_vjp, softmax_vjp
from reference.ops import Array, Pair, dropout, matmul
from reference.precision import as_low_as


def split_heads_vjp(grad: Array, x: Array, n_head: int) -> Array:
    """Gradient of split_heads: numbers only change places, so the gradient is moved back.

    Shapes: grad (B, H, T, D), x (B, T, H*D) -> (B, T, H*D)
    """
    return merge_heads(grad)


def merge_heads_vjp(grad: Array, x: Array) -> Array:
    """Gradient of merge_heads: the gradient is cut into heads again.

    Shapes: grad (B, T, H*D), x (B, H, T, D) -> (B, H, T, D)
    """
    return split_heads(grad, x.shape[1])


def mask_scores_vjp(grad: Array, scores: Array, visible: Array) -> Array:
    """Gradient of mask_scores: 0 where a score is hidden.

    Shapes: grad (B, H, T, N), scores (B, H, T, N), visible (B, 1, T, N) bool -> (B, H, T, N)
    """
    return np.where(visible, grad, np.zeros_like(grad))


def attention_scores_vjp(grad: Array, q: Array, k: Array, scale: float) -> Pair:
    """Gradients of attention_scores: those of a product, divided by the scale.

    Shapes: grad (B, H, T, N), q (B, H, T, D), k (B, H, N, D) -> (B, H, T, D), (B, H, N, D)
    """
    scaled = grad / np.array(scale, grad.dtype)
    return matmul(scaled, k), matmul(scaled.swapaxes(-1, -2), q)


def attention_weights_vjp(
    grad: Array, q: Array, k: Array, config: GPT2Config, layer: int = 0, attention_mask: Array | None = None
) -> Pair:
    """Gradients of attention_weights, step by step backwards: softmax, mask, scores.

    Shapes: grad (B, H, T, S), q (B, H, T, D), k (B, H, S, D), attention_mask (B, S) mask optional
        -> (B, H, T, D), (B, H, S, D)
    """
    dtype = np.dtype(np.float32) if config.reorder_and_upcast_attn and q.dtype.itemsize == 2 else q.dtype
    wide_q, wide_k, scale = q.astype(dtype), k.astype(dtype), attention_scale(config, layer)
    scores = attention_scores(wide_q, wide_k, scale)
    seen = visible_keys(q.shape[2], k.shape[2], attention_mask)
    d_masked_scores = softmax_vjp(grad.astype(dtype), mask_scores(scores, seen))
    d_scores = mask_scores_vjp(d_masked_scores, scores, seen)
    d_q, d_k = attention_scores_vjp(d_scores, wide_q, wide_k, scale)
    return d_q.astype(q.dtype), d_k.astype(k.dtype)


def attention_vjp(
    grad: Array,
    x: Array,
    params: dict,
    config: GPT2Config,
    layer: int = 0,
    attention_mask: Array | None = None,
    keep: dict | None = None,
) -> tuple[Array, dict]:
    """Gradients of attention by x and by the parameters; without a past, as in training.

    Shapes: grad (B, T, C), x (B, T, C), params {h.0.attn}, attention_mask (B, T) mask optional,
        keep {h.0.attn} keep optional -> (B, T, C), {h.0.attn}
    """
    q, k, v = queries_keys_values(x, params, config, layer)
    weights = attention_weights(q, k, config, layer, attention_mask)
    kept = dropout(weights, part(keep, "attn_weights"), config.attn_pdrop)
    merged = merge_heads(matmul(kept, v))
    d_projected = dropout(as_low_as(grad, merged), part(keep, "c_proj"), config.resid_pdrop)
    d_merged, *d_c_proj = conv1d_vjp(d_projected, merged, **params["c_proj"])
    d_kept, d_v = matmul_vjp(split_heads(d_merged, config.n_head), kept, v)
    d_weights = dropout(d_kept, part(keep, "attn_weights"), config.attn_pdrop)
    d_q, d_k = attention_weights_vjp(d_weights, q, k, config, layer, attention_mask)
    d_qkv = np.concatenate([merge_heads(d_heads) for d_heads in (d_q, d_k, d_v)], axis=-1)  # (B, T, 3C)
    d_x, *d_c_attn = conv1d_vjp(d_qkv, x, **params["c_attn"])
    return d_x, {"c_attn": affine(*d_c_attn), "c_proj": affine(*d_c_proj)}
