"""Save the findings of a long run in a file, so that a later run can continue from there."""

import json
from pathlib import Path
from typing import Any

from gpt2.errors import GPT2Error
from gpt2.files import write_text
from parity.report.finding import Finding
from parity.report.record import Report

SCHEMA = "gpt2-check-progress/1"
VERSIONS = ("project", "python", "numpy", "mindspore", "backend_version", "machine")


class SavedFindings:
    """The findings in a file, by function; those of a run with the same settings, or none. path None: no file.

    Raises GPT2Error if the file is damaged, or was made with other settings.
    """

    def __init__(self, path: Path | None, report: Report) -> None:
        self._path, self._settings = path, settings(report)
        self.findings: dict[str, Finding] = {}
        if path is not None and path.exists():
            self.findings = _read(path, self._settings)

    def add(self, finding: Finding) -> None:
        """Keep one more finding."""
        self.findings[finding.function] = finding
        if self._path is not None:
            results = [finding.to_dict() for finding in self.findings.values()]
            facts = {"schema": SCHEMA, "settings": self._settings, "results": results}
            write_text(self._path, json.dumps(facts, ensure_ascii=False, allow_nan=False))


def settings(report: Report) -> dict[str, Any]:
    """What two runs must have in common so that one can continue where the other stopped."""
    options = {name: getattr(report, name) for name in ("backend", "device", "dtype", "mode", "seed", "examples")}
    return options | {name: report.environment[name] for name in VERSIONS}


def _read(path: Path, expected: dict[str, Any]) -> dict[str, Finding]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{path} is not valid JSON: {error}") from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        raise GPT2Error(f"{path} holds no results of a check ({SCHEMA}): name another file, or a new one")
    kept, results = facts.get("settings"), facts.get("results")
    if not isinstance(kept, dict) or not isinstance(results, list):
        raise GPT2Error(f"{path} has no settings and results: remove it to start again")
    for name, value in expected.items():
        if kept.get(name) != value:
            raise GPT2Error(
                f"{path} was made with {name} {kept.get(name)!r}, this run has {value!r}: "
                "run with the same settings, or name another file"
            )
    findings = [Finding.from_dict(result, f"{path}: result {i}") for i, result in enumerate(results, start=1)]
    return {finding.function: finding for finding in findings}
