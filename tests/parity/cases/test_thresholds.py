"""Sizes at which the sources take another way: cases lie on both sides of each."""

from pathlib import Path

import pytest

from parity.cases.cases import LARGE, LARGEST
from tests.parity.cases import thresholds
from tests.parity.cases.thresholds import KEPT, THRESHOLDS, UPDATED_IN_PARTS, Threshold, compared

in_the_sources = pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda one: f"{one.function} {one.value}")


def test_every_threshold_in_the_sources_is_known() -> None:
    """A new one needs large cases beyond it: add the axes that are compared with it."""
    assert thresholds.thresholds() == {*THRESHOLDS, UPDATED_IN_PARTS, *KEPT}


@in_the_sources
def test_ordinary_cases_lie_below_it(threshold: Threshold) -> None:
    assert compared(THRESHOLDS[threshold], LARGEST) <= threshold.value


@in_the_sources
def test_a_large_case_lies_beyond_it(threshold: Threshold) -> None:
    assert max(compared(THRESHOLDS[threshold], sizes) for sizes in LARGE) > threshold.value


def test_a_new_threshold_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reference").mkdir()
    source = """
def f(x, most=128):
    def g():
        return x.size > 1 << 14
    return x.shape[0] < 2 and g() or 100
"""
    (tmp_path / "reference" / "fast.py").write_text(source)
    monkeypatch.setattr(thresholds, "ROOT", tmp_path)
    assert thresholds.thresholds() == {
        Threshold("reference/fast.py", "g", 1 << 14),
        Threshold("reference/fast.py", "f", 100),
    }
