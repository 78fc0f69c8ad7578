"""The twin of the optimizer: function by function, and as part of one compiled step."""

import math
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, amp, nn

from gpt2 import get_backend
from ms_backend import fast, optim
from parity.verdict.orbit import MEMBERS, inexact
from parity.verdict.verdict import judge
from reference import optim as reference
from reference.config import TrainingConfig, flatten, map_tree, nest
from reference.stages import observing
from tests.reference.small import parameters

MODES = ("graph", "pynative")
in_both_modes = pytest.mark.parametrize("mode", MODES)
USUAL: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
BETAS = pytest.mark.parametrize(
    ("beta1", "beta2"), [(0.9, 0.999), (0.9, 0.9999), (0.999, 0.9), (0.9, 0.0), (0.0, 0.999)]
)
SCORED = 3  # labels of each micro-batch
SETTINGS = TrainingConfig(learning_rate=0.1, schedule="cosine", warmup_steps=1, total_steps=12, accumulate_step=2)
OVERFLOWS = {3, 6}


@pytest.fixture(scope="module", autouse=True)
def device() -> None:
    """MindSpore wants to be told its device before anything else."""
    get_backend("mindspore")


def gradients(seed: int) -> dict:
    random = np.random.default_rng(seed)
    return nest({name: random.standard_normal(x.shape).astype(np.float32) for name, x in parameters().items()})


def masters() -> dict:
    return nest({name: x.astype(np.float32) for name, x in parameters().items()})


def on_device(tree: Any) -> Any:
    return ms.mutable(map_tree(lambda name, x: Tensor(x), tree))


def placed(tree: dict) -> dict:
    return map_tree(lambda name, x: Parameter(Tensor(x), name=name), tree)


def fetched(tree: Any) -> dict[str, np.ndarray]:
    return {name: x.asnumpy().copy() for name, x in flatten(tree).items()}


def bits(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: x.tobytes() for name, x in arrays.items()}


class Step(nn.Cell):
    """The course's overflow-safe step, from the gradients on."""

    def __init__(self, accumulator: Any, scaler: Any) -> None:
        super().__init__(auto_prefix=False)
        self.accumulator, self.scaler = accumulator, scaler

    def construct(self, grads):  # type: ignore[no-untyped-def]
        grads = self.scaler.unscale(grads)
        finite, lr = optim.all_finite(grads), self.accumulator.optimizer.lr()
        updated, norm = Tensor(False), Tensor(float("nan"), ms.float32)
        if finite:
            updated, norm = self.accumulator(grads, Tensor(SCORED))
        self.scaler.adjust(finite)
        return finite, updated, norm, lr


class CompiledStep(Step):
    @ms.jit
    def construct(self, grads):  # type: ignore[no-untyped-def]
        return Step.construct(self, grads)


def twin(mode: str, kind: str = "adamw", settings: TrainingConfig = SETTINGS, *update: Any) -> Step:
    optimizer = optim.OPTIMIZERS[kind](placed(masters()), settings, *update)
    accumulator = optim.Accumulator(optimizer, settings.accumulate_step, settings.max_grad_norm)
    return (CompiledStep if mode == "graph" else Step)(accumulator, optim.DynamicLossScaler(4.0, 2, 3))


def everything(step: Step) -> dict[str, np.ndarray]:
    optimizer = step.accumulator.optimizer
    weights = dict(zip(optimizer.names, (x.asnumpy().copy() for x in optimizer.params), strict=True))
    return weights | optimizer.state() | step.accumulator.state() | step.scaler.state()


class ReferenceStep:
    """The same of the reference, in a precision of choice."""

    def __init__(self, dtype: str, kind: str = "adamw", settings: TrainingConfig = SETTINGS) -> None:
        self.dtype, self.params = dtype, map_tree(lambda name, x: x.astype(dtype), masters())
        self.optimizer = reference.OPTIMIZERS[kind](self.params, settings)
        self.accumulator = reference.Accumulator(self.optimizer, settings.accumulate_step, settings.max_grad_norm)
        self.scaler = reference.DynamicLossScaler(4.0, 2, 3)

    def __call__(self, grads: dict) -> tuple[Any, ...]:
        grads = self.scaler.unscale(map_tree(lambda name, x: x.astype(self.dtype), grads))
        finite, lr = reference.all_finite(grads), self.optimizer.lr()
        updated, norm = self.accumulator(grads, SCORED) if finite else (False, math.nan)
        self.scaler.adjust(finite)
        return bool(finite), updated, norm, lr

    def everything(self) -> dict[str, np.ndarray]:
        state = self.optimizer.state() | self.accumulator.state() | self.scaler.state()
        return {name: x.copy() for name, x in flatten(self.params).items()} | state


def micro_batches(count: int) -> list[dict]:
    found = [gradients(seed) for seed in range(count)]
    for i in OVERFLOWS & set(range(count)):
        found[i]["h"][1]["ln_2"]["bias"][3] = np.inf
    return found


