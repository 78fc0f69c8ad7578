"""Formulas that are right and round elsewhere than the reference: judged by what their arithmetic can do, no laxer."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2.backends import NumPyBackend
from gpt2.errors import GPT2Error
from parity.cases.supports import UNKNOWN, Supports
from parity.check import SearchResult, check_rule, rules
from parity.ports.frameworks import framework
from parity.ports.function_port import FunctionPort
from parity.ports.port import get_port
from parity.ports.source import PortSource
from parity.verdict.steps import plain, steps

ERF = np.vectorize(math.erf, otypes=[np.float64])


def softmax(x: Any) -> Any:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def layer_norm(x: Any, weight: Any, bias: Any, eps: Any = 1e-5) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + x.dtype.type(eps)) * weight + bias


def gelu_new(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + ERF(x / math.sqrt(2)).astype(x.dtype))


def silu(x: Any) -> Any:
    return x * 0.5 * (1 + np.tanh(x / 2))


def silu_by_division(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def one_pass(x: Any, weight: Any, bias: Any, eps: Any = 1e-5) -> Any:
    variance = (x * x).mean(-1, keepdims=True) - x.mean(-1, keepdims=True) ** 2
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(np.abs(variance) + x.dtype.type(eps)) * weight + bias


def unbiased(x: Any, weight: Any, bias: Any, eps: Any = 1e-5) -> Any:
    return layer_norm(x, weight, bias, eps) * x.dtype.type(math.sqrt(1 - 1 / x.shape[-1]))


RIGHT: dict[str, tuple[Callable[..., Any], ...]] = {
    "ops.softmax": (softmax,),
    "ops.layer_norm": (layer_norm,),
    "ops.gelu_new": (gelu_new,),
    "ops.gelu": (gelu,),
    "ops.silu": (silu, silu_by_division),
}
CASES = [(name, target) for name, targets in RIGHT.items() for target in targets]
WRONG = [
    ("ops.softmax", lambda x: softmax(x.swapaxes(1, 2)).swapaxes(1, 2)),
    ("ops.layer_norm", one_pass),
    ("ops.layer_norm", unbiased),
    ("ops.gelu_new", lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.44715 * x * x * x)))),
    ("ops.gelu", silu),
    ("ops.silu", lambda x: np.where(x < -2, 0, silu(x)).astype(x.dtype)),
]


def judged(function: str, target: Callable[..., Any], dtype: str, **supports: Any) -> SearchResult:
    """The verdict on a port, of whose rounding nothing is declared unless by `supports`."""
    declared, source = Supports.read(UNKNOWN | supports), PortSource(f"{__file__}:{target.__name__}", function)
    port = FunctionPort(source, target, framework("numpy"), dtype, declared, Path(__file__))
    return check_rule(rules()[function], port, 60 if rules()[function].is_cheap else 20)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("function", "target"), CASES, ids=lambda x: getattr(x, "__name__", None))
def test_a_right_formula_agrees(function: str, target: Callable[..., Any], dtype: str) -> None:
    result = judged(function, target, dtype)
    assert result.agrees, result.to_dict()
    assert result.cases >= 20


@pytest.mark.parametrize(("function", "target"), WRONG)
def test_a_wrong_formula_does_not(function: str, target: Callable[..., Any]) -> None:
    assert not judged(function, target, "float16").agrees
    if function == "ops.silu":
        assert not judged(function, target, "float32").agrees


def test_who_rounds_once_is_held_to_it() -> None:
    """A zero where the GELU is -7e-5 is what 16 bits make of 1 + tanh, and of nothing that rounds once."""
    assert not judged("ops.gelu_new", gelu_new, "float16", rounds="once").agrees
    assert Supports.of(get_port(f"ops.gelu_new={__file__}:gelu_new", dtype="float16")).every_step
    assert Supports.of(get_port(f"{__file__}:Engine", dtype="float16")) == Supports()  # a backend says it itself
    with pytest.raises(GPT2Error, match="must be one of once, every step, but is 'twice'"):
        Supports.read({"rounds": "twice"})


class Engine(NumPyBackend):
    """A backend that declares nothing."""


def test_numbers_that_the_dtype_has_stay() -> None:
    float16 = np.dtype(np.float16)
    x = np.float32([[-4.5, 1.25, 1000.0, 2.0**-24, 65504.0]])
    stepwise = steps(x.copy(), float16, np.random.default_rng(0))
    assert (plain(stepwise * 1) == x).all()
    assert plain(stepwise.max(-1))[0] == x.max()
    many = np.repeat(stepwise[:, 1:2], 4000, axis=1) + np.float32(2.0**-12)  # a quarter of the way to the next number
    assert set(plain(many)[0].tolist()) == {1.25, 1.25 + 2.0**-10}
    assert 800 < (plain(many) > 1.25).sum() < 1200
    assert type(np.where(x > 0, stepwise, 0)) is type(stepwise)


@pytest.mark.skipif(importlib.util.find_spec("mindspore") is None, reason="MindSpore is not installed")
def test_a_gelu_by_mindspores_coarse_sigmoid_is_right(tmp_path: Path) -> None:
    """Where 1 + tanh is much less than 1, the error of sigmoid is many units in the last place of the tanh's."""
    written = "def {}(x):\n    return x * ops.sigmoid({} * (x + 0.044715 * x * x * x))\n"
    functions = [written.format("right", 2 * math.sqrt(2 / math.pi)), written.format("cut_short", 1.5957)]
    (tmp_path / "by_sigmoid.py").write_text("\n".join(["from mindspore import ops", *functions]), encoding="utf-8")
    for name in ("right", "cut_short"):
        port = get_port(f"ops.gelu_new={tmp_path / 'by_sigmoid.py'}:{name}")
        assert check_rule(rules()["ops.gelu_new"], port, 200).agrees == (name == "right"), name
