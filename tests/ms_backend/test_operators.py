"""Every MindSpore operator that the twin uses must run on Ascend: its own documentation has to say so."""

import ast
import re
from pathlib import Path

import mindspore
import pytest
from mindspore import Tensor, ops

import ms_backend

ROOM = Path(ms_backend.__file__).parent
MODEL_FILES = ("ops", "activations", "attention", "model", "fast", "generate", "weights", "precision", "optim", "train")
# Attributes that are no operators: they read what a tensor is, fetch it, or are methods of Python's own types.
NO_OPERATORS = {"shape", "ndim", "dtype", "name", "append", "items", "itemsize", "asnumpy"}


def used(file: str) -> set[tuple[str, str]]:
    """("ops", "softmax"), ("Tensor", "reshape"), ... as they stand in a file of the twin."""
    tree = ast.parse((ROOM / f"{file}.py").read_text())
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "mindspore"
        for alias in node.names
        if alias.name == "ops"
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr not in NO_OPERATORS:
            if isinstance(node.value, ast.Name) and node.value.id in aliases:
                found.add(("ops", node.attr))
            elif isinstance(node.value, ast.Name) and node.value.id in {"ms", "math", "np"}:
                continue
            elif hasattr(Tensor, node.attr) and not hasattr(str, node.attr):
                found.add(("Tensor", node.attr))
    return found


USED = sorted(set().union(*map(used, MODEL_FILES)))


def platforms(owner: str, name: str) -> str:
    """The line "Supported Platforms" of an operator; where a method refers to a function, that of the function."""
    documentation = getattr({"ops": ops, "Tensor": Tensor}[owner], name).__doc__ or ""
    found = re.search(r"Supported Platforms:\s*(.*)", documentation)
    if found:
        return found[1]
    referred = re.search(r":func:`~?\.?(?:mindspore\.)?ops\.(\w+)`", documentation)
    return platforms("ops", referred[1]) if referred else ""


def test_the_list_of_operators_is_not_empty() -> None:
    assert {("ops", "softmax"), ("ops", "MatMul"), ("ops", "ScatterNdUpdate"), ("Tensor", "reshape")} <= set(USED)


@pytest.mark.parametrize(("owner", "name"), USED)
def test_an_operator_lists_ascend(owner: str, name: str) -> None:
    assert "Ascend" in platforms(owner, name), f"{owner}.{name} of MindSpore {mindspore.__version__}"


@pytest.mark.parametrize("file", MODEL_FILES)
def test_no_branch_of_the_model_asks_for_the_device(file: str) -> None:
    text = (ROOM / f"{file}.py").read_text()
    code = re.sub(r'""".*?"""|#.*', "", text, flags=re.DOTALL)
    assert not re.search(r"\bCPU\b|\bGPU\b|Ascend|device_target|get_context", code)
