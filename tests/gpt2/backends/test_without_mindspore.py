"""Everything but MindSpore itself works without it, and nothing that does not need it imports it."""

from pathlib import Path

import pytest

from tests.gpt2.command import Ran, run, run_outside
from tests.gpt2.conftest import usable

# Python as it is where the packages in `absent` are not installed; who asks for one of `watched` is told on.
PROGRAM = """
import sys

absent, watched = {absent!r}, {watched!r}

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in watched:
            print("asked for", name, file=sys.stderr)

sys.meta_path.insert(0, Finder())
sys.modules |= dict.fromkeys(absent)  # None there means: no such module
from gpt2.commands.main import main
main()
"""
FOREIGN = ["mindspore", "ms_backend", "ms_backend.engine.backend", "torch", "transformers"]


def run_without(*arguments: object, absent: list[str], watched: list[str]) -> Ran:
    """The command in a process where `absent` packages are not installed."""
    return run_outside(*arguments, program=PROGRAM.format(absent=absent, watched=watched))


def test_numpy_generates_without_mindspore(small: Path) -> None:
    options = ("generate", small, "--ids", "1 2", "--max-new-tokens", "5", "--backend", "numpy")
    assert run_without(*options, absent=["mindspore"], watched=[]) == run(*options)
    assert run(*options).result


@pytest.mark.parametrize("command", ["generate", "logits"])
def test_asking_for_mindspore_says_what_to_install(command: str, small: Path) -> None:
    options = ("--ids", "1", "--backend", "mindspore")
    refusal = run_without(command, small, *options, absent=["mindspore"], watched=[]).refusal
    assert "pip install 'gpt2-parity[mindspore]'" in refusal
    assert "--backend numpy" in refusal


TRIALS = ["kill-table", "reach ops.relu"]


@pytest.mark.parametrize("command", ["check", "demo", *TRIALS])
def test_the_judge_says_what_to_install(command: str) -> None:
    refusal = run_without(*command.split(), absent=["mindspore"], watched=[]).refusal
    assert "pip install 'gpt2-parity[mindspore]'" in refusal


def test_the_judge_judges_numpy_without_mindspore() -> None:
    options = ("check", "ops.relu", "--examples", "3", "--backend", "numpy", "--json")
    assert run_without(*options, absent=["mindspore"], watched=[]).code == 0


def test_a_mindspore_that_cannot_be_imported_is_told_in_one_line(small: Path) -> None:
    usable("mindspore pynative")
    options = ("generate", small, "--ids", "1", "--backend", "mindspore")
    refusal = run_without(*options, absent=["ms_backend.engine.backend"], watched=[]).refusal
    assert "is registered, but ms_backend.engine.backend:MindSporeBackend cannot be imported: " in refusal


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("generate", "--help"),
        ("check", "--help"),
        ("generate", "{small}", "--ids", "1", "--max-new-tokens", "2"),
        ("logits", "{small}", "--ids", "1", "--json"),
        ("info", "{small}", "--json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_numpy_and_the_help_ask_for_nothing_foreign(arguments: tuple[str, ...], small: Path) -> None:
    filled = [word.format(small=small) for word in arguments]
    assert run_without(*filled, absent=[], watched=FOREIGN).result


def test_who_asks_is_told_on(small: Path) -> None:
    usable("mindspore pynative")
    ran = run_without("generate", small, "--ids", "1", "--backend", "mindspore", absent=[], watched=FOREIGN)
    assert "asked for mindspore\n" in ran.err
