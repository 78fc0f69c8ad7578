"""Processes that start in no time."""

import subprocess
import types

import pytest

from gpt2.peers import process
from tests.gpt2.peers.processes import Fork


@pytest.fixture
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are forks; dying and ending may take a tenth of a second."""
    monkeypatch.setattr(process, "subprocess", types.SimpleNamespace(**{**vars(subprocess), "Popen": Fork}))
    for name in ("DYING_SECONDS", "ENDING_SECONDS", "SLICE"):
        monkeypatch.setattr(process, name, 0.1)
