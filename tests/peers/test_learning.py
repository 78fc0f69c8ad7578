"""Gradients and updates beside PyTorch's, of GPT-2 of Hugging Face transformers: judged as its scores are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.client import Peer
from gpt2.backends import Batch
from gpt2.data.dropout_masks import draw_keep
from gpt2.model.hf_folder import write_folder
from parity.verdict.training_band import Course, training_band
from reference.config import GPT2Config, TrainingConfig
from tests.gpt2.small import parameters
from tests.peers.engines import ATTENTIONS, accuracy_of, ask_about, backend_of, for_all
from tests.peers.question import IGNORED, Lesson, expect_agreement, lesson_sent, lessons, to_classify

pytestmark = pytest.mark.peer

UPDATES = 10


@pytest.mark.parametrize("head", ["language_model", "sequence_classifier"])
def test_gradients(hugging_face: Peer, engine: str, head: str) -> None:
    """Ours by hand, MindSpore's by its autodiff, PyTorch's by autograd: of every parameter, with dropout or without."""
    backend = backend_of(engine)
    drawn = lessons(head) if head == "language_model" else to_classify(lessons)

    @for_all(engine, lesson=drawn, attention=ATTENTIONS)
    def law(lesson: Lesson, attention: str) -> None:
        gradients = lesson.gradients(backend)
        assert gradients.keys() == lesson.parameters.keys()
        expect_agreement(engine, gradients, lesson, backend.accuracy)
        attention = "eager" if lesson.keep is not None else attention  # sdpa draws its own dropout
        answer = ask_about(lesson.model(backend), lesson, hugging_face, "gradients", head=head, attention=attention)
        assert answer.keys() == lesson.parameters.keys()
        expect_agreement(f"PyTorch, {attention}", answer, lesson, accuracy_of(hugging_face))


@pytest.mark.parametrize(
    ("schedule", "accumulation"), [("constant", "tokens"), ("linear", "micro_batches"), ("cosine", "tokens")]
)
@pytest.mark.parametrize("tied", [True, False])
def test_losses_of_a_training_run(
    hugging_face: Peer, tmp_path: Path, tied: bool, schedule: str, accumulation: str
) -> None:
    """A plain loop over torch.optim.AdamW stays in the band of the reference, update after update."""
    config = GPT2Config(vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=2, tie_word_embeddings=tied)
    settings = TrainingConfig(
        learning_rate=1e-2,
        schedule=schedule,
        warmup_steps=3,
        total_steps=UPDATES,
        weight_decay=0.1,
        accumulate_step=2,
        accumulation=accumulation,
    )
    batches = [micro_batch(config, i) for i in range(UPDATES * settings.accumulate_step)]
    course = Course(config, parameters(config), settings, batches)
    sent = {f"{i}.{name}": x for i, batch in enumerate(batches) for name, x in to_send(config, batch).items()}
    write_folder(tmp_path / "ours", config, parameters(config), [])
    fields = {"folder": str(tmp_path / "ours"), "settings": dataclasses.asdict(settings)}
    _, answer = hugging_face.ask("train", sent, **fields)
    outside = training_band(course, accuracy_of(hugging_face)).first_outside(answer["losses"])
    assert outside is None, f"micro-batch {outside[0]}: {outside[1].explain()}"


def micro_batch(config: GPT2Config, step: int) -> Batch:
    """Three sequences of random ids, one padded on the right, some ids not scored, and what dropout keeps."""
    random = np.random.default_rng([step, 7])
    ids = random.integers(0, config.vocab_size, (3, 12))
    mask = np.ones_like(ids)
    mask[1, 8:] = 0
    labels = np.where((random.random(ids.shape) < 0.2) | (mask == 0), IGNORED, ids)
    return Batch(ids, labels, mask, keep=draw_keep(config, *ids.shape, seed=0, step=step))


def to_send(config: GPT2Config, batch: Batch) -> dict[str, np.ndarray]:
    """A micro-batch as the PyTorch side takes it."""
    assert batch.attention_mask is not None
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention_mask}
    return {**inputs, **lesson_sent(config, batch.labels, batch.keep)}
