"""Bad data is named by file and line, or left out and counted."""

from pathlib import Path
from typing import Any

import pytest

from gpt2.errors import GPT2Error
from gpt2.evaluation import evaluate, task_names
from gpt2.model.model import load
from tests.gpt2.evaluation.reciter import CBT, COQA, block, reciter, written

BAD: list[tuple[str, str, Any, str]] = [
    ("perplexity", "a.txt", b"good\n\xff\n", "a.txt is not UTF-8: line 2 holds the byte 0xff; save it as UTF-8"),
    ("perplexity", "a.txt", "x", "the text has 1 token, and the first is not predicted: give at least two"),
    ("perplexity", "a.txt", "\n", "a.txt is empty"),
    ("lambada", "a.jsonl", '{"text": "a b"}\n{"text": "a', "a.jsonl, line 2 is not valid JSON: Unterminated string"),
    ("lambada", "a.jsonl", '["a b"]', "a.jsonl, line 1 must be an object, but is ['a b']"),
    ("lambada", "a.jsonl", [{"txt": "a b"}], "a.jsonl, line 1 has no field 'text': it has 'txt'"),
    ("lambada", "a.jsonl", [{"text": 3}], "a.jsonl, line 1: 'text' must be a string, but is 3"),
    ("lambada", "a.jsonl", [{"text": " "}], "a.jsonl, line 1: 'text' must be a string that is not empty, but is ' '"),
    ("lambada", "a.jsonl", '{"text": "a \\ud800"}', "a.jsonl, line 1 holds half a character"),
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
    ("translation", "a.jsonl", [{"translation": {"en": "a"}}], "a.jsonl, line 1 has no field 'fr': it has 'en'"),
    ("translation", "a.jsonl", [{"translation": "a"}], "a.jsonl, line 1 must be an object, but is 'a'"),
    ("questions", "a.json", '{"data":\n [}', "a.json is not valid JSON: Expecting value at line 2, column 3"),
    ("questions", "a.json", b"\xff", "a.json is not UTF-8: line 1 holds the byte 0xff"),
    ("questions", "a.json", "[" * 100000, "a.json is not valid JSON: "),
    ("questions", "a.json", '{"data": ' + "9" * 5000 + "}", "a.json is not valid JSON: "),
    ("questions", "a.json", {"data": ["x"]}, "a.json, data[0] must be an object, but is 'x'"),
    ("questions", "a.json", "[]", "a.json must be an object, but is []"),
    ("questions", "a.json", {"version": 1}, "a.json has no field 'data': it has 'version'"),
    ("questions", "a.json", {"data": [{}]}, "a.json, data[0] has no field 'paragraphs': it has none"),
    ("questions", "a.json", {"data": [COQA["data"][0] | {"answers": []}]}, "data[0]: 2 questions have 0, 2 answers"),
    (
        "questions",
        "a.json",
        {"data": [COQA["data"][0] | {"additional_answers": 1}]},
        "data[0]: 'additional_answers' must be an object, but is 1",
    ),
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
