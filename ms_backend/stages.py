"""Watch a forward pass by name in PyNative mode; a compiled graph sees no observer. Twin of reference/stages.py."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

_observer: Callable[[str, Any], Any] | None = None


def observe(name: str, x: Any) -> Any:
    """Return x, or what the current observer returns for it."""
    return x if _observer is None else _observer(name, x)


def observe_each(at: str = "", **stages: Any) -> tuple[Any, ...]:
    """observe for several stages, none computed from another: `q, k = observe_each("h.0.attn", q=q, k=k)`."""
    if _observer is None:  # always so in a compiled graph, which could not make the names below
        return tuple(stages.values())
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


def keep_in(seen: dict[str, Any]) -> Callable[[str, Any], Any]:
    """An observer that stores every stage in `seen` by name, except elementary functions, and changes nothing.

    It stores NumPy copies.
    """

    def keep(name: str, x: Any) -> Any:
        seen[name] = x.asnumpy().copy()  # asnumpy alone is a view that later calls may overwrite
        return x

    return keep
