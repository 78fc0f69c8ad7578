"""What runs in 16 bits, and how: computed in float32, rounded once. In MindSpore the kernels do that."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from reference.config import map_tree, runs_in_float16
from reference.stages import WIDENED, observe


def rounded_once(op: Callable[..., Any]) -> Callable[..., Any]:
    """Let a 16-bit op compute in float32 and round its result once, as accelerators do; wider dtypes pass unchanged.

    The dtype is that of the op's first argument.
    """
    first = next(iter(inspect.signature(op).parameters))

    @functools.wraps(op)
    def rounded(*args: Any, **kwargs: Any) -> Any:
        dtype = (args[0] if args else kwargs[first]).dtype
        if dtype.itemsize > 2:
            return observe("rounding", op(*args, **kwargs))
        return _round(op(*map(_widen, args), **{name: _widen(x) for name, x in kwargs.items()}), dtype)

    return rounded


def gradients_rounded_once(vjp: Callable[..., Any]) -> Callable[..., Any]:
    """rounded_once for a vector-Jacobian product: every gradient has the dtype of its argument."""
    signature = inspect.signature(vjp)

    @functools.wraps(vjp)
    def rounded(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        dtypes = [x.dtype for name, x in given.items() if name != "grad" and _is_float(x)]
        exact = vjp(**{name: _widen(x) for name, x in given.items()})
        if not isinstance(exact, tuple):
            return _round(exact, dtypes[0])
        return tuple(_round(x, dtype) for x, dtype in zip(exact, dtypes, strict=True))

    return rounded


def cast_parameters(params: dict, level: str) -> dict:
    """The parameters for the forward pass at that level: float32 becomes float16 where runs_in_float16 says so.

    An op runs in the dtype of its weights; sums inside softmax, LayerNorm and GELU run in float32 at every level, and
    so does the loss. float64 stays float64, for the oracle.
    Source: Micikevicius et al. 2018, section 3.1 (float32 masters); the levels, mindspore.amp.
    """

    def cast(name: str, x: Any) -> Any:
        return x.astype(np.float16) if x.dtype == np.float32 and runs_in_float16(name, level) else x

    return map_tree(cast, params)


def as_low_as(x: Any, weight: Any) -> Any:
    """x in the dtype of the weight if that has 16 bits, as mixed precision requires; else x itself."""
    return x.astype(weight.dtype) if weight.dtype.itemsize == 2 else x


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind not in "iub"


def _widen(x: Any) -> Any:
    is_short = _is_float(x) and x.dtype.itemsize == 2
    return observe(WIDENED + x.dtype.name, x.astype(np.float32)) if is_short else x


def _round(exact: Any, dtype: np.dtype) -> Any:
    if dtype.itemsize > 2:
        return observe("rounding", exact)
    return observe(f"rounding.{dtype.name}", exact).astype(dtype)
