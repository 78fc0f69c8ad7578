"""Folders in the layouts that people have, written by PyTorch and transformers themselves: the same model here."""

import dataclasses
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import gpt2
from benchmarks.peers.client import Peer
from gpt2.backends import numpy_dtype
from gpt2.finetune.classifier import Classifier
from gpt2.generation.config import GenerationConfig
from gpt2.model.hf_folder import PROBLEMS, SINGLE_LABEL
from parity.verdict.verdict import ULP_TERM
from reference.config import ACTIVATION_ALIASES, ACTIVATIONS
from tests.gpt2.command import run
from tests.peers.choices import may_be_found
from tests.peers.engines import accuracy_of, backend_of, for_all
from tests.peers.question import Question, alone, expect_agreement, questions
from tests.peers.test_generation import CONFIGS, SIZES, Task

pytestmark = pytest.mark.peer

TIED = ["pickle", "old pickle", "pickled shards", "value head", "only lm_head", "double heads", "token classification"]
UNTIED = ["pickle", "old pickle", "pickled shards", "value head", "both tables", "double heads"]


@pytest.mark.parametrize("engine", ["numpy", "mindspore pynative"], indirect=True)
def test_logits_of_every_layout(hugging_face: Peer, engine: str) -> None:
    """Weights without a place are left out, one table serves twice, n_ctx has no say, pickles are read."""
    asked, dtypes = questions("language_model", alone), st.sampled_from(["float32", "float16", "bfloat16"])
    folders = 0

    @for_all(engine, question=asked, number=st.integers(0, 41), dtype=dtypes, n_ctx=st.integers(1, 9))
    def law(question: Question, number: int, dtype: str, n_ctx: int) -> None:
        nonlocal folders
        layouts = TIED if question.config.tie_word_embeddings else UNTIED
        layout = layouts[number % len(layouts)]
        rounded = {name: x.astype(numpy_dtype(dtype)).astype(np.float32) for name, x in question.parameters.items()}
        question = dataclasses.replace(question, parameters=rounded)
        said = question.config.to_dict() | {"n_ctx": n_ctx}
        if layout == "both tables":
            said |= {"tie_word_embeddings": True}
        with tempfile.TemporaryDirectory() as room, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on what is left out
            hugging_face.ask("arrange", question.parameters, folder=room, config=said, layout=layout, dtype=dtype)
            model = gpt2.load(room, backend_of(engine))
            _, answer = hugging_face.ask("scores", question.sent, folder=room)
        assert model.config.tie_word_embeddings == question.config.tie_word_embeddings, layout
        logits = model.logits(**question.inputs)
        expect_agreement(f"{engine}, {layout}", {"logits": logits}, question, model.backend.accuracy)
        expect_agreement(f"transformers, {layout}", answer, question, accuracy_of(hugging_face))
        folders += 1

    print(f"{engine}: {folders} folders")


