"""The attention mask (B, T), 1 token, 0 pad, in the forms in which a recorded submodule is given it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.recorded.recording import Call, RecordedTensor, is_float, tensors
from reference.attention import visible_keys

Array = NDArray[Any]

SHOWS, HIDES = "shows later tokens", "hides other keys than later tokens and pads"
EITHER = "may be one of tokens (B, T), or one of keys (T, T)"


def mask_given(call: Call, batch: int, length: int) -> tuple[Array, str] | None:
    """The mask (B, T) that a block or attention was given, and its fault, one of these or "". None: no mask.

    It is a mask of tokens (B, T), or one of visible keys (B or 1, 1, T, T): true where a query may look or where it may
    not, or a number to add, 0 where it may; then a token is what any query sees.
    """
    for x in _candidates(call):
        if x.shape == (batch, length):
            tokens = x.numbers()
            if np.isin(tokens, (0, 1)).all():
                return tokens.astype(np.int64), EITHER if batch == length else ""
        elif len(x.shape) == 4 and x.shape[1:] == (1, length, length) and x.shape[0] in (1, batch):
            visible = _visible(x.numbers())
            tokens = np.broadcast_to(visible[:, 0].any(axis=1), (batch, length)).astype(np.int64)
            expected = visible_keys(length, length, tokens)
            if (visible & ~visible_keys(length, length)).any():
                return tokens, SHOWS
            return tokens, "" if np.array_equal(expected, np.broadcast_to(visible, expected.shape)) else HIDES
    return None


def _candidates(call: Call) -> Iterator[RecordedTensor]:
    named = [value for name, value in call.keywords.items() if "mask" in name]
    for x in tensors((list(call.arguments), named)):
        if x.has_numbers and (len(x.shape) == 4 or (len(x.shape) == 2 and not is_float(x))):
            yield x


def _visible(mask: Array) -> Array:
    """True where a query may look: the first query never sees the last key, which tells what true stands for."""
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        return mask == 0
    chosen = mask.astype(bool)
    return ~chosen if chosen[..., 0, -1].any() and chosen.shape[-1] > 1 else chosen
