"""The judge on trial: are its diagnoses right? The place that it blames, the shrunk input, and the script."""

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from gpt2.backends import Backend
from gpt2.processes import Work
from parity.check import Rule, check_rule, rules
from parity.diagnosis.diagnose import locate, smallest_trial
from parity.diagnosis.functions_run import drawn
from parity.diagnosis.script import write_script
from parity.diagnosis.shrink import breaks, nonzero
from parity.mutants.all import mutant
from parity.mutants.base import Mutant, short_name
from parity.on_trial.kill_table import environment
from parity.verdict.trial import Trial

GRAPH_EXAMPLES = 4  # at most: compiled for each shape, a case takes some hundred times as long
CRASHED = 70  # the exit code recorded for a script that raises: Python's own, 1, means that the check failed


@dataclasses.dataclass
class Diagnosis:
    """The judge's diagnosis of one planted bug.

    place: the stage or the functions that it blames, joined by " and "; "" if none. rule: the first whose failure gives
    a script; numbers: how many non-zero floats of weights and inputs are left in the script. exit_codes: those of the
    script in a fresh interpreter, on the bug and on the reference (CRASHED: an exception); None if there is no script.
    not_shrunk: why the judge did not look for a smallest failure.
    """

    mutant: Mutant
    place: str = ""
    rule: str = ""
    numbers: int | None = None
    exit_codes: tuple[int, int] | None = None
    not_shrunk: str = ""

    @property
    def right(self) -> bool:
        """Whether every blamed place is right."""
        return set(self.place.split(" and ")) <= set(self.right_places)

    @property
    def right_places(self) -> list[str]:
        """The places that may be blamed: those that the bug names, and every function that was edited."""
        return list(dict.fromkeys([*self.mutant.where, *(short_name(edit.function) for edit in self.mutant.edits)]))

    @property
    def script_holds(self) -> bool:
        """Whether the script fails on the bug and passes on the reference."""
        return self.exit_codes == (1, 0)

    def to_dict(self) -> dict[str, Any]:
        """The same facts as a dict, fit for JSON."""
        return {
            "name": self.mutant.name,
            "place": self.place or None,
            "where": self.right_places,
            "right": self.right,
            "rule": self.rule or None,
            "numbers": self.numbers,
            "script_exit_codes": None if self.exit_codes is None else list(self.exit_codes),
            "not_measured": self.not_shrunk,
        }


def measure(
    mutants: Iterable[Mutant], examples: int, seed: int, work: Work | None = None, originals: bool = True
) -> list[Diagnosis]:
    """Diagnose each bug, on at most `examples` cases of each rule.

    work: how the tasks run; after an interruption, the result is the diagnoses finished so far. originals: whether
    blame may try the original functions in the bug's copy of the sources, which a backend of other sources has not; if
    not, the places alone are asked for.
    """
    chosen = [bug for bug in mutants if not bug.equivalent]
    slow_first = sorted(chosen, key=lambda bug: ("graph", "pynative", "").index(bug.mode))
    tasks = [(bug.name, examples, seed, originals) for bug in slow_first]
    finished = {name: diagnosis for (name, *_), diagnosis in (work or Work()).do(diagnosis_of, tasks)}
    return [finished[bug.name] for bug in chosen if bug.name in finished]


def diagnosis_of(name: str, examples: int, seed: int, originals: bool = True) -> Diagnosis:
    """Diagnose the bug of that name; see measure."""
    bug = mutant(name)
    backend = bug.backend()
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # bugs overflow, and divide by zero
        warnings.simplefilter("ignore")
        if bug.engine != "numpy":
            few = min(examples, GRAPH_EXAMPLES) if bug.mode == "graph" else examples
            return Diagnosis(bug, locate(backend, few, seed, originals) or "", not_shrunk="MindSpore is slow")
        diagnosis = Diagnosis(bug, locate(backend, examples, seed, originals) or "")
        if not originals:
            diagnosis.not_shrunk = "its place alone is asked for"
            return diagnosis
        failure = first_failure(backend, examples, seed)
        if failure is not None:
            rule, trial = failure
            diagnosis.rule, diagnosis.numbers = rule.name, nonzero(trial.arguments)
            script = write_script(rule, trial)
            diagnosis.exit_codes = _exit_codes(script) if script else None
    return diagnosis


def chosen(mutants: Iterable[Mutant], words: Iterable[str]) -> list[Mutant]:
    """The mutants whose name, or the full name of an edited function, has one of the words in it; all without words."""
    wanted = list(words) or [""]
    return [
        bug
        for bug in mutants
        if any(word in text for word in wanted for text in (bug.name, *(edit.function for edit in bug.edits)))
    ]


def first_failure(backend: Backend, examples: int, seed: int) -> tuple[Rule, Trial] | None:
    """The first rule that a backend breaks by a wrong result, not by an exception, and the smallest case found."""
    for rule in rules().values():
        cases = drawn(rule.name, backend, examples, seed)
        if any(breaks(rule, Trial(case, backend, memory)) for case, memory in cases):
            trial = smallest_trial(rule, check_rule(rule, backend, examples, seed), backend)
            if trial is not None:
                return rule, trial
    return None


