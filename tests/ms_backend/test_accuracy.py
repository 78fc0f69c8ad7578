"""The accuracy of elementary functions: known for the versions that were measured, measured for others."""

import pytest

from gpt2.backends import get_backend
from parity.check import check_rule, rules
from parity.verdict.accuracy import measure


def test_that_of_an_unknown_version_is_measured_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ms = pytest.importorskip("mindspore", reason="MindSpore is not installed")
    known = get_backend("mindspore", mode="pynative").accuracy
    monkeypatch.setattr(ms, "__version__", "99.0")
    backend = get_backend("mindspore", mode="pynative")
    with pytest.warns(UserWarning, match=r"MindSpore 99\.0 on CPU was not measured before; .* exp "):
        found = backend.accuracy
    assert known.keys() <= found.keys()
    by_the_judge = measure(backend)  # through softmax, silu and the loss, each with its own rounding
    for name in ("exp", "sigmoid"):
        assert found[name] / 2 <= by_the_judge[name] <= 2 * max(found[name], known[name])
    assert check_rule(rules()["ops.softmax"], backend, 40).agrees
