"""The optimizer's side of the lesson: each property that a well-known bug breaks."""

import math
from typing import Any

import numpy as np
import pytest

from parity.verdict.verdict import close, judge
from reference.config import ACCUMULATIONS, TrainingConfig, decays, flatten, map_tree, nest
from reference.fast import adamw_fast
from reference.optim import (
    OPTIMIZERS,
    SCHEDULES,
    Accumulator,
    AdamW,
    AdamWeightDecay,
    DynamicLossScaler,
    StaticLossScaler,
    adam_weight_decay,
    adamw,
    all_finite,
    clip_by_global_norm,
    constant_schedule,
    cosine_schedule,
    global_norm,
    linear_schedule,
)
from tests.reference.small import parameters

DOUBLE = np.dtype(np.float64)
USUAL: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
RATE = np.array(0.25)


def arrays(count: int, dtype: str = "float64", shape: tuple[int, ...] = (5, 7)) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.standard_normal(shape).astype(dtype) for _ in range(count)]


def gradients(seed: int, dtype: str = "float64") -> dict:
    random = np.random.default_rng(seed)
    return nest({name: random.standard_normal(x.shape).astype(dtype) for name, x in parameters().items()})


def bits(tree: Any) -> dict[str, bytes]:
    return {name: x.tobytes() for name, x in flatten(tree).items()}


def test_the_first_step_of_adamw_has_the_size_of_the_rate() -> None:
    param, grad = arrays(2)
    zero, numbers = np.zeros_like(param), USUAL | {"weight_decay": 0.0, "epsilon": 1e-100}
    moved, _, _ = adamw(param, grad, zero, zero, np.array(1), RATE, **numbers)
    assert close(moved, param - RATE * np.sign(grad), 0.0, DOUBLE, size=np.abs(param).max()).agrees


def test_the_first_step_of_the_courses_optimizer_is_too_large() -> None:
    param, grad = arrays(2)
    zero, numbers = np.zeros_like(param), USUAL | {"weight_decay": 0.0, "epsilon": 1e-100}
    moved, _, _ = adam_weight_decay(param, grad, zero, zero, np.array(1), RATE, **numbers)
    factor = (1 - USUAL["beta1"]) / math.sqrt(1 - USUAL["beta2"])
    assert factor > 3
    assert close(moved, param - factor * RATE * np.sign(grad), 0.0, DOUBLE, size=np.abs(param).max()).agrees


@pytest.mark.parametrize("update", [adamw, adam_weight_decay])
def test_without_a_gradient_only_the_decay_is_left(update: Any) -> None:
    (param,) = arrays(1)
    zero = np.zeros_like(param)
    decayed, m, v = update(param, zero, zero, zero, np.array(1), RATE, **USUAL | {"weight_decay": 0.5})
    assert close(decayed, param * 0.875, 0.0, DOUBLE).agrees
    assert not m.any()
    assert not v.any()


def test_the_means_forget_at_the_rate_of_their_beta() -> None:
    param, grad, m, v = arrays(4)
    _, new_m, new_v = adamw(param, grad, m, v * v, np.array(7), RATE, **USUAL | {"beta1": 0.75, "beta2": 0.5})
    assert close(new_m, (3 * m + grad) / 4, 0.0, DOUBLE, size=4).agrees
    assert close(new_v, (v * v + grad * grad) / 2, 0.0, DOUBLE, size=8).agrees


@pytest.mark.parametrize("update", [adamw, adam_weight_decay])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_update_keeps_the_dtype_and_leaves_its_arguments_alone(update: Any, dtype: str) -> None:
    given = arrays(4, dtype)
    given[3] = np.abs(given[3])
    before = [x.copy() for x in given]
    results = update(*given, np.array(1), np.array(0.5, dtype), **USUAL)
    assert [x.dtype for x in results] == [np.dtype(dtype)] * 3
    assert all((x == y).all() for x, y in zip(given, before, strict=True))


@pytest.mark.parametrize("update", [adamw, adam_weight_decay])
def test_a_float16_update_is_computed_in_float32_and_rounded_once(update: Any) -> None:
    given = [np.abs(x) for x in arrays(4, "float16")]
    numbers = (np.array(3), np.array(0.5, np.float32))
    wide = update(*(x.astype(np.float32) for x in given), *numbers, **USUAL)
    narrow = update(*given, *numbers, **USUAL)
    assert [x.tobytes() for x in narrow] == [x.astype(np.float16).tobytes() for x in wide]


