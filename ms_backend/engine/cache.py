"""Memory for keys and values on a device, with the compiled functions that work on it; used again once it is free."""

import weakref
from collections.abc import Callable
from typing import Any

from mindspore import Parameter, Tensor
from mindspore import ops as P

from ms_backend import fast, generate
from ms_backend.engine.device import LOCK, MindSporeDevice
from ms_backend.engine.runner import Runner
from ms_backend.weights import assign
from reference.config import GPT2Config


class Caches:
    """The caches of one model, by size; params gives its weights as the fast functions take them."""

    def __init__(self, device: MindSporeDevice, config: GPT2Config, params: Callable[[], dict]) -> None:
        self.device, self.config, self.params = device, config, params
        self._free: list[Cache] = []

    def take(self, size: tuple[int, int], user: Any) -> "Cache":
        """A cache for (sequences, tokens), reserved until `user` is deleted. A free one is reused, with its graphs."""
        with LOCK:
            free = [cache for cache in self._free if cache.size == size]
            cache = free[0] if free else Cache(self, size)
            if free:
                self._free.remove(cache)
                cache.clear()
        weakref.finalize(user, self._free.append, cache)
        return cache


class Cache:
    """A cache of `size` (sequences, tokens) and the compiled functions that work on it."""

    def __init__(self, owner: Caches, size: tuple[int, int]) -> None:
        self.size = size
        device, config = owner.device, owner.config
        self._cache = fast.make_cache(config, *size, device.compute_dtype)
        fixed = {"params": owner.params(), "config": config, "cache": self._cache, "last_only": True}
        self.read = Runner(fast.language_model_fast, fixed, device.mode)
        self.step = Runner(_step, fixed, device.mode)
        self.reorder = Runner(_reorder, {"cache": self._cache}, device.mode)
        self.cache_bytes = sum(kept.nbytes for pair in self._cache for kept in pair)

    def clear(self) -> None:
        """Fill the cache with zeros: a NaN left by an earlier batch would pass through any mask."""
        for k, v in self._cache:
            for kept in (k, v):
                assign(kept, P.zeros_like(kept))


def _step(ids: Tensor, position_ids: Tensor, slot: Tensor, **fixed: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores (B, V) after ids (B,), the likeliest ids (B,), and their positions (B, 1) and slot."""
    scores = fast.language_model_fast(ids=ids.reshape(-1, 1), position_ids=position_ids, slot=slot, **fixed)
    scores = scores.reshape(ids.shape[0], -1)
    return scores, generate.greedy(scores), position_ids + 1, slot + 1


def _reorder(cache: list[tuple[Parameter, Parameter]], rows: Tensor) -> None:
    """Replace the keys and values of each sequence i by those of sequence rows[i]."""
    for k, v in cache:
        for kept in (k, v):
            P.assign(kept, P.gather(kept, rows, 0))
