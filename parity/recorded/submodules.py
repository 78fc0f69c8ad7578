"""GPT-2's submodules from what was recorded of them: their input, and the parameters under their children's names."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.recorded.call_index import CallIndex
from parity.recorded.operators import Operators
from parity.recorded.operators.expectation import Expectation, References, moved
from parity.recorded.operators.functions import EPSILON, ROWS
from parity.recorded.recording import Call, RecordedTensor, is_float, tensors
from reference.attention import visible_keys
from reference.config import GPT2Config

Array = NDArray[Any]
# GPT-2's submodules, by the names of their children.
PARTS = {
    "model.block": ("ln_1", "attn", "ln_2", "mlp"),
    "attention.attention": ("c_attn", "c_proj"),
    "model.mlp": ("c_fc", "c_proj"),
}
NORMS = ("ln_1", "ln_2", "ln_f")
PASTS = ("past_key_values", "past_key_value", "layer_past", "past")


class CannotTellError(Exception):
    """What a submodule computes does not follow from what was recorded; the message says what is missing."""


def function_of(call: Call, index: CallIndex) -> str:
    """The function of the reference that a module is, by the names of its children or its own; "" if it is none."""
    for function, names in PARTS.items():
        if call.is_module and all(index.submodule(call, name) is not None for name in names):
            return function
    named = set(call.parameters) in ({"weight", "bias"}, {"gamma", "beta"})
    return "ops.layer_norm" if named and is_norm(call) else ""


def is_norm(call: Call) -> bool:
    """Whether a module is one of GPT-2's norms by its name."""
    return call.is_module and call.path.rpartition(".")[2] in NORMS


def norm_parameters(call: Call) -> dict[str, str]:
    """The names of the parameters of a module that is a norm by its name, for those of the reference."""
    return {"weight": "gamma", "bias": "beta"} if "gamma" in call.parameters else {"weight": "weight", "bias": "bias"}


