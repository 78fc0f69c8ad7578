"""What the judge finds in dumps of planted bugs and of correct models, and what msprobe's compare says of the same.

`python -m benchmarks.recorded.campaign FOLDER --bugs --correct 500`, after `make_dumps` and `msprobe_compare`. What was
judged once is kept in FOLDER (judged.json), unless --again is given.
"""

import csv
import dataclasses
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import click
from rich.console import Console

from benchmarks.recorded.make_dumps import BUGS
from benchmarks.recorded.places import contains, is_right, place_of_call, places_of_stage
from benchmarks.recorded.plain import CaseOfRun, read_cases
from gpt2.errors import GPT2Error
from parity.recorded.read import read_recording
from parity.recorded.recording import Call
from parity.recorded.runs.loss import LOSS
from parity.report.recorded.facts import CALL, GRADIENT, PARAMETER, JudgedRun, Wrong
from parity.report.recorded.run import LoadedModel, judge_recording
from parity.verdict.stages import stage_names
from reference.config import GPT2Config

Facts = dict[str, Any]
BY_NAME = {bug.name: bug for bug in BUGS}
WAYS = {"calls": "calls alone", "model": "with --model"}
REFUSED = {"agrees": False, "is_right": False, "first": None, "noted": None, "elsewhere": [], "judged": 0, "calls": 0}
MSPROBE = {"error": "Result is error", "warning": "Result is error or warning"}


def judge_case(place: Path, bug: str, ways: tuple[str, ...], again: bool) -> Facts:
    """What the judge says of one dump, without the model or with it, and msprobe's compare of it."""
    kept = place / "judged.json"
    facts: Facts = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() and not again else {}
    if facts.keys() >= set(ways):
        return facts
    try:
        recording = read_recording(place / "dump")
        calls = {call.name: call for call in recording.runs[0].calls}
        model = LoadedModel.of(str(place / "model"))
        facts["usual"] = _is_usual(model.config)
        for way in set(ways) - set(facts):
            begun = time.perf_counter()
            (run,) = judge_recording(recording, model if way == "model" else None).runs
            facts[way] = _facts(run, calls, bug, model.config) | {"seconds": time.perf_counter() - begun}
        if (place / "compare.csv").exists():
            facts["msprobe"] = _compared(place / "compare.csv", calls, bug)
    except GPT2Error as error:
        facts["refused"] = str(error)
        facts |= {way: facts.get(way, REFUSED) for way in ways}
    kept.write_text(json.dumps(facts), encoding="utf-8")
    return facts


def _is_usual(config: GPT2Config) -> bool:
    """Whether what a dump does not say, the scale of the scores and LayerNorm's epsilon, is as in GPT-2."""
    is_scaled = config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx
    return is_scaled and config.layer_norm_epsilon == GPT2Config().layer_norm_epsilon


def _facts(run: JudgedRun, calls: Mapping[str, Call], bug: str, config: GPT2Config) -> Facts:
    first = run.first_wrong
    noted = next((calls[lower.calls[0].name] for lower in run.lower_precision), None) if first is None else None
    is_noted = bool(noted and bug and is_right(BY_NAME[bug], place_of_call(noted, calls)))
    others = [j.call.name for j in run.wrong_calls if bug and not contains(BY_NAME[bug], place_of_call(j.call, calls))]
    return {
        "agrees": run.agrees,
        "judged": sum(each.is_judged for each in run.calls),
        "calls": len(run.calls),
        "stages": len(run.stages),
        "first": None if first is None else f"{first.what} {first.name}",
        "explanation": None if first is None or first.verdict is None else first.verdict.explain(),
        "noted": None if noted is None else noted.name,
        "is_right": is_noted or bool(first and bug and _is_right(first, calls, bug, config)),
        "wrong": [f"{each.call.name}: {each.worst.explain() if each.worst else ''}" for each in run.wrong_calls],
        "wrong_stages": [stage.name for stage in run.stages if not (stage.own.agrees and stage.inherited.agrees)],
        "wrong_parameters": [each.name for each in run.wrong_parameters],
        "elsewhere": others,
        "not_judged": {reason: len(names) for reason, names in run.not_judged.items()},
        "passes": [whole.reason for whole in run.whole],
    }


