"""Reports to print: findings made up for it, and a backend that fails in every way there is."""

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpt2.backends import Backend, NumPyBackend
from parity.check import Rule, SearchResult
from parity.report.expected import ExpectedFailure, apply
from parity.report.finding import Finding
from parity.report.record import Report
from parity.verdict.verdict import Verdict

HOSTILE = "<script>document.title = 'broken into'</script><img src=x onerror=alert(1)>&quot;]]>$x$"


def finding(function: str, **facts: Any) -> Finding:
    """A finding; unless facts say otherwise, one that agrees."""
    usual = {
        "cases": 4,
        "agrees": True,
        "offered": True,
        "noise_ratio": 0.5,
        "ulps": 2.0,
        "case": "B=1 T=1; live; seed 0",
        "explanation": "2 ulp; 0.5 x this input's rounding noise: agrees",
        "blame": "",
        "script": "",
        "severities": (0.0, 0.02, 0.1, 0.4),
        "seconds": 0.0,
    }
    return Finding(function, **{**usual, **facts})


def failure(function: str, **facts: Any) -> Finding:
    """A finding that does not agree."""
    usual = {
        "agrees": False,
        "noise_ratio": 30.0,
        "ulps": 99.0,
        "explanation": "99 ulp: differs at (0, 0)",
        "blame": "first wrong stage: h.0.attn.scores",
        "script": "import numpy\nassert 1 < 0",
        "severities": (0.1, 7.0),
    }
    return finding(function, **{**usual, **facts})


def entry(function: str, **fields: Any) -> ExpectedFailure:
    """An expected failure of the run that `report` is about."""
    usual = {
        "device": "CPU",
        "dtype": "float32",
        "backend": "numpy",
        "mode": "eager",
        "version": np.__version__,
        "noise_ratio": 30.0,
        "reason": "erf is missing",
        "measured": datetime.date(2026, 1, 31),
    }
    return ExpectedFailure(function, **{**usual, **fields})


def report(*findings: Finding, expected: tuple[ExpectedFailure, ...] = ()) -> Report:
    """A report with these findings."""
    made = Report.about(NumPyBackend(), 4, 0, [each.function for each in findings])
    made.findings = list(findings)
    made.outcomes = apply(expected, made.findings, made.run)
    return made


def full_report() -> Report:
    """One of everything: every verdict, a law, a failure without a figure, text that would break a careless page."""
    return report(
        finding("ops.relu", noise_ratio=0.0, ulps=0.0, severities=(0.0,) * 4),
        finding("ops.softmax", severities=tuple(0.001 * k for k in range(900))),
        finding(f"attention.{'x' * 200}"),
        failure("ops.layer_norm"),
        failure("ops.gelu", explanation="RuntimeError: " + "x" * 300, noise_ratio=None, ulps=None, severities=(None,)),
        failure("ops.silu"),
        finding("model.mlp"),
        failure("model.block", noise_ratio=90.0),
        finding("generate.sample", offered=False, cases=0, noise_ratio=None, ulps=None, case=None, severities=()),
        finding("laws.causality"),
        failure(f"laws.{HOSTILE}", explanation=HOSTILE, case=HOSTILE, blame=HOSTILE, script=HOSTILE),
        expected=(
            entry("ops.silu", reason=HOSTILE),
            entry("model.mlp", reason="y" * 300),
            entry("model.block"),
            entry("ops.relu", version="0.9" + "z" * 300),
            entry("ops.softmax", device="Ascend"),
            entry("ops.conv1d"),
        ),
    )


class Wrong(NumPyBackend):
    """A NumPy backend whose layer_norm is off, whose gelu raises, whose softmax gives NaN, and that has no sample."""

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        if function == "generate.sample":
            raise NotImplementedError(function)
        if function == "ops.gelu":
            raise RuntimeError("no kernel for erf")
        returned = super().call(function, arguments)
        if function == "ops.softmax":
            return np.full_like(returned, np.nan)
        return returned * np.float32(1.01) if function == "ops.layer_norm" else returned


class Scripted:
    """In place of a search: agrees with every rule, and presses Ctrl-C when it comes to the rule called `stop`."""

    def __init__(self, stop: str = "") -> None:
        self.stop = stop
        self.judged: list[str] = []

    def __call__(self, rule: Rule, backend: Backend, examples: int, seed: int) -> SearchResult:
        if rule.name == self.stop:
            raise KeyboardInterrupt
        self.judged.append(rule.name)
        size = len(rule.name) * 1e-8
        verdict = Verdict(True, size, 2e-7, 1e-7, (0,), 1.0, 1.0 + size)
        return SearchResult(rule.name, cases=examples, worst=verdict, errors=[verdict.severity] * examples)
