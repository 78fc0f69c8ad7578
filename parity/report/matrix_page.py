"""A matrix as one standalone page, in the style of the report's: no network, no script, light or dark."""

import itertools

from parity.laws.base import LAWS
from parity.report.html import LABELS, template_named
from parity.report.matrix import OF_THE_VERSION, STOPPED, Cell, Matrix
from parity.report.matrix_table import noise, whole, words
from parity.report.record import AGREES, DIFFERS, IDENTICAL, RULE

# The shades of a cell by its worst error over the noise. What differs has one of the last three.
NEAR, FAR, WILD = 1.0, 10.0, 100.0


def matrix_page(matrix: Matrix) -> str:
    """The HTML of a matrix. Any text in it, from a backend or a file, is shown, never interpreted."""
    number = itertools.count(1)
    anchors = {
        (column.name, finding.function): f"d{next(number)}" for column in matrix.columns for finding in column.failing
    }
    environment = {**matrix.environment, "time": (matrix.environment["time"] or "")[:16].replace("T", " ")}
    return template_named("matrix.html.j2").render(
        matrix=matrix,
        anchors=anchors,
        files={f"file-{number}": pair for number, pair in enumerate(matrix.files.items(), start=1)},
        statements={f"laws.{law.name}": law.statement for law in LAWS},
        environment={name: value for name, value in environment.items() if name != "backend_version"},
        labels=LABELS,
        words=words,
        noise=noise,
        whole=whole,
        shade=shade,
        alone=OF_THE_VERSION,
        stopped=STOPPED,
        rule=RULE.replace("<=", "≤").replace(" x ", " × "),
    )


def shade(cell: Cell) -> str:
    """The CSS class of a cell: how far its worst error is from its noise."""
    if cell.verdict in (STOPPED, DIFFERS):
        return "wild" if cell.worst is None or cell.worst >= WILD else "far" if cell.worst >= FAR else "off"
    if cell.verdict == IDENTICAL:
        return "same"
    if cell.verdict == AGREES:
        return "near" if cell.worst is not None and cell.worst >= NEAR else "low"
    return "absent"
