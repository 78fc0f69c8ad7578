"""One function of somebody's own in place of one of the mirror's: how it is found, called, judged and explained."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parity
from gpt2.errors import GPT2Error
from parity.ports.frameworks import guessed
from parity.ports.port import get_port, port_for
from tests.gpt2.command import run

PORT = """
import functools

import numpy as np

def split_heads(t, heads):
    return t.reshape(*t.shape[:2], heads, -1).transpose(0, 2, 1, 3)

def cut_only(t, heads):
    return t.reshape(len(t), heads, t.shape[1], -1)

def by_other_names(n_head, hidden_states):
    return split_heads(hidden_states, n_head)

def layer_norm(x, weight, bias):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5).astype(x.dtype) * weight + bias

def relu(x):
    x *= x > 0  # in place: the judge's own numbers are not changed by it
    return x

def gelu(x):
    if x.shape[0] == 3:
        raise NotImplementedError("three sequences")
    return 0.5 * x * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2)).astype(x.dtype))

def silu(x):
    if x.shape[0] == 3:
        return x[9]
    return x / (1 + np.exp(-x))

def softmax(x):
    raise NotImplementedError("nothing at all")

def needs_more(x, weight, bias, eps, scale):
    return x

def too_few(weight):
    return weight

def exits(t, heads):
    raise SystemExit(0)

def prints(x):
    print("on standard output")
    return np.maximum(x, 0)

def attention_alone(x, params, config):
    from reference.attention import attention
    return attention(x, params, config)[0], None

def dropout(x, keep, rate):
    return x if keep is None else np.where(keep, x / np.array(1 - rate, x.dtype), 0).astype(x.dtype)

def nothing(x):
    return None

def by_keyword(*, hidden, n_head):
    return split_heads(hidden, n_head)

heads_cut = functools.partial(split_heads)

class Called:
    def __call__(self, x, n_head):
        return split_heads(x, n_head)

class Layer:
    def forward(self, hidden):
        return np.maximum(hidden, 0)

    def __call__(self, *given, **named):  # as modules have it
        return self.forward(*given, **named)

called = Called()
layer = Layer()
text = "no function"

class Layers:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the file of ports in it."""
    (tmp_path / "ports_of_mine.py").write_text(PORT, encoding="utf-8")
    (tmp_path / "unreadable.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "failing.py").write_text("import json\n\n1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GPT2_BACKEND", raising=False)
    return tmp_path


def check(*words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the report of `gpt2 check`."""
    ran = run("check", *words, "--json", "--examples", 8)
    return ran.code, json.loads(ran.out)


def test_a_function_is_found_by_its_name(folder: Path) -> None:
    code, report = check("--with", "ports_of_mine.py:split_heads")
    assert code == 0
    names = [each["function"] for each in report["results"]]
    assert names == ["attention.split_heads", "laws.heads_are_neighbouring_channels"]
    assert report["results"][0]["verdict"] == "identical"
    assert report["backend"] == "port:attention.split_heads=ports_of_mine.py:split_heads"


def test_a_function_of_another_name_is_that_which_is_asked_for(folder: Path) -> None:
    assert check("attention.split_heads", "--with", "ports_of_mine.py:cut_only")[0] == 1
    assert check("split_heads", "--with", "ports_of_mine:split_heads")[0] == 0  # as a module, from the folder


def test_arguments_have_other_names(folder: Path) -> None:
    words = ("split_heads", "--with", "ports_of_mine.py:by_other_names")
    assert check(*words, "--map", "x=hidden_states")[0] == 0


def test_a_parameter_that_is_not_there_is_not_drawn(folder: Path) -> None:
    code, report = check("layer_norm", "--with", "ports_of_mine.py:layer_norm")
    assert code == 0
    assert report["supports"] == ["eps: 1e-05"]


def test_what_a_port_writes_to_is_a_copy(folder: Path) -> None:
    assert check("relu", "--with", "ports_of_mine.py:relu")[0] == 0


def test_a_file_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    (folder / "marked.py").write_bytes(b"\xef\xbb\xbf" + PORT.encode())
    ran = run("check", "attention.split_heads", "--with", f"{folder / 'marked.py'}:split_heads", "--examples", "2")
    assert "agrees on" in ran.result or "identical" in ran.result


