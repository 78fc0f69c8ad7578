"""Planted bugs of generation: caches and positions, penalties and bans, ends, random numbers."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.beams import BEAMS
from parity.mutants.places import ALONE, CACHED, CHOICES, ENDS, FORBIDDEN, INTERRUPTED, LOGS, SIMPLEST, TOLD, WINDOW

DECODERS = (
    Mutant(
        "one slot for all new tokens",
        "The cache's slot is set by the prompt and not moved on: each new token overwrites the one before it.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.read",
                "        self._slot = end\n",
                "        self._slot = self._slot or end\n",
            ),
        ),
        (CACHED, CHOICES, "engine.cached"),
    ),
    Mutant(
        "positions count pads on the device",
        "After the prompt, the slot is used as position: right without pads, wrong for a prompt with pads on its left.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.read",
                "self._next_positions = position_ids[:, -1:] + 1",
                "self._next_positions = np.full((len(ids), 1), end)",
            ),
        ),
        (CACHED, ALONE, CHOICES),
    ),
    Mutant(
        "positions count pads on the host",
        "The same mistake in the loop that reads the ids it has chosen.",
        (
            Edit(
                "gpt2.generation.reader.Reader.append",
                "        self._positions = self._positions + 1\n",
                "        self._positions = np.full_like(self._positions, self._longest)\n",
            ),
        ),
        (ALONE, CHOICES),
    ),
    Mutant(
        "positions count the pads of the prompt",
        "position_ids keep their default in a batch padded on the left: the model still answers, a little worse.",
        (
            Edit(
                "gpt2.generation.reader.Reader._open",
                "positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)",
                "positions = np.broadcast_to(np.arange(length), mask.shape)",
            ),
        ),
        (ALONE, CHOICES),
    ),
    Mutant(
        "beams reordered, the cache not",
        "The ids of a beam move to its new place, its keys and values do not: the next scores are another beam's.",
        (Edit("gpt2.generation.reader.Reader.append", "            self.decoder.reorder(rows)\n", ""),),
        (LOGS,),
    ),
    Mutant(
        "keys reordered, values not",
        "The loop over the cache takes the first of each pair.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyDecoder.reorder",
                "(each for pair in self._cache for each in pair)",
                "(pair[0] for pair in self._cache)",
            ),
        ),
        (CACHED, LOGS),
    ),
    Mutant(
        "beams reordered, their text not",
        "Penalties and bans use the ids of another beam.",
        (
            Edit(
                "gpt2.generation.reader.Reader.append",
                "self.ids, self.attention_mask = self.ids[rows], self",
                "self.attention_mask = self",
            ),
        ),
        (LOGS, FORBIDDEN),
    ),
    Mutant(
        "the beams of the first prompt for all",
        "The index of a beam is used as the index of its row in the batch.",
        (
            Edit(
                "gpt2.generation.beams.search_beams",
                "(beams + width * np.arange(prompts)[:, None]).reshape(-1)",
                "beams.reshape(-1)",
            ),
        ),
        (LOGS, ALONE),
    ),
    Mutant(
        "the window stays at the beginning",
        "Beyond the context the first tokens are read again, not the last.",
        (
            Edit(
                "gpt2.generation.reader.Reader._open",
                "self.decoder.read(self.ids[:, -length:], mask, positions)",
                "self.decoder.read(self.ids[:, :length], mask, positions)",
            ),
            Edit(
                "gpt2.generation.reader.Reader._open",
                "mask = self.attention_mask[:, -length:]",
                "mask = self.attention_mask[:, :length]",
            ),
        ),
        (WINDOW,),
    ),
)

PROCESSORS = (
    Mutant(
        "the penalty once for each time",
        "A loop over the ids read divides every time: a token that occurs twice is penalized twice.",
        (
            Edit(
                "reference.generate.penalize_repetition",
                "    return np.where(read, np.where(logits < 0, logits * penalty, logits / penalty), logits)\n",
                "    logits = logits.copy()\n"
                "    for row, column in zip(*np.nonzero(attention_mask != 0), strict=True):\n"
                "        x = logits[row, ids[row, column]]\n"
                "        logits[row, ids[row, column]] = x * penalty if x < 0 else x / penalty\n"
                "    return logits\n",
            ),
        ),
        ("generate.penalize_repetition", CHOICES),
    ),
    Mutant(
        "the penalty divides negative scores",
        "As in the paper's formula: a negative score becomes higher, its id likelier.",
        (
            Edit(
                "reference.generate.penalize_repetition",
                "np.where(logits < 0, logits * penalty, logits / penalty)",
                "logits / penalty",
            ),
        ),
        ("generate.penalize_repetition", CHOICES, LOGS),
    ),
    Mutant(
        "pads are penalized",
        "The pad's id counts as read: in a batch, a prompt is continued differently than alone, as in Hugging Face "
        "transformers.",
        (
            Edit(
                "reference.generate.penalize_repetition",
                "read = _marked(logits, ids, attention_mask != 0)",
                "read = _marked(logits, ids, attention_mask == attention_mask)",
            ),
        ),
        ("generate.penalize_repetition", ALONE, CHOICES),
    ),
    Mutant(
        "n-grams of pads",
        "The search for repeated n-grams treats pads as tokens.",
        (
            Edit(
                "reference.generate.ban_repeated_ngrams",
                "    windows = ids.shape[1] - size + 1",
                "    attention_mask = np.ones_like(attention_mask)\n    windows = ids.shape[1] - size + 1",
            ),
        ),
        ("generate.ban_repeated_ngrams", ALONE, CHOICES),
    ),
    Mutant(
        "n-grams across rows",
        "One table of n-grams for the batch: no row may write an n-gram of another row.",
        (
            Edit(
                "reference.generate.ban_repeated_ngrams",
                "banned = _marked(logits, ids[:, size - 1 :], repeated)",
                "banned = _marked(logits, ids[:, size - 1 :], repeated).any(axis=0, keepdims=True)",
            ),
        ),
        ("generate.ban_repeated_ngrams", CHOICES),
    ),
    Mutant(
        "n-grams one token longer",
        "no_repeat_ngram_size is read as the number of tokens before the banned one.",
        (
            Edit(
                "gpt2.generation.reader.process_scores",
                "scores, ids, attention_mask, config.no_repeat_ngram_size)",
                "scores, ids, attention_mask, config.no_repeat_ngram_size and config.no_repeat_ngram_size + 1)",
            ),
        ),
        (FORBIDDEN, CHOICES),
    ),
    Mutant(
        "n-grams of the new text alone",
        "The prompt is ignored: its phrases may be repeated.",
        (
            Edit(
                "gpt2.generation.reader.process_scores",
                "scores = generate.ban_repeated_ngrams(scores, ids, attention_mask, config.no_repeat_ngram_size)",
                "scores = generate.ban_repeated_ngrams(\n"
                "        scores, ids[:, -step:] if step else ids[:, :0], attention_mask[:, -step:],\n"
                "        step and config.no_repeat_ngram_size)",
            ),
        ),
        (FORBIDDEN, CHOICES),
    ),
    Mutant(
        "bad words banned from the start",
        "The last id of a bad word is banned even if the word's other ids do not come before it.",
        (
            Edit(
                "reference.generate.ban_word",
                "begun.all(axis=1, keepdims=True) & (np.arange(logits.shape[-1]) == word[-1])",
                "(np.arange(logits.shape[-1]) == word[-1])[None]",
            ),
        ),
        ("generate.ban_word", CHOICES),
    ),
    Mutant(
        "only the last bad word",
        "Each word is banned in the original scores: only the last ban remains.",
        (
            Edit(
                "gpt2.generation.reader.process_scores",
                "    for word in config.bad_words:\n        scores =",
                "    unbanned = scores\n    for word in config.bad_words:\n        scores = unbanned\n        scores =",
            ),
        ),
        (FORBIDDEN, CHOICES),
    ),
    Mutant(
        "temperature after the cuts",
        "Sampling cuts by the probabilities at temperature 1, and then applies the temperature to the rest.",
        (
            Edit("reference.generate._likeliest_first", "axis=-1) / np.array(temperature, logits.dtype)", "axis=-1)"),
            Edit(
                "reference.generate._likeliest_first",
                "np.where(probabilities >= min_p * probabilities[:, :1], probabilities, 0)",
                "np.where(probabilities >= min_p * probabilities[:, :1], probabilities, 0) ** (1 / temperature)",
            ),
        ),
        ("generate.sample", CHOICES),
    ),
    Mutant(
        "min-p without the likeliest",
        "min_p is a share of 1, not of the likeliest id's probability: a flat distribution loses all ids.",
        (
            Edit(
                "reference.generate._likeliest_first",
                "probabilities >= min_p * probabilities[:, :1]",
                "probabilities >= min_p",
            ),
        ),
        ("generate.sample", CHOICES),
    ),
)

ENDINGS = (
    Mutant(
        "only the first stop id ends",
        "eos_token_id[0] is used, but chat models have several stop ids.",
        (
            Edit(
                "gpt2.generation.reader.finish_reason",
                "in (config.stop_ids or ()) or",
                "in (config.stop_ids or ())[:1] or",
            ),
        ),
        (ENDS,),
    ),
    Mutant(
        "min_new_tokens one short",
        "The stop id counts as one of the min_new_tokens.",
        (
            Edit(
                "gpt2.generation.reader.process_scores",
                "if step < config.min_new_tokens and",
                "if step < config.min_new_tokens - 1 and",
            ),
        ),
        (ENDS, CHOICES),
    ),
    Mutant(
        "min_new_tokens counts the prompt",
        "min_length in place of min_new_tokens: a long prompt is enough.",
        (
            Edit(
                "gpt2.generation.reader.process_scores",
                "if step < config.min_new_tokens and",
                "if ids.shape[1] < config.min_new_tokens and",
            ),
        ),
        (ENDS, CHOICES),
    ),
    Mutant(
        "max_new_tokens one short",
        "The counter is incremented before it is compared.",
        (
            Edit(
                "gpt2.generation.reader.finish_reason",
                '"length" if len(new_ids) == config.max_new_tokens else ""',
                '"length" if len(new_ids) + 1 >= config.max_new_tokens else ""',
            ),
        ),
        (ENDS,),
    ),
    Mutant(
        "an ended row is written on",
        "In a batch, tokens after a row's stop id are kept until all rows have ended.",
        (
            Edit(
                "gpt2.generation.loop.choose_one_by_one",
                "for row in np.flatnonzero(running):",
                "for row in range(rows):",
            ),
        ),
        (ENDS,),
    ),
    Mutant(
        "the fill read by rows that go on",
        "When one row has ended, all rows read the fill id.",
        (
            Edit(
                "gpt2.generation.loop.choose_one_by_one",
                "reader.append(chosen, on_device=not config.looks_back)",
                "reader.append(np.full_like(chosen, fill_id) if any(reasons) else chosen)",
            ),
        ),
        (ALONE, CHOICES),
    ),
    Mutant(
        "the stream tells what ended rows choose",
        "The callback gets the raw ids; the result has the fill.",
        (
            Edit(
                "gpt2.generation.loop.choose_one_by_one",
                "watch.on_token(np.where(running, chosen, fill_id))",
                "watch.on_token(chosen)",
            ),
        ),
        (TOLD,),
    ),
    Mutant(
        "log-probabilities before penalties",
        "The model's log-probabilities in place of those by which the ids were chosen.",
        (
            Edit(
                "gpt2.generation.loop.choose_one_by_one",
                "_log_probability(scores, chosen, config) if",
                "_log_probability(reader.scores(), chosen, config) if",
            ),
        ),
        (LOGS,),
    ),
)

PATHS = (
    Mutant(
        "penalties left out where nothing is scored",
        "Where no log-probabilities are asked for, ids are chosen on the device, which knows no penalties and no bans.",
        (
            Edit(
                "gpt2.generation.loop.choose_one_by_one",
                "        if config.looks_back:\n",
                "        if config.looks_back and scored:\n",
            ),
        ),
        (INTERRUPTED,),
    ),
    Mutant(
        "an interrupted search returns finished beams only",
        "Ctrl-C leaves the loop before the running beams are collected.",
        (
            Edit(
                "gpt2.generation.beams.search_beams",
                'np.full(totals.shape, "interrupted")\n            _collect(',
                'np.full(totals.shape, "")\n            _collect(',
            ),
        ),
        (INTERRUPTED,),
    ),
    Mutant(
        "the simple loop forgets the past",
        "Keys and values are returned, and not given to the next call.",
        (Edit("reference.generate.continue_greedily", "config, past=past)", "config)"),),
        (SIMPLEST,),
    ),
)

CHANCE = (
    Mutant(
        "the same chance for all rows",
        "One random number for the whole batch: equal prompts give equal texts.",
        (Edit("gpt2.generation.loop.uniform", ".random(first_row + rows)[first_row:]", ".random(1).repeat(rows)"),),
        (CHOICES,),
    ),
    Mutant(
        "the same chance at every step",
        "The random generator is made again from the seed at every step, without the step's counter.",
        (Edit("gpt2.generation.loop.uniform", "counter=[0, 0, 0, step]", "counter=[0, 0, 0, 0]"),),
        (CHOICES,),
    ),
    Mutant(
        "chance by a state",
        "A global random generator: a number depends on all numbers drawn before, so the seed does not reproduce it.",
        (
            Edit(
                "gpt2.generation.loop.uniform",
                "return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))"
                ".random(first_row + rows)[first_row:]",
                "return np.random.random(rows)",
            ),
        ),
        (CHOICES, TOLD),
    ),
    Mutant(
        "chance by the place in the part",
        "A batch is sampled in parts, and each part begins again at row 0.",
        (Edit("gpt2.generation.loop.uniform", ".random(first_row + rows)[first_row:]", ".random(rows)"),),
        (ALONE,),
    ),
)

GENERATION: tuple[Mutant, ...] = (*DECODERS, *PROCESSORS, *ENDINGS, *PATHS, *CHANCE, *BEAMS)
