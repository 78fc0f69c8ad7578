"""Caches and classifiers of other people's models: judged where there are any, and each bug of a cache is seen."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2.backends import Backend
from parity.cases.supports import Supports
from parity.check import agrees, draw, rules, select
from parity.diagnosis.diagnose import explain
from parity.ports.decoder import is_batch_first
from parity.ports.port import get_port
from parity.verdict.trial import Trial, decide
from reference.config import GPT2Config
from tests.gpt2.command import run
from tests.gpt2.small import parameters

AFTER_ANY_CALLS = "laws.a_decoder_is_the_plain_model_after_any_calls"
MODEL = """
import numpy as np

from reference import model
from reference.config import nest


class Model:
    def __init__(self, config, parameters):
        self.config, self.params = config, nest(parameters)

    def forward(self, ids, past_key_values=None, attention_mask=None, position_ids=None, use_cache=False):
        past = past_key_values
        known = past[0][0].shape[2] if past else 0
        scores, cache = model.language_model(self.params, ids, self.config, attention_mask, position_ids, past)
        return (scores, cache) if use_cache else scores

    def __call__(self, *given, **named):
        return self.forward(*given, **named)


def build(config, parameters):
    return Model(config, parameters)
"""
WITHOUT_MASK = MODEL.replace(" attention_mask=None, position_ids=None,", "").replace(
    "attention_mask, position_ids", "None, None"
)
READ = "        known = past[0][0].shape[2] if past else 0\n"
CLASSIFIER = """
from reference import model
from reference.config import nest


def build(config, parameters):
    if "score.weight" not in parameters:
        raise NotImplementedError("a language model")

    def scores(ids, attention_mask=None, position_ids=None):
        return model.sequence_classifier(nest(parameters), ids, config, attention_mask, position_ids)

    return scores
"""
RETURNED = "model.sequence_classifier(nest(parameters), ids, config, attention_mask, position_ids)"
HIDDEN = "model.gpt2(nest(parameters), ids, config, attention_mask, position_ids)[0] @ parameters['score.weight'].T"


def port(folder: Path, text: str = MODEL, old: str = "", new: str = "", supports: Any = None) -> Backend:
    """The port in that text, with a part of it replaced."""
    assert old in text
    file = folder / "cached_model.py"
    declared = f"\nsupports = {supports!r}\n" if supports else ""
    file.write_text((text.replace(old, new) if old else text) + declared, encoding="utf-8")
    return get_port(f"{file}:build")


@dataclasses.dataclass
class Judged:
    """What a rule says on the first cases, up to one that differs; nothing is shrunk, which would take long."""

    agrees: bool = True
    cases: int = 0
    not_offered: set[str] = dataclasses.field(default_factory=set)


def judged(backend: Backend, name: str, examples: int = 12) -> Judged:
    rule, found = rules()[name], Judged()
    for case in draw(rule, np.dtype(np.float32), examples, supports=Supports.of(backend)):
        try:
            found.agrees = all(verdict.agrees for verdict in decide(rule.judge, Trial(case, backend)))
        except NotImplementedError as error:
            found.not_offered.add(str(error))
            continue
        found.cases += 1
        if not found.agrees:
            break
    return found


@pytest.mark.parametrize("rule", ["engine.cached", AFTER_ANY_CALLS, "laws.a_cache_changes_no_choice"])
def test_a_right_cache_agrees(rule: str, tmp_path: Path) -> None:
    backend = port(tmp_path)
    assert rule in select((), backend)
    result = judged(backend, rule, 4)
    assert result.agrees
    assert result.cases >= 4
    assert not result.not_offered


# Lines after READ, and a rule that they break.
BUGS = {
    "positions start again": ("position_ids = np.arange(ids.shape[1])[None] if position_ids is None else position_ids",
                              "engine.cached"),
    "pads of the past are seen": ("if attention_mask is not None: attention_mask[:, :known] = 1", "engine.cached"),
    "the last is forgotten": ("past = past and [(k * (np.arange(known) < known - 1)[:, None], v) for k, v in past]",
                              "engine.cached"),
    "keys for values": ("past = past and [(v, k) for k, v in past]", AFTER_ANY_CALLS),
    "the first layer's": ("past = past and [past[0]] * len(past)", AFTER_ANY_CALLS),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_of_the_cache_is_seen(bug: str, tmp_path: Path) -> None:
    line, rule = BUGS[bug]
    spoiled = port(tmp_path, old=READ, new=f"{READ}        {line}\n")
    assert judged(spoiled, "engine.logits", 4).agrees
    assert not judged(spoiled, rule).agrees


OWN_ORDER = """
class Cache(list):
    def reorder_cache(self, rows):
        self[:] = [(k[rows], v[rows]) for k, v in self]


