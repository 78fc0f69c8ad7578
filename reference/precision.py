"""How 16-bit floats are computed: in float32, rounded once. MindSpore's kernels see to that, so there is no twin."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from reference.stages import observe


def rounded_once(op: Callable[..., Any]) -> Callable[..., Any]:
    """Let a 16-bit op compute in float32 and round its result once, as accelerators do; wider dtypes pass unchanged.

    The dtype is that of the op's first argument.
    """
    first = next(iter(inspect.signature(op).parameters))

    def widen(x: Any) -> Any:
        return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.itemsize == 2 else x

    @functools.wraps(op)
    def rounded(*args: Any, **kwargs: Any) -> Any:
        dtype = (args[0] if args else kwargs[first]).dtype
        if dtype.itemsize > 2:
            return observe("rounding", op(*args, **kwargs))
        exact = op(*map(widen, args), **{name: widen(x) for name, x in kwargs.items()})
        return observe("rounding", exact).astype(dtype)

    return rounded