def test_the_fast_update_is_adamw_in_place_whatever_the_layout() -> None:
    given = arrays(4, shape=(700, 300))
    given[3] = np.abs(given[3])
    low = [x.astype(np.float32) for x in given]
    oracle, own = (adamw(*four, np.array(3), RATE, **USUAL) for four in (given, low))
    turned = [np.ascontiguousarray(x.T).T if i != 1 else x for i, x in enumerate(low)]
    fast = adamw_fast(*turned, np.array(3), RATE, **USUAL)
    for kept, result in zip((turned[0], turned[2], turned[3]), fast, strict=True):
        assert kept is result
    for x, exact, same in zip(fast, oracle, own, strict=True):
        assert judge(x, exact, [same]).agrees


@pytest.mark.parametrize("schedule", SCHEDULES.values())
def test_every_schedule_warms_up_from_zero(schedule: Any) -> None:
    rates = [float(schedule(np.array(step), np.array(8.0), 4, 12, 2.0)) for step in range(5)]
    assert rates == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("schedule", SCHEDULES.values())
def test_without_warm_up_the_first_update_has_the_full_rate(schedule: Any) -> None:
    assert float(schedule(np.array(0), np.array(8.0), 0, 12, 2.0)) == 8


def test_after_the_warm_up_each_schedule_goes_its_way() -> None:
    steps = [4, 6, 8, 10, 12, 20]
    rates = {
        schedule: [float(schedule(np.array(step), np.array(8.0), 4, 12, 2.0)) for step in steps]
        for schedule in (constant_schedule, linear_schedule, cosine_schedule)
    }
    assert rates[constant_schedule] == [8] * 6
    assert rates[linear_schedule] == [8, 6.5, 5, 3.5, 2, 2]
    cosine = np.array([5 + 3 * math.cos(math.pi * part) for part in (0, 0.25, 0.5, 0.75, 1, 1)])
    assert close(np.array(rates[cosine_schedule]), cosine, 0.0, DOUBLE, size=8).agrees
    assert rates[cosine_schedule][-2:] == [2, 2]


@pytest.mark.parametrize("schedule", SCHEDULES.values())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rate_keeps_its_dtype(schedule: Any, dtype: str) -> None:
    for step in (1, 7):
        rate = schedule(np.array(step), np.array(1e-3, dtype), 4, 12)
        assert (rate.dtype, rate.shape) == (np.dtype(dtype), ())


def test_the_global_norm_is_that_of_all_numbers_together() -> None:
    assert global_norm({"wte": np.array([3.0]), "h": [{"a": np.array([[4.0]])}, {"a": np.array([12.0])}]}) == 13


def test_the_norm_of_float16_gradients_does_not_overflow() -> None:
    norm = global_norm({"a": np.full(4, 30000, np.float16)})
    assert (norm, norm.dtype) == (60000, np.float32)


def test_clipping_leaves_the_norm_that_was_asked_for_and_the_direction() -> None:
    grads = gradients(0)
    clipped, norm = clip_by_global_norm(grads, 2.0)
    assert norm == global_norm(grads) > 2
    factor = {name: x / flatten(grads)[name] for name, x in flatten(clipped).items()}
    assert close(global_norm(clipped), 2.0 * norm / (norm + 1e-6), 0.0, DOUBLE, size=10).agrees
    first = factor["wte.weight"].flat[0]
    assert all(close(x, np.full_like(x, first), 0.0, DOUBLE).agrees for x in factor.values())


def test_a_norm_below_the_limit_changes_nothing() -> None:
    grads = gradients(0)
    clipped, _ = clip_by_global_norm(grads, 1e6)
    assert bits(clipped) == bits(grads)


def test_a_tiny_norm_does_not_divide_by_zero() -> None:
    clipped, _ = clip_by_global_norm({"a": np.zeros(3)}, 1e-6)
    assert not clipped["a"].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_makes_a_tree_not_finite(bad: float) -> None:
    grads = gradients(0)
    assert all_finite(grads)
    grads["h"][1]["mlp"]["c_fc"]["bias"][3] = bad
    assert not all_finite(grads)


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_biases_and_norms_do_not_decay(kind: Any) -> None:
    params, before = nest(parameters()), parameters()
    kind(params, TrainingConfig(learning_rate=0.5, weight_decay=0.5))(map_tree(lambda name, x: 0 * x, params))
    still = {name for name, x in flatten(params).items() if (x == before[name]).all()}
    assert still == {name for name in before if not decays(name)}
    assert {"h.0.ln_1.weight", "ln_f.weight", "h.1.mlp.c_fc.bias"} <= still


