"""What is said of the time left, where no bar can be drawn."""

import time

import pytest

from gpt2.progress import ProgressBar


def said(steps: int, seconds: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of work of so many steps, which begins at step 5, as a resumed run does."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with ProgressBar() as bar:
        now[0] += 20  # the first step compiles
        for step in range(5, steps + 1):
            bar.show("loss", step, steps)
            now[0] += seconds
    return capsys.readouterr().err.splitlines()


def test_the_time_left_is_told_early_and_in_every_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(100, 2.0, monkeypatch, capsys)
    assert lines[0] == "gpt2: 6 of 100: about 3 min left"
    assert lines[1] == "gpt2: 10 of 100 loss, after 30 s, about 3 min left"
    assert lines[3] == "gpt2: 40 of 100 loss, after 90 s, about 2 min left"
    assert sum(": about" in line for line in lines) == 1


def test_the_time_left_is_not_told_of_what_ends_soon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(9, 2.0, monkeypatch, capsys) == []


def test_other_work_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with ProgressBar() as bar:
        for what, seconds in (("training", 0.01), ("summaries", 5.0)):
            for step in range(4):
                bar.show(what, step, 1000)
                now[0] += seconds
    assert capsys.readouterr().err == "gpt2: 1 of 1000: about 83 min left\n"
