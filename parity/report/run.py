"""Judge every requested function, and report the results."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from gpt2.backends import Backend
from gpt2.files import require_writable, write_text
from gpt2.interrupt import one_interrupt
from gpt2.progress import ProgressBar
from parity.check import Rule, SearchResult, check_rule, describe
from parity.diagnosis.diagnose import diagnose
from parity.report import junit as junit_file
from parity.report.expected import apply, load
from parity.report.finding import Finding
from parity.report.record import Report
from parity.report.resume import SavedFindings
from parity.report.table import print_report

Check = Callable[[Rule, Backend, int, int], SearchResult]


def judge(rule: Rule, backend: Backend, examples: int, seed: int) -> SearchResult:
    """Check one rule; after a failure, find where it starts and write a script that reproduces it."""
    result = check_rule(rule, backend, examples, seed)
    try:
        diagnose(rule, result, backend)
    except Exception as error:  # a wrong backend may raise anything when it runs again: the failure itself is known
        result.blame = result.blame or f"could not be traced: {describe(error)}"
    return result


def print_results(
    rules: Mapping[str, Rule],
    backend: Backend,
    examples: int,
    seed: int,
    console: Console | None,
    *,
    html: Path | None = None,
    junit: Path | None = None,
    expected: Path | None = None,
    resume: Path | None = None,
    check: Check = judge,
) -> Report:
    """Judge a backend by every rule, then print the table on console (None: print nothing).

    Progress shows on standard error, if that is a terminal. html, junit: files to write the report to as well.
    expected: the file of expected failures. resume: a file that saves the findings; a run with the same settings
    continues from there. check: the function that judges one rule.
    Ctrl-C (or SIGTERM) ends the search, not the report, which then covers what was judged so far.
    Raises GPT2Error, before the search, for a file that cannot be read or written.
    """
    report = Report.about(backend, examples, seed, list(rules))
    entries = [] if expected is None else load(expected)
    for path in (html, junit, resume):
        if path is not None:
            require_writable(path)
    _search(report, rules, backend, SavedFindings(resume, report), check)
    report.outcomes = apply(entries, report.findings, report.run)
    if console is not None:
        print_report(report, console)
    if html is not None:
        from parity.report.html import page  # here, because the plotting library is slow to import

        write_text(html, page(report))
    if junit is not None:
        write_text(junit, junit_file.document(report))
    return report


def _search(report: Report, rules: Mapping[str, Rule], backend: Backend, kept: SavedFindings, check: Check) -> None:
    with ProgressBar() as bar, one_interrupt() as interrupt:
        try:
            for done, (name, rule) in enumerate(rules.items()):
                bar.show(name, done, len(rules))
                if name not in kept.findings:
                    finding = _judge(rule, backend, report, check)
                    if interrupt.asked:  # and the backend swallowed it, or it passed for an error of the backend
                        raise KeyboardInterrupt
                    kept.add(finding)
                report.findings.append(kept.findings[name])
        except KeyboardInterrupt:
            report.interrupted = True


def _judge(rule: Rule, backend: Backend, report: Report, check: Check) -> Finding:
    start = time.monotonic()
    result = check(rule, backend, report.examples, report.seed)
    return Finding.of(result, time.monotonic() - start)
