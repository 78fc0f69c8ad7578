"""What the tests here learn from."""

import json
from pathlib import Path

import pytest

from tests.gpt2.finetune.runs import CONFIG_OF_RUN, PIECES, lines_of, pairs, texts


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with what the tests here learn from."""
    lines_of(tmp_path / "pairs.jsonl", pairs(24))
    lines_of(tmp_path / "texts.jsonl", texts(24))
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "settings.json").write_text(json.dumps(CONFIG_OF_RUN), encoding="utf-8")
    return tmp_path
