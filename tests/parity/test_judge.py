"""The judge on trial: it must see every planted bug, and stay silent on correct pairs."""

import importlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import find, settings

from gpt2.backends import Backend, NumPyBackend, get_backend, numpy_dtype
from parity.cases.cases import LARGEST, Case, cases
from parity.cases.contracts import contracts, public_functions, read_contract
from parity.check import COMPILED, check_at_its_cost, check_rule, draw, large_cases, rules, select
from parity.mutants.all import mutant
from parity.verdict.trial import Trial
from parity.verdict.verdict import judge, ulp

FLOAT32 = np.dtype(np.float32)


def test_a_failure_comes_with_its_smallest_case() -> None:
    backend = mutant("the bias dropped").backend()
    result = check_rule(rules()["model.mlp"], backend, examples=100)
    assert result.failing_case is not None
    assert {letter: result.failing_case.sizes[letter] for letter in "BTCI"} == {"B": 1, "T": 1, "C": 1, "I": 1}
    assert "differs at (0, 0, 0)" in result.to_dict()["explanation"]


def test_a_function_that_a_backend_lacks_is_said_to_be_absent() -> None:
    class Lacking(NumPyBackend):
        def call(self, function: str, arguments: Any) -> Any:
            raise AttributeError(function)

    result = check_rule(rules()["ops.relu"], Lacking(), examples=2)
    assert not result.agrees
    assert "the backend has no ops.relu" in result.error


def test_the_first_case_tells_something() -> None:
    """Not the one that Hypothesis begins with, whatever the seed: all sizes 1, the first of all options."""
    firsts = [draw(rule, FLOAT32, 1)[0] for rule in rules().values()]
    assert len({case.seed for case in firsts} | {0}) > 2
    ones = [case for case in firsts if set(case.sizes.values()) <= {0, 1}]
    assert len(ones) < len(firsts) / 4
    among_many = draw(rules()["ops.softmax"], FLOAT32, 100)
    assert any(set(case.sizes.values()) <= {0, 1} for case in among_many)


def test_a_search_looks_at_the_cases_that_are_drawn() -> None:
    seen: list[str] = []
    rule = rules()["ops.relu"]
    check_rule(rule, NumPyBackend(), 12, watch=lambda verdict, case: seen.append(case.describe()))
    drawn = draw(rule, FLOAT32, 12)
    assert seen == [case.describe() for case in [*drawn, *large_cases(rule, drawn)]]


def test_where_graphs_are_compiled_shapes_are_few_and_numbers_many() -> None:
    class Compiled(NumPyBackend):
        def __init__(self) -> None:
            super().__init__()
            self.mode = "graph"

    def looked_at(examples: int, backend: NumPyBackend, **options: Any) -> list[Case]:
        seen: list[Case] = []
        result = check_rule(rule, backend, examples, watch=lambda verdict, case: seen.append(case), **options)
        assert len(seen) == result.cases > examples
        return [case for case in seen if case.sizes["T"] <= LARGEST["T"]]

    rule = rules()["ops.softmax"]
    for examples, shapes in ((1, 1), (4, 1), (10, 3), (40, 10)):
        seen = looked_at(examples, Compiled())
        assert len({case.seed for case in seen}) == len(seen)
        assert len({case.describe().rpartition("seed")[0] for case in seen}) <= shapes
        first = [case for case in seen if case.seed < 1_000_000]
        assert [case.describe() for case in first] == [case.describe() for case in draw(rule, FLOAT32, shapes)]
    assert len(looked_at(10, NumPyBackend())) == len(looked_at(10, Compiled(), fillings=1)) == 10


def test_the_compiled_form_of_a_backend_is_judged_too() -> None:
    class Off(NumPyBackend):
        def model(self, config: Any, parameters: Any) -> Any:
            made = super().model(config, parameters)
            right = made.logits
            made.logits = lambda *inputs: right(*inputs) + 1  # type: ignore[method-assign]
            return made

    class OpByOp(NumPyBackend):
        compiled = Off()

    chosen = select(["compiled"], OpByOp())
    assert list(chosen) == [f"compiled.{name}" for name in COMPILED]
    assert set(chosen) <= set(select([], OpByOp()))
    assert not check_rule(chosen["compiled.engine.logits"], OpByOp(), 6).agrees
    assert check_rule(rules()["engine.logits"], OpByOp(), 6).agrees
    with pytest.raises(KeyError, match="compiled"):
        select(["compiled"], NumPyBackend())


