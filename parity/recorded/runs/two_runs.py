"""Two recorded runs of one model side by side: calls are lined up by stages, by paths, and by order, kind and shape."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from parity.recorded.recording import Array, Call, RecordedRun, RecordedTensor, is_float, tensors
from parity.recorded.runs.names import common_path, kind_of
from parity.recorded.runs.parameters import (
    OTHER_WAY,
    ParameterFinding,
    identify,
    multiplies_by_transpose,
    recorded_parameters,
)
from parity.recorded.runs.series import same_tensor
from parity.recorded.runs.stage_map import HEADS_LAST, Seen, forward_passes, stages_of
from parity.verdict.verdict import Verdict, close, ulp

STAGE, PATH, ORDER = "stage", "path", "order"
MOST = 20_000  # calls that are lined up by their order; a longer run is lined up by stages and paths alone


@dataclasses.dataclass(frozen=True)
class Pair:
    """A call of each run that belong together, and what is between their results.

    stage: the reference's name of what they compute, if it is one. by: STAGE, PATH or ORDER. verdict: None if no noise
    floor is known for this pair. difference: the largest; ulps: the same in units in the last place of the largest
    number; None if they have no numbers in common. reason: why they cannot be compared; "" if they were.
    is_whole: whether both calls computed the stage; else one has only read it.
    """

    one: Call
    other: Call
    by: str
    stage: str = ""
    verdict: Verdict | None = None
    difference: float | None = None
    ulps: float | None = None
    reason: str = ""
    is_whole: bool = True

    @property
    def name(self) -> str:
        """What the pair is called: its stage, else the path or operator in the first run."""
        return self.stage or common_path(self.one.path) or self.one.name


@dataclasses.dataclass(frozen=True)
class TwoRuns:
    """Two runs side by side. alone, other_alone: the calls of one run that have no twin in the other.

    parameters: what the second run's are, beside the first's. inputs: "" if both read the same ids, else what is wrong.
    missing: stages that one run shows, and the other does not.
    """

    pairs: tuple[Pair, ...]
    alone: tuple[Call, ...] = ()
    other_alone: tuple[Call, ...] = ()
    parameters: tuple[ParameterFinding, ...] = ()
    inputs: str = ""
    missing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether nothing that could be judged differs."""
        return (
            not self.inputs
            and all(pair.verdict is None or pair.verdict.agrees for pair in self.pairs)
            and all(parameter.is_right for parameter in self.parameters)
        )

    @property
    def stages(self) -> list[Pair]:
        """The pairs that are stages of a GPT-2."""
        return [pair for pair in self.pairs if pair.by == STAGE]


def compare_runs(
    one: RecordedRun,
    other: RecordedRun,
    noise: Mapping[str, float] | None = None,
    other_noise: Mapping[str, float] | None = None,
) -> TwoRuns:
    """Line two runs up and compare what belongs together.

    noise, other_noise: the noise floor of a stage, by its name, as the truth from the ids has it, or of a call with its
    own recorded inputs, by the call's name. Results of a stage may differ by the sum of both; those of two calls too,
    if they were given the same numbers.
    """
    floors = noise or {}, other_noise or {}
    passes = forward_passes(one), forward_passes(other)
    pairs: list[Pair] = []
    missing: list[str] = []
    inputs = ""
    for mine, theirs in zip(*passes, strict=False):
        stages, twins = stages_of(mine.calls), stages_of(theirs.calls)
        pairs += [_stage_pair(stages[name], twins[name], floors) for name in stages if name in twins]
        missing += sorted(stages.keys() ^ twins.keys())
        inputs = inputs or _other_ids(mine.ids, theirs.ids)
    taken = {pair.one.name for pair in pairs if pair.is_whole}, {pair.other.name for pair in pairs if pair.is_whole}
    left = [
        [call for call in run.calls if call.name not in names] for run, names in zip((one, other), taken, strict=True)
    ]
    for first, second, by in line_up(*(_outside(calls, run) for calls, run in zip(left, (one, other), strict=True))):
        pairs.append(_call_pair(first, second, by, floors))
        taken[0].add(first.name)
        taken[1].add(second.name)
    places = {call.name: i for i, call in enumerate(one.calls)}
    pairs.sort(key=lambda pair: places[pair.one.name])
    return TwoRuns(
        tuple(pairs),
        tuple(call for call in one.calls if call.name not in taken[0]),
        tuple(call for call in other.calls if call.name not in taken[1]),
        tuple(compare_parameters(one, other)),
        inputs,
        tuple(dict.fromkeys(missing)),
    )


def _outside(calls: Sequence[Call], run: RecordedRun) -> list[Call]:
    """Without the operators of the smallest modules: what is within these, each framework computes in its own way."""
    modules = [call for call in run.calls if call.is_module]
    smallest = {call.name for call in modules} - {call.parent for call in modules}
    return [call for call in calls if call.is_module or call.parent not in smallest]


def _other_ids(one: RecordedTensor | None, other: RecordedTensor | None) -> str:
    if one is None or other is None or not one.has_numbers or not other.has_numbers:
        return ""
    if one.shape != other.shape:
        return f"the ids have shape {one.shape} in one run and {other.shape} in the other"
    return "" if (one.numbers() == other.numbers()).all() else "the runs read other ids: nothing can be compared"


