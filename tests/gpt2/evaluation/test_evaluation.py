"""`gpt2 eval`: what each task measures, on models that know the answers and models that do not, and what it refuses."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from tokenizers import Tokenizer

from gpt2.backends import Array, Backend
from gpt2.data.records import BrokenLines
from gpt2.errors import GPT2Error
from gpt2.evaluation import EvaluationReport, Run, base, evaluate, find_task, metrics, task_names
from gpt2.evaluation.generation_tasks import first_sentences
from gpt2.evaluation.likelihood import token_log_probabilities, windows
from gpt2.model.model import Model, load
from gpt2.tokenizer import train_tokenizer
from parity.verdict.stages import stage_references
from parity.verdict.verdict import judge
from reference.config import GPT2Config
from reference.ops import log_softmax
from tests.gpt2.command import run
from tests.gpt2.small import SMALL, model

LETTERS = "?" + "".join(map(chr, range(32, 127))).replace("?", "") + "\n中文好今天很气"


class ByHeart:
    """An engine that goes on as the texts do that it knows, and writes ? elsewhere. A token is a character."""

    name, device, dtype, mode = "by heart", "CPU", "float64", "eager"

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self.texts, self.tokenizer = texts, tokenizer

    def model(self, config: GPT2Config, parameters: Any) -> "ByHeart":
        return self

    def next_scores(self, ids: Sequence[int]) -> Array:
        read = self.tokenizer.decode(list(ids))
        found = [text for text in self.texts if read in text[:-1]]
        known = found[0][found[0].index(read) + len(read)] if found else "?"
        scores = np.zeros(len(LETTERS))
        scores[self.tokenizer.token_to_id(known)] = 800  # so much that all else has the probability 0
        return scores

    def logits(self, ids: Array, attention_mask: Any = None, position_ids: Any = None) -> Array:
        return np.array([[self.next_scores(row[: i + 1]) for i in range(len(row))] for row in ids.tolist()])

    def decoder(self, batch_size: int, length: int) -> "Recital":
        return Recital(self, batch_size)


class Recital:
    """A batch that ByHeart continues."""

    def __init__(self, engine: ByHeart, rows: int) -> None:
        self.engine, self.read_ids = engine, [[] for _ in range(rows)]  # type: list[list[int]]

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        for row, new, kept in zip(self.read_ids, ids, attention_mask, strict=True):
            row += new[kept != 0].tolist()

    def greedy(self) -> Array:
        self.chosen = np.array([self.engine.next_scores(row).argmax() for row in self.read_ids])
        return self.chosen

    def sample(self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0) -> Array:
        assert (temperature, top_k, top_p, min_p) == (1.0, 2, 1.0, 0.0)  # GPT-2 paper, section 3.6
        return self.greedy()

    def advance(self) -> None:
        for row, new in zip(self.read_ids, self.chosen.tolist(), strict=True):
            row.append(new)


def reciter(*texts: str, context: int = 4000) -> Model:
    """A model that knows these texts."""
    tokenizer = train_tokenizer("characters", [LETTERS])
    config = GPT2Config(vocab_size=len(LETTERS), n_positions=context, n_embd=2, n_layer=1, n_head=1)
    engine: Any = ByHeart(texts, tokenizer)
    return Model(config, {}, engine, tokenizer)


def written(folder: Path, name: str, content: Any) -> Path:
    """A file with that text; JSON lines of a list, JSON of an object."""
    path = folder / name
    if isinstance(content, list):
        content = "".join(json.dumps(line) + "\n" for line in content)
    path.write_bytes(
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    return path


# Perplexity


@given(st.integers(1, 200), st.integers(2, 20), st.data())
def test_windows_score_each_token_but_the_first_once(tokens: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context - 1))
    found = windows(tokens, context, stride)
    assert [i for _, first, end in found for i in range(first, end)] == list(range(1, tokens))
    for i, (begin, first, end) in enumerate(found):
        assert begin == i * stride
        assert begin < first
        assert end - begin <= context
        assert i == 0 or first - begin >= context - stride


@pytest.mark.parametrize("stride", [0, 24, -1])
def test_a_stride_leaves_a_token_to_look_at(stride: int) -> None:
    with pytest.raises(GPT2Error, match=r"^stride must be from 1 to 23, .* but is "):
        windows(100, 24, stride)


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


# Last words and blanks

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


def block(query: str, answer: str, candidates: str, before: str = "It is so .") -> str:
    """One sample of the Children's Book Test."""
    lines = [f"{i} {before}" for i in range(1, 21)]
    return "\n".join([*lines, f"21 {query}\t{answer}\t\t{candidates}"]) + "\n"


