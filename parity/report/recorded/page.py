"""What was found in a recording as one standalone page: no network, no script, in either language."""

from collections.abc import Iterator
from typing import Any

from parity.recorded.judgement import CallJudgement
from parity.report.html import template_named
from parity.report.matrix_page import FAR, NEAR, WILD
from parity.report.recorded.facts import JudgedRun, RecordedReport, Row, by_layer, merged, worst
from parity.report.recorded.table import EDGES, headline, headroom_lines, named, parameters_line, said_of, shown
from parity.report.recorded.words import (
    Words,
    explained,
    fit,
    of_gradient,
    of_parameter,
    of_precision,
    of_wrong,
    reason_in,
)
from parity.verdict.verdict import Verdict

MOST_CALLS = 5000  # of a run that are listed one by one: a page of more would not open


def recorded_page(report: RecordedReport, language: str = "en") -> str:
    """The HTML of a report. Any text in it that comes from the recording is shown, never interpreted."""
    words = Words(language)
    environment = {**report.environment, "time": (report.environment["time"] or "")[:16].replace("T", " ")}
    return template_named("recorded/page.html.j2").render(
        report=report,
        words=words,
        language="zh-Hans" if language == "zh" else "en",
        environment=environment,
        headline=headline(report, words),
        reports=[each for each in (report, report.against) if each is not None],
        shade=shade,
        shown=shown,
        said_of=said_of,
        fit=fit,
        explained=explained,
        of_gradient=of_gradient,
        of_parameter=of_parameter,
        of_precision=of_precision,
        of_wrong=of_wrong,
        reason_in=reason_in,
        named=named,
        grid=grid,
        columns=columns,
        bars=bars,
        calls=listed,
        rooms=headroom_lines,
        parameters_line=parameters_line,
    )


def shade(verdicts: list[Verdict]) -> str:
    """The CSS class of a cell: how far its worst error is from its noise."""
    found = worst(verdicts)
    if found is None:
        return "absent"
    if not found.agrees:
        ratio = WILD if found.reason else found.noise_ratio
        return "wild" if ratio >= WILD else "far" if ratio >= FAR else "off"
    return "same" if found.error == 0 else "near" if found.noise_ratio >= NEAR else "low"


def grid(judged: JudgedRun) -> list[tuple[Row, list[Row]]]:
    """Every layer as one row, with the rows of what is in it."""
    return [(merged(layer, rows), rows) for layer, rows in by_layer(judged.rows()).items()]


def columns(judged: JudgedRun) -> list[str]:
    """The columns of a run: those that it has numbers for."""
    has_backward = any(call.is_backward for call in judged.run.calls)
    return ["forward", *(["backward"] if has_backward else []), *(["inherited"] if judged.stages else [])]


def bars(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """The histogram of ulp: for each edge its label, its count, and its height as a share of the highest."""
    counts = [0] * (len(EDGES) + 1)
    for verdict in verdicts:
        size = float("inf") if verdict.reason else verdict.ulps
        counts[next((i for i, edge in enumerate(EDGES) if size <= edge), len(EDGES))] += 1
    labels = ["0", *(f"≤ {edge:g}" for edge in EDGES[1:]), f"> {EDGES[-1]:g}"]
    most = max(counts)
    return [
        {"label": label, "count": count, "height": round(100 * count / most) if most else 0}
        for label, count in zip(labels, counts, strict=True)
    ]


def listed(judged: JudgedRun) -> Iterator[CallJudgement]:
    """The calls that the page lists: all, or, of very many, those that differ and the first of the others."""
    if len(judged.calls) <= MOST_CALLS:
        yield from judged.calls
        return
    wrong = judged.wrong_calls[:MOST_CALLS]
    others = (judgement for judgement in judged.calls if not judgement.is_judged or judgement.agrees)
    yield from wrong
    for _, judgement in zip(range(MOST_CALLS - len(wrong)), others, strict=False):
        yield judgement
