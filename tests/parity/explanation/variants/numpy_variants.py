"""Functions of a port in NumPy, each right under its own name and wrong under others: one mistake each."""

import math

import numpy as np

supports = {
    "past": False,
    "attention_mask": False,
    "dropout": False,
    "activation_function": False,
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
}


def normed(x, eps, axis=-1):
    centred = x - x.mean(axis=axis, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=axis, keepdims=True) + eps)


def layer_norm(x, weight, bias, eps=1e-5):
    return normed(x, eps) * weight + bias


def layer_norm_of_keras(x, weight, bias):
    return normed(x, 1e-3) * weight + bias


def layer_norm_gain_twice(x, weight, bias, eps=1e-5):
    return normed(x, eps) * weight * weight + bias


def layer_norm_over_tokens(x, weight, bias, eps=1e-5):
    return normed(x, eps, axis=1) * weight + bias


def gelu_new(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


def gelu_new_short_root(x):
    return 0.5 * x * (1 + np.tanh(0.79788 * (x + 0.044715 * (x * x * x))))


def gelu_new_rounded_root(x):
    return 0.5 * x * (1 + np.tanh(0.8 * (x + 0.044715 * (x * x * x))))


def softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def softmax_base_two(x):
    weights = np.exp2(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attention_scores(q, k, scale):
    return np.matmul(q, k.swapaxes(-1, -2)) / scale


def attention_scores_for_exp2(q, k, scale):
    return np.matmul(q, k.swapaxes(-1, -2)) * (math.log2(math.e) / scale)  # right only before a softmax with exp2


def causal_bias(query_length, key_length):
    return np.tri(query_length, key_length, key_length - query_length, dtype=bool)


def causal_bias_two_too_few(query_length, key_length):
    return np.tri(query_length, key_length, key_length - query_length - 2, dtype=bool)


def causal_bias_window(query_length, key_length):
    visible = causal_bias(query_length, key_length)
    return visible & ~np.tri(query_length, key_length, key_length - query_length - 3, dtype=bool)


def mask_scores(scores, visible):
    return np.where(visible, scores, np.finfo(scores.dtype).min)


def mask_scores_by_ten(scores, visible):
    return np.where(visible, scores, np.array(-10, scores.dtype))


def split_heads(x, n_head):
    batch, tokens, channels = x.shape
    return x.reshape(batch, tokens, n_head, channels // n_head).transpose(0, 2, 1, 3)


def split_heads_backwards(x, n_head):
    return split_heads(x, n_head)[:, ::-1]


def merge_heads(x):
    batch, heads, tokens, size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, tokens, heads * size)


def merge_heads_in_turn(x):
    batch, heads, tokens, size = x.shape
    return x.transpose(0, 2, 3, 1).reshape(batch, tokens, size * heads)


def conv1d(x, weight, bias):
    return np.matmul(x, weight) + bias


def queries_keys_values(x, params, config):
    q, k, v = np.split(conv1d(x, **params["c_attn"]), 3, axis=-1)
    return tuple(split_heads(y, config.n_head) for y in (q, k, v))


def queries_keys_values_rotated(x, params, config):
    k, v, q = np.split(conv1d(x, **params["c_attn"]), 3, axis=-1)
    return tuple(split_heads(y, config.n_head) for y in (q, k, v))


def mlp(x, params, config):
    return conv1d(gelu_new(conv1d(x, **params["c_fc"])), **params["c_proj"])


def mlp_bias_twice(x, params, config):
    return mlp(x, params, config) + params["c_proj"]["bias"]


def surprises(logits, labels, ignore_index):
    """Minus the log-probability of each label, and where a label is scored."""
    scored = labels != ignore_index
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(logs, np.where(scored, labels, 0)[..., None], axis=-1)[..., 0]
    return np.where(scored, -chosen, 0), scored


def cross_entropy(logits, labels, ignore_index=-100):
    found, scored = surprises(logits, labels, ignore_index)
    return (found.sum() / max(int(scored.sum()), 1)).astype(logits.dtype)


def cross_entropy_mean_of_means(logits, labels, ignore_index=-100):
    found, scored = surprises(logits, labels, ignore_index)
    counts = np.maximum(scored.sum(axis=-1), 1).astype(logits.dtype)
    return (found.sum(axis=-1) / counts).mean()


def cross_entropy_in_bits(logits, labels, ignore_index=-100):
    return (cross_entropy(logits, labels, ignore_index) / math.log(2)).astype(logits.dtype)


def shift_labels(labels, attention_mask=None, ignore_index=-100):
    shifted = np.concatenate((labels[:, 1:], np.full_like(labels[:, :1], ignore_index)), axis=1)
    return shifted if attention_mask is None else np.where(attention_mask != 0, shifted, ignore_index)


def shift_labels_backwards(labels, attention_mask=None, ignore_index=-100):
    shifted = np.concatenate((np.full_like(labels[:, :1], ignore_index), labels[:, :-1]), axis=1)
    return shifted if attention_mask is None else np.where(attention_mask != 0, shifted, ignore_index)


def shift_labels_by_three(labels, attention_mask=None, ignore_index=-100):
    shifted = np.concatenate((labels[:, 3:], np.full_like(labels[:, :3], ignore_index)), axis=1)
    return shifted if attention_mask is None else np.where(attention_mask != 0, shifted, ignore_index)


def conv1d_vjp(grad, x, weight, bias):
    rows, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    return (grads @ weight.T).reshape(x.shape), rows.T @ grads, grads.sum(axis=0)


def conv1d_vjp_mean_weight(grad, x, weight, bias):
    d_x, d_weight, d_bias = conv1d_vjp(grad, x, weight, bias)
    return d_x, d_weight / (x.shape[0] * x.shape[1]), d_bias


def cross_entropy_vjp(grad, logits, labels, ignore_index=-100):
    scored = labels != ignore_index
    one_hot = np.arange(logits.shape[-1]) == labels[..., None]
    found = np.where(scored[..., None], softmax(logits) - one_hot, 0)
    return (found * (grad / max(int(scored.sum()), 1))).astype(logits.dtype)


def cross_entropy_vjp_divided_twice(grad, logits, labels, ignore_index=-100):
    found = cross_entropy_vjp(grad, logits, labels, ignore_index)
    return (found / max(int((labels != ignore_index).sum()), 1)).astype(logits.dtype)
