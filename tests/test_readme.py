"""The README says what happens: its figures are counted, its commands are run, both languages hold the same code."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt2.commands.main import cli

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
SORTER = ROOT.parent / "shared" / "data" / "gpt_nano_sort" / "gpt-nano-sort-model.json"
SCREEN = 30  # lines
in_both_languages = pytest.mark.parametrize("readme", READMES)


def text_of(readme: str) -> str:
    return (ROOT / readme).read_text(encoding="utf-8")


def code_blocks(readme: str) -> list[str]:
    return re.findall(r"```\w+\n(.*?)```", text_of(readme), flags=re.DOTALL)


def commands(readme: str) -> list[tuple[list[str], list[str]]]:
    """Every command after a "$ " in the README as words, and the lines of output that follow it."""
    found: list[tuple[list[str], list[str]]] = []
    for block in code_blocks(readme):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((shlex.split(line[2:], comments=True), []))
            elif found:
                found[-1][1].append(line)
    return found


def test_both_languages_hold_the_same_code() -> None:
    assert code_blocks(READMES[0]) == code_blocks(READMES[1])
    assert len(code_blocks(READMES[0])) >= 5


def test_both_languages_have_the_same_sections_and_tables() -> None:
    english, chinese = (re.sub(r"```.*?```", "", text_of(readme), flags=re.DOTALL) for readme in READMES)
    for mark in (r"^#+ ", r"^\|", r"^\* "):
        assert len(re.findall(mark, english, re.MULTILINE)) == len(re.findall(mark, chinese, re.MULTILINE)), mark


@in_both_languages
def test_four_readers_find_where_to_begin_within_a_screen(readme: str) -> None:
    rows = [line for line in text_of(readme).splitlines()[:SCREEN] if line.startswith("| ")]
    assert len(rows) == 6  # a heading, a row each for learner, teacher, porter and runner, and one for a recorded run


@in_both_languages
def test_the_lines_of_the_lesson_are_counted(readme: str) -> None:
    lines = sum(
        len((ROOT / "reference" / f"{name}.py").read_text().splitlines()) for name in ("ops", "attention", "model")
    )
    assert re.search(rf"\b{lines}\b", text_of(readme))


@in_both_languages
def test_every_command_has_the_options_that_are_shown(readme: str) -> None:
    shown = [words[1:] for words, _ in commands(readme) if words[0] == "gpt2"]
    assert len(shown) >= 8
    for name, *arguments in shown:
        cli.commands[name].make_context(name, arguments)


@in_both_languages
def test_every_make_target_exists(readme: str) -> None:
    targets = set(re.findall(r"^([.\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`?make ([\w.]+)`", text_of(readme))) <= targets


@pytest.mark.skipif(not SORTER.is_file(), reason=f"no {SORTER}: the llm-viz weights are not at hand")
def test_the_sorter_of_the_readme_prints_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / SORTER.name).symlink_to(SORTER)
    shown = [(words, output) for words, output in commands(READMES[0]) if "sorter" in words]
    assert len(shown) == 3
    for words, output in shown:
        ran = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
        assert ran.output.splitlines() == output