def _exit_codes(script: str) -> tuple[int, int]:
    """Of a script in a fresh interpreter: on the backend it was written for, and on the reference."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "failure.py"
        path.write_text(script, encoding="utf-8")
        return _exit_code(path), _exit_code(path, "numpy")


def _exit_code(path: Path, *arguments: str) -> int:
    ran = subprocess.run([sys.executable, str(path), *arguments], capture_output=True, text=True, check=False)
    return CRASHED if "Traceback" in ran.stderr else ran.returncode


def all_well(diagnoses: list[Diagnosis]) -> bool:
    """Whether every bug is located somewhere, and every script holds."""
    return all(diagnosis.place and (diagnosis.exit_codes is None or diagnosis.script_holds) for diagnosis in diagnoses)


def summary(diagnoses: list[Diagnosis]) -> str:
    """The diagnoses in one sentence."""
    right, scripts = [row for row in diagnoses if row.right], [row for row in diagnoses if row.exit_codes is not None]
    vague = sum(row.place in rules() and row.place.startswith(("engine.", "training.", "laws.")) for row in right)
    only = f" (of {vague} only the rule that fails)" if vague else ""
    return (
        f"Blame names the right place for {len(right)} of {len(diagnoses)} bugs{only}; a median of "
        f"{_median(diagnoses)} non-zero numbers is left; {sum(row.script_holds for row in scripts)} of {len(scripts)} "
        "scripts fail on the bug and pass on numpy."
    )


def diagnosis_table(diagnoses: list[Diagnosis]) -> Table:
    """One row per bug."""
    shown = Table(title="Planted bugs and their diagnoses", title_justify="left")
    for heading in HEADINGS:
        shown.add_column(heading, justify="right" if heading == "numbers left" else "left")
    for diagnosis in diagnoses:
        name, place, right, rule, numbers, script = _cells(diagnosis)
        marks = [f"[bold red]{word}[/bold red]" if word in WRONG else word for word in (right, script)]
        shown.add_row(name, place, marks[0], rule, numbers, marks[1])
    return shown


def markdown(diagnoses: list[Diagnosis], examples: int, seed: int, words: Sequence[str] = ()) -> str:
    """The page docs/tables/diagnosis.md. words: those that chose the bugs."""
    only = "".join(f"--bugs {word} " for word in words)
    models = [diagnosis for diagnosis in diagnoses if diagnosis.rule and _is_of_a_model(rules()[diagnosis.rule])]
    lines = [
        "# What is said of each bug",
        "",
        f"Made by `gpt2 diagnosis-table {only}--examples {examples} --seed {seed} --markdown "
        "docs/tables/diagnosis.md`, "
        f"{environment()}.",
        "",
        summary(diagnoses),
        "",
        "Each bug is a few lines changed in a copy of the sources (`parity/mutants/`); the judge is not told which.",
        "It blames a stage of the forward pass that is wrong by itself, or else the functions whose originals cure the",
        "first failure, or else the first function that differs. It is right if it names the function whose lines were",
        "changed, or the stage that they compute.",
        "",
        "The first function that differs, in the order of the lesson, is then made small: the numbers left are the",
        "non-zero floats among all weights and inputs (0: sizes, switches and token ids alone show the bug). For",
        f"{len(models)} bugs it is a whole model, with a median of {_median(models)} numbers. The script holds if, in",
        "a fresh interpreter, it ends with exit code 1 on the bug and with 0 on `numpy`; there is none for a backend",
        "that breaks down with an exception wherever it differs. Of bugs planted in MindSpore, where a case takes some",
        f"fifty times as long, the place alone is asked for, of those in graphs on at most {GRAPH_EXAMPLES} cases of",
        "each function.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(_cells(diagnosis)) + " |" for diagnosis in diagnoses]
    return "\n".join(lines) + "\n"


HEADINGS = ("bug", "blamed place", "right?", "smallest failure", "numbers left", "script")
WRONG = ("no", "DOES NOT HOLD")


def _cells(row: Diagnosis) -> tuple[str, ...]:
    script = "none" if row.exit_codes is None else "holds" if row.script_holds else WRONG[1]
    numbers = "" if row.numbers is None else str(row.numbers)
    failure = (f"not looked for: {row.not_shrunk}", "", "") if row.not_shrunk else (row.rule, numbers, script)
    return row.mutant.name, row.place or "none", "yes" if row.right else WRONG[0], *failure


def _median(diagnoses: list[Diagnosis]) -> str:
    numbers = [diagnosis.numbers for diagnosis in diagnoses if diagnosis.numbers is not None]
    return f"{statistics.median(numbers):g}" if numbers else "no"


def _is_of_a_model(rule: Rule) -> bool:
    return any(item.tree in ("", "score") for item in rule.contract.inputs)
