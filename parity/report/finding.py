"""The result for one function, as plain facts: the table, the page, JSON and JUnit are all made from them.

A finding of this run and one that an earlier run saved in a file have the same form.
"""

import math
from typing import TYPE_CHECKING, Any

import msgspec

from parity.mutants.mistake import Explanation

if TYPE_CHECKING:
    from parity.check import SearchResult

DIGITS = 4  # of a severity: enough to plot it


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One function, or one law, on one backend: the fields of a result in check.schema.json, and how long it took."""

    function: str
    cases: int
    agrees: bool
    offered: bool
    noise_ratio: float | None
    ulps: float | None
    case: str | None
    explanation: str
    blame: str
    script: str
    severities: tuple[float | None, ...]
    seconds: float
    not_offered: dict[str, int] = {}
    explained: Explanation | None = None

    @classmethod
    def of(cls, result: "SearchResult", seconds: float) -> "Finding":
        """The finding for a result of `check_rule`, which took that many seconds."""
        verdict, case = result.failure or result.worst, result.failing_case or result.worst_case
        sized = None if verdict is None or verdict.reason or result.error else verdict
        failed = (math.inf,) if result.error else () if result.failure is None else (result.failure.severity,)
        return cls(
            function=result.function,
            cases=result.cases,
            agrees=result.agrees,
            offered=result.offered,
            noise_ratio=None if sized is None else _finite(sized.noise_ratio),
            ulps=None if sized is None else _finite(sized.ulps),
            case=None if case is None else case.describe(),
            explanation=result.error or ("" if verdict is None else verdict.explain()),
            blame=result.blame,
            script=result.script,
            severities=tuple(_finite(float(f"{x:.{DIGITS}g}")) for x in (*result.errors, *failed)),
            seconds=round(seconds, 3),
            not_offered=dict(result.not_offered),
            explained=result.explained,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields, fit for JSON."""
        return msgspec.to_builtins(self)

    @property
    def is_law(self) -> bool:
        """Whether this is a law, which needs no second implementation, rather than a comparison."""
        return self.function.startswith("laws.")

    @property
    def judged(self) -> bool:
        """Whether there was anything to judge: a law about the past, say, needs a case that has one."""
        return self.offered and (not self.agrees or bool(self.severities))

    @property
    def remark(self) -> str:
        """How many of the cases were judged, if not all: "18 of 25 cases judged, 7 not offered: past"; else ""."""
        if not self.not_offered:
            return ""
        if not self.cases:
            return f"not offered: {', '.join(self.not_offered)}"
        reasons = ", ".join(f"{count} not offered: {reason}" for reason, count in self.not_offered.items())
        return f"{self.cases} of {self.cases + sum(self.not_offered.values())} cases judged, {reasons}"

    @property
    def identical(self) -> bool:
        """Whether every number has the same bits as the reference."""
        return self.agrees and self.judged and self.noise_ratio == 0


def _finite(x: float) -> float | None:
    """x, or None if x is not finite, because JSON has no infinity."""
    return x if math.isfinite(x) else None
