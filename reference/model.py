"""GPT-2: embeddings, a stack of blocks, a final norm, a head. Parameters come as the tree that `config.nest` makes.

Each stage of the computation has a name, such as "h.0.ln_1" in the first layer. By this name the judge can read its
value, or replace it. Without a judge, the names change nothing: see stages.py.
"""

import numpy as np

from reference import activations
from reference.attention import attention
from reference.config import GPT2Config, part
from reference.ops import Array, Pair, conv1d, cross_entropy, dropout, embedding, layer_norm, unembedding
from reference.stages import observe, observe_each


def mlp(x: Array, params: dict, config: GPT2Config, layer: int = 0, keep: dict | None = None) -> Array:
    """Apply two affine maps, with a non-linearity between them, to each token alone.

    Shapes: x (B, T, C), params {h.0.mlp}, keep {h.0.mlp} keep optional -> (B, T, C)
    Source: `mlp` in GPT-2's model.py.
    """
    at, name = f"h.{layer}.mlp", config.activation_function
    h = observe(f"{at}.c_fc", conv1d(x, **params["c_fc"]))  # (B, T, I)
    h = observe(f"{at}.{name}", getattr(activations, name)(h))
    projected = observe(f"{at}.c_proj", conv1d(h, **params["c_proj"]))  # (B, T, C)
    return dropout(projected, part(keep, "c_proj"), config.resid_pdrop)


def block(
    x: Array,
    params: dict,
    config: GPT2Config,
    layer: int = 0,
    attention_mask: Array | None = None,
    past: Pair | None = None,
    keep: dict | None = None,
) -> tuple[Array, Pair]:
    """One layer: attention, then MLP; each reads the residual stream through its own LayerNorm and adds to it.

    Shapes: x (B, T, C), params {h.0}, attention_mask (B, S) mask optional, past (B, H, P, D) pair optional,
        keep {h.0} keep optional -> (B, T, C) kept, (B, H, S, D) pair
    Source: GPT-2 paper, section 2.3 (LayerNorm moved to the input of each sub-block).
    """
    at = f"h.{layer}"
    normed = _norm(f"{at}.ln_1", x, params["ln_1"], config)
    attended, present = attention(normed, params["attn"], config, layer, attention_mask, past, part(keep, "attn"))
    x = observe(f"{at}.attn_residual", x + attended)
    normed = _norm(f"{at}.ln_2", x, params["ln_2"], config)
    return observe(f"{at}.mlp_residual", x + mlp(normed, params["mlp"], config, layer, part(keep, "mlp"))), present


def _norm(stage: str, x: Array, params: dict, config: GPT2Config) -> Array:
    """LayerNorm with the gain and bias in params; `stage` names the result."""
    return observe(stage, layer_norm(x, **params, eps=config.layer_norm_epsilon))


def embed(params: dict, ids: Array, position_ids: Array, config: GPT2Config, keep: dict | None = None) -> Array:
    """The input of the first block: for each token, the embedding of its id plus that of its position.

    Shapes: params {}, ids (B, T) int V, position_ids (B, T) int L, keep {} keep optional -> (B, T, C)
    Source: GPT-1 paper, section 3.1, h_0 = U W_e + W_p.
    """
    tokens, positions = observe_each(
        wte=embedding(ids, **params["wte"]),  # (B, T, C)
        wpe=embedding(position_ids, **params["wpe"]),
    )
    return dropout(observe("embeddings", tokens + positions), part(keep, "embeddings"), config.embd_pdrop)


def gpt2(
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    past: list[Pair] | None = None,
    keep: dict | None = None,
) -> tuple[Array, list[Pair]]:
    """The model without a head: hidden states after ln_f, and every layer's keys and values (the next call's past).

    Positions count from the end of the past unless position_ids says otherwise.
    Shapes: params {}, ids (B, T) int V, attention_mask (B, S) mask optional, position_ids (B, T) int L optional,
        past (B, H, P, D) pairs optional, keep {} keep optional -> (B, T, C) kept, (B, H, S, D) pairs kept
    Source: GPT-2 paper, section 2.3; `model` in GPT-2's model.py.
    """
    past_length = 0 if past is None else past[0][0].shape[2]
    if position_ids is None:
        position_ids = np.arange(past_length, past_length + ids.shape[1])[None]  # (1, T)
    x = embed(params, ids, position_ids, config, keep)
    presents: list[Pair] = []
    for i, layer in enumerate(params["h"]):
        keep_layer = None if keep is None else keep["h"][i]
        x, present = block(x, layer, config, i, attention_mask, None if past is None else past[i], keep_layer)
        presents.append(present)
    return _norm("ln_f", x, params["ln_f"], config), presents


