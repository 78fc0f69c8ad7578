"""What a backend declares: it is read, cases keep to it, calls beyond it are refused."""

from typing import Any

import numpy as np
import pytest

from gpt2.backends import NumPyBackend
from gpt2.errors import GPT2Error
from parity.cases.cases import build
from parity.cases.contracts import contracts
from parity.cases.supports import PRESETS, Supports
from parity.check import check_rule, draw, large_cases, rules
from reference.config import GPT2Config
from reference.stages import observing

FLOAT32 = np.dtype(np.float32)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("function", ["attention.attention", "model.language_model", "engine.logits", "ops.layer_norm"])
def test_cases_keep_to_what_is_supported(preset: str, function: str) -> None:
    rule, supports = rules()[function], Supports.read(PRESETS[preset])
    drawn = draw(rule, FLOAT32, 60, supports=supports)
    drawn += large_cases(rule, drawn, supports)
    assert len(drawn) > 60
    for case in drawn:
        assert supports.refusal(build(case, FLOAT32)[0]) == ""
        if not supports.large:
            assert not case.regime.startswith("large")
        if supports.has_usual_mlp and "config" in case.scalars:
            assert case.sizes["I"] == 4 * case.sizes["C"]
    everything = [Supports.read(PRESETS["course"]).refusal(build(case, FLOAT32)[0]) for case in draw(rule, FLOAT32, 60)]
    assert any(everything)  # what is drawn without a declaration would be refused


@pytest.mark.parametrize("function", ["attention.attention", "attention.attention_weights", "engine.logits"])
def test_scores_that_overflow_exp_are_drawn_where_large_values_are_not(function: str) -> None:
    """And none beside which a score of -10000, or 10000 less than it was, is not hidden."""
    found: list[float] = []

    def note(name: str, x: Any) -> Any:
        if name.endswith(".scores"):
            found.append(float(np.abs(x).max()))
        return x

    rule, supports = rules()[function], Supports.read(PRESETS["course"])
    drawn = draw(rule, FLOAT32, 60, supports=supports)
    for case in [*drawn, *large_cases(rule, drawn, supports)]:
        with observing(note):
            case.contract.target(**build(case, FLOAT32)[0])
    assert found[-1] > 89  # of the last large case: with every seed
    assert sum(score > 89 for score in found) > 2
    assert max(found) < 10_000 / 4


@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_are_on_the_side_that_is_supported(side: str) -> None:
    supports = Supports.read({"attention_mask": side})
    masks = [
        build(case, FLOAT32)[0]["attention_mask"]
        for case in draw(rules()["engine.logits"], FLOAT32, 80, supports=supports)
        if "attention_mask" not in case.absent
    ]
    changes = [np.diff(mask, axis=1) for mask in masks]
    assert all((each >= 0 if side == "left" else each <= 0).all() for each in changes)
    assert any((mask == 0).any() for mask in masks)


CONFIG = GPT2Config(n_layer=1, n_embd=4, n_head=2, n_inner=16)


@pytest.mark.parametrize(
    ("declared", "arguments", "refusal"),
    [
        ({"past": False}, {"past": (1, 2)}, "past"),
        ({"past": False}, {"past": None}, ""),
        ({"dropout": False}, {"keep": {}}, "dropout"),
        ({"activation_function": ["gelu_new"]}, {"config": CONFIG}, ""),
        ({"activation_function": ["gelu", "relu"]}, {"config": CONFIG}, "activation_function 'gelu_new'"),
        ({"n_inner": False}, {"config": CONFIG}, ""),
        ({"n_inner": False}, {"config": GPT2Config(n_embd=4, n_head=2, n_inner=5)}, "n_inner 5 with n_embd 4"),
        ({"eps": False}, {"eps": 1e-3}, "eps 0.001"),
        ({"attention_mask": "left"}, {"attention_mask": np.array([[0, 1]])}, ""),
        ({"attention_mask": "left"}, {"attention_mask": np.array([[1, 0]])}, "pads on the right"),
        ({"attention_mask": ["left", "right"]}, {"attention_mask": np.array([[0, 0]])}, "pads alone"),
        ({"nothing_scored": False}, {"labels": np.array([[-100, -100]])}, "no label is scored"),
        ({"nothing_scored": False}, {"labels": np.array([[1, -100]])}, ""),
        ({"nothing_scored": False}, {"labels": np.array([[1, -100]]), "ids": 0}, "no label is scored"),
    ],
)
def test_a_call_beyond_it_is_refused(declared: dict[str, Any], arguments: dict[str, Any], refusal: str) -> None:
    assert Supports.read(declared).refusal(arguments) == refusal


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"pasts": False}, "supports names 'pasts', which the judge does not draw: did you mean 'past'"),
        ({"attention_mask": "top"}, "must be True, False or of left, right, both, whole, but is 'top'"),
        ({"activation_function": ["prelu"]}, "holds 'prelu': choose from gelu_new"),
        ({"eps": 1e-5}, "must be True, False or a list of values, but is 1e-05"),
    ],
)
def test_a_wrong_declaration_is_one_line(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(GPT2Error, match="supports") as error:
        Supports.read(declared)
    assert said in str(error.value)


def test_what_two_declare_is_what_both_have() -> None:
    both = Supports.read({"activation_function": ["gelu", "relu"], "past": False}).also(
        Supports.read({"activation_function": ["relu"], "attention_mask": "left"})
    )
    assert both == Supports.read({"activation_function": ["relu"], "past": False, "attention_mask": "left"})


def test_a_judged_case_is_not_thrown_away() -> None:
    """A backend that is wrong where it runs, and refuses many cases."""

    class Half(NumPyBackend):
        def call(self, function: str, arguments: Any) -> Any:
            if arguments["x"].size % 2:
                raise NotImplementedError("odd sizes")
            return super().call(function, arguments)

    class WrongHalf(Half):
        def call(self, function: str, arguments: Any) -> Any:
            return super().call(function, arguments) * 1.1

    right = check_rule(rules()["ops.relu"], Half(), 20)
    assert right.agrees
    assert right.cases
    assert right.not_offered["odd sizes"]
    assert not check_rule(rules()["ops.relu"], WrongHalf(), 20).agrees


def test_what_stands_at_a_pad_means_nothing() -> None:
    """In functions as in whole models, and no gradient comes from there."""
    function = "attention.attention"

    class Careless(NumPyBackend):
        def call(self, function: str, arguments: Any) -> Any:
            output, pair = super().call(function, arguments)
            mask = arguments.get("attention_mask")
            if mask is not None:
                output = np.where(mask[:, -output.shape[1] :, None] == 0, np.float32(np.nan), output)
            return output, pair

    assert check_rule(rules()[function], Careless(), 40).agrees
    padded = [
        build(case, FLOAT32)[0]
        for case in draw(rules()[f"{function}_vjp"], FLOAT32, 60)
        if "attention_mask" not in case.absent
    ]
    assert any((each["attention_mask"] == 0).any() for each in padded)
    for each in padded:
        assert not each["grad"][each["attention_mask"] == 0].any()


def test_every_name_of_a_preset_is_known() -> None:
    options = {name for contract in contracts().values() for name in (*contract.scalars, *contract.optional)}
    for preset in PRESETS.values():
        assert Supports.read(preset).refused <= options
