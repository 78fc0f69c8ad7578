"""Bugs that people make when they port GPT-2, planted in the NumPy backend one at a time."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import numpy as np

from gpt2.backends import NumPyBackend
from reference import attention, model, ops
from reference.ops import Array

# The name of the bug: the function that the judge looks at, what is replaced, and by what.
BUGS: dict[str, tuple[str, str, Callable[..., Any]]] = {}


def bug(judged: str, replaced: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant a function in place of reference.`replaced`, where the judge looks at `judged`."""

    def plant(broken: Callable[..., Any]) -> Callable[..., Any]:
        BUGS[broken.__name__.replace("_", " ")] = (judged, replaced, broken)
        return broken

    return plant


class Planted(NumPyBackend):
    """The NumPy backend with one bug in it, for as long as a call lasts."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.judged, replaced, self._broken = BUGS[name]
        self._where = f"reference.{replaced}"

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        with patch(self._where, self._broken):
            return super().call(function, arguments)


@bug("model.mlp", "ops.gelu_new")
def the_error_function_in_place_of_tanh(x: Array) -> Array:
    return ops.gelu(x)


@bug("ops.gelu_new", "ops.gelu_new")
def two_digits_of_the_gelu_constant_swapped(x: Array) -> Array:
    return (0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044175 * x * x * x)))).astype(x.dtype)


@bug("attention.attention", "attention.attention_scale")
def scores_not_scaled(config: Any, layer: int) -> float:
    return 1.0


@bug("attention.attention", "attention.attention_scale")
def scores_scaled_by_the_root_of_all_channels(config: Any, layer: int) -> float:
    return float(config.n_embd) ** 0.5


@bug("attention.attention", "attention.attention_scale")
def layers_counted_from_zero_in_the_scale(config: Any, layer: int) -> float:
    scale = config.head_size**0.5 if config.scale_attn_weights else 1.0
    return scale * max(layer, 1) if config.scale_attn_by_inverse_layer_idx else scale


@bug("ops.layer_norm", "ops.layer_norm")
def epsilon_outside_the_root(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    return ((x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + eps) * weight + bias).astype(x.dtype)


@bug("ops.layer_norm", "ops.layer_norm")
def epsilon_always_the_same(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    return ORIGINAL_LAYER_NORM(x, weight, bias, 1e-5)


@bug("ops.layer_norm", "ops.layer_norm")
def the_unbiased_variance(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one channel there is no unbiased variance
        variance = x.var(-1, keepdims=True, ddof=1)
        return ((x - x.mean(-1, keepdims=True)) / np.sqrt(variance + eps) * weight + bias).astype(x.dtype)


@bug("ops.layer_norm", "ops.layer_norm")
def the_variance_in_one_pass(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = np.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0)
    return ((x - mean) / np.sqrt(variance + eps) * weight + bias).astype(x.dtype)


@bug("model.block", "model.layer_norm")
def the_gain_of_layer_norm_dropped(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    return ORIGINAL_LAYER_NORM(x, np.ones_like(weight), bias, eps)


@bug("model.gpt2", "model.layer_norm")
def no_layer_norm_at_all(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    return x


@bug("model.mlp", "model.conv1d")
def the_bias_dropped(x: Array, weight: Array, bias: Array) -> Array:
    return ops.matmul(x, weight)


@bug("attention.split_heads", "attention.split_heads")
def heads_cut_but_not_moved(x: Array, n_head: int) -> Array:
    return x.reshape(x.shape[0], n_head, x.shape[1], x.shape[2] // n_head)


@bug("attention.attention", "attention.attention_scores")
def queries_and_keys_swapped(q: Array, k: Array, scale: float) -> Array:
    if q.shape != k.shape:
        return ORIGINAL_SCORES(q, k, scale)
    return ORIGINAL_SCORES(k, q, scale)


@bug("attention.causal_bias", "attention.causal_bias")
def the_mask_shows_the_next_token(query_length: int, key_length: int) -> Array:
    return np.tri(query_length, key_length, key_length - query_length + 1, dtype=bool)


@bug("attention.attention", "attention.causal_bias")
def the_mask_hides_the_token_itself(query_length: int, key_length: int) -> Array:
    return np.tri(query_length, key_length, key_length - query_length - 1, dtype=bool)


@bug("attention.attention", "attention.causal_bias")
def the_mask_forgets_the_past(query_length: int, key_length: int) -> Array:
    return np.tri(query_length, key_length, 0, dtype=bool)


@bug("attention.attention", "attention.mask_scores")
def masked_scores_of_minus_four(scores: Array, visible: Array) -> Array:
    return np.where(visible, scores, np.array(-4, scores.dtype))


@bug("model.language_model", "attention.visible_keys")
def padding_ignored(query_length: int, key_length: int, attention_mask: Array | None = None) -> Array:
    return attention.causal_bias(query_length, key_length)[None, None]


@bug("attention.attention", "attention.softmax")
def softmax_over_the_queries(x: Array) -> Array:
    return ops.softmax(x.swapaxes(-1, -2)).swapaxes(-1, -2)


@bug("model.gpt2", "model.embedding")
def positions_one_too_far(ids: Array, weight: Array) -> Array:
    shifted = ids + 1 if len(ids) == 1 and ids.shape[1] > 1 else ids
    return weight[np.minimum(shifted, len(weight) - 1)]


@bug("generate.sample", "generate.softmax")
def temperature_applied_twice(x: Array) -> Array:
    return ops.softmax(x / 2)


ORIGINAL_LAYER_NORM = ops.layer_norm
ORIGINAL_SCORES = attention.attention_scores
assert model.layer_norm is ORIGINAL_LAYER_NORM
