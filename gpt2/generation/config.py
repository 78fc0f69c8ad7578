"""The options of text generation, and their checks."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpt2.arguments import integers, is_integer, is_number, require
from gpt2.errors import GPT2Error

NEVER = "never"  # a value of early_stopping
MOST_BEAMS = 1000


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """Options of text generation, named as in Hugging Face. Raises GPT2Error, naming the field, for a bad value.

    temperature above 0: sampling; num_beams above 1: beam search; otherwise greedy.

    * max_new_tokens: the most new tokens of a text.
    * min_new_tokens: before that many new tokens, no stop id is chosen, and no stop string ends the text.
    * temperature: 0: always choose the likeliest id; top_k, top_p, min_p and typical_p then have no effect.
    * top_k: sample from the top_k likeliest ids; 0: from all.
    * top_p: sample from the smallest set of likeliest ids whose probabilities sum to top_p; 1: from all.
    * min_p: sample from ids whose probability is at least min_p times that of the likeliest; 0: from all.
    * typical_p: sample from the ids whose surprise is nearest to its mean, as many as sum to typical_p; 1: from all.
    * repetition_penalty: above 1: make ids that occurred before less likely; 1: off.
    * no_repeat_ngram_size: no n-gram of this size occurs twice, in prompt and new tokens together; 0: off.
    * bad_words: sequences of ids that must not occur.
    * stop_ids: ids that end the text; the text keeps them. None: those of the model (eos_token_id).
    * stop_strings: strings that end the text once the new tokens contain them; the text keeps them.
    * num_beams: above 1: beam search.
    * length_penalty: finished beams are ranked by log-probability / length ** length_penalty.
    * early_stopping: when beam search ends, True, False or "never": see reference.generate.beams_may_improve.
    * num_return_sequences: continuations per prompt: samples, or the best beams.
    * seed: the only source of randomness: the same seed, the same ids on every backend.
    * first_row: the number of the batch's first row, if a larger batch is sampled in parts.
    * sliding_window: beyond the context, predict from the last n_positions tokens, instead of ending the text.
    """

    max_new_tokens: int = 20
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: Sequence[Sequence[int]] = ()
    stop_ids: Sequence[int] | None = None
    stop_strings: Sequence[str] = ()
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_return_sequences: int = 1
    seed: int = 0
    first_row: int = 0
    sliding_window: bool = False

    def __post_init__(self) -> None:
        for field, end in (
            ("max_new_tokens", 2**63),
            ("min_new_tokens", 2**63),
            ("top_k", 2**63),
            ("no_repeat_ngram_size", 2**63),
            ("first_row", 2**31),
        ):
            off = " (0: off)" if field in ("top_k", "no_repeat_ngram_size") else ""
            self._require(field, is_integer(getattr(self, field), end), f"an integer of at least 0{off}")
        for field in ("num_beams", "num_return_sequences"):
            usable = is_integer(getattr(self, field), MOST_BEAMS + 1, 1)
            self._require(field, usable, f"an integer from 1 to {MOST_BEAMS}")
        self._require("seed", is_integer(self.seed, 2**64), "an integer from 0 to 2**64 - 1")
        self._number(
            "temperature", lambda x: x == 0 or 1e-30 <= x <= 1e30, "0 (greedy), or a number from 1e-30 to 1e30"
        )
        for field in ("top_p", "typical_p"):
            self._number(field, lambda x: 0 < x <= 1, "a number above 0, and at most 1 (off)")
        self._number("min_p", lambda x: 0 <= x <= 1, "a number from 0 (off) to 1")
        self._number("repetition_penalty", lambda x: 0.01 <= x <= 100, "a number from 0.01 to 100 (1: off)")
        self._number("length_penalty", lambda x: -10 <= x <= 10, "a number from -10 to 10")
        known = isinstance(self.early_stopping, bool) or self.early_stopping == NEVER
        self._require("early_stopping", known, f"True, False or {NEVER!r}")
        self._require("sliding_window", isinstance(self.sliding_window, bool), "True or False")
        self._set("stop_ids", None if self.stop_ids is None else tuple(_ids("stop_ids", self.stop_ids)))
        self._set("bad_words", _words(self.bad_words))
        strings = (self.stop_strings,) if isinstance(self.stop_strings, str) else self.stop_strings
        usable = isinstance(strings, list | tuple) and all(isinstance(text, str) and text for text in strings)
        self._require("stop_strings", usable, "a list of texts of at least one character")
        self._set("stop_strings", tuple(strings))
        self._check_together()

    def _check_together(self) -> None:
        if self.num_beams > 1 and self.temperature > 0:
            raise GPT2Error("beam search does not sample: give either num_beams above 1 or a temperature above 0")
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            raise GPT2Error(
                f"num_return_sequences must be at most num_beams = {self.num_beams}, but is {self.num_return_sequences}"
            )
        if self.num_beams == 1 and self.num_return_sequences > 1 and self.temperature == 0:
            raise GPT2Error(
                f"num_return_sequences is {self.num_return_sequences}, but the likeliest continuation is only one: "
                "give a temperature above 0, or num_beams"
            )
        require(
            "min_new_tokens",
            self.min_new_tokens,
            self.min_new_tokens <= self.max_new_tokens,
            f"at most max_new_tokens = {self.max_new_tokens}",
        )
        for word in self.bad_words:
            if len(word) == 1 and word[0] in (self.stop_ids or ()):
                raise GPT2Error(f"bad_words: {word[0]} is a stop id too: leave it out of one of the two")

    def _require(self, field: str, holds: bool, expected: str) -> None:
        require(field, getattr(self, field), holds, expected)
        if isinstance(getattr(self, field), np.integer):
            self._set(field, int(getattr(self, field)))

    def _number(self, field: str, holds: Callable[[Any], bool], expected: str) -> None:
        self._require(field, is_number(getattr(self, field)) and holds(getattr(self, field)), expected)
        self._set(field, float(getattr(self, field)))  # a NumPy scalar would turn float32 into float64

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)

    @property
    def cuts(self) -> tuple[int, float, float, float]:
        """The options that cut the tail off, as the functions of sampling take them after the temperature."""
        return self.top_k, self.top_p, self.min_p, self.typical_p

    @property
    def looks_back(self) -> bool:
        """Whether penalties or bans change the logits."""
        return bool(
            self.repetition_penalty != 1
            or self.no_repeat_ngram_size
            or self.bad_words
            or (self.min_new_tokens and self.stop_ids)
        )


def _ids(name: str, value: Any) -> list[int]:
    return integers(name, value).reshape(-1).tolist()


def _words(value: Any) -> tuple[tuple[int, ...], ...]:
    require("bad_words", value, isinstance(value, list | tuple | np.ndarray), "a list of lists of ids")
    words = tuple(tuple(_ids("bad_words", word)) for word in value)
    require("bad_words", value, all(words), "a list of lists of at least one id")
    return words