def orbit(batches: list[dict], kind: str = "adamw", settings: TrainingConfig = SETTINGS) -> list[dict]:
    """All that float32 runs of the reference end with, each rounded in its own way; the first as usual."""
    ends = []
    for member in range(MEMBERS):
        with observing(inexact({}, SimpleNamespace(seed=0), member)):
            step = ReferenceStep("float32", kind, settings)
            for grads in batches:
                step(grads)
            ends.append(step.everything())
    return ends


@in_both_modes
@pytest.mark.parametrize("kind", ["adamw", "adam_weight_decay"])
def test_a_run_with_overflows_is_that_of_the_reference(mode: str, kind: str) -> None:
    own, oracle, step = ReferenceStep("float32", kind), ReferenceStep("float64", kind), twin(mode, kind)
    for grads in micro_batches(9):
        expected, exact, found = own(grads), oracle(grads), [x.asnumpy() for x in step(on_device(grads))]
        assert [bool(x) for x in found[:2]] == list(expected[:2])
        for value, x, same in zip(found[2:], exact[2:], expected[2:], strict=True):
            assert judge(value, np.asarray(x), [np.asarray(same, np.float32)]).agrees
    exact, members, found = oracle.everything(), orbit(micro_batches(9), kind), everything(step)
    assert list(found) == list(exact)
    assert exact["step"] == 3
    for name, x in found.items():
        assert judge(x, exact[name], [member[name] for member in members]).agrees, name


@in_both_modes
def test_an_overflow_leaves_every_bit_but_the_scale(mode: str) -> None:
    step = twin(mode)
    for grads in micro_batches(3):
        step(on_device(grads))
    before = everything(step)
    step(on_device(micro_batches(4)[3]))
    after = everything(step)
    assert {name for name in after if after[name].tobytes() != before[name].tobytes()} == {"scale_value"}
    assert (before["scale_value"], after["scale_value"]) == (8, 4)


@in_both_modes
def test_a_run_goes_on_from_a_state_to_the_last_bit(mode: str) -> None:
    whole, batches = twin(mode), micro_batches(6)
    for grads in batches[:3]:
        whole(on_device(grads))
    saved, other = everything(whole), twin(mode)
    other(on_device(batches[5]))  # its graph is compiled, and must see what comes
    for parameter, name in zip(other.accumulator.optimizer.params, other.accumulator.optimizer.names, strict=True):
        ms.ops.assign(parameter, Tensor(saved[name]))
    for part in (other.accumulator, other.accumulator.optimizer, other.scaler):
        part.load_state(saved)
    assert bits(everything(other)) == bits(saved)
    for grads in batches[3:]:
        whole(on_device(grads))
        other(on_device(grads))
    assert bits(everything(other)) == bits(everything(whole)) != bits(saved)


def test_the_mean_over_no_scored_label_is_zero() -> None:
    """Their weights sum to 0, by which nothing can be divided."""
    optimizer = optim.AdamW(placed(masters()), TrainingConfig(accumulate_step=2))
    accumulator = optim.Accumulator(optimizer, 2, max_grad_norm=1.0)
    zeros = map_tree(lambda name, x: np.zeros_like(x), masters())
    accumulator(on_device(zeros), Tensor(0))
    updated, norm = accumulator(on_device(zeros), Tensor(0))
    assert (bool(updated), float(norm)) == (True, 0.0)


def test_a_state_goes_from_the_reference_to_the_twin_and_back() -> None:
    own, step = ReferenceStep("float32"), twin("pynative")
    for grads in micro_batches(3):
        own(grads)
    state = own.everything()
    for part in (step.accumulator, step.accumulator.optimizer, step.scaler):
        part.load_state(state)
    found = {name: x for name, x in everything(step).items() if name not in flatten(own.params)}
    assert bits(found) == bits({name: state[name] for name in found})
    assert {name: x.dtype for name, x in found.items()} == {name: state[name].dtype for name in found}
    for part in (own.accumulator, own.optimizer, own.scaler):
        part.load_state(found)
    with pytest.raises(ValueError, match=r"v\.wte\.weight"):
        step.accumulator.optimizer.load_state({name: x for name, x in state.items() if name != "v.wte.weight"})


@in_both_modes
@BETAS
def test_the_fast_update_is_that_of_adamw(mode: str, beta1: float, beta2: float) -> None:
    settings = TrainingConfig(learning_rate=0.01, beta1=beta1, beta2=beta2)
    oracle, step = ReferenceStep("float64", "adamw", settings), twin(mode, "adamw", settings, fast.adamw_fast, True)
    for grads in micro_batches(3):
        oracle(grads)
        step(on_device(grads))
    exact, members, found = oracle.everything(), orbit(micro_batches(3), "adamw", settings), everything(step)
    assert found["step"] == 3
    for name in parameters():
        for kept in (name, f"m.{name}", f"v.{name}"):
            assert judge(found[kept], exact[kept], [member[kept] for member in members]).agrees, kept


