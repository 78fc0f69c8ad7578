"""Planted bugs of engines: caches, fast forms, loaded weights."""

from parity.mutants.base import Edit, Mutant

CACHES = (
    Mutant(
        "the past behind the new keys",
        "The two parts of a concatenation are swapped.",
        (
            Edit(
                "reference.attention.attention",
                "np.concatenate((past[0], k), axis=2), np.concatenate((past[1], v), axis=2)",
                "np.concatenate((k, past[0]), axis=2), np.concatenate((v, past[1]), axis=2)",
            ),
        ),
        ("attention.attention",),
    ),
    Mutant(
        "keys and values of the past swapped",
        "A pair is unpacked in the wrong order.",
        (
            Edit(
                "reference.attention.attention",
                "np.concatenate((past[0], k), axis=2), np.concatenate((past[1], v), axis=2)",
                "np.concatenate((past[1], k), axis=2), np.concatenate((past[0], v), axis=2)",
            ),
        ),
        ("attention.attention",),
    ),
    Mutant(
        "the first layer's past for all",
        "The index of the layer is missing.",
        (Edit("reference.model.gpt2", "past[i], ", "past[0], "),),
        ("model.gpt2",),
    ),
    Mutant(
        "the cache overwritten at its start",
        "The slot is ignored: every token is written to slot 0.",
        (
            Edit(
                "reference.fast.attention_fast",
                "kept[:, :, slot : slot + x.shape[1]] = new",
                "kept[:, :, : x.shape[1]] = new",
            ),
        ),
        ("fast.attention_fast", "engine.cached"),
    ),
    Mutant(
        "one slot too early",
        "The new token takes the place of the one before it.",
        (
            Edit(
                "reference.fast.attention_fast",
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
            Edit(
                "reference.fast.attention_fast",
                "        for kept, new in zip(cache, (k, v), strict=True):\n",
                "        stale = [kept.copy() for kept in cache]\n"
                "        for kept, new in zip(cache, (k, v), strict=True):\n",
            ),
            Edit("reference.fast.attention_fast", "k, v = cache  #", "k, v = stale  #"),
        ),
        ("fast.attention_fast", "engine.cached"),
    ),
    Mutant(
        "keys and values swapped in the cache",
        "A pair is packed in the wrong order.",
        (Edit("reference.fast.attention_fast", "zip(cache, (k, v), strict=True)", "zip(cache, (v, k), strict=True)"),),
        ("fast.attention_fast", "engine.cached"),
    ),
    Mutant(
        "one cache for all layers",
        "[(k, v)] * n_layer: one pair of arrays, n times.",
        (
            Edit(
                "reference.fast.make_cache",
                "[(np.zeros(shape, dtype), np.zeros(shape, dtype)) for _ in range(config.n_layer)]",
                "[(np.zeros(shape, dtype), np.zeros(shape, dtype))] * config.n_layer",
            ),
        ),
        ("fast.make_cache", "engine.cached"),
    ),
    Mutant(
        "slots counted by calls",
        "The slot moves by one per call, even if the call read a prompt of several tokens.",
        (Edit("gpt2.backends.numpy_backend.NumPyDecoder.read", "self._slot = end", "self._slot += 1"),),
        ("engine.cached",),
    ),
    Mutant(
        "the mask stays that of the prompt",
        "The attention mask is not extended by the new tokens.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.read",
                "        self._attention_mask[:, self._slot : end] = attention_mask",
                "        if self._slot == 0:\n            self._attention_mask[:, :end] = attention_mask",
            ),
        ),
        ("engine.cached",),
    ),
    Mutant(
        "the decoder counts pads as positions",
        "The slot is used as the position, although the prompt has pads on the left.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder._scores",
                "            position_ids,\n",
                "            np.arange(self._slot, self._slot + ids.shape[1])[None],\n",
            ),
        ),
        ("engine.cached",),
    ),
    Mutant(
        "position_ids ignored",
        "Arguments are accepted but not passed on.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyModel.logits",
                "self.fast_params, ids, self.config, attention_mask, position_ids)",
                "self.fast_params, ids, self.config, attention_mask)",
            ),
        ),
        ("engine.logits",),
    ),
    Mutant(
        "the first token's scores for the last's",
        "The wrong end of the prompt.",
        (Edit("reference.fast.gpt2_fast", "x = x[:, -1:]", "x = x[:, :1]"),),
        ("fast.gpt2_fast", "fast.language_model_fast", "engine.cached"),
    ),
    Mutant(
        "scores one step late",
        "Results are fetched while the next step runs, and returned one step late.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.__init__",
                "self._logits = np.zeros((batch_size, 0), owner.dtype)",
                "self._logits = self._next = np.zeros((batch_size, owner.config.vocab_size), owner.dtype)",
            ),
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.read",
                "self._logits = self._scores(",
                "self._logits, self._next = self._next, self._scores(",
            ),
        ),
        ("engine.cached",),
    ),
    Mutant(
        "scores that change later",
        "A view of a buffer is returned, which the next step overwrites.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.__init__",
                "self._logits = np.zeros((batch_size, 0), owner.dtype)",
                "self._logits = np.zeros((batch_size, owner.config.vocab_size), owner.dtype)",
            ),
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.read",
                "self._logits = self._scores(",
                "self._logits[:] = self._scores(",
            ),
        ),
        ("engine.cached",),
    ),
)
LOADING = (
    Mutant(
        "new weights for the plain form alone",
        "A second copy of the weights, transposed for speed, is not updated with the first.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyModel.assign",
                'must have the names and shapes of the old ones")\n        self._place(parameters)',
                'must have the names and shapes of the old ones")\n'
                "        self.params = nest({name: x.astype(self.dtype) for name, x in parameters.items()})",
            ),
        ),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used"),
    ),
    Mutant(
        "the tied head copied once",
        "The head is tied when the model is made, and keeps the old embeddings when new ones are assigned.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyModel._place",
                "        self.fast_params = fast.fast_parameters(self.params)",
                "        self.fast_params = fast.fast_parameters(self.params)\n"
                "        if self.config.tie_word_embeddings:\n"
                '            self._head = getattr(self, "_head", self.params["wte"])\n'
                '            self.fast_params["lm_head"] = self._head',
            ),
            Edit(
                "reference.fast._scores",
                'params["wte"] if config.tie_word_embeddings else params["lm_head"]',
                'params.get("lm_head", params["wte"])',
            ),
        ),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used"),
    ),
    Mutant(
        "weights through float16",
        "A checkpoint was saved in half precision to save space.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyModel._place",
                "x.astype(self.dtype, copy=False)",
                "x.astype(np.float16).astype(self.dtype)",
            ),
        ),
        ("wte", "engine.logits", "engine.classify"),
    ),
)
