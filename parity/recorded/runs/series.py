"""Several steps and ranks of one training: the first that parts from the others, and gradients by layer."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parity.recorded.recording import Call, RecordedRun, RecordedTensor, is_float, tensors
from parity.recorded.runs.names import common_path, layer_of
from parity.recorded.runs.parameters import recorded_parameters
from parity.verdict.verdict import Verdict, close

PARAMETER, RESULT = "parameter", "result"


@dataclasses.dataclass(frozen=True)
class Parting:
    """What a rank has, and another of the same step has not. what: PARAMETER or RESULT; name: of it.

    verdict: None if their statistics alone were compared.
    """

    step: int
    rank: int
    other_rank: int
    what: str
    name: str
    verdict: Verdict | None = None

    def explain(self) -> str:
        """In words: "step 3: rank 2 and rank 0 have different h.0.ln_1.weight"."""
        how = "have a different" if self.what == PARAMETER else "return different numbers of the same input from"
        rest = "" if self.verdict is None else f": {self.verdict.explain()}"
        return f"step {self.step}: rank {self.rank} and rank {self.other_rank} {how} {self.name}{rest}"


def first_parting(
    runs: Sequence[RecordedRun], noise: Mapping[tuple[int, int, str], float] | None = None
) -> Parting | None:
    """The first step at which ranks have other parameters, or other results of the same inputs; None if none has.

    In data parallel, every rank has the same parameters at each step, bit for bit, and rows of its own. noise: the
    noise floor of each call that was judged, by (step, rank, name of the call): results of equal inputs may differ by
    the sum of both. Calls without one are not compared.
    """
    for step in sorted({run.step for run in runs}):
        first, *others = sorted((run for run in runs if run.step == step), key=lambda run: run.rank)
        for other in others:
            parting = next(_partings(first, other, noise or {}), None)
            if parting is not None:
                return parting
    return None


def _partings(one: RecordedRun, other: RecordedRun, noise: Mapping[tuple[int, int, str], float]) -> Iterator[Parting]:
    mine = {name: tensor for name, _, tensor, _ in recorded_parameters(one)}
    for name, _, tensor, _ in recorded_parameters(other):
        if name in mine and not same_tensor(mine[name], tensor):
            yield Parting(one.step, other.rank, one.rank, PARAMETER, name)
    calls = {call.name: call for call in one.calls}
    for call in other.calls:
        twin = calls.get(call.name)
        floors = [noise.get((run.step, run.rank, call.name)) for run in (one, other)]
        if twin is None or None in floors or not _same_inputs(twin, call):
            continue
        for x, y in zip(_floats(twin.results), _floats(call.results), strict=False):
            if x.has_numbers and y.has_numbers and x.shape == y.shape and x.dtype == y.dtype:
                mine_there, theirs = x.numbers(), y.numbers()
                verdict = close(theirs, mine_there, math.fsum(f or 0.0 for f in floors), mine_there.dtype)
                if not verdict.agrees:
                    yield Parting(one.step, other.rank, one.rank, RESULT, call.name, verdict)


def same_tensor(x: RecordedTensor, y: RecordedTensor) -> bool:
    """Whether two recorded tensors are the same, bit for bit; by their statistics, if that is all there is of one."""
    if (x.dtype, x.shape) != (y.dtype, y.shape):
        return False
    if x.has_numbers and y.has_numbers:
        return bool(np.array_equal(x.numbers(), y.numbers(), equal_nan=x.dtype != "bool" and is_float(x)))
    pairs = [
        (getattr(x.statistics, field.name), getattr(y.statistics, field.name))
        for field in dataclasses.fields(x.statistics)
    ]
    return all(one is None or other is None or one == other or one != one for one, other in pairs)


def _same_inputs(x: Call, y: Call) -> bool:
    mine, theirs = ([*tensors([*call.arguments, call.keywords])] for call in (x, y))
    mine, theirs = [*mine, *x.parameters.values()], [*theirs, *y.parameters.values()]
    return (
        bool(mine)
        and len(mine) == len(theirs)
        and all(a.has_numbers and b.has_numbers and same_tensor(a, b) for a, b in zip(mine, theirs, strict=True))
    )


def _floats(value: object) -> list[RecordedTensor]:
    return [x for x in tensors(value) if is_float(x)]


def gradient_norms(run: RecordedRun) -> dict[str, float | None]:
    """The 2-norm of the gradients of all parameters of each layer, in the order of the model; None: not all known."""
    squares: dict[str, list[float | None]] = {}
    for name, tensor in run.parameter_gradients.items():
        squares.setdefault(layer_of(common_path(name)), []).append(_square(tensor))
    norms = {
        layer: None if None in found else math.sqrt(math.fsum(filter(None, found))) for layer, found in squares.items()
    }
    return dict(sorted(norms.items(), key=lambda item: _place(item[0])))


def _square(tensor: RecordedTensor) -> float | None:
    if tensor.has_numbers:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.square(tensor.numbers().astype(np.float64)).sum())
    return None if tensor.statistics.norm is None else tensor.statistics.norm**2


def _place(layer: str) -> tuple[int, int, str]:
    """Embeddings, layers by their numbers, the rest."""
    if layer.startswith("h."):
        return (1, int(layer[2:]), "")
    return (0 if layer in ("wte", "wpe") else 2, 0, layer)
