"""What is asked of a candidate about one stage alone: put to the reference's values, does it give what was found?"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explanation.candidates import Candidate
from parity.explanation.questions import Question, outcome
from parity.verdict import orbit
from parity.verdict.stages import stage_references
from parity.verdict.steps import accuracy_of
from parity.verdict.trial import Trial, as_float64
from parity.verdict.verdict import Reference
from reference.config import GPT2Config, flatten, nest
from reference.stages import keep_in

Array = NDArray[Any]
Stages = dict[str, Array]


def role(stage: str) -> str:
    """A stage without its layer: "attn.q" of "h.0.attn.q"."""
    return re.sub(r"^h\.\d+\.", "", stage)


class OfStage(Question[Stages]):
    """Are the values of a stage, in every layer, those of the candidate, computed from the reference's values?"""

    stage = ""

    @classmethod
    def named(cls, stage: str) -> type["OfStage"]:
        """The question about one stage, "attn.q"."""
        return type("OfOneStage", (cls,), {"stage": stage})

    def results(self, trial: Trial) -> Stages:
        known, _ = self._given(trial)
        config, parameters, ids, mask, positions = _inputs(trial)
        shown = trial.backend.model(config, parameters).stages(ids, mask, positions, known)
        found = {name: np.asarray(x) for name, x in shown.items() if role(name) == self.stage}
        if not found:
            raise NotImplementedError(self.stage)
        return found

    def answer(self, candidate: Candidate, index: int) -> tuple[bool, bool]:
        trial, found = self.trials[index], self.found(index)
        candidate.put_to(trial)
        known, truth = self._given(trial)
        exact = outcome(lambda: self._run(candidate, trial, known, None))
        if isinstance(found, str) or isinstance(exact, str) or not found.keys() <= exact.keys():
            return exact == found, exact == found
        if any(_is_far(value, exact[name], truth[name]) for name, value in found.items()):
            return False, False
        runs = [self._run(candidate, trial, known, member) for member in range(orbit.MEMBERS)]
        agrees = differs = False
        for name, value in found.items():
            # Of a mistake that keeps the symmetries, another order of its sums errs as far as one of the reference's.
            own = runs[0][name]
            others = [member - truth[name].oracle for member in truth[name].orbit[1:]]
            spread = [(exact[name] + x).astype(own.dtype) for x in others if x.shape == own.shape]
            alternative = Reference(exact[name], [run[name] for run in runs] + spread, truth[name].rows)
            if not alternative.judge(value).agrees:
                return False, False
            wrong = not any(truth[name].judge(x).agrees for x in (value, own))
            agrees, differs = True, differs or wrong
        return agrees, differs

    @staticmethod
    def _given(trial: Trial) -> tuple[Stages, dict[str, Reference]]:
        """The reference's value of every stage, and the reference of each computed from these."""

        def made() -> tuple[Stages, dict[str, Reference]]:
            about = *_inputs(trial), trial.dtype, accuracy_of(trial.backend)
            known = {name: x.orbit[0] for name, x in stage_references(*about, most=1).items()}
            return known, stage_references(*about, given=known, most=orbit.MEMBERS)

        found: tuple[Stages, dict[str, Reference]] = trial.remember("stages alone", made)
        return found

    @staticmethod
    def _run(candidate: Candidate, trial: Trial, known: Stages, member: int | None) -> Stages:
        """The candidate's stages: exact without a member, else in the dtype asked for, with the noise of a member."""
        config, parameters, *inputs = _inputs(trial)
        tree = nest(dict(parameters))
        move = (lambda name, x: x) if member is None else orbit.inexact(accuracy_of(trial.backend), trial.case, member)
        seen: Stages = {}
        keep = keep_in(seen)

        def watch(name: str, x: Any) -> Any:
            kept = keep(name, move(name, x))
            return known[name].astype(kept.dtype) if name in known else kept

        module = candidate.module("reference.model")
        head = module.sequence_classifier if "score" in tree else module.language_model
        with candidate.module("reference.stages").observing(watch):
            head(as_float64(tree) if member is None else tree, inputs[0], config, *inputs[1:])
        return seen


def _is_far(value: Array, exact: Array, truth: Reference) -> bool:
    """Whether a value is so far from the candidate's that no noise brings them near."""
    if value.shape != exact.shape or value.shape != truth.oracle.shape:
        return value.shape != exact.shape
    own = truth.orbit[0].dtype
    spread = [(exact + (member - truth.oracle)).astype(own) for member in truth.orbit]
    verdict = Reference(exact, spread, truth.rows).judge(value)
    return not verdict.agrees and verdict.is_plain


def _inputs(trial: Trial) -> tuple[GPT2Config, Stages, Array, Array | None, Array | None]:
    """The configuration, parameters, ids, mask and positions of a case about a whole model, without its past."""
    given = trial.arguments
    mask = None if "past" in given else given.get("attention_mask")
    return given["config"], flatten(given["params"]), given["ids"], mask, given.get("position_ids")
