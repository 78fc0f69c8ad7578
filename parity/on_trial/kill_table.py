"""Tables for people: which rule detects which planted bug, and which bugs other projects' rules detect."""

import datetime
import platform
from importlib.metadata import version

from rich.table import Table

from parity.laws.base import LAWS
from parity.on_trial.hunt import Kill
from parity.on_trial.other_rules import Score

# Why no law is known to detect a bug, when some law perhaps could.
UNTRIED = "it only runs under the rules of its place, because MindSpore is slow, and none of these is a law."


def kill_table(kills: list[Kill], interrupted: bool = False) -> Table:
    """One row per mutant: the laws and comparisons that detect it, quickest first, each with the cases it took.

    interrupted: not every rule has run yet.
    """
    shown = Table(title="Planted bugs: which rules see them, after how many cases", title_justify="left")
    for heading in ("bug", "laws", "comparisons", "verdict"):
        shown.add_column(heading)
    for kill in kills:
        word = "seen" if kill.rules else "equivalent" if kill.mutant.equivalent else "SURVIVES"
        if interrupted and not kill.rules:
            word = "not seen yet"
        mark = word if kill.right or interrupted else f"[bold red]{word}[/bold red]"
        shown.add_row(kill.mutant.name, *(_quickest(kill, laws, 3) for laws in (True, False)), mark)
    return shown


def summary(kills: list[Kill]) -> str:
    """The kill table in one sentence."""
    planted = [kill for kill in kills if not kill.mutant.equivalent]
    seen = [kill for kill in planted if kill.rules]
    by_law = [kill for kill in seen if kill.laws]
    slowest = max((kill.cases or 0 for kill in seen), default=0)
    silent = [kill for kill in kills if kill.mutant.equivalent and not kill.rules]
    return (
        f"{len(seen)} of {len(planted)} planted bugs are seen, {len(by_law)} of them by the laws alone, the slowest "
        f"after {slowest} cases; on {len(silent)} of {len(kills) - len(planted)} equivalent forms the judge is silent."
    )


def _quickest(kill: Kill, laws: bool, count: int | None = None) -> str:
    found = {name: cases for name, cases in kill.rules.items() if name.startswith("laws.") == laws}
    names = sorted(found, key=found.__getitem__)
    words = {name: name.removeprefix("laws.").replace("_", " ") if laws else name for name in names}
    shown = [f"{words[name]} ({found[name]})" for name in names[:count]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def scores_table(scores: list[Score], planted: int) -> Table:
    """One row per rule: bugs seen and false alarms."""
    shown = Table(title="The same cases under other projects' rules", title_justify="left")
    for heading in ("rule", "bugs seen", "false alarms"):
        shown.add_column(heading, justify="left" if heading == "rule" else "right")
    for score in scores:
        alarms = f"{score.false_alarms} of {score.correct_cases}"
        shown.add_row(score.rule, f"{len(score.killed)} of {planted}", alarms)
    return shown


def markdown(kills: list[Kill], examples: int, seed: int) -> str:
    """The page docs/tables/kill-table.md."""
    beyond = [kill for kill in kills if kill.rules and not kill.laws]
    equivalent = [kill for kill in kills if kill.mutant.equivalent]
    lines = [
        "# Who sees which bug",
        "",
        f"Made by `gpt2 kill-table --examples {examples} --seed {seed} --markdown docs/tables/kill-table.md`, "
        f"{environment()}.",
        "",
        summary(kills),
        "",
        "Each bug is a few lines changed in a copy of the sources (`parity/mutants/`). Every rule is tried on it:",
        "the number after a rule is the first of its cases that showed the bug.",
        "",
        "| bug | what was done | quickest laws | quickest comparisons |",
        "|---|---|---|---|",
    ]
    for kill in kills:
        if not kill.mutant.equivalent:
            columns = kill.mutant.name, kill.mutant.story, _quickest(kill, True, 4), _quickest(kill, False, 4)
            lines.append("| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in columns) + " |")
    lines += ["", "## Seen by the comparison alone", ""]
    lines += [f"* **{kill.mutant.name}**: {kill.mutant.beyond_laws or UNTRIED}" for kill in beyond]
    lines += ["", "## Equivalent forms, on which the judge must be silent", ""]
    lines += [f"* **{kill.mutant.name}**: {kill.mutant.story} {kill.mutant.equivalent}" for kill in equivalent]
    lines += ["", "## The laws", ""]
    for law in LAWS:
        lines += [
            f"* **{law.name.replace('_', ' ')}** ({law.draws}). {_one_line(law.statement)} *Proof:* "
            f"{_one_line(law.proof)}"
        ]
    return "\n".join(lines) + "\n"


def scores_markdown(scores: list[Score], planted: int, correct: list[str], examples: int, seed: int) -> str:
    """The page docs/tables/other-rules.md."""
    lines = [
        "# The same cases under other projects' rules",
        "",
        f"Made by `gpt2 other-rules --examples {examples} --seed {seed} --markdown docs/tables/other-rules.md`, "
        f"{environment()}.",
        "",
        f"Bugs: the {planted} planted ones that run on NumPy, every function, every regime, each in the precision that",
        f"it belongs to. False alarms: cases of correct engines ({', '.join(correct)}) that the rule objects to. The",
        "rules are in `parity/on_trial/other_rules.py`; shapes, dtypes and integers are compared alike for all.",
        "",
        "| rule | bugs seen | false alarms |",
        "|---|---|---|",
    ]
    for score in scores:
        alarms = f"{score.false_alarms} of {score.correct_cases}"
        lines.append(f"| {score.rule} | {len(score.killed)} of {planted} | {alarms} |")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def environment() -> str:
    """The date, and the versions of the libraries that decide a result."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "mindspore", "hypothesis"))
    return f"{datetime.date.today()}, Python {platform.python_version()}, {versions}"