def line_up(one: Sequence[Call], other: Sequence[Call]) -> list[tuple[Call, Call, str]]:
    """The calls of two runs that belong together: by the modules' paths, between them by order, kind and shape.

    Source of the matching: Ratcliff and Metzener 1988, in Python's difflib.
    """
    found: list[tuple[Call, Call, str]] = []
    by_path = {_key(call): call for call in other if call.is_module and common_path(call.path)}
    for call in one:
        twin = by_path.get(_key(call)) if call.is_module and common_path(call.path) else None
        if twin is not None:
            found.append((call, twin, PATH))
    if max(len(one), len(other)) > MOST:
        return found
    anchors = {call.name: twin.name for call, twin, _ in found}
    back = {twin: name for name, twin in anchors.items()}
    mine = [("=", call.name) if call.name in anchors else _look(call) for call in one]
    theirs = [("=", back[call.name]) if call.name in back else _look(call) for call in other]
    for block in difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks():
        for i in range(block.size):
            call, twin = one[block.a + i], other[block.b + i]
            if call.name not in anchors:
                found.append((call, twin, ORDER))
    return found


def _key(call: Call) -> tuple[str, bool, int]:
    return common_path(call.path), call.is_backward, call.number


def _look(call: Call) -> tuple[str, str]:
    """What a call looks like from outside: its kind, direction, and how large its largest result is."""
    size = max(((math.prod(x.shape), x.shape[-1:]) for x in tensors(call.results) if is_float(x)), default=0)
    return f"{kind_of(call.operator)}{' back' if call.is_backward else ''}", str(size)


def _stage_pair(one: Seen, other: Seen, floors: tuple[Mapping[str, float], Mapping[str, float]]) -> Pair:
    found = Pair(one.call, other.call, STAGE, one.stage, is_whole=one.is_result and other.is_result)
    if not one.tensor.has_numbers or not other.tensor.has_numbers:
        return dataclasses.replace(found, reason="no numbers, statistics alone")
    x, y = (
        (seen.tensor.numbers().swapaxes(-1, -2) if seen.form == HEADS_LAST else seen.tensor.numbers())
        for seen in (one, other)
    )
    known = [floor.get(one.stage) for floor in floors]
    return _compared(found, x, y, known, hidden=one.stage.endswith(".masked_scores"))


def _call_pair(one: Call, other: Call, by: str, floors: tuple[Mapping[str, float], Mapping[str, float]]) -> Pair:
    found = Pair(one, other, by)
    results = [
        sorted(filter(is_float, tensors(call.results)), key=lambda x: -math.prod(x.shape)) for call in (one, other)
    ]
    if not all(results) or not all(x.has_numbers for each in results for x in each[:1]):
        return dataclasses.replace(found, reason="no numbers in common")
    given = [[x for x in tensors([*call.arguments, call.keywords]) if x.has_numbers] for call in (one, other)]
    alike = bool(given[0]) and len(given[0]) == len(given[1]) and all(map(same_tensor, *given))
    known = [floors[0].get(one.name), floors[1].get(other.name)] if alike else [None]
    return _compared(found, results[0][0].numbers(), results[1][0].numbers(), known)


def _compared(found: Pair, x: Array, y: Array, known: Sequence[float | None], hidden: bool = False) -> Pair:
    y = in_shape_of(x, y)
    if x.shape != y.shape:
        return dataclasses.replace(found, reason=f"shape {x.shape} against {y.shape}")
    dtype = x.dtype if x.dtype.itemsize <= y.dtype.itemsize else y.dtype
    wide, others = x.astype(np.float64), y.astype(np.float64)
    usual = np.isfinite(wide) & np.isfinite(others)
    if hidden:
        usual &= (wide > -1e30) & (others > -1e30)
    differences = np.abs(np.where(usual, wide - np.where(usual, others, 0.0), 0.0))
    most = float(differences.max(initial=0.0))
    unit = float(ulp(np.abs(wide).max(where=usual, initial=0.0), dtype))
    found = dataclasses.replace(found, difference=most, ulps=most / unit)
    if any(floor is None for floor in known):
        return found
    floor = math.fsum(filter(None, known))
    return dataclasses.replace(found, verdict=close(y, x, floor, dtype, usual if hidden else None))


def in_shape_of(x: Array, y: Array) -> Array:
    """The second array in the first's shape, if it holds as many numbers: flat rows, or heads behind tokens."""
    if x.shape == y.shape or x.size != y.size:
        return y[None] if y.ndim + 1 == x.ndim and (1, *y.shape) == x.shape else y
    if x.ndim == y.ndim == 4 and y.swapaxes(1, 2).shape == x.shape:
        return y.swapaxes(1, 2)
    return y.reshape(x.shape) if x.shape[-1:] == y.shape[-1:] else y


def compare_parameters(one: RecordedRun, other: RecordedRun) -> list[ParameterFinding]:
    """What the second run's parameters are, beside the first's, each in the form (in, out).

    A matrix that one run stores the other way round, and uses so, is right; one that is used the wrong way round is
    transposed.
    """
    mine: dict[str, Array] = {}
    for name, _, tensor, call in recorded_parameters(one):
        if tensor.has_numbers and is_float(tensor):
            mine[name] = _inward(tensor.numbers(), call)
    found = []
    for name, recorded, tensor, call in recorded_parameters(other):
        if name in mine and tensor.has_numbers and is_float(tensor):
            found.append(identify(name, recorded, tensor, call, mine[name], mine))
    return [x for x in found if x.what != OTHER_WAY] + [x for x in found if x.what == OTHER_WAY]


def _inward(x: Array, call: Call) -> Array:
    path = common_path(call.path)
    is_map = x.ndim == 2 and path not in ("wte", "wpe", "lm_head", "score")
    return x.T if is_map and multiplies_by_transpose(call, x) else x
