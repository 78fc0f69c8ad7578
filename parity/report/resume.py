"""Save the findings of a long run in a file, so that a later run can continue from there."""

import json
from pathlib import Path
from typing import Any

import msgspec

from gpt2.errors import GPT2Error
from gpt2.files import write_text
from gpt2.json_input import as_type, read_json
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


class _Results(msgspec.Struct):
    results: list[Finding]


def _read(path: Path, expected: dict[str, Any]) -> dict[str, Finding]:
    facts = read_json(path, dict[str, Any])
    if facts.get("schema") != SCHEMA:
        raise GPT2Error(f"{path} holds no results of a check ({SCHEMA}): name another file, or a new one")
    hint = "; remove the file to start again"
    kept = as_type(facts.get("settings"), dict[str, Any], f"{path}: 'settings'", hint)
    for name, value in expected.items():
        if kept.get(name) != value:
            raise GPT2Error(
                f"{path} was made with {name} {kept.get(name)!r}, this run has {value!r}: "
                "run with the same settings, or name another file"
            )
    found = as_type(facts, _Results, str(path), hint).results
    return {finding.function: finding for finding in found}
