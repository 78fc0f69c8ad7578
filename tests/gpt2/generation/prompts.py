"""Prompts, and batches of them."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.gpt2.small import SMALL

Array = NDArray[Any]
PROMPT = np.array([[3, 1, 4, 1, 5]])
SAMPLED: dict[str, Any] = {"temperature": 2.0, "top_k": 7, "top_p": 0.95}


def prompts(longest: int = 6) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, SMALL.vocab_size - 1), min_size=1, max_size=longest)


def left_padded(rows: list[list[int]]) -> tuple[Array, Array]:
    """Rows as one batch, and its mask."""
    longest = max(map(len, rows))
    ids = np.array([[0] * (longest - len(row)) + row for row in rows])
    return ids, np.array([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
