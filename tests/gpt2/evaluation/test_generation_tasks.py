"""Summaries, translations and answers that the model writes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gpt2.errors import GPT2Error
from gpt2.evaluation import evaluate, find_task
from gpt2.model.model import load
from tests.gpt2.evaluation.reciter import ARTICLES, COQA, reciter, written


@pytest.mark.parametrize("batch_size", [1, 2])
def test_tldr(tmp_path: Path, batch_size: int) -> None:
    path = written(tmp_path, "a.jsonl", ARTICLES)
    prompts = [f"{one['article']}\nTL;DR:" for one in ARTICLES]
    knowing = reciter(f"{prompts[0]} Match off. Rain. Sad. A fourth.", f"{prompts[1]} 天气好\n")
    told: list[tuple[int, int]] = []
    report = evaluate(knowing, "tldr", path, batch_size=batch_size, watch=lambda *of: told.append(of))
    assert told == [(1, 2), (2, 2)][batch_size - 1 :]
    assert report.scores["rouge1"] == report.scores["rouge2"] == report.scores["rougeL"] == 100
    assert [one["answer"].strip("?\n") for one in report.examples] == ["Match off.\nRain.\nSad.", "天气好"]
    assert set(evaluate(reciter(), "tldr", path).scores.values()) == {0}


@pytest.mark.parametrize("name", ["wmt.jsonl", "hub.json", "pairs.tsv"])
def test_translation(tmp_path: Path, name: str) -> None:
    pairs = [(f"the word {i} is a word", f"le mot {i} est un mot") for i in "abcdefg"]
    if name == "pairs.tsv":
        content: Any = "en\tfr\n" + "".join(f"{en}\t{fr}\n" for en, fr in pairs)
    else:
        plain = [{"en": en, "fr": fr} for en, fr in pairs]
        content = [{"translation": one} for one in plain] if name == "hub.json" else plain
    path = written(tmp_path, name, content)
    shown = "".join(f"{en} = {fr}\n" for en, fr in pairs[:5])
    knowing = reciter(*(f"{shown}{en} = {fr}\nand more" for en, fr in pairs[5:]))
    report = evaluate(knowing, "translation", path)
    assert [one["answer"] for one in report.examples] == [fr for _, fr in pairs[5:]]
    assert (f"{report.scores['bleu']:.2f}", report.samples) == ("100.00", 2)  # as sacrebleu prints it
    assert "tok:13a" in report.facts["sacrebleu"]
    assert evaluate(reciter(), "translation", path).scores == {"bleu": 0}


def test_examples_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", [{"en": f"w{i}", "fr": f"m{i}"} for i in range(4)])
    task = find_task("translation", {"examples": "3", "max_new_tokens": 4})
    knowing = reciter("w1 = m1\nw2 = m2\nw3 = m3\n", context=24)
    assert evaluate(knowing, task, path).examples[0]["answer"] == "m3"


SQUAD = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "Ann has a cat.",
                    "qas": [
                        {"question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]},
                        {
                            "question": "What?",
                            "answers": [{"text": "a cat", "answer_start": 8}, {"text": "the black cat"}],
                        },
                        {"question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}


def test_questions_of_coqa(tmp_path: Path) -> None:
    path = written(tmp_path, "coqa.json", COQA)
    start = "Ann has a cat.\n\nQ: Who?\nA:"
    report = evaluate(reciter(f"{start} Ann\nQ: What?\nA: The cat!\nQ:"), "questions", path)
    assert report.scores == {"exact_match": 100, "f1": 100}
    half = evaluate(reciter(f"{start} Ann\nQ: What?\nA: a black dog\nQ:"), "questions", path)
    assert half.scores == {"exact_match": 50, "f1": 75}
    assert evaluate(reciter(), "questions", path).scores == {"exact_match": 0, "f1": 0}


def test_questions_of_squad(tmp_path: Path) -> None:
    path = written(tmp_path, "dev-v2.0.json", SQUAD)
    start = "Ann has a cat.\n\nQ: "
    knowing = reciter(f"{start}Who?\nA: Ann\n", f"{start}What?\nA: cat\n", f"{start}Why?\nA:\n")
    report = evaluate(knowing, "questions", path, batch_size=2)
    assert (report.scores, report.samples) == ({"exact_match": 100, "f1": 100}, 3)
    assert evaluate(reciter(), "questions", path, limit=1).samples == 1


def test_a_text_too_long_is_cut_at_its_end(tmp_path: Path) -> None:
    path = written(tmp_path, "coqa.json", COQA)
    task = find_task("questions", {"max_new_tokens": 8})
    knowing = reciter("Ann has\n\nQ: Who?\nA: Ann\n", "Ann ha\n\nQ: What?\nA: a cat\n", context=26)
    assert [one["answer"] for one in evaluate(knowing, task, path).examples] == ["Ann", "a cat"]
    with pytest.raises(
        GPT2Error, match=r"data\[0\]\.questions\[0\]: 12 tokens that cannot be cut and 8 new ones exceed"
    ):
        evaluate(reciter(context=19), task, path)


def test_the_first_turns_are_left_out_where_they_do_not_fit(tmp_path: Path) -> None:
    turns = {"questions": [{"input_text": f"q{i}?"} for i in range(3)], "answers": [{"input_text": c} for c in "abc"]}
    path = written(tmp_path, "coqa.json", {"data": [{"story": "Ann.", **turns}]})
    task = find_task("questions", {"max_new_tokens": 2})
    knowing = reciter("Ann.\n\nQ: q1?\nA: b\nQ: q2?\nA: c\n", context=28)
    assert evaluate(knowing, task, path).examples[2]["answer"] == "c"


def test_an_answer_ends_with_the_end_of_text(tmp_path: Path) -> None:
    knowing = reciter("Ann has a cat.\n\nQ: Who?\nA: Ann~~")
    knowing.config = dataclasses.replace(knowing.config, eos_token_id=knowing.tokenizer.token_to_id("~"))
    assert evaluate(knowing, "questions", written(tmp_path, "coqa.json", COQA), limit=1).examples[0]["answer"] == "Ann"


def test_what_is_drawn_does_not_depend_on_the_batch(speaker: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", [{"article": "a" * n, "highlights": "b"} for n in (3, 9, 5, 30)])
    task, loaded = find_task("tldr", {"max_new_tokens": 12}), load(speaker)
    found = [evaluate(loaded, task, path, batch_size=size, seed=4).examples for size in (1, 3, 4)]
    assert found[0] == found[1] == found[2]
    assert len({one["answer"] for one in found[0]}) > 1
    assert evaluate(loaded, task, path, seed=5).examples != found[0]
