"""The report as a table for people, on a terminal."""

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.explanation.words import explained
from parity.report.expected import EXPECTED
from parity.report.finding import Finding
from parity.report.record import ABSENT, FAILING, Report

STYLES = dict.fromkeys(FAILING, "bold red") | dict.fromkeys(ABSENT, "dim") | {EXPECTED: "yellow"}


def print_report(report: Report, console: Console, with_absent: bool = True, with_scripts: bool = False) -> None:
    """Print the table, each failure with its smallest case and blame, the status of expected failures, a summary.

    with_absent: with a row for what the backend does not offer too. with_scripts: with the script of each failure.
    """
    console.print(table(report, with_absent))
    for finding in sorted(report.findings, key=_worst_first):
        if finding.remark and (finding.judged or with_absent):
            _say(console, f"{finding.function}: {finding.remark}")
        outcome = report.outcome(finding)
        if outcome is not None:
            _say(console, f"{finding.function}: {outcome.message}")
        if report.fails(finding) and not finding.agrees:
            _say(console, f"{finding.function}: {finding.explanation}")
            _say(console, f"  smallest case: {finding.case}")
            for line in [*finding.blame.splitlines(), *explained(finding.explained)]:
                _say(console, f"  {line}")
            if finding.script:
                shown = finding.script if with_scripts else "  --script prints a script that reproduces it"
                _say(console, shown)
    for outcome in report.outcomes:
        if not outcome.applies:
            _say(console, f"{outcome.entry.function}: expected failure {outcome.message}")
    style = "bold red" if report.failing else "bold green"
    console.print(f"[{style}]{escape(report.headline)}[/{style}] {escape(report.basis)}", soft_wrap=True)


def _worst_first(finding: Finding) -> float:
    """Failures come in the order of their errors, those without a figure before them; whatever agrees stays behind."""
    if finding.agrees:
        return 0.0
    return -math.inf if finding.noise_ratio is None else -finding.noise_ratio


def table(report: Report, with_absent: bool = True) -> Table:
    """One row per function: cases, the worst error against its input's noise floor and in ulp, the verdict."""
    shown = Table(title=escape(report.title), title_justify="left")
    shown.add_column("function", overflow="fold")
    for heading in ("cases", "x noise", "ulp"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for finding in report.findings:
        if not with_absent and not finding.offered:
            continue
        verdict = report.verdict(finding)
        word = verdict.upper() if verdict in FAILING else verdict
        style = STYLES.get(verdict)
        shown.add_row(
            escape(finding.function),
            str(finding.cases),
            *sizes(finding),
            f"[{style}]{word}[/{style}]" if style else word,
        )
    return shown


def sizes(finding: Finding) -> tuple[str, str]:
    """The error as a multiple of the noise and in ulp, as the table shows them."""
    if finding.noise_ratio == 0:
        return "0", "0"
    noise = "-" if finding.noise_ratio is None else f"{finding.noise_ratio:.2f}"
    return noise, "-" if finding.ulps is None else f"{finding.ulps:.3g}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
