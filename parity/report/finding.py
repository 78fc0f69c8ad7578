"""The result for one function, as plain facts: the table, the page, JSON and JUnit are all made from them.

A finding of this run and one that an earlier run saved in a file have the same form.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from gpt2.errors import GPT2Error

if TYPE_CHECKING:
    from parity.check import SearchResult

DIGITS = 4  # of a severity: enough to plot it


@dataclasses.dataclass(frozen=True)
class Finding:
    """One function, or one law, on one backend: the fields of a result in check.schema.json, and how long it took."""

    function: str
    cases: int
    agrees: bool
    offered: bool = True
    noise_ratio: float | None = None
    ulps: float | None = None
    case: str | None = None
    explanation: str = ""
    blame: str = ""
    script: str = ""
    severities: tuple[float | None, ...] = ()
    seconds: float = 0.0

    @classmethod
    def of(cls, result: "SearchResult", seconds: float) -> "Finding":
        """The finding for a result of `check_rule`, which took that many seconds."""
        verdict, case = result.failure or result.worst, result.failing_case or result.worst_case
        sized = None if verdict is None or verdict.reason or result.error else verdict
        failed = (math.inf,) if result.error else () if result.failure is None else (result.failure.severity,)
        return cls(
            function=result.function,
            cases=result.cases if result.offered else 0,
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
        )

    @classmethod
    def from_dict(cls, facts: Any, where: str) -> "Finding":
        """Read what to_dict wrote. Raises GPT2Error, naming the field, for anything else; where names the source."""
        if not isinstance(facts, dict):
            raise GPT2Error(f"{where}: expected an object, got {facts!r}")
        for field, kinds in KINDS.items():
            if field not in facts:
                raise GPT2Error(f"{where}: the field {field!r} is missing")
            if type(facts[field]) not in kinds:
                expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
                raise GPT2Error(f"{where}: the field {field!r} must be {expected}, but is {facts[field]!r}")
        unknown = facts.keys() - KINDS.keys()
        if unknown:
            raise GPT2Error(f"{where}: there is no field {min(unknown)!r}")
        return cls(**{**facts, "severities": tuple(facts["severities"])})

    def to_dict(self) -> dict[str, Any]:
        """The fields, fit for JSON."""
        return dataclasses.asdict(self) | {"severities": list(self.severities)}

    @property
    def is_law(self) -> bool:
        """Whether this is a law, which needs no second implementation, rather than a comparison."""
        return self.function.startswith("laws.")

    @property
    def judged(self) -> bool:
        """Whether there was anything to judge: a law about the past, say, needs a case that has one."""
        return self.offered and (not self.agrees or bool(self.severities))

    @property
    def identical(self) -> bool:
        """Whether every number has the same bits as the reference."""
        return self.agrees and self.judged and self.noise_ratio == 0


NUMBER = (float, int)
KINDS: dict[str, tuple[type, ...]] = {
    "function": (str,),
    "cases": (int,),
    "agrees": (bool,),
    "offered": (bool,),
    "noise_ratio": (*NUMBER, type(None)),
    "ulps": (*NUMBER, type(None)),
    "case": (str, type(None)),
    "explanation": (str,),
    "blame": (str,),
    "script": (str,),
    "severities": (list,),
    "seconds": NUMBER,
}


def _finite(x: float) -> float | None:
    """x, or None if x is not finite, because JSON has no infinity."""
    return x if math.isfinite(x) else None
