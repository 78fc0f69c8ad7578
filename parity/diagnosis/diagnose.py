"""Diagnose a failure: find where it starts, and write a script that reproduces it."""

import contextlib
import dataclasses
import re

from gpt2.backends import Backend, NumPyBackend
from parity.check import Rule, SearchResult, rules
from parity.diagnosis.blame import RANDOM, Stage, blame, first_wrong, is_random, recorded_too_late, source_lines
from parity.diagnosis.evidence import evidence
from parity.diagnosis.functions_run import drawn, walk
from parity.diagnosis.lines import wrong_line
from parity.diagnosis.memory import remembers
from parity.diagnosis.script import write_script
from parity.diagnosis.shrink import BREAKDOWNS, breaks, shrink
from parity.diagnosis.swap import swapped_cure
from parity.verdict import orbit
from parity.verdict.trial import Trial
from reference.config import flatten


def diagnose(rule: Rule, result: SearchResult, backend: Backend, examples: int = 25, start: int = 0) -> None:
    """Find where a failure starts and write a script that reproduces it; store both in the result.

    examples, start: the cases over which the facts are counted, as in the search. What ended the backend's process is
    not run again.
    """
    if result.failing_case is None or result.fatal:
        return
    compiled = backend.mode == "graph" or rule.compiled  # anew, for each case
    facts = [] if compiled else [evidence(rule, backend, examples, start)]
    trial = Trial(result.failing_case, backend)
    kept = remembers(rule, trial)
    if kept:  # its lines are right, and so is every stage of a new model; the script would be
        result.blame = "\n".join([f"{rule.name}: {kept}", *facts])
        return
    fault = find_fault(rule, trial)
    result.places = fault.places
    result.blame = "\n".join(filter(None, [fault.text, wrong_line(rule, trial), *facts]))
    smallest = smallest_trial(rule, result, backend)
    if smallest is not None:
        result.script = write_script(rule, smallest)


def smallest_trial(rule: Rule, result: SearchResult, backend: Backend) -> Trial | None:
    """The failing case of a result with its numbers shrunk; None if there is none, or the backend raised an error."""
    if result.failing_case is None:
        return None
    trial = Trial(result.failing_case, backend)
    return shrink(rule, trial, NumPyBackend(dtype=backend.dtype)) if breaks(rule, trial) else None


@dataclasses.dataclass(frozen=True)
class Fault:
    """Where a failure starts. places: the stage ("h.0.attn.q") or the functions at fault; () if none.

    text: the places, why they are blamed, and their source lines on both sides.
    """

    places: tuple[str, ...]
    text: str


def locate(backend: Backend, examples: int = 25, start: int = 0, originals: bool = True) -> str | None:
    """Where a backend goes wrong: a stage of the plain forward pass ("attn.scores"), else functions ("f and g").

    A stage must be wrong by itself to count. The functions are those at fault in the first failing case; rules come in
    the order of the lesson, each function's before those that call it. If no function is found, the rule's name. None
    if nothing differs on `examples` cases of each. originals: as for find_fault.
    """
    heads = [rules()[name] for name in ("model.language_model", "model.sequence_classifier")]
    for rule in heads:
        for case, memory in drawn(rule.name, backend, examples, start):
            with contextlib.suppress(*BREAKDOWNS):  # then a function fails too, and is named below
                first = first_wrong(blame_stages(Trial(case, backend, memory)) or [])
                if first is not None:
                    return _role(first.name)
    slow_last = sorted(rules().values(), key=lambda rule: (rule.trains, rule.is_law and not rule.group))
    for rule in slow_last:
        for case, memory in drawn(rule.name, backend, examples, start):
            trial = Trial(case, backend, memory)
            if breaks(rule, trial, breakdown=True):
                return " and ".join(map(_role, find_fault(rule, trial, originals).places)) or rule.name
    return None


def _role(stage: str) -> str:
    return re.sub(r"^h\.\d+\.", "", stage)


def explain(rule: Rule, trial: Trial) -> str:
    """Where a failure starts, in words: the first wrong stage of the forward pass, or the function at fault."""
    return find_fault(rule, trial).text


