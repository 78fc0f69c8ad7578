"""Continue a batch of texts: ids are read, the next ones chosen, and both stay on the device."""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore import ops as P

from ms_backend import generate
from ms_backend.engine.cache import Caches
from ms_backend.engine.device import LOCK, Array
from ms_backend.engine.runner import bucket
from ms_backend.weights import to_tensor


class MindSporeDecoder:
    """Continues a batch of texts. The number of ids read at once is rounded up, with pads on the left.

    The chosen ids stay on the device, where the next step reads them.
    """

    def __init__(self, model: Any, caches: Caches, batch_size: int, length: int) -> None:
        self._model = model  # as long as it is there, its weights are nobody else's
        self._caches, self._device, self._batch_size, self._length = caches, caches.device, batch_size, length
        self._slot = self._read = 0  # pads of a bucket take slots as well
        self._logits: Tensor | None = None
        self._likeliest: Tensor | None = None
        self._chosen: Tensor | None = None
        self._next: dict[str, Tensor] = {}  # inputs of advance

    def _take_cache(self, tokens: int) -> None:
        """Take a cache for a prompt of that many tokens: of one size for all prompts of a bucket."""
        slots = bucket(bucket(tokens) + self._length - tokens)
        self._cache = self._caches.take((self._batch_size, slots), self)
        self._spare = slots - self._length  # slots that pads may take
        self._attention_mask = np.ones(
            self._cache.size, np.int32
        )  # no pad follows: causality hides what is not yet read

    @property
    def slots(self) -> int:
        """S, how many tokens the cache has room for, pads included; known as soon as a prompt has been read."""
        return self._cache.size[1]

    @property
    def cache_bytes(self) -> int:
        """Memory of the keys and values, 2 n_layer B H S D numbers."""
        return self._cache.cache_bytes

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Read ids."""
        self._require_space(ids.shape[1])
        if self._slot == 0:
            self._take_cache(ids.shape[1])
        pads = min(bucket(ids.shape[1]) - ids.shape[1], self._spare)
        self._spare -= pads
        self._read += ids.shape[1]
        inputs = {"ids": ids, "position_ids": position_ids}
        padded = {name: to_tensor(np.pad(x, ((0, 0), (pads, 0)))) for name, x in inputs.items()}
        start, end = self._slot + pads, self._slot + pads + ids.shape[1]
        self._attention_mask[:, self._slot : start] = 0
        self._attention_mask[:, start:end] = attention_mask
        scores = self._cache.read(
            **padded, attention_mask=to_tensor(self._attention_mask), slot=Tensor(self._slot, ms.int32)
        )
        self._logits, self._slot = scores[:, -1], end
        self._likeliest = None
        self._next = {
            "position_ids": to_tensor(position_ids[:, -1:] + 1),
            "slot": Tensor(end, ms.int32),
            "attention_mask": to_tensor(self._attention_mask),
        }

    def _require_space(self, tokens: int) -> None:
        if self._read + tokens > self._length:
            raise ValueError(f"{tokens} tokens do not fit: {self._read} of {self._length} have been read")

    def logits(self) -> Array:
        """Scores of the next token."""
        return self._device.fetch(self._logits)

    def greedy(self) -> Array:
        """The likeliest next ids."""
        with LOCK:
            self._chosen = generate.greedy(self._logits) if self._likeliest is None else self._likeliest
            return self._device.fetch(self._chosen)

    def sample(
        self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0, typical_p: float = 1.0
    ) -> Array:
        """The next ids, sampled with the random numbers in uniform."""
        with LOCK:
            numbers = Tensor(uniform.astype(np.float32))
            self._chosen = generate.sample(self._logits, numbers, temperature, top_k, top_p, min_p, typical_p)
            return self._device.fetch(self._chosen)

    def advance(self) -> None:
        """Read the ids chosen last, which lie on the device."""
        self._require_space(1)
        self._logits, self._likeliest, positions, slot = self._cache.step(ids=self._chosen, **self._next)
        self._next |= {"position_ids": positions, "slot": slot}
        self._slot, self._read = self._slot + 1, self._read + 1

    def reorder(self, rows: Array) -> None:
        """Let sequence i continue from what sequence rows[i] has read."""
        self._attention_mask = self._attention_mask[rows]
        with LOCK:
            chosen = to_tensor(rows)
            self._cache.reorder(rows=chosen)
            self._logits = P.gather(self._logits, chosen, 0)
            self._likeliest = None
            for name in ("position_ids", "attention_mask"):
                self._next[name] = P.gather(self._next[name], chosen, 0)
            if self._chosen is not None:
                self._chosen = P.gather(self._chosen, chosen, 0)
