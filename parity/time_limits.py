"""How long failures are looked into: a few of a backend for a minute at every step, many of them for less."""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

# How many seconds each step may take: to make a failing case small, then its numbers, to count over all cases.
STEP = 60.0
# After so many seconds for failures of one backend, the others are most often of the same cause: each step takes less.
TOGETHER, HURRIED = 120.0, 3.0

_most: ContextVar[float] = ContextVar("_most", default=math.inf)


def of_a_step() -> float:
    """How many seconds a step may take."""
    return at_most(STEP)


def at_most(seconds: float) -> float:
    """So many seconds, or fewer if there were many failures."""
    return min(seconds, _most.get())


class Failures:
    """The failures of one backend; spent: how many seconds were spent on them."""

    def __init__(self) -> None:
        self.spent = 0.0

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        """What is inside is for one more of them."""
        before = _most.set(HURRIED if self.spent > TOGETHER else math.inf)
        try:
            yield
        finally:
            _most.reset(before)
