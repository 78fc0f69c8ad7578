"""Which function is blamed if every stage of the plain forward pass is right, and that blame never raises an error."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import pytest

from gpt2.backends import Backend, NumPyBackend
from parity.check import agrees, draw, draw_for, rules
from parity.diagnosis import swap
from parity.diagnosis.diagnose import Fault, blame_stages, explain, find_fault
from parity.mutants.all import mutant
from parity.mutants.base import Edit, Twin
from parity.verdict import orbit
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict, identical

READ = "gpt2.backends.numpy_backend.NumPyDecoder.read"


def failing(rule: str, backend: Backend, examples: int = 12) -> Trial:
    """The first of a rule's cases to which it objects."""
    trials = (Trial(case, backend) for case in draw(rules()[rule], np.dtype(backend.dtype), examples))
    return next(trial for trial in trials if not agrees(rules()[rule], trial))


def blamed(rule: str, backend: Backend, originals: bool = True) -> Fault:
    return find_fault(rules()[rule], failing(rule, backend), originals)


def broken(*edits: Edit, engine: str = "numpy", mode: str | None = None) -> Backend:
    return Twin("broken", edits, engine).backend(mode=mode)


HALVED = Edit("reference.optim._running_means", "(1 - beta1) * grad", "(1 - beta1) * grad / 2")
NO_ROOT = Edit("reference.optim.adamw", "np.sqrt(mean_square)", "mean_square")


# No rule's blame raises an error.


def never(trial: Trial) -> Iterator[Verdict]:
    yield identical(np.zeros(1), np.ones(1))


