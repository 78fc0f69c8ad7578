"""Tasks of other packages, and the command `gpt2 eval`."""

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gpt2.data.records import BrokenLines
from gpt2.errors import GPT2Error
from gpt2.evaluation import EvaluationReport, Run, base, evaluate, find_task, metrics, task_names
from gpt2.model.model import Model, load
from tests.gpt2.command import run
from tests.gpt2.evaluation.reciter import ARTICLES, reciter, written


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
        with pytest.raises(GPT2Error, match=r"^the task Lines takes no encoding: save .*a\.txt as UTF-8$"):
            evaluate(reciter(), find_task("lines"), path, encoding="gbk")


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


def test_a_file_in_another_encoding(speaker: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "今天天气很好\n" * 4)
    plain = run("eval", speaker, "perplexity", "--data", path, "--json").result
    path.write_bytes(path.read_text(encoding="utf-8").encode("gb18030"))
    assert run("eval", speaker, "perplexity", "--data", path, "--encoding", "gb18030", "--json").result == plain
    assert "is not UTF-8: line 1 holds the byte 0xbd" in run("eval", speaker, "perplexity", "--data", path).refusal


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
    assert refusal("perplexity", "--stride", 33).startswith("stride must be from 1 to 32")


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