def test_a_case_that_is_refused_does_not_undo_the_others(folder: Path) -> None:
    code, report = check("gelu", "--with", "ports_of_mine.py:gelu")
    (result,) = report["results"]
    assert (code, result["verdict"]) == (0, "agrees")
    assert result["not_offered"] == {"three sequences": result["not_offered"]["three sequences"]}
    assert result["cases"] > 60
    shown = run("check", "gelu", "--with", "ports_of_mine.py:gelu", "--examples", 8).out
    assert f"cases judged, {result['not_offered']['three sequences']} not offered: three sequences" in shown


@pytest.mark.parametrize(
    "words",
    [
        ["split_heads", "--with", "ports_of_mine.py:heads_cut"],
        ["split_heads", "--with", "ports_of_mine.py:called"],
        ["split_heads", "--with", "ports_of_mine.py:by_keyword", "--map", "x=hidden"],
        ["relu", "--with", "ports_of_mine.py:prints"],
        ["relu", "--with", "ports_of_mine.py:layer"],
        ["ops.dropout", "--with", "ports_of_mine.py:dropout"],
        ["attention.attention", "--with", "ports_of_mine.py:attention_alone", "--as", "course"],
    ],
    ids=lambda words: words[2].partition(":")[2],
)
def test_a_right_function_of_any_kind_agrees(folder: Path, words: list[str]) -> None:
    code, report = check(*words)
    assert code == 0, report["results"]
    assert report["results"][0]["cases"] >= 8


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("split_heads:exits", "RuntimeError: the port calls sys.exit(0)"),
        ("relu:nothing", "returned something of type NoneType; the contract is (B, T, C)"),
    ],
)
def test_what_is_no_result_is_told(folder: Path, name: str, said: str) -> None:
    function, _, port = name.partition(":")
    code, report = check(function, "--with", f"ports_of_mine.py:{port}")
    assert code == 1
    assert said in report["results"][0]["explanation"]


def test_rules_of_other_functions_are_left_out(folder: Path) -> None:
    words = ("ops", "laws", "--with", "ports_of_mine.py:layer_norm", "--processes", "2")
    code, report = check(*words)
    assert code == 0
    assert {each["function"].split(".")[0] for each in report["results"]} == {"ops", "laws"}
    assert len(report["results"]) < 12


def test_an_edited_file_is_another_version(folder: Path) -> None:
    before = get_port("ports_of_mine.py:layer_norm").version  # type: ignore[attr-defined]
    (folder / "ports_of_mine.py").write_text(PORT.replace("+ bias", "- bias"), encoding="utf-8")
    assert get_port("ports_of_mine.py:layer_norm").version != before  # type: ignore[attr-defined]


def test_nothing_judged_is_no_success(folder: Path) -> None:
    code, report = check("softmax", "--with", "ports_of_mine.py:softmax")
    assert (code, report["results"][0]["verdict"]) == (3, "not offered")
    assert "Nothing was judged" in run("check", "softmax", "--with", "ports_of_mine.py:softmax").out


def test_an_exception_is_told_with_its_place_in_the_file(folder: Path) -> None:
    code, report = check("silu", "--with", "ports_of_mine.py:silu")
    assert code == 1
    line = PORT.split("\n").index("        return x[9]") + 1
    assert report["results"][0]["explanation"].endswith(f"(ports_of_mine.py:{line})")
    assert "Traceback" not in report["results"][0]["explanation"]


def test_a_failure_has_its_line_and_a_script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run("check", "split_heads", "--with", "ports_of_mine.py:cut_only", "--script")
    line = PORT.split("\n").index("    return t.reshape(len(t), heads, t.shape[1], -1)") + 1
    assert f"ports_of_mine.py:{line}: return t.reshape" in ran.out
    script = '"""port:' + ran.out.partition('"""port:')[2].rpartition("\n1 of 1 ")[0]
    (folder / "failure.py").write_text(script, encoding="utf-8")
    compiled = compile(script, "failure.py", "exec")
    monkeypatch.setattr(sys, "argv", ["failure.py"])
    with pytest.raises(SystemExit, match="differs at"):
        exec(compiled, {"__name__": "__main__"})
    assert "--script prints" in run("check", "split_heads", "--with", "ports_of_mine.py:cut_only").out


