"""One input of a whole model, drawn at random: several implementations answer, and are judged by the same reference."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt2.backends import Backend
from gpt2.model import Model
from parity.cases import Case, build, cases
from parity.contracts import contracts
from parity.stages import stage_references
from parity.verdict import Reference
from reference.config import GPT2Config, flatten

Array = NDArray[Any]
DTYPE = np.dtype(np.float32)


@dataclasses.dataclass(frozen=True)
class Question:
    """A model and its input: parameters by name, float32; ids, and attention_mask and position_ids or none, (B, T)."""

    case: Case
    config: GPT2Config = dataclasses.field(repr=False)  # the case shows it
    parameters: dict[str, Array] = dataclasses.field(repr=False)
    ids: Array
    attention_mask: Array | None = None
    position_ids: Array | None = None

    @property
    def inputs(self) -> dict[str, Array]:
        """The arrays that are there, by the names of our arguments."""
        fields = {name: getattr(self, name) for name in ("ids", "attention_mask", "position_ids")}
        return {name: x for name, x in fields.items() if x is not None}

    @property
    def mask(self) -> Array:
        """attention_mask (B, T), of ones where there is none."""
        return np.ones_like(self.ids) if self.attention_mask is None else self.attention_mask

    @property
    def positions(self) -> Array:
        """position_ids (B, T), counted from 0 where there are none."""
        counted = np.broadcast_to(np.arange(self.ids.shape[1]), self.ids.shape)
        return counted if self.position_ids is None else self.position_ids

    @property
    def head(self) -> str:
        """The stage that the model ends in."""
        return "label_logits" if "score.weight" in self.parameters else "logits"

    @property
    def hidden_states(self) -> list[str]:
        """The stages that transformers calls hidden_states, in its order."""
        return ["embeddings", *(f"h.{i}.mlp_residual" for i in range(self.config.n_layer - 1)), "ln_f"]

    def model(self, backend: Backend) -> Model:
        """The model on a backend."""
        return Model(self.config, self.parameters, backend)

    def references(self, accuracy: Mapping[str, float] | None = None) -> dict[str, Reference]:
        """What to judge every stage by. accuracy is what an engine declares of its elementary functions."""
        inputs = (self.ids, self.attention_mask, self.position_ids)
        return stage_references(self.config, self.parameters, *inputs, DTYPE, accuracy or {})


def expect_agreement(who: str, values: Mapping[str, Array], references: Mapping[str, Reference]) -> None:
    """Let the verdict rule decide on values by stage. Raises AssertionError that says who is wrong, where, how much."""
    for stage, value in values.items():
        verdict = references[stage].judge(value)
        assert verdict.agrees, f"{who}: {stage}: {verdict.explain()}"


def may_be_level(question: Question, first: int, second: int) -> bool:
    """Whether a correct float32 implementation may find two ids equally likely to follow the one sequence."""
    reference = question.references()["logits"]
    level = reference.orbit[0].copy()
    level[0, -1, [first, second]] = level[0, -1, [first, second]].mean()
    return reference.judge(level).agrees


def questions(function: str, change: Callable[[Case], Case] = lambda case: case) -> st.SearchStrategy[Question]:
    """Questions to a whole model, "language_model" or "sequence_classifier": live random weights, no past."""
    drawn = cases(contracts()[f"model.{function}"], DTYPE)
    return drawn.map(_without_past).map(change).map(_question)


def _without_past(case: Case) -> Case:
    sizes = {**case.sizes, "P": 0, "S": case.sizes["T"]}
    return dataclasses.replace(case, absent=case.absent | {"past"}, sizes=sizes)


def _question(case: Case) -> Question:
    arguments, _ = build(case, DTYPE)
    return Question(case, parameters=flatten(arguments.pop("params")), **arguments)
