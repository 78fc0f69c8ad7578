"""Judge a recorded run as a whole: the reference recomputes every stage from the recorded ids and the model's weights.

Each stage gets two verdicts. What it inherited: is it what the model makes of these ids? Its own work: is it what the
stages before it, as they were recorded, give? The loss, too: it is the last stage if its scores and targets are known.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

from gpt2.errors import GPT2Error
from parity.recorded.masks import EITHER, mask_given
from parity.recorded.recording import Array, Call, RecordedRun, is_float, tensors
from parity.recorded.runs.loss import LOSS, judge_loss
from parity.recorded.runs.names import common_path, kind_of
from parity.recorded.runs.stage_map import ACT, HEADS_LAST, ForwardPass, Seen, forward_passes, lowest_dtype, stages_of
from parity.verdict.stages import stage_axes, stage_names, stage_references
from parity.verdict.verdict import Reference, Verdict
from reference.config import GPT2Config

HIDDEN = -1e30  # below this a score is a hidden one's: it may be any low number
MASKED = ".masked_scores"


@dataclasses.dataclass(frozen=True)
class StageJudgement:
    """What is said of one stage of a recorded run. name: the reference's. call: None in a plain folder of stages.

    own: on the stage computed from those before it, as they were recorded. inherited: on it computed from the ids.
    is_result: whether the stage is the call's result, not its argument. after: the last recorded stage before it, if
    there are stages between them; "" if there are none.
    """

    name: str
    own: Verdict
    inherited: Verdict
    call: Call | None = None
    is_result: bool = True
    after: str = ""


@dataclasses.dataclass(frozen=True)
class WholeRun:
    """The stages of one forward pass, in the order of computation. reason: why none could be judged; "" if they were.

    notes: what the truth was computed from. left_out: stages that could not be judged, and why.
    """

    stages: tuple[StageJudgement, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def first_wrong(self) -> StageJudgement | None:
        """The first stage that is wrong by itself."""
        return next((stage for stage in self.stages if not stage.own.agrees), None)

    @property
    def agrees(self) -> bool:
        """Whether every stage agrees in both ways."""
        return all(stage.own.agrees and stage.inherited.agrees for stage in self.stages)


@dataclasses.dataclass(frozen=True)
class _Inputs:
    ids: Array
    attention_mask: Array | None
    position_ids: Array | None
    notes: tuple[str, ...]


def judge_whole_run(
    run: RecordedRun, config: GPT2Config, parameters: Mapping[str, Array], accuracy: Mapping[str, float]
) -> list[WholeRun]:
    """Every forward pass of a run by the model that made it, or a folder of stages: one WholeRun for each.

    accuracy: what the elementary functions of the recorded framework err by, as a backend declares it.
    """
    if run.stages and not run.calls:
        return [_judge_folder(run, config, parameters, accuracy)]
    return [_judge_pass(each, config, parameters, accuracy) for each in forward_passes(run)]


def _judge_folder(
    run: RecordedRun, config: GPT2Config, parameters: Mapping[str, Array], accuracy: Mapping[str, float]
) -> WholeRun:
    """A plain folder of stages, which holds "ids", and "attention_mask" and "position_ids" if there are any."""
    if "ids" not in run.stages:
        return WholeRun(reason="no ids: the folder has no file of that name (ids.npy)")
    held = {
        name: run.stages[name].numbers() for name in ("ids", "attention_mask", "position_ids") if name in run.stages
    }
    inputs = _Inputs(held["ids"], held.get("attention_mask"), held.get("position_ids"), ())
    found = {name: Seen(name, x, _NO_CALL) for name, x in run.stages.items() if name not in held}
    return _judge(found, inputs, config, parameters, accuracy)


_NO_CALL = Call(name="", operator="")


def _judge_pass(
    forward: ForwardPass, config: GPT2Config, parameters: Mapping[str, Array], accuracy: Mapping[str, float]
) -> WholeRun:
    found = {
        name.replace(f".{ACT}", f".{config.activation_function}"): x for name, x in stages_of(forward.calls).items()
    }
    reason = _why_not(forward, found, config)
    inputs = None if reason else _inputs(forward)
    if inputs is None:
        return WholeRun(reason=reason or f"the mask that a layer was given {EITHER}")
    whole = _judge(found, inputs, config, parameters, accuracy)
    return whole if whole.reason else _with_loss(whole, forward, found.get("logits"), inputs.ids, config)


def _with_loss(whole: WholeRun, forward: ForwardPass, seen: Seen | None, ids: Array, config: GPT2Config) -> WholeRun:
    """The stages with the loss, which inherits what its logits did."""
    stage = next((stage for stage in whole.stages if stage.name == "logits"), None)
    shape = (*ids.shape, config.vocab_size)
    logits = None if seen is None or stage is None else in_form("logits", seen, shape, config)
    found = judge_loss(forward, logits if logits is not None and logits.shape == shape else None, ids)
    if found is None:
        return whole
    if found.verdict is None or stage is None:
        return dataclasses.replace(whole, left_out={LOSS: found.reason})
    judged = StageJudgement(LOSS, found.verdict, stage.inherited, found.call, is_result=False)
    return dataclasses.replace(whole, stages=(*whole.stages, judged))


def _why_not(forward: ForwardPass, found: Mapping[str, Seen], config: GPT2Config) -> str:
    """Why the truth of a forward pass cannot be computed; "" if it can."""
    if not found:
        return "no call in it is a stage of a GPT-2"
    ids = forward.ids
    if ids is None:
        return "no ids: no call of the model or of its table of tokens was recorded"
    if not ids.has_numbers:
        return "the ids are there by their statistics alone: dump them with task tensor"
    tokens = ids.shape[1]
    if tokens > config.n_positions:
        return f"{tokens} tokens, but the model has {config.n_positions} positions: is it another model?"
    for name, seen in found.items():
        if name.endswith(("attn_weights", MASKED)) and len(seen.tensor.shape) == 4 and seen.tensor.shape[-1] > tokens:
            return f"it continues a past of {seen.tensor.shape[-1] - tokens} tokens, which was read before it"
    dropout = next((call for call in forward.calls if kind_of(call.operator) == "dropout" and _drops(call)), None)
    if dropout is not None:
        return f"dropout is on ({dropout.name}): call model.eval() or set it to 0; each call is judged all the same"
    return ""


def _drops(call: Call) -> bool:
    """Whether a dropout changed its input."""
    given = next(filter(is_float, tensors(call.arguments)), None)
    result = next(filter(is_float, tensors(call.results)), None)
    if given is None or result is None or not given.has_numbers or not result.has_numbers:
        return False
    return not np.array_equal(given.numbers(), result.numbers(), equal_nan=True)


def _inputs(forward: ForwardPass) -> _Inputs | None:
    """The arguments of the model call, as far as they were recorded. None: a mask may be of two kinds."""
    assert forward.ids is not None
    ids, notes = forward.ids.numbers().astype(np.int64), []
    mask, positions = forward.attention_mask, forward.position_ids
    attention_mask = position_ids = None
    if mask is not None and mask.has_numbers and mask.shape == ids.shape:
        attention_mask = mask.numbers().astype(np.int64)
        notes.append("attention_mask as the model was given it")
    elif mask is None and not forward.has_model_call:
        layers = (call for call in forward.calls if common_path(call.path).startswith("h."))
        found = next(filter(None, (mask_given(call, *ids.shape) for call in layers)), None)
        if found is not None and found[1] == EITHER:
            return None
        if found is not None:
            attention_mask = found[0]
            notes.append("attention_mask as a layer was given it")
    if positions is None and not forward.has_model_call:
        positions = forward.positions
    if positions is not None and positions.has_numbers:
        position_ids = np.atleast_2d(positions.numbers().astype(np.int64))
        counted = np.arange(ids.shape[1])[None]
        if np.array_equal(position_ids, counted):
            position_ids = None
        elif positions is forward.positions and _count_from_one(position_ids, counted, attention_mask):
            position_ids = None
            notes.append("positions from 0: the table of positions was given them from 1, without a past")
        elif position_ids.shape[-1] == ids.shape[1]:
            whose = "model" if forward.position_ids is not None else "table of positions"
            notes.append(f"position_ids as the {whose} was given them")
        else:
            position_ids = None
    return _Inputs(ids, attention_mask, position_ids, tuple(notes))


def _count_from_one(positions: Array, counted: Array, attention_mask: Array | None) -> bool:
    """Whether every sequence, without pads, counts its several tokens from 1, which no model that was trained does."""
    is_whole = attention_mask is None or bool(attention_mask.all())
    return is_whole and counted.size > 1 and bool((positions == counted + 1).all())


def _judge(
    found: Mapping[str, Seen],
    inputs: _Inputs,
    config: GPT2Config,
    parameters: Mapping[str, Array],
    accuracy: Mapping[str, float],
) -> WholeRun:
    if inputs.ids.max(initial=0) >= config.vocab_size or inputs.ids.min(initial=0) < 0:
        return WholeRun(reason=f"ids beyond the model's vocabulary of {config.vocab_size}: is it another model?")
    places = inputs.position_ids
    if places is not None and (places.max(initial=0) >= config.n_positions or places.min(initial=0) < 0):
        return WholeRun(reason=f"positions beyond the model's {config.n_positions}: is it another model?")
    kept = {name: seen for name, seen in found.items() if seen.tensor.has_numbers and is_float(seen.tensor)}
    if not kept:
        return WholeRun(reason="no stage has its numbers: dump them with task tensor")
    dtype = lowest_dtype(seen.tensor for seen in kept.values())
    read = (inputs.ids, inputs.attention_mask, inputs.position_ids)
    references = functools.partial(stage_references, config, parameters, *read, dtype, accuracy, only=kept)
    truth = references()
    formed = {
        name: in_form(name, kept[name], x.oracle.shape, config).astype(x.orbit[0].dtype) for name, x in truth.items()
    }
    fit = {name: x for name, x in formed.items() if x.shape == truth[name].oracle.shape}
    fed = references(given=fit)
    names, judged = stage_names(config, "score.weight" in parameters), []
    for last, name in zip([None, *truth], truth, strict=False):
        skipped = last is not None and names.index(name) - names.index(last) > 1
        seen = kept[name]
        judged.append(
            StageJudgement(
                name,
                _visible(name, fed[name]).judge(formed[name]),
                _visible(name, truth[name]).judge(formed[name]),
                None if seen.call is _NO_CALL else seen.call,
                seen.is_result,
                (last or "") if skipped else "",
            )
        )
    unknown = sorted(found.keys() - set(truth))
    notes = [*inputs.notes, *([f"not stages of this model: {', '.join(unknown)}"] if unknown else [])]
    return WholeRun(tuple(judged), "" if judged else "no recorded stage has the shape of this model's", tuple(notes))


def _visible(name: str, reference: Reference) -> Reference:
    """Without hidden scores, which may be any low number."""
    return reference.only(reference.oracle > HIDDEN) if name.endswith(MASKED) else reference


def in_form(name: str, seen: Seen, shape: tuple[int, ...], config: GPT2Config) -> Array:
    """A recorded stage in the reference's form, as far as its shape allows; else as it is.

    Flat rows (B*T, C) and heads (B*H, T, D) are unfolded, heads behind tokens are put before them.
    """
    x = seen.tensor.numbers()
    if seen.form == HEADS_LAST and x.ndim == len(shape):
        x = x.swapaxes(-1, -2)
    if x.shape == shape:
        return x
    if name == "wpe" and x.ndim == len(shape) and x.shape[1:] == shape[1:] and (x == x[:1]).all():
        return x[:1]
    if x.size != math.prod(shape):
        return x
    if len(stage_axes(name)) == 4 and len(shape) == 4:
        batch, heads, tokens, size = shape
        if x.shape in ((batch, tokens, heads, size), (batch, tokens, heads * size), (batch * tokens, heads * size)):
            return x.reshape(batch, tokens, heads, size).swapaxes(1, 2)
    return x.reshape(shape) if x.shape[-1] == shape[-1] else x


def require_model(run: RecordedRun, config: GPT2Config) -> None:
    """Raise GPT2Error if not one recorded stage can be this model's, by the number of its channels."""
    widths = {seen.tensor.shape[-1] for each in forward_passes(run) for seen in stages_of(each.calls).values()}
    if widths and config.n_embd not in widths:
        raise GPT2Error(
            f"--model has {config.n_embd} channels, but the recorded stages have {', '.join(map(str, sorted(widths)))}"
            ": name the model that was recorded"
        )
