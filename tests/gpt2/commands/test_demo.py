"""The demonstration: what it prints is what the engines wrote, it judges them, and it tells when they differ."""

import io
from pathlib import Path
from unittest.mock import patch

import numpy as np
from matplotlib.image import imread
from rich.console import Console

from gpt2.commands import demo
from gpt2.model.model import Model, load
from gpt2.strings import TASKS
from tests.gpt2.command import run

README = Path(__file__).parents[3] / "README.md"


def test_every_task_is_done_on_both_engines_and_both_are_judged(tmp_path: Path) -> None:
    picture = tmp_path / "new" / "attention.png"
    written = run("demo", "--examples", "1", "--picture", picture).result
    for task in demo.TASKS:
        assert written.count(TASKS[task](demo.INPUT)) >= 2
    assert "yes" in written
    assert "NO" not in written
    assert "functions agree on" in written
    assert imread(picture).ndim == 3
    shown = README.read_text(encoding="utf-8").partition("$ make demo\n")[2].partition("3. Does")[0].splitlines()[1:-1]
    assert {line for line in shown if "attention.png" not in line} <= set(written.splitlines())


def test_engines_that_write_otherwise_are_told_and_fail() -> None:
    tiny = load("tiny", backend="numpy")
    turned = tiny.parameters | {"ln_f.weight": -tiny.parameters["ln_f.weight"]}
    other = Model(tiny.config, turned, tiny.backend, tiny.tokenizer)
    console = Console(file=io.StringIO(), record=True, width=120)
    assert demo.show_tasks(console, [tiny, tiny])
    assert not demo.show_tasks(console, [tiny, other])
    assert console.export_text().count("NO") == len(demo.TASKS)
    with patch.object(demo, "show_tasks", lambda *_: False):
        assert run("demo", "--examples", "1").code == 1


def test_the_fuller_a_column_the_more_attention() -> None:
    lines = demo.attention_lines(np.array([[0.0, 1.0, 0.0], [0.0, 0.5, 0.25]]), ["a", "\n", " "], ["b", "c"])
    assert lines == ["             a ↵ ␣", "  writes b    ██", "  writes c    ▒▒░░"]


def test_a_picture_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = run("demo", "--examples", "1", "--picture", tmp_path / "file" / "attention.png")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "cannot write" in ran.err