def _is_right(first: Wrong, calls: Mapping[str, Call], bug: str, config: GPT2Config) -> bool:
    planted = BY_NAME[bug]
    if first.what in (CALL, GRADIENT):
        return is_right(planted, place_of_call(calls[first.call or first.name], calls))
    if first.what == PARAMETER:
        return is_right(planted, first.name.rpartition(".")[0].removeprefix("transformer."))
    if first.call in calls and is_right(planted, _place_of_call_for(first, calls)):
        return True
    names = [*stage_names(config), LOSS]
    since = names.index(first.after) + 1 if first.after in names else names.index(first.name)
    hidden = names[since : names.index(first.name)]  # stages that were not recorded: the report names them, too
    return any(is_right(planted, place, name) for name in (*hidden, first.name) for place in places_of_stage(name))


def _place_of_call_for(first: Wrong, calls: Mapping[str, Call]) -> str:
    """Where a call stands that shows a wrong stage; if it is right by itself, where the one that gave it its input."""
    call = calls[first.call]
    return _caller(call, calls) if first.is_right or not first.is_result else place_of_call(call, calls)


def _caller(call: Call, calls: Mapping[str, Call]) -> str:
    return place_of_call(calls[call.parent], calls) if call.parent in calls else ""


def _compared(file: Path, calls: Mapping[str, Call], bug: str) -> Facts:
    """Which calls msprobe's compare flags, by its column Result."""
    flagged: dict[str, list[str]] = {"error": [], "warning": []}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            name = re.sub(r"\.(input|output|parameters|kwargs)(\.|$).*", "", row["NPU Name"])
            for level in {"error": ("error", "warning"), "warning": ("warning",)}.get(row["Result"], ()):
                if name not in flagged[level]:
                    flagged[level].append(name)
    found: Facts = {}
    for level, names in flagged.items():
        places = [place_of_call(calls[name], calls) if name in calls else _of_name(name) for name in names]
        found[level] = {
            "first": names[0] if names else None,
            "is_right": bool(names) and is_right(BY_NAME[bug], places[0]),
            "flagged": len(names),
            "elsewhere": sum(not contains(BY_NAME[bug], place) for place in places),
        }
    return found


def _of_name(name: str) -> str:
    """The place of what is no call, "Module.transformer.ln_f.LayerNorm.parameters_grad.0"."""
    found = re.match(r"(?:Module|Cell)\.(?:transformer\.)?(.*)\.\w+\.parameters_grad", name)
    return found[1] if found else ""


@dataclasses.dataclass
class Results:
    """The facts of every dump that was judged."""

    bugs: list[tuple[CaseOfRun, Facts]] = dataclasses.field(default_factory=list)
    correct: list[tuple[CaseOfRun, Facts]] = dataclasses.field(default_factory=list)

    def alarms(self, way: str) -> list[tuple[CaseOfRun, Facts]]:
        """The correct dumps that are called wrong; for calls alone, those of models that are as usual."""
        asked = [(case, facts) for case, facts in self.correct if way == "model" or facts.get("usual", True)]
        return [(case, facts) for case, facts in asked if way in facts and not facts[way]["agrees"]]

    def right(self, way: str) -> int:
        """How many bugs are blamed at the right call."""
        return sum(facts.get(way, REFUSED)["is_right"] for _, facts in self.bugs)

    def silent(self, way: str) -> int:
        """Of how many bugs nothing is said."""
        said = [facts.get(way, REFUSED) for _, facts in self.bugs]
        return sum(each["agrees"] and not each["noted"] for each in said)

    def noted(self, way: str) -> tuple[int, int]:
        """How many bugs are blamed at the right call by a note alone, and how many correct dumps have such a note."""
        bugs, correct = (
            [facts.get(way, REFUSED) for _, facts in each if facts.get(way, REFUSED)["noted"]]
            for each in (self.bugs, self.correct)
        )
        return sum(each["is_right"] for each in bugs), len(correct)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bugs", is_flag=True, help="Judge the dumps of planted bugs.")
