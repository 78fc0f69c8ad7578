"""Diagnose a failure: find where it starts, and write a script that reproduces it."""

import contextlib
import functools
import re

from gpt2.backends import Backend, NumPyBackend, numpy_dtype
from parity.cases.cases import Case
from parity.check import Rule, SearchResult, draw, rules
from parity.diagnosis.blame import Stage, blame, first_wrong, source_lines
from parity.diagnosis.script import write_script
from parity.diagnosis.shrink import BREAKDOWNS, breaks, shrink
from parity.verdict.trial import Memory, Trial
from reference.config import flatten


def diagnose(rule: Rule, result: SearchResult, backend: Backend) -> None:
    """Find where a failure starts and write a script that reproduces it; store both in the result."""
    if result.failing_case is None:
        return
    result.blame = explain(rule, Trial(result.failing_case, backend))
    smallest = smallest_trial(rule, result, backend)
    if smallest is not None:
        result.script = write_script(rule, smallest)


def smallest_trial(rule: Rule, result: SearchResult, backend: Backend) -> Trial | None:
    """The failing case of a result with its numbers shrunk; None if there is none, or the backend raised an error."""
    if result.failing_case is None:
        return None
    trial = Trial(result.failing_case, backend)
    return shrink(rule, trial, NumPyBackend(dtype=backend.dtype)) if breaks(rule, trial) else None


def locate(backend: Backend, examples: int = 25, start: int = 0) -> str | None:
    """The first wrong place of a backend: a stage of the plain forward pass ("attn.scores"), else a function.

    A stage must be wrong by itself to count. The functions come in the order of the lesson, each one before those that
    call it; a law about none of them names itself. None if nothing differs on `examples` cases of each.
    """
    heads = [rules()[name] for name in ("model.language_model", "model.sequence_classifier")]
    for rule in heads:
        for case, memory in drawn(rule.name, backend.dtype, examples, start):
            with contextlib.suppress(*BREAKDOWNS):  # then a function fails too, and is named below
                first = first_wrong(blame_stages(Trial(case, backend, memory)) or [])
                if first is not None:
                    return re.sub(r"^h\.\d+\.", "", first.name)
    slow_last = sorted(rules().values(), key=lambda rule: rule.trains or (rule.is_law and not rule.group))
    for rule in slow_last:
        for case, memory in drawn(rule.name, backend.dtype, examples, start):
            if breaks(rule, Trial(case, backend, memory), breakdown=True):
                return rule.name
    return None


@functools.cache
def drawn(rule_name: str, dtype: str, examples: int, start: int) -> list[tuple[Case, Memory]]:
    """The cases of a rule, each with a cache of the reference's results, which serve every backend."""
    return [(case, {}) for case in draw(rules()[rule_name], numpy_dtype(dtype), examples, start)]


def explain(rule: Rule, trial: Trial) -> str:
    """Where the failure starts, in words: the first wrong stage of the forward pass, or the function."""
    if rule.group:
        return f"no function of the mirror: {rule.name} makes its own rows and texts from the seed of the case"
    function = trial.case.contract.function
    own_lines = "\n".join([function, *source_lines(trial.backend, function)])
    stages = blame_stages(trial)
    if stages is None:
        return own_lines
    first = first_wrong(stages)
    if first is None:
        return f"every stage of the plain forward pass agrees: look at the code around it\n{own_lines}"
    later = sum(not stage.in_the_run.agrees for stage in stages if stage.name != first.name)
    return f"{first.explain()}\n  ({later} of {len(stages) - 1} other stages differ in the run)"


def blame_stages(trial: Trial) -> list[Stage] | None:
    """The stages of the model in a trial, on its tokens without a past; None if it is not about a whole model."""
    whole = [item for item in trial.case.contract.inputs if item.tree in ("", "score") and "fast" not in item.kinds]
    arguments = trial.arguments
    if not whole or "ids" not in arguments:
        return None
    mask = None if "past" in arguments else arguments.get("attention_mask")
    parameters = flatten(arguments["params"])
    return blame(trial.backend, arguments["config"], parameters, arguments["ids"], mask, arguments.get("position_ids"))