def language_model(
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    past: list[Pair] | None = None,
    keep: dict | None = None,
) -> tuple[Array, list[Pair]]:
    """Scores of the next token at each position: hidden states times token embeddings (tied) or lm_head (untied).

    Shapes: params {}, ids (B, T) int V, attention_mask (B, S) mask optional, position_ids (B, T) int L optional,
        past (B, H, P, D) pairs optional, keep {} keep optional -> (B, T, V) kept, (B, H, S, D) pairs kept
    """
    x, presents = gpt2(params, ids, config, attention_mask, position_ids, past, keep)
    head = params["wte"] if config.tie_word_embeddings else params["lm_head"]
    return observe("logits", unembedding(x, head["weight"])), presents


def shift_labels(labels: Array, attention_mask: Array | None = None, ignore_index: int = -100) -> Array:
    """Label each position with the token after it; the last position and pads get no label.

    Hugging Face scores what the last pad on the left predicts; here, no prediction of a first token is scored.
    Shapes: labels (B, T) labels V, attention_mask (B, T) mask optional -> (B, T)
    """
    shifted = np.concatenate((labels[:, 1:], np.full_like(labels[:, :1], ignore_index)), axis=1)
    return shifted if attention_mask is None else np.where(attention_mask != 0, shifted, ignore_index)


def language_model_loss(
    params: dict,
    ids: Array,
    labels: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
) -> Array:
    """Mean cross-entropy, in nats, over the scored tokens: labels are ids, or ignore_index where nothing is scored.

    A label stands at the position of its token; this function shifts it to the position that predicts it.
    Shapes: params {}, ids (B, T) int V, labels (B, T) labels V, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> ()
    Source: GPT-1 paper, equation 1; the shift, GPT2LMHeadModel in Hugging Face's modeling_gpt2.py.
    """
    logits, _ = language_model(params, ids, config, attention_mask, position_ids, keep=keep)
    return cross_entropy(logits, shift_labels(labels, attention_mask, ignore_index), ignore_index)


def last_tokens(ids: Array, config: GPT2Config, attention_mask: Array | None = None) -> Array:
    """Position of each sequence's last token: the last where attention_mask is not 0.

    Without a mask, the last position whose id is not config.pad_token_id.
    Shapes: ids (B, T) int V, attention_mask (B, T) mask optional -> (B)
    """
    if attention_mask is None:
        attention_mask = np.ones_like(ids) if config.pad_token_id is None else ids != config.pad_token_id
    return np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)  # (B,)


def sequence_classifier(
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
) -> Array:
    """Scores of every label, read at each sequence's last token.

    Shapes: params {score}, ids (B, T) int V, attention_mask (B, T) mask optional, position_ids (B, T) int L optional,
        keep {} keep optional -> (B, K)
    Source: GPT2ForSequenceClassification in Hugging Face's modeling_gpt2.py.
    """
    x, _ = gpt2(params, ids, config, attention_mask, position_ids, keep=keep)
    scores = observe("score", unembedding(x, params["score"]["weight"]))  # (B, T, K)
    last = last_tokens(ids, config, attention_mask)
    return observe("label_logits", scores[np.arange(len(ids)), last])


def sequence_classifier_loss(
    params: dict,
    ids: Array,
    labels: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
) -> Array:
    """Mean cross-entropy of the right label, over the sequences.

    Shapes: params {score}, ids (B, T) int V, labels (B) labels K, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> ()
    """
    scores = sequence_classifier(params, ids, config, attention_mask, position_ids, keep)
    return cross_entropy(scores, labels, ignore_index)
