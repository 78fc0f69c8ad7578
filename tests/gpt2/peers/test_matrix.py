"""A peer that dies is a cell of a matrix with its report, and not the end."""

from typing import Any

import pytest

from parity.report.matrix import judge_matrix
from parity.report.record import IDENTICAL
from tests.gpt2.peers.test_backend import mortal


@pytest.mark.usefixtures("in_no_time")
def test_a_peer_that_dies_is_a_cell_with_its_report() -> None:
    peers: list[Any] = []

    def make(name: str) -> Any:
        peers.append(mortal(fatal=2 if name == "mortal" else 0))
        return peers[-1]

    engines: Any = {name: (name,) for name in ("mortal", "immortal")}
    made = judge_matrix(engines, ["ops.relu"], 2, 0, processes=1, make=make, say=lambda line: None)
    dead, right = made.columns
    assert [finding.function for finding in dead.failing] == ["ops.relu"]
    assert "mortal ended by signal 11" in dead.failing[0].explanation
    assert dead.error == ""
    assert right.cell(["ops.relu"]).verdict == IDENTICAL
    assert not any(peer.peer._process.is_alive for peer in peers)  # nothing runs on when its column is done