def test_the_optimizers_are_what_their_names_say() -> None:
    for kind, update in ((AdamW, adamw), (AdamWeightDecay, adam_weight_decay)):
        params = nest(parameters())
        kind(params, TrainingConfig(learning_rate=0.25))(gradients(0))
        old, grad = parameters()["wpe.weight"], gradients(0)["wpe"]["weight"]
        zero = np.zeros_like(old)
        assert (params["wpe"]["weight"] == update(old, grad, zero, zero, np.array(1), RATE, **USUAL)[0]).all()


def test_an_optimizer_in_place_is_the_one_that_copies() -> None:
    plain, fast = nest(parameters()), nest(parameters())
    optimizers = AdamW(plain, TrainingConfig()), AdamW(fast, TrainingConfig(), adamw_fast, in_place=True)
    for seed in range(3):
        for optimizer in optimizers:
            optimizer(gradients(seed))
    sizes = {name: np.abs(x).max() for name, x in flatten(plain).items()}
    for name, x in flatten(fast).items():
        assert close(x, flatten(plain)[name], 0.0, DOUBLE, size=sizes[name]).agrees


def test_the_rate_follows_the_schedule_from_step_0() -> None:
    settings = TrainingConfig(learning_rate=1.0, schedule="linear", warmup_steps=2, total_steps=4)
    params = nest(parameters())
    optimizer, rates = AdamW(params, settings), []
    for seed in range(5):
        rates.append(float(optimizer.lr()))
        optimizer(gradients(seed))
        assert seed or bits(params) == bits(nest(parameters()))  # the first update has rate 0
    assert rates == [0, 0.5, 1, 0.5, 0]


class Recorder:
    """An optimizer that keeps what it is given."""

    def __init__(self) -> None:
        self.params, self.given = parameters(), []

    def __call__(self, grads: dict) -> None:
        self.given.append({name: x.copy() for name, x in flatten(grads).items()})


@pytest.mark.parametrize("accumulation", ACCUMULATIONS)
@pytest.mark.parametrize("micro_batches", [2, 3])
def test_accumulated_gradients_are_their_mean_and_then_forgotten(micro_batches: int, accumulation: str) -> None:
    recorder: Any = Recorder()
    accumulate = Accumulator(recorder, micro_batches, None, accumulation)
    scored = [5, 0, 2, 1, 7, 3]
    for seed in range(2 * micro_batches):
        updated, norm = accumulate(gradients(seed), scored[seed])
        assert updated == (seed % micro_batches == micro_batches - 1)
        assert math.isnan(norm) != updated
    assert len(recorder.given) == 2
    for update, given in enumerate(recorder.given):
        seeds = range(update * micro_batches, (update + 1) * micro_batches)
        for name, x in given.items():
            weights = [scored[seed] if accumulation == "tokens" else 1 for seed in seeds]
            mean = np.average([flatten(gradients(seed))[name] for seed in seeds], axis=0, weights=weights)
            assert close(x, mean, 0.0, DOUBLE, size=4 * sum(weights)).agrees
    assert not any(x.any() for x in accumulate.state().values())


def test_where_no_label_is_scored_the_mean_gradient_is_zero() -> None:
    recorder: Any = Recorder()
    accumulate, nothing = Accumulator(recorder, 2, 1.0), map_tree(lambda name, x: x * 0, gradients(0))
    for _ in range(2):
        accumulate(nothing, 0)
    assert not any(x.any() for x in recorder.given[0].values())


def test_the_mean_is_clipped_once_and_the_norm_is_that_before() -> None:
    recorder: Any = Recorder()
    accumulate = Accumulator(recorder, 2, 0.5)
    accumulate(gradients(0), 3)
    _, norm = accumulate(gradients(1), 3)
    mean = map_tree(lambda name, x: (x + flatten(gradients(1))[name]) / 2, gradients(0))
    assert close(norm, global_norm(mean), 0.0, DOUBLE).agrees
    clipped, _ = clip_by_global_norm(mean, 0.5)
    for name, x in recorder.given[0].items():
        assert close(x, flatten(clipped)[name], 0.0, DOUBLE, size=1).agrees


