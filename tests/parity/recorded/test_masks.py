"""Attention masks in the forms in which recorded layers are given them."""

import dataclasses

import numpy as np
import pytest

from parity.recorded.calls import judge_calls
from parity.recorded.masks import EITHER, SHOWS, mask_given
from parity.recorded.runs.stage_map import forward_passes
from parity.recorded.runs.whole_run import judge_whole_run
from parity.report.recorded.facts import JudgedRun
from reference.attention import visible_keys
from tests.parity.recorded.calls_by_hand import Numbers, backward, call, run, tensor
from tests.parity.recorded.made_runs import CONFIG, hugging_face_run, operators_run, parameters_of
from tests.parity.recorded.test_submodules import BLOCK, GRAD, SETTING, judged

MASK = np.array([[0, 0, 1, 1], [1, 1, 1, 0]])
VISIBLE = visible_keys(4, 4, MASK)
FORMS = {
    "tokens": MASK,
    "visible": VISIBLE,
    "hidden": ~VISIBLE,
    "ones": VISIBLE.astype(np.float32),
    "added": np.where(VISIBLE, 0, np.finfo(np.float32).min).astype(np.float32),
}
PARAMETERS = parameters_of()


@pytest.mark.parametrize("form", FORMS)
def test_the_mask_of_tokens_is_found_in_each_form(form: str) -> None:
    x = Numbers()(2, 4, 8)
    tokens, fault = mask_given(call("Block", [x, FORMS[form]], [x], "h.0"), 2, 4) or (None, None)
    np.testing.assert_array_equal(tokens, MASK)
    assert fault == ""


def test_a_mask_that_shows_the_next_token_is_not_that_of_gpt2() -> None:
    x, visible = Numbers()(2, 4, 8), np.tri(4, k=1, dtype=bool)[None, None]
    tokens, fault = mask_given(call("Block", [x, visible], [x], "h.0"), 2, 4) or (None, None)
    np.testing.assert_array_equal(tokens, np.ones((2, 4)))
    assert fault == SHOWS


def test_a_square_mask_may_be_of_two_kinds() -> None:
    """As many tokens as sequences: then (T, T) is (B, T), too."""
    x, hidden = Numbers()(2, 2, 8), ~np.tri(2, dtype=bool)
    _, fault = mask_given(call("Block", [x, hidden], [x], "h.0"), 2, 2) or (None, None)
    assert fault == EITHER


def test_positions_are_no_mask() -> None:
    x = Numbers()(1, 2, 8)
    assert mask_given(call("Block", [x], [x], "h.0", keywords={"position_ids": np.array([[0, 1]])}), 1, 2) is None


@pytest.mark.parametrize("form", FORMS)
def test_a_run_without_a_call_of_the_model_says_its_mask_by_its_layers(form: str) -> None:
    whole = hugging_face_run(PARAMETERS, attention_mask=MASK)
    given = tensor(FORMS[form])
    calls = [
        dataclasses.replace(each, arguments=(*each.arguments, given)) if each.operator == "GPT2Block" else each
        for each in whole.calls
        if each.path != "transformer"
    ]
    (found,) = judge_whole_run(dataclasses.replace(whole, calls=tuple(calls)), CONFIG, PARAMETERS, {})
    assert found.agrees
    assert found.notes == ("attention_mask as a layer was given it",)


def test_a_gradient_at_a_pad_is_not_judged() -> None:
    """A pad may see no key: then an added mask passes its gradient on to every score, a chosen one to none."""
    mask = np.ones((2, 6), np.int64)
    mask[0, 0] = 0
    forward = dataclasses.replace(BLOCK["attn"], arguments=(*BLOCK["attn"].arguments, tensor(mask)))
    assert "not 0 at pads" in judged(BLOCK | {"attn": forward}, "attn backward").reason
    grad = GRAD.copy()
    grad[0, 0] = 0
    back = backward(forward, [grad], [x.numbers() for x in BLOCK["attn backward"].results])
    assert judged(BLOCK | {"attn": forward, "attn backward": back}, "attn backward").is_judged


def test_a_module_that_is_called_twice_by_a_module_begins_no_pass() -> None:
    whole = hugging_face_run(PARAMETERS)
    in_model = "Module.transformer.GPT2Model.forward.0"
    again = next(each for each in whole.calls if each.path == "transformer.h.0.ln_1")
    second = dataclasses.replace(again, name=again.name[:-1] + "1", number=1)
    for parent, passes in ((in_model, 1), ("", 2)):
        calls = [dataclasses.replace(each, parent=parent) for each in (*whole.calls[:-2], second)]
        assert len(forward_passes(dataclasses.replace(whole, calls=tuple(calls)))) == passes


def test_hidden_scores_that_are_seen_are_blamed_at_the_weights() -> None:
    """A hidden score may be any low number, so that no stage is wrong by itself."""
    shown = operators_run(PARAMETERS, {"h.0.attn.masked_scores": lambda x: np.where(x < -1e30, np.float32(-1), x)})
    found = JudgedRun(shown, whole=judge_whole_run(shown, CONFIG, PARAMETERS, {})).first_wrong
    assert found is not None
    assert found.name == "h.0.attn.attn_weights"
    assert found.verdict is not None
    assert not found.verdict.agrees


@pytest.mark.parametrize("head", [False, True])
def test_the_gradient_of_a_table_that_may_be_the_head_is_not_judged(head: bool) -> None:
    numbers, ids = Numbers(), np.array([[1, 3, 3]])
    weight, other, rows = numbers(11, 8), numbers(11, 8) + 1, numbers(1, 3, 8)
    wte = call("Embedding", [ids], [weight[ids]], "wte", parameters={"weight": weight})
    lm_head = call("Linear", [rows], [rows @ other.T], "lm_head", parameters={"weight": other})
    calls = (wte, *((lm_head,) if head else ()), backward(wte, [rows], []))
    gradient = tensor(np.zeros((11, 8), np.float32))  # as if the head's share cancelled it
    found = list(judge_calls(run(*calls, parameter_gradients={"wte.weight": gradient}), SETTING))[-1]
    assert found.is_judged == head
