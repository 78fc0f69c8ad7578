"""Compiled graphs are kept: for other numbers in the same shapes nothing is compiled, and the numbers are the same."""

import dataclasses
import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mindspore.graph.api import ms_compile_cache

from gpt2 import get_backend
from ms_backend.engine import backend as engine
from ms_backend.engine import model as models
from ms_backend.engine.runner import Kept, form
from parity.cases.cases import Case
from parity.check import draw, rules
from parity.mutants.base import Edit, Twin
from parity.verdict.trial import Trial
from reference.config import GPT2Config
from tests.reference.small import CONFIG, IDS, parameters

Array = np.ndarray
# One of each kind: gradients, trees of parameters and of masks, options, whole models.
RULES = ("ops.embedding_vjp", "model.block_vjp", "generate.sample", "engine.cached", "engine.classify")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with nothing compiled.

    And with little for the garbage collector to walk: `compiles` has it run.
    """
    gc.freeze()
    monkeypatch.setattr(engine, "COMPILED", Kept(64))
    monkeypatch.setattr(models, "PLACED", Kept(16))


def run(case: Case) -> list[Array]:
    return Trial(case, get_backend("mindspore", mode="graph")).run()


def compiles(work: Callable[[], Any]) -> int:
    """How many graphs are compiled for some work."""
    gc.collect()
    before = len(ms_compile_cache)
    work()
    gc.collect()
    return len(ms_compile_cache) - before


@pytest.mark.parametrize("name", RULES)
def test_other_numbers_are_not_compiled_again_and_give_what_a_new_graph_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = draw(rules()[name], np.dtype(np.float32), 12)[-1]
    other = dataclasses.replace(first, seed=first.seed + 1)
    before = run(first)
    again: list[list[Array]] = []
    assert compiles(lambda: again.extend(map(run, (other, first)))) == 0
    monkeypatch.setattr(engine, "COMPILED", Kept(64))
    monkeypatch.setattr(models, "PLACED", Kept(16))
    new: list[Array] = []
    assert compiles(lambda: new.extend(run(other))) > 0
    for x, y in [*zip(again[0], new, strict=True), *zip(again[1], before, strict=True)]:
        assert x.tobytes() == y.tobytes()
    assert any(x.tobytes() != y.tobytes() for x, y in zip(before, new, strict=True))


def relu(x: Any, dtype: str = "float32") -> Array:
    return get_backend("mindspore", mode="graph", dtype=dtype).call("ops.relu", {"x": np.array(x, np.float32)})


def test_another_shape_or_dtype_is_another_graph() -> None:
    assert relu([1.0, -1.0]).tolist() == [1, 0]
    assert compiles(lambda: relu([[1.0, -1.0]])) == 1
    assert compiles(lambda: relu([1.0, -1.0], "float16")) == 1
    assert relu([1.0, -1.0], "float16").dtype == np.float16
    assert compiles(lambda: relu([3.0, 4.0])) == 0


def test_another_constant_is_another_graph() -> None:
    def thinned(rate: float) -> float:
        given = {"x": np.ones(1, np.float32), "keep": np.ones(1, bool), "rate": rate}
        return get_backend("mindspore", mode="graph").call("ops.dropout", given).item()

    assert [thinned(rate) for rate in (0.5, 0.0, 0.75, 0.5)] == [2, 1, 4, 2]
    assert form({"a": 1}) != form({"a": 1.0}) != form({"a": True})
    assert form({"a": 0.0}) != form({"a": -0.0})
    assert form(GPT2Config()) != form(GPT2Config(layer_norm_epsilon=1e-6))


def test_a_graph_that_failed_is_not_taken_again() -> None:
    backend = get_backend("mindspore", mode="graph")

    def look_up(*ids: int) -> list[float]:
        given = {"ids": np.array([ids]), "weight": np.arange(4, dtype=np.float32)[:, None]}
        return backend.call("ops.embedding", given).ravel().tolist()

    assert look_up(1, 2) == [1, 2]
    with pytest.raises(RuntimeError, match="1000000"):
        look_up(1, 10**6)
    assert look_up(1, 2) == [1, 2]


def test_a_copy_of_the_sources_has_graphs_of_its_own() -> None:
    twin = Twin("twice", (Edit("ms_backend.ops.relu", "return ", "return 2 * "),), "mindspore").backend(mode="graph")
    given = {"x": np.ones(1, np.float32)}
    backends = [get_backend("mindspore", mode="graph"), twin] * 2
    assert [backend.call("ops.relu", given).item() for backend in backends] == [1, 2, 1, 2]


def test_a_model_takes_over_what_another_has_compiled_when_that_is_gone() -> None:
    halved = {name: x / 2 for name, x in parameters().items()}
    backend = get_backend("mindspore", mode="graph")

    def logits(weights: dict[str, Array]) -> Array:
        return backend.model(CONFIG, weights).logits(IDS)

    first, second = logits(parameters()), logits(halved)
    held = [backend.model(CONFIG, parameters())]
    assert compiles(lambda: held[0].logits(IDS)) == 0
    assert compiles(lambda: logits(halved)) == 1  # the other is in use
    assert (held[0].logits(IDS) == first).all()
    assert (logits(halved) == second).all()
    decoder = held[0].decoder(2, 8)
    decoder.read(IDS, np.ones_like(IDS), np.broadcast_to(np.arange(IDS.shape[1]), IDS.shape))
    held.clear()
    expected = decoder.greedy()
    for _ in range(2):
        logits({name: np.zeros_like(x) for name, x in parameters().items()})
    decoder.advance()  # its model is in use as long as the decoder is
    after = np.concatenate((IDS, expected[:, None]), axis=1)
    assert (decoder.greedy() == backend.model(CONFIG, parameters()).logits(after)[:, -1].argmax(axis=-1)).all()


def test_a_model_of_another_form_or_mode_takes_over_nothing() -> None:
    def logits(config: GPT2Config = CONFIG, mode: str = "graph") -> Array:
        return get_backend("mindspore", mode=mode).model(config, parameters()).logits(IDS)

    compiled = logits()
    sharp = dataclasses.replace(CONFIG, layer_norm_epsilon=0.5)
    assert compiles(lambda: logits(sharp)) == 1
    assert not (logits(sharp) == compiled).all()
    assert compiles(lambda: logits(mode="pynative")) == 0
    assert compiles(logits) == 0
    assert (logits() == compiled).all()


def test_what_is_kept_is_bounded_and_the_last_stay() -> None:
    kept = Kept(2)
    for key in "abc":
        kept.give(key, key.upper())
    assert [kept.take(key) for key in "abc"] == [None, "B", "C"]
    assert kept.take("c") is None  # nobody else gets what is taken


def test_what_is_given_back_during_a_take_is_not_taken_twice() -> None:
    """The garbage collector may give back at any moment, for example while keys are compared."""
    kept = Kept(2)

    class Key(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            kept.give("c", "C")
            return str.__eq__(self, other)

    kept.give("a", "A")
    kept.give("b", "B")
    assert kept.take(Key("b")) == "B"
    assert kept.take("b") is None
    assert kept.take("c") == "C"


def test_threads_do_not_share_a_graph_in_use() -> None:
    numbers = [np.float32([i, -i]) for i in range(1, 9)]
    found: list[list[Any]] = [[] for _ in range(4)]

    def work(results: list[Any]) -> None:
        for _ in range(5):
            results.extend(relu(x).tolist() for x in numbers)

    threads = [threading.Thread(target=work, args=(results,)) for results in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results == [[i, 0] for _ in range(5) for i in range(1, 9)] for results in found)