@pytest.mark.parametrize("name", {rule.contract: name for name, rule in rules().items()}.values())
def test_every_rule_has_a_blame(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong here but the verdict: every stage agrees, no original cures it, and no function is at fault.

    Rules with the same contract get the same cases, which is all that blame could trip over.
    """
    monkeypatch.setattr(orbit, "MEMBERS", 1)  # the noise of one equal backend is enough
    never_kept = dataclasses.replace(rules()[name], judge=never)
    trial = Trial(draw(never_kept, np.dtype(np.float32), 4, first=1)[0], mutant("slots counted by calls").backend())
    assert explain(never_kept, trial).startswith(f"{name}: no function is at fault alone")


def test_turned_weights_are_not_those_of_the_plain_model() -> None:
    """Dropout masks beside them once made them look so; the plain model cannot take weights that are (out, in)."""
    name = "fast.language_model_loss_fast"
    masked = [case for case in draw(rules()[name], np.dtype(np.float32), 12) if "keep" not in case.absent]
    assert masked
    assert blame_stages(Trial(masked[0], NumPyBackend())) is None


class Gone(NumPyBackend):
    """Raises what no implementation is expected to raise."""

    def model(self, *_: object) -> NoReturn:
        raise OSError("the device is gone")

    call = trainer = model


@pytest.mark.parametrize("name", ["fast.language_model_loss_fast", "model.block", "engine.cached", "laws.causality"])
def test_a_backend_that_only_raises_errors_is_blamed_all_the_same(name: str) -> None:
    trial = Trial(draw(rules()[name], np.dtype(np.float32), 4, first=1)[0], Gone())
    assert re.match(r"ops\.\w+: OSError: the device is gone", explain(rules()[name], trial))  # the innermost function


class WithoutDropout(NumPyBackend):
    """Does not train, so its functions need not know of dropout masks; its model is wrong, its functions are right."""

    trainer: Any = None

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        assert function == "ops.dropout" or "keep" not in arguments
        return super().call(function, arguments)

    def model(self, *_: object) -> NoReturn:
        raise OSError("the device is gone")


def test_a_backend_that_does_not_train_is_never_asked_for_dropout() -> None:
    backend = WithoutDropout()
    trial = Trial(draw_for(rules()["engine.logits"], backend, 4)[0], backend)
    fault = find_fault(rules()["engine.logits"], trial)
    assert fault.places == ()
    assert "agree by themselves: " in fault.text


# A copy of our sources: originals are tried in the place of its functions.


def test_a_method_is_blamed_with_its_line() -> None:
    fault = blamed("engine.cached", mutant("slots counted by calls").backend())
    assert fault.places == (READ,)
    assert fault.text.startswith(f"{READ}: the case agrees with the original in place of it\n  ")
    assert re.search(r"\n  gpt2/backends/numpy_backend.py:\d+: def read\(self, ids: Array, .*$", fault.text)


@pytest.mark.parametrize(
    ("name", "rule", "places"),
    [
        ("one cache for all layers", "engine.cached", ("fast.make_cache",)),
        ("a moment saved under the other's name", "laws.a_run_goes_on_where_it_was_left", ("optim.AdamW.state",)),
        ("no length penalty", "laws.a_search_for_two_tokens_finds_the_best", ("gpt2.generation.beams._collect",)),
        ("epsilon outside the root", "ops.layer_norm", ("ops.layer_norm",)),
        ("sigmoid overflows", "ops.silu", ("elementary.sigmoid", "ops.silu")),  # the second lost its decorator
    ],
)
def test_what_was_edited_is_blamed(name: str, rule: str, places: tuple[str, ...]) -> None:
    found = blamed(rule, mutant(name).backend(), True).places
    assert found
    assert set(found) <= set(places)


def test_functions_wrong_together_are_blamed_together() -> None:
    assert blamed("optim.adamw", broken(HALVED, NO_ROOT)).places == ("optim.adamw", "optim._running_means")


def test_what_differs_but_does_no_harm_is_not_blamed() -> None:
    same = Edit(
        "reference.optim.adamw", "param * (1 - float(lr) * weight_decay)", "(1 - float(lr) * weight_decay) * param"
    )
    assert blamed("optim.adamw", broken(HALVED, same)).places == ("optim._running_means",)


def test_code_outside_of_functions_is_blamed() -> None:
    unbanned = Edit("reference.generate", "BANNED = -np.inf", "BANNED = 0.0")
    assert blamed("generate.ban_word", broken(unbanned)).places == ("generate",)


def test_the_tries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "ATTEMPTS", 0)
    assert blamed("optim.adamw", broken(HALVED)).places == ("optim.adamw",)  # by its own rule


# Any other backend: functions are judged by their own rules, innermost first.


@pytest.mark.parametrize(
    ("edit", "rule", "place"),
    [
        (Edit("reference.optim.global_norm", "np.sqrt", "np.abs"), "optim.clip_by_global_norm", "optim.global_norm"),
        (
            Edit("reference.gradients.ops.softmax_vjp", "np.sum(grad * y", "np.sum(y"),
            "attention.attention_vjp",
            "ops.softmax_vjp",
        ),
        (
            Edit("reference.ops.softmax", "return weights /", "return weights * weights /"),
            "attention.attention",
            "ops.softmax",
        ),
    ],
    ids=["of training", "of gradients", "of the forward pass"],
)
def test_the_innermost_function_is_blamed(edit: Edit, rule: str, place: str) -> None:
    fault = blamed(rule, broken(edit), originals=False)
    assert fault.places == (place,)
    assert fault.text.startswith(f"{place}: ")
    assert "reference/" in fault.text.splitlines()[1]


def test_what_has_no_rule_of_its_own_is_named() -> None:
    fault = blamed("engine.cached", mutant("the cache overwritten at its start").backend(), originals=False)
    assert fault.places == ()
    assert "fast.attention_fast" in fault.text.splitlines()[1]  # agrees by itself: its rule draws no cache
    assert "fast.make_cache" in fault.text.splitlines()[2]


# MindSpore: new graphs are compiled from the originals.


@pytest.mark.parametrize("originals", [True, False])
def test_a_compiled_function_is_blamed(originals: bool) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: there are no graphs")
    edit = Edit("ms_backend.ops.relu", "ops.relu(x)", "ops.relu(x + 1)")
    assert blamed("ops.relu", broken(edit, engine="mindspore", mode="graph"), originals).places == ("ops.relu",)


def test_two_methods_of_an_engine_are_blamed_together() -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: its engine cannot run")
    places = blamed("engine.cached", mutant("MindSpore: the slot compiled in").backend()).places
    assert places == ("engine.cache.Cache.__init__", "engine.decoder.MindSporeDecoder.read")


def test_originals_say_nothing_of_what_is_wrapped_around_a_copy() -> None:
    kind = type(broken(HALVED))

    class Wrapped(kind):  # type: ignore[misc, valid-type]
        def call(self, function: str, arguments: dict[str, object]) -> object:
            return super().call(function, {**arguments, "lr": np.float32(0)})

    assert swap.swapped_cure(rules()["optim.adamw"], failing("optim.adamw", Wrapped())) is None
