"""Mutants: bugs that people make when they port GPT-2, each planted alone in a copy of the sources.

They put the judge on trial: it must see every one of them, and stay silent on those that change nothing but rounding.
They also serve as exercises: to find a bug with the tools without being told which it is.
"""

import difflib
import functools

from gpt2.errors import GPT2Error
from parity.generation_mutants import GENERATION
from parity.training_mutants import TRAINING
from parity.twin import Edit, Mutant


def mutant(name: str) -> Mutant:
    """The mutant of that name.

    Raises GPT2Error with the nearest names if there is none.
    """
    known = {mutant.name: mutant for mutant in MUTANTS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:3]
        raise GPT2Error(f"no mutant is called {name!r}: did you mean {' or '.join(map(repr, near))}?")
    return known[name]


OPS = functools.partial(Edit, "reference/ops.py")
ATTENTION = functools.partial(Edit, "reference/attention.py")
MODEL = functools.partial(Edit, "reference/model.py")
FAST = functools.partial(Edit, "reference/fast.py")
GENERATE = functools.partial(Edit, "reference/generate.py")
ENGINE = functools.partial(Edit, "gpt2/backends.py")
MS_OPS = functools.partial(Edit, "ms_backend/ops.py")
MS_FAST = functools.partial(Edit, "ms_backend/fast.py")
MS_WEIGHTS = functools.partial(Edit, "ms_backend/weights.py")
MS_ENGINE = functools.partial(Edit, "ms_backend/backend.py")