@pytest.mark.parametrize("engine", ["numpy", "mindspore pynative"], indirect=True)
def test_logits_with_every_activation(hugging_face: Peer, engine: str) -> None:
    """A folder that transformers writes, with every spelling of an activation that we take, in turn."""
    names = [*ACTIVATIONS, *ACTIVATION_ALIASES]
    left = list(names)

    @settings(max_examples=max(len(names), settings().max_examples // 5), phases=[Phase.generate])
    @given(questions("language_model", alone))
    def law(question: Question) -> None:
        name = left.pop() if left else names[question.case.seed % len(names)]
        question = dataclasses.replace(question, config=dataclasses.replace(question.config, activation_function=name))
        with tempfile.TemporaryDirectory() as room:
            said = question.config.to_dict() | {"activation_function": name}
            hugging_face.ask("save", question.parameters, folder=room, config=said)
            assert json.loads(Path(room, "config.json").read_text(encoding="utf-8"))["activation_function"] == name
            model = gpt2.load(room, backend_of(engine))
            _, answer = hugging_face.ask("logits", question.sent, folder=room)
        logits = {"logits": model.logits(**question.inputs)}
        expect_agreement(f"{engine}, {name}", logits, question, model.backend.accuracy)
        theirs = {"logits": answer["logits"]}
        expect_agreement(f"transformers, {name}", theirs, question, accuracy_of(hugging_face))

    law()
    assert not left


LENGTHS = st.fixed_dictionaries(
    {},
    optional={
        "max_length": st.integers(9, 24),
        "max_new_tokens": st.integers(1, 15),
        "min_length": st.integers(0, 9),
        "min_new_tokens": st.integers(0, 1),
    },
)
OPTIONS = st.fixed_dictionaries(
    {"eos_token_id": st.integers(0, 39) | st.lists(st.integers(0, 39), min_size=1, max_size=9, unique=True)},
    optional={
        "do_sample": st.just(False),
        "temperature": st.just(0.7),
        "top_k": st.just(3),
        "repetition_penalty": st.sampled_from([1.0, 1.3, 0.7]),
        "no_repeat_ngram_size": st.integers(0, 3),
        "bad_words_ids": st.lists(st.lists(st.integers(40, 44), min_size=1, max_size=2), min_size=1, max_size=2),
        "num_beams": st.integers(1, 4),
        "length_penalty": st.sampled_from([0.0, 1.0, 2.0]),
        "early_stopping": st.sampled_from([False, True, "never"]),
    },
)


def test_options_of_the_folder(hugging_face: Peer, record_property: Any) -> None:
    """What generation_config.json says, without a word on the command line, has the effect that it has there."""
    texts, ties = 0, 0

    @settings(max_examples=max(1, settings().max_examples // 4), phases=[Phase.generate])
    @given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 39), min_size=2, max_size=6), LENGTHS, OPTIONS)
    def law(seed: int, prompt: list[int], lengths: dict[str, Any], options: dict[str, Any]) -> None:
        nonlocal texts, ties
        config = dataclasses.replace(CONFIGS[seed % 2], vocab_size=SIZES["vocab_size"] + 5)
        task = Task(config, seed, [prompt], 0, {}, True)
        model = gpt2.Model(config, task.parameters, backend_of("numpy"))
        with tempfile.TemporaryDirectory() as room:
            model.save(Path(room, "ours"))
            Path(room, "ours", "generation_config.json").write_text(json.dumps(options | lengths), encoding="utf-8")
            said, _ = hugging_face.ask("by_default", {"input_ids": np.array([prompt])}, folder=f"{room}/ours")
            ran = run("generate", Path(room, "ours"), "--ids", " ".join(map(str, prompt)), "--json")
            saved = gpt2.load(Path(room, "ours"), "numpy").saved
        ends, theirs = saved.end_ids(()), said["new_ids"][0]
        stop = next((i for i, new in enumerate(theirs, 1) if new in ends), len(theirs))
        assert ran.code == 0, ran
        ours, theirs = json.loads(ran.out)["new_ids"], theirs[:stop]
        texts += 1
        if ours != theirs:
            ties += 1
            chosen = saved.options({}) | saved.after(len(prompt), saved.lengths({}))
            plain = GenerationConfig(**{"stop_ids": ends} | chosen)
            for found in (ours, theirs):
                assert may_be_found(config, task.parameters, prompt, [found], plain), (ours, theirs)

    law()
    record_property("texts", texts)
    print(f"{texts} texts, of which {ties} differ by a tie")


MEANINGS = [(labels, problem) for labels in (1, 3) for problem in (None, *PROBLEMS)]
MEANINGS.remove((1, SINGLE_LABEL))  # transformers refuses it


@pytest.mark.parametrize(("labels", "problem"), MEANINGS)
def test_what_scores_mean(labels: int, problem: str | None, hugging_face: Peer) -> None:
    """Softmax, sigmoid or the value itself, as the pipeline of text classification has it."""
    scores = np.random.default_rng(1).standard_normal((8, labels)).astype(np.float32) * 3
    _, answer = hugging_face.ask("meanings", {"logits": scores}, problem_type=problem)
    classifier = object.__new__(Classifier)
    object.__setattr__(classifier, "problem", problem)
    ours, theirs = classifier._chances(scores), answer["chances"]
    np.testing.assert_array_max_ulp(ours, theirs, ULP_TERM)
