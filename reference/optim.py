"""How gradients become updates: AdamW, its learning rate, clipping, accumulation, loss scaling.

The functions are pure. The classes change arrays in place; their state is a flat dict of arrays, with the same names as
in ms_backend. A gradient has the name, the shape and the place in the tree that its weight has.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reference.config import TrainingConfig, decays, flatten, map_tree
from reference.ops import Array
from reference.precision import rounded_once
from reference.stages import observe

State = dict[str, Array]


def _in_float32(update: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    """Let an update of 16-bit weights compute in float32 and round each result once; wider ones pass unchanged."""

    @functools.wraps(update)
    def rounded(param: Array, grad: Array, m: Array, v: Array, *args: Any, **kwargs: Any) -> tuple[Array, ...]:
        if param.dtype.itemsize > 2:
            return update(param, grad, m, v, *args, **kwargs)
        results = update(*(x.astype(np.float32) for x in (param, grad, m, v)), *args, **kwargs)
        return tuple(observe(f"rounding.{param.dtype.name}", x).astype(param.dtype) for x in results)

    return rounded


@_in_float32
def adamw(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: Array,
    lr: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """One update of AdamW: new weights, running mean of the gradient (m) and of its square (v). The first is step 1.

    m and v start at zero; dividing by 1 - beta^step makes up for it. The decay stays out of m and v ("decoupled").
    Shapes: param (C, N), grad (C, N), m (C, N), v (C, N) square, step () step, lr () -> (C, N), (C, N), (C, N)
    Source: Loshchilov and Hutter 2019, algorithm 2; torch.optim.AdamW.
    """
    m, v = _running_means(grad, m, v, beta1, beta2)
    mean, mean_square = m / (1 - beta1 ** int(step)), v / (1 - beta2 ** int(step))
    update = observe("rounding", mean / (np.sqrt(mean_square) + epsilon))
    decayed = observe("rounding", param * (1 - float(lr) * weight_decay))
    return observe("rounding", decayed - float(lr) * update), m, v


@_in_float32
def adam_weight_decay(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: Array,
    lr: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """One update of the course's optimizer: AdamW without the division by 1 - beta^step, so step has no effect.

    Its first step is (1 - beta1) / sqrt(1 - beta2) times AdamW's, 3.2 times with the usual betas.
    Shapes: param (C, N), grad (C, N), m (C, N), v (C, N) square, step () step, lr () -> (C, N), (C, N), (C, N)
    Source: mindspore.nn.AdamWeightDecay.
    """
    m, v = _running_means(grad, m, v, beta1, beta2)
    update = observe("rounding", m / (np.sqrt(v) + epsilon))
    return observe("rounding", param - float(lr) * observe("rounding", update + weight_decay * param)), m, v


def _running_means(grad: Array, m: Array, v: Array, beta1: float, beta2: float) -> tuple[Array, Array]:
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * (grad * grad)
    return observe("rounding", m), observe("rounding", v)


def constant_schedule(step: Array, lr: Array, warmup_steps: int, total_steps: int, final_lr: float = 0.0) -> Array:
    """Learning rate of update `step`, counted from 0: linear warm-up, then lr. The last two arguments are unused.

    In all schedules the warm-up rate is lr * step / warmup_steps: update 0 has rate 0, update warmup_steps is the first
    with lr. (nanoGPT, which has no update with rate 0: lr * (step + 1) / (warmup_steps + 1).)
    Shapes: step () step, lr () -> ()
    Source: get_constant_schedule_with_warmup of Hugging Face transformers.
    """
    rate = float(lr)
    return np.asarray(_warm_up(step, warmup_steps) * rate, lr.dtype)


def linear_schedule(step: Array, lr: Array, warmup_steps: int, total_steps: int, final_lr: float = 0.0) -> Array:
    """Learning rate of update `step`, counted from 0: linear warm-up to lr, then a straight line to final_lr.

    Update warmup_steps has lr, update total_steps and all after it final_lr.
    Shapes: step () step, lr () -> ()
    Source: get_linear_schedule_with_warmup of Hugging Face transformers (final_lr 0).
    """
    share = _remaining(step, warmup_steps, total_steps)
    return np.asarray(_warm_up(step, warmup_steps) * (final_lr * (1 - share) + float(lr) * share), lr.dtype)


def cosine_schedule(step: Array, lr: Array, warmup_steps: int, total_steps: int, final_lr: float = 0.0) -> Array:
    """Learning rate of update `step`, counted from 0: linear warm-up to lr, then half a cosine to final_lr.

    Update warmup_steps has lr, update total_steps and all after it final_lr (transformers' rises again).
    Shapes: step () step, lr () -> ()
    Source: Loshchilov and Hutter 2017, equation 5; get_cosine_schedule_with_warmup of Hugging Face transformers.
    """
    remaining = _remaining(step, warmup_steps, total_steps)
    sine = math.sin(math.pi / 2 * remaining)  # its square: (1 + cos(pi (1 - remaining))) / 2, without the cancellation
    share = float(observe("rounding", np.asarray(sine * sine, _wide(lr.dtype))))
    return np.asarray(_warm_up(step, warmup_steps) * (final_lr * (1 - share) + float(lr) * share), lr.dtype)


def _warm_up(step: Array, warmup_steps: int) -> float:
    return min(1.0, int(step) / max(1, warmup_steps)) if warmup_steps else 1.0


def _remaining(step: Array, warmup_steps: int, total_steps: int) -> float:
    """1 until the warm-up is over, 0 from total_steps on, a straight line between."""
    return min(1.0, max(0.0, (total_steps - int(step)) / max(1, total_steps - warmup_steps)))


def global_norm(grads: Any) -> Array:
    """Root of the sum of all squares in a tree of gradients, in float32 or wider.

    Shapes: grads {} -> ()
    """
    squares = [np.sum(np.square(x, dtype=_wide(x.dtype))) for x in flatten(grads).values()]
    return np.asarray(observe("rounding", np.sqrt(np.stack(squares).sum())))


def clip_by_global_norm(grads: Any, max_grad_norm: float) -> tuple[Any, Array]:
    """Scale gradients down to global norm max_grad_norm if theirs is larger; return them and the norm they had.

    Shapes: grads {} -> {}, ()
    Source: Pascanu et al. 2013, algorithm 1; torch.nn.utils.clip_grad_norm_.
    """
    norm = global_norm(grads)
    coefficient = min(1.0, max_grad_norm / (float(norm) + 1e-6))
    return map_tree(lambda name, x: _scaled(x, coefficient), grads), norm


@rounded_once
def _scaled(x: Array, factor: float) -> Array:
    return x * factor


def all_finite(grads: Any) -> Array:
    """Whether no number in a tree of gradients is NaN or infinite.

    Shapes: grads {} -> ()
    """
    return np.asarray(all(np.isfinite(x).all() for x in flatten(grads).values()))


def _wide(dtype: np.dtype) -> np.dtype:
    return np.result_type(dtype, np.float32)


SCHEDULES = {"constant": constant_schedule, "linear": linear_schedule, "cosine": cosine_schedule}


class AdamW:
    """AdamW on a tree of weights, changed in place, at the rate of the schedule. Biases and norms do not decay.

    State: "step" (updates made), "m.<name>" and "v.<name>" of every weight. update: a function to use instead of
    `adamw`, with the same arguments; with in_place, it writes its results itself.
    """

    def __init__(
        self,
        params: dict,
        settings: TrainingConfig,
        update: Callable[..., tuple[Array, ...]] | None = None,
        in_place: bool = False,
    ) -> None:
        self.params, self.settings, self.update, self.in_place = flatten(params), settings, update or adamw, in_place
        self.step = np.zeros((), np.int32)
        self.m = {name: np.zeros_like(x) for name, x in self.params.items()}
        self.v = {name: np.zeros_like(x) for name, x in self.params.items()}

    def lr(self) -> Array:
        """The learning rate of the next update."""
        settings = self.settings
        first = next(iter(self.params.values()))
        return SCHEDULES[settings.schedule](
            self.step,
            np.asarray(settings.learning_rate, _wide(first.dtype)),
            settings.warmup_steps,
            settings.total_steps,
            settings.final_learning_rate,
        )

    def __call__(self, grads: dict) -> None:
        """Make one update."""
        settings, lr = self.settings, self.lr()
        self.step += 1
        numbers = (self.step, lr, settings.beta1, settings.beta2, settings.epsilon)
        for name, grad in flatten(grads).items():
            param, m, v = self.params[name], self.m[name], self.v[name]
            new = self.update(param, grad, m, v, *numbers, settings.weight_decay if decays(name) else 0.0)
            if not self.in_place:
                param[...], m[...], v[...] = new

    def state(self) -> State:
        """Copies of everything that the next update depends on, except weights and gradients."""
        return {"step": self.step.copy(), **_copies("m", self.m), **_copies("v", self.v)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `state` returned. Raises ValueError, naming the array, if one is missing or does not fit."""
        _load({"step": self.step, **_named("m", self.m), **_named("v", self.v)}, state)


class AdamWeightDecay(AdamW):
    """The course's optimizer on a tree of weights: AdamW without the bias correction of its first steps."""

    def __init__(self, params: dict, settings: TrainingConfig) -> None:
        super().__init__(params, settings, adam_weight_decay)


OPTIMIZERS = {"adamw": AdamW, "adam_weight_decay": AdamWeightDecay}


class Accumulator:
    """Sums up the gradients of accumulate_step micro-batches; their mean is clipped, once, and makes one update.

    accumulation: "tokens", a mean over all labels that were scored, so that the micro-batches make the same update as
    one batch of them all; or "micro_batches", the course's mean of means, in which each counts the same. max_grad_norm
    None: no clipping. (The course's Accumulator takes a clip_norm, and never clips.)
    State: "micro_step" (gradients in the sum); if accumulate_step is more than 1, the sums, "accumulated.<name>", and
    "total_weight" (what they are divided by).
    """

    def __init__(
        self, optimizer: AdamW, accumulate_step: int, max_grad_norm: float | None, accumulation: str = "tokens"
    ) -> None:
        self.optimizer, self.accumulate_step, self.max_grad_norm = optimizer, accumulate_step, max_grad_norm
        self.accumulation = accumulation
        self.micro_step, self.total_weight = np.zeros((), np.int32), np.zeros((), np.float32)
        several = accumulate_step > 1
        self.accumulated = {name: np.zeros_like(x) for name, x in optimizer.params.items()} if several else {}

    def __call__(self, grads: dict, scored: Array | int) -> tuple[bool, float]:
        """Add the gradients of one micro-batch, whose loss is a mean over so many scored labels.

        Returns whether that made an update, and its norm (NaN without one): that of the mean gradient before it is
        clipped.
        """
        if self.accumulate_step > 1:
            weight = np.float32(scored if self.accumulation == "tokens" else 1)
            for name, grad in flatten(grads).items():
                self.accumulated[name] += grad * weight
            self.total_weight += weight
            self.micro_step += 1
            if self.micro_step < self.accumulate_step:
                return False, math.nan
            grads = {name: x / max(self.total_weight, 1) for name, x in self.accumulated.items()}
            self._reset()
        if self.max_grad_norm is None:
            norm = global_norm(grads)
        else:
            grads, norm = clip_by_global_norm(grads, self.max_grad_norm)
        self.optimizer(grads)
        return True, float(norm)

    def _reset(self) -> None:
        self.micro_step[...], self.total_weight[...] = 0, 0
        for x in self.accumulated.values():
            x[...] = 0

    def state(self) -> State:
        """Copies of everything that the next call depends on, except the optimizer and its gradients."""
        return {name: x.copy() for name, x in self._arrays().items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `state` returned. Raises ValueError, naming the array, if one is missing or does not fit."""
        _load(self._arrays(), state)

    def _arrays(self) -> State:
        sums = {"total_weight": self.total_weight, **_named("accumulated", self.accumulated)}
        return {"micro_step": self.micro_step, **(sums if self.accumulate_step > 1 else {})}


class StaticLossScaler:
    """Multiplies the loss, and so every gradient, by a constant, so that small float16 gradients do not become 0.

    State: "scale_value".
    Source: Micikevicius et al. 2018, section 3.2; mindspore.amp.StaticLossScaler.
    """

    def __init__(self, scale_value: float) -> None:
        self.scale_value = np.asarray(scale_value, np.float32)

    def scale(self, x: Any) -> Any:
        """x, an array or a tree of arrays, times the scale, in its own dtype."""
        with np.errstate(over="ignore", invalid="ignore"):  # all_finite finds what overflows
            return map_tree(lambda name, leaf: leaf * self.scale_value.astype(leaf.dtype), x)

    def unscale(self, x: Any) -> Any:
        """x, an array or a tree of arrays, divided by the scale, in its own dtype."""
        with np.errstate(over="ignore", invalid="ignore"):
            return map_tree(lambda name, leaf: leaf * np.reciprocal(self.scale_value).astype(leaf.dtype), x)

    def adjust(self, finite: Array | bool) -> bool:
        """Adapt the scale to whether the gradients were finite. Returns whether this scaler does that: False."""
        return False

    def state(self) -> State:
        """Copies of everything that the next call depends on."""
        return {name: x.copy() for name, x in self._arrays().items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `state` returned. Raises ValueError, naming the array, if one is missing or does not fit."""
        _load(self._arrays(), state)

    def _arrays(self) -> State:
        return {"scale_value": self.scale_value}


class DynamicLossScaler(StaticLossScaler):
    """A loss scale as large as possible: divided by scale_factor when a gradient overflows, but at least 1;
    multiplied by it after scale_window finite micro-batches in a row.

    State: "scale_value" and "counter" (finite micro-batches in a row).
    Source: Micikevicius et al. 2018, section 3.2; mindspore.amp.DynamicLossScaler.
    """

    def __init__(self, scale_value: float, scale_factor: int, scale_window: int) -> None:
        super().__init__(scale_value)
        self.scale_factor, self.scale_window = scale_factor, scale_window
        self.counter = np.zeros((), np.int32)

    def adjust(self, finite: Array | bool) -> bool:
        """Adapt the scale to whether the gradients were finite. Returns whether this scaler does that: True."""
        if not finite:
            self.scale_value[...] = max(1, self.scale_value / self.scale_factor)
            self.counter[...] = 0
            return True
        with np.errstate(over="ignore"):
            larger = np.multiply(self.scale_value, self.scale_factor, dtype=np.float32)
        if self.counter == self.scale_window - 1 and np.isfinite(larger):
            self.scale_value[...] = larger
        self.counter[...] = (self.counter + 1) % self.scale_window
        return True

    def _arrays(self) -> State:
        return {"scale_value": self.scale_value, "counter": self.counter}


def _named(prefix: str, arrays: Mapping[str, Array]) -> State:
    return {f"{prefix}.{name}": x for name, x in arrays.items()}


def _copies(prefix: str, arrays: Mapping[str, Array]) -> State:
    return {name: x.copy() for name, x in _named(prefix, arrays).items()}


def _load(kept: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    for name, x in kept.items():
        if name not in state or state[name].shape != x.shape:
            came = f"has shape {state[name].shape}" if name in state else "is missing"
            raise ValueError(f"state {name!r} {came}, expected {x.shape}: load what was saved under the same settings")
    for name, x in kept.items():
        x[...] = state[name]
