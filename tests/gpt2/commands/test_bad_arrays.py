"""Arrays from Python that are no ids, masks or positions are refused by name."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2
from gpt2.backends import Backend
from gpt2.generation.config import GenerationConfig
from tests.gpt2.commands.bad_input import L, V
from tests.gpt2.small import SMALL, model, parameters

TWO = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([[1, 2], [3]], "ids must be a rectangle"),
        ([1.0, 2.0], "ids must be integers .* float64"),
        (["1"], "ids must be integers"),
        (None, "ids must be integers"),
        ([2**70], "ids must be integers"),
        (np.array([2**64 - 1], np.uint64), f"ids .* {2**64 - 1}"),
        ([[[1]]], r"ids must have the shape \(batch, tokens\).*\(1, 1, 1\)"),
        ([], "ids are empty"),
        ([[], []], "ids are empty"),
        ([1, -1], "ids: -1 is outside the vocabulary"),
        ([1, V], f"ids: {V} is outside the vocabulary"),
    ],
)
@pytest.mark.parametrize("call", ["logits", "stages", "generate"])
def test_ids_that_are_none_are_refused(call: str, ids: Any, said: str, engine: Backend) -> None:
    with pytest.raises(gpt2.GPT2Error, match=said):
        getattr(model(engine), call)(ids)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([1, 1, 1], r"attention_mask has shape \(1, 3\), but the ids have \(2, 2\)"),
        ([1, 1], r"attention_mask has shape \(1, 2\), but the ids have \(2, 2\)"),
        ([[1], [1]], r"attention_mask has shape \(2, 1\)"),
        ([[1, 1, 1, 1]], r"attention_mask has shape \(1, 4\)"),
        ([1, 1, 1, 1], r"attention_mask has shape \(1, 4\)"),
        ([[1, 2], [1, 1]], "attention_mask: 2 is outside"),
        ([[1, -1], [1, 1]], "attention_mask: -1 is outside"),
        ([[1.0, 1.0], [1.0, 1.0]], "attention_mask must be integers"),
    ],
)
def test_a_mask_that_does_not_fit_the_ids_is_refused(mask: Any, said: str) -> None:
    with pytest.raises(gpt2.GPT2Error, match=said):
        model().logits(TWO, mask)


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ([0, 1, 2], r"position_ids has shape \(3,\), but the ids have \(2, 2\)"),
        ([[0, 1]] * 3, r"position_ids has shape \(3, 2\)"),
        ([0, L], f"position_ids: {L} is outside the context"),
        ([0, -1], "position_ids: -1 is outside the context"),
        ([0.0, 1.0], "position_ids must be integers"),
    ],
)
def test_positions_that_do_not_fit_the_ids_are_refused(positions: Any, said: str) -> None:
    with pytest.raises(gpt2.GPT2Error, match=said):
        model().logits(TWO, None, positions)


@pytest.mark.parametrize("mask", [[[1, 0], [1, 1]], [[0, 0], [1, 1]]])
def test_generate_refuses_pads_on_the_right(mask: list[list[int]]) -> None:
    with pytest.raises(gpt2.GPT2Error, match=r"pads .* on the left"):
        model().generate(TWO, 1, attention_mask=mask)


def test_generate_refuses_pads_between_tokens() -> None:
    with pytest.raises(gpt2.GPT2Error, match=r"pads .* on the left"):
        model().generate([1, 2, 3], 1, attention_mask=[1, 0, 1])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", "hot"),
        ("temperature", None),
        ("top_k", 1.5),
        ("top_k", True),
        ("top_p", "all"),
        ("seed", 0.5),
        ("max_new_tokens", 2.0),
        ("stop_ids", ["a"]),
        ("stop_ids", [0.5]),
    ],
)
def test_generate_names_the_option_that_is_no_number(option: str, value: Any) -> None:
    with pytest.raises(gpt2.GPT2Error, match=f"^{option} must be"):
        model().generate([1], **{option: value})


@pytest.mark.parametrize("ids", [[[1, 2]], 1, [-1], [2**40], [0.5]])
def test_decode_refuses_what_is_no_row_of_ids(ids: Any, speaker: Path) -> None:
    with pytest.raises(gpt2.GPT2Error, match="ids"):
        gpt2.load(speaker, "numpy").decode(ids)


def test_a_language_model_does_not_classify() -> None:
    with pytest.raises(gpt2.GPT2Error, match=r"score\.weight"):
        model().classify([1])


def test_a_batch_to_classify_needs_to_know_its_pads() -> None:
    classifier = gpt2.Model(SMALL, parameters(SMALL, "sequence_classifier"), gpt2.get_backend("numpy"))
    with pytest.raises(gpt2.GPT2Error, match="attention_mask"):
        classifier.classify(TWO)


TEXT = "must be integers, but are text: model.encode"


@pytest.mark.parametrize("text", ["Hallo", ["one", "two"], b"Hallo"])
def test_a_text_in_place_of_ids_is_told_how_to_become_ids(text: Any) -> None:
    live = model()
    for call in (live.logits, live.stages, live.generate, live.generate_all):
        with pytest.raises(gpt2.GPT2Error, match=f"^ids {TEXT}"):
            call(text)


def test_a_stage_that_is_not_there_is_told_the_nearest() -> None:
    stages = model().stages([1, 2])
    with pytest.raises(
        gpt2.GPT2Error, match=r"^there is no stage 'h\.0\.atn\.q': is 'h\.0\.attn\.q' meant\? list"
    ) as told:
        stages["h.0.atn.q"]
    assert isinstance(told.value, KeyError)
    assert stages.get("h.0.atn.q") is None
    assert "h.0.atn.q" not in stages


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("temprature", "is temperature meant?"),
        ("do_sample", "a temperature above 0 samples"),
        ("xyz", "the options are max_new_tokens, min_new_tokens"),
    ],
)
def test_an_option_that_is_not_there_is_told_the_nearest(option: str, said: str) -> None:
    for call in (model().generate, model().generate_all):
        with pytest.raises(TypeError, match=f"^generation has no option {option!r}: {re.escape(said)}"):
            call([1], **{option: 1})


def test_the_help_of_generate_has_every_option_with_its_default() -> None:
    for method in (gpt2.Model.generate, gpt2.Model.generate_all):
        shown = inspect.signature(method).parameters
        listed = re.findall(r"^\* (\w+): ", inspect.getdoc(method) or "", re.MULTILINE)
        assert listed == [field.name for field in dataclasses.fields(GenerationConfig)]
        for field in dataclasses.fields(GenerationConfig):
            assert shown[field.name].default == field.default
        assert "options" not in shown


def test_a_model_shows_what_it_is(small: Path) -> None:
    shown = repr(gpt2.load(small, "numpy"))
    assert shown == (
        "<GPT-2 small: 2 layers, 2 heads, 16 channels, vocabulary 31, context 24; numpy, CPU, float32, eager>"
    )
