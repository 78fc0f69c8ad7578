"""Run the judge: draw cases for a function, compare a backend with the reference, keep the worst, shrink what fails."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from numpy.typing import NDArray

from gpt2.backends import Backend, BackendModel, numpy_dtype
from parity import orbit
from parity.cases import Case, build, cases
from parity.contracts import Contract, contracts, engine_contracts
from parity.verdict import Verdict, judge
from reference.config import flatten
from reference.stages import observing

Array = NDArray[Any]


@dataclasses.dataclass
class Result:
    """What the judge found for one function: how many cases, the worst of them, and the smallest that failed."""

    function: str
    cases: int = 0
    worst: Verdict | None = None
    worst_case: Case | None = None
    failure: Verdict | None = None
    failing_case: Case | None = None
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every case agreed."""
        return self.failure is None and not self.error

    def to_dict(self) -> dict[str, Any]:
        """The same facts for machines."""
        shown = self.failure or self.worst
        case = self.failing_case or self.worst_case
        return {
            "function": self.function,
            "cases": self.cases,
            "agrees": self.agrees,
            "noise_ratio": None if shown is None else shown.noise_ratio,
            "ulps": None if shown is None else shown.ulps,
            "case": None if case is None else case.describe(),
            "explanation": self.error or ("" if shown is None else shown.explain()),
        }


class DisagreementError(AssertionError):
    """Raised inside a search, for Hypothesis to shrink."""


def select(names: list[str]) -> dict[str, Contract]:
    """The contracts of the functions or files named ("layer_norm", "ops.layer_norm", "ops"); of all without a name.

    Raises KeyError for a name that is neither.
    """
    every = contracts() | engine_contracts()
    chosen: dict[str, Contract] = {}
    for name in names:
        found = {f: c for f, c in every.items() if name in (f, f.split(".")[0], f.split(".")[1])}
        if not found:
            raise KeyError(name)
        chosen |= found
    return chosen or every


def check_function(
    contract: Contract, backend: Backend, examples: int = 25, start: int = 0,
    watch: Callable[[Verdict, Case], Any] | None = None,
) -> Result:  # fmt: skip
    """Judge one function of a backend on that many random cases; the same `start` draws the same cases.

    watch is called with every verdict.
    """
    result = Result(contract.function)
    dtype = numpy_dtype(backend.dtype)

    @seed(start)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(cases(contract, dtype))
    def search(case: Case) -> None:
        result.cases += 1
        for verdict in judge_case(case, backend):
            if watch is not None:
                watch(verdict, case)
            if not verdict.agrees:
                result.failure, result.failing_case = verdict, case
                raise DisagreementError(verdict.explain())
            if result.worst is None or verdict.severity > result.worst.severity:
                result.worst, result.worst_case = verdict, case

    try:
        search()
    except DisagreementError:
        return result
    except AttributeError as error:
        result.error = f"the backend has no {contract.function}: {error}"
    except Exception as error:
        result.error = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return result


def judge_case(case: Case, backend: Backend) -> list[Verdict]:
    """The verdict on each array that the function returns for this case."""
    dtype = numpy_dtype(backend.dtype)
    value = list(leaves(run(case, backend, build(case, dtype)[0]), dtype))
    oracle, runs, rows = references(case, dtype, backend.accuracy)
    if len(value) != len(oracle):
        return [judge(np.zeros(len(value)), np.zeros(len(oracle)), [np.zeros(len(oracle))])]
    return [judge(*arrays) for arrays in zip(value, oracle, runs, rows, strict=True)]


def run(case: Case, backend: Backend, arguments: dict[str, Any]) -> Any:
    """What the backend returns for a case: a function of the mirror, or a whole model by way of its engine."""
    file, name = case.contract.function.split(".")
    if file != "engine":
        return backend.call(case.contract.function, arguments)
    ids, mask, positions = arguments["ids"], arguments.get("attention_mask"), arguments.get("position_ids")
    model = backend.model(arguments["config"], flatten(arguments["params"]))
    if name == "classify":
        return model.classify(ids, mask, positions)
    logits = model.logits(ids, mask, positions)
    return _cached(model, logits, ids, mask, positions) if name == "cached" else logits


def _cached(model: BackendModel, logits: Array, ids: Array, mask: Array | None, positions: Array | None) -> Array:
    batch_size, length = ids.shape
    mask = np.ones_like(ids) if mask is None else mask
    positions = np.broadcast_to(np.arange(length), ids.shape) if positions is None else positions
    decoder = model.decoder(batch_size, length)
    columns, start = [logits[:, : (length - 1) // 2]], 0
    for end in range((length + 1) // 2, length + 1):
        decoder.read(ids[:, start:end], mask[:, start:end], positions[:, start:end])
        columns.append(decoder.logits()[:, None])
        start = end
    return np.concatenate(columns, axis=1)


def references(
    case: Case, dtype: np.dtype, accuracy: Mapping[str, float]
) -> tuple[list[Array], list[list[Array]], list[Array | None]]:
    """For every array that the function returns: the float64 oracle, the orbit in dtype, and where it means something.

    In the orbit, elementary functions err by as much as the backend declares, up or down at random.
    """
    arguments, axes = build(case, dtype)
    target = _first(case.contract.target) if case.contract.reference else case.contract.target
    with np.errstate(all="ignore"):
        oracle = list(leaves(target(**_as_float64(arguments)), np.dtype(np.float64)))
        count = orbit.members(min((x.size for x in oracle), default=1))
        runs: list[list[Array]] = [[] for _ in oracle]
        for member in range(count):
            chosen = orbit.permutations(case, member)
            permuted = {name: orbit.permute(x, axes[name], case, chosen) for name, x in arguments.items()}
            with observing(orbit.inexact(accuracy, case, member, dtype)):
                returned = list(leaves(target(**permuted), dtype))
            for run, x, letters in zip(runs, returned, result_axes(case, len(returned)), strict=True):
                run.append(orbit.undo(x, letters, case, chosen))
    return oracle, runs, [_meaning(case, i, arguments) for i in range(len(oracle))]


def _first(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the keys and values that language_model returns beside the scores."""

    def first(**arguments: Any) -> Any:
        returned = function(**arguments)
        return returned[0] if isinstance(returned, tuple) else returned

    return first


def result_axes(case: Case, count: int) -> list[tuple[str, ...]]:
    """The axes of each of the arrays that a function returns, in order."""
    axes: list[tuple[str, ...]] = []
    for item in case.contract.outputs:
        repeat = count - len(axes) if "pairs" in item.kinds else 2 if "pair" in item.kinds else 1
        axes += [item.axes or ()] * repeat
    return axes


def _meaning(case: Case, index: int, arguments: dict[str, Any]) -> Array | None:
    mask = arguments.get("attention_mask")
    if mask is None or index >= len(case.contract.outputs) or "kept" not in case.contract.outputs[index].kinds:
        return None
    return (mask != 0)[..., None]


def _as_float64(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _as_float64(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_as_float64(value) for value in tree)
    if isinstance(tree, np.ndarray) and tree.dtype.kind not in "iub":
        return tree.astype(np.float64)
    return tree


def leaves(tree: Any, dtype: np.dtype) -> Iterator[Array]:
    """The arrays of a nested result, in order; a plain number becomes an array of dtype."""
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from leaves(branch, dtype)
    else:
        yield np.asarray(tree, dtype) if isinstance(tree, float) else tree
