"""The frameworks that a port may be written in: how arrays get there and back, and what their modules offer."""

import ast
import functools
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from gpt2.backends.elementary_errors import measured_errors
from gpt2.errors import GPT2Error

Array = NDArray[Any]
Change = Callable[[Any], Any]


class Framework(Protocol, Hashable):
    """What a port computes with. Tensors are those of the framework, arrays NumPy's."""

    name: str
    version: str | None
    device: str

    def tensor(self, x: Array) -> Any:
        """A tensor with a copy of the numbers, of the array's dtype."""

    def array(self, x: Any) -> Any:
        """A copy of a tensor's numbers as an array; anything else unchanged."""

    def dtype(self, dtype: np.dtype) -> Any:
        """The framework's dtype of the same name."""

    def elementary(self, name: str) -> Callable[[Any], Any] | None:
        """The framework's exp, tanh, erf, log or sigmoid; None if it has none."""

    def activation(self, name: str) -> Callable[[Any], Any] | None:
        """The framework's kernel of gelu or gelu_new, in which erf or tanh may be less accurate; None if unknown."""

    def modules(self, model: Any) -> Iterator[tuple[str, Any]]:
        """The submodules of a module by name; none of a plain function."""

    def watch(self, module: Any, before: Change | None, after: Change | None) -> Callable[[], None]:
        """Let functions see, and replace, a module's first argument and its result; returns what ends that."""

    def parameters(self, model: Any) -> dict[str, Any]:
        """The parameters of a module by name, whose gradients can be had; empty if the framework has no gradients."""

    def losses_gradients(
        self, parameters: Mapping[str, Any], loss: Callable[[], Any], grad: float, heads: tuple[int, ...]
    ) -> dict[str, Array]:
        """The gradients of a loss, times `grad`, by parameter; zeros where it does not depend on one.

        heads: the shape (B, H, T, D) of the model's queries. Raises NotImplementedError where there are none.
        """

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Where nothing is recorded for gradients."""

    def cross_entropy(self, logits: Any, labels: Array, ignore_index: int) -> Any:
        """The mean cross-entropy of scores (..., V) and labels (...), of which at least one is scored."""


NO_MATMUL_GRADIENT = (
    "MindSpore's own gradient of ops.matmul fails where the inner size is 1 (ops.MatMul has a right one)"
)


class NumPy:
    """Arrays stay what they are, but for a copy: a port may write into its arguments."""

    name, version, device = "numpy", np.__version__, "CPU"

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, "CPU"):
            raise GPT2Error(f"a port on NumPy has no device {device!r}: leave --device out")

    def tensor(self, x: Array) -> Array:
        """A copy."""
        return x.copy()

    def array(self, x: Any) -> Any:
        """The same, copied if it is an array."""
        return x.copy() if isinstance(x, np.ndarray) else x

    def dtype(self, dtype: np.dtype) -> Any:
        """The same."""
        return dtype

    def elementary(self, name: str) -> None:
        """NumPy's have no error worth measuring."""

    def activation(self, name: str) -> None:
        """NumPy has none."""

    def modules(self, model: Any) -> Iterator[tuple[str, Any]]:
        """None."""
        return iter(())

    def watch(self, module: Any, before: Change | None, after: Change | None) -> Callable[[], None]:
        """Nothing, as there are no modules."""
        raise NotImplementedError("stages")

    def parameters(self, model: Any) -> dict[str, Any]:
        """None: there are no gradients."""
        return {}

    def losses_gradients(
        self, parameters: Mapping[str, Any], loss: Callable[[], Any], grad: float, heads: tuple[int, ...]
    ) -> dict[str, Array]:
        """Raises NotImplementedError."""
        raise NotImplementedError("gradients")

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Nothing is ever recorded."""
        return nullcontext()

    def cross_entropy(self, logits: Any, labels: Array, ignore_index: int) -> Any:
        """Raises NotImplementedError."""
        raise NotImplementedError("gradients")


class Torch:
    """PyTorch, on a device of its own name."""

    name = "torch"

    def __init__(self, device: str | None = None) -> None:
        self._torch: Any = importlib.import_module("torch")
        self.version, self.device = self._torch.__version__, device or "CPU"
        self._at = {"CPU": "cpu", "GPU": "cuda", "Ascend": "npu"}.get(self.device, self.device)
        try:
            self._torch.zeros(1, device=self._at)
        except Exception as error:  # PyTorch raises whatever its build for the device raises
            raise GPT2Error(f"PyTorch has no device {self.device!r} here ({self._at}): leave --device out") from error

    def tensor(self, x: Array) -> Any:
        """A tensor with a copy of the numbers."""
        torch = self._torch
        if x.dtype == numpy_dtype("bfloat16"):
            return torch.from_numpy(np.ascontiguousarray(x).view(np.int16).copy()).view(torch.bfloat16).to(self._at)
        return torch.from_numpy(np.array(x)).to(self._at)

    def array(self, x: Any) -> Any:
        """A copy of the numbers."""
        torch = self._torch
        if not isinstance(x, torch.Tensor):
            return x
        x = x.detach().cpu().contiguous()
        if x.dtype == torch.bfloat16:
            return x.view(torch.int16).numpy().view(numpy_dtype("bfloat16")).copy()
        return x.numpy().copy()

    def dtype(self, dtype: np.dtype) -> Any:
        """PyTorch's dtype."""
        return getattr(self._torch, dtype.name)

    def elementary(self, name: str) -> Callable[[Any], Any] | None:
        """PyTorch's function of that name."""
        return getattr(self._torch, name)

    def activation(self, name: str) -> Callable[[Any], Any] | None:
        """torch.nn.functional.gelu, in either form."""
        form = {"gelu": "none", "gelu_new": "tanh"}[name]
        return functools.partial(self._torch.nn.functional.gelu, approximate=form)

    def modules(self, model: Any) -> Iterator[tuple[str, Any]]:
        """The submodules, if it is an nn.Module; the module itself is named ""."""
        return model.named_modules() if isinstance(model, self._torch.nn.Module) else iter(())

    def watch(self, module: Any, before: Change | None, after: Change | None) -> Callable[[], None]:
        """By forward hooks."""
        return _hooked(module, before, after)

    def parameters(self, model: Any) -> dict[str, Any]:
        """By name, each once."""
        return dict(model.named_parameters()) if isinstance(model, self._torch.nn.Module) else {}

    def losses_gradients(
        self, parameters: Mapping[str, Any], loss: Callable[[], Any], grad: float, heads: tuple[int, ...]
    ) -> dict[str, Array]:
        """By autograd."""
        torch = self._torch
        for x in parameters.values():
            x.requires_grad_(True)
        given = list(parameters.values())
        found = torch.autograd.grad(loss() * grad, given, allow_unused=True)
        filled = (torch.zeros_like(x) if g is None else g for x, g in zip(given, found, strict=True))
        return {name: self.array(g) for name, g in zip(parameters, filled, strict=True)}

    def without_gradients(self) -> AbstractContextManager[Any]:
        """By torch.no_grad."""
        without: AbstractContextManager[Any] = self._torch.no_grad()
        return without

    def cross_entropy(self, logits: Any, labels: Array, ignore_index: int) -> Any:
        """By torch.nn.functional.cross_entropy."""
        wanted = self.tensor(labels).flatten()
        return self._torch.nn.functional.cross_entropy(logits.flatten(0, -2), wanted, ignore_index=ignore_index)


