"""A recorded run is judged by the model that made it: every stage twice, and each parameter."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpt2.errors import GPT2Error
from parity.recorded.recording import Call, RecordedRun
from parity.recorded.runs.parameters import judge_parameters
from parity.recorded.runs.places import users_lines
from parity.recorded.runs.stage_map import forward_passes, stages_of
from parity.recorded.runs.whole_run import WholeRun, judge_whole_run, require_model
from parity.verdict.stages import stage_names, stage_references
from tests.parity.recorded.made_runs import (
    CONFIG,
    FRAMEWORKS,
    IDS,
    USERS,
    hugging_face_run,
    module,
    operator,
    operators_run,
    parameters_of,
    stages,
    tensor,
)

PARAMETERS = parameters_of()
EVERY_STAGE = stage_names(CONFIG)
WITHOUT_MODULES = {"q", "k", "v", "scores", "masked_scores", "attn_weights", "attn_output"}
BOTH = pytest.mark.parametrize("make", [hugging_face_run, operators_run])


def whole(run: RecordedRun) -> WholeRun:
    """The only forward pass of a run."""
    (found,) = judge_whole_run(run, CONFIG, PARAMETERS, {})
    return found


@BOTH
def test_a_correct_run_agrees_in_every_stage_that_it_shows(make: Callable[..., RecordedRun]) -> None:
    found = whole(make(PARAMETERS))
    expected = [name for name in EVERY_STAGE if make is operators_run or name.rpartition(".")[2] not in WITHOUT_MODULES]
    assert [stage.name for stage in found.stages] == expected
    assert found.agrees
    assert found.first_wrong is None


@BOTH
@pytest.mark.parametrize("stage", ["wte", "h.0.ln_1", "h.1.attn.qkv", "h.1.attn.c_proj", "h.0.mlp.gelu_new", "logits"])
def test_the_stage_that_a_bug_changes_is_the_first_wrong_and_later_ones_inherit(
    make: Callable[..., RecordedRun], stage: str
) -> None:
    found = whole(make(PARAMETERS, change={stage: lambda x: x * np.float32(1.01)}))
    assert found.first_wrong is not None
    assert found.first_wrong.name == stage
    assert [judged.name for judged in found.stages if not judged.own.agrees] == [stage]
    assert not next(judged for judged in found.stages if judged.name == "logits").inherited.agrees


def test_a_module_that_is_given_the_wrong_stage_is_wrong_though_it_computes_what_it_is_given() -> None:
    """The second LayerNorm is left out: c_fc computes on the residual stream."""
    run = hugging_face_run(PARAMETERS)
    seen = stages(PARAMETERS)
    weight, bias = (PARAMETERS[f"h.0.mlp.c_fc.{leaf}"] for leaf in ("weight", "bias"))
    x = seen["h.0.attn_residual"]
    wrong = module("transformer.h.0.mlp.c_fc", "Conv1D", x, x @ weight + bias, {"weight": weight, "bias": bias})
    calls = tuple(wrong if call.name == wrong.name else call for call in run.calls)
    found = whole(dataclasses.replace(run, calls=calls)).first_wrong
    assert found is not None
    assert found.name == "h.0.mlp.c_fc"
    assert found.call is wrong


def test_stages_that_no_call_shows_are_named_as_those_in_between() -> None:
    run = hugging_face_run(PARAMETERS, change={"h.0.attn.scores": lambda x: x * 2})
    found = whole(run).first_wrong
    assert found is not None
    assert (found.name, found.after, found.is_result) == ("h.0.attn.merged", "h.0.attn.qkv", False)


def test_padding_is_taken_from_the_model_call_and_means_nothing() -> None:
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    found = whole(hugging_face_run(PARAMETERS, attention_mask=mask))
    assert found.agrees
    assert found.notes == ("attention_mask as the model was given it",)
    ignored = whole(hugging_face_run(PARAMETERS, attention_mask=mask, change={"ln_f": lambda x: _first_is(x, 3.0)}))
    assert ignored.first_wrong is None


def _first_is(x: Any, value: float) -> Any:
    x = x.copy()
    x[0, 0] = value
    return x


def test_float16_is_judged_in_float16() -> None:
    half = {name: x.astype(np.float16) for name, x in PARAMETERS.items()}
    found = whole(hugging_face_run(half))
    assert found.agrees
    assert not whole(hugging_face_run(half, change={"h.1.ln_2": lambda x: x * np.float16(1.05)})).agrees


def test_a_plain_folder_of_stages_is_judged_in_the_same_way() -> None:
    def folder(change: dict[str, Callable[[Any], Any]]) -> WholeRun:
        held = {name: tensor(x) for name, x in stages(PARAMETERS, change=change).items()}
        return whole(RecordedRun(stages={**held, "ids": tensor(IDS)}))

    assert folder({}).agrees
    wrong = folder({"h.1.attn.k": lambda x: x[:, ::-1]}).first_wrong
    assert wrong is not None
    assert wrong.name == "h.1.attn.k"
    assert "no ids" in whole(RecordedRun(stages={"ln_f": tensor(stages(PARAMETERS)["ln_f"])})).reason


def test_what_cannot_be_judged_is_said() -> None:
    run = hugging_face_run(PARAMETERS)
    past = operator("softmax", 0, np.zeros((2, 2, 4, 9), np.float32), result=np.zeros((2, 2, 4, 9), np.float32))
    assert "continues a past of 5 tokens" in whole(dataclasses.replace(run, calls=(*run.calls, past))).reason
    x = np.ones((2, 4, 8), np.float32)
    dropout = operator("dropout", 0, x, 0.1, True, result=x * (np.arange(8) % 2).astype(np.float32))
    assert (
        "dropout is on (Functional.dropout.0.forward)"
        in whole(dataclasses.replace(run, calls=(*run.calls, dropout))).reason
    )
    assert "no ids" in whole(dataclasses.replace(run, calls=run.calls[2:-2])).reason
    assert "vocabulary" in whole(_with_ids(run, IDS + 5)).reason
    assert whole(RecordedRun(calls=(past,))).reason
    with pytest.raises(GPT2Error, match="8 channels, but the recorded stages have"):
        require_model(RecordedRun(calls=(module("h.0.ln_1", "LayerNorm", x[..., :6], x[..., :6]),)), CONFIG)


def _with_ids(run: RecordedRun, ids: Any) -> RecordedRun:
    def changed(call: Call) -> Call:
        known = call.arguments and call.arguments[0].dtype.startswith("int") and call.arguments[0].shape == ids.shape
        return dataclasses.replace(call, arguments=(tensor(ids),)) if known else call

    return dataclasses.replace(run, calls=tuple(map(changed, run.calls)))


def test_several_forward_passes_are_judged_one_by_one() -> None:
    one, other = hugging_face_run(PARAMETERS), hugging_face_run(PARAMETERS, ids=IDS[:, ::-1].copy())
    again = tuple(dataclasses.replace(call, name=call.name[:-1] + "1", number=1) for call in other.calls)
    found = judge_whole_run(dataclasses.replace(one, calls=one.calls + again), CONFIG, PARAMETERS, {})
    assert [(len(each.stages) > 20, each.agrees) for each in found] == [(True, True)] * 2
    gathered = operators_run(PARAMETERS)
    assert len(forward_passes(gathered)) == 1


def _with_positions(run: RecordedRun, positions: Any) -> RecordedRun:
    """The run with other positions, and without the call of the model, which would say what they are."""

    def changed(call: Call) -> Call:
        rows = tensor(PARAMETERS["wpe.weight"][positions])
        return dataclasses.replace(call, arguments=(tensor(positions),), results=(rows,))

    calls = [changed(call) if call.path == "transformer.wpe" else call for call in run.calls]
    return dataclasses.replace(run, calls=tuple(call for call in calls if call.operator != "GPT2Model"))


def test_positions_that_count_from_1_are_wrong_and_others_are_taken_as_they_are() -> None:
    found = whole(_with_positions(hugging_face_run(PARAMETERS), np.arange(1, 5)[None]))
    assert found.first_wrong is not None
    assert found.first_wrong.name == "wpe"
    assert any("from 1" in note for note in found.notes)
    for positions in (np.arange(4)[None], np.arange(2, 6)[None], np.array([[0, 1, 0, 1], [0, 0, 1, 2]])):
        run = _with_positions(hugging_face_run(PARAMETERS), positions)
        assert whole(run).stages[1].own.agrees


def test_other_peoples_names_of_modules_are_known() -> None:
    names = {
        "transformer.": "network.",
        "h.": "blocks.",
        ".attn.": ".attention.",
        ".attn": ".attention",
        "ln_1": "norm1",
    }
    names |= {"c_fc": "fc1", "mlp": "ffn", "wte": "tok_emb", "c_attn": "qkv", "lm_head": "head"}
    run = hugging_face_run(PARAMETERS)

    def renamed(call: Call) -> Call:
        path = call.path
        for ours, theirs in names.items():
            path = path.replace(ours, theirs)
        return dataclasses.replace(call, path=path)

    (there,) = forward_passes(dataclasses.replace(run, calls=tuple(map(renamed, run.calls))))
    (here,) = forward_passes(run)
    assert there.calls[5].path == "network.blocks.0.attention.c_proj"
    assert list(stages_of(there.calls)) == list(stages_of(here.calls))


# parameters


def _what(name: str, x: Any) -> Any:
    """The finding on a parameter that the recording has otherwise; all others must be right."""
    found = list(judge_parameters(hugging_face_run(PARAMETERS, recorded={name: x}), CONFIG, PARAMETERS))
    assert {other.name for other in found if not other.is_right} <= {name, "lm_head.weight"}
    assert len(found) == len(PARAMETERS) + 1
    return next(other for other in found if other.name == name)


def test_parameters_of_the_model_are_right() -> None:
    assert _what("ln_f.bias", PARAMETERS["ln_f.bias"]).what == "same"


@pytest.mark.parametrize("name", ["h.0.attn.c_proj.weight", "h.1.attn.c_proj.weight"])
def test_a_square_matrix_that_is_transposed_is_named(name: str) -> None:
    assert _what(name, PARAMETERS[name].T.copy()).what == "transposed"


def test_what_a_parameter_holds_instead_is_named() -> None:
    name = "h.0.mlp.c_proj.weight"
    assert _what(name, 0 * PARAMETERS[name]).what == "zero"
    other = _what(name, PARAMETERS["h.1.mlp.c_proj.weight"])
    assert (other.what, other.other) == ("of another", "h.1.mlp.c_proj.weight")
    rounded = _what(name, PARAMETERS[name].astype(np.float16).astype(np.float32))
    assert (rounded.what, rounded.other) == ("rounded", "float16")
    moved = _what(name, 2 * PARAMETERS[name])
    assert (moved.what, moved.most) == ("differs", float(np.abs(PARAMETERS[name]).max()))
    q, k, v = np.split(PARAMETERS["h.1.attn.c_attn.bias"], 3)
    order = _what("h.1.attn.c_attn.bias", np.concatenate([k, q, v]))
    assert (order.what, order.other) == ("queries, keys and values in another order", "k, q, v")
    assert _what("ln_f.bias", PARAMETERS["ln_f.bias"][:4]).what == "of another shape"


def test_a_dense_layer_stores_its_weight_the_other_way_round() -> None:
    name = "h.0.attn.c_proj.weight"
    run = hugging_face_run(PARAMETERS, recorded={name: PARAMETERS[name].T.copy()})

    def as_class(word: str) -> list[str]:
        calls = [
            dataclasses.replace(c, operator=word) if c.operator == "Conv1D" and ".c_proj" in c.path else c
            for c in run.calls
        ]
        found = judge_parameters(dataclasses.replace(run, calls=tuple(calls)), CONFIG, PARAMETERS)
        return [x.what for x in found if x.name == name]

    assert as_class("Dense") == ["stored (out, in)"]
    # A class that nobody knows: its numbers show that it multiplies by the transpose.
    assert as_class("Projection") == ["stored (out, in)"]


def test_parameters_without_numbers_are_compared_by_their_extremes() -> None:
    run = hugging_face_run(PARAMETERS)

    def bare(call: Call) -> Call:
        held = {name: dataclasses.replace(x, read=None) for name, x in call.parameters.items()}
        return dataclasses.replace(call, parameters=held)

    bared = dataclasses.replace(run, calls=tuple(map(bare, run.calls)))
    assert all(x.is_right for x in judge_parameters(bared, CONFIG, PARAMETERS))
    others = {**PARAMETERS, "ln_f.weight": PARAMETERS["ln_f.weight"] * 2}
    assert [x.what for x in judge_parameters(bared, CONFIG, others) if not x.is_right] == ["of other statistics"]


# where a call was made


def test_the_lines_of_a_call_are_the_users_not_the_frameworks() -> None:
    library = (
        "File /env/lib/python3.11/site-packages/transformers/models/gpt2/modeling_gpt2.py, line 5, in forward, \n x = y"
    )
    ours = "/home/me/my_gpt2.py:7, in forward: x = self.part(x)"
    theirs = "/env/lib/python3.11/site-packages/transformers/models/gpt2/modeling_gpt2.py:5, in forward: x = y"
    source = "File /home/me/mindspore/nn/cell.py, line 1, in __call__, \n return x"

    def lines(*stack: str) -> tuple[str, ...]:
        return users_lines(Call("a", "b", stack=stack))

    assert lines(FRAMEWORKS, USERS) == (ours,)
    assert lines(FRAMEWORKS, library, FRAMEWORKS, USERS) == (theirs, ours)
    assert lines(source, USERS.replace("/me/", "/me/torch/")) == (ours.replace("/me/", "/me/torch/"),)
    assert lines(FRAMEWORKS)[0].startswith("/env/lib")
    assert lines("nonsense") == ()


def test_to_keep_few_members_changes_no_verdict() -> None:
    seen = stages(PARAMETERS)
    given: Any = (CONFIG, PARAMETERS, IDS, None, None, np.dtype(np.float32), {})
    whole_orbit = stage_references(*given)
    few = stage_references(*given, only=("ln_f", "h.0.attn.q"))
    assert list(few) == ["h.0.attn.q", "ln_f"]
    for name, reference in few.items():
        assert len(reference.orbit) == 2
        assert reference.judge(seen[name]) == whole_orbit[name].judge(seen[name])
    assert list(whole_orbit) == EVERY_STAGE