def test_mindspore_has_a_compiled_form_where_it_runs_op_by_op() -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    assert get_backend("mindspore", mode="pynative").compiled.mode == "graph"  # type: ignore[attr-defined]
    assert not hasattr(get_backend("mindspore", mode="graph"), "compiled")


def test_a_backend_of_chance_ends_in_no_error_of_ours() -> None:
    """The worst case is judged again, with the whole noise: by then, it may be another backend's."""

    class Tired(NumPyBackend):
        calls = 0

        def call(self, function: str, arguments: Any) -> Any:
            self.calls += 1
            if self.calls > 6:
                raise RuntimeError("no longer")
            return super().call(function, arguments)

    assert check_rule(rules()["ops.relu"], Tired(), 4).agrees  # and two large cases


def test_training_is_judged_on_fewer_cases_and_generation_on_more() -> None:
    functions = {
        "laws.warm_up_begins_at_zero": 4,
        "ops.silu_vjp": 12,
        "generate.penalize_repetition": 144,
        "fast.gelu_new_fast": 146,
    }
    for name, count in functions.items():
        assert check_at_its_cost(rules()[name], NumPyBackend(), 12, 0).cases == count


def test_further_cases_do_not_depend_on_each_other() -> None:
    """Hypothesis varies what it has drawn, so that what is rare stays rare for a whole search."""

    def described(more: int) -> list[str]:
        seen: list[str] = []
        rule, note = rules()["generate.ban"], lambda verdict, case: seen.append(case.describe())
        check_rule(rule, NumPyBackend(), 5, watch=note, more=more)
        return seen

    assert described(0) == described(20)[:5] == described(30)[:5]
    assert described(20) == described(30)[:25]
    assert len(set(described(30)[5:])) == 30


def test_a_rule_goes_on_for_its_time() -> None:
    result = check_rule(rules()["ops.silu_vjp"], NumPyBackend(), 3, seconds=0.5)
    assert result.cases > 3
    assert result.agrees


def test_a_failure_among_further_cases_comes_with_its_smallest_case() -> None:
    class Late(NumPyBackend):
        calls = 0

        def call(self, function: str, arguments: Any) -> Any:
            self.calls += 1
            return super().call(function, arguments) * (1 + (self.calls > 8))

    result = check_rule(rules()["ops.silu_vjp"], Late(), 4, more=20)
    assert result.failing_case is not None
    assert set(result.failing_case.sizes.values()) <= {0, 1}


def test_a_fault_that_only_other_numbers_show_is_found_in_a_graph() -> None:
    class Odd(NumPyBackend):
        def __init__(self) -> None:
            super().__init__()
            self.mode, self.calls = "graph", 0

        def call(self, function: str, arguments: Any) -> Any:
            self.calls += 1
            return super().call(function, arguments) * (1 + (self.calls > 2))

    result = check_rule(rules()["ops.gelu"], Odd(), 4)
    assert not result.agrees
    assert result.failing_case is not None


def test_the_same_seed_draws_the_same_cases() -> None:
    def drawn(start: int) -> list[str]:
        described: list[str] = []
        rule = rules()["model.gpt2"]
        check_rule(rule, NumPyBackend(), 15, start, watch=lambda verdict, case: described.append(case.describe()))
        return described

    assert drawn(1) == drawn(1) != drawn(2)


def test_the_first_cases_are_those_of_the_whole_search() -> None:
    rule = rules()["ops.softmax"]
    every = draw(rule, FLOAT32, 40)
    assert draw(rule, FLOAT32, 40, first=7) == every[:7]
    assert len(every) > 7