def build("""


@pytest.mark.parametrize(("order", "agrees"), [("rows", True), ("sorted(rows)", False)])
def test_a_cache_has_its_own_order(order: str, agrees: bool, tmp_path: Path) -> None:
    text = MODEL.replace("def build(", OWN_ORDER).replace("[(k[rows]", f"[(k[{order}]")
    backend = port(tmp_path, text, "(scores, cache)", "(scores, Cache(cache))")
    assert judged(backend, AFTER_ANY_CALLS).agrees == agrees


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("past_key_values", "past", "a cache: the model takes no past_key_values"),
        ("return (scores, cache) if use_cache else scores", "return scores", "returns no past_key_values"),
        ("pass", "", "past"),
    ],
)
def test_without_a_cache_nothing_is_blamed(old: str, new: str, said: str, tmp_path: Path) -> None:
    declared = {"past": False} if old == "pass" else None
    backend = port(tmp_path, MODEL, "" if declared else old, new, declared)
    shown = select((), backend)
    assert "engine.logits" in shown
    assert "engine.cached" not in shown
    assert not any(rule.generates for rule in shown.values())
    result = judged(backend, "engine.cached")
    assert not result.cases
    assert all(said in reason for reason in result.not_offered)


def test_a_cache_of_another_form_is_read_but_not_reordered(tmp_path: Path) -> None:
    text = MODEL.replace("past = past_key_values", "past = [tuple(x.swapaxes(0, 2) for x in pair) for pair in "
                         "past_key_values or ()] or None")  # fmt: skip
    backend = port(tmp_path, text, "(scores, cache)", "(scores, [tuple(x.swapaxes(0, 2) for x in p) for p in cache])")
    assert judged(backend, "engine.cached", 4).cases >= 4
    refused = judged(backend, AFTER_ANY_CALLS)
    assert refused.agrees
    assert refused.not_offered == {"another order of a cache of type list"}


def test_what_is_usual_is_left_to_the_model(tmp_path: Path) -> None:
    """A model without a mask and positions is judged wherever the text has no pads and its positions count from 0."""
    text = MODEL.replace(" attention_mask=None, position_ids=None,", "").replace(
        "attention_mask, position_ids", "None, None"
    )
    backend = port(tmp_path, text)
    for rule in ("engine.cached", "laws.a_decoder_reads_in_pieces", "laws.decoders_do_not_meet"):
        result = judged(backend, rule, 4)
        assert result.agrees
        assert result.cases >= 4
    config = GPT2Config(vocab_size=11, n_positions=8, n_embd=6, n_layer=2, n_head=2)
    decoder = backend.model(config, parameters(config)).decoder(1, 3)
    decoder.read(np.array([[1, 2]]), np.array([[1, 1]]), np.array([[0, 1]]))
    with pytest.raises(NotImplementedError, match="position_ids"):
        decoder.read(np.array([[3]]), np.array([[1]]), np.array([[0]]))


def test_no_rule_objects_to_a_model_of_scores_alone(tmp_path: Path) -> None:
    """It has no stages, mask or positions."""
    backend = port(tmp_path, WITHOUT_MASK)
    for name in select((), backend):
        assert judged(backend, name, 2).agrees, name


def test_a_cache_has_another_name(tmp_path: Path) -> None:
    port(tmp_path, MODEL, "past_key_values", "earlier")
    backend = get_port(f"{tmp_path}/cached_model.py:build;past_key_values=earlier")
    assert judged(backend, "engine.cached", 4).cases >= 4


def test_batches_come_first() -> None:
    pair = (np.zeros((3, 1, 2, 2)),) * 2
    assert is_batch_first([pair], 3)
    assert not is_batch_first([pair], 2)
    assert not is_batch_first({"k": pair[0]}, 3)


def test_a_port_with_a_cache_writes_text(tmp_path: Path) -> None:
    port(tmp_path)
    ran = run("generate", "tiny", "sort: cba", "--backend", f"port:{tmp_path}/cached_model.py:build")
    assert ran.out == run("generate", "tiny", "sort: cba", "--backend", "numpy").out


BY_ID = (
    f"last = np.max((ids != config.pad_token_id) * np.arange(ids.shape[1]), axis=1)\n        "
    f"return ({HIDDEN})[np.arange(len(ids)), last]"
)


@pytest.mark.parametrize(
    ("returned", "agrees"),
    [
        (f"return {RETURNED}", True),
        (BY_ID, True),
        (BY_ID.replace("np.max(", "-1 + np.max("), False),
        (BY_ID.replace("ids != config.pad_token_id", "ids == ids"), False),
    ],
    ids=["by the mask", "by the pad's id", "the last but one", "the last column"],
)
def test_a_classifier_finds_its_last_token(returned: str, agrees: bool, tmp_path: Path) -> None:
    text = f"import numpy as np\n{CLASSIFIER}"
    result = judged(port(tmp_path, text, f"return {RETURNED}", returned), "engine.classify", 40)
    assert result.agrees == agrees
    assert not agrees or result.cases >= 24


def test_a_port_may_have_classifiers_alone(tmp_path: Path) -> None:
    backend = port(tmp_path, CLASSIFIER)
    assert "engine.classify" in select((), backend)
    assert not {"engine.logits", "engine.cached"} & select((), backend).keys()


def test_a_classifier_may_take_no_mask(tmp_path: Path) -> None:
    text = CLASSIFIER.replace("(ids, attention_mask=None, position_ids=None)", "(ids)")
    backend = port(tmp_path, text.replace("attention_mask, position_ids)", "None, None)"))
    result = judged(backend, "engine.classify", 20)
    assert result.agrees
    assert result.cases >= 4
    assert {"attention_mask", "position_ids"} <= result.not_offered


@pytest.mark.parametrize("text", [MODEL, MODEL.replace("nest(parameters)", "nest({n: parameters[n] for n in ('h',)})")])
def test_who_builds_no_classifier_is_not_blamed(text: str, tmp_path: Path) -> None:
    backend = port(tmp_path, text)
    assert "engine.classify" not in select((), backend)
    ran = run("check", "engine.classify", "--with", f"{tmp_path}/cached_model.py:build")
    assert ran.code == 3
    assert "not offered: a classifier: " in ran.out


def test_a_bug_of_the_cache_is_not_blamed_on_what_agrees(tmp_path: Path) -> None:
    """The plain model is judged by itself without the dropout that no port gets."""
    line, rule = BUGS["positions start again"]
    backend = port(tmp_path, old=READ, new=f"{READ}        {line}\n")
    cases = draw(rules()[rule], np.dtype(np.float32), 12, supports=Supports.of(backend))
    failed = next(case for case in cases if not agrees(rules()[rule], Trial(case, backend)))
    assert explain(rules()[rule], Trial(failed, backend)).endswith("these agree by themselves: model.language_model")
