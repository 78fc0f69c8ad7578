"""GPT-2: embeddings, a stack of blocks, a final norm, a head. Parameters come as the tree that `config.nest` makes."""

from typing import Any

import numpy as np

from reference import ops
from reference.attention import attention
from reference.config import GPT2Config
from reference.ops import Array, conv1d, embedding, layer_norm, matmul
from reference.stages import observe


def mlp(x: Array, params: dict, config: GPT2Config, layer: int = 0) -> Array:
    """Two affine maps with a non-linearity between them, on each token alone.

    Shapes: x (B, T, C), params {h.0.mlp} -> (B, T, C)
    Source: `mlp` in GPT-2's model.py.
    """
    at, name = f"h.{layer}.mlp", config.activation_function
    h = observe(f"{at}.c_fc", conv1d(x, **params["c_fc"]))  # (B, T, I)
    h = observe(f"{at}.{name}", getattr(ops, name)(h))
    return observe(f"{at}.c_proj", conv1d(h, **params["c_proj"]))  # (B, T, C)


def block(
    x: Array, params: dict, config: GPT2Config, layer: int = 0,
    attention_mask: Array | None = None, past: tuple[Array, Array] | None = None,
) -> tuple[Array, tuple[Array, Array]]:  # fmt: skip
    """One layer: attention, then MLP, each behind its own LayerNorm and added to the residual stream.

    Shapes: x (B, T, C), params {h.0}, attention_mask (B, S) mask optional, past (B, H, P, D) pair optional
        -> (B, T, C), (B, H, S, D) pair
    Source: GPT-2 paper, section 2.3 (LayerNorm moved to the input of each sub-block).
    """
    at, eps = f"h.{layer}", config.layer_norm_epsilon
    normed = observe(f"{at}.ln_1", layer_norm(x, **params["ln_1"], eps=eps))
    attended, present = attention(normed, params["attn"], config, layer, attention_mask, past)
    x = observe(f"{at}.attn_residual", x + attended)
    normed = observe(f"{at}.ln_2", layer_norm(x, **params["ln_2"], eps=eps))
    return observe(f"{at}.mlp_residual", x + mlp(normed, params["mlp"], config, layer)), present


def gpt2(
    params: dict, ids: Array, config: GPT2Config, attention_mask: Array | None = None,
    position_ids: Array | None = None, past: list[tuple[Array, Array]] | None = None,
) -> tuple[Array, list[tuple[Array, Array]]]:  # fmt: skip
    """The stack without a head: hidden states after ln_f, and every layer's keys and values (the next call's past).

    Positions count from the end of the past unless position_ids says otherwise.
    Shapes: params {}, ids (B, T) int V, attention_mask (B, S) mask optional, position_ids (B, T) int L optional,
        past (B, H, P, D) pairs optional -> (B, T, C), (B, H, S, D) pairs
    Source: GPT-2 paper, section 2.3; `model` in GPT-2's model.py.
    """
    past_length = 0 if past is None else past[0][0].shape[2]
    if position_ids is None:
        position_ids = np.arange(past_length, past_length + ids.shape[1])[None]  # (1, T)
    tokens = observe("wte", embedding(ids, **params["wte"]))  # (B, T, C)
    positions = observe("wpe", embedding(position_ids, **params["wpe"]))
    x = observe("embeddings", tokens + positions)
    presents: list[Any] = []
    for i, layer in enumerate(params["h"]):
        x, present = block(x, layer, config, i, attention_mask, None if past is None else past[i])
        presents.append(present)
    return observe("ln_f", layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)), presents


def language_model(
    params: dict, ids: Array, config: GPT2Config, attention_mask: Array | None = None,
    position_ids: Array | None = None, past: list[tuple[Array, Array]] | None = None,
) -> tuple[Array, list[tuple[Array, Array]]]:  # fmt: skip
    """Scores of every next token: the hidden states times the token embeddings (tied head) or lm_head (untied).

    Shapes: params {}, ids (B, T) int V, attention_mask (B, S) mask optional, position_ids (B, T) int L optional,
        past (B, H, P, D) pairs optional -> (B, T, V), (B, H, S, D) pairs
    """
    x, presents = gpt2(params, ids, config, attention_mask, position_ids, past)
    head = params["wte"] if config.tie_word_embeddings else params["lm_head"]
    return observe("logits", matmul(x, head["weight"].T)), presents


def sequence_classifier(
    params: dict, ids: Array, config: GPT2Config, attention_mask: Array | None = None,
    position_ids: Array | None = None,
) -> Array:  # fmt: skip
    """Scores of every label, read at each sequence's last token.

    The last token is the last that attention_mask keeps; without one, the last that is not config.pad_token_id.
    Shapes: params {score}, ids (B, T) int V, attention_mask (B, T) mask optional, position_ids (B, T) int L optional
        -> (B, K)
    Source: GPT2ForSequenceClassification in Hugging Face's modeling_gpt2.py.
    """
    x, _ = gpt2(params, ids, config, attention_mask, position_ids)
    scores = observe("score", matmul(x, params["score"]["weight"].T))  # (B, T, K)
    if attention_mask is None:
        attention_mask = np.ones_like(ids) if config.pad_token_id is None else ids != config.pad_token_id
    last = np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)  # (B,)
    return observe("label_logits", scores[np.arange(len(ids)), last])
