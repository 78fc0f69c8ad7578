"""Judge every function that was asked for, and report what was found."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich import progress
from rich.console import Console

from gpt2.backends import Backend
from gpt2.interrupt import one_interrupt
from parity.check import Result, Rule, check_rule, describe
from parity.diagnose import diagnose
from parity.expected import apply, load
from parity.finding import Finding
from parity.report import junit as junit_file
from parity.report.files import require_writable, write_whole
from parity.report.record import Report
from parity.report.resume import Progress
from parity.report.table import print_report

Check = Callable[[Rule, Backend, int, int], Result]


def judge(rule: Rule, backend: Backend, examples: int, seed: int) -> Result:
    """Search by one rule; where it finds a failure, say where that starts and write the script that shows it."""
    result = check_rule(rule, backend, examples, seed)
    try:
        diagnose(rule, result, backend)
    except Exception as error:  # whatever a wrong backend does when it is asked again: the failure itself is known
        result.blame = result.blame or f"could not be traced: {describe(error)}"
    return result


def print_results(
    rules: Mapping[str, Rule], backend: Backend, examples: int, seed: int, console: Console | None, *,
    html: Path | None = None, junit: Path | None = None, expected: Path | None = None, resume: Path | None = None,
    check: Check = judge,
) -> Report:  # fmt: skip
    """Judge a backend by every rule, then print the table on console (None: print nothing).

    Progress shows on standard error, if that is a terminal. html, junit: files to write the report to as well.
    expected: the file of expected failures. resume: a file that keeps what has been found; a run with the same settings
    goes on from there. check: what judges by one rule.
    Ctrl-C (or SIGTERM) ends the search, not the report, which then says what was judged until there.
    Raises GPT2Error, before the search, for a file that cannot be read or written.
    """
    report = Report.about(backend, examples, seed, list(rules))
    entries = [] if expected is None else load(expected)
    for path in (html, junit, resume):
        if path is not None:
            require_writable(path)
    _search(report, rules, backend, Progress(resume, report), check)
    report.outcomes = apply(entries, report.findings, report.run)
    if console is not None:
        print_report(report, console)
    if html is not None:
        from parity.report.html import page  # here: it takes its time to import what draws the plots

        write_whole(html, page(report))
    if junit is not None:
        write_whole(junit, junit_file.document(report))
    return report


def _search(report: Report, rules: Mapping[str, Rule], backend: Backend, kept: Progress, check: Check) -> None:
    columns = (
        progress.TextColumn("{task.description:40}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )  # fmt: skip
    screen = Console(stderr=True)
    bar = progress.Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    with bar, one_interrupt() as interrupt:
        task = bar.add_task("", total=len(rules))
        try:
            for name, rule in rules.items():
                bar.update(task, description=name)
                if name not in kept.findings:
                    found = _judge(rule, backend, report, check)
                    if interrupt.asked:  # and swallowed, or taken for what the backend raised
                        raise KeyboardInterrupt
                    kept.add(found)
                report.findings.append(kept.findings[name])
                bar.advance(task)
        except KeyboardInterrupt:
            report.interrupted = True


def _judge(rule: Rule, backend: Backend, report: Report, check: Check) -> Finding:
    start = time.monotonic()
    result = check(rule, backend, report.examples, report.seed)
    return Finding.of(result, time.monotonic() - start)
