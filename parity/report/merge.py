"""Put the reports of all shards together: what one run would have found."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from gpt2.errors import GPT2Error
from gpt2.json_input import as_type, read_json
from parity.report.expected import ExpectedFailure, apply
from parity.report.finding import Finding
from parity.report.record import SCHEMA, Report
from parity.report.resume import settings
from parity.report.shard import Shard

OUTCOME = {"status", "message"}  # what a report adds to an entry of the file of expected failures


class _Facts(msgspec.Struct):
    """What is read of a report; the other fields follow from these."""

    backend: str
    device: str
    dtype: str
    mode: str
    seed: int
    examples: int
    environment: dict[str, str | None]
    supports: list[str]
    interrupted: bool
    not_run: list[str]
    results: list[dict[str, Any]]
    seconds: dict[str, float]
    expected_failures: list[dict[str, Any]]
    shard: Shard
    explanations: dict[str, Any] = {}


def _read(path: Path) -> tuple[Report, list[ExpectedFailure]]:
    """The report that `gpt2 check --shard 2/8 --json` printed, and the entries of its file of expected failures.

    Raises GPT2Error if the file is something else.
    """
    facts = read_json(path, dict[str, Any])
    if facts.get("schema") != SCHEMA or "shard" not in facts:
        raise GPT2Error(f"{path} holds no report of a shard: name files that gpt2 check --shard 2/8 --json wrote")
    read = as_type(facts, _Facts, str(path))
    results = [
        {field: value for field, value in result.items() if field != "verdict"}
        | {"seconds": read.seconds.get(str(result.get("function")), 0.0)}
        | {"explained": read.explanations.get(str(result.get("function")))}
        for result in read.results
    ]
    entries = [{name: x for name, x in entry.items() if name not in OUTCOME} for entry in read.expected_failures]
    findings = as_type(results, list[Finding], f"{path}: 'results'")
    report = Report(
        read.backend,
        read.device,
        read.dtype,
        read.mode,
        read.seed,
        read.examples,
        read.environment,
        [*(finding.function for finding in findings), *read.not_run],
        findings,
        interrupted=read.interrupted,
        supports=read.supports,
        shard=read.shard,
    )
    return report, as_type(entries, list[ExpectedFailure], f"{path}: 'expected_failures'")


def merge_shards(paths: Sequence[Path]) -> tuple[Report, tuple[str, ...]]:
    """The report of the whole run, and what it was asked for, of the files of its shards in any order.

    Raises GPT2Error, which names the files, for shards of other runs, a shard that is there twice, or missing ones.
    """
    reports, known = zip(*map(_read, paths), strict=True)
    first, shard = reports[0], _shard(reports[0])
    for path, report, entries in zip(paths[1:], reports[1:], known[1:], strict=True):
        for name, value in _settings(first).items():
            other = _settings(report)[name]
            if other != value:
                raise GPT2Error(
                    f"{path} was made with {name} {other!r}, {paths[0]} with {value!r}: shards are of one run"
                )
        if (_shard(report).names, _shard(report).functions) != (shard.names, shard.functions):
            raise GPT2Error(f"{path} shares out other functions than {paths[0]}: shards are of one run")
        if entries != known[0]:
            raise GPT2Error(f"{path} has other expected failures than {paths[0]}: use the same file")
    _require_all(paths, [_shard(report) for report in reports])
    counted = Counter(name for report in reports for name in report.functions)
    every = {**dict.fromkeys(shard.functions), **counted}
    wrong = [name for name in every if counted[name] != (name in shard.functions)]
    if wrong:
        raise GPT2Error(f"{wrong[0]} is in {counted[wrong[0]]} of these files: they were not made by the same gpt2")
    found = {finding.function: finding for report in reports for finding in report.findings}
    whole = Report(
        **{name: getattr(first, name) for name in ("backend", "device", "dtype", "mode", "seed", "examples")},
        environment={name: _joined([report.environment.get(name) for report in reports]) for name in first.environment}
        | {"time": min(report.environment.get("time") or "" for report in reports)},
        functions=list(shard.functions),
        findings=[found[name] for name in shard.functions if name in found],
        interrupted=any(report.interrupted for report in reports),
        supports=first.supports,
    )
    whole.outcomes = apply(known[0], whole.findings, whole.run)
    return whole, shard.names


def _shard(report: Report) -> Shard:
    assert report.shard is not None  # _read refuses others
    return report.shard


def _settings(report: Report) -> dict[str, Any]:
    return settings(report) | {"supports": report.supports, "number of shards": _shard(report).count}


def _require_all(paths: Sequence[Path], shards: Sequence[Shard]) -> None:
    seen: dict[int, Path] = {}
    for path, shard in zip(paths, shards, strict=True):
        if shard.number in seen:
            raise GPT2Error(f"{seen[shard.number]} and {path} are both {shard.words}: give each once")
        seen[shard.number] = path
    missing = [str(number) for number in range(1, shards[0].count + 1) if number not in seen]
    if missing:
        which = f"shard {missing[0]} is" if len(missing) == 1 else f"shards {', '.join(missing)} are"
        raise GPT2Error(f"{which} missing, of {shards[0].count}: give the files of all")


def _joined(values: Sequence[str | None]) -> str | None:
    """The value of all, or those that there are."""
    return "; ".join(sorted({value for value in values if value is not None})) or None