@click.option("--correct", default=0, help="Judge so many of the correct dumps.")
@click.option("--way", "ways", multiple=True, type=click.Choice(tuple(WAYS)), default=tuple(WAYS), help="Repeatable.")
@click.option("--jobs", default=1, show_default=True, help="Processes.")
@click.option("--again", is_flag=True, help="Judge again what was judged before.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the facts to this file.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables to this file.")
def main(
    folder: Path,
    bugs: bool,
    correct: int,
    ways: tuple[str, ...],
    jobs: int,
    again: bool,
    file: Path | None,
    markdown: Path | None,
) -> None:
    """Judge dumps, and count how often the right call is blamed, and how often a correct one is.

    Exit code 1 if fewer than 95 % of the bugs are blamed at the right call, or a correct dump is called wrong.
    """
    cases = list(read_cases(folder))
    chosen = [each for each in cases if each[1].bug in BY_NAME] if bugs else []
    chosen += [each for each in cases if each[0].parent.name == "correct" and (each[0] / "dump").exists()][:correct]
    results = Results()
    for (_, case), facts in zip(chosen, _judged(chosen, ways, jobs, again), strict=True):
        (results.bugs if case.bug else results.correct).append((case, facts))
        _tell(case, facts)
    console = Console(highlight=False)
    for line in summary(results):
        console.print(line)
    if file is not None:
        kept = {
            name: [dataclasses.asdict(case) | facts for case, facts in getattr(results, name)]
            for name in ("bugs", "correct")
        }
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if markdown is not None:
        markdown.write_text(tables(results), encoding="utf-8")
    few = "model" in ways and results.right("model") < 0.95 * len(results.bugs)
    sys.exit(1 if few or any(results.alarms(way) for way in WAYS) else 0)


def _judged(chosen: list[tuple[Path, CaseOfRun]], ways: tuple[str, ...], jobs: int, again: bool) -> Iterator[Facts]:
    places, names = [place for place, _ in chosen], [case.bug for _, case in chosen]
    rest = [ways] * len(chosen), [again] * len(chosen)
    if jobs == 1:
        yield from map(judge_case, places, names, *rest)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(judge_case, places, names, *rest)


def _tell(case: CaseOfRun, facts: Facts) -> None:
    """Show each bug, and each correct dump that is called wrong."""
    found = {way: facts[way] for way in WAYS if way in facts}
    asked = [x for way, x in found.items() if way == "model" or facts["usual"]]
    is_well = all(x["is_right"] if case.bug else x["agrees"] for x in asked)
    if case.bug or not is_well:
        name = case.bug or f"correct {case.seed} {case.model} {case.dtype}"
        first = " / ".join(str(x["first"]) for x in found.values())
        print(f"{'  ' if is_well else '! '}{name}: {facts.get('refused') or first}", file=sys.stderr, flush=True)


