"""Plot the errors of each function against the tolerance, as an SVG that can stand inside a page."""

import io
import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from parity.report.finding import Finding

MARKS = 60  # drawn per function: quantiles of the severities, the smallest and the largest among them
LOWEST, HIGHEST = -3, 6  # the decades shown, at most; what lies beyond is drawn at the end
POINT = 1 / 72  # of an inch
ADVANCE = 0.61  # width of a character of the names, as a share of their size
# Colours that stand for those of the page, light or dark: they are replaced by its CSS variables.
INK, QUIET, FINE, GOOD, BAD, KNOWN = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
VARIABLES = {INK: "ink", QUIET: "quiet", FINE: "line", GOOD: "good", BAD: "bad", KNOWN: "known"}
SETTINGS = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "gpt2-parity",  # the same report, the same file
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": FINE,
    "xtick.color": QUIET,
}


def distribution(findings: Sequence[tuple[Finding, str]], name: str, width: int, names_above: bool = False) -> str:
    """The severities of each finding on one row: marks, a thick line for the middle half, a dot for the median.

    findings: each with its colour, GOOD, BAD or KNOWN. width: in points, the CSS pixels of a page as wide.
    names_above: the names stand above the rows, not left of them. name: of the figure, in the ids of the page.
    A severity of 0 (identical bits), or one without a figure, has a place of its own at the left or right end.
    """
    with style.context(["default", SETTINGS]):
        return _as_inline(_figure(findings, width, names_above), name)


def _figure(findings: Sequence[tuple[Finding, str]], width: int, names_above: bool) -> Figure:
    size = 10 if names_above else 9.5
    most = int((width - 14 if names_above else width / 2) / (ADVANCE * size))  # characters of a name
    names = [name if len(name) <= most else f"{name[: most - 1]}…" for name in (f.function for f, _ in findings)]
    pitch = 34 if names_above else 17  # of a row, in points
    height = pitch * len(findings) + 52
    figure = Figure(figsize=(width * POINT, height * POINT))
    left = 6 if names_above else max(map(len, names)) * ADVANCE * size + 8
    axes = figure.add_axes((left / width, 26 / height, 1 - (left + 8) / width, 1 - 52 / height))
    scale = Scale([x for finding, _ in findings for x in finding.severities])
    axes.axvspan(0, scale.end, color=BAD, alpha=0.05, linewidth=0)
    axes.axvline(0, color=BAD, linewidth=1)
    axes.text(0, 1.0, "allowed", transform=axes.get_xaxis_transform(), color=BAD, size=size, ha="center", va="bottom")
    for row, (finding, colour) in enumerate(findings):
        _row(axes, -row, scale, finding, colour)
        axes.text(
            0 if names_above else -6 / (width - left - 8),
            -row + (0.17 if names_above else 0),
            names[row],
            transform=axes.get_yaxis_transform(),
            color=INK if colour == GOOD else colour,
            size=size,
            family="monospace",
            weight="normal" if colour == GOOD else "bold",
            ha="left" if names_above else "right",
            va="bottom" if names_above else "center",
        )
    _dress(axes, scale, len(findings), 4 if names_above else 9, size)
    return figure


class Scale:
    """Where a severity lies: its decimal logarithm, with a place of its own for 0 and for what has no figure."""

    def __init__(self, severities: Sequence[float | None]) -> None:
        self._without_figure, self._zeros = None in severities, 0 in severities
        self._decades = [math.log10(x) for x in severities if x]
        self.low = max(LOWEST, math.floor(min([-1.0, *self._decades])))
        self.high = min(HIGHEST, math.ceil(max([0.3, *self._decades])))
        self.start = self.low - (0.7 if self._zeros else 0)
        self.end = self.high + (0.7 if self._without_figure else 0)

    def place(self, severity: float | None) -> float:
        """The place of one severity."""
        if severity is None:
            return self.end
        return min(max(math.log10(severity), self.low), self.high) if severity else self.start

    def ticks(self, most: int) -> dict[float, str]:
        """Places and their labels: every decade, or every second or third, so that there are at most so many."""
        step = -(-(self.high - self.low) // most)
        decades = [k for k in range(self.low, self.high + 1) if k % step == 0 or k in (self.low, self.high)]
        labels = {float(k): f"{10.0**k:g}" if abs(k) < 4 else f"1e{k}" for k in decades}
        if min(self._decades, default=0.0) < self.low:
            labels[self.low] = f"≤{labels[self.low]}"
        if max(self._decades, default=0.0) > self.high:
            labels[self.high] = f"≥{labels[self.high]}"
        labels |= {self.start: "0"} if self._zeros else {}
        return labels | ({self.end: "none"} if self._without_figure else {})


def _row(axes: Axes, y: float, scale: Scale, finding: Finding, colour: str) -> None:
    places = np.sort([scale.place(x) for x in finding.severities])
    if len(places) > MARKS:
        places = np.quantile(places, np.linspace(0, 1, MARKS), method="nearest")
    first, low, median, high, last = np.quantile(places, (0, 0.25, 0.5, 0.75, 1), method="nearest")
    axes.plot([first, last], [y, y], color=colour, linewidth=0.8, alpha=0.5)
    axes.plot([low, high], [y, y], color=colour, linewidth=4, alpha=0.45, solid_capstyle="round")
    axes.plot(places, np.full(len(places), y), "|", color=colour, markersize=6, markeredgewidth=0.7, alpha=0.6)
    axes.plot([median], [y], "o", color=colour, markersize=4.5)
    if not finding.agrees:
        axes.plot([last], [y], "X", color=colour, markersize=7.5)


def _dress(axes: Axes, scale: Scale, rows: int, most_ticks: int, size: float) -> None:
    ticks = scale.ticks(most_ticks)
    axes.set_xticks(list(ticks), list(ticks.values()), size=size)
    axes.set_yticks([])
    axes.set_xlim(scale.start - 0.12, scale.end + 0.12)
    axes.set_ylim(-rows + 0.4, 0.8)
    axes.tick_params(axis="x", length=3)
    axes.grid(axis="x", color=FINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _as_inline(figure: Figure, name: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)  # no id twice in a page
    return re.sub(r' (?:width|height)="[^"]*"', "", svg, count=2)  # those of the root: the page decides
