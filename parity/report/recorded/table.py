"""What was found in a recording as tables for people, on a terminal: layers down the side, forward and backward."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.recorded.runs.parameters import ALIKE
from parity.recorded.runs.two_runs import TwoRuns
from parity.report.record import NOTHING_JUDGED
from parity.report.recorded.facts import (
    AFTER_LAYERS,
    BEFORE_LAYERS,
    DAMAGED,
    OPERATORS,
    JudgedRun,
    RecordedReport,
    Row,
    by_layer,
    merged,
    worst,
)
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

MOST_ROWS = 48  # of one run; beyond it, a layer that agrees is one row
MOST_NAMED = 10  # differences that are told one by one
LARGE = 1000.0  # times the noise: beyond it, two digits are shown
EDGES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # ulp: the bars of the histogram, and one for more
BARS = "▁▂▃▄▅▆▇█"


def print_recorded(report: RecordedReport, console: Console, language: str = "en") -> None:
    """Print the tables of every run, what is wrong first, what was not judged, and a summary."""
    words = Words(language)
    for judged in report.runs:
        if judged.calls or judged.stages:
            console.print(_table(judged, words))
            _say(console, words("histogram"))
        _print_run(judged, console, words)
    _print_ranks(report, console, words)
    if report.against is not None:
        _say(console, words("against", source=fit(report.against.recording.source)))
        print_recorded(report.against, console, language)
        for pair in report.pairs:
            _print_pair(pair, console, words)
    for note in report.recording.notes:
        _say(console, f"{words('notes')}: {fit(note)}")
    if report.interrupted:
        _say(console, words("interrupted"))
    style = "bold green" if report.exit_code == 0 else "bold red" if report.exit_code == 1 else "bold yellow"
    console.print(f"[{style}]{escape(headline(report, words))}[/{style}]", soft_wrap=True)


def headline(report: RecordedReport, words: Words) -> str:
    """The result in a few words."""
    counts = report.counts
    wrong = counts["differ"] + counts["wrong_stages"]
    if report.exit_code == NOTHING_JUDGED:
        return words("nothing")
    if report.exit_code == DAMAGED:
        return words("damaged agree", count=report.judged)
    if wrong:
        return words("something differs", wrong=wrong, count=report.judged)
    return words("all agree", count=report.judged) if report.agrees else words("differs otherwise")


def shown(verdicts: list[Verdict]) -> str:
    """The worst error as a multiple of its noise: "0.71", "0" for the same bits, "" for none."""
    found = worst(verdicts)
    if found is None:
        return ""
    if found.reason:
        return "!"
    if found.error == 0 or not found.noise:
        return "0" if found.error == 0 else f"{found.ulps:.3g} ulp"
    return f"{found.noise_ratio:.2f}" if found.noise_ratio < LARGE else f"{found.noise_ratio:.2g}"


def named(row: Row, words: Words) -> str:
    """The name of a row below its layer's, fit to be shown."""
    path, colon, _ = row.short.partition(f": {OPERATORS}")
    name = words(path) if path in (BEFORE_LAYERS, AFTER_LAYERS, OPERATORS) else fit(path)
    return f"{name}: {words(OPERATORS)}" if colon else name


