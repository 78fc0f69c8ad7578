"""What a loop holds while a batch grows: the text, who watches, the reader of tokens, and how the next id is chosen."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from gpt2.backends import Array, BackendModel, Decoder
from gpt2.generation.config import GenerationConfig
from reference import generate


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One continuation."""

    score: float
    new_ids: list[int]
    log_probabilities: list[float]
    finish_reason: str


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who looks on while a batch is continued."""

    decode: Callable[[list[int]], str] | None = None
    """From ids to text; stop_strings need it."""
    on_token: Callable[[Array], Any] = lambda ids: None
    """Gets the ids (rows,) of each step; not of beams, which have no text before their end."""
    interrupted: Callable[[], bool] = lambda: False
    """Asked before each step whether to end here."""


NOBODY = Watch()


class Reader:
    """The batch as it grows: ids and attention_mask (rows, T) of all that was read, and a decoder that has read it.

    Beyond the context, the last n_positions tokens are read anew, each at its new position.
    """

    def __init__(self, engine: BackendModel, ids: Array, attention_mask: Array, new: int, context: int) -> None:
        self.ids, self.attention_mask = ids, attention_mask
        self._engine, self._context, self._new = engine, context, new
        self.decoder: Decoder
        self._open()

    def _open(self) -> None:
        length = min(int(self.attention_mask.sum(axis=1).max()), self._context)
        mask = self.attention_mask[:, -length:]
        more = max(min(self._new - 1, self._context - length), 0)  # the last token is not read
        self.decoder = self._engine.decoder(len(mask), length + more)
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        self.decoder.read(self.ids[:, -length:], mask, positions)
        self._longest, self._positions = length, positions[:, -1:]

    def scores(self) -> Array:
        """Scores of the next token, (rows, V), in float32 at least."""
        logits = self.decoder.logits()
        return logits.astype(np.promote_types(logits.dtype, np.float32))

    def append(self, chosen: Array, rows: Array | None = None, on_device: bool = False) -> None:
        """Read one more id of each sequence, chosen (rows,).

        rows: sequence i goes on from what rows[i] has read. on_device: chosen is what the decoder itself chose last.
        """
        if rows is not None:
            self.ids, self.attention_mask = self.ids[rows], self.attention_mask[rows]
        column = chosen[:, None]
        self.ids = np.concatenate((self.ids, column), axis=1)
        self.attention_mask = np.concatenate((self.attention_mask, np.ones_like(column)), axis=1)
        self._new -= 1
        if self._longest == self._context:
            self._open()
            return
        if rows is not None:
            self.decoder.reorder(rows)
            self._positions = self._positions[rows]
        self._positions = self._positions + 1
        self._longest += 1
        if on_device:
            self.decoder.advance()
        else:
            self.decoder.read(column, np.ones_like(column), self._positions)


def finish_reason(new_ids: list[int], config: GenerationConfig, decode: Callable[[list[int]], str] | None) -> str:
    """Why the text ends with the last of new_ids: "stop", "length", or "" if it goes on."""
    if new_ids[-1] in (config.stop_ids or ()) or _spells_a_stop(new_ids, config, decode):
        return "stop"
    return "length" if len(new_ids) == config.max_new_tokens else ""


def _spells_a_stop(new_ids: list[int], config: GenerationConfig, decode: Callable[[list[int]], str] | None) -> bool:
    if not config.stop_strings or decode is None or len(new_ids) < config.min_new_tokens:
        return False
    before, now = decode(new_ids[:-1]), decode(new_ids)
    return any(now.count(text) > before.count(text) for text in config.stop_strings)


def process_scores(scores: Array, ids: Array, attention_mask: Array, config: GenerationConfig, step: int) -> Array:
    """Scores (rows, V) of the next token after penalties and bans; ids (rows, T) were read, `step` of them are new."""
    if config.repetition_penalty != 1:
        scores = generate.penalize_repetition(scores, ids, attention_mask, config.repetition_penalty)
    scores = generate.ban_repeated_ngrams(scores, ids, attention_mask, config.no_repeat_ngram_size)
    for word in config.bad_words:
        scores = generate.ban_word(scores, ids, attention_mask, np.array(word))
    if step < config.min_new_tokens and config.stop_ids:
        scores = generate.ban(scores, np.array(config.stop_ids))
    return scores


def take_rows(x: Array, places: Array) -> Array:
    """x[i, places[i, j]] for all i and j."""
    return x[np.arange(len(places))[:, None], places]