def test_until_the_last_micro_batch_no_weight_moves() -> None:
    params = nest(parameters())
    accumulate = Accumulator(AdamW(params, TrainingConfig()), 3, 1.0)
    for seed in range(2):
        accumulate(gradients(seed), 3)
        assert bits(params) == bits(nest(parameters()))
    assert accumulate.optimizer.step == 0
    accumulate(gradients(2), 3)
    assert accumulate.optimizer.step == 1
    assert bits(params) != bits(nest(parameters()))


def test_a_single_micro_batch_needs_no_sums() -> None:
    accumulate = Accumulator(AdamW(nest(parameters()), TrainingConfig()), 1, 1.0)
    assert accumulate.state().keys() == {"micro_step"}
    assert accumulate(gradients(0), 3)[0] is True


def test_training_goes_on_from_its_state_to_the_last_bit() -> None:
    settings = TrainingConfig(schedule="cosine", warmup_steps=1, total_steps=9)
    params = nest(parameters())
    accumulate = Accumulator(AdamW(params, settings), 2, 1.0)
    for seed in range(3):
        accumulate(gradients(seed), seed + 1)
    saved, state = {name: x.copy() for name, x in flatten(params).items()}, whole_state(accumulate)
    again = nest(saved)
    other = Accumulator(AdamW(again, settings), 2, 1.0)
    other.load_state(state)
    other.optimizer.load_state(state)
    for seed in range(3, 6):
        accumulate(gradients(seed), seed + 1)
        other(gradients(seed), seed + 1)
    assert bits(again) == bits(params)
    assert bits(whole_state(other)) == bits(whole_state(accumulate)) != bits(state)


def whole_state(accumulate: Accumulator) -> dict[str, np.ndarray]:
    return accumulate.state() | accumulate.optimizer.state()


def test_a_state_that_does_not_fit_is_refused_by_name_and_changes_nothing() -> None:
    accumulate = Accumulator(AdamW(nest(parameters()), TrainingConfig()), 2, 1.0)
    accumulate(gradients(0), 3)
    before = bits(accumulate.state())
    with pytest.raises(ValueError, match="micro_step"):
        accumulate.load_state({})
    with pytest.raises(ValueError, match=r"accumulated\.h\.0\.ln_1\.weight"):
        accumulate.load_state({"micro_step": np.array(0), "total_weight": np.array(0)})
    with pytest.raises(ValueError, match=r"m\.wte\.weight.*\(2,\)"):
        accumulate.optimizer.load_state(accumulate.optimizer.state() | {"m.wte.weight": np.zeros(2)})
    assert bits(accumulate.state()) == before


@pytest.mark.parametrize("make", [lambda: StaticLossScaler(2.0**10), lambda: DynamicLossScaler(2.0**10, 2, 4)])
def test_a_scale_that_is_a_power_of_two_is_taken_off_without_a_trace(make: Any) -> None:
    scaler, grads = make(), gradients(0, "float32")
    scaled = scaler.scale(grads)
    assert (scaled["wte"]["weight"] == 1024 * grads["wte"]["weight"]).all()
    assert bits(scaler.unscale(scaled)) == bits(grads)
    assert scaler.scale(np.array(2.0, np.float32)) == 2048


def test_a_static_scale_stays() -> None:
    scaler = StaticLossScaler(8.0)
    assert not scaler.adjust(np.array(False))
    assert scaler.state() == {"scale_value": 8}


def test_a_dynamic_scale_halves_at_an_overflow_and_doubles_after_its_window() -> None:
    scaler, trace = DynamicLossScaler(4.0, 2, 3), []
    for finite in (1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1):
        assert scaler.adjust(np.array(bool(finite)))
        trace.append((float(scaler.scale_value), int(scaler.counter)))
    counters = [1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 1, 2, 0]
    assert trace == list(zip([4, 4, 2, 2, 2, 4, 2, 1, 1, 1, 1, 1, 2], counters, strict=True))


def test_a_dynamic_scale_stays_finite() -> None:
    scaler = DynamicLossScaler(2.0**127, 2, 1)
    scaler.adjust(np.array(True))
    assert scaler.scale_value == 2.0**127


def test_too_large_a_scale_shows_in_the_gradients() -> None:
    scaler = StaticLossScaler(2.0**30)
    assert not all_finite(scaler.scale({"a": np.ones(2, np.float16)}))
