"""Parts of the generation loops: callbacks, the growing batch, penalties and bans, and stop conditions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from gpt2.backends import Array, BackendModel, Decoder
from gpt2.errors import GPT2Error
from gpt2.generation.config import GenerationConfig
from reference import generate


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One continuation of a prompt."""

    score: float
    new_ids: list[int]
    log_probabilities: list[float]
    finish_reason: str


@dataclasses.dataclass(frozen=True)
class Watch:
    """Callbacks that are called while a batch is continued."""

    decode: Callable[[list[int]], str] | None = None
    """Decodes ids to text; needed for stop_strings."""
    on_token: Callable[[Array], Any] = lambda ids: None
    """Called with the ids (rows,) of each step; not in beam search, where no id is final before the end."""
    interrupted: Callable[[], bool] = lambda: False
    """Called before each step; generation ends if it returns True."""


NOBODY = Watch()


class Reader:
    """The growing batch: ids and attention_mask (rows, T) of all tokens read so far, and the decoder that read them.

    Beyond the context, the last n_positions tokens are read again at each step, at their new positions.
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
        """Logits of the next token, (rows, V), in float32 or wider."""
        logits = self.decoder.logits()
        return logits.astype(np.promote_types(logits.dtype, np.float32))

    def require_finite(self, running: Array, step: int) -> None:
        """Raise GPT2Error if the scores of a running sequence are unusable: the likeliest is NaN or infinite.

        running (rows,): True where a sequence goes on. step: the number of new tokens so far. The message names the
        stage of the forward pass in which it began. A score of -inf beside finite ones is harmless: it
        is that of a very unlikely token.
        """
        with np.errstate(invalid="ignore"):
            best = np.asarray(self.decoder.logits(), np.float32).max(axis=1)
        wrong = np.flatnonzero(running & ~np.isfinite(best))
        if wrong.size:
            raise GPT2Error(f"the scores of new token {step + 1} are NaN or infinite: {self._origin(int(wrong[0]))}")

    def _origin(self, row: int) -> str:
        """Where in the forward pass of a sequence NaN or infinity appears first, and what to do."""
        ids = self.ids[row, self.attention_mask[row] != 0][-self._context :]
        positions = np.arange(len(ids))[None]
        try:
            stages = self._engine.stages(ids[None], None, positions)
        except NotImplementedError:  # a backend may have no stages
            stages = {}
        for name, x in stages.items():
            values = np.asarray(x, np.float32)
            masked = np.isneginf(values) if name.endswith("masked_scores") else False  # some backends mask with -inf
            if not (np.isfinite(values) | masked).all():
                narrow = x.dtype == np.float16
                cure = "float16 holds numbers up to 65504, so load the model in float32 (dtype, --dtype)"
                other = "look for the cause in its weights and inputs (gpt2 info)"
                return f"it began in stage {name}; {cure if narrow else other}"
        return "in none of the stages, when they are computed one by one"

    def append(self, chosen: Array, rows: Array | None = None, on_device: bool = False) -> None:
        """Read one more id of each sequence, `chosen` (rows,).

        rows: sequence i first becomes a copy of sequence rows[i]. on_device: the decoder itself chose these ids.
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


def rooms(attention_mask: Array, config: GenerationConfig, context: int) -> list[int]:
    """The number of new tokens after which each prompt has filled the context, (B,); it is not filled if it slides.

    The last new token is not read, so it needs no place.
    """
    if config.sliding_window:
        return [config.max_new_tokens] * len(attention_mask)
    return [context - int(tokens) + 1 for tokens in attention_mask.sum(axis=1)]


def finish_reason(
    new_ids: list[int], config: GenerationConfig, decode: Callable[[list[int]], str] | None, room: int
) -> str:
    """Why the text ends after new_ids: "stop", "length", "context" (room is filled), or "" if it does not end."""
    if new_ids[-1] in (config.stop_ids or ()) or _spells_a_stop(new_ids, config, decode):
        return "stop"
    ended = "length" if len(new_ids) == config.max_new_tokens else ""
    return ended or "context" * (len(new_ids) == room)


def _spells_a_stop(new_ids: list[int], config: GenerationConfig, decode: Callable[[list[int]], str] | None) -> bool:
    if not config.stop_strings or decode is None or len(new_ids) < config.min_new_tokens:
        return False
    before, now = decode(new_ids[:-1]), decode(new_ids)
    return any(now.count(text) > before.count(text) for text in config.stop_strings)


def process_scores(scores: Array, ids: Array, attention_mask: Array, config: GenerationConfig, step: int) -> Array:
    """Logits (rows, V) of the next token after penalties and bans; of the ids (rows, T) read, `step` are new."""
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
