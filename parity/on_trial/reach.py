"""Reach: which lines and branches of an engine the rules of the judge execute, and why they do not execute the others.

A bug in a line that no rule executes is out of the judge's sight. What is measured is a copy of the sources, so that
the reference counts only where it is the backend, not where it judges one.
"""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gpt2.errors import GPT2Error
from gpt2.processes import Work
from parity.check import Rule, check_rule, select
from parity.mutants.base import ROOT, Edit, Twin
from parity.on_trial.arms import Arm, Spread, spread
from parity.on_trial.hunt import Group
from parity.on_trial.unreached import reason

# What is measured of each engine; the configuration is shared with the judge.
MEASURED = {
    "numpy": ("reference/**/*.py", "gpt2/backends/numpy_backend.py", "gpt2/generation/[blr]*.py"),
    "mindspore": ("ms_backend/**/*.py",),
}
SHARED = "reference/config.py"
# How engines are run: all rules on as many cases as are asked for, then comparisons in other dtypes and modes on FEW.
SETTINGS: dict[str, tuple[Group, ...]] = {
    "numpy": (
        ("numpy", "float32", "eager"),
        ("numpy", "float16", "eager"),
        ("numpy", "bfloat16", "eager"),
        ("numpy", "float32", "plain"),
    ),
    "mindspore": (
        ("mindspore", "float32", "pynative"),
        ("mindspore", "float16", "pynative"),
        ("mindspore", "bfloat16", "pynative"),
        ("mindspore", "float32", "graph"),
    ),
}
FEW = 4
GRAPHS = ("model.mlp", "model.language_model_loss_vjp")  # compiled functions: what runs graphs is the same for all

Steps = dict[str, list[tuple[int, int]]]  # of each file the pairs of lines that ran one after the other
EXCLUDED = r"^\s*raise\b"  # error messages have tests of their own


@dataclasses.dataclass(frozen=True)
class Missed:
    """A line that no rule executes, or a branch that none takes. reason: why not; "" if nobody knows."""

    line: int
    text: str
    what: str
    reason: str


@dataclasses.dataclass
class Reached:
    """What the rules reach of one function; rules: those that enter it."""

    file: str
    function: str
    lines: int
    lines_reached: int
    branches: int
    branches_reached: int
    rules: list[str]
    missed: list[Missed]

    @property
    def unexplained(self) -> list[Missed]:
        """What is missed for no reason."""
        return [one for one in self.missed if not one.reason]

    def to_dict(self) -> dict[str, Any]:
        """The same facts as a dict, fit for JSON."""
        return dataclasses.asdict(self)


def reach(engine: str, functions: Iterable[str], examples: int, seed: int, work: Work | None = None) -> list[Reached]:
    """What the rules of these functions reach of each function of an engine that they enter; by default, all of both.

    Raises GPT2Error for another engine, or if `coverage` is not installed; KeyError for an unknown function.
    """
    if engine not in SETTINGS:
        raise GPT2Error(f"reach is measured of {' and '.join(SETTINGS)}, whose sources are here, not of {engine!r}")
    _coverage()
    work, functions = work or Work(), tuple(functions)
    chosen = select(functions, backend_of(SETTINGS[engine][0]))
    tasks = [
        (rule.name, group, cases, seed)
        for group in SETTINGS[engine]
        for rule in chosen.values()
        if (cases := _cases(rule, group, examples))
    ]
    found = [(rule, steps) for (rule, *_), steps in work.do(run_rule, tasks)]
    return [each for each in summed(engine, found) if each.rules or not functions] if found else []


def _cases(rule: Rule, group: Group, examples: int) -> int:
    """How many cases of a rule an engine gets in that dtype and mode."""
    if group == SETTINGS[group[0]][0]:
        return 1 if rule.compiled else examples  # more of them compile the same again
    if group[2] == "graph":
        return FEW * (rule.name in GRAPHS)
    is_comparison = not (rule.trains or rule.compiled or "laws." in rule.name)
    return min(FEW, examples) * is_comparison


@functools.cache
def sources(engine: str) -> dict[str, Spread]:
    """The measured files of an engine, spread."""
    files = {file.relative_to(ROOT).as_posix(): file for pattern in MEASURED[engine] for file in ROOT.glob(pattern)}
    return {name: spread(file.read_text(encoding="utf-8")) for name, file in sorted(files.items()) if name != SHARED}


def backend_of(group: Group) -> Any:
    """An engine made of a copy of its sources, spread."""
    engine, dtype, mode = group
    wide = {name.removesuffix(".py").replace("/", "."): one for name, one in sources(engine).items()}
    edits = tuple(Edit(module, one.source, one.text) for module, one in wide.items())
    return Twin("copy", edits, engine).backend("CPU", dtype, mode)


def run_rule(name: str, group: Group, examples: int, seed: int) -> Steps:
    """Judge a copy of an engine by a rule, and note its steps."""
    backend = backend_of(group)
    root = Path(backend.sources).parent.resolve()
    recorder = _coverage().Coverage(data_file=None, config_file=False, branch=True, include=[f"{root}/*"])
    recorder.set_option("run:disable_warnings", ["no-data-collected"])
    rule: Rule = select([name], backend)[name]
    with recorder.collect():
        check_rule(rule, backend_of(group), examples, seed, closest=0)
    data = recorder.get_data()
    return {Path(file).relative_to(root).as_posix(): data.arcs(file) or [] for file in data.measured_files()}


