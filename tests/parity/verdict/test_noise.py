"""The noise floor: sums that are rounded the other way, all through a model, must be within what it allows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.backends import NumPyBackend
from parity.cases.cases import Case, build, cases, resized
from parity.cases.contracts import contracts
from parity.check import agrees, draw, rules
from parity.mutants.base import REORDERED
from parity.verdict import orbit
from parity.verdict.orbit import SUMS, inexact
from parity.verdict.stages import stage_references
from parity.verdict.trial import Trial, decide
from parity.verdict.verdict import NOISE_FACTOR, Verdict, ulp
from reference.config import GPT2Config, flatten
from reference.model import language_model
from reference.stages import ELEMENTARY, keep_in, observing

CONTRACT = contracts()["model.language_model"].without("keep")
FLOAT32 = np.dtype(np.float32)
# Two channels: LayerNorm makes much of their small difference, so the sums before it count. Found by a search that
# compared with Hugging Face transformers, which rounds them differently.
TWO_CHANNELS = Case(
    contract=CONTRACT,
    sizes={"B": 1, "T": 6, "P": 0, "S": 6, "H": 2, "D": 1, "C": 2, "N": 1, "I": 10, "V": 16, "K": 1, "L": 10},
    scalars={
        "config": GPT2Config(
            vocab_size=16, n_positions=10, n_embd=2, n_layer=3, n_head=2, n_inner=10, activation_function="gelu"
        )
    },
    absent=frozenset({"past", "attention_mask", "position_ids"}),
    padding="none",
    regime="live",
    seed=246011170,
)


def expect_agreement(case: Case, seed: int) -> None:
    """Move every sum of the reference by up to one unit in the last place, and let the verdict decide on each stage."""
    random, seen = np.random.default_rng(seed), {}
    keep = keep_in(seen)

    def move(name: str, x: Any) -> Any:
        if name.rpartition(".")[2] in SUMS:
            x = x + (ulp(x, FLOAT32) * random.integers(-1, 2, x.shape)).astype(x.dtype)
        return keep(name, x)

    arguments, _ = build(case, FLOAT32)
    with observing(move):
        language_model(**arguments)
    params, config, ids = flatten(arguments["params"]), arguments["config"], arguments["ids"]
    mask, positions = arguments.get("attention_mask"), arguments.get("position_ids")
    for name, reference in stage_references(config, params, ids, mask, positions, FLOAT32, {}).items():
        verdict = reference.judge(seen[name])
        assert verdict.agrees, f"{name}: {verdict.explain()}"


@settings(max_examples=100)
@given(cases(CONTRACT, FLOAT32).filter(lambda case: "past" in case.absent), st.integers(0, 1000))
def test_sums_may_round_either_way(case: Case, seed: int) -> None:
    expect_agreement(case, seed)


@pytest.mark.parametrize("seed", range(20))
def test_sums_may_round_either_way_where_two_channels_nearly_cancel(seed: int) -> None:
    expect_agreement(TWO_CHANNELS, seed)


# Correct forms that round where the reference does not: found by a search with `gpt2 check --backend twin:reordered`.
FAR_LEFT = "-0x1.23cb040000000p+2"  # GELU as x + x tanh(u): a product is rounded before most of it cancels
FLAT_ROW = (  # a mean one unit off is much of what LayerNorm sees of numbers that are nearly equal
    "0x1.28d1e80000000p+0",
    "0x1.29bdcc0000000p+0",
    "0x1.2971a80000000p+0",
    "0x1.29538c0000000p+0",
    "0x1.297b1a0000000p+0",
    "0x1.296ede0000000p+0",
    "0x1.29584c0000000p+0",
    "0x1.29d2420000000p+0",
    "0x1.29ed960000000p+0",
    "0x1.2993aa0000000p+0",
    "0x1.28d0400000000p+0",
    "0x1.299d520000000p+0",
)


@pytest.mark.parametrize(
    ("function", "numbers"),
    [("ops.gelu_new", [FAR_LEFT]), ("ops.layer_norm", FLAT_ROW)],
    ids=["gelu_new", "layer_norm"],
)
def test_other_forms_may_round_elsewhere(function: str, numbers: list[str]) -> None:
    x = np.array([float.fromhex(number) for number in numbers], np.float32)
    sizes = dict.fromkeys("BTPSHDCNIVKL", 1) | {"D": x.size, "C": x.size}
    for seed in range(20):
        contract, scalars = contracts()[function], {"eps": 1e-5} if function == "ops.layer_norm" else {}
        case = Case(contract, sizes, scalars, frozenset(), "none", "live", seed)
        verdicts = list(Trial(case, REORDERED.backend()).with_arguments(x=x[None, None]).compare())
        assert all(verdict.agrees for verdict in verdicts), verdicts[0].explain()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_a_number_is_moved_by_is_a_unit_in_its_last_place(dtype: Any) -> None:
    info = np.finfo(dtype)
    powers = np.ldexp(np.ones(1, dtype), np.arange(int(info.minexp) - int(info.nmant), int(info.maxexp)))
    numbers = np.concatenate([powers, np.nextafter(powers, dtype(np.inf)), np.nextafter(powers, dtype(0)), [info.max]])
    for x in (numbers.astype(dtype), -numbers.astype(dtype)):
        assert (orbit._spacing(np.abs(x)) == ulp(x, np.dtype(dtype))).all()
    special = np.array([np.inf, -np.inf, np.nan], dtype)
    moved = orbit.inexact({}, TWO_CHANNELS, 1)("rounding", special)
    assert (moved[:2] == special[:2]).all()
    assert np.isnan(moved[2])


@pytest.mark.parametrize("name", [*(name for name in ELEMENTARY if "rounding." not in name), "rounding", *SUMS])
def test_what_is_moved_never_changes_its_sign(name: str) -> None:
    """AdamW's mean of squares is 0 where nothing was learnt: a unit below it, its root was NaN, and no weight moved."""
    x = np.float32([0.0, 1e-45, -1e-45, 1.0] * 64)
    for member in range(8):
        moved = inexact({}, TWO_CHANNELS, member)(name, x)
        assert (moved * np.sign(x) >= 0).all()
        assert (moved[x == 0] == 0).all()


