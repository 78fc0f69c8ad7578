"""Planted bugs of the operations: LayerNorm, affine maps, look-ups."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import AFFINE, NORMS, PRODUCTS

LAYER_NORMS = (
    Mutant(
        "epsilon outside the root",
        "The Annotated Transformer divides by std + eps; BERT-pytorch (issue 30) and others copied it from there.",
        (Edit("reference.ops.layer_norm", "np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "epsilon always 1e-5",
        "The function always uses the usual value and ignores its argument.",
        (Edit("reference.ops.layer_norm", "variance + eps", "variance + 1e-5"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "epsilon of 1e-7",
        "layer_norm_epsilon is not passed to a layer with another default: MindSpore's nn.LayerNorm has 1e-7, "
        "PyTorch's 1e-5, Keras's 1e-3.",
        (
            Edit(
                "reference.model._norm",
                "config.layer_norm_epsilon",
                '(config.layer_norm_epsilon if stage == "ln_f" else 1e-7)',
            ),
        ),
        ("ln_1", "ln_2", "model.block"),
    ),
    Mutant(
        "ln_f keeps the default epsilon",
        "layer_norm_epsilon is passed to the blocks, but not to the last norm.",
        (
            Edit(
                "reference.model._norm",
                "config.layer_norm_epsilon",
                '(1e-5 if stage == "ln_f" else config.layer_norm_epsilon)',
            ),
        ),
        ("ln_f", "model.gpt2"),
    ),
    Mutant(
        "the unbiased variance",
        "torch.std and torch.var divide by n - 1. In the Annotated Transformer (pull request 119), AllenNLP (pull "
        "request 953) and Flux.jl (issue 529).",
        (
            Edit(
                "reference.ops.layer_norm",
                "variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]",
                "variance = x.var(axis=-1, keepdims=True, ddof=1)",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "the variance in one pass",
        "E[x^2] - E[x]^2, the default of Flax (use_fast_variance): it cancels for rows far from zero.",
        (
            Edit(
                "reference.ops.layer_norm",
                "variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]",
                "variance = np.maximum((x * x).mean(axis=-1, keepdims=True) - x.mean(axis=-1, keepdims=True) ** 2, 0)",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "mean of absolute values",
        "The mean absolute deviation is used as the standard deviation.",
        (
            Edit(
                "reference.ops.layer_norm",
                "variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]",
                "variance = np.mean(np.abs(centred), axis=-1, keepdims=True) ** 2",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "square for root",
        "(variance + epsilon) ** 2 for ** 0.5, as in TPLinker (issue 37).",
        (Edit("reference.ops.layer_norm", "np.sqrt(variance + eps)", "(variance + eps) ** 2"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm's gain dropped",
        "A fresh model has gains of one, so the bug shows only with trained weights.",
        (
            Edit(
                "reference.ops.layer_norm", "np.sqrt(variance + eps) * weight + bias", "np.sqrt(variance + eps) + bias"
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm's bias dropped",
        "A fresh model has biases of zero; nanoGPT's bias=False leaves them out.",
        (
            Edit(
                "reference.ops.layer_norm",
                "np.sqrt(variance + eps) * weight + bias",
                "np.sqrt(variance + eps) * weight",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "gain counted from one",
        "x * (1 + weight), as Gemma stores its gains.",
        (
            Edit(
                "reference.ops.layer_norm", "np.sqrt(variance + eps) * weight", "np.sqrt(variance + eps) * (1 + weight)"
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "RMSNorm for LayerNorm",
        "The mean is not subtracted: the norm of LLaMA, with GPT-2's bias.",
        (Edit("reference.ops.layer_norm", "centred = x - mean(x)", "centred = x"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm over all tokens",
        "Mean and variance of a whole sequence: MindSpore's ops.LayerNorm with its default begin_norm_axis, 1.",
        (
            Edit(
                "reference.ops.layer_norm",
                "centred = x - mean(x)",
                "centred = x - x.mean(axis=(1, 2), keepdims=True)",
            ),
            Edit(
                "reference.ops.layer_norm",
                "variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]",
                "variance = np.mean(centred * centred, axis=(1, 2), keepdims=True)",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm in float16",
        "A norm that is not kept in float32 under mixed precision: the mean is rounded before it is subtracted.",
        (Edit("reference.ops.layer_norm", "@rounded_once\ndef layer_norm(", "def layer_norm("),),
        (*NORMS, "ops.layer_norm"),
        dtype="float16",
    ),
    Mutant(
        "no LayerNorm at all",
        "A stub was left in the code.",
        (Edit("reference.ops.layer_norm", "return centred / np.sqrt(variance + eps) * weight + bias", "return x"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "ln_1 for both norms",
        "A copied line was not changed.",
        (Edit("reference.model.block", 'x, params["ln_2"]', 'x, params["ln_1"]'),),
        ("ln_2", "model.block"),
    ),
    Mutant(
        "ln_f dropped",
        "GPT-1, with its norms behind each sub-block, has none at the end.",
        (Edit("reference.model.gpt2", '_norm("ln_f", x, params["ln_f"], config)', 'observe("ln_f", x)'),),
        ("ln_f", "model.gpt2"),
    ),
    Mutant(
        "ln_f before the blocks too",
        "A norm of the embeddings, as BERT and BLOOM have.",
        (
            Edit(
                "reference.model.embed",
                '"embeddings", tokens + positions',
                '"embeddings", layer_norm(tokens + positions, **params["ln_f"], eps=config.layer_norm_epsilon)',
            ),
        ),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
)
AFFINE_MAPS = (
    Mutant(
        "the bias dropped",
        "A fresh model has biases of zero, so the bug shows only with trained weights.",
        (Edit("reference.ops.conv1d", "(matmul(rows, weight) + bias)", "matmul(rows, weight)"),),
        (*AFFINE, "ops.conv1d"),
    ),
    Mutant(
        "c_proj transposed",
        "GPT-2's Conv1D stores (in, out), nn.Linear (out, in). nanoGPT transposes four weights on loading; the square "
        "one fits either way, so a missing transpose raises no error.",
        (
            Edit(
                "reference.attention.attention",
                'conv1d(merged, **params["c_proj"])',
                'conv1d(merged, params["c_proj"]["weight"].T, params["c_proj"]["bias"])',
            ),
        ),
        ("attn.c_proj", "attention.attention"),
    ),
    Mutant(
        "the bias of every rank",
        "A matrix is split by rows over two devices, and each adds the whole bias before the sum.",
        (
            Edit(
                "reference.attention.attention",
                'conv1d(merged, **params["c_proj"])',
                'conv1d(merged, **params["c_proj"]) + params["c_proj"]["bias"]',
            ),
        ),
        ("attn.c_proj", "attention.attention"),
    ),
    Mutant(
        "matmul in TF32",
        "Factors cut to 10 bits: the default of JAX on an A100 (issue 12008), as bfloat16 is on a TPU (issue 10413).",
        (
            Edit(
                "reference.ops.matmul",
                "    return np.matmul(a, b)",
                "    short = [(x.view(np.uint32) & 0xFFFFE000).view(np.float32) for x in (a, b)]\n"
                "    return np.matmul(*short)",
            ),
        ),
        (*PRODUCTS, "ops.matmul"),
    ),
    Mutant(
        "products in float16",
        "A float32 model on a matrix unit that takes and returns float16, or under autocast.",
        (
            Edit(
                "reference.ops.matmul",
                "    return np.matmul(a, b)",
                "    return np.matmul(a.astype(np.float16), b.astype(np.float16)).astype(a.dtype)",
            ),
        ),
        (*PRODUCTS, "ops.matmul"),
    ),
    Mutant(
        "one buffer for all results",
        "Products are written to a buffer that the next call of the same shape reuses; the keys and values of a "
        "layer are views of it, and the next layer overwrites them.",
        (
            Edit("reference.ops", "from typing import Any", "from functools import lru_cache\nfrom typing import Any"),
            Edit(
                "reference.ops",
                "Array = NDArray[Any]",
                "Array = NDArray[Any]\nroom = lru_cache(maxsize=None)(np.empty)",
            ),
            Edit(
                "reference.ops.conv1d",
                "    return (matmul(rows, weight) + bias).reshape(*x.shape[:-1], weight.shape[1])",
                "    product = room((len(rows), weight.shape[1]), x.dtype)\n"
                "    product[:] = matmul(rows, weight) + bias\n"
                "    return product.reshape(*x.shape[:-1], weight.shape[1])",
            ),
        ),
        (*AFFINE, "attn.q", "attn.k", "attn.v", "ops.conv1d", "model.gpt2"),
    ),
)
EMBEDDINGS = (
    Mutant(
        "index overflows",
        "The flat index id * C + channel in too few bits. In vLLM's sampler it was int32 (pull request 46560); here it "
        "is int8, which a small table overflows as a large one does int32.",
        (
            Edit(
                "reference.ops.embedding",
                "    return weight[ids]",
                "    channels = weight.shape[1]\n"
                "    flat = ids.astype(np.int8)[..., None] * channels + np.arange(channels, dtype=np.int8)\n"
                "    return weight.reshape(-1)[flat]",
            ),
        ),
        ("wte", "wpe", "ops.embedding"),
    ),
    Mutant(
        "row 0 is padding",
        "nn.Embedding(padding_idx=0), a habit from models that have a padding token: GPT-2's id 0 is the '!'.",
        (Edit("reference.ops.embedding", "return weight[ids]", "return weight[ids] * (ids != 0)[..., None]"),),
        ("wte", "wpe", "ops.embedding"),
    ),
    Mutant(
        "positions left out",
        "A port of a model with rotary positions.",
        (Edit("reference.model.embed", '"embeddings", tokens + positions', '"embeddings", tokens'),),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
    Mutant(
        "positions added twice",
        "They are added once in the embedding and once in the model.",
        (
            Edit(
                "reference.model.embed",
                '"embeddings", tokens + positions',
                '"embeddings", tokens + positions + positions',
            ),
        ),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
    Mutant(
        "embeddings times the root of C",
        "Vaswani et al. 2017, section 3.4, and the Annotated Transformer do so; GPT-2 does not.",
        (
            Edit(
                "reference.model.embed",
                '"embeddings", tokens + positions',
                '"embeddings", tokens * np.array(config.n_embd**0.5, tokens.dtype) + positions',
            ),
        ),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
    Mutant(
        "float64 leaks in",
        "np.zeros makes float64 by default, and all later results become float64 too.",
        (
            Edit(
                "reference.model.embed",
                '"embeddings", tokens + positions',
                '"embeddings", np.zeros((*ids.shape, config.n_embd)) + tokens + positions',
            ),
        ),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
    Mutant(
        "positions one too far",
        "Positions that begin at 1; in fairseq they begin behind the padding index (issue 1177), in OPT at 2.",
        (
            Edit(
                "reference.model.gpt2",
                "np.arange(past_length, past_length + ids.shape[1])[None]",
                "np.minimum(np.arange(past_length, past_length + ids.shape[1]) + 1, config.n_positions - 1)[None]",
            ),
        ),
        ("wpe", "model.gpt2"),
    ),
    Mutant(
        "position -1",
        "A count that starts one too early: -1 is no error, but the last row of the table.",
        (
            Edit(
                "reference.model.gpt2",
                "np.arange(past_length, past_length + ids.shape[1])[None]",
                "np.arange(past_length - 1, past_length + ids.shape[1] - 1)[None]",
            ),
        ),
        ("wpe", "model.gpt2"),
    ),
    Mutant(
        "positions restart after the past",
        "A cache is added to a model whose positions are arange(T).",
        (Edit("reference.model.gpt2", "past_length = 0 if past is None else past[0][0].shape[2]", "past_length = 0"),),
        ("model.gpt2",),
    ),
    Mutant(
        "positions follow the mask",
        "Right for generate, but GPT-2's forward pass counts pads: Hugging Face transformers, issues 3021 and 21080.",
        (
            Edit(
                "reference.model.gpt2",
                "    if position_ids is None:\n        position_ids = np.arange(past_length",
                "    if position_ids is None and attention_mask is not None:\n"
                "        position_ids = np.maximum(np.cumsum(attention_mask, axis=1) - 1, 0)[:, past_length:]\n"
                "    if position_ids is None:\n        position_ids = np.arange(past_length",
            ),
        ),
        ("wpe", "model.gpt2"),
    ),
    Mutant(
        "positions of the first sequence for all",
        "One row of positions for a batch whose sequences have different pads: unsloth, pull request 4078.",
        (Edit("reference.model.embed", "embedding(position_ids, ", "embedding(position_ids[:1], "),),
        ("wpe", "model.embed", "model.gpt2"),
    ),
)