class MindSpore:
    """MindSpore, op by op, so that hooks run."""

    name = "mindspore"

    def __init__(self, device: str | None = None) -> None:
        twin = importlib.import_module("ms_backend.engine.device")
        self._ms: Any = importlib.import_module("mindspore")
        self._place, self.device = twin.MindSporeDevice(device or "CPU", "float32", "pynative"), device or "CPU"
        self.version, self._has_failed = self._ms.__version__, False
        self._warm_up()

    def _warm_up(self) -> None:
        """Let no port suffer from a fault of MindSpore's.

        If the first gradient of ops.softmax in a process, for this rank, axis and dtype, is over a single number, all
        later ones are wrong (2.10, CPU, op by op). So it is over two here.
        """
        for rank, kind in itertools.product(range(1, 5), (np.float32, np.float16)):
            for axis in (-1, rank - 1):
                self._ms.grad(self._ms.ops.softmax)(self._ms.Tensor(np.ones([1] * (rank - 1) + [2], kind)), axis)

    @property
    def accuracy(self) -> Mapping[str, float]:
        """Largest relative error of elementary functions on this device, by name."""
        return self._place.accuracy

    def tensor(self, x: Array) -> Any:
        """A tensor with a copy of the numbers."""
        if x.dtype == numpy_dtype("bfloat16"):
            return self._ms.Tensor(x.astype(np.float32)).astype(self._ms.bfloat16)
        return self._ms.Tensor(np.array(x))

    def array(self, x: Any) -> Any:
        """A copy of the numbers."""
        if not isinstance(x, self._ms.Tensor):
            return x
        if x.dtype == self._ms.bfloat16:
            return x.astype(self._ms.float32).asnumpy().astype(numpy_dtype("bfloat16"))
        return x.asnumpy().copy()

    def dtype(self, dtype: np.dtype) -> Any:
        """MindSpore's dtype."""
        return getattr(self._ms, dtype.name)

    def elementary(self, name: str) -> Callable[[Any], Any] | None:
        """MindSpore's function of that name."""
        return getattr(self._ms.ops, name)

    def activation(self, name: str) -> None:
        """They are as accurate as its functions, which are measured."""

    def modules(self, model: Any) -> Iterator[tuple[str, Any]]:
        """The submodules, if it is a Cell; the cell itself is named ""."""
        return model.cells_and_names() if isinstance(model, self._ms.nn.Cell) else iter(())

    def watch(self, module: Any, before: Change | None, after: Change | None) -> Callable[[], None]:
        """By forward hooks, which run op by op alone."""
        return _hooked(module, before, after)

    def parameters(self, model: Any) -> dict[str, Any]:
        """By name, each once."""
        return {x.name: x for x in model.trainable_params()} if isinstance(model, self._ms.nn.Cell) else {}

    def losses_gradients(
        self, parameters: Mapping[str, Any], loss: Callable[[], Any], grad: float, heads: tuple[int, ...]
    ) -> dict[str, Array]:
        """By grad.

        Raises NotImplementedError where MindSpore's own gradient of ops.matmul fails (2.10, CPU, op by op), and, where
        it has failed nevertheless, from then on: a gradient that has raised makes later ones of this process wrong.
        """
        if heads[:2] == (1, 1) and 1 in heads[2:]:
            raise NotImplementedError(NO_MATMUL_GRADIENT)
        if self._has_failed:
            raise NotImplementedError("gradients: one has raised in MindSpore, whose later ones are wrong")
        weights = self._ms.ParameterTuple(list(parameters.values()))
        try:
            found = self._ms.grad(lambda: loss() * grad, grad_position=None, weights=weights)()
        except RuntimeError as error:
            if "'MatMulExt'" not in str(error):
                raise
            loss()  # raises too if it is the port that multiplies what does not fit
            self._has_failed = True
            raise NotImplementedError(NO_MATMUL_GRADIENT) from error
        return {name: self.array(x) for name, x in zip(parameters, found, strict=True)}

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Nothing is ever recorded."""
        return nullcontext()

    def cross_entropy(self, logits: Any, labels: Array, ignore_index: int) -> Any:
        """By ops.cross_entropy."""
        wanted = self._ms.Tensor(labels.reshape(-1).astype(np.int32))
        return self._ms.ops.cross_entropy(logits.reshape(-1, logits.shape[-1]), wanted, ignore_index=ignore_index)


FRAMEWORKS: dict[str, Any] = {"numpy": NumPy, "torch": Torch, "mindspore": MindSpore}


def framework(name: str, device: str | None = None) -> Framework:
    """The framework of that name. Raises GPT2Error if it is unknown, or not installed here."""
    if name not in FRAMEWORKS:
        raise GPT2Error(f"unknown framework {name!r}: choose one of {', '.join(FRAMEWORKS)}")
    if importlib.util.find_spec(name) is None:
        raise GPT2Error(f"the port needs {name}, which is not installed in this environment ({sys.prefix})")
    try:
        made: Framework = FRAMEWORKS[name](device)
    except ValueError as error:
        raise GPT2Error(str(error)) from error
    return made


def guessed(*sources: Path) -> str:
    """The framework that source files import, or those beside them that they import; NumPy if none of the others."""
    others = {"transformers": "torch", "mindnlp": "mindspore"}
    named, waiting, read = set[str](), list(sources), set[Path]()
    while waiting:
        source = waiting.pop()
        if source in read or not source.is_file():
            continue
        read.add(source)
        for module in _imported(source):
            first = module.partition(".")[0]
            named.add(others.get(first, first))
            beside = source.parent.joinpath(*module.split("."))
            waiting += [beside.with_suffix(".py"), beside / "__init__.py"]
    return next((name for name in ("torch", "mindspore") if name in named), "numpy")


def _imported(source: Path) -> set[str]:
    """The modules that a file names in its imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8-sig"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):  # a module, or modules of a package
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


@functools.cache
def measured_accuracy(framework: Framework) -> dict[str, float]:
    """Largest relative error of the framework's elementary functions in float32, measured here and now."""

    def run(find: Callable[[str], Callable[[Any], Any] | None], name: str, x: Array) -> Array | None:
        function = find(name)
        return None if function is None else framework.array(function(framework.tensor(x)))

    return measured_errors(functools.partial(run, framework.elementary), functools.partial(run, framework.activation))


def _hooked(module: Any, before: Change | None, after: Change | None) -> Callable[[], None]:
    """Watch a module by forward hooks, which have the same names in PyTorch and MindSpore; see Framework.watch."""
    handles = []
    if before is not None:
        handles.append(module.register_forward_pre_hook(lambda _, given: (before(given[0]), *given[1:])))
    if after is not None:
        handles.append(module.register_forward_hook(lambda _, given, result: _first_changed(result, after)))

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end


def _first_changed(result: Any, change: Change) -> Any:
    """What a module returns, with its first tensor as `change` gives it back."""
    if isinstance(result, tuple):
        return (change(result[0]), *result[1:])
    if isinstance(result, list):
        return [change(result[0]), *result[1:]]
    return change(result)
