"""The scores are those of the packages that others use, and of the papers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from gpt2.errors import GPT2Error
from gpt2.evaluation import metrics
from gpt2.evaluation.generation_tasks import first_sentences


@given(*[st.lists(st.text("ab9 .,'-\nZ", max_size=20), min_size=3, max_size=3)] * 2)
def test_english_is_scored_as_by_rouge_score_alone(answers: list[str], references: list[str]) -> None:
    scorer = RougeScorer(metrics.ROUGE)
    each = [scorer.score(*both) for both in zip(references, answers, strict=True)]
    assert metrics.rouge(answers, references) == {
        name: 100 * sum(one[name].fmeasure for one in each) / 3 for name in metrics.ROUGE
    }


@given(*[st.text("中文好今天", max_size=12)] * 2)
def test_chinese_is_scored_by_characters(answer: str, reference: str) -> None:
    spelt = [
        "".join(f" {'abcde'['中文好今天'.index(character)]} " for character in text) for text in (reference, answer)
    ]
    each = RougeScorer(metrics.ROUGE).score(*spelt)
    assert metrics.rouge([answer], [reference]) == {name: 100 * each[name].fmeasure for name in metrics.ROUGE}


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("кот сидел на окне весь день", "правительство сократило налоги осенью", "0.00"),
        ("Кот сидел, на окне.", "кот спал на окне", "75.00"),
        ("कुत्ता सो रहा है", "बिल्ली सो रही है", "50.00"),
        ("القطة نائمة", "الكلب نائم", "0.00"),
        ("고양이가 잔다", "고양이가 논다", "50.00"),
        ("cafe\u0301 noir", "CAFÉ", "66.67"),
        ("naïve", "nave", "0.00"),
        ("ไทย", "ไกล", "33.33"),
        ("カメラ", "カメ", "80.00"),
        ("新GPT模型2020", "旧gpt模型 2020", "80.00"),
        ("♥️ 👍🏽", "♥️ 👍🏽", "0.00"),
    ],
)
def test_other_scripts_are_scored_by_their_words(answer: str, reference: str, expected: str) -> None:
    assert f"{metrics.rouge([answer], [reference])['rouge1']:.2f}" == expected


@given(st.text("ab9 Z.,_-\n中文，。好", max_size=30))
def test_english_and_chinese_are_split_as_ever(text: str) -> None:
    assert metrics.WordsAndCharacters().tokenize(text) == re.findall(r"[a-z0-9]+|[^\W_]", text.lower())


def test_exact_match_and_f1_are_those_of_squad() -> None:
    assert metrics.normalized("  The U.S. -- a Nation, an  idea") == "us nation idea"
    assert metrics.exact_match("The Cat!", ["dog", "cat"]) == 100
    assert metrics.exact_match("cats", ["cat"]) == 0
    assert metrics.f1("the cat sat", ["a dog", "cat sat down"]) == 80
    assert metrics.f1("cat cat", ["cat"]) == 200 / 3
    assert (metrics.f1("", [""]), metrics.f1("a", [""]), metrics.f1("x", [""])) == (100, 100, 0)


def test_chinese_bleu() -> None:
    score, signature = metrics.bleu(["今天天气很好"], ["今天天气很好"], "zh")
    assert f"{score:.2f}" == "100.00"
    assert "tok:zh" in signature
    with pytest.raises(GPT2Error, match=r"^sacrebleu has no tokenizer 'klingon': choose one of none, zh, "):
        metrics.bleu(["a"], ["a"], "klingon")


def test_sentences_end_with_their_marks() -> None:
    assert first_sentences("One. Two 2.5! 三。四？\nFive", 9) == ["One.", "Two 2.5!", "三。", "四？", "Five"]
    assert first_sentences("One. Two. Three. Four.", 3) == ["One.", "Two.", "Three."]
    assert first_sentences(" \n", 3) == []
