"""Perplexity is Hugging Face's on the same text, by the same windows: neither side is privileged."""

from pathlib import Path

import numpy as np
import pytest

import gpt2
from benchmarks.peers.client import Peer
from gpt2.evaluation import Run
from gpt2.evaluation.likelihood import token_log_probabilities, windows
from parity.verdict.stages import stage_references
from parity.verdict.verdict import judge
from reference.ops import log_softmax
from tests.gpt2.small import BYTES, byte_folder, parameters
from tests.peers.engines import accuracy_of, backend_of

pytestmark = pytest.mark.peer

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak. 人工智能"


@pytest.mark.parametrize("stride", [16, 5, 31, 32])
def test_perplexity(hugging_face: Peer, engine: str, stride: int, tmp_path: Path) -> None:
    """Window by window, the mean loss is what the reference in float64 says, within the noise of float32."""
    folder, backend = byte_folder(tmp_path / "bytes"), backend_of(engine)
    said, arrays = hugging_face.ask("perplexity", folder=str(folder), text=TEXT, stride=stride)
    ours = gpt2.load(folder, backend)
    ids = ours.encode(TEXT)[0]
    assert arrays["input_ids"].tolist() == ids.tolist()
    found = windows(len(ids), BYTES.n_positions, stride)
    assert said["counts"] == [end - first for _, first, end in found]
    tokens = token_log_probabilities(ours, ids, stride, Run(batch_size=4))
    ends = np.cumsum([end - first for _, first, end in found])
    means = [-part.mean() for part in np.split(tokens, ends[:-1])]
    for who, value, accuracy in (
        ("ours", means, backend.accuracy),
        ("transformers", said["means"], accuracy_of(hugging_face)),
    ):
        members = np.array([by_hand(ids, window, accuracy) for window in found]).T
        verdict = judge(np.array(value, np.float32), members[0], list(members[1:].astype(np.float32)))
        assert verdict.agrees, f"{who}: {verdict.explain()}"


def by_hand(ids: np.ndarray, window: tuple[int, int, int], accuracy: dict[str, float]) -> list[float]:
    """The mean loss of a window: by the reference in float64, then in float32 in equivalent forms."""
    begin, first, end = window
    read = ids[None, begin:end]
    known = stage_references(BYTES, parameters(BYTES), read, None, None, np.dtype(np.float32), accuracy)["logits"]
    targets = ids[first:end]
    rows = slice(first - 1 - begin, end - 1 - begin)
    return [
        -float(log_softmax(logits[0, rows].astype(np.float64))[np.arange(len(targets)), targets].mean())
        for logits in (known.oracle, *known.orbit)
    ]
