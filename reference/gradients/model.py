"""The gradients of model.py, derived by hand, in the order of that file. ops.py here says what a vjp is.

Each function computes again what it needs of the forward pass, block by block; only the residual stream is stored. That
saves memory, and each function can be read alone.
"""

import numpy as np

from reference import activations
from reference.attention import attention
from reference.config import GPT2Config, affine, part
from reference.gradients import activations as gradients_of_activations
from reference.gradients.attention import attention_vjp
from reference.gradients.ops import conv1d_vjp, cross_entropy_vjp, embedding_vjp, layer_norm_vjp, unembedding_vjp
from reference.model import block, embed, gpt2, language_model, last_tokens, sequence_classifier, shift_labels
from reference.ops import Array, conv1d, dropout, layer_norm
from reference.precision import as_low_as
from reference.stages import observe


def mlp_vjp(
    grad: Array, x: Array, params: dict, config: GPT2Config, layer: int = 0, keep: dict | None = None
) -> tuple[Array, dict]:
    """Gradients of mlp by x and by the parameters.

    Shapes: grad (B, T, C), x (B, T, C), params {h.0.mlp}, keep {h.0.mlp} keep optional -> (B, T, C), {h.0.mlp}
    """
    name = config.activation_function
    before = conv1d(x, **params["c_fc"])
    after = getattr(activations, name)(before)
    d_projected = dropout(as_low_as(grad, after), part(keep, "c_proj"), config.resid_pdrop)
    d_after, *d_c_proj = conv1d_vjp(d_projected, after, **params["c_proj"])
    d_before = getattr(gradients_of_activations, f"{name}_vjp")(d_after, before)
    d_x, *d_c_fc = conv1d_vjp(d_before, x, **params["c_fc"])
    return d_x, {"c_fc": affine(*d_c_fc), "c_proj": affine(*d_c_proj)}


def block_vjp(
    grad: Array,
    x: Array,
    params: dict,
    config: GPT2Config,
    layer: int = 0,
    attention_mask: Array | None = None,
    keep: dict | None = None,
) -> tuple[Array, dict]:
    """Gradients of block: each residual sum passes the gradient on unchanged, plus that through its branch.

    Shapes: grad (B, T, C), x (B, T, C), params {h.0}, attention_mask (B, T) mask optional, keep {h.0} keep optional
        -> (B, T, C), {h.0}
    """
    eps, keep_attn, keep_mlp = config.layer_norm_epsilon, part(keep, "attn"), part(keep, "mlp")
    normed_x = layer_norm(x, **params["ln_1"], eps=eps)
    attended, _ = attention(normed_x, params["attn"], config, layer, attention_mask, keep=keep_attn)
    y = x + attended
    normed_y = layer_norm(y, **params["ln_2"], eps=eps)
    d_normed_y, d_mlp = mlp_vjp(grad, normed_y, params["mlp"], config, layer, keep_mlp)
    d_branch, *d_ln_2 = layer_norm_vjp(d_normed_y, y, **params["ln_2"], eps=eps)
    d_y = observe("rounding", grad + d_branch)
    d_normed_x, d_attn = attention_vjp(d_y, normed_x, params["attn"], config, layer, attention_mask, keep_attn)
    d_branch, *d_ln_1 = layer_norm_vjp(d_normed_x, x, **params["ln_1"], eps=eps)
    d_x = observe("rounding", d_y + d_branch)
    return d_x, {"ln_1": affine(*d_ln_1), "attn": d_attn, "ln_2": affine(*d_ln_2), "mlp": d_mlp}