def summed(engine: str, found: Iterable[tuple[str, Steps]]) -> list[Reached]:
    """What the steps noted for each rule reach, function by function."""
    with tempfile.TemporaryDirectory(prefix="gpt2_reach_") as folder:
        paths = {name: Path(folder, name).resolve() for name in sources(engine)}
        for name, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(sources(engine)[name].text, encoding="utf-8")
        recorder = _coverage().Coverage(data_file=None, config_file=False, branch=True)
        recorder.exclude(EXCLUDED)
        data = recorder.get_data()
        for rule, steps in found:
            data.set_context(rule)
            data.add_arcs({str(path): steps.get(name, []) for name, path in paths.items()})
        written = Path(folder, "reach.json")
        recorder.json_report([str(path) for path in paths.values()], outfile=str(written), show_contexts=True)
        report = json.loads(written.read_text(encoding="utf-8"))["files"]
        files = {Path(path).absolute(): facts for path, facts in report.items()}
        return [
            _function(name, function, facts, sources(engine)[name], set(data.lines(str(path)) or []))
            for name, path in paths.items()
            for function, facts in files[path]["functions"].items()
            if function  # everything outside of functions runs when the file is imported
        ]


def _function(file: str, function: str, facts: dict[str, Any], wide: Spread, ran: set[int]) -> Reached:
    arms = [arm for arm in wide.arms if arm.function == function]
    left = [arm for arm in arms if ran.isdisjoint(range(arm.start, arm.end + 1))]
    counts, rules = facts["summary"], {rule for rules in facts["contexts"].values() for rule in rules}
    return Reached(
        file,
        function,
        counts["num_statements"],
        counts["covered_lines"],
        counts["num_branches"] + len(arms),
        counts["covered_branches"] + len(arms) - len(left),
        sorted(rules),
        list(_missed(file, function, facts, wide, left)),
    )


def _missed(file: str, function: str, facts: dict[str, Any], wide: Spread, arms: list[Arm]) -> Iterator[Missed]:
    """What is missed of a function, but no branch of a missed line.

    The reason of a missed line is its own, that of the branch to it, or that of the missed line before it.
    """
    text = ["", *wide.source.splitlines()]
    executed, lines, branches = facts["executed_lines"], facts["missing_lines"], facts["missing_branches"]

    def missed(line: int, what: str, *others: int, other: str = "") -> Missed:
        near = (text[wide.lines[one - 1]].strip() for one in (line, *others) if one > 0)
        why = next(filter(None, (reason(file, function, each) for each in near)), other)
        number = wide.lines[line - 1]
        return Missed(number, text[number].strip(), what, why)

    if not executed:
        yield missed(facts["start_line"], "never entered")
        return
    last, why = 0, ""
    for line in lines:
        follows = last and not any(last < one < line for one in executed)
        one = missed(
            line, "never runs", *(start for start, end in branches if end == line), other=why if follows else ""
        )
        last, why = line, one.reason
        yield one
    for start, end in branches:
        if start not in lines and end not in lines:
            where = "the end of the function" if end < 0 else f"line {wide.lines[end - 1]}"
            yield missed(start, f"never followed by {where}", end)
    for arm in arms:
        if max((line for line in (*executed, *lines) if line <= arm.start), default=0) in executed:
            yield missed(arm.start, f"never computes {' '.join(arm.text.split())}")


def listed(found: Iterable[Reached]) -> str:
    """What is missed, function by function, each with its reason, for people."""
    paragraphs = []
    for each in found:
        rows = [f"  {one.line:>4}  {one.text}\n        {one.what}: {one.reason or 'no reason'}" for one in each.missed]
        if rows:
            paragraphs.append(
                "\n".join([f"{each.file}: {each.function}, rules that enter it: {len(each.rules)}", *rows])
            )
    return "\n\n".join(paragraphs)


def summary(found: Iterable[Reached]) -> str:
    """The result in one sentence."""
    found = list(found)
    lines, branches = (sum(getattr(each, name) for each in found) for name in ("lines", "branches"))
    ran, taken = (sum(getattr(each, f"{name}_reached") for each in found) for name in ("lines", "branches"))
    left, unexplained = (sum(len(getattr(each, name)) for each in found) for name in ("missed", "unexplained"))
    rules = {rule for each in found for rule in each.rules}
    return (
        f"Rules: {len(rules)}. They reach {ran} of {lines} lines and {taken} of "
        f"{branches} branches of {len(found)} functions. Left out for a reason: {left - unexplained}, for none: "
        f"{unexplained}."
    )


def _coverage() -> Any:
    """The package `coverage`, which only developers need."""
    try:
        import coverage
    except ImportError as error:
        raise GPT2Error("reach is measured by the package `coverage`: pip install 'gpt2-parity[dev]'") from error
    return coverage