def test_the_same_seed_draws_the_same_cases_whatever_modules_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> list[str]:
        return [case.describe() for case in draw(rules()["model.gpt2"], FLOAT32, 500)]

    before = drawn()
    (tmp_path / "full_of_numbers.py").write_text(f"NUMBERS = {list(range(0, 2**32, 2**32 // 1000 + 1))}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("full_of_numbers")
    assert drawn() == before


def test_names_select_functions_and_files() -> None:
    assert list(select(["layer_norm"])) == ["ops.layer_norm"]
    named = {f"generate.{name}" for name in public_functions("generate") if name != "continue_greedily"}
    assert set(select(["generate", "engine.cached"])) == named | {"engine.cached"}
    assert len(select([])) == len(rules())
    with pytest.raises(KeyError, match="nonsense"):
        select(["nonsense"])


def test_a_contract_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot read"):
        read_contract("ops.broken", "First line.\n\nShapes: x (B, T -> (B, T)")


X = np.array([1.0, -2.0, 3.0])


def verdict_on(value: Any, own: Any = X, oracle: Any = X) -> Any:
    return judge(np.asarray(value, np.float32), np.asarray(oracle), [np.asarray(own, np.float32)])


def test_four_units_in_the_last_place_are_rounding_and_five_are_not() -> None:
    step = ulp(X, FLOAT32)
    assert verdict_on(X + 4 * step).agrees
    assert not verdict_on(X + 5 * step).agrees


def test_what_this_input_does_to_the_reference_is_allowed_three_times() -> None:
    noise = 100 * ulp(X, FLOAT32)[2]
    assert verdict_on(X + 3 * noise, own=X + noise).agrees
    assert not verdict_on(X + 4 * noise, own=X + noise).agrees


SPECIAL = (1.0, np.nan, np.inf, -np.inf)


@pytest.mark.parametrize(("found", "expected"), list(itertools.product(SPECIAL, SPECIAL)))
def test_nan_and_infinity_must_agree_in_place_and_sign(found: float, expected: float) -> None:
    same = found == expected or (np.isnan(found) and np.isnan(expected))
    with np.errstate(invalid="ignore"):
        assert verdict_on([1, found], own=[1, expected], oracle=[1, expected]).agrees == same


def test_shape_and_dtype_must_agree() -> None:
    assert "shape" in verdict_on(X[None]).explain()
    assert "dtype" in judge(X, X, [X.astype(np.float32)]).explain()
    assert not judge(np.array([True]), np.array([1]), [np.array([1])]).agrees


def test_integers_must_be_equal() -> None:
    one, two = np.array([[1, 2]]), np.array([[1, 3]])
    assert judge(one, one, [one]).agrees
    assert "3 at (0, 1), expected 2" in judge(two, one, [one]).explain()


def test_rows_without_meaning_are_not_judged() -> None:
    rows = np.array([True, True, False])
    value = X.astype(np.float32)
    value[2] = np.nan
    assert judge(value, X, [X.astype(np.float32)], rows).agrees


def test_a_verdict_explains_itself() -> None:
    assert verdict_on(X).explain() == "identical bits: agrees"
    step = ulp(X, FLOAT32)
    assert verdict_on(X + 2 * step, own=X + step).explain() == "2 ulp; 2 x this input's rounding noise: agrees"
    assert "differs at (2,)" in verdict_on([1, -2, 4]).explain()
    assert "0x1.0000000000000p+2" in verdict_on([1, -2, 4]).explain()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_ulp_is_the_distance_to_the_next_number(dtype: str) -> None:
    kind = numpy_dtype(dtype)
    for x in (1.0, 1.5, 3.0, 0.0078125):
        neighbours = np.array([x + float(ulp(np.array(x), kind)) * k for k in (0, 1, 0.25)]).astype(kind)
        assert neighbours[1] > neighbours[0] == neighbours[2]


def test_a_judge_that_is_told_the_wrong_accuracy_would_see_through_it() -> None:
    """Without the declared accuracy of exp and sigmoid, MindSpore's softmax on CPU must not pass."""
    pytest.importorskip("mindspore", reason="MindSpore is not installed")

    class Undeclared:
        accuracy: dict[str, float] = {}  # noqa: RUF012

        def __init__(self, backend: Backend) -> None:
            self._backend = backend

        def __getattr__(self, name: str) -> Any:
            return getattr(self._backend, name)

    backend: Any = Undeclared(get_backend("mindspore", mode="pynative"))
    assert not check_rule(rules()["ops.softmax"], backend, examples=100).agrees


def test_every_verdict_of_a_case_is_returned() -> None:
    contract = contracts()["attention.attention"]
    case = find(cases(contract, FLOAT32), lambda case: True, settings=settings(database=None))
    assert len(list(Trial(case, NumPyBackend()).compare())) == 3  # the output, the keys and the values


def test_the_large_case_of_training_has_pads() -> None:
    rule = rules()["training.language_model"]
    for start in range(4):
        [large] = large_cases(rule, draw(rule, FLOAT32, 3, start))
        assert (Trial(large, NumPyBackend()).arguments["attention_mask"] == 0).any()
