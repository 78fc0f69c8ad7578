"""Known failures: a file lists which, by how much and why; an entry that no longer holds makes the run fail.

docs/report.md shows such a file.
"""

import dataclasses
import datetime
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpt2.errors import GPT2Error
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


@dataclasses.dataclass(frozen=True)
class ExpectedFailure:
    """One entry of the file. version is that of the backend's library; noise_ratio None: it fails without a figure."""

    function: str
    device: str
    dtype: str
    backend: str
    mode: str
    version: str
    noise_ratio: float | None
    reason: str
    measured: str


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
        return dataclasses.asdict(self.entry) | {"status": self.status, "message": self.message}


def load(path: Path) -> list[ExpectedFailure]:
    """The entries of a file. Raises GPT2Error, naming entry and field, for what is missing, unknown or wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark first
        facts = json.loads(text)
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{path} is not valid JSON: {error}") from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA or not isinstance(facts.get("failures"), list):
        raise GPT2Error(f'{path}: expected an object {{"schema": "{SCHEMA}", "failures": [...]}}')
    entries = [_entry(entry, f"{path}: entry {number}") for number, entry in enumerate(facts["failures"], start=1)]
    seen: dict[tuple[str, ...], int] = {}
    for number, entry in enumerate(entries, start=1):
        key = (entry.function, *(getattr(entry, field) for field in RUN))
        if key in seen:
            raise GPT2Error(f"{path}: entry {number} says the same as entry {seen[key]}: keep one of them")
        seen[key] = number
    return entries


def _entry(facts: Any, where: str) -> ExpectedFailure:
    if not isinstance(facts, dict):
        raise GPT2Error(f"{where}: expected an object, got {facts!r}")
    fields = [field.name for field in dataclasses.fields(ExpectedFailure)]
    for field in fields:
        if field not in facts:
            raise GPT2Error(f"{where}: the field {field!r} is missing")
        value = facts[field]
        if field == "noise_ratio":
            if value is not None and (type(value) not in (int, float) or not 0 < value <= sys.float_info.max):
                raise GPT2Error(f"{where}: 'noise_ratio' must be a number above 0, or null, but is {value!r}")
        elif not isinstance(value, str) or not value.strip():
            raise GPT2Error(f"{where}: {field!r} must be a text that is not empty, but is {value!r}")
    unknown = facts.keys() - set(fields)
    if unknown:
        raise GPT2Error(f"{where}: there is no field {min(unknown)!r}; the fields are {', '.join(fields)}")
    try:
        datetime.date.fromisoformat(facts["measured"])
    except ValueError as error:
        raise GPT2Error(
            f"{where}: 'measured' must be a date such as 2026-01-31, but is {facts['measured']!r}"
        ) from error
    return ExpectedFailure(**facts)


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
