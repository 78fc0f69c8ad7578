"""The loop that every backend shares: read the prompt, choose, read what was chosen, until all sequences have ended."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpt2.backends import Array, BackendModel


def continue_batch(
    engine: BackendModel, ids: Array, attention_mask: Array, max_new_tokens: int, temperature: float, top_k: int,
    top_p: float, seed: int, stop_ids: list[int], fill_id: int, on_token: Callable[[Array], Any],
) -> Array:  # fmt: skip
    """Ids (B, T + new) of checked prompts (B, T) with pads on the left; see Model.generate for the arguments."""
    batch_size, length = ids.shape
    if max_new_tokens == 0:
        return ids
    positions = np.maximum(np.cumsum(attention_mask, axis=1) - 1, 0)
    decoder = engine.decoder(batch_size, length + max_new_tokens - 1)  # the last token is not read
    decoder.read(ids, attention_mask, positions)
    columns, ended, ones = [ids], np.zeros(batch_size, bool), np.ones((batch_size, 1), np.int64)
    for step in range(max_new_tokens):
        if temperature == 0:
            chosen = decoder.greedy()
        else:
            chosen = decoder.sample(uniform(seed, step, batch_size), temperature, top_k, top_p)
        chosen = np.where(ended, fill_id, chosen)
        columns.append(chosen[:, None])
        on_token(chosen)
        ended |= np.isin(chosen, stop_ids)
        if ended.all() or step == max_new_tokens - 1:
            break
        read = np.where(ended, 0, chosen)  # what an ended sequence reads does not matter; fill_id may be no token
        decoder.read(read[:, None], ones, positions[:, -1:] + 1 + step)
    return np.concatenate(columns, axis=1)


def uniform(seed: int, step: int, batch_size: int) -> Array:
    """One number per sequence, 0 <= u < 1, that depends on seed, step and row alone: a counter, not a state."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step])).random(batch_size)