def summary(results: Results) -> Iterator[str]:
    """The figures, one in a line."""
    count = len(results.bugs)
    ways = {way: name for way, name in WAYS.items() if any(way in facts for _, facts in results.bugs + results.correct)}
    if count:
        for way, name in ways.items():
            right, silent = results.right(way), results.silent(way)
            notes, _ = results.noted(way)
            by_note = f", {notes} of them by a note of lower precision alone" if notes else ""
            yield f"{name}: {right} of {count} bugs blamed at the right call{by_note}; {silent} not seen"
            others = [len(facts[way]["elsewhere"]) for _, facts in results.bugs if way in facts]
            yield f"    calls blamed that hold no bug: {sum(others)}, in {sum(map(bool, others))} dumps"
        for level, name in MSPROBE.items():
            yield _of_msprobe(results, level, name)
    if results.correct:
        judged, calls = Counter(), Counter()
        for case, facts in results.correct:
            if "model" in facts:
                judged[case.model, case.dtype] += facts["model"]["judged"]
                calls[case.model, case.dtype] += facts["model"]["calls"]
        for way, name in ways.items():
            asked = [facts for _, facts in results.correct if way in facts]
            count = sum(way == "model" or facts.get("usual", True) for facts in asked)
            of_which = "" if way == "model" else " of models with GPT-2's scale and epsilon, which a dump does not say"
            alarms, (_, notes) = len(results.alarms(way)), results.noted(way)
            yield f"{name}: {alarms} alarms in {count} correct dumps{of_which}; notes of lower precision: {notes}"
        for kind in judged:
            yield f"    {' '.join(kind)}: {judged[kind]} of {calls[kind]} calls judged"


def _of_msprobe(results: Results, level: str, name: str) -> str:
    said = [facts["msprobe"][level] for _, facts in results.bugs if "msprobe" in facts]
    right, silent = sum(each["is_right"] for each in said), sum(each["first"] is None for each in said)
    others = [each["elsewhere"] for each in said]
    return (
        f"msprobe compare, {name}: {right} of {len(said)} bugs flagged at the right call first, {silent} not seen; "
        f"calls flagged that hold no bug: {sum(others)}, in {sum(map(bool, others))} dumps"
    )


def tables(results: Results) -> str:
    """The page docs/tables/recorded-runs.md."""
    mark: Callable[[bool], str] = lambda is_right: "yes" if is_right else "**no**"  # noqa: E731
    lines = [
        "# Bugs in recorded runs",
        "",
        "Written by `python -m benchmarks.recorded.campaign FOLDER --bugs --correct 500 --markdown FILE`. Every dump",
        "was made by mindstudio-probe 26.2.0, level mix, task tensor, on CPU: transformers on PyTorch, a GPT-2 of",
        "cells and the twin on MindSpore. A blamed call is right if it is one of the module that was changed, or of an",
        "operator that this module calls itself; where only the order of modules was changed, or what they are given,",
        "the first stage that holds a wrong value is right, or its module. Of a gradient that is missing, the module",
        "that lost it is blamed. A module that computes in 16 bits within a float32 model is not called wrong: the",
        "report notes it, and the bug counts as blamed if nothing is called wrong and the first call noted is right.",
        "msprobe's compare was given two dumps, with the bug and without; the judge saw the first alone.",
        "The first campaign blamed 137 of these bugs at the right call. What finds the other 13 (losses, missing",
        "gradients, positions from 1, lower precision) was written with them in sight. The labels had been drawn at",
        "random; they have been the ids since: of other labels nobody can tell whether they are to be shifted.",
        "",
        *(f"* {line.strip()}" for line in summary(results)),
        "",
        "| model | bug | new | calls alone | with `--model` | blamed | msprobe flags first | right | calls it flags |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, facts in results.bugs:
        by_msprobe = facts.get("msprobe", {}).get("warning", {})
        cells = (
            case.model,
            case.bug.partition(": ")[2] or case.bug,
            "new" if BY_NAME[case.bug].new else "",
            mark(facts["calls"]["is_right"]) if "calls" in facts else "",
            mark(facts["model"]["is_right"]),
            _blamed(facts["model"]),
            f"`{by_msprobe.get('first') or 'nothing'}`",
            mark(bool(by_msprobe.get("is_right"))),
            str(by_msprobe.get("flagged", "")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _blamed(said: Facts) -> str:
    if said["first"] is None and said["noted"]:
        return f"note: `{said['noted']}`"
    what, _, name = (said["first"] or " nothing").partition(" ")
    return f"gradient of `{name}`" if what == GRADIENT else f"`{name}`"


if __name__ == "__main__":
    main()
