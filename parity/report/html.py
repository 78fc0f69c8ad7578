"""The report as one standalone page: no network, no script, light or dark like the reader's screen."""

from importlib import resources

import jinja2
from markupsafe import Markup, escape

from parity.explanation.words import explained
from parity.laws.base import LAWS
from parity.report import plot
from parity.report.expected import EXPECTED
from parity.report.finding import Finding
from parity.report.record import ABSENT, FAILING, RULE, Report
from parity.report.table import sizes

WIDE, NARROW = 920, 330  # widths of the two forms of the plot, in points; the page shows the one that fits
LABELS = {
    "project": "gpt2-parity",
    "python": "Python",
    "numpy": "NumPy",
    "mindspore": "MindSpore",
    "backend_version": "backend's library",
    "machine": "machine",
    "platform": "platform",
    "time": "time (UTC)",
}


def page(report: Report) -> str:
    """The HTML of a report. Any text in it, from a backend or a file, is shown, never interpreted."""
    template = template_named("report.html.j2")
    sections = {
        "Comparisons": [finding for finding in report.findings if not finding.is_law],
        "Laws": [finding for finding in report.findings if finding.is_law],
    }
    return template.render(
        report=report,
        sections={title: findings for title, findings in sections.items() if findings},
        kind=dict.fromkeys(FAILING, "bad") | dict.fromkeys(ABSENT, "absent") | {EXPECTED: "known"},
        sizes=sizes,
        statements={f"laws.{law.name}": law.statement for law in LAWS},
        known=[finding for finding in report.findings if report.verdict(finding) == EXPECTED],
        stale=[outcome for outcome in report.outcomes if not outcome.applies],
        all_identical=sum(bool(finding.severities) and not any_differ(finding) for finding in report.findings),
        anchors={finding.function: f"failure-{number}" for number, finding in enumerate(report.failing, start=1)},
        plots=_plots(report),
        labels=LABELS,
        environment={**report.environment, "time": (report.environment["time"] or "")[:16].replace("T", " ")},
        rule=RULE.replace("<=", "≤").replace(" x ", " × "),
    )


def template_named(name: str) -> jinja2.Template:
    """A template of this folder; whatever it is given is escaped."""
    folder = resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
    )
    environment.filters |= {"breakable": breakable, "explained": explained}
    return environment.get_template(name)


def breakable(name: str) -> Markup:
    """A dotted name that a narrow column may break after a dot or an underscore."""
    return Markup(str(escape(name)).replace(".", ".<wbr>").replace("_", "_<wbr>"))


def any_differ(finding: Finding) -> bool:
    """Whether any result had other bits than the reference: there is something to plot."""
    return any(severity != 0 for severity in finding.severities)


def _plots(report: Report) -> dict[str, Markup]:
    rows = [(finding, _colour(finding, report)) for finding in report.findings if any_differ(finding)]
    if not rows:
        return {}
    # Markup: Matplotlib escapes the names that it draws.
    return {
        "wide": Markup(plot.distribution(rows, "wide", WIDE)),
        "narrow": Markup(plot.distribution(rows, "narrow", NARROW, names_above=True)),
    }


def _colour(finding: Finding, report: Report) -> str:
    verdict = report.verdict(finding)
    return plot.BAD if verdict in FAILING else plot.KNOWN if verdict == EXPECTED else plot.GOOD
