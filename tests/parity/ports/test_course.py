"""The attention of a course, on PyTorch and on MindSpore: right when it is right, and every bug has its line."""

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from benchmarks.peers.client import peer_python
from tests.gpt2.small import ROOT
from tests.parity.ports import course
from tests.peers.conftest import absent

DEEP = settings().max_examples > 100
EXAMPLES = 2000 if DEEP else 40
BUGS = course.BUGS if DEEP else course.BUGS[::4]


def run_on_torch(folder: Path, *names: str) -> list[dict[str, Any]]:
    """What the judge says there of the bugs of these names; without a name, of the right file and of all bugs."""
    if not peer_python().is_file():
        absent(f"no {peer_python()}: run `make peers` to judge ports on PyTorch")
    command = [str(peer_python()), "-m", "tests.parity.ports.course", "torch", str(folder), str(EXAMPLES), *names]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def expect_its_line(said: dict[str, Any]) -> None:
    assert not said["agrees"], said["name"]
    assert set(said["named"]) & set(said["lines"]), said["blame"]


@pytest.fixture(scope="module")
def torch_says(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is said of each bug on PyTorch, and of the right file under ""."""
    names = [] if DEEP else ["", *(bug["name"] for bug in BUGS)]
    return {said["name"]: said for said in run_on_torch(tmp_path_factory.mktemp("course"), *names)}


@pytest.mark.peer
def test_the_right_one_agrees_on_torch(torch_says: dict[str, dict[str, Any]]) -> None:
    said = torch_says[""]
    assert said["agrees"], said["explanation"]
    assert said["cases"] >= EXAMPLES


@pytest.mark.peer
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug["name"])
def test_a_bug_on_torch_has_its_line(bug: dict[str, Any], torch_says: dict[str, dict[str, Any]]) -> None:
    expect_its_line(torch_says[bug["name"]])


@pytest.mark.skipif(importlib.util.find_spec("mindspore") is None, reason="MindSpore is not installed")
def test_the_right_one_agrees_on_mindspore(tmp_path: Path) -> None:
    said = course.said(None, "mindspore", tmp_path, EXAMPLES)
    assert said["agrees"], said["explanation"]
    assert said["cases"] >= EXAMPLES


@pytest.mark.skipif(importlib.util.find_spec("mindspore") is None, reason="MindSpore is not installed")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug["name"])
def test_a_bug_on_mindspore_has_its_line(bug: dict[str, Any], tmp_path: Path) -> None:
    expect_its_line(course.said(bug, "mindspore", tmp_path, 25))
