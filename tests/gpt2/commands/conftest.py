"""A model folder to damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    """A model folder of one's own, to damage."""
    return Path(shutil.copytree(small, tmp_path / "folder"))
