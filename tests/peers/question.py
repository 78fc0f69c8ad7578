"""One input of a whole model, drawn at random: several implementations answer, and are judged by the same reference."""

import dataclasses
import hashlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt2.backends import Backend
from gpt2.model.model import Model
from parity.cases.cases import Case, build, cases
from parity.cases.contracts import contracts
from parity.cases.supports import EVERYTHING, Supports
from parity.verdict import orbit
from parity.verdict.stages import stage_references
from parity.verdict.trial import references
from parity.verdict.verdict import Reference
from reference.config import GPT2Config, flatten, keep_axes, nest

Array = NDArray[Any]
DTYPE = np.dtype(np.float32)
IGNORED = -100  # transformers' own ignore_index, which no argument changes


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
    def sent(self) -> dict[str, Array]:
        """The arrays that are there, by the names of transformers' arguments."""
        return {"input_ids" if name == "ids" else name: np.ascontiguousarray(x) for name, x in self.inputs.items()}

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

    def references(
        self, accuracy: Mapping[str, float] | None = None, most: int = orbit.SAMPLES
    ) -> dict[str, Reference]:
        """What to judge every stage by. accuracy is what an engine declares of its elementary functions."""
        inputs = (self.ids, self.attention_mask, self.position_ids)

        def find() -> dict[str, Reference]:
            return stage_references(self.config, self.parameters, *inputs, DTYPE, accuracy or {}, most=most)

        return _known(self, accuracy, most, find)


@dataclasses.dataclass(frozen=True)
class Lesson(Question):
    """A question about the gradient of the loss: with labels, of which -100 is not scored, and dropout masks or none.

    keep is a tree of `reference.config.keep_axes`; labels are (B, T) of a language model, (B,) of a classifier.
    """

    labels: Array = dataclasses.field(kw_only=True)
    keep: Any = None

    @property
    def sent(self) -> dict[str, Array]:
        """The arrays that are there, labels and dropout masks too."""
        return {**super().sent, **lesson_sent(self.config, self.labels, self.keep)}

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the function that gives the gradients."""
        kept = {} if self.keep is None else {"keep": self.keep}
        given = {"params": nest(self.parameters), "config": self.config, "labels": self.labels}
        return {"grad": np.ones((), DTYPE), **given, **self.inputs, **kept}

    @property
    def scored(self) -> Array:
        """True where a label counts in the loss, (B, T) or (B,): that of the first token is nobody's next one."""
        counted = self.labels != IGNORED
        if self.head == "logits":
            counted[:, 0] = False
        return counted

    def gradients(self, backend: Backend) -> dict[str, Array]:
        """What a backend finds, by parameter."""
        return flatten(backend.call(self.case.contract.function, self.arguments))

    def references(
        self, accuracy: Mapping[str, float] | None = None, most: int = orbit.SAMPLES
    ) -> dict[str, Reference]:
        """What to judge the gradient of every parameter by."""

        def find() -> dict[str, Reference]:
            return {x.name: x for x in references(self.case, DTYPE, accuracy or {}, self.arguments, most)}

        return _known(self, accuracy, most, find)


_KNOWN: dict[bytes, dict[str, Reference]] = {}
MOST_KNOWN = 200


def _known(
    question: Question, accuracy: Mapping[str, float] | None, most: int, find: Callable[[], dict[str, Reference]]
) -> dict[str, Reference]:
    """What the reference says, found once: every engine is asked the same questions, and transformers each time.

    The latest are kept, as many as one test asks.
    """
    fields = {name: value for name, value in vars(question).items() if name != "case"}
    key = hashlib.sha256(pickle.dumps((repr(question.case), fields, most, sorted((accuracy or {}).items())))).digest()
    if key not in _KNOWN:
        if len(_KNOWN) == MOST_KNOWN:
            del _KNOWN[next(iter(_KNOWN))]
        _KNOWN[key] = find()
    return _KNOWN[key]


def lesson_sent(config: GPT2Config, labels: Array, keep: Any) -> dict[str, Array]:
    """Labels and dropout masks, or none, as the PyTorch side takes them: the masks in the order of computation."""
    masks = {} if keep is None else flatten(keep)
    return {"labels": labels, **{f"keep.{name}": masks[name] for name in keep_axes(config) if masks}}


Asked = TypeVar("Asked", bound=Question)


