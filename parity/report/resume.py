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

SCHEMA, COLUMNS_SCHEMA = "gpt2-check-progress/1", "gpt2-matrix-progress/1"
VERSIONS = ("project", "python", "numpy", "mindspore", "backend_version", "machine")
HINT = "; remove the file to start again"


class SavedFindings:
    """The findings in a file, by function; those of a run with the same settings, or none. path None: no file.

    Raises GPT2Error if the file is damaged, or was made with other settings.
    """

    def __init__(self, path: Path | None, report: Report) -> None:
        self._path, self._settings = path, settings(report)
        self.findings: dict[str, Finding] = {}
        if path is not None and path.exists():
            self.findings = _findings(_facts(path, SCHEMA, "a check"), self._settings, str(path))

    def add(self, finding: Finding) -> None:
        """Keep one more finding."""
        self.findings[finding.function] = finding
        self._save({"settings": self._settings, "results": [each.to_dict() for each in self.findings.values()]})

    def _save(self, kept: dict[str, Any]) -> None:
        if self._path is not None:
            _write(self._path, {"schema": SCHEMA, **kept})


class SavedColumns:
    """The findings of a matrix in a file, by column. path None: no file. Raises GPT2Error if the file is damaged."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.columns = path, dict[str, Any]()
        if path is not None and path.exists():
            columns = _facts(path, COLUMNS_SCHEMA, "a matrix").get("columns")
            self.columns = as_type(columns, dict[str, Any], f"{path}: 'columns'", HINT)

    def save(self, name: str, kept: dict[str, Any]) -> None:
        """Keep what is known of one column."""
        self.columns[name] = kept
        if self.path is not None:
            _write(self.path, {"schema": COLUMNS_SCHEMA, "columns": self.columns})


class SavedColumn(SavedFindings):
    """The findings of one column. Raises GPT2Error if they are damaged, or were made with other settings."""

    def __init__(self, columns: SavedColumns, name: str, report: Report) -> None:
        super().__init__(None, report)
        self._columns, self._name = columns, name
        if name in columns.columns:
            where = f"{columns.path}: column {name}"
            kept = as_type(columns.columns[name], dict[str, Any], where, HINT)
            self.findings = _findings(kept, self._settings, where)

    def _save(self, kept: dict[str, Any]) -> None:
        self._columns.save(self._name, kept)


def settings(report: Report) -> dict[str, Any]:
    """What two runs must have in common so that one can continue where the other stopped."""
    options = {name: getattr(report, name) for name in ("backend", "device", "dtype", "mode", "seed", "examples")}
    return options | {name: report.environment[name] for name in VERSIONS}


class _Results(msgspec.Struct):
    results: list[Finding]


def _write(path: Path, facts: dict[str, Any]) -> None:
    write_text(path, json.dumps(facts, ensure_ascii=False, allow_nan=False))


def _facts(path: Path, schema: str, what: str) -> dict[str, Any]:
    facts = read_json(path, dict[str, Any])
    if facts.get("schema") != schema:
        raise GPT2Error(f"{path} holds no results of {what} ({schema}): name another file, or a new one")
    return facts


def _findings(facts: dict[str, Any], expected: dict[str, Any], where: str) -> dict[str, Finding]:
    kept = as_type(facts.get("settings"), dict[str, Any], f"{where}: 'settings'", HINT)
    for name, value in expected.items():
        if kept.get(name) != value:
            raise GPT2Error(
                f"{where} was made with {name} {kept.get(name)!r}, this run has {value!r}: "
                "run with the same settings, or name another file"
            )
    found = as_type(facts, _Results, where, HINT).results
    return {finding.function: finding for finding in found}
