"""Perplexity, last words and blanks: what each measures, on models that know the answers and models that do not."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.backends import Backend
from gpt2.errors import GPT2Error
from gpt2.evaluation import Run, evaluate
from gpt2.evaluation.likelihood import token_log_probabilities, windows
from parity.verdict.stages import stage_references
from parity.verdict.verdict import judge
from reference.ops import log_softmax
from tests.gpt2.evaluation.reciter import CBT, block, reciter, written
from tests.gpt2.small import SMALL, model

# Perplexity.


@given(st.integers(1, 200), st.integers(2, 20), st.data())
def test_windows_score_each_token_but_the_first_once(tokens: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    found = windows(tokens, context, stride)
    unseen = range(0, tokens, context) if stride == context else range(1)
    assert [i for _, first, end in found for i in range(first, end)] == [i for i in range(tokens) if i not in unseen]
    for i, (begin, first, end) in enumerate(found):
        assert begin == i * stride
        assert begin < first
        assert end - begin <= context
        assert i == 0 or first - begin >= context - stride


@pytest.mark.parametrize("stride", [0, 25, -1])
def test_a_stride_leaves_no_token_out(stride: int) -> None:
    with pytest.raises(GPT2Error, match=r"^stride must be from 1 to 24, .* but is "):
        windows(100, 24, stride)


def test_a_context_of_one_token_has_no_perplexity() -> None:
    with pytest.raises(GPT2Error, match="the model's context is one token"):
        windows(100, 1, 1)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("stride", [5, 23])
def test_token_log_probabilities_are_those_of_the_reference(engine: Backend, stride: int, batch_size: int) -> None:
    """Window by window, by hand, in float64; the noise is that of the reference's own float32."""
    ids = np.random.default_rng(3).integers(SMALL.vocab_size, size=90)
    small = model(engine)
    oracle, orbit = [], []
    for begin in range(0, len(ids), stride):
        read = ids[None, begin : begin + SMALL.n_positions]
        scored = read.shape[1] - 1 if begin == 0 else len(ids[begin + SMALL.n_positions - stride :][:stride])
        known = stage_references(SMALL, small.parameters, read, None, None, np.dtype(np.float32), engine.accuracy)
        logits = [known["logits"].oracle, *known["logits"].orbit]
        of_window = [
            log_softmax(each[0].astype(np.float64))[np.arange(read.shape[1] - 1), read[0, 1:]] for each in logits
        ]
        oracle.append(of_window[0][-scored:])
        orbit.append([each[-scored:] for each in of_window[1:]])
        if begin + SMALL.n_positions >= len(ids):
            break
    members = [np.concatenate(member).astype(np.float32) for member in zip(*orbit, strict=True)]
    found = token_log_probabilities(small, ids, stride, Run(batch_size))
    assert found.shape == (89,)
    verdict = judge(found.astype(np.float32), np.concatenate(oracle), members)
    assert verdict.agrees, verdict.explain()


def test_perplexity_of_a_model_that_knows_nothing(tmp_path: Path) -> None:
    """All 128 characters are equally likely: 7 bits for each of the 15 that are predicted, of 16, in 18 bytes."""
    ignorant = reciter()
    ignorant.engine.logits = lambda ids, *_: np.zeros((*ids.shape, 128))  # type: ignore[method-assign]
    report = evaluate(ignorant, "perplexity", written(tmp_path, "a.txt", "an unknown\ntext中"))
    assert report.samples == 15
    assert report.scores == {
        "perplexity": float(np.exp(math.log(128))),
        "loss": math.log(128),
        "word_perplexity": float(np.exp(15 * math.log(128) / 3)),
        "bits_per_byte": 15 * math.log(128) / math.log(2) / 18,
        "bits_per_character": 15 * math.log(128) / math.log(2) / 16,
    }
    assert report.facts == {"stride": 2000, "context": 4000}