def expect_agreement(
    who: str, values: Mapping[str, Array], question: Question, accuracy: Mapping[str, float] | None
) -> None:
    """Let the verdict rule decide on values by stage. Raises AssertionError that says who is wrong, where, how much."""
    for most in (
        orbit.MEMBERS,
        orbit.SAMPLES,
    ):  # noise only grows: few are enough to agree
        references = question.references(accuracy, most)
        verdicts = {stage: references[stage].judge(value) for stage, value in values.items()}
        if all(verdict.agrees for verdict in verdicts.values()):
            return
    for stage, verdict in verdicts.items():
        assert verdict.agrees, f"{who}: {stage}: {verdict.explain()}"


def may_be_level(question: Question, first: int, second: int) -> bool:
    """Whether a correct float32 implementation may find two ids equally likely to follow the one sequence."""
    reference = question.references()["logits"]
    level = reference.orbit[0].copy()
    level[0, -1, [first, second]] = level[0, -1, [first, second]].mean()
    return reference.judge(level).agrees


def questions(
    function: str, change: Callable[[Case], Case] = lambda case: case, supports: Supports = EVERYTHING
) -> st.SearchStrategy[Question]:
    """Questions to a "language_model" or a "sequence_classifier": live random weights, no past, no dropout.

    supports: which options of the configuration are drawn.
    """
    drawn = cases(contracts()[f"model.{function}"], DTYPE, supports)
    return drawn.map(_plain).map(change).map(_question)


def lessons(function: str, change: Callable[[Case], Case] = lambda case: case) -> st.SearchStrategy[Lesson]:
    """Questions about the gradients of a "language_model" or a "sequence_classifier", at least one label scored."""
    drawn = cases(contracts()[f"model.{function}_loss_vjp"], DTYPE)
    return drawn.map(_as_transformers_ignores).map(change).map(_lesson).filter(lambda lesson: lesson.scored.any())


def to_classify(ask: Callable[..., st.SearchStrategy[Asked]]) -> st.SearchStrategy[Asked]:
    """`questions` or `lessons` to a classifier, with a pad id where more than one sequence or a mask asks for it.

    transformers looks for the last id that is not pad_token_id, we for the last unmasked.
    """
    drawn = ask("sequence_classifier", with_a_token)
    return drawn.filter(lambda question: needs_no_pad(question) or question.config.vocab_size > 1).map(with_pad_id)


def with_a_token(case: Case) -> Case:
    """The case without sequences of nothing but pads: they have no last token, so their scores mean nothing."""
    return dataclasses.replace(case, padding="both" if case.padding == "whole" else case.padding)


def needs_no_pad(question: Question) -> bool:
    """Whether the last token is simply that of the only sequence."""
    return len(question.ids) == 1 and question.attention_mask is None


def with_pad_id(question: Asked) -> Asked:
    """The last id of the vocabulary is the pad, and stands where the mask says; without a mask, where it was drawn."""
    if needs_no_pad(question):
        return question
    pad, ids = question.config.vocab_size - 1, question.ids
    if question.attention_mask is not None:
        ids = np.where(question.mask != 0, ids % pad, pad)
    return dataclasses.replace(question, ids=ids, config=dataclasses.replace(question.config, pad_token_id=pad))


def alone(case: Case) -> Case:
    """The case with plain inputs: what is asked for is the folder."""
    return dataclasses.replace(case, absent=case.absent | {"attention_mask", "position_ids"}, padding="none")


def _plain(case: Case) -> Case:
    sizes = {**case.sizes, "P": 0, "S": case.sizes["T"]}
    return dataclasses.replace(case, absent=case.absent | {"past", "keep"}, sizes=sizes)


def _question(case: Case) -> Question:
    arguments, _ = build(case, DTYPE)
    return Question(case, parameters=flatten(arguments.pop("params")), **arguments)


def _as_transformers_ignores(case: Case) -> Case:
    return dataclasses.replace(case, scalars={**case.scalars, "ignore_index": IGNORED})


def _lesson(case: Case) -> Lesson:
    arguments, _ = build(case, DTYPE)
    names = ("config", "ids", "attention_mask", "position_ids", "labels", "keep")
    drawn = Lesson(case, parameters=flatten(arguments["params"]), **{n: arguments[n] for n in names if n in arguments})
    return drawn if drawn.head == "label_logits" else dataclasses.replace(drawn, labels=_without_pads(drawn))


def _without_pads(lesson: Lesson) -> Array:
    """Its labels, without those that a pad would predict. A query may see no key there, all its scores masked alike:

    transformers, which adds the mask to them, lets the gradient through; we, who put it in their place, do not.
    """
    labels = lesson.labels.copy()
    labels[:, 1:][lesson.mask[:, :-1] == 0] = IGNORED
    return labels
