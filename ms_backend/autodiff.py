"""Gradients by MindSpore's automatic differentiation; the reference derives them by hand, in functions `..._vjp`."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn

from ms_backend.precision import cast_chosen, chosen_parameters
from ms_backend.weights import assign
from reference.config import GPT2Config, flatten, map_tree

FLOATS = (ms.float32, ms.float16, ms.bfloat16)


class Gradients:
    """The gradients of sum(grad * result) with respect to every float argument, be it a tensor or a tree of tensors.

    result is what the function returns first, or alone. constants are its arguments that are no tensors. mode "graph"
    compiles it all at the first call; a later one, with tensors of the same shapes and dtypes, gives the same graph
    other numbers: floats and trees are parameters, which are assigned to.
    """

    def __init__(self, function: Callable[..., Any], constants: Mapping[str, Any], mode: str) -> None:
        self._function, self._constants, self._mode = function, dict(constants), mode
        self._held: dict[str, Any] = {}
        self._run: _Gradients | None = None

    def __call__(self, grad: Tensor, **tensors: Any) -> Any:
        """The gradients in the order of the function's arguments, as a tuple if there are several.

        grad has the shape of the result.
        """
        given = {name: tensors[name] for name in inspect.signature(self._function).parameters if name in tensors}
        inputs = {name: x for name, x in given.items() if isinstance(x, Tensor) and x.dtype not in FLOATS}
        held = {name: value for name, value in given.items() if name not in inputs}
        weighed = [name for name, value in held.items() if _leaf(value) in FLOATS]
        if self._run is None:  # a graph takes no input that is nested as deep as a tree
            self._held = {name: _hold(name, value, name in weighed) for name, value in held.items()}
            weights = [x for name in weighed for x in flatten(self._held[name]).values()]
            kind = _CompiledGradients if self._mode == "graph" else _Gradients
            self._run = kind(_Weighted(self._function, {**self._constants, **self._held}), weights)
        else:
            for parameter, x in zip(_leaves(self._held), _leaves(held), strict=True):
                assign(parameter, x)
        found = iter(self._run(ms.mutable({"grad": grad, "inputs": inputs})))
        gradients = tuple(map_tree(lambda name, x: next(found), self._held[name]) for name in weighed)
        return gradients if len(gradients) > 1 else gradients[0]


def _leaf(value: Any) -> Any:
    """The dtype of an argument that is a tensor or a tree of tensors."""
    return next(iter(flatten(value).values())).dtype


def _hold(name: str, tree: Any, is_weight: bool) -> Any:
    """The tree with a parameter in place of each tensor."""
    if isinstance(tree, dict):
        return {key: _hold(f"{name}.{key}", value, is_weight) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_hold(f"{name}.{i}", value, is_weight) for i, value in enumerate(tree))
    return Parameter(tree, name=name, requires_grad=is_weight)


def _leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, dict | list | tuple):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(branch)
    else:
        yield tree


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
