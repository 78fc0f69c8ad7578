"""Functions as compiled graphs, entered by one thread at a time, what is kept of them, and the lengths compiled."""

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn

from ms_backend.engine.device import LOCK


class _Graph(nn.Cell):
    """A function as a compiled graph: inputs have names, parameters are not copied, all other arguments are fixed."""

    def __init__(self, function: Callable[..., Any], names: tuple[str, ...], constants: dict[str, Any]) -> None:
        super().__init__(auto_prefix=False)
        self.function, self.names, self.constants = function, names, constants

    @ms.jit
    def construct(self, *inputs):  # type: ignore[no-untyped-def]
        return self.function(**{name: inputs[i] for i, name in enumerate(self.names)}, **self.constants)


class Runner:
    """A function with some arguments fixed, run as a graph or op by op, entered by one thread at a time.

    After an error the graph is discarded: a MindSpore graph that failed once for a shape fails at every later call.
    """

    def __init__(self, function: Callable[..., Any], constants: dict[str, Any], mode: str) -> None:
        self._function, self._constants, self._mode = function, constants, mode
        self._graphs: dict[tuple[str, ...], _Graph] = {}

    def __call__(self, **inputs: Any) -> Any:
        with LOCK:
            if self._mode == "pynative":
                return self._function(**inputs, **self._constants)
            names = tuple(inputs)
            if names not in self._graphs:
                self._graphs[names] = _Graph(self._function, names, self._constants)
            try:  # a Tensor alone is faster than in a dict; a tree that is not mutable would be compiled in
                return self._graphs[names](*(x if isinstance(x, Tensor) else ms.mutable(x) for x in inputs.values()))
            except Exception:
                del self._graphs[names]
                raise


class Kept:
    """What took long to make and is free at the moment, by what it is good for: of all, the last `most` given back."""

    def __init__(self, most: int) -> None:
        self._most, self._free, self._lock = most, list[tuple[Hashable, Any]](), threading.Lock()
        self._returned = collections.deque[tuple[Hashable, Any]](maxlen=most)

    def take(self, key: Hashable) -> Any:
        """One that is good for that, or None. Nobody else gets it until it is given back; what failed never is."""
        with self._lock:
            while self._returned:
                self._free.append(self._returned.popleft())
            del self._free[: -self._most]
            for place, (found, kept) in enumerate(self._free):
                if found == key:
                    del self._free[place]
                    return kept
        return None

    def give(self, key: Hashable, kept: Any) -> None:
        """Leave it to whoever takes it next.

        It waits for no lock and does not touch what take looks through: the garbage collector calls it, at any moment.
        """
        self._returned.append((key, kept))


def form(tree: Any) -> Hashable:
    """What a graph is compiled for: of (trees of) tensors their names, shapes and dtypes, of all else the value."""
    if isinstance(tree, dict):
        return "dict", tuple((name, form(value)) for name, value in tree.items())
    if isinstance(tree, list | tuple):
        return type(tree), tuple(form(value) for value in tree)
    if isinstance(tree, Tensor):
        return tuple(tree.shape), str(tree.dtype)
    return type(tree), repr(tree)  # by their words 0.0 and -0.0 differ, and so do configurations, which have no hash


def bucket(length: int) -> int:
    """The length that is compiled for `length` tokens: the next power of two up to 64, then the next multiple of 64."""
    return 1 << (length - 1).bit_length() if length <= 64 else -(-length // 64) * 64