class Submodules:
    """What is expected of calls of whole submodules."""

    def __init__(self, index: CallIndex, operators: Operators, config: GPT2Config | None, known: References) -> None:
        self._index, self._operators, self._config, self._known = index, operators, config, known
        self.epsilons: dict[str, float] = {}  # that norms agree with whose own is not recorded, by the module's call

    def forward(self, call: Call, function: str) -> list[Expectation]:
        """What is expected of a submodule's first result. Raises CannotTellError."""
        result = next(tensors(call.results))
        return [self._expectation(function, self._arguments(call, function, result), result)]

    def backward(self, call: Call, function: str, grad: RecordedTensor) -> Expectation:
        """What is expected of the gradient of a submodule's input. call: the forward call. Raises CannotTellError."""
        given = self._arguments(call, function, grad)
        if given["x"].size != np.prod(grad.shape):
            raise CannotTellError("the gradient of its first result is not recorded")
        given["grad"] = grad.numbers().reshape(given["x"].shape)
        pads = given["attention_mask"] == 0 if "attention_mask" in given else np.zeros(given["x"].shape[:2], bool)
        if given["grad"][pads].any():
            raise CannotTellError("the gradient is not 0 at pads, whose results mean nothing")
        return self._expectation(f"{function}_vjp", given, next(tensors(call.arguments)))

    def _expectation(self, function: str, given: dict[str, Any], result: RecordedTensor) -> Expectation:
        whole, dtype = given["x"].shape, given["x"].dtype

        def judge(value: Array) -> Any:
            verdict = self._known.verdict(function, given, dtype, 0, value.reshape(whole))
            return moved(verdict, (0, 0, 0), whole, result.shape)

        shape = result.shape if np.prod(result.shape) == np.prod(whole) else whole
        return Expectation(shape, judge)

    def _arguments(self, call: Call, function: str, result: RecordedTensor) -> dict[str, Any]:
        given = next(tensors((call.arguments, call.keywords)), None)
        if given is None or not is_float(given) or not 2 <= len(given.shape) <= 3:
            raise CannotTellError("its input (B, T, C) is not recorded")
        self._require_one_dtype(call, result)
        self._require_no_dropout(call)
        x = given.numbers()
        dtype = x.dtype
        x = x.reshape(-1, *x.shape[-2:]) if x.ndim > 2 else x[None]
        params: dict[str, Any]
        options: dict[str, Any] = {"n_embd": x.shape[-1], "n_positions": x.shape[1], "vocab_size": 1, "n_layer": 1}
        arguments: dict[str, Any] = {"x": x}
        if function == "model.mlp":
            params = self._mlp(call, options)
        elif function == "attention.attention":
            params = self._attention(call, options)
        else:
            params = {name: self._norm(call, name, options) for name in ("ln_1", "ln_2")}
            params["attn"] = self._attention(self._child(call, "attn"), options)
            params["mlp"] = self._mlp(self._child(call, "mlp"), options)
        if function != "model.mlp":
            mask = self._mask(call, x.shape[0], x.shape[1])
            arguments |= {} if mask is None else {"attention_mask": mask}
        if options["n_embd"] % options.get("n_head", 1):
            raise CannotTellError(f"{options['n_embd']} channels are not {options['n_head']} heads")
        options.setdefault("n_head", 1)
        base = self._config or GPT2Config()
        layer = next((int(step) for step in call.path.split(".") if step.isdigit()), 0)
        lowered = _astype(params, dtype)
        config = dataclasses.replace(base, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **options)
        return arguments | {"params": lowered, "config": config, "layer": layer}

    def _child(self, call: Call, name: str) -> Call:
        found = self._index.submodule(call, name)
        if found is None:
            raise CannotTellError(f"its submodule {name} is not recorded")
        return found

    def _attention(self, call: Call, options: dict[str, Any]) -> dict[str, Any]:
        if any(call.keywords.get(name) is not None for name in PASTS):
            raise CannotTellError("it has a past, whose keys and values are not recorded")
        heads = self._heads(call)
        if heads is None:
            raise CannotTellError(
                "how many heads it has is not recorded: no softmax (B, H, T, S) within it, no config.json"
            )
        options["n_head"] = heads
        self._require_usual_scale(call, options["n_embd"] // heads)
        return {name: self._affine(call, name) for name in ("c_attn", "c_proj")}

    def _require_usual_scale(self, call: Call, head_size: int) -> None:
        """Raise CannotTellError for another scale than GPT-2's, which a configuration that is not known may ask for."""
        if self._config is not None:
            return
        scale, seen = 1.0, False
        for inner in self._index.within(call):
            bound = self._operators.find(inner, self._index.framework)
            function, given = (bound, {}) if isinstance(bound, str) else (bound.function, bound.arguments)
            number = given.get("y")
            if function == "ops.softmax":
                seen = True
            elif function in ("tensor.multiply", "tensor.divide") and isinstance(number, int | float) and not seen:
                scale *= number if function == "tensor.divide" else 1 / number if number else math.inf
            elif function == "tensor.baddbmm" and given.get("alpha"):
                scale /= float(given["alpha"])
            elif function == "tensor.scaled_dot_product_attention" and given.get("scale"):
                seen, scale = True, 1 / float(given["scale"])
            elif function == "tensor.scaled_dot_product_attention":
                return
        if seen and not math.isclose(scale, math.sqrt(head_size), rel_tol=2.0**-7):  # it may have been kept in 16 bits
            said = f"its scores are divided by {scale:.4g} in all, not by the root of {head_size}"
            raise CannotTellError(f"{said}: is it so in config.json?")

    def _heads(self, call: Call) -> int | None:
        for inner in self._index.all_within(call):
            if inner.operator.lower().startswith(("softmax", "scaled_dot_product")):
                shape = next((x.shape for x in tensors(inner.results)), ())
                if len(shape) == 4:
                    return shape[1]
        return None if self._config is None else self._config.n_head

    def _mlp(self, call: Call, options: dict[str, Any]) -> dict[str, Any]:
        if self._config is None:
            options["activation_function"] = self._activation(call)
        params = {name: self._affine(call, name) for name in ("c_fc", "c_proj")}
        options["n_inner"] = params["c_fc"]["weight"].shape[1]
        return params

    def _activation(self, call: Call) -> str:
        """The activation that ran within an MLP, if it is one call that the table knows."""
        names = set()
        for inner in self._index.all_within(call):
            if self._is_activation(inner) and not self._is_step(inner, call):
                bound = self._operators.find(inner, self._index.framework)
                names.add("" if isinstance(bound, str) else bound.function.partition(".")[2])
        if len(names) != 1 or names & {"tanh", "sigmoid"}:  # these are steps of other activations, written out
            raise CannotTellError("its activation is not recorded: none that the table knows, or several, within it")
        return names.pop()

    def _is_step(self, inner: Call, mlp: Call) -> bool:
        """Whether a call is a step of an activation that the table knows as a module, such as the tanh of a GELU."""
        known = [other for other in self._index.within(mlp) if other.is_module and self._is_activation(other)]
        return any(inner in self._index.all_within(other) for other in known)

    def _is_activation(self, call: Call) -> bool:
        bound = self._operators.find(call, self._index.framework)
        return not isinstance(bound, str) and bound.function in ROWS

    def _affine(self, call: Call, name: str) -> dict[str, Array]:
        child = self._child(call, name)
        bound = self._operators.find(child, self._index.framework)
        if isinstance(bound, str) or bound.function != "ops.conv1d":
            raise CannotTellError(f"its submodule {name}, {child.operator}, is no affine map of the table")
        weight, bias = bound.arguments.get("weight"), bound.arguments.get("bias")
        if not _has_numbers(weight) or not (bias is None or _has_numbers(bias)):
            raise CannotTellError(f"the parameters of its submodule {name} are not recorded")
        assert weight is not None
        matrix = weight.numbers().T if "weight" in bound.transposed else weight.numbers()
        return {"weight": matrix, "bias": np.zeros(matrix.shape[1], matrix.dtype) if bias is None else bias.numbers()}

    def _norm(self, call: Call, name: str, options: dict[str, Any]) -> dict[str, Array]:
        child = self._child(call, name)
        bound = self._operators.find(child, self._index.framework)
        if not isinstance(bound, str) and bound.function == "ops.layer_norm":
            given = bound.arguments
        elif function_of(child, self._index) == "ops.layer_norm":
            given = {name: child.parameters[x] for name, x in norm_parameters(child).items()}
        else:
            raise CannotTellError(f"its submodule {name}, {child.operator}, is no norm of the table")
        if not _has_numbers(given.get("weight")) or not _has_numbers(given.get("bias")):
            raise CannotTellError(f"the parameters of its submodule {name} are not recorded")
        options["layer_norm_epsilon"] = self.epsilon(child)
        return {"weight": given["weight"].numbers(), "bias": given["bias"].numbers()}

    def epsilon(self, call: Call) -> float:
        """The epsilon of a norm: for a module of GPT-2's that of the configuration; as recorded; found; or GPT-2's."""
        if self._config is not None and is_norm(call):
            return self._config.layer_norm_epsilon
        for inner in self._index.all_within(call):
            bound = self._operators.find(inner, self._index.framework)
            if not isinstance(bound, str) and bound.function == "ops.layer_norm" and bound.arguments.get("eps"):
                return float(bound.arguments["eps"])
        if self._config is not None:
            return self._config.layer_norm_epsilon
        return self.epsilons.get(call.parent if not call.is_module else call.name, EPSILON)

    def _require_one_dtype(self, call: Call, result: RecordedTensor) -> None:
        floats = [x for inner in self._index.all_within(call) for x in tensors(inner.results) if is_float(x)]
        floats += [x for x in tensors(call.arguments) if is_float(x) and len(x.shape) < 4]
        if {x.dtype for x in floats} - {result.dtype}:
            raise CannotTellError("it computes in several dtypes; its parts are judged alone")

    def _require_no_dropout(self, call: Call) -> None:
        for inner in self._index.all_within(call):
            bound = self._operators.find(inner, self._index.framework)
            if not isinstance(bound, str) and bound.function == "tensor.dropout":
                if bound.arguments.get("training") is False or bound.arguments.get("rate") == 0 or inner.is_module:
                    continue
                raise CannotTellError("dropout is on, and what it dropped is not recorded")

    def _mask(self, call: Call, batch: int, length: int) -> Array | None:
        """The mask (B, T) of tokens that the recorded mask (B, 1, T, T) of visible keys comes from; None: no pads.

        Raises CannotTellError for another mask than GPT-2's.
        """
        given = list(tensors((call.arguments, call.keywords)))
        for x in tensors((call.arguments, {name: x for name, x in call.keywords.items() if "mask" in name})):
            tokens = x.numbers() if x.shape == (batch, length) and x.has_numbers else np.array([2])
            if not ((tokens != 0) & (tokens != 1)).any():
                if batch == length:
                    raise CannotTellError(f"its mask {x.shape} may be one of tokens (B, T), or one of keys (T, T)")
                return (tokens != 0).astype(np.int64)
        masks = [x for x in given if len(x.shape) == 4 and x.dtype != "int64"] or self._masks_within(call)
        if not masks:
            return None
        mask = masks[0].numbers()
        visible = mask if mask.dtype == bool else mask == 0
        if mask.dtype == bool and visible[..., 0, -1].all() and not visible.all():
            visible = ~visible  # no query sees a later key: so True hides, as in masked_fill
        if visible.shape[1:] != (1, length, length) or len(visible) not in (1, batch):
            raise CannotTellError(f"its mask has shape {visible.shape}")
        tokens = np.broadcast_to(visible[:, 0].any(axis=1), (batch, length)).astype(np.int64)
        if (visible & ~visible_keys(length, length)).any():  # it shows later tokens, as no GPT-2 may
            return tokens
        if np.array_equal(visible_keys(length, length, tokens), np.broadcast_to(visible, (batch, 1, length, length))):
            return tokens
        raise CannotTellError("its mask hides other keys than later tokens and pads")

    def _masks_within(self, call: Call) -> list[RecordedTensor]:
        """The masks (B, 1, T, T) by which scores are replaced within an attention."""
        found: list[RecordedTensor] = []
        for inner in self._index.all_within(call):
            bound = self._operators.find(inner, self._index.framework)
            if not isinstance(bound, str) and bound.function in ("tensor.where", "tensor.masked_fill"):
                found += tensors((bound.arguments.get("condition"), bound.arguments.get("mask")))
        return [x for x in found if x.dtype == "bool" and len(x.shape) == 4 and x.has_numbers]


def _has_numbers(x: Any) -> bool:
    return isinstance(x, RecordedTensor) and x.has_numbers


def _astype(tree: Any, dtype: np.dtype) -> Any:
    if isinstance(tree, dict):
        return {name: _astype(value, dtype) for name, value in tree.items()}
    return tree.astype(dtype, copy=False)
