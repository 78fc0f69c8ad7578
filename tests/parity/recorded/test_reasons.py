"""Whatever a recorded call or run is not judged for is said in Chinese, too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.report.recorded.reasons import CHINESE, in_language
from tests.parity.report.pieces import ROOT

FILES = sorted((ROOT / "parity" / "recorded").rglob("*.py"))
RAISED = {"_NotJudgedError", "CannotTellError"}
RETURNED = {"whole_run.py": "_why_not", "loss.py": "_why_not", "table.py": "find _bind"}


def _reasons(file: Path) -> Iterator[str]:
    """The texts of a file that become reasons, with "7" for whatever is filled in."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in RAISED:
                yield from _texts(node.args[0])
            if node.func.id == "_unknown":
                yield from (f"the loss: {text}" for text in _texts(node.args[1]))
            if node.func.id in ("CallJudgement", "WholeRun", "LossJudgement"):
                yield from (text for word in node.keywords if word.arg == "reason" for text in _texts(word.value))
        if isinstance(node, ast.FunctionDef) and node.name in RETURNED.get(file.name, "").split():
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from _texts(inner.value)


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "7" for part in node.values]
        text = "".join(map(str, parts))
        if re.search("[a-z]{3}", text) and not text.startswith("7: "):  # its beginning is another text
            yield text


EVERY = sorted(
    {text for file in FILES for text in _reasons(file)} - {"the loss: 7", "the mask that a layer was given 7"}
)


def test_there_are_reasons() -> None:
    assert len(EVERY) > 40


@pytest.mark.parametrize("reason", EVERY)
def test_every_reason_has_its_words_in_chinese(reason: str) -> None:
    said = in_language(reason, "zh")
    assert re.search("[\u4e00-\u9fff]", said), reason
    assert said.count("7") == reason.count("7")
    assert in_language(reason, "en") == reason


def test_every_gap_is_filled_and_what_is_not_known_stays() -> None:
    for english, chinese in CHINESE.items():
        assert len(re.findall(r"\{\d?\}", chinese)) == english.count("{}"), english
    assert in_language("the table does not know argument 3 of pow", "zh") == "算子表不知道 pow 的第 3 个输入"
    assert in_language("nobody knows", "zh") == "nobody knows"