NORMS = ("ln_1", "ln_2", "ln_f")
AFFINE = ("attn.qkv", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
PRODUCTS = (*AFFINE, "attn.scores", "attn.attn_output", "logits", "score")

ACTIVATIONS = (
    Mutant(
        "erf for tanh",
        "PyTorch's nn.GELU() and MindSpore's ops.gelu compute erf unless told otherwise. nanoGPT took nn.GELU() for "
        "GPT-2's tanh form in pull request 274; the two differ by 5e-4 at most.",
        (
            OPS(
                '    return 0.5 * x * (1 + observe("tanh", np.tanh(inner)))',
                "    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / math.sqrt(2)))",
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "two digits of 0.044715 swapped",
        "The constant typed from memory.",
        (OPS("0.044715 * (x", "0.044175 * (x"),),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "quick GELU",
        "x sigmoid(1.702 x), the other approximation of Hendrycks and Gimpel 2016, which OpenAI's CLIP uses.",
        (
            OPS(
                '    return 0.5 * x * (1 + observe("tanh", np.tanh(inner)))',
                "    return x / (1 + np.exp(-1.702 * x))",
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "tanh by a rational formula",
        "A cheap tanh for a device that has none; MindSpore 2.10's own is off by 1e-4 on CPU.",
        (
            OPS(
                '    return 0.5 * x * (1 + observe("tanh", np.tanh(inner)))',
                "    u = np.clip(inner, -3, 3)\n    return 0.5 * x * (1 + u * (27 + u * u) / (27 + 9 * u * u))",
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "silu for gelu",
        "The two look alike in a plot.",
        (OPS('0.5 * x * (1 + observe("erf", _erf(x / math.sqrt(2))))', "silu(x)"),),
        ("mlp.gelu", "ops.gelu"),
    ),
    Mutant(
        "relu6 for relu",
        "The bounded form of mobile networks.",
        (OPS("np.maximum(x, 0)", "np.clip(x, 0, 6)"),),
        ("mlp.relu", "ops.relu"),
    ),
    Mutant(
        "sigmoid overflows",
        "The sigmoid as e^x / (1 + e^x), in float16: from x = 11.1 on it is infinity over infinity.",
        (
            OPS("@rounded_once\ndef silu(", "def silu("),
            OPS(
                "return np.where(x >= 0, 1, decay) / (1 + decay)",
                "return np.exp(x) / (1 + np.exp(x))",
            ),
        ),
        ("mlp.silu", "ops.silu"),
        dtype="float16",
    ),
    Mutant(
        "activation_function ignored",
        "GPT-2's own activation written into the MLP, whatever config.json says.",
        (MODEL("getattr(ops, name)(h)", "ops.gelu_new(h)"),),
        ("mlp.gelu", "mlp.relu", "mlp.silu", "model.mlp"),
    ),
    Mutant(
        "the tanh form for every gelu",
        "A fast path that is taken for both kinds of GELU.",
        (FAST('if name == "gelu_new"', 'if name.startswith("gelu")'),),
        ("fast.mlp_fast",),
    ),
    Mutant(
        "activation before the bias",
        "A fused kernel that applies the activation to the product and adds the bias afterwards.",
        (
            MODEL(
                "getattr(ops, name)(h)",
                'getattr(ops, name)(ops.matmul(x, params["c_fc"]["weight"])) + params["c_fc"]["bias"]',
            ),
        ),
        ("mlp.gelu_new", "mlp.gelu", "mlp.relu", "mlp.silu", "model.mlp"),
    ),
)

LAYER_NORMS = (
    Mutant(
        "epsilon outside the root",
        "The Annotated Transformer divides by std + eps; BERT-pytorch (issue 30) and others copied it from there.",
        (OPS("np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "epsilon always 1e-5",
        "The usual value written into the function, whatever is asked for.",
        (OPS("variance + eps", "variance + 1e-5"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "epsilon of 1e-7",
        "layer_norm_epsilon not handed on to a layer whose default is another: MindSpore's nn.LayerNorm has 1e-7, "
        "PyTorch's 1e-5, Keras's 1e-3.",
        (MODEL('f"h.{layer}", config.layer_norm_epsilon', 'f"h.{layer}", 1e-7'),),
        ("ln_1", "ln_2", "model.block"),
    ),
    Mutant(
        "ln_f keeps the default epsilon",
        "layer_norm_epsilon handed to the blocks and forgotten for the last norm.",
        (
            MODEL(
                '"ln_f", layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)',
                '"ln_f", layer_norm(x, **params["ln_f"])',
            ),
        ),
        ("ln_f", "model.gpt2"),
    ),
    Mutant(
        "the unbiased variance",
        "torch.std and torch.var divide by n - 1. In the Annotated Transformer (pull request 119), AllenNLP (pull "
        "request 953) and Flux.jl (issue 529).",
        (
            OPS(
                "variance = _mean(centred * centred)",
                "variance = x.var(axis=-1, keepdims=True, ddof=1)",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "the variance in one pass",
        "E[x^2] - E[x]^2, the default of Flax (use_fast_variance): it cancels for rows far from zero.",
        (
            OPS(
                "variance = _mean(centred * centred)",
                "variance = np.maximum((x * x).mean(axis=-1, keepdims=True) - x.mean(axis=-1, keepdims=True) ** 2, 0)",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "mean of absolute values",
        "The mean deviation taken for the standard deviation.",
        (
            OPS(
                "variance = _mean(centred * centred)",
                "variance = np.mean(np.abs(centred), axis=-1, keepdims=True) ** 2",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "square for root",
        "(variance + epsilon) ** 2 for ** 0.5, as in TPLinker (issue 37).",
        (OPS("np.sqrt(variance + eps)", "(variance + eps) ** 2"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm's gain dropped",
        "A fresh model has gains of one, so nobody notices before trained weights are loaded.",
        (OPS("np.sqrt(variance + eps) * weight + bias", "np.sqrt(variance + eps) + bias"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm's bias dropped",
        "A fresh model has biases of zero; nanoGPT's bias=False leaves them out.",
        (OPS("np.sqrt(variance + eps) * weight + bias", "np.sqrt(variance + eps) * weight"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "gain counted from one",
        "x * (1 + weight), as Gemma stores its gains.",
        (OPS("np.sqrt(variance + eps) * weight", "np.sqrt(variance + eps) * (1 + weight)"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "RMSNorm for LayerNorm",
        "The mean is not taken off: the norm of LLaMA, with GPT-2's bias.",
        (OPS('centred = x - observe("mean", _mean(x))', "centred = x"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm over all tokens",
        "Mean and variance of a whole sequence: MindSpore's ops.LayerNorm with its default begin_norm_axis, 1.",
        (
            OPS(
                'centred = x - observe("mean", _mean(x))',
                "centred = x - x.mean(axis=(1, 2), keepdims=True)",
            ),
            OPS(
                "variance = _mean(centred * centred)",
                "variance = np.mean(centred * centred, axis=(1, 2), keepdims=True)",
            ),
        ),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "LayerNorm in float16",
        "A norm that is not kept in float32 under mixed precision: the mean is rounded before it is taken off.",
        (OPS("@rounded_once\ndef layer_norm(", "def layer_norm("),),
        (*NORMS, "ops.layer_norm"),
        dtype="float16",
    ),
    Mutant(
        "no LayerNorm at all",
        "A stub that was left in.",
        (OPS("return centred / np.sqrt(variance + eps) * weight + bias", "return x"),),
        (*NORMS, "ops.layer_norm"),
    ),
    Mutant(
        "ln_1 for both norms",
        "A line copied and not changed.",
        (MODEL('layer_norm(x, **params["ln_2"]', 'layer_norm(x, **params["ln_1"]'),),
        ("ln_2", "model.block"),
    ),
    Mutant(
        "ln_f dropped",
        "GPT-1, with its norms behind each sub-block, has none at the end.",
        (MODEL('layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)', "x"),),
        ("ln_f", "model.gpt2"),
    ),
    Mutant(
        "ln_f before the blocks too",
        "A norm of the embeddings, as BERT and BLOOM have.",
        (
            MODEL(
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
        "A fresh model has biases of zero, so nobody notices before trained weights are loaded.",
        (OPS("(matmul(rows, weight) + bias)", "matmul(rows, weight)"),),
        (*AFFINE, "ops.conv1d"),
    ),
    Mutant(
        "c_proj transposed",
        "GPT-2's Conv1D stores (in, out), nn.Linear (out, in). nanoGPT turns four weights over when it loads; the one "
        "that is square fits either way and fails in silence.",
        (
            ATTENTION(
                'conv1d(merged, **params["c_proj"])',
                'conv1d(merged, params["c_proj"]["weight"].T, params["c_proj"]["bias"])',
            ),
        ),
        ("attn.c_proj", "attention.attention"),
    ),
    Mutant(
        "the bias of every rank",
        "A matrix cut by rows over two devices, each of which adds the whole bias before the sum.",
        (
            ATTENTION(
                'conv1d(merged, **params["c_proj"])', 'conv1d(merged, **params["c_proj"]) + params["c_proj"]["bias"]'
            ),
        ),
        ("attn.c_proj", "attention.attention"),
    ),
    Mutant(
        "matmul in TF32",
        "Factors cut to 10 bits: the default of JAX on an A100 (issue 12008), as bfloat16 is on a TPU (issue 10413).",
        (
            OPS(
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
            OPS(
                "    return np.matmul(a, b)",
                "    return np.matmul(a.astype(np.float16), b.astype(np.float16)).astype(a.dtype)",
            ),
        ),
        (*PRODUCTS, "ops.matmul"),
    ),
    Mutant(
        "one buffer for all results",
        "Products written into a buffer that is kept for the next call of the same shape; the keys and values of a "
        "layer are views of it, and the next layer overwrites them.",
        (
            OPS("from typing import Any", "from functools import lru_cache\nfrom typing import Any"),
            OPS("Array = NDArray[Any]", "Array = NDArray[Any]\nroom = lru_cache(maxsize=None)(np.empty)"),
            OPS(
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
            OPS(
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
        (OPS("return weight[ids]", "return weight[ids] * (ids != 0)[..., None]"),),
        ("wte", "wpe", "ops.embedding"),
    ),
    Mutant(
        "positions left out",
        "A port of a model with rotary positions.",
        (MODEL('"embeddings", tokens + positions', '"embeddings", tokens'),),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
    Mutant(
        "positions added twice",
        "Once in the embedding, once in the model.",
        (MODEL('"embeddings", tokens + positions', '"embeddings", tokens + positions + positions'),),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
    Mutant(
        "embeddings times the root of C",
        "Vaswani et al. 2017, section 3.4, and the Annotated Transformer do so; GPT-2 does not.",
        (
            MODEL(
                '"embeddings", tokens + positions',
                '"embeddings", tokens * np.array(config.n_embd**0.5, tokens.dtype) + positions',
            ),
        ),
        ("embeddings", "model.embed", "model.gpt2"),
    ),
    Mutant(
        "float64 leaks in",
        "np.zeros makes float64 unless told otherwise, and all that comes after follows.",
        (
            MODEL(
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
            MODEL(
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
            MODEL(
                "np.arange(past_length, past_length + ids.shape[1])[None]",
                "np.arange(past_length - 1, past_length + ids.shape[1] - 1)[None]",
            ),
        ),
        ("wpe", "model.gpt2"),
    ),
    Mutant(
        "positions restart after the past",
        "A cache added to a model that takes arange(T) for the positions.",
        (MODEL("past_length = 0 if past is None else past[0][0].shape[2]", "past_length = 0"),),
        ("model.gpt2",),
    ),
    Mutant(
        "positions follow the mask",
        "Right for generate, but GPT-2's forward pass counts pads: Hugging Face transformers, issues 3021 and 21080.",
        (
            MODEL(
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
        (MODEL("embedding(position_ids, ", "embedding(position_ids[:1], "),),
        ("wpe", "model.embed", "model.gpt2"),
    ),
)

HEADS = (
    Mutant(
        "heads cut but not moved",
        "view(B, H, T, D) in place of view(B, T, H, D).transpose(1, 2): FuxiCTR, issue 30.",
        (
            ATTENTION(
                "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
                "x.reshape(x.shape[0], n_head, x.shape[1], x.shape[2] // n_head)",
            ),
        ),
        ("attn.q", "attn.k", "attn.v", "attention.split_heads"),
    ),
    Mutant(
        "heads merged but not moved back",
        "The transpose before the last reshape forgotten.",
        (ATTENTION("x.swapaxes(1, 2).reshape(batch", "x.reshape(batch"),),
        ("attn.merged", "attention.merge_heads"),
    ),
    Mutant(
        "channels dealt to the heads in turn",
        "'(d h)' for '(h d)' in an einops pattern.",
        (
            ATTENTION(
                "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
                "x.reshape(*x.shape[:-1], x.shape[-1] // n_head, n_head).transpose(0, 3, 1, 2)",
            ),
        ),
        ("attn.q", "attn.k", "attn.v", "attention.split_heads"),
    ),
    Mutant(
        "queries and keys swapped",
        "c_attn read as k, q, v.",
        (ATTENTION("q, k, v = np.split(qkv, 3, axis=-1)", "k, q, v = np.split(qkv, 3, axis=-1)"),),
        ("attn.q", "attn.k", "attention.queries_keys_values", "attention.attention"),
    ),
    Mutant(
        "q, k, v of each head together",
        "The order of Megatron and GPT-NeoX, which a converter must undo: fix_query_key_value_ordering in "
        "convert_megatron_gpt2_checkpoint.py of Hugging Face transformers.",
        (
            ATTENTION(
                "np.split(qkv, 3, axis=-1)",
                "(qkv.reshape(*x.shape[:2], config.n_head, 3, -1)[:, :, :, i].reshape(x.shape) for i in range(3))",
            ),
        ),
        ("attn.q", "attn.k", "attn.v", "attention.queries_keys_values", "attention.attention"),
    ),
    Mutant(
        "q, k, v channel by channel",
        "c_attn's outputs read in steps of three.",
        (ATTENTION("np.split(qkv, 3, axis=-1)", "(qkv[..., i::3] for i in range(3))"),),
        ("attn.q", "attn.k", "attn.v", "attention.queries_keys_values", "attention.attention"),
    ),
    Mutant(
        "keys for values",
        "A line copied and not changed.",
        (FAST("q, k, v = qkv.transpose(2, 0, 3, 1, 4)", "q, k, v = qkv[:, :, [0, 1, 1]].transpose(2, 0, 3, 1, 4)"),),
        ("fast.attention_fast",),
    ),
)

SCORES = (
    Mutant(
        "scores not scaled",
        "A port of T5, which folds the scale into its initialisation.",
        (ATTENTION("scale = math.sqrt(config.head_size) if config.scale_attn_weights else 1.0", "scale = 1.0"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scores scaled by the root of C",
        "The width of the model taken for that of a head.",
        (ATTENTION("math.sqrt(config.head_size)", "math.sqrt(config.n_embd)"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scores scaled by D",
        "1 / D in place of 1 / sqrt(D), the rule of muP (Yang et al. 2022).",
        (ATTENTION("math.sqrt(config.head_size)", "float(config.head_size)"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "layers counted from zero in the scale",
        "scale_attn_by_inverse_layer_idx divides by layer + 1.",
        (ATTENTION("scale * (layer + 1)", "scale * max(layer, 1)"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scale_attn_weights ignored",
        "In Hugging Face transformers until 2026 on the paths sdpa and flash attention (issue 44380).",
        (
            ATTENTION(
                "math.sqrt(config.head_size) if config.scale_attn_weights else 1.0", "math.sqrt(config.head_size)"
            ),
        ),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scale_attn_by_inverse_layer_idx ignored",
        "In Hugging Face transformers until 2026 on the paths sdpa and flash attention (issue 44380).",
        (ATTENTION("return scale * (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale", "return scale"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scores in float16",
        "Mixed precision that also takes in the product of queries and keys, in a model that should run in float32.",
        (
            ATTENTION(
                "scores = matmul(q, k.swapaxes(-1, -2))",
                "scores = matmul(q.astype(np.float16), k.swapaxes(-1, -2).astype(np.float16)).astype(q.dtype)",
            ),
        ),
        ("attn.scores", "attention.attention_scores"),
    ),
)

MASKS = (
    Mutant(
        "the mask shows the next token",
        "A diagonal too many.",
        (ATTENTION("key_length - query_length, dtype=bool", "key_length - query_length + 1, dtype=bool"),),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "the mask hides the token itself",
        "A diagonal too few.",
        (ATTENTION("key_length - query_length, dtype=bool", "key_length - query_length - 1, dtype=bool"),),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "the mask forgets the past",
        "A mask that begins at the top left when there are more keys than queries: is_causal=True of PyTorch's "
        "scaled_dot_product_attention (issues 108108 and 144858).",
        (ATTENTION("key_length - query_length, dtype=bool", "0, dtype=bool"),),
        ("attention.causal_bias",),
    ),
    Mutant(
        "the mask upside down",
        "True means 'hide' to nn.MultiheadAttention and 'show' to scaled_dot_product_attention: LLMs-from-scratch, "
        "issue 1061.",
        (ATTENTION("return np.tri(", "return ~np.tri("),),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "no causal mask",
        "An encoder's attention.",
        (
            ATTENTION(
                "np.tri(query_length, key_length, key_length - query_length, dtype=bool)",
                "np.ones((query_length, key_length), dtype=bool)",
            ),
        ),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "a mask for four tokens",
        "A mask kept in a buffer that is shorter than the context: what lies beyond it is not masked.",
        (
            ATTENTION(
                "key_length - query_length, dtype=bool)",
                "key_length - query_length, dtype=bool) | (np.arange(key_length) >= 4)",
            ),
        ),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "no mask once there is a past",
        "is_causal = past is None: right for one new token, wrong for several.",
        (
            ATTENTION(
                "visible = visible_keys(q.shape[2], k.shape[2], attention_mask)",
                "visible = visible_keys(q.shape[2], k.shape[2], attention_mask) | (k.shape[2] > q.shape[2])",
            ),
        ),
        (
            "attention.attention_weights",
            "attention.attention",
        ),
    ),
    Mutant(
        "masked scores of -1e4",
        "Hugging Face's GPT-2 had it for float16's sake; real scores come as low: transformers, issues 3181 and 9594.",
        (ATTENTION("return float(np.finfo(dtype).min)", "return -1e4"),),
        ("attn.masked_scores", "attention.mask_value"),
    ),
    Mutant(
        "masked scores of -4",
        "A number that is low beside the scores of a fresh model.",
        (ATTENTION("np.array(mask_value(scores.dtype), scores.dtype))", "np.array(-4, scores.dtype))"),),
        ("attn.masked_scores", "attention.mask_scores"),
    ),
    Mutant(
        "-100 added to masked scores",
        "Low enough for most inputs.",
        (FAST("mask_value(dtype) / 2", "-100"),),
        ("fast.hidden_keys",),
    ),
    Mutant(
        "scores times the mask",
        "Half of the line in OpenAI's model.py, w * b - 1e10 * (1 - b): a masked score becomes 0, whose exp is 1.",
        (
            ATTENTION(
                "np.where(visible, scores, np.array(mask_value(scores.dtype), scores.dtype))",
                "scores * visible",
            ),
        ),
        ("attn.masked_scores", "attention.mask_scores"),
    ),
    Mutant(
        "added mask without a floor",
        "The lowest float16 plus a score below -16 is minus infinity: Hugging Face transformers, pull request 17306.",
        (ATTENTION("return np.maximum(scores + hidden, lowest)", "return scores + hidden"),),
        ("attention.mask_scores_by_addition",),
        dtype="float16",
    ),
    Mutant(
        "mask added twice",
        "The causal mask and that of the pads, each the lowest float16, add up to minus infinity; a row of nothing "
        "else is NaN after softmax: Hugging Face transformers, pull request 17306.",
        (
            FAST(
                "    if attention_mask is not None:\n"
                "        visible = visible & (attention_mask != 0)[:, None, None, :]\n"
                "    hidden = np.where(visible, 0, mask_value(dtype) / 2).astype(dtype)\n",
                "    hidden = np.where(visible, 0, mask_value(dtype)).astype(dtype)\n"
                "    if attention_mask is not None:\n"
                "        pads = (attention_mask == 0)[:, None, None, :]\n"
                "        hidden = hidden + np.where(pads, mask_value(dtype), 0).astype(dtype)\n",
            ),
        ),
        ("fast.hidden_keys",),
        dtype="float16",
    ),
    Mutant(
        "padding ignored",
        "GPT-2 itself knows no pads: its model.py has no such mask.",
        (
            ATTENTION(
                "return visible if attention_mask is None else visible & (attention_mask != 0)[:, None, None, :]",
                "return visible",
            ),
        ),
        ("attn.masked_scores", "attention.visible_keys"),
    ),
    Mutant(
        "padding mask inverted",
        "1 for a pad, as in key_padding_mask of nn.MultiheadAttention.",
        (ATTENTION("visible & (attention_mask != 0)", "visible & (attention_mask == 0)"),),
        ("attn.masked_scores", "attention.visible_keys"),
    ),
    Mutant(
        "pads hidden as queries",
        "The mask broadcast over the wrong axis: pads look at nothing, and everybody looks at pads.",
        (
            ATTENTION(
                "visible & (attention_mask != 0)[:, None, None, :]",
                "visible & (attention_mask != 0)[:, None, -query_length:, None]",
            ),
        ),
        ("attn.masked_scores", "attention.visible_keys"),
    ),
    Mutant(
        "masks tiled over the heads",
        "repeat for repeat_interleave, so that heads get the mask of another sequence: lighthouse, pull request 77; "
        "CLIP4Clip, issue 22.",
        (
            FAST(
                "np.broadcast_to(hidden, (hidden.shape[0], n_head, query_length, key_length))",
                "np.tile(hidden, (n_head, 1, 1, 1)).reshape(-1, n_head, query_length, key_length)",
            ),
        ),
        ("fast.hidden_keys",),
    ),
    Mutant(
        "the first sequence's mask for all",
        "A mask of one row where each sequence has its own.",
        (FAST("hidden[b % len(hidden), heads]", "hidden[0, heads]"),),
        ("fast.attend",),
    ),
)

WEIGHTS = (
    Mutant(
        "softmax over the queries",
        "The wrong axis: labml's annotated implementations, issue 146; PyTorch-NLP, issue 2.",
        (
            ATTENTION(
                "softmax(masked_scores).astype(",
                "softmax(masked_scores.swapaxes(-1, -2)).swapaxes(-1, -2).astype(",
            ),
        ),
        ("attn.attn_weights", "attention.attention_weights", "attention.attention"),
    ),
    Mutant(
        "softmax without the maximum",
        "The formula as it stands in the books: exp overflows above 88.",
        (OPS("np.exp(x - x.max(axis=-1, keepdims=True))", "np.exp(x)"),),
        ("attn.attn_weights", "ops.softmax", "attention.attention"),
    ),
    Mutant(
        "the maximum of all rows",
        "One maximum for the whole array: rows far below it vanish, and 0 / 0 is NaN.",
        (OPS("x.max(axis=-1, keepdims=True)", "x.max()"),),
        ("attn.attn_weights", "ops.softmax"),
    ),
    Mutant(
        "one more in the sum",
        "The softmax that may attend to nothing, of Miller's 'Attention Is Off By One' (2023).",
        (OPS("return weights / weights.sum(", "return weights / (1 + weights).sum("),),
        ("attn.attn_weights", "ops.softmax"),
    ),
    Mutant(
        "softmax overwrites its input",
        "Exponentials taken in place to save memory, in an array that is the caller's.",
        (
            OPS("np.exp(x - x.max(axis=-1, keepdims=True))", "np.exp(x - x.max(axis=-1, keepdims=True), out=x)"),
            OPS("weights / weights.sum(axis=-1, keepdims=True)", "np.divide(x, x.sum(axis=-1, keepdims=True), out=x)"),
        ),
        ("attn.masked_scores", "attn.attn_weights", "ops.softmax"),
    ),
    Mutant(
        "dropout left on",
        "scaled_dot_product_attention drops weights whenever dropout_p is not 0, in eval mode too: PyTorch, issue "
        "124464; nanoGPT, pull request 240.",
        (
            ATTENTION(
                "    attn_output = observe(",
                "    kept = np.random.random(weights.shape) >= config.attn_pdrop\n"
                "    weights = weights * kept / np.array(1 - config.attn_pdrop, weights.dtype)\n"
                "    attn_output = observe(",
            ),
        ),
        ("attn.attn_output", "attention.attention"),
    ),
)

BLOCKS = (
    Mutant(
        "post-LN",
        "Each norm behind its sub-block, as in Vaswani et al. 2017 and in GPT-1.",
        (
            MODEL(
                '    normed = observe(f"{at}.ln_1", layer_norm(x, **params["ln_1"], eps=eps))\n'
                "    attended, present = attention(normed, ",
                "    attended, present = attention(x, ",
            ),
            MODEL(
                '    x = observe(f"{at}.attn_residual", x + attended)\n'
                '    normed = observe(f"{at}.ln_2", layer_norm(x, **params["ln_2"], eps=eps))\n'
                '    return observe(f"{at}.mlp_residual", x + mlp(normed',
                '    x = observe(f"{at}.attn_residual", x + attended)\n'
                '    x = observe(f"{at}.ln_1", layer_norm(x, **params["ln_1"], eps=eps))\n'
                '    x = observe(f"{at}.mlp_residual", x + mlp(x',
            ),
            MODEL(
                'part(keep, "mlp"))), present',
                'part(keep, "mlp")))\n'
                '    return observe(f"{at}.ln_2", layer_norm(x, **params["ln_2"], eps=eps)), present',
            ),
        ),
        ("ln_1", "attn.qkv", "ln_2", "mlp.c_fc", "mlp_residual", "model.block"),
    ),
    Mutant(
        "attention and MLP side by side",
        "Both read the same input, as in GPT-J.",
        (
            MODEL(
                '    x = observe(f"{at}.attn_residual", x + attended)\n'
                '    normed = observe(f"{at}.ln_2", layer_norm(x, **params["ln_2"], eps=eps))\n',
                '    normed = observe(f"{at}.ln_2", layer_norm(x, **params["ln_2"], eps=eps))\n'
                '    x = observe(f"{at}.attn_residual", x + attended)\n',
            ),
        ),
        ("ln_2", "model.block"),
    ),
    Mutant(
        "residual of the normed input",
        "Attention is added to what it has read: apply_residual_connection_post_layernorm of Megatron and BLOOM.",
        (MODEL('attn_residual", x + attended', 'attn_residual", normed + attended'),),
        ("attn_residual", "model.block"),
    ),
    Mutant(
        "residual missing",
        "The MLP's result replaces the stream.",
        (MODEL('x + mlp(normed, params["mlp"]', 'mlp(normed, params["mlp"]'),),
        ("mlp_residual", "model.block"),
    ),
    Mutant(
        "residual scaled by depth",
        "GPT-2 scales the weights that write to the stream by 1 / sqrt(N) when they are initialised (section 2.3), not "
        "in the forward pass.",
        (
            MODEL(
                'attn_residual", x + attended',
                'attn_residual", x + attended / np.array((2 * config.n_layer) ** 0.5, x.dtype)',
            ),
        ),
        ("attn_residual", "model.block"),
    ),
    Mutant(
        "the last layer left out",
        "range(n_layer - 1).",
        (MODEL('enumerate(params["h"])', 'enumerate(params["h"][:-1])'),),
        ("ln_1", "ln_f", "model.gpt2"),
    ),
    Mutant(
        "the first layer's weights for all",
        "[Block(config)] * n_layer: one block, n times.",
        (MODEL("block(x, layer, config", 'block(x, params["h"][0], config'),),
        ("ln_1", "model.gpt2"),
    ),
)

HEADS_OF_THE_MODEL = (
    Mutant(
        "tie_word_embeddings ignored",
        "The token embeddings taken for the head, though the checkpoint has one: transformers, pull request 42612; "
        "vLLM, pull request 51665.",
        (MODEL('params["wte"] if config.tie_word_embeddings else params["lm_head"]', 'params["wte"]'),),
        ("logits", "model.language_model"),
    ),
    Mutant(
        "the head as it was initialised",
        "Tying lost on loading, lm_head random: Mistral 3 in Hugging Face transformers (pull request 43429).",
        (
            FAST(
                'head = params["wte"] if config.tie_word_embeddings else params["lm_head"]',
                'random = np.random.default_rng(0).normal(0, 0.02, params["wte"]["weight"].shape)\n'
                '    head = params.get("lm_head", {"weight": random.astype(x.dtype)})',
            ),
        ),
        ("fast.language_model_fast",),
    ),
    Mutant(
        "tied head scaled",
        "x / sqrt(C) before the head, as in T5.",
        (MODEL("unembedding(x, head", "unembedding(x * np.array(config.n_embd**-0.5, x.dtype), head"),),
        ("logits", "model.language_model"),
    ),
    Mutant(
        "the head's rows one further",
        "A special token put in front of the vocabulary.",
        (FAST('head["weight"].T', 'np.roll(head["weight"], 1, axis=0).T'),),
        ("fast.language_model_fast",),
    ),
    Mutant(
        "the label read at the last position",
        "Pads on the right are read as the end of the text.",
        (
            MODEL(
                "return np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)",
                "return np.full(len(ids), ids.shape[1] - 1)",
            ),
        ),
        ("label_logits", "model.last_tokens", "model.sequence_classifier"),
    ),
    Mutant(
        "the label read before the first pad",
        "argmax(pads) - 1, as in Hugging Face transformers until 2025 (issues 35352 and 35909).",
        (
            MODEL(
                "return np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)",
                "return np.argmax(attention_mask == 0, axis=1) - 1",
            ),
        ),
        ("label_logits", "model.last_tokens", "model.sequence_classifier"),
    ),
    Mutant(
        "the label read at the number of tokens",
        "sum(mask) - 1, wrong with pads on the left: BioGPT in Hugging Face transformers (pull request 46782).",
        (
            MODEL(
                "return np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)",
                "return (attention_mask != 0).sum(axis=1) - 1",
            ),
        ),
        ("label_logits", "model.last_tokens", "model.sequence_classifier"),
    ),
    Mutant(
        "the label read at the first token",
        "Where BERT has its [CLS].",
        (
            MODEL(
                "return np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)",
                "return np.zeros(len(ids), int)",
            ),
        ),
        ("label_logits", "model.last_tokens", "model.sequence_classifier"),
    ),
    Mutant(
        "pad_token_id ignored",
        "Without a mask the last position is taken for the last token.",
        (
            MODEL(
                "np.ones_like(ids) if config.pad_token_id is None else ids != config.pad_token_id", "np.ones_like(ids)"
            ),
        ),
        (
            "label_logits",
            "model.last_tokens",
            "model.sequence_classifier",
            "engine.classify",
            "laws.the_classifier_reads_the_last_token",
        ),
    ),
    Mutant(
        "labels in reverse",
        "id2label read from its end.",
        (MODEL("scores[np.arange(len(ids)), last]", "scores[np.arange(len(ids)), last, ::-1]"),),
        ("label_logits", "model.sequence_classifier"),
    ),
)

CACHES = (
    Mutant(
        "the past behind the new keys",
        "The two halves of a concatenation swapped.",
        (
            ATTENTION(
                "np.concatenate((past[0], k), axis=2), np.concatenate((past[1], v), axis=2)",
                "np.concatenate((k, past[0]), axis=2), np.concatenate((v, past[1]), axis=2)",
            ),
        ),
        ("attention.attention",),
    ),
    Mutant(
        "keys and values of the past swapped",
        "A pair unpacked in the wrong order.",
        (
            ATTENTION(
                "np.concatenate((past[0], k), axis=2), np.concatenate((past[1], v), axis=2)",
                "np.concatenate((past[1], k), axis=2), np.concatenate((past[0], v), axis=2)",
            ),
        ),
        ("attention.attention",),
    ),
    Mutant(
        "the first layer's past for all",
        "An index forgotten.",
        (MODEL("past[i], ", "past[0], "),),
        ("model.gpt2",),
    ),
    Mutant(
        "the cache overwritten at its start",
        "The slot left out: every token goes to slot 0.",
        (FAST("kept[:, :, slot : slot + x.shape[1]] = new", "kept[:, :, : x.shape[1]] = new"),),
        ("fast.attention_fast", "engine.cached"),
    ),
    Mutant(
        "one slot too early",
        "The new token takes the place of the one before it.",
        (
            FAST(
                "kept[:, :, slot : slot + x.shape[1]] = new",
                "kept[:, :, max(slot - 1, 0) : max(slot - 1, 0) + x.shape[1]] = new",
            ),
        ),
        ("fast.attention_fast", "engine.cached"),
    ),
    Mutant(
        "the cache read before it is written",
        "A copy of the cache from before the step: the new token does not see itself.",
        (
            FAST(
                "        for kept, new in zip(cache, (k, v), strict=True):\n",
                "        stale = [kept.copy() for kept in cache]\n"
                "        for kept, new in zip(cache, (k, v), strict=True):\n",
            ),
            FAST("k, v = cache  #", "k, v = stale  #"),
        ),
        ("fast.attention_fast", "engine.cached"),
    ),
    Mutant(
        "keys and values swapped in the cache",
        "A pair packed in the wrong order.",
        (FAST("zip(cache, (k, v), strict=True)", "zip(cache, (v, k), strict=True)"),),
        ("fast.attention_fast", "engine.cached"),
    ),
    Mutant(
        "one cache for all layers",
        "[(k, v)] * n_layer: one pair of arrays, n times.",
        (
            FAST(
                "[(np.zeros(shape, dtype), np.zeros(shape, dtype)) for _ in range(config.n_layer)]",
                "[(np.zeros(shape, dtype), np.zeros(shape, dtype))] * config.n_layer",
            ),
        ),
        ("fast.make_cache", "engine.cached"),
    ),
    Mutant(
        "slots counted by calls",
        "The slot moves by one at each call, also when a prompt of several tokens was read.",
        (ENGINE("self._slot = end", "self._slot += 1"),),
        ("engine.cached",),
    ),
    Mutant(
        "the mask stays that of the prompt",
        "The attention mask not extended by the tokens that follow.",
        (
            ENGINE(
                "        self._attention_mask[:, self._slot : end] = attention_mask",
                "        if self._slot == 0:\n            self._attention_mask[:, :end] = attention_mask",
            ),
        ),
        ("engine.cached",),
    ),
    Mutant(
        "the decoder counts pads as positions",
        "The slot taken for the position, though the prompt has pads on the left.",
        (
            ENGINE(
                "self._model.config, self._attention_mask, position_ids,",
                "self._model.config, self._attention_mask, np.arange(self._slot, end)[None],",
            ),
        ),
        ("engine.cached",),
    ),
    Mutant(
        "position_ids ignored",
        "Arguments taken and not handed on.",
        (
            ENGINE(
                "self.fast_params, ids, self.config, attention_mask, position_ids)",
                "self.fast_params, ids, self.config, attention_mask)",
            ),
        ),
        ("engine.logits",),
    ),
    Mutant(
        "the first token's scores for the last's",
        "The wrong end of the prompt.",
        (FAST("x = x[:, -1:]", "x = x[:, :1]"),),
        ("fast.gpt2_fast", "fast.language_model_fast", "engine.cached"),
    ),
    Mutant(
        "scores one step late",
        "Results fetched while the next step runs, and handed out a step late.",
        (
            ENGINE(
                "self._logits = np.zeros((batch_size, 0), owner.dtype)",
                "self._logits = self._next = np.zeros((batch_size, owner.config.vocab_size), owner.dtype)",
            ),
            ENGINE(
                "self._logits = fast.language_model_fast(",
                "self._logits, self._next = self._next, fast.language_model_fast(",
            ),
        ),
        ("engine.cached",),
    ),
    Mutant(
        "scores that change later",
        "A view of a buffer handed out, which the next step overwrites.",
        (
            ENGINE(
                "self._logits = np.zeros((batch_size, 0), owner.dtype)",
                "self._logits = np.zeros((batch_size, owner.config.vocab_size), owner.dtype)",
            ),
            ENGINE("self._logits = fast.language_model_fast(", "self._logits[:] = fast.language_model_fast("),
        ),
        ("engine.cached",),
    ),
)

LOADING = (
    Mutant(
        "new weights for the plain form alone",
        "A second copy of the weights, turned for speed, that is not renewed with the first.",
        (
            ENGINE(
                'must have the names and shapes of the old ones")\n        self._place(parameters)',
                'must have the names and shapes of the old ones")\n'
                "        self.params = nest({name: x.astype(self.dtype) for name, x in parameters.items()})",
            ),
        ),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used"),
    ),
    Mutant(
        "the tied head copied once",
        "A head that is tied when the model is made and keeps the old embeddings when new ones come.",
        (
            ENGINE(
                "        self.fast_params = fast.fast_parameters(self.params)",
                "        self.fast_params = fast.fast_parameters(self.params)\n"
                "        if self.config.tie_word_embeddings:\n"
                '            self._head = getattr(self, "_head", self.params["wte"])\n'
                '            self.fast_params["lm_head"] = self._head',
            ),
            FAST(
                'params["wte"] if config.tie_word_embeddings else params["lm_head"]',
                'params.get("lm_head", params["wte"])',
            ),
        ),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used"),
    ),
    Mutant(
        "weights through float16",
        "A checkpoint saved in half precision to save room.",
        (ENGINE("x.astype(self.dtype, copy=False)", "x.astype(np.float16).astype(self.dtype)"),),
        ("wte", "engine.logits", "engine.classify"),
    ),
)

SAMPLING = (
    Mutant(
        "the likeliest over the batch",
        "argmax over the wrong axis.",
        (GENERATE("np.argmax(logits, axis=-1)", "np.argmax(logits, axis=0)"),),
        ("generate.greedy",),
    ),
    Mutant(
        "the last of equals",
        "Of equal scores the highest id. In 16 bits scores are often equal.",
        (
            GENERATE(
                "np.argmax(logits, axis=-1)",
                "logits.shape[-1] - 1 - np.argmax(logits[:, ::-1], axis=-1)",
            ),
        ),
        ("generate.greedy",),
        dtype="float16",
    ),
    Mutant(
        "top-k keeps one more",
        "<= for <: mesh-transformer-jax, issue 164.",
        (GENERATE("np.arange(scores.shape[-1]) < top_k", "np.arange(scores.shape[-1]) <= top_k"),),
        ("generate.sample",),
    ),
    Mutant(
        "top-p without the token that crosses",
        "cumsum <= p drops the token that reaches p: esm, pull request 360; reasoning-from-scratch, issue 164.",
        (GENERATE("np.where(likelier < top_p", "np.where(likelier + probabilities <= top_p"),),
        ("generate.sample",),
    ),
    Mutant(
        "temperature applied twice",
        "Once by the caller, once by the sampler: RL-Kernel, issue 81.",
        (GENERATE("np.array(temperature, logits.dtype)", "np.array(temperature**2, logits.dtype)"),),
        ("generate.sample",),
    ),
    Mutant(
        "temperature multiplied",
        "A factor taken for a divisor.",
        (GENERATE("axis=-1) / np.array(temperature,", "axis=-1) * np.array(temperature,"),),
        ("generate.sample",),
    ),
    Mutant(
        "temperature after the softmax",
        "Probabilities divided by the temperature: once they are made to add up to 1 again, it has no effect.",
        (
            GENERATE(" / np.array(temperature, logits.dtype)", ""),
            GENERATE(
                "probabilities = softmax(scores)",
                "probabilities = softmax(scores) / np.array(temperature, logits.dtype)",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "the chance of what was cut off",
        "The number drawn compared with a sum that no longer ends at 1: the cut-off tail falls to the last id kept.",
        (
            GENERATE(
                "uniform[:, None].astype(logits.dtype) * cumulated[:, -1:]", "uniform[:, None].astype(logits.dtype)"
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "the rank for the id",
        "The way back from the sorted order forgotten.",
        (GENERATE("return np.take_along_axis(order, rank[:, None], axis=-1)[:, 0]", "return rank"),),
        ("generate.sample",),
    ),
    Mutant(
        "equals in reverse order",
        "A sort turned round: of equal scores, which are frequent in 16 bits, the last comes first.",
        (
            GENERATE(
                'np.argsort(-logits, axis=-1, kind="stable")', 'np.argsort(logits, axis=-1, kind="stable")[:, ::-1]'
            ),
        ),
        ("generate.sample",),
        dtype="float16",
        beyond_laws="Which of two equal ids comes first is a convention: in either order each has its chance.",
    ),
)

OF_MINDSPORE = (
    Mutant(
        "MindSpore: gelu as it comes",
        "ops.gelu computes erf unless it is given approximate='tanh'.",
        (MS_OPS('ops.gelu(x.astype(ms.float32), approximate="tanh")', "ops.gelu(x.astype(ms.float32))"),),
        ("mlp.gelu_new", "ops.gelu_new"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: its own epsilon",
        "The default of ops.LayerNorm and nn.LayerNorm is 1e-7 where PyTorch's is 1e-5.",
        (MS_OPS("ops.LayerNorm(-1, -1, eps)", "ops.LayerNorm(-1, -1)"),),
        (*NORMS, "ops.layer_norm"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: dropout left on",
        "ops.dropout has training=True for its default; no Cell's set_train reaches it.",
        (
            MS_FAST(
                "return x + mlp_fast(layer_norm(x, "
                '**params["ln_2"], eps=eps), params["mlp"], config, part(keep, "mlp"))',
                'h = mlp_fast(layer_norm(x, **params["ln_2"], eps=eps), params["mlp"], config)\n'
                "    return x + P.dropout(h, config.resid_pdrop)",
            ),
        ),
        ("fast.block_fast", "fast.gpt2_fast", "fast.language_model_fast", "engine.logits", "engine.cached"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the slot compiled in",
        "A number that the graph takes for fixed: every token goes to the slot of the first.",
        (
            MS_ENGINE(
                '"cache": self._cache, "last_only": True}', '"cache": self._cache, "last_only": True, "slot": 0}'
            ),
            MS_ENGINE(
                "attention_mask=to_tensor(self._attention_mask), slot=Tensor(self._slot, ms.int32)",
                "attention_mask=to_tensor(self._attention_mask)",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: one graph for all models",
        "Compiled graphs kept by function; the weights and the configuration are those of the first model.",
        (
            MS_ENGINE(
                "    def __init__(self, function: Callable[..., Any], constants: dict[str, Any], mode: str) -> None:",
                "    graphs: dict[Any, Any] = {}\n\n"
                "    def __init__(self, function: Callable[..., Any], constants: dict[str, Any], mode: str) -> None:",
            ),
            MS_ENGINE(
                "if names not in self._graphs:\n"
                "                self._graphs[names] = _Graph(self._function, names, self._constants)",
                "new = _Graph(self._function, names, self._constants)\n"
                "            self._graphs[names] = self.graphs.setdefault((self._function, names), new)",
            ),
        ),
        ("engine.logits", "engine.cached", "engine.classify"),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: scores that change later",
        "Tensor.asnumpy() shares the tensor's memory; of a Parameter that the next step writes to, it changes.",
        (
            MS_ENGINE("self.round(x.asnumpy().copy())", "self.round(x.asnumpy())"),
            MS_ENGINE(
                "        self.read = Runner(fast.language_model_fast, fixed, backend.mode)",
                "        self.read = Runner(fast.language_model_fast, fixed, backend.mode)\n"
                "        self.scores = Parameter(P.zeros((size[0], config.vocab_size), backend.compute_dtype))",
            ),
            MS_ENGINE(
                "self._logits, self._slot = scores[:, -1], end",
                "assign(self._room.scores, scores[:, -1])\n        self._logits, self._slot = self._room.scores, end",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: pads of a bucket are seen",
        "Ids filled up to a round number for the compiler, and the mask with ones.",
        (
            MS_ENGINE(
                "self._attention_mask[:, start:end] = attention_mask",
                "self._attention_mask[:, self._slot : start] = 1\n"
                "        self._attention_mask[:, start:end] = attention_mask",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the bucket filled on the right",
        "The last position, whose scores are returned, is then a pad.",
        (
            MS_ENGINE("np.pad(x, ((0, 0), (pads, 0)))", "np.pad(x, ((0, 0), (0, pads)))"),
            MS_ENGINE(
                "start, end = self._slot + pads, self._slot + pads + ids.shape[1]",
                "start, end = self._slot, self._slot + ids.shape[1]",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the weights of a compiled graph",
        "set_data in place of assign: a graph that is compiled already goes on with the old weights.",
        (MS_WEIGHTS("P.assign(parameter, value)", "parameter.set_data(value)"),),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used"),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: a room not cleared",
        "A cache used again as it was left: a NaN in it reaches through any mask, for 0 * NaN is NaN.",
        (MS_ENGINE("self._free_rooms.remove(room)\n                room.clear()", "self._free_rooms.remove(room)"),),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used", "laws.decoders_do_not_meet"),
        engine="mindspore",
        mode="pynative",
    ),
)

EQUIVALENT = (
    Mutant(
        "queries scaled before the product",
        "As Hugging Face's BART has it.",
        (
            ATTENTION(
                "    scores = matmul(q, k.swapaxes(-1, -2))\n    return scores / np.array(scale, scores.dtype)",
                "    return matmul(q / np.array(scale, q.dtype), k.swapaxes(-1, -2))",
            ),
        ),
        ("attn.scores", "attention.attention_scores"),
        equivalent="(q / s) k^T = (q k^T) / s, for s is one number. A rounding of q in place of one of the sum.",
    ),
    Mutant(
        "an epsilon in the softmax",
        "A guard against a division by zero that cannot happen.",
        (
            OPS(
                "weights / weights.sum(axis=-1, keepdims=True)",
                "weights / (weights.sum(axis=-1, keepdims=True) + 1e-9)",
            ),
        ),
        ("attn.attn_weights", "ops.softmax"),
        equivalent="The largest term is exp(0) = 1, so the sum is at least 1, and 1e-9 is less than half of its last "
        "place in float32: the bits are the same.",
    ),
    Mutant(
        "GELU by the sigmoid",
        "The form of the fast path, x sigmoid(2u), in the plain one.",
        (
            OPS(
                '    return 0.5 * x * (1 + observe("tanh", np.tanh(inner)))',
                '    with np.errstate(over="ignore"):\n        return x / (1 + np.exp(-2 * inner))',
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
        equivalent="(1 + tanh u) / 2 = e^u / (e^u + e^-u) = 1 / (1 + e^-2u). Where e^-2u overflows the quotient is 0, "
        "as 1 + tanh u is; below that it rounds better, for nothing cancels.",
    ),
    Mutant(
        "keys without a bias",
        "OpenAI's Whisper trains its keys without one.",
        (
            FAST(
                '    qkv = linear(x, **params["c_attn"]).reshape(',
                '    bias = params["c_attn"]["bias"].copy()\n'
                "    bias[config.n_embd : 2 * config.n_embd] = 0\n"
                '    qkv = linear(x, params["c_attn"]["weight"], bias).reshape(',
            ),
        ),
        ("fast.attention_fast",),
        equivalent="A bias b of the keys adds q b to every score of a query, and softmax forgets what is added to a "
        "whole row. The keys themselves differ, but the fast path hands out none.",
    ),
    Mutant(
        "the stream centred",
        "center_writing_weights of TransformerLens, done to the embeddings.",
        (
            FAST(
                "    hidden = hidden_keys(tokens, keys,",
                "    x = x - x.mean(axis=-1, keepdims=True)\n    hidden = hidden_keys(tokens, keys,",
            ),
        ),
        ("fast.language_model_fast",),
        equivalent="The stream is read through LayerNorms alone, and each takes off what all channels have in common; "
        "what the layers add to it is therefore the same.",
    ),
    Mutant(
        "reorder_and_upcast_attn ignored",
        "The scores of 16-bit queries and keys stay in 16 bits.",
        (
            ATTENTION(
                "if config.reorder_and_upcast_attn and q.dtype.itemsize == 2:\n"
                "        q, k = q.astype(np.float32), k.astype(np.float32)\n    ",
                "",
            ),
        ),
        ("attn.scores", "attention.attention"),
        dtype="float16",
        equivalent="The switch asks for more bits in between, for the same function. q and k have been rounded to 11 "
        "bits each before, which moves a score as far as rounding it, and the quotient, does.",
    ),
    Mutant(
        "scores always in float32",
        "reorder_and_upcast_attn taken for granted, as fused kernels do.",
        (ATTENTION("if config.reorder_and_upcast_attn and q.dtype.itemsize == 2:", "if q.dtype.itemsize == 2:"),),
        ("attn.scores", "attention.attention"),
        dtype="float16",
        equivalent="The same products, rounded to 24 bits in place of 11: nearer to exact arithmetic, never farther.",
    ),
)

MUTANTS: tuple[Mutant, ...] = (
    *ACTIVATIONS, *LAYER_NORMS, *AFFINE_MAPS, *EMBEDDINGS, *HEADS, *SCORES, *MASKS, *WEIGHTS, *BLOCKS,
    *HEADS_OF_THE_MODEL, *CACHES, *LOADING, *SAMPLING, *GENERATION, *TRAINING, *OF_MINDSPORE, *EQUIVALENT,
)  # fmt: skip
