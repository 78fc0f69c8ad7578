"""How often is the arithmetic of an engine named rightly, and a mistake taken for arithmetic?

    python -m benchmarks.arithmetic --runs 300 --bugs 100 --markdown docs/tables/arithmetic.md

A run: one profile of parity/explanation/arithmetic.py, in an engine that rounds in other places and sums products from
the last term to the first, judged by one rule on random cases of a seed of its own. Then each planted bug is put to the
profiles alone, as if it were not known.
"""

import argparse
import collections
import dataclasses
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends import Backend
from gpt2.files import write_text
from gpt2.processes import Work
from parity import time_limits
from parity.check import check_rule, rules
from parity.explanation.arithmetic import PRODUCT, PROFILES, Profile
from parity.explanation.candidates import can_change, reached_by
from parity.explanation.copies import Copy
from parity.explanation.explain import Search, explain
from parity.mutants.all import MUTANTS, mutant
from parity.mutants.base import REORDERED
from parity.on_trial.explanation_table import LONGEST
from parity.on_trial.kill_table import environment
from parity.verdict.trial import Trial

RULES = (
    "ops.conv1d",
    "ops.softmax",
    "ops.layer_norm",
    "attention.attention",
    "model.mlp",
    "model.block",
    "model.language_model",
    "engine.logits",
)
MOVED = {"reference.ops.conv1d", "reference.attention.attention_scores"}  # there REORDERED changes what is rounded
EXAMPLES = 12
FIRST, EQUAL, OTHER, NOTHING, AGREES = "first", "among equals", "another", "nothing", "agrees"


@dataclasses.dataclass
class Run:
    """What is said of one engine: one of the words above, the name that is said, and the processor's seconds."""

    profile: str
    rule: str
    said: str = AGREES
    name: str = ""
    seconds: float = 0.0


def engine(profile: Profile) -> Backend:
    """An engine that computes so, and rounds in other places."""
    given, taken = dict(profile.given), {edit.function for edit in profile.edits} | MOVED
    if PRODUCT in given:
        product = given[PRODUCT]
        given[PRODUCT] = lambda a, b: product(a[..., ::-1], b[..., ::-1, :])
    others = tuple(edit for edit in REORDERED.edits if edit.function not in taken)
    return Copy(profile.edits + others, given).backend("float32", name="the judged engine")


def run(number: int, seed: int) -> Run:
    """The run of that number; seed: of the whole campaign."""
    random = np.random.default_rng([seed, number])
    profile = PROFILES[number % len(PROFILES)]
    chosen = Run(profile.name, str(random.choice(RULES)))
    rule, backend, start = rules()[chosen.rule], engine(profile), int(random.integers(2**31))
    with _quietly():
        result = check_rule(rule, backend, EXAMPLES, start, closest=0)
        begun = time.process_time()
        explanation = explain(rule, result, backend, EXAMPLES, start, LONGEST)
    chosen.seconds = time.process_time() - begun
    if explanation is None:
        return chosen
    found = next(iter(explanation.mistakes), None)
    chosen.name = found.name if found else ""
    chosen.said = NOTHING if found is None else FIRST if found.name == profile.name else OTHER
    if found is not None and profile.name in found.equally:
        chosen.said = EQUAL
    return chosen


def taken_for_arithmetic(name: str, seed: int) -> str | None:
    """The profile that explains a planted bug; "" if none does, None if its own rules do not see it."""
    bug = mutant(name)
    backend = Copy(bug.edits).backend("float32")
    with _quietly():
        for rule in [rules()[place] for place in bug.where if place in rules()]:
            result = check_rule(rule, backend, EXAMPLES, seed, closest=0)
            if result.failing_case is not None:
                trial = Trial(result.failing_case, backend)
                search = Search(rule, trial, time.monotonic() + LONGEST, EXAMPLES, seed)
                standing = search.explained_by(can_change(PROFILES, reached_by(rule, trial)))
                return standing[0].candidate.name if standing else ""
    return None


class _quietly(warnings.catch_warnings):  # noqa: N801
    """Without warnings of what overflows, and with little time to make failures small: any will do."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        np.seterr(all="ignore")
        time_limits.STEP = 1.0
        return entered


def page(runs: list[Run], bugs: dict[str, str | None], command: str) -> str:
    """The page docs/tables/arithmetic.md."""
    seen = [each for each in runs if each.said != AGREES]
    right = sum(each.said in (FIRST, EQUAL) for each in seen)
    share, slowest = right / max(len(seen), 1), max((each.seconds for each in seen), default=0.0)
    tried = {name: found for name, found in bugs.items() if found is not None}
    mistaken = {name: found for name, found in tried.items() if found}
    rows = []
    for profile in PROFILES:
        count = collections.Counter(each.said for each in runs if each.profile == profile.name)
        rows.append([profile.name, *(str(count[word]) for word in (FIRST, EQUAL, OTHER, NOTHING, AGREES))])
    missed = [each for each in seen if each.said in (OTHER, NOTHING)]
    lines = [
        "# Which arithmetic it is",
        "",
        f"Made by `{command}`, {environment()}.",
        "",
        f"The right profile is named in {right} of {len(seen)} runs ({share:.1%}); {len(runs) - len(seen)} more agree",
        f"with the reference on these cases. {len(mistaken)} of {len(tried)} planted bugs, put to profiles alone, are",
        f"taken for arithmetic. An explanation takes up to {slowest:.0f} s of the processor's time.",
        "",
        "| profile | first | among equals | another is named | nothing is | agrees |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "Not named:",
        "",
        *(f"- {each.profile} in `{each.rule}`: {each.name or 'nothing'}" for each in missed),
        *(f"- planted bug {name}: {found}" for name, found in mistaken.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the campaign, print its page, and write it to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--bugs", type=int, default=200, help="how many planted bugs")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    work = Work(
        given.processes, lambda done, count: print(f"{done} of {count}", flush=True) if done % 20 == 0 else None
    )
    numbers = [(number, given.seed) for number in range(given.runs)]
    done = dict(work.do(run, numbers))
    known = [bug for bug in MUTANTS if not bug.equivalent and (bug.engine, bug.dtype) == ("numpy", "float32")]
    chosen = known[:: max(1, len(known) // max(given.bugs, 1))][: given.bugs] if given.bugs else []
    bugs = dict(work.do(taken_for_arithmetic, [(bug.name, given.seed) for bug in chosen]))
    command = f"python -m benchmarks.arithmetic --runs {given.runs} --bugs {given.bugs} --seed {given.seed}"
    text = page(
        [done[each] for each in numbers if each in done], {name: found for (name, _), found in bugs.items()}, command
    )
    print(text)
    if given.markdown is not None:
        write_text(given.markdown, text)


if __name__ == "__main__":
    main()