def test_perplexity_reads_the_file_as_it_is(tmp_path: Path) -> None:
    text = "one\n\n two \n"
    path = written(tmp_path, "a.txt", text)
    assert evaluate(reciter(text), "perplexity", path).scores["loss"] == 0
    assert evaluate(reciter(text), "perplexity", path).samples == len(text) - 1
    assert evaluate(reciter(text), "perplexity", path, limit=1).samples == len("one") - 1


# Last words and blanks.


PASSAGES = ["the cat sat on the mat", "a dog came in a fog"]


@pytest.mark.parametrize("name", ["lambada_test.jsonl", "lambada.txt"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_lambada(tmp_path: Path, name: str, batch_size: int) -> None:
    lines = [{"text": text} for text in PASSAGES] if name.endswith("l") else "\n\n".join(PASSAGES)
    path = written(tmp_path, name, lines)
    told: list[tuple[int, int]] = []
    perfect = evaluate(reciter(*PASSAGES), "lambada", path, batch_size=batch_size, watch=lambda *of: told.append(of))
    assert perfect.scores == {"accuracy": 100, "perplexity": 1}
    assert told == [(1, 2), (2, 2)][batch_size - 1 :]
    half = evaluate(reciter(PASSAGES[0], "a dog came in a fox"), "lambada", path, batch_size=batch_size)
    assert half.scores["accuracy"] == 50
    assert [(one["text"], one["expected"], one["right"]) for one in half.examples] == [
        ("the cat sat on the", "mat", True),
        ("a dog came in a", "fog", False),
    ]
    assert evaluate(reciter(), "lambada", path).scores["accuracy"] == 0


def test_lambada_sees_the_last_tokens_that_the_context_holds(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", PASSAGES[0])
    assert evaluate(reciter(PASSAGES[0], context=8), "lambada", path).scores["accuracy"] == 100
    with pytest.raises(GPT2Error, match=r"line 1: 4 tokens to score leave no room .*: the context is 4$"):
        evaluate(reciter(context=4), "lambada", path)


def test_the_childrens_book_test(tmp_path: Path) -> None:
    path = written(tmp_path, "cbtest_NE_test_2500ex.txt", "\n".join(CBT))
    context = " ".join(["It is so."] * 20)
    right = [f'{context} "Where is Tom?" he said.', f"{context} He didn't see Bob go."]
    wrong = [right[0].replace("Tom", "Ann"), right[1].replace("Bob", "Ann")]
    for known, accuracy in ((right, 100), ([right[0], wrong[1]], 50), (wrong, 0)):
        report = evaluate(reciter(*known), "cbt", path, batch_size=2)
        assert (report.scores, report.samples) == ({"accuracy": accuracy}, 2)
    assert [one["answer"] for one in report.examples] == ["Ann", "Ann"]
    assert report.examples[0]["text"] == f'{context} "Where is XXXXX?" he said.'


def test_of_a_cloze_the_rest_of_the_sentence_decides(tmp_path: Path) -> None:
    """The model expects either name: only what follows tells them apart."""
    path = written(tmp_path, "a.txt", block("Then XXXXX sang .", "Bob", "Ann|Bob"))
    context = " ".join(["It is so."] * 20)
    decided = reciter(f"{context} Then Ann ran.", f"{context} Then Bob sang.")
    assert evaluate(decided, "cbt", path).scores == {"accuracy": 100}


def test_all_candidates_come_after_the_same_text(tmp_path: Path) -> None:
    """However long they are, where the context does not hold it all."""
    names, asked, read = ("Ann", "Bob", "Theodora"), reciter(context=60), []
    engine: Any = asked.engine
    engine.logits = lambda ids, *_: read.extend(map(asked.decode, ids)) or np.zeros((*ids.shape, 128))
    evaluate(asked, "cbt", written(tmp_path, "a.txt", block("Then XXXXX sang .", "Bob", "|".join(names))))
    assert len(read[2]) == 60
    assert len({text.partition(name)[0] for text, name in zip(read, names, strict=False)}) == 1
