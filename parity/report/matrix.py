"""Several backends, versions, modes and dtypes side by side, each against the reference: a report for every column."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.backends import Backend, NumPyBackend, get_backend
from gpt2.errors import GPT2Error, described
from gpt2.files import require_writable
from gpt2.interrupt import one_interrupt
from parity.check import select
from parity.report.finding import Finding
from parity.report.record import (
    AGREES,
    DIFFERS,
    IDENTICAL,
    NOT_OFFERED,
    NOTHING_JUDGED,
    SCHEMA,
    UNTRIED,
    Report,
    environment,
)
from parity.report.resume import SavedColumn, SavedColumns
from parity.report.run import Check, Engine, processes_for, search

NOT_RUN, STOPPED = "not run", "stopped"
# How much a version of MindSpore is to blame for what differs on it.
OF_THE_VERSION, OF_BOTH, UNKNOWN = "this version alone", "other versions too", "unknown"


@dataclasses.dataclass
class Cell:
    """What a column says of some rules: how many were judged, how many of them differ, the worst error over its noise.

    verdict: DIFFERS, AGREES, IDENTICAL, NOT_OFFERED, UNTRIED, NOT_RUN or STOPPED.
    """

    verdict: str
    judged: int = 0
    differing: int = 0
    worst: float | None = None


@dataclasses.dataclass
class Column:
    """One backend as it was named, with its report. error: why it has none, or why that ends early."""

    name: str
    engine: Engine
    report: Report | None = None
    error: str = ""

    @property
    def functions(self) -> list[str]:
        """The rules that it is judged by."""
        return [] if self.report is None else self.report.functions

    def cell(self, functions: Sequence[str]) -> Cell:
        """What this column says of these rules."""
        if self.report is None:
            return Cell(STOPPED if self.error else NOT_RUN)
        findings = [finding for finding in self.report.findings if finding.function in functions]
        judged = [finding for finding in findings if finding.judged]
        differing = sum(not finding.agrees for finding in judged)
        ratios = [finding.noise_ratio for finding in judged if finding.noise_ratio is not None]
        missing = bool(set(self.report.not_run).intersection(functions))
        if differing:
            verdict = DIFFERS
        elif missing:
            verdict = STOPPED if self.error else NOT_RUN
        elif judged:
            verdict = IDENTICAL if all(finding.identical for finding in judged) else AGREES
        else:
            verdict = UNTRIED if any(finding.offered for finding in findings) else NOT_OFFERED
        return Cell(verdict, len(judged), differing, max(ratios, default=None))

    def finding(self, function: str) -> Finding | None:
        """What it found for this rule, if it came to it."""
        found = self.report.findings if self.report is not None else []
        return next((finding for finding in found if finding.function == function), None)

    @property
    def failing(self) -> list[Finding]:
        """The rules that it breaks."""
        return [] if self.report is None else self.report.failing

    @property
    def version(self) -> str:
        """The version of its library, as far as it says."""
        return (self.report.environment["backend_version"] if self.report is not None else None) or ""


@dataclasses.dataclass
class Matrix:
    """The columns of one run, and the environment of this process."""

    examples: int
    seed: int
    environment: dict[str, str | None]
    columns: list[Column]
    interrupted: bool = False

    @property
    def files(self) -> dict[str, list[str]]:
        """The rules of all columns by file, both in their order."""
        names = dict.fromkeys(name for column in self.columns for name in column.functions)
        files: dict[str, list[str]] = {}
        for name in names:
            files.setdefault(name.rpartition(".")[0], []).append(name)
        return files

    @property
    def exit_code(self) -> int:
        """130 after an interruption, 1 if a column differs or ended early, 3 if nothing was judged, else 0."""
        if self.interrupted:
            return 130
        if any(column.failing or column.error for column in self.columns):
            return 1
        reports = [column.report for column in self.columns if column.report is not None]
        return NOTHING_JUDGED * (not any(finding.judged for report in reports for finding in report.findings))

    @property
    def headline(self) -> str:
        """The result in a few words: "2 of 5 columns differ from the reference"."""
        count, differing = len(self.columns), sum(bool(column.failing) for column in self.columns)
        stopped = sum(bool(column.error) for column in self.columns)
        if self.exit_code == NOTHING_JUDGED:
            return "Nothing was judged"
        if not differing:
            agreeing = sum(column.cell(column.functions).verdict in (AGREES, IDENTICAL) for column in self.columns)
            said = f"All {count} columns agree" if agreeing == count else f"{agreeing} of {count} columns agree"
        else:
            said = f"{differing} of {count} columns differ{'s' * (differing == 1)} from the reference"
        return said + (f", {stopped} ended early" if stopped else "") + (", interrupted" if self.interrupted else "")

    def whose(self, column: Column, finding: Finding) -> tuple[str, str]:
        """Whether another MindSpore is at fault for what differs on it: OF_THE_VERSION, OF_BOTH or UNKNOWN, in words.

        ("", "") for any other backend. The MindSpore of this process, in the same dtype and mode, was judged on the
        same cases: where it agrees, our twin is right there, and what differs is MindSpore.
        """
        named, report = column.engine[0] or "", column.report
        if report is None or not named.startswith("mindspore@"):
            return "", ""
        about = (report.device, report.dtype, report.mode)
        for other in self.columns:
            here = other.report
            if here is None or other.engine[0] != "mindspore" or (here.device, here.dtype, here.mode) != about:
                continue
            found, version = other.finding(finding.function), f"MindSpore {other.version}"
            if found is None or not found.judged:
                return UNKNOWN, f"{version} did not judge it."
            if found.agrees:
                return OF_THE_VERSION, f"{version} agrees on these cases: {named} is at fault, or how our twin uses it."
            return OF_BOTH, f"{version} differs too: not of {named} alone."
        wanted = f"No column mindspore in {report.dtype}, {report.mode}"
        return UNKNOWN, f"{wanted} was judged, which would tell whether {named} is at fault or our twin."

    def to_dict(self) -> dict[str, Any]:
        """The whole matrix, as check.schema.json describes it."""
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "examples": self.examples,
            "environment": self.environment,
            "interrupted": self.interrupted,
            "columns": [
                {
                    "column": column.name,
                    "error": column.error,
                    "report": None if column.report is None else column.report.to_dict(),
                    "this_version_alone": [
                        finding.function
                        for finding in column.failing
                        if self.whose(column, finding)[0] == OF_THE_VERSION
                    ],
                }
                for column in self.columns
            ],
        }

    def to_json(self) -> str:
        """to_dict as strict JSON, in one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def judge_matrix(
    engines: Mapping[str, Engine],
    functions: Sequence[str],
    examples: int,
    seed: int,
    *,
    html: Path | None = None,
    resume: Path | None = None,
    processes: int | None = None,
    seconds: float = 0.0,
    make: Callable[..., Backend] = get_backend,
    check: Check | None = None,
    say: Callable[[str], Any] = print,
) -> Matrix:
    """Judge every backend by the rules of these functions; the options of `print_results`.

    engines: the arguments of make by the name of the column. say is told which column comes next. Ctrl-C ends the
    search; what was found so far is the result, and is kept in resume. A backend that does not start, or with which the
    judge cannot go on, ends its column.
    Raises GPT2Error, before the search, for a backend that is unknown or not installed, and for files that cannot be
    read or written; KeyError for an unknown name among the functions.
    """
    for path in (html, resume):
        if path is not None:
            require_writable(path)
    kept = SavedColumns(resume)
    columns = [Column(name, engine) for name, engine in engines.items()]
    backends = {column.name: _start(column, make) for column in columns}
    rules = _rules(functions, backends)
    matrix = Matrix(examples, seed, environment(NumPyBackend()), columns)
    with one_interrupt() as interrupt, contextlib.suppress(KeyboardInterrupt):
        for number, column in enumerate(columns, start=1):
            backend, wanted = backends[column.name], rules[column.name]
            if backend is None:
                continue
            say(f"column {number} of {len(columns)}: {column.name}")
            with _ending(column, backend):
                column.report = Report.about(backend, examples, seed, list(wanted))
            if column.report is not None:
                saved = SavedColumn(kept, column.name, column.report)
                count = processes or processes_for(wanted, backend)
                engine = column.engine if make is get_backend else None
                with _ending(column, backend):
                    search(
                        column.report,
                        wanted,
                        backend,
                        saved,
                        check=check,
                        engine=engine,
                        processes=count,
                        seconds=seconds,
                    )
                matrix.interrupted = column.report.interrupted
            _end(backend)
            if matrix.interrupted:
                break
    matrix.interrupted |= interrupt.asked
    return matrix


