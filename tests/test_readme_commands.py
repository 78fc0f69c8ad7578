"""The commands and Python code of both READMEs run as they stand, in an empty folder, with stand-ins for the files."""

import functools
import itertools
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2.lesson
from gpt2.lesson.server import LessonServer
from parity import check
from reference.config import GPT2Config, parameter_shapes
from tests.gpt2.command import run
from tests.parity.recorded.made_runs import hugging_face_run, parameters_of, write_msprobe
from tests.test_readme import READMES, ROOT, code_blocks, text_of

VERSES = "ROMEO:\nBut soft, what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
FAST = ("--backend", "numpy", "--steps", "2", "--batch-size", "2")
# What is appended, so that a command takes a moment. (The last of two equal options counts.)
SHORTER = {
    "check": ("--examples", "1", "--processes", "1"),
    "train": FAST,
    "finetune": (*FAST, "--limit", "1", "--config", "small.json"),
    "summarize": ("--max-new-tokens", "4"),
}


def write_stand_ins(folder: Path) -> None:
    """Small files with the names of the README; FOLDER is the packaged model."""

    def lines(name: str, records: Sequence[Any]) -> None:
        (folder / name).write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")

    (folder / "FOLDER").symlink_to(ROOT / "gpt2" / "tiny")
    (folder / "prompts.txt").write_text("copy: ab\nsort: ba\n")
    (port,) = [block for block in code_blocks(READMES[0]) if block.startswith("def split_heads")]
    (folder / "my_port.py").write_text(port)
    (folder / "shakespeare.txt").write_text(VERSES * 20)
    (folder / "settings.json").write_text('{"training": {"learning_rate": 1e-4}}')
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64}
    (folder / "small.json").write_text(json.dumps({"model": size}))
    (folder / "articles.txt").write_text("a sea of words\n")
    rows = "".join(f"a word {i}\t{i % 2}\n" for i in range(20))
    (folder / "reviews.tsv").write_text(f"review\tstars\n{rows}")
    lines("lambada_test.jsonl", [{"text": "the end of the text is the end"}])
    lines("stories.jsonl", [{"text": VERSES}] * 20)
    pairs = [{"article": f"a sea of {i} words", "summarization": f"{i} words"} for i in range(20)]
    lines("pairs.jsonl", pairs)
    lines("test.jsonl", pairs[:1])
    write_msprobe(hugging_face_run(parameters_of()), folder / "dump")


def shown_commands(readme: str) -> list[str]:
    """The lines after "$ " in blocks, and what stands in the first table, where readers begin."""
    blocks = [line[2:] for block in code_blocks(readme) for line in block.splitlines() if line.startswith("$ ")]
    table = re.search(r"^\|.*\n\|---.*\n(?:\|.*\n)+", text_of(readme), re.MULTILINE)
    assert table is not None
    begun = re.findall(r"`((?:gpt2|printf) .*?)`", table[0].replace("\\|", "|"))
    assert len(begun) >= 4
    return begun + blocks


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is long is cut: two rules are judged, the lesson plants no bugs, its server is stopped at once."""
    usual = check.select
    monkeypatch.setattr(check, "select", lambda *given: dict(itertools.islice(usual(*given).items(), 2)))
    monkeypatch.setattr(gpt2.lesson, "build", functools.partial(gpt2.lesson.build, breaks=False))

    def interrupted(server: LessonServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LessonServer, "serve_forever", interrupted)


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("ignore::gpt2.errors.EndOfContextWarning")
def test_the_commands_run_as_they_stand_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: the README runs both engines")
    pytest.importorskip("rouge_score", reason="rouge-score is not installed: the summariser's evaluation needs it")
    monkeypatch.chdir(tmp_path)
    write_stand_ins(tmp_path)
    commands = shown_commands(READMES[0])
    assert set(commands) == set(shown_commands(READMES[1]))
    ran = 0
    for line in dict.fromkeys(commands):
        words = shlex.split(line, comments=True)
        stdin = ""
        if words[0] == "printf":
            stdin, words = words[1].replace("\\n", "\n"), words[words.index("|") + 1 :]
        if words[0] != "gpt2" or "sorter" in words:  # make needs the clone; the sorter has a test of its own
            continue
        result = run(*words[1:], *SHORTER.get(words[1], ()), stdin=stdin)
        if "Ascend" in words:
            assert (result.code, "Ascend" in result.refusal) == (2, True), line
        else:
            assert result.code == 0, (line, result.err)
        ran += 1
    assert ran >= 25
    assert {"lesson.html", "lesson.ipynb", "run", "tuned", "summariser", "classifier", "report.html"} <= set(
        os.listdir(tmp_path)
    )


def test_the_python_code_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: the README runs both engines")
    monkeypatch.chdir(tmp_path)
    write_stand_ins(tmp_path)
    config = GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    random = np.random.default_rng(0)
    parameters = {name: random.standard_normal(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    ids = np.array([[1, 2, 3]])
    given = {"config": config, "parameters": parameters, "ids": ids, "labels": ids}
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(READMES[0]), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, READMES[0], "exec"), dict(given))
    assert (tmp_path / "COPY" / "model.safetensors").is_file()
