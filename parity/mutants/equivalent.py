"""Equivalent forms: the same function, rounded as well. The judge must not object to them."""

from parity.mutants.base import Edit, Mutant

EQUIVALENT = (
    Mutant(
        "queries scaled before the product",
        "Hugging Face's BART does so.",
        (
            Edit(
                "reference.attention.attention_scores",
                "    scores = matmul(q, k.swapaxes(-1, -2))\n    return scores / np.array(scale, scores.dtype)",
                "    return matmul(q / np.array(scale, q.dtype), k.swapaxes(-1, -2))",
            ),
        ),
        ("attn.scores", "attention.attention_scores"),
        equivalent="(q / s) k^T = (q k^T) / s, because s is a number. It rounds q instead of the sum.",
    ),
    Mutant(
        "an epsilon in the softmax",
        "A guard against a division by zero that cannot happen.",
        (
            Edit(
                "reference.ops.softmax",
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
            Edit(
                "reference.ops.gelu_new",
                "    return 0.5 * x * (1 + tanh(inner))",
                '    with np.errstate(over="ignore"):\n        return x / (1 + np.exp(-2 * inner))',
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
        equivalent="(1 + tanh u) / 2 = e^u / (e^u + e^-u) = 1 / (1 + e^-2u). Where e^-2u overflows the quotient is 0, "
        "as 1 + tanh u is; below that it rounds better, because nothing cancels.",
    ),
    Mutant(
        "keys without a bias",
        "OpenAI's Whisper trains its keys without one.",
        (
            Edit(
                "reference.fast.attention_fast",
                '    qkv = linear(x, **params["c_attn"]).reshape(',
                '    bias = params["c_attn"]["bias"].copy()\n'
                "    bias[config.n_embd : 2 * config.n_embd] = 0\n"
                '    qkv = linear(x, params["c_attn"]["weight"], bias).reshape(',
            ),
        ),
        ("fast.attention_fast",),
        equivalent="A bias b of the keys adds q b to every score of a query, and a number added to a row leaves its "
        "softmax unchanged. The keys themselves differ, but the fast path returns none.",
    ),
    Mutant(
        "the stream centred",
        "center_writing_weights of TransformerLens, applied to the embeddings.",
        (
            Edit(
                "reference.fast.gpt2_fast",
                "    hidden = hidden_keys(tokens, keys,",
                "    x = x - x.mean(axis=-1, keepdims=True)\n    hidden = hidden_keys(tokens, keys,",
            ),
        ),
        ("fast.language_model_fast",),
        equivalent="The stream is read only through LayerNorms, and each subtracts the mean of the channels; so "
        "the layers add the same to it.",
    ),
    Mutant(
        "reorder_and_upcast_attn ignored",
        "The scores of 16-bit queries and keys remain in 16 bits.",
        (
            Edit(
                "reference.attention.attention_weights",
                "if config.reorder_and_upcast_attn and q.dtype.itemsize == 2:\n"
                "        q, k = q.astype(np.float32), k.astype(np.float32)\n    ",
                "",
            ),
        ),
        ("attn.scores", "attention.attention"),
        dtype="float16",
        equivalent="The switch asks for more bits inside the same function. q and k were rounded to 11 bits before, "
        "which moves a score as far as rounding the score and the quotient does.",
    ),
    Mutant(
        "scores always in float32",
        "reorder_and_upcast_attn is always on, as in fused kernels.",
        (
            Edit(
                "reference.attention.attention_weights",
                "if config.reorder_and_upcast_attn and q.dtype.itemsize == 2:",
                "if q.dtype.itemsize == 2:",
            ),
        ),
        ("attn.scores", "attention.attention"),
        dtype="float16",
        equivalent="The same products, rounded to 24 bits instead of 11: nearer to exact arithmetic, never farther.",
    ),
)
