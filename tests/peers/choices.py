"""Whether rounding may have decided what a text goes on with: a search with the same rules must be able to find it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import continue_batch
from parity.verdict.stages import stage_references
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, Reference, ulp
from reference.config import GPT2Config

Array = NDArray[Any]
Parameters = dict[str, Array]
DTYPE = np.dtype(np.float32)


@dataclasses.dataclass
class Favour:
    """A decoder of float64 scores, each moved by what a correct float32 implementation may err by, and no more.

    They are moved in favour of certain continuations of the prompt: of those that go on from what was read, what leads
    to the first is moved up, what leads to a later one less so, and everything else down. Rows have no pads.
    """

    config: GPT2Config
    parameters: Parameters
    prompt: list[int]
    wanted: list[list[int]]
    ids: Array | None = None
    chosen: Array | None = None

    def decoder(self, batch_size: int, length: int) -> "Favour":
        """A decoder that has read nothing."""
        return dataclasses.replace(self, ids=np.zeros((batch_size, 0), np.int64))

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Take in ids (B, T)."""
        assert attention_mask.all()
        self.ids = np.concatenate((self.ids, ids), axis=1)

    def reorder(self, rows: Array) -> None:
        """Sequence i goes on from what rows[i] has read."""
        self.ids = self.ids[rows]

    def logits(self) -> Array:
        """Scores of the next token, (B, V), float64."""
        known = stage_references(self.config, self.parameters, self.ids, None, None, DTYPE, {})["logits"]
        last = [Reference(x[-1], [member[i, -1] for member in known.orbit]) for i, x in enumerate(known.oracle)]
        moved = [x.oracle + may_err_by(x) * self.favour(ids) for x, ids in zip(last, self.ids.tolist(), strict=True)]
        return np.stack(moved)

    def greedy(self) -> Array:
        """The likeliest ids, (B,)."""
        self.chosen = np.argmax(self.logits(), axis=-1)
        return self.chosen

    def advance(self) -> None:
        """Read the ids that greedy chose."""
        self.ids = np.concatenate((self.ids, self.chosen[:, None]), axis=1)

    def favour(self, ids: list[int]) -> Array:
        """In which direction the score of each id after `ids` is moved, (V,), from -1 to 1."""
        direction = np.full(self.config.vocab_size, -1.0)
        read = ids[len(self.prompt) :]
        for place, one in reversed(list(enumerate(self.wanted))):
            if one[: len(read)] == read and len(one) > len(read):
                direction[one[len(read)]] = 1 - 2 * place / len(self.wanted)
        return direction


def may_err_by(scores: Reference) -> Array:
    """How far a correct implementation may be from the float64 scores: the verdict rule's own allowance."""
    return NOISE_FACTOR * scores.noise + ULP_TERM * ulp(scores.oracle, DTYPE)


def may_be_found(
    config: GPT2Config,
    parameters: Parameters,
    prompt: Sequence[int],
    wanted: list[list[int]],
    options: GenerationConfig,
) -> bool:
    """Whether a correct float32 implementation may continue a prompt without pads by the wanted new ids.

    Proved by example: our own search, given scores that are not further from the float64 reference than the verdict
    rule allows on this very input, finds just them.
    """
    engine = Favour(config, parameters, list(prompt), wanted)
    ids = np.array([prompt])
    found = continue_batch(engine, ids, np.ones_like(ids), options, config.n_positions, 0, scored=False)
    return found.new_ids == wanted
