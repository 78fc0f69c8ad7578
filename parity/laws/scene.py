"""Prompts to continue, and the options to continue them with: what laws of generation are about."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpt2.backends import BackendModel
from gpt2.generation import loop, reader
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation
from gpt2.generation.reader import Watch
from parity.cases.cases import padding_mask
from parity.laws.base import Array, longer_context
from parity.verdict.trial import Trial
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, ulp

NEW = 4  # tokens
FILL = 0


@dataclasses.dataclass(frozen=True)
class Scene:
    """Prompts (B, T), padded on the left, and a model with room to continue them. trial: the source of the model."""

    trial: Trial
    engine: BackendModel
    ids: Array
    mask: Array
    vocabulary: int

    def run(
        self, watch: Watch = reader.NOBODY, engine: Any = None, context: int = 0, scored: bool = True, **options: Any
    ) -> Generation:
        """The backend's continuation of the prompts; optionally by another engine, in a shorter context."""
        run: Callable[..., Generation] = getattr(self.trial.backend, "continue_batch", loop.continue_batch)
        room = context or self.trial.case.sizes["L"]
        return run(engine or self.engine, self.ids, self.mask, config_of(options), room, FILL, scored, watch)

    def alone(self, row: int) -> "Scene":
        """One of the prompts without its pads."""
        ids = self.ids[row, self.mask[row] == 1][None]
        return dataclasses.replace(self, ids=ids, mask=np.ones_like(ids))

    def prompt(self, row: int) -> list[int]:
        """The tokens of one of the prompts."""
        return self.alone(row).ids[0].tolist()

    def reads(self, ids: Array) -> tuple[Array, float]:
        """Scores (rows, T + new, V) at ids, which continue the prompts, and their noise floor."""
        mask = np.repeat(self.mask, len(ids) // len(self.ids), axis=0)
        mask = np.concatenate((mask, np.ones((len(ids), ids.shape[1] - mask.shape[1]), np.int64)), axis=1)
        inputs = {"ids": ids, "attention_mask": mask, "position_ids": np.maximum(np.cumsum(mask, axis=1) - 1, 0)}
        sizes = {"B": len(ids), "T": mask.shape[1], "S": mask.shape[1]}
        case = dataclasses.replace(self.trial.case, sizes=self.trial.case.sizes | sizes)
        read = self.trial.with_arguments(case, **inputs)
        return self.engine.logits(*inputs.values()).astype(np.float64), read.noise()

    def may_err(self, found: Generation) -> float:
        """How far the scores of two correct implementations may differ while they write this text."""
        scores, noise = self.reads(found.ids)
        return allowed(scores, noise, self.trial.dtype)


def allowed(scores: Array, noise: float, dtype: np.dtype) -> float:
    return NOISE_FACTOR * noise + ULP_TERM * float(ulp(np.max(np.abs(scores), initial=1.0), dtype))


def scene_of(trial: Trial) -> Scene:
    """Make a scene. Most batches have pads on the left, whose ids are a trap: the last token, and likely next ids.

    They must not count as read.
    """
    roomy = longer_context(trial, NEW)
    ids, random = trial.arguments["ids"], np.random.default_rng(trial.case.seed)
    mask = padding_mask(random, ids.shape, str(random.choice(["none", "left", "left"])))
    scene = Scene(roomy, roomy.model(), ids.copy(), mask, trial.case.sizes["V"])
    for row, new in enumerate(scene.run().new_ids):
        pads = int((mask[row] == 0).sum())
        scene.ids[row, :pads] = np.resize((scene.prompt(row)[-1:] if pads > 1 else []) + new, pads)
    return scene


def options_of(scene: Scene) -> dict[str, Any]:
    """Options that change the text: they forbid, or stop at, what the model would write without them."""
    random = np.random.default_rng([scene.trial.case.seed, 1])
    plain = scene.run().new_ids
    row = plain[random.integers(len(plain))]
    seen: dict[str, Any] = {}
    if random.random() < 0.5:
        seen["repetition_penalty"] = float(random.choice([1.5, 4.0, 0.5]))
    if random.random() < 0.5:
        seen["no_repeat_ngram_size"] = int(random.integers(1, 4))
    if random.random() < 0.5:
        seen["bad_words"] = [row[:2], [int(random.integers(scene.vocabulary)), row[-1]]]
    if random.random() < 0.5:
        seen["stop_ids"] = [int(random.integers(scene.vocabulary)), row[int(random.integers(NEW))]]
        seen["min_new_tokens"] = int(random.integers(0, NEW))
    return seen


def drawn_options(scene: Scene) -> dict[str, Any]:
    """Options of sampling, with top-k, top-p, min-p and typical_p one by one or together."""
    random = np.random.default_rng([scene.trial.case.seed, 2])
    return {
        "temperature": float(random.choice([1.0, 0.5, 3.0])),
        "top_k": int(random.choice([0, 2, 5])),
        "top_p": float(random.choice([1.0, 0.8, 0.4])),
        "min_p": float(random.choice([0.0, 0.1, 0.5])),
        "typical_p": float(random.choice([1.0, 0.9, 0.5])),
        "seed": int(random.integers(1000)),
    }


def strategies(scene: Scene) -> Iterator[dict[str, Any]]:
    """Options for greedy, for sampling, and for one of these or beam search with penalties and bans."""
    random = np.random.default_rng([scene.trial.case.seed, 3])
    beams = {"num_beams": int(random.integers(2, 5)), "length_penalty": float(random.choice([1.0, 0.0, 2.0]))}
    yield {}
    yield drawn_options(scene)
    yield options_of(scene) | [{}, drawn_options(scene), beams][random.integers(3)]


def config_of(options: dict[str, Any]) -> GenerationConfig:
    return GenerationConfig(**{"max_new_tokens": NEW, "stop_ids": (), **options})


# The strategies in their simplest form: in float64, one text at a time.