def _start(column: Column, make: Callable[..., Backend]) -> Backend | None:
    """The backend of a column, or None if it does not start: column.error says why."""
    try:
        backend = make(*column.engine)
    except GPT2Error as error:
        if not isinstance(error.__cause__, RuntimeError | ImportError):
            raise
        column.error = str(error)
        return None
    _end(backend)  # it starts again when its column comes: not all at once
    return backend


@contextlib.contextmanager
def _ending(column: Column, backend: Backend) -> Iterator[None]:
    """Whatever a backend raises outside of its cases ends its column, and not the matrix."""
    try:
        yield
    except Exception as error:
        column.error = described(error, getattr(backend, "file", None))


def _end(backend: Backend) -> None:
    """End the process of a backend that has one."""
    ended = getattr(backend, "end", None)
    if ended is not None:
        ended()


def _rules(functions: Sequence[str], backends: Mapping[str, Backend | None]) -> dict[str, dict[str, Any]]:
    """The rules of every column. Raises KeyError for a name that no column knows, such as "compiled" of NumPy alone."""
    chosen: dict[str, dict[str, Any]] = {column: {} for column in backends}
    for name in functions:
        known = False
        for column, backend in backends.items():
            try:
                chosen[column] |= select([name], backend)
                known = True
            except KeyError:
                continue
        if not known:
            raise KeyError(name)
    return chosen if functions else {column: dict(select((), backend)) for column, backend in backends.items()}
