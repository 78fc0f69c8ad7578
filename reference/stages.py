"""Watch a forward pass by name: `q = observe("h.0.attn.q", q)` passes q to the observer, if there is one."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

_observer: Callable[[str, Any], Any] | None = None


def observe(name: str, x: Any) -> Any:
    """Return x, or what the current observer returns for it.

    Stages have names like those of parameters (`h.0.attn.q`, `h.0.mlp.c_fc`, `ln_f`, `logits`). Inside an op, `exp`,
    `sigmoid`, `tanh`, `erf`, `log` and `mean` name results of these functions, `rounding` the result of the op,
    `rounding.float16` the result of a 16-bit op before it is rounded, and `widened.float16` what it begins with.
    """
    return x if _observer is None else _observer(name, x)


def observe_each(at: str = "", **stages: Any) -> tuple[Any, ...]:
    """observe for several stages, none computed from another: `q, k = observe_each("h.0.attn", q=q, k=k)`."""
    return tuple(observe(f"{at}.{name}" if at else name, x) for name, x in stages.items())


@contextlib.contextmanager
def observing(observer: Callable[[str, Any], Any]) -> Iterator[None]:
    """Call observer(name, x) at every stage that this thread computes; its result replaces x.

    Raises RuntimeError if there is an observer already.
    """
    global _observer
    if _observer is not None:
        raise RuntimeError("one observer at a time: leave the first `with observing(...)` before the second")
    owner = threading.get_ident()
    _observer = lambda name, x: observer(name, x) if threading.get_ident() == owner else x  # noqa: E731
    try:
        yield
    finally:
        _observer = None


WIDENED = "widened."
# Stages inside ops: functions whose last digits differ between libraries, and the result of each op.
ELEMENTARY = (
    "exp",
    "sigmoid",
    "tanh",
    "erf",
    "log",
    "mean",
    "rounding",
    "rounding.float16",
    "rounding.bfloat16",
)


def keep_in(seen: dict[str, Any]) -> Callable[[str, Any], Any]:
    """An observer that stores every stage in `seen` by name, except elementary functions, and changes nothing."""

    def keep(name: str, x: Any) -> Any:
        if name not in ELEMENTARY and not name.startswith(WIDENED):
            seen[name] = x
        return x

    return keep
