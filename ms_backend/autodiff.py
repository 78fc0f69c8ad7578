"""Gradients by MindSpore's automatic differentiation; the reference derives them by hand, in functions `..._vjp`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn

from ms_backend.precision import cast_chosen, chosen_parameters
from reference.config import GPT2Config, flatten, map_tree

FLOATS = (ms.float32, ms.float16, ms.bfloat16)


def vjp(function: Callable[..., Any], grad: Tensor, arguments: Mapping[str, Any], mode: str = "pynative") -> Any:
    """The gradients of sum(grad * result) with respect to every float argument, a tensor or a tree of tensors.

    result is the first (or only) result of the function; grad has its shape. The gradients are in the order of the
    function's arguments, as a tuple if there are several. mode "graph" compiles everything, again at every call.
    """
    given = {name: arguments[name] for name in inspect.signature(function).parameters if name in arguments}
    held = {name: map_tree(_hold, value, name) for name, value in given.items() if _leaf(value) in FLOATS}
    # Trees of dropout masks are compiled in as constants: they are nested too deep for an input of a graph.
    inputs = {name: value for name, value in given.items() if name not in held and isinstance(value, Tensor)}
    fixed = {name: value for name, value in given.items() if name not in inputs} | held
    weights = [x for value in held.values() for x in flatten(value).values()]
    kind = _CompiledGradients if mode == "graph" else _Gradients
    found = iter(kind(_Weighted(function, fixed), weights)(ms.mutable({"grad": grad, "inputs": inputs})))
    gradients = tuple(map_tree(lambda name, x: next(found), value) for value in held.values())
    return gradients if len(gradients) > 1 else gradients[0]


def _leaf(value: Any) -> Any:
    """The dtype of an argument that is a tensor or a tree of tensors; None for other arguments."""
    first = next(iter(flatten(value).values()))
    return first.dtype if isinstance(first, Tensor) else None


def _hold(name: str, x: Tensor) -> Parameter:
    return Parameter(x, name=name)


class _Weighted(nn.Cell):
    """sum(grad * result), in float32: the scalar whose gradients the vector-Jacobian product is."""

    def __init__(self, function: Callable[..., Any], fixed: dict[str, Any]) -> None:
        super().__init__(auto_prefix=False)
        self.function, self.fixed = function, fixed

    def construct(self, given):  # type: ignore[no-untyped-def]
        result = self.function(**given["inputs"], **self.fixed)
        if isinstance(result, tuple):
            result = result[0]
        return (result.astype(ms.float32) * given["grad"].astype(ms.float32)).sum()


class _Gradients(nn.Cell):
    """The gradients of a scalar with respect to weights."""

    def __init__(self, scalar: nn.Cell, weights: list[Parameter]) -> None:
        super().__init__(auto_prefix=False)
        self.differentiate = ms.value_and_grad(scalar, None, weights=weights)

    def construct(self, given):  # type: ignore[no-untyped-def]
        return self.differentiate(given)[1]


class _CompiledGradients(_Gradients):
    @ms.jit
    def construct(self, given):  # type: ignore[no-untyped-def]
        return self.differentiate(given)[1]


class GradientFunction(nn.Cell):
    """loss_and_gradients with all arguments fixed but the batch and the scale; the gradients are a tuple.

    They are in the order of flatten(params).
    """

    def __init__(
        self, loss: Callable[..., Tensor], params: dict, config: GPT2Config, level: str, **options: Any
    ) -> None:
        super().__init__(auto_prefix=False)
        self.loss, self.params, self.config, self.options = loss, params, config, options
        self.low = chosen_parameters(params, level)
        self.differentiate = ms.value_and_grad(
            self.scaled_loss, None, ParameterTuple(flatten(params).values()), has_aux=True
        )

    def scaled_loss(self, batch, scale):  # type: ignore[no-untyped-def]
        loss = self.loss(cast_chosen(self.params, self.low), **batch, config=self.config, **self.options)
        return loss * scale, loss

    def construct(self, batch, scale):  # type: ignore[no-untyped-def]
        (_, loss), gradients = self.differentiate(batch, scale)
        return loss, gradients
