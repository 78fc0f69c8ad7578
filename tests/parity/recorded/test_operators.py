"""The table of operators: what is in it, what a user adds to it, and what is said of a mistake."""

from pathlib import Path

import numpy as np
import pytest

from gpt2.errors import GPT2Error
from parity.recorded.calls import Setting, judge_calls
from parity.recorded.operators import load_operators
from tests.parity.recorded.calls_by_hand import Numbers, call, run

X = Numbers()(2, 5, 8)


def table(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def reason(one, path: Path | None = None) -> str:
    (found,) = judge_calls(run(one), Setting({}, load_operators(path)))
    assert not found.is_judged
    return found.reason


def test_what_is_not_known_is_said():
    assert reason(call("wavelet", [X], [X])) == "no operator of the table is named wavelet"
    assert reason(call("relu", [X], [X], keywords={"slope": 2})) == "the table does not know the argument slope of relu"
    assert "reduction = mean alone" in reason(
        call("cross_entropy", [X[0], np.zeros(5, np.int64)], [np.ones(5)], keywords={"reduction": "none"})
    )
    assert "do not fit together" in reason(call("matmul", [X, X], [X]))
    assert "ids from 3 to 9 for 8 rows" in reason(call("embedding", [np.array([3, 9]), np.eye(8)], [np.eye(8)[:2]]))


def test_a_user_adds_names_and_replaces_ours(tmp_path):
    mine = table(tmp_path, "- {names: [wavelet, relu], function: ops.silu, arguments: [x]}")
    silu = (X / (1 + np.exp(-X.astype(np.float64)))).astype(np.float32)
    for name, result, agrees in (("wavelet", silu, True), ("relu", silu, True), ("relu", np.maximum(X, 0), False)):
        (found,) = judge_calls(run(call(name, [X], [result])), Setting({}, load_operators(mine)))
        assert (found.function, found.agrees) == ("ops.silu", agrees)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- names: [a", "is not valid YAML in line"),
        ("names: [a]", "must be a list"),
        ("- {names: [a], function: ops.relu, argument: [x]}", "unknown field 'argument': is 'arguments' meant?"),
        ("- {names: [a], function: ops.rely}", "is said to be 'ops.rely'"),
        ("- {names: [a]}", "has no field 'function'"),
        ("- !!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, text, said):
    with pytest.raises(GPT2Error) as error:
        load_operators(table(tmp_path, text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(GPT2Error, match="cannot read"):
        load_operators(tmp_path / "absent.yaml")
