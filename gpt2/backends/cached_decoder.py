"""Continue a batch of texts with a model's own cache: what it returns as `past_key_values`, and takes back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpt2.backends.protocol import Array
from reference import generate

# Reads ids (B, T) after a cache, None at the start; returns the scores (B, T, V) and the cache with these tokens.
# The mask is that of all tokens (B, S). Mask and positions are None where they are the usual ones.
Read = Callable[[Array, Array | None, Array | None, Any], tuple[Array, Any]]
Reorder = Callable[[Any, Array], Any]


class CachedDecoder:
    """Continues one batch of sequences. What the model computes is its own: mask, positions, cache, reordering.

    Positions that count from the end of the cache are left to the model; and so is, with them, a mask without pads.
    """

    def __init__(self, read: Read, reorder: Reorder, batch_size: int) -> None:
        self._read, self._reorder, self._cache = read, reorder, None
        self._attention_mask = np.zeros((batch_size, 0), np.int64)
        self._next_positions = np.zeros((batch_size, 1), np.int64)
        self._chosen = np.zeros(batch_size, np.int64)
        self._logits: Array = np.zeros((batch_size, 0))

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Read ids (B, T) into the cache."""
        self._attention_mask = np.concatenate((self._attention_mask, attention_mask), axis=1)
        end = self._attention_mask.shape[1]
        usual = bool((position_ids == np.arange(end - ids.shape[1], end)).all())
        scores, self._cache = self._read(
            ids,
            None if usual and self._attention_mask.all() else self._attention_mask,
            None if usual else position_ids,
            self._cache,
        )
        self._logits, self._next_positions = scores[:, -1], position_ids[:, -1:] + 1

    def logits(self) -> Array:
        """Scores of the next token, (B, V)."""
        return self._logits

    def greedy(self) -> Array:
        """The likeliest next ids, (B,)."""
        self._chosen = generate.greedy(self._logits)
        return self._chosen

    def sample(
        self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0, typical_p: float = 1.0
    ) -> Array:
        """Next ids, sampled with the random numbers `uniform`, (B,)."""
        self._chosen = generate.sample(self._logits, uniform, temperature, top_k, top_p, min_p, typical_p)
        return self._chosen

    def advance(self) -> None:
        """Read the ids that were chosen last."""
        self.read(self._chosen[:, None], np.ones((len(self._chosen), 1), np.int64), self._next_positions)

    def reorder(self, rows: Array) -> None:
        """Replace sequence i by a copy of sequence rows[i]. Raises NotImplementedError if the cache has no way to."""
        self._cache = self._reorder(self._cache, rows)
        self._attention_mask, self._next_positions = self._attention_mask[rows], self._next_positions[rows]
        self._logits, self._chosen = self._logits[rows], self._chosen[rows]
