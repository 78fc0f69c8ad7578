"""Planted bugs of decoders that only a sequence of different calls, or an option that is rarely set, shows."""

from parity.mutants.base import Edit, Mutant

DECODERS = (
    Mutant(
        "beams reordered, the mask not",
        "Keys, values and scores of a sequence are copied, its pads stay those of the sequence before.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.reorder",
                "for kept in (self._attention_mask, *(each for pair in self._cache for each in pair)):",
                "for kept in (each for pair in self._cache for each in pair):",
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
    ),
    Mutant(
        "beams reordered, the positions not",
        "advance reads the next id at the position of the sequence that was there before.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.reorder",
                "self._next_positions, self._logits = self._next_positions[rows], self._logits[rows]",
                "self._logits = self._logits[rows]",
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
    ),
    Mutant(
        "beams reordered, the chosen ids not",
        "advance after a reorder reads what the sequence that was there before has chosen.",
        (Edit("gpt2.backends.numpy_backend.NumPyDecoder.reorder", "        self._chosen = self._chosen[rows]\n", ""),),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
    ),
    Mutant(
        "a read does not move the positions",
        "advance counts on from the last advance, not from the last read.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.read",
                "        self._next_positions = position_ids[:, -1:] + 1",
                "        first = self._slot == ids.shape[1]\n"
                "        self._next_positions = (position_ids[:, -1:] if first else self._next_positions) + 1",
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
    ),
    Mutant(
        "the choice kept from step to step",
        "The likeliest ids are found once, and found again only after a sample.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.greedy",
                "        self._chosen = generate.greedy(self._logits)\n",
                "        if not getattr(self, '_known', None):\n"
                "            self._chosen, self._known = generate.greedy(self._logits), self._slot\n",
            ),
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.advance",
                "        self.read(",
                "        self._known = None\n        self.read(",
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
    ),
    Mutant(
        "room for the prompt counts as read",
        "A cache with room for more tokens is taken for full: the causal mask is aligned at its end.",
        (
            Edit(
                "reference.fast.hidden_keys",
                "np.tri(query_length, key_length, slot, dtype=bool)",
                "np.tri(query_length, key_length, key_length - query_length, dtype=bool)",
            ),
        ),
        ("fast.hidden_keys",),
        beyond_laws="the engine never asks for the mask of a cache with room: it reads no further than it wrote",
    ),
    Mutant(
        "top-p keeps the id at its edge",
        "The share before an id is compared with <=: an id that begins exactly at top_p is kept.",
        (Edit("reference.generate._likeliest_first", "likelier < top_p", "likelier <= top_p"),),
        ("laws.equal_scores_share_equally",),
    ),
    Mutant(
        "a number at the edge belongs to the id before",
        "The cumulated share is compared with <: a number that equals it exactly draws the id before.",
        (Edit("reference.generate.sample", "passed = cumulated <= uniform", "passed = cumulated < uniform"),),
        ("laws.equal_scores_share_equally",),
    ),
    Mutant(
        "the penalty undone by a pad",
        "Read ids are marked place by place, and a pad with the same id takes the mark away again.",
        (
            Edit(
                "reference.generate._marked",
                "    rows, places = np.nonzero(where)\n    marked[rows, ids[rows, places]] = True\n",
                "    for place in range(ids.shape[1]):\n"
                "        marked[np.arange(len(ids)), ids[:, place]] = where[:, place]\n",
            ),
        ),
        ("generate.penalize_repetition", "generate.ban_repeated_ngrams"),
        beyond_laws="a penalty that forgets an id is a penalty on fewer ids",
    ),
    Mutant(
        "never taken for False",
        "early_stopping='never' is only compared with True: a running beam is scored as if it ended now.",
        (Edit("reference.generate.beams_may_improve", 'early_stopping == "never"', "early_stopping is None"),),
        ("laws.never_waits_for_the_longest_text",),
    ),
    Mutant(
        "a stop string within one token",
        "Stop strings are looked for in the last token's text, not in the text of all new ids.",
        (
            Edit(
                "gpt2.generation.reader._spells_a_stop",
                "before, now = decode(new_ids[:-1]), decode(new_ids)",
                'before, now = "", decode(new_ids[-1:])',
            ),
        ),
        ("laws.a_text_ends_where_it_should",),
    ),
    Mutant(
        "a stop string ends too short a text",
        "min_new_tokens holds for stop ids only.",
        (
            Edit(
                "gpt2.generation.reader._spells_a_stop",
                " or len(new_ids) < config.min_new_tokens",
                "",
            ),
        ),
        ("laws.a_text_ends_where_it_should",),
    ),
    Mutant(
        "a 16-bit engine that does not round",
        "Weights stay in the precision they are given in; only the scores are rounded to the dtype asked for.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyModel._place",
                "x.astype(self.dtype, copy=False) for name, x in parameters.items()",
                "x.astype(np.float32) for name, x in parameters.items()",
            ),
            Edit(
                "gpt2.backends.numpy_backend.NumPyModel.logits",
                "return fast.language_model_fast(self.fast_params, ids, self.config, attention_mask, position_ids)",
                "scores = fast.language_model_fast(self.fast_params, ids, self.config, attention_mask, position_ids)\n"
                "        return scores.astype(self.dtype)",
            ),
        ),
        ("laws.an_engine_rounds_its_weights",),
        dtype="bfloat16",
    ),
    Mutant(
        "MindSpore: the likeliest id of the step before",
        "A step finds the likeliest ids along with the scores; a read after it does not discard them.",
        (
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.read",
                "        self._likeliest = None\n",
                "",
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the likeliest ids not reordered",
        "They are kept from the step before, and a reorder copies everything but them.",
        (
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.reorder",
                "            self._likeliest = None\n",
                "",
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: beams reordered, the host's mask not",
        "The mask on the device is reordered; the next read sends the host's, which is not.",
        (
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.reorder",
                "        self._attention_mask = self._attention_mask[rows]\n",
                "",
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: beams reordered, the device's mask not",
        "A step after a reorder hides the pads of the sequence that was there before.",
        (
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.reorder",
                'for name in ("position_ids", "attention_mask"):',
                'for name in ("position_ids",):',
            ),
        ),
        ("laws.a_decoder_is_the_plain_model_after_any_calls",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: pads of buckets not counted",
        "Every read is rounded up to a bucket, more often than there is room for pads: the cache overflows.",
        (Edit("ms_backend.engine.decoder.MindSporeDecoder.read", "        self._spare -= pads\n", ""),),
        ("laws.a_decoder_has_room_for_every_piece",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the pad id ignored",
        "Without a mask a classifier reads the last column, though pad_token_id says which ids are pads.",
        (
            Edit(
                "ms_backend.model.last_tokens",
                "P.ones_like(ids) if config.pad_token_id is None else ids != config.pad_token_id",
                "P.ones_like(ids)",
            ),
        ),
        ("model.last_tokens", "model.sequence_classifier"),
        engine="mindspore",
        mode="pynative",
    ),
)
