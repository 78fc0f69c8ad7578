"""Planted bugs of attention: heads, scores, masks."""

from parity.mutants.base import Edit, Mutant

HEADS = (
    Mutant(
        "heads cut but not moved",
        "view(B, H, T, D) in place of view(B, T, H, D).transpose(1, 2): FuxiCTR, issue 30.",
        (
            Edit(
                "reference.attention.split_heads",
                "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
                "x.reshape(x.shape[0], n_head, x.shape[1], x.shape[2] // n_head)",
            ),
        ),
        ("attn.q", "attn.k", "attn.v", "attention.split_heads"),
    ),
    Mutant(
        "heads merged but not moved back",
        "The transpose before the last reshape is missing.",
        (Edit("reference.attention.merge_heads", "x.swapaxes(1, 2).reshape(batch", "x.reshape(batch"),),
        ("attn.merged", "attention.merge_heads"),
    ),
    Mutant(
        "channels dealt to the heads in turn",
        "'(d h)' for '(h d)' in an einops pattern.",
        (
            Edit(
                "reference.attention.split_heads",
                "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
                "x.reshape(*x.shape[:-1], x.shape[-1] // n_head, n_head).transpose(0, 3, 1, 2)",
            ),
        ),
        ("attn.q", "attn.k", "attn.v", "attention.split_heads"),
    ),
    Mutant(
        "queries and keys swapped",
        "The result of c_attn is read as k, q, v.",
        (
            Edit(
                "reference.attention.queries_keys_values",
                "q, k, v = (split_heads",
                "k, q, v = (split_heads",
            ),
        ),
        ("attn.q", "attn.k", "attention.queries_keys_values", "attention.attention"),
    ),
    Mutant(
        "q, k, v of each head together",
        "The order of Megatron and GPT-NeoX, which a converter must undo: fix_query_key_value_ordering in "
        "convert_megatron_gpt2_checkpoint.py of Hugging Face transformers.",
        (
            Edit(
                "reference.attention.queries_keys_values",
                "np.split(qkv, 3, axis=-1)",
                "(qkv.reshape(*x.shape[:2], config.n_head, 3, -1)[:, :, :, i].reshape(x.shape) for i in range(3))",
            ),
        ),
        ("attn.q", "attn.k", "attn.v", "attention.queries_keys_values", "attention.attention"),
    ),
    Mutant(
        "q, k, v channel by channel",
        "The outputs of c_attn are read in steps of three.",
        (
            Edit(
                "reference.attention.queries_keys_values",
                "np.split(qkv, 3, axis=-1)",
                "(qkv[..., i::3] for i in range(3))",
            ),
        ),
        ("attn.q", "attn.k", "attn.v", "attention.queries_keys_values", "attention.attention"),
    ),
    Mutant(
        "keys for values",
        "A copied line was not changed.",
        (
            Edit(
                "reference.fast.attention_fast",
                "q, k, v = qkv.transpose(2, 0, 3, 1, 4)",
                "q, k, v = qkv[:, :, [0, 1, 1]].transpose(2, 0, 3, 1, 4)",
            ),
        ),
        ("fast.attention_fast",),
    ),
)
SCORES = (
    Mutant(
        "scores not scaled",
        "A port of T5, which folds the scale into its initialisation.",
        (
            Edit(
                "reference.attention.attention_scale",
                "scale = math.sqrt(config.head_size) if config.scale_attn_weights else 1.0",
                "scale = 1.0",
            ),
        ),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scores scaled by the root of C",
        "The width of the model is used in place of the width of a head.",
        (Edit("reference.attention.attention_scale", "math.sqrt(config.head_size)", "math.sqrt(config.n_embd)"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scores scaled by D",
        "1 / D in place of 1 / sqrt(D), the rule of muP (Yang et al. 2022).",
        (Edit("reference.attention.attention_scale", "math.sqrt(config.head_size)", "float(config.head_size)"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "layers counted from zero in the scale",
        "scale_attn_by_inverse_layer_idx must divide by layer + 1.",
        (Edit("reference.attention.attention_scale", "scale * (layer + 1)", "scale * max(layer, 1)"),),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scale_attn_weights ignored",
        "In Hugging Face transformers until 2026 on the paths sdpa and flash attention (issue 44380).",
        (
            Edit(
                "reference.attention.attention_scale",
                "math.sqrt(config.head_size) if config.scale_attn_weights else 1.0",
                "math.sqrt(config.head_size)",
            ),
        ),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scale_attn_by_inverse_layer_idx ignored",
        "In Hugging Face transformers until 2026 on the paths sdpa and flash attention (issue 44380).",
        (
            Edit(
                "reference.attention.attention_scale",
                "return scale * (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale",
                "return scale",
            ),
        ),
        ("attn.scores", "attention.attention_scale"),
    ),
    Mutant(
        "scores in float16",
        "Mixed precision that includes the product of queries and keys, in a model that should run in float32.",
        (
            Edit(
                "reference.attention.attention_scores",
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
        "The mask has one diagonal too many.",
        (
            Edit(
                "reference.attention.causal_bias",
                "key_length - query_length, dtype=bool",
                "key_length - query_length + 1, dtype=bool",
            ),
        ),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "the mask hides the token itself",
        "The mask has one diagonal too few.",
        (
            Edit(
                "reference.attention.causal_bias",
                "key_length - query_length, dtype=bool",
                "key_length - query_length - 1, dtype=bool",
            ),
        ),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "the mask forgets the past",
        "A mask that begins at the top left when there are more keys than queries: is_causal=True of PyTorch's "
        "scaled_dot_product_attention (issues 108108 and 144858).",
        (Edit("reference.attention.causal_bias", "key_length - query_length, dtype=bool", "0, dtype=bool"),),
        ("attention.causal_bias",),
    ),
    Mutant(
        "the mask upside down",
        "True means 'hide' to nn.MultiheadAttention and 'show' to scaled_dot_product_attention: LLMs-from-scratch, "
        "issue 1061.",
        (Edit("reference.attention.causal_bias", "return np.tri(", "return ~np.tri("),),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "no causal mask",
        "An encoder's attention.",
        (
            Edit(
                "reference.attention.causal_bias",
                "np.tri(query_length, key_length, key_length - query_length, dtype=bool)",
                "np.ones((query_length, key_length), dtype=bool)",
            ),
        ),
        ("attn.masked_scores", "attention.causal_bias"),
    ),
    Mutant(
        "a mask for four tokens",
        "A mask in a buffer that is shorter than the context: tokens beyond it are not masked.",
        (
            Edit(
                "reference.attention.causal_bias",
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
            Edit(
                "reference.attention.attention_weights",
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
        "Hugging Face's GPT-2 had it for float16, but real scores can be as low: transformers, issues 3181 and 9594.",
        (Edit("reference.attention.mask_value", "return float(np.finfo(dtype).min)", "return -1e4"),),
        ("attn.masked_scores", "attention.mask_value"),
    ),
    Mutant(
        "masked scores of -4",
        "A number that is low only in comparison with the scores of a fresh model.",
        (
            Edit(
                "reference.attention.mask_scores",
                "np.array(mask_value(scores.dtype), scores.dtype))",
                "np.array(-4, scores.dtype))",
            ),
        ),
        ("attn.masked_scores", "attention.mask_scores"),
    ),
    Mutant(
        "-100 added to masked scores",
        "Low enough for most inputs.",
        (Edit("reference.fast.hidden_keys", "mask_value(dtype) / 2", "-100"),),
        ("fast.hidden_keys",),
    ),
    Mutant(
        "scores times the mask",
        "Half of the line in OpenAI's model.py, w * b - 1e10 * (1 - b): a masked score becomes 0, whose exp is 1.",
        (
            Edit(
                "reference.attention.mask_scores",
                "np.where(visible, scores, np.array(mask_value(scores.dtype), scores.dtype))",
                "scores * visible",
            ),
        ),
        ("attn.masked_scores", "attention.mask_scores"),
    ),
    Mutant(
        "added mask without a floor",
        "The lowest float16 plus a score below -16 is minus infinity: Hugging Face transformers, pull request 17306.",
        (
            Edit(
                "reference.attention.mask_scores_by_addition",
                "return np.maximum(scores + hidden, lowest)",
                "return scores + hidden",
            ),
        ),
        ("attention.mask_scores_by_addition",),
        dtype="float16",
    ),
    Mutant(
        "mask added twice",
        "The causal mask and the padding mask, each the lowest float16, add up to minus infinity; a row of nothing "
        "else is NaN after softmax: Hugging Face transformers, pull request 17306.",
        (
            Edit(
                "reference.fast.hidden_keys",
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
        "OpenAI's model.py knows no pads, so it has no such mask.",
        (
            Edit(
                "reference.attention.visible_keys",
                "return visible if attention_mask is None else visible & (attention_mask != 0)[:, None, None, :]",
                "return visible",
            ),
        ),
        ("attn.masked_scores", "attention.visible_keys"),
    ),
    Mutant(
        "padding mask inverted",
        "1 for a pad, as in key_padding_mask of nn.MultiheadAttention.",
        (
            Edit(
                "reference.attention.visible_keys", "visible & (attention_mask != 0)", "visible & (attention_mask == 0)"
            ),
        ),
        ("attn.masked_scores", "attention.visible_keys"),
    ),
    Mutant(
        "pads hidden as queries",
        "The mask is broadcast over the wrong axis: pads see no key, and all other tokens see the pads.",
        (
            Edit(
                "reference.attention.visible_keys",
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
            Edit(
                "reference.fast.hidden_keys",
                "np.broadcast_to(hidden, (hidden.shape[0], n_head, query_length, key_length))",
                "np.tile(hidden, (n_head, 1, 1, 1)).reshape(-1, n_head, query_length, key_length)",
            ),
        ),
        ("fast.hidden_keys",),
    ),
    Mutant(
        "the first sequence's mask for all",
        "A mask of one row for all sequences, although each has its own pads.",
        (Edit("reference.fast.attend", "hidden[b % len(hidden), heads]", "hidden[0, heads]"),),
        ("fast.attend",),
    ),
)