def gpt2_vjp(
    grad: Array,
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
) -> dict:
    """Gradients of gpt2's parameters: back through ln_f and the blocks, to the embedding rows of the tokens.

    gpt2 does not use a head, so the gradient of a head in params is zero.
    Shapes: grad (B, T, C), params {}, ids (B, T) int V, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> {}
    """
    if position_ids is None:
        position_ids = np.arange(ids.shape[1])[None]  # (1, T)
    streams = [embed(params, ids, position_ids, config, keep)]
    keep_layers = [None] * config.n_layer if keep is None else keep["h"]
    for i in range(config.n_layer):
        streams.append(block(streams[i], params["h"][i], config, i, attention_mask, keep=keep_layers[i])[0])
    d_x, *d_ln_f = layer_norm_vjp(grad, streams[-1], **params["ln_f"], eps=config.layer_norm_epsilon)
    d_layers: list[dict] = []
    for i in reversed(range(config.n_layer)):
        d_x, d_layer = block_vjp(d_x, streams[i], params["h"][i], config, i, attention_mask, keep_layers[i])
        d_layers.insert(0, d_layer)
    d_x = dropout(d_x, part(keep, "embeddings"), config.embd_pdrop)
    d_wte = embedding_vjp(d_x, ids, **params["wte"])
    d_wpe = embedding_vjp(d_x, np.broadcast_to(position_ids, ids.shape), **params["wpe"])
    heads = {name: {"weight": np.zeros_like(params[name]["weight"])} for name in ("lm_head", "score") if name in params}
    return heads | {"wte": {"weight": d_wte}, "wpe": {"weight": d_wpe}, "h": d_layers, "ln_f": affine(*d_ln_f)}


def language_model_vjp(
    grad: Array,
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
) -> dict:
    """Gradients of language_model's parameters. A tied head adds its gradient to that of the embeddings.

    Shapes: grad (B, T, V), params {}, ids (B, T) int V, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> {}
    """
    x, _ = gpt2(params, ids, config, attention_mask, position_ids, keep=keep)
    head = "wte" if config.tie_word_embeddings else "lm_head"
    d_x, d_head = unembedding_vjp(grad, x, params[head]["weight"])
    gradients = gpt2_vjp(d_x, params, ids, config, attention_mask, position_ids, keep)
    shared = gradients["wte"]["weight"] if config.tie_word_embeddings else np.zeros_like(d_head)
    return gradients | {head: {"weight": observe("rounding", shared + d_head)}}


def language_model_loss_vjp(
    grad: Array,
    params: dict,
    ids: Array,
    labels: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
) -> dict:
    """Gradients of language_model_loss, times grad, which is 1 or the loss scale.

    Shapes: grad (), params {}, ids (B, T) int V, labels (B, T) labels V, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> {}
    """
    logits, _ = language_model(params, ids, config, attention_mask, position_ids, keep=keep)
    d_logits = cross_entropy_vjp(grad, logits, shift_labels(labels, attention_mask, ignore_index), ignore_index)
    return language_model_vjp(d_logits, params, ids, config, attention_mask, position_ids, keep)


def sequence_classifier_vjp(
    grad: Array,
    params: dict,
    ids: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
) -> dict:
    """Gradients of sequence_classifier's parameters: they flow back through the last tokens only.

    Shapes: grad (B, K), params {score}, ids (B, T) int V, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> {score}
    """
    x, _ = gpt2(params, ids, config, attention_mask, position_ids, keep=keep)
    d_scores = np.zeros((*ids.shape, grad.shape[1]), grad.dtype)
    d_scores[np.arange(len(ids)), last_tokens(ids, config, attention_mask)] = grad
    d_x, d_score = unembedding_vjp(d_scores, x, **params["score"])
    gradients = gpt2_vjp(d_x, params, ids, config, attention_mask, position_ids, keep)
    return gradients | {"score": {"weight": d_score}}


def sequence_classifier_loss_vjp(
    grad: Array,
    params: dict,
    ids: Array,
    labels: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
) -> dict:
    """Gradients of sequence_classifier_loss, times grad, which is 1 or the loss scale.

    Shapes: grad (), params {score}, ids (B, T) int V, labels (B) labels K, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> {score}
    """
    scores = sequence_classifier(params, ids, config, attention_mask, position_ids, keep)
    d_scores = cross_entropy_vjp(grad, scores, labels, ignore_index)
    return sequence_classifier_vjp(d_scores, params, ids, config, attention_mask, position_ids, keep)
