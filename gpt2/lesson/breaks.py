"""Planted bugs in the lesson's model: what they change, and how the judge finds them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import Backend, numpy_dtype
from gpt2.lesson.judged import LARGEST, severity
from gpt2.lesson.outline import BREAKS
from gpt2.lesson.tensors import packed
from gpt2.lesson.words.breaks import BREAK_WORDS
from gpt2.model.model import Model

Array = NDArray[Any]
CASES, SEED = 10, 0  # as in docs/tables/kill-table.md


def planted(model: Model, ids: Array, next_tokens: Callable[[Array], Any]) -> Iterator[dict[str, Any]]:
    """Yield every bug of the lesson on this prompt. next_tokens makes the payload's "next" from the last logits."""
    from parity.mutants.all import mutant
    from parity.verdict.stages import stage_axes, stage_references

    inputs = model.config, model.parameters, ids, None, None  # as parity.diagnosis.blame does, but once for all bugs
    free = stage_references(*inputs, np.dtype(np.float32), {})
    given = {name: reference.orbit[0] for name, reference in free.items()}
    fed = stage_references(*inputs, np.dtype(np.float32), {}, given)
    for name, step, law in BREAKS:
        bug = mutant(name)
        backend = bug.backend()
        broken = backend.model(model.config, model.parameters)
        alone = broken.stages(ids, given=given)
        in_the_run = broken.stages(ids)
        verdicts = {stage: fed[stage].judge(alone.get(stage, np.zeros(0))) for stage in fed}
        noise = {stage: severity(free[stage].judge(in_the_run.get(stage, np.zeros(0)))) for stage in free}
        first = next((stage for stage, verdict in verdicts.items() if not verdict.agrees), None)
        if first is None:
            continue  # the bug does not show in a model of this activation or these sizes
        shown = {first, "h.0.attn.attn_weights", "logits"}
        words = BREAK_WORDS[name]
        yield {
            "id": name.replace(" ", "-"),
            "name": words["name"],
            "story": words["story"],
            "diff": changed_lines(bug),
            "file": bug.edits[0].file,
            "found_by": found_by(bug, backend, law, first, noise[first]),
            "first_wrong": first,
            "step": step,
            "noise": noise,
            "alone": {stage: severity(verdict) for stage, verdict in verdicts.items()},
            "tensors": {stage: packed(in_the_run[stage], stage_axes(stage)) for stage in in_the_run if stage in shown},
            "next": next_tokens(in_the_run["logits"][0, -1]),
        }


def _function(bug: Any) -> str:
    """The function that holds the bug and has a rule in the judge."""
    from parity.cases.contracts import contracts

    return next(name for name in bug.where if name in contracts())


def changed_lines(bug: Any) -> list[list[str]]:
    """The lines that a bug changes, with a line of context: [["-", old], ["+", new], [" ", context], ...]."""
    from parity.on_trial.exercise import difference

    lines = [line for line in difference(bug).splitlines() if not line.startswith(("---", "+++"))]
    return [[" ", "…"] if line.startswith("@@") else [line[0], line[1:]] for line in lines[1:]]


def found_by(bug: Any, backend: Backend, law: str, first: str, size: float) -> dict[str, str]:
    """Say which comparison and which law find a bug, after how many random cases, and what blame says on this prompt.

    All of it is computed here. size: the error as a multiple of the allowed error.
    """
    function, said = _function(bug), BREAK_WORDS[bug.name]["law"]
    english, chinese = [], []
    seen = first_case(function, backend)
    if seen:
        english.append(f"Comparing {function} shows it on random case {seen}.")
        chinese.append(f"对比 {function}，第 {seen} 个随机样例就看出来了。")
    seen = first_case(law, backend)
    if seen:
        english.append(f"The law “{said['en']}” shows it on case {seen}, without a second implementation.")
        chinese.append(f"定律“{said['zh']}”不需要第二份实现，第 {seen} 个样例就看出来了。")
    times = f"{float(f'{size:.2g}'):,.0f}"
    how_far = (
        (f"; its error is {times} times what is allowed", f"，误差是允许值的 {times} 倍")
        if size < LARGEST
        else ("", "")
    )
    english.append(f"On this prompt gpt2 blame names {first} as the first wrong stage{how_far[0]}.")
    chinese.append(f"在这个提示上，gpt2 blame 指出最先出错的是 {first}{how_far[1]}。")
    return {"en": " ".join(english), "zh": "".join(chinese)}


def first_case(name: str, backend: Backend) -> int | None:
    """The number, from 1, of the first random case on which a backend fails a rule; None if there is none."""
    from parity.check import draw, rules
    from parity.verdict.trial import Trial, decide

    rule = rules()[name]
    with np.errstate(all="ignore"):
        for number, case in enumerate(draw(rule, numpy_dtype(backend.dtype), CASES, SEED), start=1):
            if not all(verdict.agrees for verdict in decide(rule.judge, Trial(case, backend))):
                return number
    return None
