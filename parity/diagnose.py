"""What a failure means: where it starts, and a script that shows it by itself."""

from gpt2.backends import Backend, NumPyBackend
from parity.blame import Stage, blame, first_wrong, source_lines
from parity.check import Result, Rule
from parity.script import write_script
from parity.shrink import breaks, shrink
from parity.trial import Trial
from reference.config import flatten


def diagnose(rule: Rule, result: Result, backend: Backend) -> None:
    """Find out where the failure of a result starts and write the script that shows it, both into the result."""
    if result.failing_case is None:
        return
    trial = Trial(result.failing_case, backend)
    result.blame = explain(rule, trial)
    if breaks(rule, trial):
        result.script = write_script(rule, shrink(rule, trial, NumPyBackend(dtype=backend.dtype)))


def explain(rule: Rule, trial: Trial) -> str:
    """Where the failure starts, in words: the first wrong stage of the forward pass, or the function."""
    function = trial.case.contract.function
    own_lines = "\n".join([function, *source_lines(trial.backend, function)])
    stages = blame_stages(trial)
    if stages is None:
        return own_lines
    first = first_wrong(stages)
    if first is None:
        return f"every stage of the plain forward pass agrees: look at what is around it\n{own_lines}"
    later = sum(not stage.in_the_run.agrees for stage in stages if stage.name != first.name)
    return f"{first.explain()}\n  ({later} of {len(stages) - 1} other stages differ in the run)"


def blame_stages(trial: Trial) -> list[Stage] | None:
    """The stages of the model in a trial, on its tokens without a past; None if it is of no whole model."""
    whole = [item for item in trial.case.contract.inputs if item.tree in ("", "score") and "fast" not in item.kinds]
    if not whole:
        return None
    arguments = trial.arguments
    mask = None if "past" in arguments else arguments.get("attention_mask")
    parameters = flatten(arguments["params"])
    return blame(trial.backend, arguments["config"], parameters, arguments["ids"], mask, arguments.get("position_ids"))
