"""GPT-2 on MindSpore: embeddings, a stack of blocks, a final norm, a head. Twin of reference/model.py."""

from typing import Any

from mindspore import Tensor
from mindspore import ops as P

from ms_backend import ops
from ms_backend.attention import attention
from ms_backend.ops import conv1d, embedding, layer_norm, matmul
from ms_backend.stages import observe
from reference.config import GPT2Config


def mlp(x: Tensor, params: dict, config: GPT2Config, layer: int = 0) -> Tensor:
    """Two affine maps with a non-linearity between them, on each token alone."""
    at, name = f"h.{layer}.mlp", config.activation_function
    h = observe(f"{at}.c_fc", conv1d(x, **params["c_fc"]))  # (B, T, I)
    h = observe(f"{at}.{name}", getattr(ops, name)(h))
    return observe(f"{at}.c_proj", conv1d(h, **params["c_proj"]))  # (B, T, C)


def block(
    x: Tensor, params: dict, config: GPT2Config, layer: int = 0,
    attention_mask: Tensor | None = None, past: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # fmt: skip
    """One layer: attention, then MLP, each behind its own LayerNorm and added to the residual stream."""
    at, eps = f"h.{layer}", config.layer_norm_epsilon
    normed = observe(f"{at}.ln_1", layer_norm(x, **params["ln_1"], eps=eps))
    attended, present = attention(normed, params["attn"], config, layer, attention_mask, past)
    x = observe(f"{at}.attn_residual", x + attended)
    normed = observe(f"{at}.ln_2", layer_norm(x, **params["ln_2"], eps=eps))
    return observe(f"{at}.mlp_residual", x + mlp(normed, params["mlp"], config, layer)), present


def gpt2(
    params: dict, ids: Tensor, config: GPT2Config, attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None, past: list[tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:  # fmt: skip
    """The stack without a head: hidden states after ln_f, and every layer's keys and values (the next call's past).

    Positions count from the end of the past unless position_ids says otherwise.
    """
    past_length = 0 if past is None else past[0][0].shape[2]
    if position_ids is None:
        position_ids = P.arange(past_length, past_length + ids.shape[1])[None]  # (1, T)
    tokens = observe("wte", embedding(ids, **params["wte"]))  # (B, T, C)
    positions = observe("wpe", embedding(position_ids, **params["wpe"]))
    x = observe("embeddings", tokens + positions)
    presents: list[Any] = []
    for i, layer in enumerate(params["h"]):
        x, present = block(x, layer, config, i, attention_mask, None if past is None else past[i])
        presents.append(present)
    return observe("ln_f", layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)), presents


def language_model(
    params: dict, ids: Tensor, config: GPT2Config, attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None, past: list[tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:  # fmt: skip
    """Scores of every next token: the hidden states times the token embeddings (tied head) or lm_head (untied)."""
    x, presents = gpt2(params, ids, config, attention_mask, position_ids, past)
    head = params["wte"] if config.tie_word_embeddings else params["lm_head"]
    return observe("logits", matmul(x, P.transpose(head["weight"], (1, 0)))), presents


def sequence_classifier(
    params: dict, ids: Tensor, config: GPT2Config, attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Scores of every label, read at each sequence's last token.

    The last token is the last that attention_mask keeps; without one, the last that is not config.pad_token_id.
    """
    x, _ = gpt2(params, ids, config, attention_mask, position_ids)
    scores = observe("score", matmul(x, P.transpose(params["score"]["weight"], (1, 0))))  # (B, T, K)
    if attention_mask is None:
        attention_mask = P.ones_like(ids) if config.pad_token_id is None else ids != config.pad_token_id
    last = ((attention_mask != 0).astype(ids.dtype) * P.arange(ids.shape[1])).max(axis=1)  # (B,)
    chosen = P.tile(last[:, None, None], (1, 1, scores.shape[2]))
    return observe("label_logits", P.gather_elements(scores, 1, chosen)[:, 0])