@pytest.mark.parametrize("function", ["ops.gelu_new", "fast.gelu_new_fast"])
def test_a_gelu_by_the_sigmoid_is_right_where_tanh_is_minus_one(function: str) -> None:
    """One number, far below 0: 1 + tanh is 0 there, in float64 too, while x sigmoid(2u) is not."""

    class BySigmoid(NumPyBackend):
        def call(self, function: str, arguments: Any) -> Any:
            wide = arguments["x"].astype(np.float64)
            inner = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
            return (wide / (1 + np.exp(-2 * inner))).astype(np.float32)

    case = draw(rules()[function], np.dtype(np.float32), 1)[0]
    one = resized(case, dict.fromkeys("BTHD", 1))
    for x in (-8.0, -6.0):
        trial = Trial(one, BySigmoid()).with_arguments(x=np.full((1, 1, 1), x, np.float32))
        assert trial.run()[0].all()
        assert agrees(rules()[function], trial)


@given(cases(contracts()["attention.attention"], FLOAT32))
@settings(max_examples=20)
def test_noise_only_grows_with_the_forms_of_an_input(case: Case) -> None:
    backend = NumPyBackend()
    few, some, all_of_them = (
        Trial(case, backend).with_members(most).references() for most in (orbit.FEWEST, orbit.MEMBERS, orbit.SAMPLES)
    )
    for smallest, middle, largest in zip(few, some, all_of_them, strict=True):
        assert smallest.noise <= middle.noise <= largest.noise
        assert len(smallest.orbit) == orbit.FEWEST <= len(middle.orbit) <= len(largest.orbit)


@pytest.mark.parametrize(
    ("errors", "looks"),
    [
        ({orbit.FEWEST: 1.0, orbit.MEMBERS: 1.0, orbit.SAMPLES: 1.0}, 1),
        ({orbit.FEWEST: 10.0, orbit.MEMBERS: 1.0, orbit.SAMPLES: 1.0}, 2),
        ({orbit.FEWEST: 2.0, orbit.MEMBERS: 2.0, orbit.SAMPLES: 1.0}, 2),
        ({orbit.FEWEST: 10.0, orbit.MEMBERS: 10.0, orbit.SAMPLES: 1.0}, 3),
        ({orbit.FEWEST: 10.0, orbit.MEMBERS: 10.0, orbit.SAMPLES: 10.0}, 3),
    ],
    ids=["far inside", "outside at first", "inside, but not far", "outside by some", "outside by all"],
)
def test_more_forms_are_asked_until_the_verdict_is_clear(errors: dict[int, float], looks: int) -> None:
    asked = []

    def judge(trial: Trial) -> Iterator[Verdict]:
        asked.append(trial.members)
        error = errors[trial.members]  # in units of the noise
        yield Verdict(error <= NOISE_FACTOR, error, 1.0, 0.0, (), error, 0.0)

    found = decide(judge, Trial(TWO_CHANNELS, NumPyBackend()))
    assert asked == list(errors)[:looks]
    assert [verdict.error for verdict in found] == [list(errors.values())[looks - 1]]


def test_two_numbers_that_are_left_of_many_get_the_members_of_two() -> None:
    """Where both err to the same side their shares do not change: seven members of an orbit may all be such."""
    cut = np.zeros((1, 23))
    cut[0, [3, 15]] = 0.7, 0.3
    assert orbit.members([cut]) == orbit.members([np.ones(2)]) > orbit.MEMBERS
    assert orbit.members([np.zeros(23), np.ones(100)]) == orbit.MEMBERS
    assert orbit.members([cut], orbit.FEWEST) == orbit.FEWEST
