"""The lesson's notebooks: those in docs/ are what the command writes, run without an error, in both languages."""

import json
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pytest

import gpt2
from gpt2.arguments import LANGUAGES
from gpt2.errors import GPT2Error
from gpt2.lesson.notebook import Lesson, notebook
from gpt2.lesson.outline import STEPS
from tests.gpt2.command import run
from tests.gpt2.conftest import usable

DOCS = Path(__file__).parents[3] / "docs"
KEPT = {"en": DOCS / "lesson.ipynb", "zh": DOCS / "zh-CN" / "lesson.ipynb"}


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """A small lesson; NumPy alone, so without verdicts."""
    model = gpt2.load("tiny", backend="numpy")
    return Lesson(model, model.encode("sort: cab\n"))


def sources(cells: list[Any]) -> list[tuple[str, str]]:
    return [(cell["cell_type"], cell["source"]) for cell in cells]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_notebooks_in_docs_are_those_that_the_command_writes(language: str) -> None:
    """If this fails, something in the lesson has changed: `make notebooks`."""
    kept = nbformat.read(KEPT[language], as_version=4)
    assert sources(kept.cells) == sources(notebook(language)["cells"])
    for cell in kept.cells:
        if cell.cell_type == "code":
            assert [output.output_type for output in cell.outputs] == ["execute_result"], cell.source


def test_a_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    usable("mindspore pynative")
    written = run("lesson", "--notebook", tmp_path / "lesson.ipynb", "--language", "zh").result
    assert "cells" in written
    book = nbformat.read(tmp_path / "lesson.ipynb", as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == len([step for step in STEPS if step.tensors])
    assert any("× 噪声：一致" in output.get("data", {}).get("text/markdown", "") for output in shown)


def test_both_languages_run_the_same_code() -> None:
    english, chinese = (notebook(language)["cells"] for language in LANGUAGES)
    code = [[cell["source"] for cell in cells if cell["cell_type"] == "code"] for cells in (english, chinese)]
    assert [source.replace('"en"', '"zh"') for source in code[0]] == code[1]
    for step in STEPS:
        assert any(f'"{step.id}"' in source for source in code[0]) == bool(step.functions or step.tensors)


def test_the_tensors_are_the_references(lesson: Lesson) -> None:
    """All of each: pictures are sampled, shapes that a reader looks at are not."""
    stages = gpt2.load("tiny", backend="numpy").stages(lesson.ids)
    assert list(lesson.stages) == list(stages)
    for name, x in stages.items():
        assert np.array_equal(lesson.stages[name], x), name


def test_every_step_has_its_sources_and_pictures(lesson: Lesson) -> None:
    for step in STEPS:
        text = lesson.sources(step.id).markdown or ""
        assert all(f"**{function.name}**" in text for function in step.functions)
        assert ("```python\ndef " in text or "```python\nclass " in text) == bool(step.functions), step.id
        if step.tensors:
            assert (lesson.show(step.id).png or b"").startswith(b"\x89PNG")


def test_pictures_of_another_layer_are_others(lesson: Lesson) -> None:
    assert lesson.show("scores", layer=0).png != lesson.show("scores", layer=1).png


def test_what_is_not_there_is_refused_in_one_line(lesson: Lesson) -> None:
    for ask, said in (
        (lambda: lesson.show("nothing"), "no step 'nothing': choose one of tokens, embeddings"),
        (lambda: lesson.show("scores", layer=7), "expected one of the layers 0, 1"),
        (lambda: notebook("fr"), "unknown language 'fr': choose one of en, zh"),
    ):
        with pytest.raises(GPT2Error, match=said):
            ask()


def test_a_prompt_of_ones_own_stands_in_the_notebook(tmp_path: Path) -> None:
    assert run("lesson", "--notebook", tmp_path / "own.ipynb", "--prompt", "sort: cab").code == 0
    assert '"sort: cab"' in json.loads((tmp_path / "own.ipynb").read_text())["cells"][3]["source"]


@pytest.mark.parametrize("options", [("--ids", "1 2"), ("--prompt", "-"), ("--serve",), ("--backend", "numpy")])
def test_what_a_notebook_would_leave_out_is_refused(options: tuple[str, ...], tmp_path: Path) -> None:
    refusal = run("lesson", "--notebook", tmp_path / "own.ipynb", *options).refusal
    assert "--notebook goes with --model, --prompt and --language alone" in refusal
    assert not (tmp_path / "own.ipynb").exists()
