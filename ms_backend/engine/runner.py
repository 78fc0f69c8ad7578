"""Functions as compiled graphs, entered by one thread at a time, and the lengths that are compiled."""

from collections.abc import Callable
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


def bucket(length: int) -> int:
    """The length that is compiled for `length` tokens: the next power of two up to 64, then the next multiple of 64."""
    return 1 << (length - 1).bit_length() if length <= 64 else -(-length // 64) * 64
