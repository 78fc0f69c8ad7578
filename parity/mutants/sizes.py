"""Planted bugs that only a larger input shows: a branch for many tokens, many rows, wide layers, many elements."""

from parity.mutants.base import Edit, Mutant

OF_SIZE = (
    Mutant(
        "the fast GELU of one slice",
        "The loop over slices of the cache's size ends after the first: the rest keeps what was in memory.",
        (
            Edit(
                "reference.fast.gelu_new_fast",
                "range(0, flat.size, slice_length)",
                "range(0, min(flat.size, slice_length), slice_length)",
            ),
        ),
        ("fast.gelu_new_fast", "fast.mlp_fast", "engine.logits"),
        beyond_laws="only a layer of more than 65,536 elements shows it, and laws get none",
    ),
    Mutant(
        "many rows multiplied in float16",
        "A faster product for more than 64 rows, in half precision.",
        (
            Edit(
                "reference.fast._product",
                "    return matmul(rows, weight.T)",
                "    low = np.float16 if len(rows) > 64 else rows.dtype\n"
                "    return matmul(rows.astype(low), weight.T.astype(low)).astype(rows.dtype)",
            ),
        ),
        ("fast.linear", "engine.logits"),
    ),
    Mutant(
        "the heads of the first lot alone",
        "Long sequences are computed a few heads at a time; the loop is left after the first few.",
        (
            Edit(
                "reference.fast.attend",
                "range(0, q.shape[1], heads_at_once)",
                "range(0, min(q.shape[1], heads_at_once), heads_at_once)",
            ),
        ),
        ("fast.attend", "engine.logits"),
        beyond_laws="only more than 262,144 scores show it, and laws get none",
    ),
    Mutant(
        "a causal mask for 64 tokens",
        "A buffer of 64 tokens; what is beyond it sees everything.",
        (
            Edit(
                "reference.attention.causal_bias",
                "return np.tri(query_length, key_length, key_length - query_length, dtype=bool)",
                "mask = np.tri(query_length, key_length, key_length - query_length, dtype=bool)\n"
                "    mask[64:] = True\n"
                "    return mask",
            ),
        ),
        ("attention.causal_bias", "attention.visible_keys", "model.language_model"),
    ),
    Mutant(
        "positions begin again at 64",
        "A table of 64 positions, read modulo its length.",
        (
            Edit(
                "reference.model.embed",
                'wpe=embedding(position_ids, **params["wpe"]),',
                'wpe=embedding(position_ids % 64, **params["wpe"]),',
            ),
        ),
        ("wpe", "model.embed", "model.language_model"),
    ),
    Mutant(
        "the fast mask for 64 slots",
        "A buffer of 64 slots; later keys are seen by all.",
        (
            Edit(
                "reference.fast.hidden_keys",
                "    visible = np.tri(query_length, key_length, slot, dtype=bool)[None, None]\n",
                "    visible = np.tri(query_length, key_length, slot, dtype=bool)[None, None]\n"
                "    visible[..., 64:] = True\n",
            ),
        ),
        ("fast.hidden_keys", "engine.logits", "engine.cached"),
    ),
    Mutant(
        "softmax sums long rows in float16",
        "Few keys are summed in float32, more than 64 in the dtype of the scores.",
        (
            Edit(
                "reference.ops.softmax",
                "return weights / weights.sum(axis=-1, keepdims=True)",
                "low = np.float16 if x.shape[-1] > 64 else weights.dtype\n"
                "    return weights / weights.astype(low).sum(axis=-1, keepdims=True).astype(weights.dtype)",
            ),
        ),
        ("attn.attn_weights", "ops.softmax", "attention.attention_weights"),
    ),
    Mutant(
        "a one-pass variance for wide rows",
        "More than 64 channels are read once: the mean of the squares less the square of the mean cancels.",
        (
            Edit(
                "reference.ops.layer_norm",
                "variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]",
                "variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]\n"
                "    if x.shape[-1] > 64:\n"
                "        variance = (x * x).sum(axis=-1, keepdims=True) / x.shape[-1] - mean(x) * mean(x)",
            ),
        ),
        ("ln_1", "ln_2", "ln_f", "ops.layer_norm"),
    ),
    Mutant(
        "long sums in float16",
        "Products of more than 64 terms are accumulated in half precision.",
        (
            Edit(
                "reference.ops.matmul",
                "return np.matmul(a, b)",
                "low = np.float16 if a.shape[-1] > 64 else a.dtype\n"
                "    return np.matmul(a.astype(low), b.astype(low)).astype(a.dtype)",
            ),
        ),
        ("ops.matmul", "ops.conv1d", "attn.attn_output", "mlp.c_proj", "ops.unembedding"),
    ),
    Mutant(
        "MindSpore: a constant of the large GELU cut short",
        "0.0713 for 2 sqrt(2/pi) 0.044715, in the form that only large layers use.",
        (
            Edit(
                "ms_backend.fast._Gelu.construct",
                "0.07135481282815047 * x * x",
                "0.0713 * x * x",
            ),
        ),
        ("fast.gelu_new_fast", "fast.mlp_fast", "engine.logits"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the large GELU's slope without its 3",
        "The derivative of the cube lacks its factor, in the backward pass that only large compiled layers have.",
        (Edit("ms_backend.fast._Gelu.bprop", "0.21406443848445142 * square", "0.07135481282815047 * square"),),
        ("training.language_model",),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: many rows multiplied in float16",
        "A faster product for more than 64 rows, in half precision.",
        (
            Edit(
                "ms_backend.fast._product",
                "    return P.MatMul(transpose_b=True)(rows, weight)",
                "    if rows.shape[0] > 64:\n"
                "        low = P.MatMul(transpose_b=True)(rows.astype(ms.float16), weight.astype(ms.float16))\n"
                "        return low.astype(rows.dtype)\n"
                "    return P.MatMul(transpose_b=True)(rows, weight)",
            ),
        ),
        ("fast.linear", "engine.logits"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: scores of long rows left in float16",
        "The softmax is upcast for up to 64 keys only.",
        (
            Edit(
                "ms_backend.fast.attend",
                "P.softmax(scores.astype(ms.float32), axis=-1)",
                "P.softmax(scores.astype(ms.float16 if scores.shape[-1] > 64 else ms.float32), axis=-1)",
            ),
        ),
        ("fast.attend", "engine.logits"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the last bucket cut off",
        "Lengths beyond 64 are rounded down to a multiple of 64, and what does not fit is left out.",
        (
            Edit(
                "ms_backend.engine.model.MindSporeModel.logits",
                "        length = bucket(ids.shape[1]) - ids.shape[1]\n",
                "        whole = ids.shape[1]\n"
                "        ids = ids[:, : whole // 64 * 64 or whole]\n"
                "        if attention_mask is not None:\n"
                "            attention_mask = attention_mask[:, : ids.shape[1]]\n"
                "        if position_ids is not None:\n"
                "            position_ids = position_ids[:, : ids.shape[1]]\n"
                "        length = bucket(ids.shape[1]) - ids.shape[1]\n",
            ),
            Edit(
                "ms_backend.engine.model.MindSporeModel.logits",
                "return self.backend.fetch(self._placed.logits(**padded))[:, : ids.shape[1]]",
                "scores = self.backend.fetch(self._placed.logits(**padded))[:, : ids.shape[1]]\n"
                "        return np.pad(scores, ((0, 0), (0, whole - scores.shape[1]), (0, 0)))",
            ),
        ),
        ("engine.logits",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: positions begin again at 64",
        "A table of 64 positions, read modulo its length.",
        (
            Edit(
                "ms_backend.fast.gpt2_fast",
                'embedding(position_ids, **params["wpe"])',
                'embedding(position_ids % 64, **params["wpe"])',
            ),
        ),
        ("fast.gpt2_fast", "engine.logits", "engine.cached"),
        engine="mindspore",
        mode="pynative",
    ),
)
