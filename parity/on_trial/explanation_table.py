"""The judge on trial: does it name the bug? For every planted bug, what is said to explain its first failure."""

import dataclasses
import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.table import Table

from gpt2.backends import Backend
from gpt2.processes import Work
from parity.check import SearchResult, check_at_its_cost, rules
from parity.explanation.copies import Copy
from parity.explanation.explain import explain
from parity.mutants.all import mutant
from parity.mutants.base import REORDERED, Edit, Mutant
from parity.mutants.mistake import Mistake
from parity.on_trial.kill_table import environment

LONGEST = 600.0  # seconds that a search may take: on a busy machine too, every candidate is tried
FIRST, EQUAL, OTHER, NOTHING, UNSEEN = "first", "among equals", "another", "nothing", "not found by check"


@dataclasses.dataclass
class Naming:
    """What is said of one planted bug.

    rule: the first rule that it breaks; "" if none does on these cases. mistake: what is said to explain that; None if
    nothing is. otherwise_rounded: whether its engine rounds in other places than the candidates. seconds: how long the
    explanation took, of the processor's time. not_tried: how many candidates there was no time for.
    """

    mutant: Mutant
    rule: str = ""
    mistake: Mistake | None = None
    otherwise_rounded: bool = False
    seconds: float = 0.0
    not_tried: int = 0

    @property
    def named(self) -> str:
        """Whether the bug is named first, among equals, or not."""
        if self.mistake is None:
            return NOTHING if self.rule else UNSEEN
        if self.mistake.name == self.mutant.name:
            return FIRST
        return EQUAL if self.mutant.name in self.mistake.equally else OTHER

    def to_dict(self) -> dict[str, Any]:
        """The same facts as a dict, fit for JSON."""
        return {
            "name": self.mutant.name,
            "rule": self.rule or None,
            "named": self.named,
            "explained_by": self.mistake and self.mistake.name,
            "equally": [] if self.mistake is None else list(self.mistake.equally),
            "cases": 0 if self.mistake is None else self.mistake.cases,
            "otherwise_rounded": self.otherwise_rounded,
            "seconds": round(self.seconds, 2),
            "not_tried": self.not_tried,
        }


def measure(mutants: Iterable[Mutant], examples: int, seed: int, work: Work | None = None) -> list[Naming]:
    """Explain the first failure of each bug, found on at most `examples` cases of each rule.

    work: how the tasks run; after an interruption, the result is what was finished so far.
    """
    chosen = [bug for bug in mutants if not bug.equivalent and bug.engine == "numpy"]
    tasks = [(bug.name, examples, seed) for bug in chosen]
    finished = {name: naming for (name, *_), naming in (work or Work()).do(naming_of, tasks)}
    return [finished[bug.name] for bug in chosen if bug.name in finished]


def naming_of(name: str, examples: int, seed: int) -> Naming:
    """Explain the first failure of the bug of that name; see measure."""
    bug = mutant(name)
    backend, otherwise = _engine(bug)
    naming = Naming(bug, otherwise_rounded=otherwise)
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # bugs overflow, and divide by zero
        warnings.simplefilter("ignore")
        result = _first_failure(bug, backend, examples, seed)
        if result is None:
            return naming
        begun = time.process_time()
        explanation = explain(rules()[result.function], result, backend, examples, seed, LONGEST)
    naming.rule, naming.seconds = result.function, time.process_time() - begun
    if explanation is not None:
        naming.mistake = next(iter(explanation.mistakes), None)
        naming.not_tried = explanation.not_tried
    return naming


def _engine(bug: Mutant) -> tuple[Backend, bool]:
    """The bug in an engine that rounds in other places than every candidate, if its edits leave room for that."""
    room = bug.dtype == "float32"
    edited = {edit.function for edit in bug.edits}
    others = tuple(edit for edit in REORDERED.edits if room and not any(_overlap(edit, each) for each in edited))
    mode = bug.mode or "eager"
    try:
        return Copy(bug.edits + others).backend(bug.dtype, mode, "the judged engine"), bool(others)
    except ValueError:  # the lines that round otherwise are those of the bug
        return Copy(bug.edits).backend(bug.dtype, mode, "the judged engine"), False


def _overlap(edit: Edit, function: str) -> bool:
    return edit.function.startswith(function) or function.startswith(edit.function)


def _first_failure(bug: Mutant, backend: Backend, examples: int, seed: int) -> SearchResult | None:
    """The result of the first rule that a bug breaks: those of its place are tried first, which saves time."""
    own = [rule for rule in rules().values() if rule.name in bug.where]
    slow_last = sorted(rules().values(), key=lambda rule: (rule.trains, rule.generates, rule.is_law))
    for rule in dict.fromkeys([*own, *slow_last]):
        if rule not in own and (rule.trains or rule.generates):
            continue
        result = check_at_its_cost(rule, backend, examples, seed)
        if not result.agrees:
            return result
    return None


def summary(namings: list[Naming]) -> str:
    """The namings in one sentence."""
    seen = [naming for naming in namings if naming.rule]
    first, equal = (sum(naming.named == word for naming in seen) for word in (FIRST, EQUAL))
    other, nothing = (sum(naming.named == word for naming in seen) for word in (OTHER, NOTHING))
    slowest = max((naming.seconds for naming in seen), default=0.0)
    return (
        f"{first + equal} of {len(seen)} bugs are named, {first} of them first and {equal} among equals; {other} are "
        f"explained by another, {nothing} by nothing; {len(namings) - len(seen)} were not found by these cases. An "
        f"explanation takes up to {slowest:.0f} s of the processor's time."
    )


HEADINGS = ("bug", "first failure", "named", "explained by", "equally well", "cases", "s")


def _cells(naming: Naming) -> tuple[str, ...]:
    found = naming.mistake
    equally = [] if found is None else [name for name in found.equally if name != naming.mutant.name]
    return (
        naming.mutant.name,
        naming.rule,
        naming.named,
        "" if found is None else found.name,
        "; ".join(equally),
        "" if found is None else str(found.cases),
        f"{naming.seconds:.1f}",
    )


def explanation_table(namings: list[Naming]) -> Table:
    """One row per bug."""
    shown = Table(title="Planted bugs and what is said to explain them", title_justify="left")
    for heading in HEADINGS:
        shown.add_column(heading)
    for naming in namings:
        shown.add_row(*_cells(naming))
    return shown


def markdown(namings: list[Naming], examples: int, seed: int, every: int = 1) -> str:
    """The page docs/tables/explanations.md; every: only every so many-th bug was measured."""
    options = f"--examples {examples} --seed {seed}" + (f" --every {every}" if every > 1 else "")
    otherwise = sum(naming.otherwise_rounded for naming in namings)
    lines = [
        "# Which bug is named",
        "",
        f"Made by `gpt2 explanation-table {options} --markdown docs/tables/explanations.md`, {environment()}.",
        "",
        summary(namings),
        "",
        "Each bug is a few lines changed in a copy of the sources (`parity/mutants/`). If the bug leaves room for that",
        f"({otherwise} of {len(namings)}), the copy that is judged rounds in other places too: its results are not the",
        "candidate's bit for bit. The judge is told only which rule fails, and its smallest case; every bug",
        "that runs on it is a candidate. Bugs of MindSpore are left out: they take minutes each.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(naming)) + " |" for naming in namings]
    return "\n".join(lines) + "\n"
