"""GPT-2 of Hugging Face transformers on PyTorch: an implementation that nobody here wrote. Neither side is privileged:
both are judged by the float64 reference and this input's rounding noise.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

import gpt2
from benchmarks.peers.client import Peer
from gpt2.backends import Backend, numpy_dtype
from gpt2.model.model import positions
from parity.cases.cases import Case
from reference.config import nest
from tests.peers.engines import ATTENTIONS, accuracy_of, ask_about, backend_of, for_all
from tests.peers.question import Question, expect_agreement, may_be_level, questions, to_classify

pytestmark = pytest.mark.peer

Array = NDArray[Any]
NEW_TOKENS = 6


def by_stage(question: Question, answer: Mapping[str, Array]) -> dict[str, Array]:
    """Scores and hidden states of transformers under the names of our stages."""
    hidden = {stage: answer[f"hidden_states.{i}"] for i, stage in enumerate(question.hidden_states)}
    assert len(answer) == len(hidden) + 1
    return {**hidden, question.head: answer["logits"]}


def test_logits_and_hidden_states(hugging_face: Peer, engine: str) -> None:
    """A folder that we wrote gives there what it gives here, layer by layer."""
    backend = backend_of(engine)

    @for_all(engine, question=questions("language_model") | questions("language_model", padded), attention=ATTENTIONS)
    def law(question: Question, attention: str) -> None:
        model = question.model(backend)
        expect_agreement(f"{engine}, stages", model.stages(**question.inputs), question, backend.accuracy)
        expect_agreement(engine, {"logits": model.logits(**question.inputs)}, question, backend.accuracy)
        answer = ask_about(model, question, hugging_face, "logits", attention=attention)
        expect_agreement(f"transformers, {attention}", by_stage(question, answer), question, accuracy_of(hugging_face))


def padded(case: Case) -> Case:
    """The case with pads on the left or on the right, and room for some."""
    case = longer(case, tokens=case.sizes["T"] + 2)
    padding = "right" if case.padding in ("right", "both") else "left"
    return dataclasses.replace(case, padding=padding, absent=case.absent - {"attention_mask"})


def longer(case: Case, tokens: int, context: int | None = None) -> Case:
    """The case with that many tokens, in a context that they fit."""
    sizes = {**case.sizes, "T": tokens, "S": tokens, "L": max(case.sizes["L"], context or tokens)}
    config = dataclasses.replace(case.scalars["config"], n_positions=sizes["L"])
    return dataclasses.replace(case, sizes=sizes, scalars={"config": config})


def test_classification(hugging_face: Peer, engine: str) -> None:
    """So does a classifier."""
    backend = backend_of(engine)

    @for_all(engine, question=to_classify(questions), attention=ATTENTIONS)
    def law(question: Question, attention: str) -> None:
        model = question.model(backend)
        expect_agreement(f"{engine}, stages", model.stages(**question.inputs), question, backend.accuracy)
        expect_agreement(engine, {"label_logits": model.classify(**question.inputs)}, question, backend.accuracy)
        answer = ask_about(model, question, hugging_face, "classify", attention=attention)
        expect_agreement(f"transformers, {attention}", by_stage(question, answer), question, accuracy_of(hugging_face))


def test_past(hugging_face: Peer, engine: str) -> None:
    """The cache is a matter of speed: what is read in parts gives what the whole gives."""
    backend = backend_of(engine)

    @for_all(engine, question=questions("language_model"), length=st.integers(1, 7), attention=ATTENTIONS)
    def law(question: Question, length: int, attention: str) -> None:
        past = length % question.ids.shape[1]
        model = question.model(backend)
        expect_agreement(
            f"{engine}, past", {"logits": read_with_past(question, backend, past)}, question, backend.accuracy
        )
        expect_agreement(f"{engine}, decoder", {"logits": decode(question, model, past)}, question, backend.accuracy)
        answer = ask_about(model, question, hugging_face, "logits", attention=attention, past=past)
        expect_agreement(f"transformers, {attention}", by_stage(question, answer), question, accuracy_of(hugging_face))


def read_with_past(question: Question, backend: Backend, past: int) -> Array:
    """logits (B, T, V) of two calls of the plain function, the second given what the first has returned."""
    parts: list[Array] = []
    kept: dict[str, Any] = {}
    length = question.ids.shape[1]
    for start, end in [(0, past), (past, length)] if past else [(0, length)]:
        arguments = {
            "params": nest(question.parameters),
            "config": question.config,
            "ids": question.ids[:, start:end],
            "attention_mask": question.mask[:, :end],
            "position_ids": question.positions[:, start:end],
        }
        logits, presents = backend.call("model.language_model", {**arguments, **kept})
        kept = {"past": presents}
        parts.append(logits)
    return np.concatenate(parts, axis=1)


def decode(question: Question, model: gpt2.Model, past: int) -> Array:
    """logits (B, T, V): the static cache's, read at once up to `past`, then id by id; before that, the whole's."""
    logits = model.logits(**question.inputs)
    length = question.ids.shape[1]
    decoder = model.engine.decoder(len(question.ids), length)
    stops = [0, *range(max(past, 1), length + 1)]
    for start, end in itertools.pairwise(stops):
        decoder.read(*(x[:, start:end] for x in (question.ids, question.mask, question.positions)))
        logits[:, end - 1] = decoder.logits()
    return logits


@pytest.mark.parametrize("head", ["language_model", "sequence_classifier"])
def test_folder_saved_by_transformers(hugging_face: Peer, engine: str, head: str) -> None:
    """What transformers writes, in one file or in shards, is here the same model, bit for bit."""
    asked = questions(head) if head == "language_model" else to_classify(questions)
    dtypes, sizes = st.sampled_from(["float32", "float16", "bfloat16"]), st.none() | st.integers(1, 1000)

    @for_all(engine, question=asked, dtype=dtypes, max_shard_size=sizes)
    def law(question: Question, dtype: str, max_shard_size: int | None) -> None:
        expected = {name: x.astype(numpy_dtype(dtype)) for name, x in question.parameters.items()}
        fields = {"config": question.config.to_dict(), "head": head, "dtype": dtype, "max_shard_size": max_shard_size}
        with tempfile.TemporaryDirectory() as room:
            hugging_face.ask("save", question.parameters, folder=room, **fields)
            model = gpt2.load(room, backend_of(engine))
        assert model.config == question.config
        assert {name: bits(x) for name, x in model.parameters.items()} == {
            name: bits(x) for name, x in expected.items()
        }
        value = (model.logits if head == "language_model" else model.classify)(**question.inputs)
        rounded = dataclasses.replace(question, parameters={n: x.astype(np.float32) for n, x in expected.items()})
        expect_agreement(engine, {question.head: value}, rounded, model.backend.accuracy)


def bits(x: Array) -> tuple[str, tuple[int, ...], bytes]:
    """All that an array is."""
    return x.dtype.name, x.shape, x.tobytes()


def test_greedy_generation(hugging_face: Peer, engine: str) -> None:
    """The likeliest ids are the same ids, but where this input's noise may decide between two of them."""
    backend = backend_of(engine)
    near_ties = sequences = 0

    @for_all(engine, question=questions("language_model", to_be_continued), stop=st.none() | st.integers(0, 23))
    def law(question: Question, stop: int | None) -> None:
        nonlocal near_ties, sequences
        stop = None if stop is None else stop % question.config.vocab_size
        question = dataclasses.replace(question, config=dataclasses.replace(question.config, eos_token_id=stop))
        model = question.model(backend)
        theirs = ask_about(model, question, hugging_face, "generate", max_new_tokens=NEW_TOKENS)["ids"]
        ours = model.generate(question.ids, NEW_TOKENS, attention_mask=question.mask)
        for mask, *rows in zip(question.mask, ours, theirs, strict=True):
            near_ties += parts_at_near_tie(question, mask, *rows)
            sequences += 1

    print(f"{engine}: {sequences} sequences, of which {near_ties} part at a near tie")


def to_be_continued(case: Case) -> Case:
    """The case as a prompt: room for new tokens, pads on the left or nowhere, positions that count the tokens."""
    case = longer(case, tokens=case.sizes["T"], context=case.sizes["T"] + NEW_TOKENS)
    padding = "left" if case.padding in ("left", "both") else "none"
    absent = (case.absent | {"position_ids"}) - {"attention_mask"}
    return dataclasses.replace(case, padding=padding, absent=absent)


def parts_at_near_tie(question: Question, mask: Array, ours: Array, theirs: Array) -> bool:
    """Whether two continuations (T + new,) of one sequence part. Raises AssertionError if that is not at a near tie."""
    length = min(len(ours), len(theirs))
    parted = np.flatnonzero(ours[:length] != theirs[:length])
    if not len(parted):
        assert len(ours) == len(theirs)
        return False
    at = int(parted[0])
    read = np.concatenate([mask, np.ones(at - len(mask), mask.dtype)])[None]
    prefix = dataclasses.replace(question, ids=ours[None, :at], attention_mask=read, position_ids=positions(read))
    assert may_be_level(prefix, ours[at], theirs[at]), f"id {at} is {ours[at]} here, {theirs[at]} in transformers"
    return True
