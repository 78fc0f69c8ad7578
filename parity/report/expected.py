"""Known failures: a file lists which, by how much and why; an entry that no longer holds makes the run fail.

docs/report.md shows such a file.
"""

import dataclasses
import datetime
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from gpt2.errors import GPT2Error
from gpt2.json_input import Filled, as_type, read_json
from parity.report.finding import Finding

SCHEMA = "gpt2-expected-failures/1"
DRIFT = 2  # an error may be this many times larger or smaller than the measured one
RUN = ("backend", "device", "dtype", "mode", "version")  # an entry applies to a run with the same values

EXPECTED = "expected"
PASSES = "unexpected pass"
MOVED = "moved"
EXPIRED = "expired"
OTHER_RUN = "other run"
NOT_JUDGED = "not judged"


class ExpectedFailure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file. version is that of the backend's library; noise_ratio None: it fails without a figure."""

    function: Filled
    device: Filled
    dtype: Filled
    backend: Filled
    mode: Filled
    version: Filled
    noise_ratio: Annotated[float, msgspec.Meta(gt=0, le=sys.float_info.max)] | None
    reason: Filled
    measured: datetime.date


class _File(msgspec.Struct):
    failures: list[ExpectedFailure]


@dataclasses.dataclass(frozen=True)
class ExpectedOutcome:
    """The status of an entry in a run.

    status: EXPECTED, it fails by about the measured figure; PASSES; MOVED, it fails by another figure; EXPIRED, it was
    measured with another version; OTHER_RUN, on another backend, device, dtype or mode; NOT_JUDGED, the function was
    not part of the run, or no case could judge it.
    """

    entry: ExpectedFailure
    status: str
    message: str

    @property
    def applies(self) -> bool:
        """Whether the entry applies to this run."""
        return self.status in (EXPECTED, PASSES, MOVED)

    def to_dict(self) -> dict[str, Any]:
        """The entry and its status, fit for JSON."""
        return msgspec.to_builtins(self.entry) | {"status": self.status, "message": self.message}


def load(path: Path) -> list[ExpectedFailure]:
    """The entries of a file. Raises GPT2Error, naming entry and field, for what is missing, unknown or wrong."""
    facts = read_json(path, dict[str, Any])
    if facts.get("schema") != SCHEMA:
        raise GPT2Error(f'{path}: expected an object {{"schema": "{SCHEMA}", "failures": [...]}}')
    entries = as_type(facts, _File, str(path)).failures
    seen: dict[tuple[str, ...], int] = {}
    for number, entry in enumerate(entries):
        key = (entry.function, *(getattr(entry, field) for field in RUN))
        if key in seen:
            raise GPT2Error(f"{path}: 'failures[{number}]' says the same as 'failures[{seen[key]}]': keep one of them")
        seen[key] = number
    return entries


def apply(
    expected: Iterable[ExpectedFailure], results: Iterable[Finding], environment: Mapping[str, str]
) -> list[ExpectedOutcome]:
    """The status of each entry in a run with these results; environment has a value for every name in RUN."""
    by_function = {result.function: result for result in results}
    return [_outcome(entry, by_function.get(entry.function), environment) for entry in expected]


def _outcome(entry: ExpectedFailure, finding: Finding | None, environment: Mapping[str, str]) -> ExpectedOutcome:
    other = [field for field in RUN if getattr(entry, field) != environment[field]]
    if other == ["version"]:
        return ExpectedOutcome(
            entry,
            EXPIRED,
            f"measured with {entry.backend} {entry.version}, this is "
            f"{environment['version']}: measure again, or remove the entry",
        )
    if other:
        differences = ", ".join(f"{field} {getattr(entry, field)}, here {environment[field]}" for field in other)
        return ExpectedOutcome(entry, OTHER_RUN, f"does not apply to this run: {differences}")
    if finding is None or not finding.judged:
        return ExpectedOutcome(entry, NOT_JUDGED, "this run did not judge it")
    if finding.agrees:
        return ExpectedOutcome(entry, PASSES, f"expected to fail ({entry.reason}), but agrees: remove the entry")
    if _near(entry.noise_ratio, finding.noise_ratio):
        return ExpectedOutcome(entry, EXPECTED, f"fails as expected: {entry.reason} (measured {entry.measured})")
    return ExpectedOutcome(
        entry,
        MOVED,
        f"expected to fail by {_figure(entry.noise_ratio)}, fails by {_figure(finding.noise_ratio)}: not within "
        f"{DRIFT} x of what was measured on {entry.measured}; look again, then measure again",
    )


def _near(measured: float | None, found: float | None) -> bool:
    if measured is None or found is None:
        return measured is found
    return measured / DRIFT <= found <= measured * DRIFT


def _figure(noise_ratio: float | None) -> str:
    return "no figure (an error, a wrong shape, NaN)" if noise_ratio is None else f"{noise_ratio:.3g} x noise"
