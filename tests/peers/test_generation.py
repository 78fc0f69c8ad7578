"""`generate` beside that of Hugging Face transformers, on the same live weights: the same ids, or a tie.

Sequences may differ only where rounding decides: then both must be what our own search finds when the reference's
scores are moved by no more than the verdict rule allows on that very input. Such sequences are counted and reported.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.peers.client import Peer
from gpt2.generation.config import GenerationConfig
from gpt2.model.model import Model
from parity.cases.cases import Case, build, cases
from parity.cases.contracts import contracts
from parity.verdict.trial import references
from reference.config import GPT2Config, axis_sizes, flatten
from tests.peers.choices import DTYPE, may_be_found
from tests.peers.engines import accuracy_of, backend_of, for_all

pytestmark = pytest.mark.peer

Array = NDArray[Any]
Parameters = dict[str, Array]
SIZES: dict[str, Any] = {"vocab_size": 40, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
CONFIGS = [
    GPT2Config(**SIZES),
    GPT2Config(**SIZES, tie_word_embeddings=False, activation_function="gelu"),  # flatter scores
    GPT2Config(**SIZES | {"n_embd": 24, "n_layer": 3, "n_head": 3}),
]
# Engines, and how many examples of a hundred each gets. MindSpore in PyNative mode compiles nothing, but takes a second
# for one; in graph mode every new model would take several.
EXAMPLES = {"numpy": 50, "mindspore pynative": 6}
both_engines = pytest.mark.parametrize("engine", EXAMPLES, indirect=True)
Record = Callable[[str, object], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """A model, prompts of different lengths, the id that stands at their pads, and options of generate."""

    config: GPT2Config
    seed: int
    prompts: list[list[int]]
    pad: int
    options: dict[str, Any]
    alone: bool
    """Whether transformers reads each prompt by itself. It counts pads in penalties, n-grams and words; we do not."""

    @property
    def parameters(self) -> Parameters:
        """Live weights."""
        sizes = axis_sizes(self.config) | {"B": 1, "T": 1, "P": 0, "S": 1}
        absent = frozenset({"attention_mask", "position_ids", "past", "keep"})
        contract, scalars = contracts()["model.language_model"], {"config": self.config}
        return flatten(build(Case(contract, sizes, scalars, absent, "none", "live", self.seed), DTYPE)[0]["params"])

    @property
    def batch(self) -> tuple[Array, Array]:
        """ids and attention_mask (B, T), padded on the left."""
        longest = max(map(len, self.prompts))
        ids = [[self.pad] * (longest - len(row)) + row for row in self.prompts]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in self.prompts]
        return np.array(ids), np.array(mask)


# What an option may be, each as likely as the others.
Choices = dict[str, Sequence[Any]]
ENDING: Choices = {"max_new_tokens": range(1, 21), "min_new_tokens": (0, 0, 3, 9)}
LOOKING_BACK: Choices = {
    "repetition_penalty": (1.0, 1.0, 1.3, 0.7),
    "no_repeat_ngram_size": (0, 0, 2, 3),
    "bad_words": (0, 0, 1, 2),  # how many
}
BEAMS: Choices = {
    "num_beams": range(1, 6),
    "num_return_sequences": range(1, 6),
    "length_penalty": (1.0, 0.0, 2.0, 0.6, -1.0),
    "early_stopping": (False, True, "never"),
}


def tasks(engine: str, choices: Choices) -> st.SearchStrategy[Task]:
    """Tasks with options among the choices. All depends on a seed: Hypothesis would try one beam and one token most."""
    return st.integers(0, 2**32 - 1).map(lambda seed: draw_task(engine, seed, choices))


def draw_task(engine: str, seed: int, choices: Choices) -> Task:
    """The task of a seed. MindSpore gets models of one shape."""
    random = np.random.default_rng(seed)

    def ids(least: int, most: int) -> list[int]:
        return random.integers(0, SIZES["vocab_size"], random.integers(least, most + 1)).tolist()

    config = CONFIGS[random.integers(len(CONFIGS))] if engine == "numpy" else CONFIGS[0]
    prompts = [ids(1, 8) for _ in range(random.integers(1, 4))]
    options = {"num_beams": 1, "num_return_sequences": 1, "min_new_tokens": 0, "bad_words": 0}
    options |= {name: values[random.integers(len(values))] for name, values in choices.items()}
    options["min_new_tokens"] = min(options["min_new_tokens"], options["max_new_tokens"])
    options["num_return_sequences"] = min(options["num_return_sequences"], options["num_beams"])
    options["stop_ids"] = sorted(set(ids(0, 8)))
    longest = min(2, *map(len, prompts))  # transformers overlooks a word that is longer than what was read
    words = [ids(1, longest) for _ in range(options["bad_words"])]
    options["bad_words"] = [word for word in words if word[0] not in options["stop_ids"]]
    alone = GenerationConfig(**options).looks_back or random.random() < 0.5
    return Task(config, seed, prompts, ids(1, 1)[0], options, alone)


def expect_agreement(engine: str, peer: Peer, record: Record, choices: Choices, share: float = 1.0) -> None:
    """Let both continue random prompts, compare the ids, and report how many sequences differ by a tie.

    share: of the engine's usual number of examples.
    """
    backend, sequences, ties = backend_of(engine), 0, 0

    @settings(
        max_examples=max(1, round(share * settings().max_examples * EXAMPLES[engine] / 100)), phases=[Phase.generate]
    )
    @given(tasks(engine, choices))
    def law(task: Task) -> None:
        nonlocal sequences, ties
        model, (ids, mask) = Model(task.config, task.parameters, backend), task.batch
        copies = task.options["num_return_sequences"]
        ours = model.generate_all(ids, attention_mask=mask, **task.options).new_ids
        theirs = ask(model, task, peer)
        assert len(ours) == len(theirs) == len(ids) * copies
        for i, prompt in enumerate(task.prompts):
            rows = slice(i * copies, (i + 1) * copies)
            sequences += copies
            if ours[rows] != theirs[rows]:
                ties += sum(one != other for one, other in zip(ours[rows], theirs[rows], strict=True))
                expect_tie(task, prompt, ours[rows], theirs[rows])

    law()
    record("sequences", sequences)
    record("ties", ties)
    print(f"{engine}: {sequences} sequences, of which {ties} differ by a tie")


def ask(model: Model, task: Task, peer: Peer) -> list[list[int]]:
    """The new ids that transformers writes."""
    ids, mask = task.batch
    options = {name: value for name, value in task.options.items() if name not in ("stop_ids", "bad_words")}
    options["bad_words_ids"] = task.options["bad_words"] or None
    fields = {"options": options, "stop_ids": task.options["stop_ids"], "alone": task.alone}
    with tempfile.TemporaryDirectory() as room:
        model.save(Path(room) / "ours")
        answer, _ = peer.ask(
            "continuations", {"input_ids": ids, "attention_mask": mask}, folder=f"{room}/ours", **fields
        )
    return answer["new_ids"]


def expect_tie(task: Task, prompt: list[int], ours: list[list[int]], theirs: list[list[int]]) -> None:
    """Raise AssertionError unless a correct implementation may find either."""
    options = GenerationConfig(**task.options)
    for who, found in (("ours", ours), ("transformers'", theirs)):
        proved = may_be_found(task.config, task.parameters, prompt, found, options)
        assert proved, f"after {prompt} no tie explains {who}: {ours} here, {theirs} in transformers"


@both_engines
def test_greedy(hugging_face: Peer, engine: str, record_property: Record) -> None:
    """The likeliest id each time, after penalties and bans."""
    expect_agreement(engine, hugging_face, record_property, ENDING | LOOKING_BACK)


@both_engines
def test_beams(hugging_face: Peer, engine: str, record_property: Record) -> None:
    """The best of 1 to 5 beams, however they are ranked and whenever the search ends."""
    expect_agreement(engine, hugging_face, record_property, ENDING | LOOKING_BACK | BEAMS)


@both_engines
def test_a_course_on_generation(hugging_face: Peer, engine: str, record_property: Record) -> None:
    """5 beams, no pair of tokens twice, 50 new tokens: what courses set."""
    choices: Choices = {
        "max_new_tokens": (50,),
        "num_beams": (5,),
        "no_repeat_ngram_size": (2,),
        "early_stopping": (False, True),
    }
    expect_agreement(engine, hugging_face, record_property, choices, share=0.5)


def test_typical_ids(hugging_face: Peer) -> None:
    """The probabilities that typical_p leaves, after temperature and min_p. (`gpt2 check` compares MindSpore's.)"""
    contract, backend = contracts()["generate.sampling_probabilities"], backend_of("numpy")

    @for_all("numpy", case=cases(contract, DTYPE))
    def law(case: Case) -> None:
        case = dataclasses.replace(case, scalars=case.scalars | {"top_k": 0, "top_p": 1.0})
        logits = build(case, DTYPE)[0]["logits"]
        options = {name: case.scalars[name] for name in ("temperature", "min_p", "typical_p")}
        _, answer = hugging_face.ask("typical", {"logits": logits}, **options)
        ours = backend.call(contract.function, {"logits": logits, **options})
        for found, accuracy in ((answer["probabilities"], accuracy_of(hugging_face)), (ours, backend.accuracy)):
            verdict = references(case, DTYPE, accuracy)[0].judge(found)
            assert verdict.agrees, verdict.explain()