def find_fault(rule: Rule, trial: Trial, originals: bool = True) -> Fault:
    """Find the stage or function at fault in a failing case.

    First a stage of the plain forward pass that is wrong by itself. Then, in a copy of our sources, the functions whose
    originals cure the failure (unless `originals` is False); in any backend, the first function that its own rule
    objects to.
    """
    try:
        stages = [] if rule.group else blame_stages(trial) or []
    except Exception:  # whatever a wrong backend raises: one of its functions is to blame
        stages = []
    stage = first_wrong(stages)
    if stage is not None:
        later = sum(not each.in_the_run.agrees for each in stages if each is not stage)
        others = f"\n  ({later} of {len(stages) - 1} other stages differ in the run)" if stages[1:] else ""
        text = stage.explain() + others
        return Fault((stage.name,), text + (f"\n  {RANDOM}" if _is_random(trial) else ""))
    gradient = wrong_gradient(trial) if stages and trial.case.contract.function.endswith("_vjp") else None
    if gradient is not None and getattr(trial.backend, "sources", None) is None:
        return gradient
    late = recorded_too_late(trial.backend, stages)
    if late:
        return Fault((), f"{rule.name}: {late}")
    cure = swapped_cure(rule, trial) if originals else None
    if cure:
        return _fault(trial, cure, "the case agrees with the original in place of " + ("each" if cure[1:] else "it"))
    if rule.group:
        own = "it makes its rows and texts from the seed of the case"
        return Fault((), f"{rule.name}: no function is at fault alone; {own}")
    walked = walk(rule, trial)
    if walked.verdict is not None:
        *right, wrong = walked.judged
        inside = f" ({len(right)} functions inside agree)" if right else ""
        return _fault(trial, [wrong], f"{walked.verdict.explain()}{inside}")
    text = f"{rule.name}: no function is at fault alone"
    for what, names in (("agree by themselves", walked.judged), ("have no rule of their own", walked.unjudged)):
        text += f"\n  these {what}: {', '.join(names)}" if names else ""
    return Fault((), "\n".join([text, *source_lines(trial.backend, trial.case.contract.function)]))


def _is_random(trial: Trial) -> bool:
    arguments = trial.arguments
    inputs = arguments["ids"], arguments.get("attention_mask"), arguments.get("position_ids")
    try:
        return is_random(trial.backend, arguments["config"], flatten(arguments["params"]), *inputs)
    except Exception:  # it is wrong already
        return False


def wrong_gradient(trial: Trial) -> Fault | None:
    """The first parameter with a wrong gradient, from the loss backwards, in a model whose forward pass agrees."""
    found = {verdict.name: verdict for verdict in trial.compare() if verdict.name}
    backwards = sorted(found, key=_depth, reverse=True)
    for before, name in zip([None, *backwards], backwards, strict=False):
        if not found[name].agrees:
            right = f"; that of {before} agrees" if before else ""
            lines = source_lines(trial.backend, trial.case.contract.function)
            why = (
                "every stage of the forward pass agrees; backwards from the loss, this gradient is the first to differ"
            )
            return Fault((name,), "\n".join([f"{found[name].explain()}", f"  {why}{right}", *lines]))
    return None


# The parameters in the order of the forward pass.
_ORDER = ("wte", "wpe", "ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")


def _depth(name: str) -> tuple[float, int]:
    """How late in the forward pass a parameter is used: its layer, and its place there."""
    layer = re.match(r"h\.(\d+)\.", name)
    places = [i for i, part in enumerate(_ORDER) if f"{part}." in name]
    if layer:
        return int(layer[1]), places[0] if places else len(_ORDER)
    return (-1, places[0]) if name.startswith("w") else (float("inf"), 0)


def _fault(trial: Trial, functions: list[str], why: str) -> Fault:
    lines = [line for name in functions for line in source_lines(trial.backend, name)]
    return Fault(tuple(functions), "\n".join([f"{' and '.join(functions)}: {why}", *lines]))


def blame_stages(trial: Trial) -> list[Stage] | None:
    """The stages of the model in a trial, on its tokens without a past; None if it is not about a whole model."""
    of_model = [item for item in trial.case.contract.inputs if item.name == "params" and item.tree in ("", "score")]
    arguments = trial.arguments
    if not of_model or "fast" in of_model[0].kinds or "ids" not in arguments:
        return None
    mask = None if "past" in arguments else arguments.get("attention_mask")
    inputs = flatten(arguments["params"]), arguments["ids"], mask, arguments.get("position_ids")
    for most in (orbit.FEWEST, orbit.MEMBERS, orbit.SAMPLES):  # noise only grows with the members
        found = blame(trial.backend, arguments["config"], *inputs, most=most)
        if first_wrong(found) is None:
            break
    return found
