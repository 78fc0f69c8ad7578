"""Planted bugs of the whole model: blocks, the order of the weights, the last layers."""

from parity.mutants.base import Edit, Mutant

WEIGHTS = (
    Mutant(
        "softmax over the queries",
        "The wrong axis: labml's annotated implementations, issue 146; PyTorch-NLP, issue 2.",
        (
            Edit(
                "reference.attention.attention_weights",
                "softmax(masked_scores).astype(",
                "softmax(masked_scores.swapaxes(-1, -2)).swapaxes(-1, -2).astype(",
            ),
        ),
        ("attn.attn_weights", "attention.attention_weights", "attention.attention"),
    ),
    Mutant(
        "softmax without the maximum",
        "The textbook formula: exp overflows above 88.",
        (Edit("reference.ops.softmax", "exp(x - x.max(axis=-1, keepdims=True))", "np.exp(x)"),),
        ("attn.attn_weights", "ops.softmax", "attention.attention"),
    ),
    Mutant(
        "the maximum of all rows",
        "One maximum for the whole array: rows far below it vanish, and 0 / 0 is NaN.",
        (Edit("reference.ops.softmax", "x.max(axis=-1, keepdims=True)", "x.max()"),),
        ("attn.attn_weights", "ops.softmax"),
    ),
    Mutant(
        "one more in the sum",
        "The softmax that may attend to nothing, of Miller's 'Attention Is Off By One' (2023).",
        (Edit("reference.ops.softmax", "return weights / weights.sum(", "return weights / (1 + weights).sum("),),
        ("attn.attn_weights", "ops.softmax"),
    ),
    Mutant(
        "softmax overwrites its input",
        "Exponentials are computed in place to save memory, but the array is the caller's.",
        (
            Edit(
                "reference.ops.softmax",
                "exp(x - x.max(axis=-1, keepdims=True))",
                "np.exp(x - x.max(axis=-1, keepdims=True), out=x)",
            ),
            Edit(
                "reference.ops.softmax",
                "weights / weights.sum(axis=-1, keepdims=True)",
                "np.divide(x, x.sum(axis=-1, keepdims=True), out=x)",
            ),
        ),
        ("attn.masked_scores", "attn.attn_weights", "ops.softmax"),
    ),
    Mutant(
        "dropout left on",
        "scaled_dot_product_attention drops weights whenever dropout_p is not 0, in eval mode too: PyTorch, issue "
        "124464; nanoGPT, pull request 240.",
        (
            Edit(
                "reference.attention.attention",
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
        "Each norm comes after its sub-block, as in Vaswani et al. 2017 and in GPT-1.",
        (
            Edit(
                "reference.model.block",
                '    normed = _norm(f"{at}.ln_1", x, params["ln_1"], config)\n'
                "    attended, present = attention(normed, ",
                "    attended, present = attention(x, ",
            ),
            Edit(
                "reference.model.block",
                '    normed = _norm(f"{at}.ln_2", x, params["ln_2"], config)\n'
                '    return observe(f"{at}.mlp_residual", x + mlp(normed',
                '    x = _norm(f"{at}.ln_1", x, params["ln_1"], config)\n'
                '    x = observe(f"{at}.mlp_residual", x + mlp(x',
            ),
            Edit(
                "reference.model.block",
                'part(keep, "mlp"))), present',
                'part(keep, "mlp")))\n    return _norm(f"{at}.ln_2", x, params["ln_2"], config), present',
            ),
        ),
        ("ln_1", "attn.qkv", "ln_2", "mlp.c_fc", "mlp_residual", "model.block"),
    ),
    Mutant(
        "attention and MLP side by side",
        "Both read the same input, as in GPT-J.",
        (
            Edit(
                "reference.model.block",
                '    x = observe(f"{at}.attn_residual", x + attended)\n'
                '    normed = _norm(f"{at}.ln_2", x, params["ln_2"], config)\n',
                '    normed = _norm(f"{at}.ln_2", x, params["ln_2"], config)\n'
                '    x = observe(f"{at}.attn_residual", x + attended)\n',
            ),
        ),
        ("ln_2", "model.block"),
    ),
    Mutant(
        "residual of the normed input",
        "Attention is added to its own input: apply_residual_connection_post_layernorm of Megatron and BLOOM.",
        (Edit("reference.model.block", 'attn_residual", x + attended', 'attn_residual", normed + attended'),),
        ("attn_residual", "model.block"),
    ),
    Mutant(
        "residual missing",
        "The MLP's result replaces the residual stream.",
        (Edit("reference.model.block", 'x + mlp(normed, params["mlp"]', 'mlp(normed, params["mlp"]'),),
        ("mlp_residual", "model.block"),
    ),
    Mutant(
        "residual scaled by depth",
        "GPT-2 scales the weights that write to the stream by 1 / sqrt(N) when they are initialised (section 2.3), not "
        "in the forward pass.",
        (
            Edit(
                "reference.model.block",
                'attn_residual", x + attended',
                'attn_residual", x + attended / np.array((2 * config.n_layer) ** 0.5, x.dtype)',
            ),
        ),
        ("attn_residual", "model.block"),
    ),
    Mutant(
        "the last layer left out",
        "A loop over range(n_layer - 1).",
        (Edit("reference.model.gpt2", 'enumerate(params["h"])', 'enumerate(params["h"][:-1])'),),
        ("ln_1", "ln_f", "model.gpt2"),
    ),
    Mutant(
        "the first layer's weights for all",
        "[Block(config)] * n_layer: one block, n times.",
        (Edit("reference.model.gpt2", "block(x, layer, config", 'block(x, params["h"][0], config'),),
        ("ln_1", "model.gpt2"),
    ),
)
HEADS_OF_THE_MODEL = (
    Mutant(
        "tie_word_embeddings ignored",
        "The token embeddings are used as head, although the checkpoint has one: transformers, pull request 42612; "
        "vLLM, pull request 51665.",
        (
            Edit(
                "reference.model.language_model",
                'params["wte"] if config.tie_word_embeddings else params["lm_head"]',
                'params["wte"]',
            ),
        ),
        ("logits", "model.language_model"),
    ),
    Mutant(
        "the head as it was initialised",
        "Tying is lost on loading, lm_head stays random: Mistral 3 in Hugging Face transformers (pull request 43429).",
        (
            Edit(
                "reference.fast._scores",
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
        (
            Edit(
                "reference.model.language_model",
                "unembedding(x, head",
                "unembedding(x * np.array(config.n_embd**-0.5, x.dtype), head",
            ),
        ),
        ("logits", "model.language_model"),
    ),
    Mutant(
        "the head's rows one further",
        "A special token put in front of the vocabulary.",
        (Edit("reference.fast._scores", 'head["weight"].T', 'np.roll(head["weight"], 1, axis=0).T'),),
        ("fast.language_model_fast",),
    ),
    Mutant(
        "the label read at the last position",
        "Pads on the right are read as the end of the text.",
        (
            Edit(
                "reference.model.last_tokens",
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
            Edit(
                "reference.model.last_tokens",
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
            Edit(
                "reference.model.last_tokens",
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
            Edit(
                "reference.model.last_tokens",
                "return np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)",
                "return np.zeros(len(ids), int)",
            ),
        ),
        ("label_logits", "model.last_tokens", "model.sequence_classifier"),
    ),
    Mutant(
        "pad_token_id ignored",
        "Without a mask, the last position is used as the last token.",
        (
            Edit(
                "reference.model.last_tokens",
                "np.ones_like(ids) if config.pad_token_id is None else ids != config.pad_token_id",
                "np.ones_like(ids)",
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
        (
            Edit(
                "reference.model.sequence_classifier",
                "scores[np.arange(len(ids)), last]",
                "scores[np.arange(len(ids)), last, ::-1]",
            ),
        ),
        ("label_logits", "model.sequence_classifier"),
    ),
)