def histogram(verdicts: list[Verdict]) -> str:
    """How many of the worst errors are 0, up to ½, 1, 2, 4, 8 ulp, and more: one bar each, a space for none."""
    counts = [0] * (len(EDGES) + 1)
    for verdict in verdicts:
        size = verdict.ulps if not verdict.reason else float("inf")
        counts[next((i for i, edge in enumerate(EDGES) if size <= edge), len(EDGES))] += 1
    most = max(counts)
    return (
        "".join(BARS[(count * (len(BARS) - 1) + most - 1) // most] if count else " " for count in counts)
        if most
        else ""
    )


def said_of(row: Row, words: Words) -> str:
    """The verdict on a row in a word."""
    if not all(verdict.agrees for verdict in row.verdicts):
        return words("differs")
    if not all(verdict.agrees for verdict in row.inherited):
        return words("inherits")
    if not row.verdicts and not row.inherited:
        return words("not judged")
    same = all(verdict.error == 0 for verdict in (*row.verdicts, *row.inherited))
    return words("identical") if same else words("agrees")


def _table(judged: JudgedRun, words: Words) -> Table:
    run = judged.run
    about = ", ".join(filter(None, (run.place, run.framework, run.level, run.task)))
    table = Table(title=escape(f"{fit(about)} ({words('times noise')})"), title_justify="left")
    table.add_column(words("call"), overflow="fold")
    has_model, has_backward = bool(judged.stages), any(call.is_backward for call in run.calls)
    columns = ["forward", *(["backward"] if has_backward else []), *(["inherited"] if has_model else [])]
    for name in (*columns, "ulp", "bits"):
        table.add_column(words(name), justify="left" if name == "ulp" else "right", no_wrap=name in ("ulp", "bits"))
    table.add_column(words("verdict"), no_wrap=True)
    rows = judged.rows()
    for layer, inside in by_layer(rows).items():
        whole = merged(layer, inside)
        several = len(inside) > 1 or inside[0].name != layer
        if several:
            table.add_row(*_cells(whole, columns, words, heading=True))
            if len(rows) > MOST_ROWS and whole.agrees:
                continue
        for row in inside:
            table.add_row(*_cells(row, columns, words, indent="  " if several else ""))
    return table


def _cells(row: Row, columns: list[str], words: Words, indent: str = "", heading: bool = False) -> list[str]:
    name = escape(named(row, words))
    figures = [shown(getattr(row, column)) for column in columns]
    said = said_of(row, words)
    red = "bold red" if not row.agrees else "dim" if said == words("not judged") else ""
    bits = "" if row.bits is None else "∞" if row.bits == float("inf") else f"{row.bits:.1f}"
    return [
        f"[bold]{name}[/bold]" if heading else f"{indent}{name}",
        *figures,
        histogram(row.verdicts) if heading or not indent else "",
        bits,
        f"[{red}]{said}[/{red}]" if red else said,
    ]


def _print_run(judged: JudgedRun, console: Console, words: Words) -> None:
    first = judged.first_wrong
    if first is not None:
        _say(console, f"{words('first wrong')}: {fit(first.name)}", style="bold red")
        _say(console, f"  {of_wrong(first, words)}")
        _print_lines(first.lines, first.reference, console, words)
    if judged.wrong_parameters:
        _say(console, words("parameter first"))
        for parameter in judged.wrong_parameters[1:MOST_NAMED]:
            _say(console, f"  {of_parameter(parameter, words)}")
        call = judged.first_wrong_call
        if call is not None:
            _say(console, f"  {fit(call.name)}: {of_wrong(call, words)}")
            _print_lines(call.lines, call.reference, console, words)
    elif judged.parameters:
        _say(console, parameters_line(judged, words))
    others = [x for x in judged.wrong_calls if first is None or x.call.name != first.name]
    for judgement in others[:MOST_NAMED]:
        if judgement.worst is not None:
            _say(console, f"{fit(judgement.call.name)}: {explained(judgement.worst, words)}")
    for missing in judged.missing_gradients[:MOST_NAMED]:
        if first is None or first.gradient is not missing:
            _say(console, of_gradient(missing, words))
    for lower in judged.lower_precision:
        _say(console, f"{words('lower precision')}: {of_precision(lower, words)}")
    for damage in judged.damage[:MOST_NAMED]:
        _say(console, f"{words('damaged')}: {fit(damage)}", style="bold red")
    for whole in judged.whole:
        if whole.reason:
            _say(console, f"{words('whole reason')}: {reason_in(whole.reason, words)}")
        for note in whole.notes:
            _say(console, f"  {reason_in(note, words)}")
    _print_headroom(judged, console, words)
    if judged.gradients:
        table = Table(words("layer"), words("gradients"))
        for layer, norm in judged.gradients.items():
            table.add_row(escape(fit(layer)), "-" if norm is None else f"{norm:.4g}")
        console.print(table)
    by_statistics = sum(judgement.by_statistics and judgement.is_judged for judgement in judged.calls)
    if by_statistics:
        _say(console, words("statistics", count=by_statistics))
    reasons = judged.not_judged
    if reasons:
        _say(console, f"{words('not judged title')}:")
        for reason, names in [*reasons.items()][:MOST_NAMED]:
            _say(
                console,
                f"  {len(names)} {words('calls')}: {reason_in(reason, words)} ({words('such as')} {fit(names[0])})",
            )
        if len(reasons) > MOST_NAMED:
            _say(console, f"  {words('more', count=len(reasons) - MOST_NAMED)}")


def _print_lines(lines: tuple[str, ...], reference: tuple[str, ...], console: Console, words: Words) -> None:
    for line in lines:
        _say(console, f"  {words('called at')} {fit(line)}")
    for line in reference:
        _say(console, f"  {words('reference')}: {line.strip()}")


def parameters_line(judged: JudgedRun, words: Words) -> str:
    """What is said of parameters that are all right."""
    alike = sum(parameter.what == ALIKE for parameter in judged.parameters)
    return words("parameters alike" if alike else "parameters right", count=alike or len(judged.parameters))


def headroom_lines(judged: JudgedRun, words: Words) -> list[str]:
    """The least room in float16, what loses most of its digits there, and the first NaN or infinity, in words."""
    found = []
    known = [room for room in judged.headroom.values() if room.bits is not None and room.largest is not None]
    if known:
        least = min(known, key=lambda room: room.bits or 0.0)
        said = {"bits": least.bits, "name": fit(least.call.name), "largest": least.largest}
        found.append(words("headroom least", **said))
    lossy = [room for room in judged.headroom.values() if room.lost]
    if lossy:
        most = max(lossy, key=lambda room: room.lost or 0.0)
        found.append(words("headroom lost", share=most.lost, below=most.below, name=fit(most.call.name)))
    first = judged.not_finite
    if first is not None:
        said = {"what": first.what, "name": fit(first.call.name)}
        found.append(words("made here" if first.made_here else "came in", **said))
    return found


def _print_headroom(judged: JudgedRun, console: Console, words: Words) -> None:
    for line in headroom_lines(judged, words):
        _say(console, f"{words('headroom')}: {line}")


def _print_ranks(report: RecordedReport, console: Console, words: Words) -> None:
    if report.parting is not None:
        _say(console, f"{words('ranks')}: {fit(report.parting.explain())}", style="bold red")
    elif len({run.run.rank for run in report.runs}) > 1:
        _say(console, f"{words('ranks')}: {words('ranks alike', count=len(report.runs))}")


def _print_pair(pair: TwoRuns, console: Console, words: Words) -> None:
    figures = {"count": len(pair.pairs), "stages": len(pair.stages), "alone": len(pair.alone)}
    _say(console, words("lined up", **figures, other=len(pair.other_alone)))
    if pair.inputs:
        _say(console, fit(pair.inputs), style="bold red")
    wrong = [parameter for parameter in pair.parameters if not parameter.is_right]
    for parameter in wrong[:MOST_NAMED]:
        _say(console, f"{words('second')}: {of_parameter(parameter, words)}", style="bold red")
    table = Table(words("stage"), words("difference"), "ulp", words("verdict"))
    for each in pair.stages:
        if each.difference is None or each.ulps is None:
            table.add_row(escape(fit(each.name)), "-", "-", escape(fit(each.reason)))
            continue
        said = "" if each.verdict is None else words("agrees" if each.verdict.agrees else "differs")
        red = each.verdict is not None and not each.verdict.agrees
        cells = [escape(fit(each.name)), f"{each.difference:.3g}", f"{each.ulps:.3g}"]
        table.add_row(*cells, f"[bold red]{said}[/bold red]" if red else said)
    if pair.stages:
        console.print(table)


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)