@pytest.mark.parametrize(
    ("text", "framework"),
    [
        ("import numpy", "numpy"),
        ("from transformers import GPT2LMHeadModel", "torch"),
        ("from layers import cut", "mindspore"),
        ("from . import layers", "mindspore"),
        ("import package.parts", "torch"),
    ],
)
def test_the_framework_is_that_of_the_file_or_of_those_beside_it(text: str, framework: str, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    files = {"port": text, "layers": "import port\nimport mindnlp.core", "package/parts": "import torch.nn"}
    for name, source in files.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    assert guessed(tmp_path / "port.py") == framework


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--with", "absent.py:f"], "absent.py does not exist"),
        (
            ["--with", "ports_of_mine.py:split_head"],
            "has no 'split_head': did you mean 'split_heads'?",
        ),
        (["--with", "ports_of_mine.py"], "a port is FILE.py:NAME or MODULE:NAME"),
        (["--with", "ports_of_mine.py:text"], "ports_of_mine.py:text is of type str: expected a function or a class"),
        (["--with", "ports_of_mine.py:Layers"], "ports_of_mine.py:Layers is a class without the methods"),
        (["--with", "ports_of_mine.py:cut_only"], "ports_of_mine.py:cut_only is no build(config, parameters)"),
        (["--with", "unreadable.py:f"], "unreadable.py cannot be imported: SyntaxError"),
        (
            ["--with", "failing.py:f"],
            "cannot be imported: ZeroDivisionError: division by zero (failing.py:3)",
        ),
        (["--with", "no_such_module:f"], "module 'no_such_module' cannot be imported"),
        (["layer_norm", "--with", "ports_of_mine.py:needs_more"], "needs 5 arguments (x, weight, bias, eps, scale)"),
        (["layer_norm", "--with", "ports_of_mine.py:too_few"], "takes no 'x', which ops.layer_norm needs"),
        (["split_heads", "--with", "ports_of_mine.py:split_heads", "--map", "x"], "--map is OURS=THEIRS"),
        (["split_heads", "--with", "ports_of_mine.py:split_heads", "--map", "y=t"], "has no argument 'y'"),
        (
            ["split_heads", "--with", "ports_of_mine.py:split_heads", "--map", "x=y"],
            "has no parameter 'y': it has t, heads",
        ),
        (
            ["split_heads", "--with", "ports_of_mine.py:by_keyword"],
            "has a parameter 'hidden', which attention.split_heads",
        ),
        (["relu", "--with", "a=b.py:f"], "cannot have a '=' in it: rename the file"),
        (["relu", "--with", "ports_of_mine.py:prints", "--map", "x=x", "--map", "x=x"], "--map names 'x' twice"),
        (["--with", "ports_of_mine.py:split_heads", "--framework", "jax"], "unknown framework 'jax'"),
        (["--with", "ports_of_mine.py:split_heads", "--as", "curse"], "unknown preset 'curse'"),
        (["--with", "ports_of_mine.py:split_heads", "--backend", "numpy"], "leave one of them out"),
        (["--with", "ports_of_mine.py:split_heads", "--mode", "graph"], "a port has no mode 'graph'"),
        (["--framework", "torch"], "give that too"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(folder: Path, words: list[str], said: str) -> None:
    ran = run("check", *words)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed here")
def test_a_framework_that_is_not_here_is_named(folder: Path) -> None:
    (folder / "on_torch.py").write_text("import torch\n\ndef relu(x):\n    return x.relu()\n", encoding="utf-8")
    ran = run("check", "--with", "on_torch.py:relu")
    assert ran.code == 2
    assert "torch" in ran.err


def heads(x: np.ndarray, n_head: int) -> np.ndarray:
    return x.reshape(*x.shape[:2], n_head, -1).swapaxes(1, 2)


@pytest.mark.parametrize(
    ("target", "agrees"), [(heads, True), (lambda x, n_head: heads(x, n_head)[:, ::-1], False)], ids=["right", "wrong"]
)
def test_a_function_is_judged_in_python(target: Callable[..., Any], agrees: bool) -> None:
    result = parity.check_function(target, "attention.split_heads")
    assert result.agrees == agrees
    assert bool(result.blame) != agrees


def test_a_function_must_be_in_the_mirror() -> None:
    with pytest.raises(GPT2Error, match=r"no function 'ops\.splits' in the mirror"):
        parity.check_function(heads, "ops.splits")


def test_a_name_makes_the_same_backend_again(folder: Path) -> None:
    source = port_for("ports_of_mine.py:by_other_names", ["split_heads"], names=(("x", "hidden_states"),))
    backend = get_port(str(source))
    assert backend.name == "port:attention.split_heads=ports_of_mine.py:by_other_names;x=hidden_states"
    assert get_port(backend.name.removeprefix("port:")).name == backend.name
