"""What the runs of the tests here learn from, and one of them that stands halfway."""

from pathlib import Path

import pytest

from tests.gpt2.training.runs import train, train_to, write_text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """What a run here learns from."""
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def begun(text: Path, tmp_path: Path) -> Path:
    """A run that stands at step 3 of 6."""
    assert train(text, tmp_path / "run", watch=train_to(3)).step == 3
    return tmp_path / "run"