CBT = [
    block("`` Where is XXXXX ? '' he said .", "Tom", "Ann|Tom|Bob"),
    block("He did n't see XXXXX go .", "Bob", "Ann|Tom|Bob"),
]


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


# What the model writes

ARTICLES = [
    {"article": "It rained all day.\nThe match was off.", "highlights": "Match off. Rain. Sad."},
    {"article": "今天天气很好", "highlights": "天气好"},
]


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


COQA = {
    "data": [
        {
            "story": "Ann has a cat.",
            "questions": [{"input_text": "Who?"}, {"input_text": "What?"}],
            "answers": [{"input_text": "Ann"}, {"input_text": "a cat"}],
            "additional_answers": {"0": [{"input_text": "Ann."}, {"input_text": "the black cat"}]},
        }
    ]
}
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


# Scores


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


# What is refused

BAD: list[tuple[str, str, Any, str]] = [
    ("perplexity", "a.txt", b"good\n\xff\n", "a.txt, line 2: the byte 0xff is not UTF-8; save the file as UTF-8"),
    ("perplexity", "a.txt", "x", "the text has 1 token, and the first is not predicted: give at least two"),
    ("perplexity", "a.txt", "\n", "a.txt is empty"),
    ("lambada", "a.jsonl", '{"text": "a b"}\n{"text": "a', "a.jsonl, line 2: not valid JSON"),
    ("lambada", "a.jsonl", '["a b"]', "a.jsonl, line 1: holds a value of type list: expected an object"),
    ("lambada", "a.jsonl", [{"txt": "a b"}], "a.jsonl, line 1: has no field 'text': it has 'txt'"),
    ("lambada", "a.jsonl", [{"text": 3}], "a.jsonl, line 1: 'text' must be a text that is not empty, but is '3'"),
    ("lambada", "a.jsonl", '{"text": "a \\ud800"}', "a.jsonl, line 1: 'text' holds half a character"),
    ("lambada", "a.txt", "a b\nalone\n", "a.txt, line 2: expected a passage of at least two words, but it has 1"),
    ("lambada", "a.txt", "a ü\n", "a.txt, line 1: the tokenizer has no token for 'ü'"),
    ("cbt", "a.txt", "no number\n", "a.txt, line 1: the block that begins here has a line without its number: 'no num"),
    ("cbt", "a.txt", CBT[0] + "\n1 a\n2 b\n", "a.txt, line 23: the block that begins here has 2 sentences"),
    ("cbt", "a.txt", block("No blank", "a", "a|b"), "a.txt, line 1: the query has no XXXXX"),
    ("cbt", "a.txt", block("XXXXX", "c", "a|b"), "different candidates of which 'c' is one, but they are 'a|b'"),
    ("cbt", "a.txt", block("XXXXX", "a", "a|a"), "different candidates of which 'a' is one, but they are 'a|a'"),
    ("cbt", "a.txt", block("XXXXX", "a\tb", "a|b"), "tabs between, but 5 columns"),
    ("tldr", "a.jsonl", [{"article": "a"}], "a.jsonl, line 1 has no field 'highlights': it has 'article'"),
    ("tldr", "a.jsonl", [{"article": " ", "highlights": "b"}], "a.jsonl, line 1 has nothing in 'article'"),
    ("translation", "a.jsonl", [{"en": "a", "fr": "b"}], "a.jsonl holds 1 pairs, and 5 are examples: give more"),
    ("translation", "a.jsonl", [{"translation": {"en": "a"}}], "a.jsonl, line 1: has no field 'fr': it has 'en'"),
    ("translation", "a.jsonl", [{"translation": "a"}], "line 1: expected an object with 'en', but it is of type str"),
    ("questions", "a.json", '{"data":\n [}', "a.json, line 2: not valid JSON (Expecting value)"),
    ("questions", "a.json", b"\xff", "a.json is not valid JSON in UTF-8"),
    ("questions", "a.json", "[" * 100000, "a.json is not valid JSON in UTF-8"),
    ("questions", "a.json", '{"data": ' + "9" * 5000 + "}", "a.json is not valid JSON in UTF-8"),
    ("questions", "a.json", {"data": ["x"]}, "data[0]: expected an object with 'paragraphs', but it is of type str"),
    ("questions", "a.json", "[]", "a.json holds a value of type list: expected an object"),
    ("questions", "a.json", {"version": 1}, "a.json: has no field 'data': it has 'version'"),
    ("questions", "a.json", {"data": [{}]}, "a.json, data[0]: has no field 'paragraphs': it has none"),
    ("questions", "a.json", {"data": [COQA["data"][0] | {"answers": []}]}, "data[0]: 2 questions have 0, 2 answers"),
    ("questions", "a.json", {"data": [COQA["data"][0] | {"additional_answers": 1}]}, "must be an object, but is '1'"),
    ("questions", "a.json", {"data": []}, "a.json holds no sample to judge the model by"),
]


