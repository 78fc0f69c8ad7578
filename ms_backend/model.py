"""GPT-2 on MindSpore: embeddings, a stack of blocks, a final norm, a head. Twin of reference/model.py.

Stages have the same names as there; a compiled graph has no stages.
"""

from mindspore import Tensor
from mindspore import ops as P

from ms_backend import activations
from ms_backend.attention import attention
from ms_backend.ops import Pair, conv1d, cross_entropy, dropout, embedding, layer_norm, unembedding
from ms_backend.stages import observe, observe_each
from reference.config import GPT2Config, part


def mlp(x: Tensor, params: dict, config: GPT2Config, layer: int = 0, keep: dict | None = None) -> Tensor:
    """Apply two affine maps, with a non-linearity between them, to each token alone."""
    at, name = f"h.{layer}.mlp", config.activation_function
    h = observe(f"{at}.c_fc", conv1d(x, **params["c_fc"]))  # (B, T, I)
    h = observe(f"{at}.{name}", getattr(activations, name)(h))
    projected = observe(f"{at}.c_proj", conv1d(h, **params["c_proj"]))  # (B, T, C)
    return dropout(projected, part(keep, "c_proj"), config.resid_pdrop)


def block(
    x: Tensor,
    params: dict,
    config: GPT2Config,
    layer: int = 0,
    attention_mask: Tensor | None = None,
    past: Pair | None = None,
    keep: dict | None = None,
) -> tuple[Tensor, Pair]:
    """One layer: attention, then MLP; each reads the residual stream through its own LayerNorm and adds to it."""
    at = f"h.{layer}"
    normed = _norm(f"{at}.ln_1", x, params["ln_1"], config)
    attended, present = attention(normed, params["attn"], config, layer, attention_mask, past, part(keep, "attn"))
    x = observe(f"{at}.attn_residual", x + attended)
    normed = _norm(f"{at}.ln_2", x, params["ln_2"], config)
    return observe(f"{at}.mlp_residual", x + mlp(normed, params["mlp"], config, layer, part(keep, "mlp"))), present


def _norm(stage: str, x: Tensor, params: dict, config: GPT2Config) -> Tensor:
    """LayerNorm with the gain and bias in params; `stage` names the result."""
    return observe(stage, layer_norm(x, **params, eps=config.layer_norm_epsilon))


def embed(params: dict, ids: Tensor, position_ids: Tensor, config: GPT2Config, keep: dict | None = None) -> Tensor:
    """The input of the first block: for each token, the embedding of its id plus that of its position."""
    tokens, positions = observe_each(
        wte=embedding(ids, **params["wte"]),  # (B, T, C)
        wpe=embedding(position_ids, **params["wpe"]),
    )
    return dropout(observe("embeddings", tokens + positions), part(keep, "embeddings"), config.embd_pdrop)


def gpt2(
    params: dict,
    ids: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past: list[Pair] | None = None,
    keep: dict | None = None,
) -> tuple[Tensor, list[Pair]]:
    """The model without a head: hidden states after ln_f, and every layer's keys and values (the next call's past).

    Positions count from the end of the past unless position_ids says otherwise.
    """
    past_length = 0 if past is None else past[0][0].shape[2]
    if position_ids is None:
        position_ids = P.arange(past_length, past_length + ids.shape[1])[None]  # (1, T)
    x = embed(params, ids, position_ids, config, keep)
    presents: list[Pair] = []
    for i, layer in enumerate(params["h"]):
        keep_layer = None if keep is None else keep["h"][i]
        x, present = block(x, layer, config, i, attention_mask, None if past is None else past[i], keep_layer)
        presents.append(present)
    return _norm("ln_f", x, params["ln_f"], config), presents


def language_model(
    params: dict,
    ids: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past: list[Pair] | None = None,
    keep: dict | None = None,
) -> tuple[Tensor, list[Pair]]:
    """Scores of the next token at each position: hidden states times token embeddings (tied) or lm_head (untied)."""
    x, presents = gpt2(params, ids, config, attention_mask, position_ids, past, keep)
    head = params["wte"] if config.tie_word_embeddings else params["lm_head"]
    return observe("logits", unembedding(x, head["weight"])), presents


def shift_labels(labels: Tensor, attention_mask: Tensor | None = None, ignore_index: int = -100) -> Tensor:
    """Label each position with the token after it; the last position and pads get no label.

    Hugging Face scores what the last pad on the left predicts; here, no prediction of a first token is scored.
    """
    none = P.full_like(labels[:, :1], ignore_index)
    shifted = none if labels.shape[1] == 1 else P.cat((labels[:, 1:], none), axis=1)  # no kernel for an empty slice
    return (
        shifted if attention_mask is None else P.where(attention_mask != 0, shifted, P.full_like(shifted, ignore_index))
    )


def language_model_loss(
    params: dict,
    ids: Tensor,
    labels: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Mean cross-entropy, in nats, over the scored tokens: labels are ids, or ignore_index where nothing is scored.

    A label stands at the position of its token; this function shifts it to the position that predicts it.
    """
    logits, _ = language_model(params, ids, config, attention_mask, position_ids, keep=keep)
    return cross_entropy(logits, shift_labels(labels, attention_mask, ignore_index), ignore_index)


def last_tokens(ids: Tensor, config: GPT2Config, attention_mask: Tensor | None = None) -> Tensor:
    """Position of each sequence's last token: the last where attention_mask is not 0.

    Without a mask, the last position whose id is not config.pad_token_id.
    """
    if attention_mask is None:
        attention_mask = P.ones_like(ids) if config.pad_token_id is None else ids != config.pad_token_id
    return ((attention_mask != 0).astype(ids.dtype) * P.arange(ids.shape[1])).max(axis=1)  # (B,)


def sequence_classifier(
    params: dict,
    ids: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    keep: dict | None = None,
) -> Tensor:
    """Scores of every label, read at each sequence's last token."""
    x, _ = gpt2(params, ids, config, attention_mask, position_ids, keep=keep)
    scores = observe("score", unembedding(x, params["score"]["weight"]))  # (B, T, K)
    last = last_tokens(ids, config, attention_mask)
    chosen = P.tile(last[:, None, None], (1, 1, scores.shape[2]))
    return observe("label_logits", P.gather_elements(scores, 1, chosen)[:, 0])


def sequence_classifier_loss(
    params: dict,
    ids: Tensor,
    labels: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Mean cross-entropy of the right label, over the sequences."""
    scores = sequence_classifier(params, ids, config, attention_mask, position_ids, keep)
    return cross_entropy(scores, labels, ignore_index)
