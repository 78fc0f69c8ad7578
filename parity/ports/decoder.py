"""Continue a batch of texts with a port's own cache: what it returns as `past_key_values`, and takes back."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import generate

Array = NDArray[Any]
# Reads ids (B, T) after a cache, None at the start; returns the scores (B, T, V) and the cache with these tokens.
# The mask is that of all tokens (B, S). Mask and positions are None where they are the usual ones.
Read = Callable[[Array, Array | None, Array | None, Any], tuple[Array, Any]]
Reorder = Callable[[Any, Array], Any]


class PortDecoder:
    """Continues one batch of sequences. What the port's module computes is its own: mask, positions, cache, reordering.

    Positions that count from the end of the cache are left to the module; and so is, with them, a mask without pads.
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


def cache_in(returned: Any, name: str) -> Any:
    """The cache in what a model returns: under that name, or as the second of several.

    Raises NotImplementedError if there is none.
    """
    if isinstance(returned, Mapping):
        cache = returned.get(name)
    elif hasattr(returned, name):
        cache = getattr(returned, name)
    else:
        cache = returned[1] if isinstance(returned, list | tuple) and len(returned) > 1 else None
    if cache is None:
        raise NotImplementedError(f"a cache: the model returns no {name}")
    return cache


def reordered(model: Any, cache: Any, rows: Any, batch_first: bool) -> Any:
    """The cache with a copy of sequence rows[i] as sequence i: by the port's own `reorder_cache`, or tensor by tensor.

    Raises NotImplementedError if it has no such method and is not made of tensors with the sequences first.
    """
    if hasattr(model, "_reorder_cache"):  # where transformers had it before its caches were classes
        return model._reorder_cache(cache, rows)
    if hasattr(cache, "reorder_cache"):
        changed = cache.reorder_cache(rows)
        return cache if changed is None else changed
    if not batch_first:
        raise NotImplementedError(f"another order of a cache of type {type(cache).__name__}")
    return _taken(cache, rows)


def is_batch_first(cache: Any, batch_size: int) -> bool:
    """Whether it is made of lists and tuples of tensors whose first axis is that of the sequences."""
    if isinstance(cache, list | tuple):
        return all(is_batch_first(part, batch_size) for part in cache)
    return tuple(getattr(cache, "shape", ()))[:1] == (batch_size,)


def _taken(cache: Any, rows: Any) -> Any:
    if isinstance(cache, list | tuple):
        return type(cache)(_taken(part, rows) for part in cache)
    return cache[rows]