@BETAS
def test_the_fast_update_takes_its_betas_from_1_to_the_last_digit(beta1: float, beta2: float) -> None:
    random = np.random.default_rng(0)
    param, grad, m, v = (random.standard_normal((40, 50)).astype(np.float32) for _ in range(4))
    v = np.abs(v)
    numbers = USUAL | {"beta1": beta1, "beta2": beta2}
    given = (np.array(5, np.int32), np.array(0.1, np.float32))
    exact = reference.adamw(*(x.astype(np.float64) for x in (param, grad, m, v)), *given, **numbers)
    own = reference.adamw(param, grad, m, v, *given, **numbers)
    held = [Parameter(Tensor(x), name=name) for name, x in (("param", param), ("m", m), ("v", v))]
    fast.adamw_fast(held[0], Tensor(grad), *held[1:], *map(Tensor, given), **numbers)
    for x, oracle, same in zip(held, exact, own, strict=True):
        assert judge(x.asnumpy(), oracle, [same]).agrees


def test_a_dynamic_scaler_follows_that_of_mindspore_amp() -> None:
    random = np.random.default_rng(0)
    for window, factor, start in ((1, 2, 2.0**126), (3, 2, 4.0), (4, 3, 1000.0)):
        own, amps = reference.DynamicLossScaler(start, factor, window), amp.DynamicLossScaler(start, factor, window)
        for finite in random.random(60) < 0.8:
            assert own.adjust(np.array(finite)) == amps.adjust(Tensor(bool(finite)))
            assert own.scale_value == amps.scale_value.asnumpy()
            assert own.counter == amps.counter.asnumpy()
    x = random.standard_normal(3).astype(np.float32)
    for name in ("scale", "unscale"):
        assert (getattr(own, name)({"x": x})["x"] == getattr(amps, name)((Tensor(x),))[0].asnumpy()).all()


@in_both_modes
@pytest.mark.parametrize("function", ["optim.adamw", "optim.adam_weight_decay"])
@pytest.mark.parametrize("beta2", [0.999, 0.9, 0.0])
def test_an_update_agrees_at_every_step(mode: str, function: str, beta2: float) -> None:
    random, backend = np.random.default_rng(0), get_backend("mindspore", mode=mode)
    arrays = {name: random.standard_normal((9, 11)).astype(np.float32) for name in ("param", "grad", "m", "v")}
    arrays["v"] = np.square(arrays["v"])
    for step in (1, 2, 400, 600, 10**5) if mode == "pynative" else (400,):
        numbers = {"step": np.array(step), "lr": np.array(0.1, np.float32), **USUAL, "beta2": beta2}
        found = backend.call(function, arrays | numbers)
        wide = {name: x.astype(np.float64) for name, x in arrays.items()}
        update = getattr(reference, function.removeprefix("optim."))
        for x, exact, own in zip(found, update(**wide, **numbers), update(**arrays, **numbers), strict=True):
            assert judge(x, exact, [own]).agrees


@in_both_modes
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_schedule_agrees_at_every_step(mode: str, schedule: str) -> None:
    own, backend = reference.SCHEDULES[schedule], get_backend("mindspore", mode=mode)
    for step in range(23) if mode == "pynative" else (11,):
        given = {"step": np.array(step), "warmup_steps": 3, "total_steps": 20, "final_lr": 1e-5}
        found = backend.call(f"optim.{schedule}_schedule", given | {"lr": np.array(1e-3, np.float32)})
        exact = own(lr=np.array(float(np.float32(1e-3))), **given)
        assert judge(found, exact, [own(lr=np.array(1e-3, np.float32), **given)]).agrees


@in_both_modes
def test_norm_clipping_and_overflow_check_agree_on_trees(mode: str) -> None:
    backend, grads = get_backend("mindspore", mode=mode), gradients(0)
    wide = map_tree(lambda name, x: x.astype(np.float64), grads)
    found, norm = backend.call("optim.clip_by_global_norm", {"grads": grads, "max_grad_norm": 0.5})
    own, own_norm = reference.clip_by_global_norm(grads, 0.5)
    exact, exact_norm = reference.clip_by_global_norm(wide, 0.5)
    assert judge(norm, exact_norm, [own_norm]).agrees
    for name, x in flatten(found).items():
        assert judge(x, flatten(exact)[name], [flatten(own)[name]]).agrees
    assert backend.call("optim.all_finite", {"grads": grads})
    grads["wpe"]["weight"][0, 0] = np.nan
    assert not backend.call("optim.all_finite", {"grads": grads})


def test_the_norm_of_many_numbers_is_summed_with_care() -> None:
    grads = np.random.default_rng(0).standard_normal((2000, 2000)).astype(np.float32)
    exact = reference.global_norm({"a": grads.astype(np.float64)})
    found = optim.global_norm({"a": Tensor(grads)}).asnumpy()
    assert judge(found, exact, [reference.global_norm({"a": grads})]).agrees
