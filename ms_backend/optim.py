"""How gradients become updates, on MindSpore. Twin of reference/optim.py.

The functions are pure. The classes change parameters in place, and may be called inside a compiled graph; their state
is a flat dict of NumPy arrays. Gradients come as a tree of the form of the weights, or as the tuple that value_and_grad
returns, in the order of the weights.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, amp, nn
from mindspore import ops as P
from mindspore.ops import constexpr

from ms_backend.weights import assign, to_tensor
from reference.config import TrainingConfig, decays, flatten

State = dict[str, np.ndarray]


def adamw(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: Tensor,
    lr: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One update of AdamW: new weights, running mean of the gradient (m) and of its square (v). The first is step 1."""
    rate = lr.astype(ms.float32)
    mean, square = _running_means(grad, m, v, beta1, beta2)
    root = P.sqrt(square / _one_minus_power(beta2, step))
    update = mean / _one_minus_power(beta1, step) / (root + epsilon)
    decayed = param.astype(ms.float32) * (1 - rate * weight_decay)
    return (decayed - rate * update).astype(param.dtype), mean.astype(m.dtype), square.astype(v.dtype)


def adam_weight_decay(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: Tensor,
    lr: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One update of the course's optimizer: AdamW without the division by 1 - beta^step, so step has no effect."""
    wide = param.astype(ms.float32)
    mean, square = _running_means(grad, m, v, beta1, beta2)
    update = mean / (P.sqrt(square) + epsilon) + weight_decay * wide
    return (wide - lr.astype(ms.float32) * update).astype(param.dtype), mean.astype(m.dtype), square.astype(v.dtype)


def _running_means(grad: Tensor, m: Tensor, v: Tensor, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    wide = grad.astype(ms.float32)
    mean = beta1 * m.astype(ms.float32) + _rest(beta1) * wide
    return mean, beta2 * v.astype(ms.float32) + _rest(beta2) * (wide * wide)


@constexpr  # computed by Python: a graph subtracts in float32, and loses five digits of 1 - 0.999
def _rest(beta: float) -> float:
    return 1 - beta


def _one_minus_power(beta: float, step: Tensor) -> Tensor:
    """1 - beta^step to the last digit: a float32 subtraction loses up to five digits, and so does P.expm1."""
    count = step.astype(ms.float32)
    if beta == 0:
        return P.ones_like(count)
    x = count * math.log(beta)
    series = x / 362880.0 + 1 / 40320.0  # of expm1(x) / x, from its last term: 1 / 9! and 1 / 8!
    for factorial in (5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0):
        series = series * x + 1 / factorial
    power = P.pow(Tensor(2.0, ms.float32), count * math.log2(beta))
    return P.select(x > -0.5, -x * series, 1 - power)


def constant_schedule(step: Tensor, lr: Tensor, warmup_steps: int, total_steps: int, final_lr: float = 0.0) -> Tensor:
    """Learning rate of update `step`, counted from 0: linear warm-up, then lr. The last two arguments are unused."""
    return (_warm_up(step, warmup_steps) * lr.astype(ms.float32)).astype(lr.dtype)


def linear_schedule(step: Tensor, lr: Tensor, warmup_steps: int, total_steps: int, final_lr: float = 0.0) -> Tensor:
    """Learning rate of update `step`, counted from 0: linear warm-up to lr, then a straight line to final_lr."""
    share = _remaining(step, warmup_steps, total_steps)
    return (_warm_up(step, warmup_steps) * _between(lr, final_lr, share)).astype(lr.dtype)


def cosine_schedule(step: Tensor, lr: Tensor, warmup_steps: int, total_steps: int, final_lr: float = 0.0) -> Tensor:
    """Learning rate of update `step`, counted from 0: linear warm-up to lr, then half a cosine to final_lr."""
    half = P.sin(math.pi / 2 * _remaining(step, warmup_steps, total_steps))
    return (_warm_up(step, warmup_steps) * _between(lr, final_lr, half * half)).astype(lr.dtype)


def _warm_up(step: Tensor, warmup_steps: int) -> Tensor:
    one = Tensor(1.0, ms.float32)
    return P.minimum(step.astype(ms.float32) / warmup_steps, one) if warmup_steps else one


def _remaining(step: Tensor, warmup_steps: int, total_steps: int) -> Tensor:
    share = (total_steps - step.astype(ms.float32)) / max(1, total_steps - warmup_steps)
    return P.minimum(P.maximum(share, Tensor(0.0, ms.float32)), Tensor(1.0, ms.float32))


def _between(lr: Tensor, final_lr: float, share: Tensor) -> Tensor:
    return final_lr * (1 - share) + lr.astype(ms.float32) * share  # lr alone, to the last digit, where share is 1


def global_norm(grads: Any) -> Tensor:
    """Root of the sum of all squares in a tree of gradients, in float32 or wider."""
    return P.sqrt(P.addn(P.HyperMap()(_sum_of_squares, _leaves(grads))))


def _sum_of_squares(x: Tensor) -> Tensor:
    wide = x.astype(ms.float32)
    return (wide * wide).sum(-1).sum()  # row by row: P.L2Loss is off by 9% on 40 million elements


def clip_by_global_norm(grads: Any, max_grad_norm: float) -> tuple[Any, Tensor]:
    """Scale gradients down to global norm max_grad_norm if theirs is larger; return them and the norm they had."""
    norm = global_norm(grads)
    return _scaled(grads, _clip_coefficient(norm, max_grad_norm)), norm


def _scaled(tree: Any, factor: Tensor) -> Any:
    if isinstance(tree, dict):
        return {name: _scaled(branch, factor) for name, branch in tree.items()}
    if isinstance(tree, list):
        return [_scaled(branch, factor) for branch in tree]
    if isinstance(tree, tuple):
        return P.HyperMap()(P.Partial()(_times, factor), tree)
    return _times(factor, tree)


def _clip_coefficient(norm: Tensor, max_grad_norm: float) -> Tensor:
    return P.minimum(max_grad_norm / (norm + 1e-6), Tensor(1.0, ms.float32))


def _times(factor: Tensor, x: Tensor) -> Tensor:
    return (x.astype(ms.float32) * factor).astype(x.dtype)


def all_finite(grads: Any) -> Tensor:
    """Whether no number in a tree of gradients is NaN or infinite."""
    return amp.all_finite(_leaves(grads))


def _leaves(tree: Any) -> Any:
    """The tensors of a tree as a tuple."""
    if isinstance(tree, tuple):
        return tree
    found = ()
    if isinstance(tree, dict):
        for branch in tree.values():
            found = found + _leaves(branch)
        return found
    if isinstance(tree, list):
        for branch in tree:
            found = found + _leaves(branch)
        return found
    return (tree,)


SCHEDULES = {"constant": constant_schedule, "linear": linear_schedule, "cosine": cosine_schedule}


class AdamW(nn.Cell):
    """AdamW on a tree of weights, changed in place, at the rate of the schedule. Biases and norms do not decay.

    update: a function to use instead of `adamw`, with the same arguments; with in_place, it writes its results itself.
    """

    def __init__(
        self, params: dict, settings: TrainingConfig, update: Callable[..., Any] | None = None, in_place: bool = False
    ) -> None:
        super().__init__(auto_prefix=False)
        named = flatten(params)
        self.names, self.params = tuple(named), ParameterTuple(named.values())
        self.m, self.v = _zeros("m", named), _zeros("v", named)
        self.step = Parameter(Tensor(0, ms.int32), name="step")
        self.decay = tuple(settings.weight_decay if decays(name) else 0.0 for name in named)
        self.settings, self.update = settings, _writing(update or adamw, in_place)
        self.schedule, self.peak = SCHEDULES[settings.schedule], Tensor(settings.learning_rate, ms.float32)

    def lr(self) -> Tensor:
        """The learning rate of the next update."""
        settings = self.settings
        return self.schedule(
            self.step, self.peak, settings.warmup_steps, settings.total_steps, settings.final_learning_rate
        )

    def construct(self, grads):  # type: ignore[no-untyped-def]
        """Make one update."""
        return self._update(grads, None)

    def _update(self, grads: Any, factor: Tensor | None) -> Any:
        """One update by gradients times factor, multiplied one at a time, so that no second copy of all is needed."""
        settings, lr, step = self.settings, self.lr(), self.step + 1
        P.assign(self.step, step)
        count = step.astype(ms.float32)  # once for all weights: a cast takes longer than the rest of an update
        update = P.Partial()(self.update, count, lr, settings.beta1, settings.beta2, settings.epsilon, factor)
        return P.HyperMap()(update, self.params, _leaves(grads), self.m, self.v, self.decay)

    def state(self) -> State:
        """Copies of everything that the next update depends on, except weights and gradients."""
        return _copies(self._arrays())

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned. Raises ValueError, naming the array, if one is missing or does not fit."""
        _load(self._arrays(), state)

    def _arrays(self) -> dict[str, Parameter]:
        return {"step": self.step, **_named("m", self.names, self.m), **_named("v", self.names, self.v)}


def _writing(update: Callable[..., Any], in_place: bool) -> Callable[..., Any]:
    """An update that writes its results. It is a closure: a graph ignores the writes of a function passed to it."""

    def write(step, lr, beta1, beta2, epsilon, factor, param, grad, m, v, decay):  # type: ignore[no-untyped-def]
        if factor is not None:
            grad = _times(factor, grad)
        new = update(param, grad, m, v, step, lr, beta1, beta2, epsilon, decay)
        if in_place:
            return new
        return P.assign(param, new[0]), P.assign(m, new[1]), P.assign(v, new[2])

    return write


class AdamWeightDecay(AdamW):
    """The course's optimizer on a tree of weights: AdamW without the bias correction of its first steps."""

    def __init__(self, params: dict, settings: TrainingConfig) -> None:
        super().__init__(params, settings, adam_weight_decay)


OPTIMIZERS = {"adamw": AdamW, "adam_weight_decay": AdamWeightDecay}


class Accumulator(nn.Cell):
    """Sums up the gradients of accumulate_step micro-batches; their mean is clipped, once, and makes one update.

    accumulation: "tokens", a mean over all labels that were scored, so that the micro-batches make the same update as
    one batch of them all; or "micro_batches", the course's mean of means. max_grad_norm None: no clipping.
    """

    def __init__(
        self, optimizer: AdamW, accumulate_step: int, max_grad_norm: float | None, accumulation: str = "tokens"
    ) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer, self.accumulate_step, self.max_grad_norm = optimizer, accumulate_step, max_grad_norm
        self.weighs_tokens = accumulation == "tokens"
        self.micro_step = Parameter(Tensor(0, ms.int32), name="micro_step")
        self.total_weight = Parameter(Tensor(0.0, ms.float32), name="total_weight")
        held = dict(zip(optimizer.names, optimizer.params, strict=True)) if accumulate_step > 1 else {}
        self.names, self.accumulated = tuple(held), _zeros("accumulated", held)

    def construct(self, grads, scored):  # type: ignore[no-untyped-def]
        """Add the gradients of one micro-batch, whose loss is a mean over so many scored labels.

        Returns whether that made an update, and its norm (NaN without one): that of the mean gradient before it is
        clipped.
        """
        grads, one = _leaves(grads), Tensor(1.0, ms.float32)
        if self.accumulate_step == 1:
            return Tensor(True), self._update(grads, one)
        weight = P.cast(scored, ms.float32) if self.weighs_tokens else one
        P.HyperMap()(P.partial(_add, weight), self.accumulated, grads)
        micro_step, total_weight = self.micro_step + 1, self.total_weight + weight
        P.assign(self.micro_step, micro_step % self.accumulate_step)
        updated, norm = micro_step == self.accumulate_step, Tensor(float("nan"), ms.float32)
        if updated:
            norm = self._update(self.accumulated, P.maximum(total_weight, one))
            P.HyperMap()(_clear, self.accumulated)
            total_weight = total_weight * 0.0
        P.assign(self.total_weight, total_weight)
        return updated, norm

    def _update(self, total: Any, weight: Tensor) -> Tensor:
        norm = global_norm(total) / weight
        factor = Tensor(1.0, ms.float32) if self.max_grad_norm is None else _clip_coefficient(norm, self.max_grad_norm)
        return P.depend(norm, self.optimizer._update(total, factor / weight))

    def state(self) -> State:
        """Copies of everything that the next call depends on, except the optimizer and its gradients."""
        return _copies(self._arrays())

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned. Raises ValueError, naming the array, if one is missing or does not fit."""
        _load(self._arrays(), state)

    def _arrays(self) -> dict[str, Parameter]:
        sums = {"total_weight": self.total_weight, **_named("accumulated", self.names, self.accumulated)}
        return {"micro_step": self.micro_step, **(sums if self.accumulate_step > 1 else {})}


def _add(weight: Tensor, total: Parameter, x: Tensor) -> Tensor:
    return P.assign_add(total, x * weight)


def _clear(total: Parameter) -> Tensor:
    return P.assign(total, P.zeros_like(total))


@ms.jit_class
class StaticLossScaler:
    """Multiplies the loss, and so every gradient, by a constant, so that small float16 gradients do not become 0.

    Underneath: mindspore.amp.StaticLossScaler.
    """

    def __init__(self, scale_value: float) -> None:
        self.amp, self.does_nothing = amp.StaticLossScaler(scale_value), scale_value == 1
        self.scale_value = self.amp.scale_value

    def scale(self, x: Any) -> Any:
        """x, an array or a tree of arrays, times the scale, in its own dtype."""
        return self.amp.scale(x)

    def unscale(self, x: Any) -> Any:
        """x, an array or a tree of arrays, divided by the scale, in its own dtype."""
        return x if self.does_nothing else self.amp.unscale(x)

    def adjust(self, finite: Tensor) -> bool:
        """Adapt the scale to whether the gradients were finite. Returns whether this scaler does that: False."""
        return self.amp.adjust(finite)

    def state(self) -> State:
        """Copies of everything that the next call depends on."""
        return _copies(self._arrays())

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned. Raises ValueError, naming the array, if one is missing or does not fit."""
        _load(self._arrays(), state)

    def _arrays(self) -> dict[str, Parameter]:
        return {"scale_value": self.scale_value}


@ms.jit_class
class DynamicLossScaler(StaticLossScaler):
    """A loss scale as large as possible: divided by scale_factor when a gradient overflows, but at least 1;
    multiplied by it after scale_window finite micro-batches in a row.

    Underneath: mindspore.amp.DynamicLossScaler.
    """

    def __init__(self, scale_value: float, scale_factor: int, scale_window: int) -> None:
        self.amp, self.does_nothing = amp.DynamicLossScaler(scale_value, scale_factor, scale_window), False
        self.scale_value, self.counter = self.amp.scale_value, self.amp.counter

    def adjust(self, finite: Tensor) -> bool:
        """Adapt the scale to whether the gradients were finite. Returns whether this scaler does that: True."""
        return self.amp.adjust(finite)

    def _arrays(self) -> dict[str, Parameter]:
        return {"scale_value": self.scale_value, "counter": self.counter}


def _zeros(prefix: str, params: Mapping[str, Parameter]) -> ParameterTuple:
    return ParameterTuple(Parameter(P.zeros_like(x), name=f"{prefix}.{name}") for name, x in params.items())


def _named(prefix: str, names: tuple[str, ...], params: ParameterTuple) -> dict[str, Parameter]:
    return {f"{prefix}.{name}": x for name, x in zip(names, params, strict=True)}


def _copies(kept: Mapping[str, Parameter]) -> State:
    return {name: x.asnumpy().copy() for name, x in kept.items()}


def _load(kept: Mapping[str, Parameter], state: Mapping[str, np.ndarray]) -> None:
    for name, x in kept.items():
        if name not in state or state[name].shape != x.shape:
            came = f"has shape {state[name].shape}" if name in state else "is missing"
            raise ValueError(f"state {name!r} {came}, expected {x.shape}: load what was saved under the same settings")
    for name, x in kept.items():
        assign(x, to_tensor(state[name], x.dtype))