@pytest.mark.parametrize(("task", "name", "content", "message"), BAD)
def test_bad_data_is_named(tmp_path: Path, task: str, name: str, content: Any, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(GPT2Error) as error:
        evaluate(reciter(), task, path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", task_names())
def test_a_file_that_is_not_there(tmp_path: Path, task: str) -> None:
    with pytest.raises(GPT2Error, match=r"^cannot read the data .*none\.json: No such file or directory$"):
        evaluate(reciter(), task, tmp_path / "none.json")


def test_broken_samples_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "a b\nalone\na ü\nc d\n")
    with pytest.warns(
        UserWarning, match=r"^2 of the samples of .* are left out; the first: .*, line 2: expected a pass"
    ):
        report = evaluate(reciter("c d"), "lambada", path, skip_bad=True)
    assert (report.samples, report.skipped) == (2, 2)
    with pytest.raises(GPT2Error, match=r"holds no sample to judge the model by; the first that is broken: .* line 1"):
        evaluate(reciter(), "lambada", written(tmp_path, "b.txt", "a ü"), skip_bad=True)


def test_a_task_needs_a_tokenizer(small: Path, tmp_path: Path) -> None:
    for task, content in (("lambada", "a b"), ("perplexity", "a b"), ("tldr", "article\thighlights\na\tb")):
        with pytest.raises(GPT2Error, match=r"this model has no tokenizer"):
            evaluate(load(small), task, written(tmp_path, "a.tsv", content))


# Plug-ins and the command


@dataclasses.dataclass(frozen=True)
class Lines:
    """A task of somebody else's."""

    factor: int = 1
    unit: str = "lines"

    def read(self, path: Path, broken: BrokenLines) -> list[str]:
        return path.read_text().splitlines()

    def judge(self, model: Model, samples: list[str], run: Run) -> EvaluationReport:
        return EvaluationReport({self.unit: self.factor * len(samples)}, len(samples), [])


class Point:
    """An entry point."""

    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value

    def load(self) -> Any:
        if self.value == "Lines":
            return Lines
        raise ImportError(f"no module {self.value}")


def test_another_package_registers_its_task(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "a\nb\n")
    with mock.patch.object(base, "entry_points", return_value=[Point("lines", "Lines"), Point("gone", "none")]):
        assert task_names()[-2:] == ["gone", "lines"]
        assert evaluate(reciter(), find_task("lines", {"factor": "3"}), path, limit=1).scores == {"lines": 3}
        assert evaluate(reciter(), find_task("lines", {"unit": "7"}), path).scores == {"7": 2}
        with pytest.raises(GPT2Error, match=r"^task 'gone' is registered, but cannot be imported: no module none$"):
            find_task("gone")
        with pytest.raises(GPT2Error, match=r"^task 'lines' has no option 'x': it has factor, unit$"):
            find_task("lines", {"x": 1})


def test_the_command(speaker: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "the cat sat\non the mat\n" * 4)
    facts = json.loads(run("eval", speaker, "perplexity", "--data", path, "--stride", 8, "--json").result)
    assert (facts["task"], facts["samples"], facts["skipped"], facts["stride"]) == ("perplexity", 91, 0, 8)
    assert (facts["backend"], facts["dtype"]) == ("numpy", "float32")
    assert facts["scores"] == evaluate(load(speaker), find_task("perplexity", {"stride": 8}), path).scores
    assert "bits_per_byte" in run("eval", speaker, "perplexity", "--data", path).result


def test_the_command_shows_each_sample(speaker: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "the cat sat\n\non the mat\n")
    out = run("eval", speaker, "lambada", "--data", path, "--examples").result
    assert out.count("expected: ") == out.count("\n---\n") == 2
    assert "text: the cat\nexpected: sat\nright: false\n" in out
    facts = json.loads(run("eval", speaker, "lambada", "--data", path, "--examples", "--json", "--limit", 1).result)
    assert [one["expected"] for one in facts["examples"]] == ["sat"]
    assert "examples" not in json.loads(run("eval", speaker, "lambada", "--data", path, "--json").result)


def test_an_infinite_score_is_null(speaker: Path, tmp_path: Path) -> None:
    """A Chinese text of one word, for those who count spaces."""
    path = written(tmp_path, "a.txt", "今天天气很好" * 80)
    assert (
        json.loads(run("eval", speaker, "perplexity", "--data", path, "--json").result)["scores"]["word_perplexity"]
        is None
    )


def test_the_command_refuses(speaker: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "the cat sat\n")

    def refusal(*arguments: Any) -> str:
        return run("eval", speaker, *arguments, "--data", path).refusal

    assert refusal("chess").startswith("unknown task 'chess': choose one of perplexity, lambada, cbt, tldr, ")
    assert refusal("lambada", "--stride", 3) == "task 'lambada' has no option 'stride': it has none"
    assert refusal("perplexity", "--option", "stride") == "--option must be NAME=VALUE, but is 'stride'"
    assert refusal("perplexity", "--option", "stride=x").endswith("must be an integer, but is 'x'")
    assert refusal("tldr", "--option", "sentences=0") == "sentences must be an integer of at least 1, but is 0"
    assert refusal("translation", "--option", "examples=-1") == "examples must be an integer of at least 0, but is -1"
    path = written(tmp_path, "a.jsonl", ARTICLES)
    assert refusal("tldr", "--option", "max-new-tokens=-1").startswith("max_new_tokens must be ")
    path = written(tmp_path, "b.txt", "the cat sat\n")
    assert refusal("perplexity", "--stride", 32).startswith("stride must be from 1 to 31")


@pytest.mark.parametrize(
    ("call", "package"),
    [(lambda: metrics.rouge(["a"], ["a"]), "rouge-score"), (lambda: metrics.bleu(["a"], ["a"]), "sacrebleu")],
)
def test_a_scorer_that_is_not_installed(call: Any, package: str) -> None:
    absent = {"rouge_score.rouge_scorer": None, "sacrebleu.metrics.bleu": None}
    with (
        mock.patch.dict("sys.modules", absent),
        pytest.raises(GPT2Error, match=rf"needs the package {package}: pip install 'gpt2-parity\[eval\]'$"),
    ):
        call()
