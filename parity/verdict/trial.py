"""One test case for one backend, and the reference's results for it."""

import contextlib
import dataclasses
import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import Backend, BackendModel, numpy_dtype
from gpt2.errors import counted
from parity.cases.cases import Case, axis_factors, build, case_axes
from parity.cases.contracts import UNORDERED, Axes, contracts, engine_contracts, split_axes, tree_axes
from parity.cases.supports import Supports
from parity.verdict import orbit
from parity.verdict.steps import accuracy_of
from parity.verdict.verdict import Reference, Verdict, close, identical, refused
from reference.config import flatten, parameter_axes
from reference.stages import observing

Array = NDArray[Any]
Arguments = dict[str, Any]
Memory = dict[Any, Any]
SINGLE = 8  # tokens at most that a decoder is given one by one


class Trial:
    """A case for a backend. `arguments`: its arrays and options, read-only; floats have the backend's dtype.

    memory caches the arguments and the reference's results, for the next backend that gets the case.
    """

    def __init__(self, case: Case, backend: Backend, memory: Memory | None = None) -> None:
        self.case, self.backend = case, backend
        self.dtype, self._members = numpy_dtype(backend.dtype), orbit.SAMPLES
        self._memory = {} if memory is None else memory
        self._found: Memory = {}  # what this backend returned
        if "arguments" not in self._memory:
            self._memory["arguments"] = build(case, self.dtype)[0]
            for x in leaves(self._memory["arguments"], self.dtype):
                if isinstance(x, np.ndarray):
                    x.setflags(write=False)
        self.arguments = dict(self._memory["arguments"])

    def with_arguments(self, case: Case | None = None, **changed: Any) -> "Trial":
        """The same trial with other arguments; None removes one. If sizes change, pass a case with the new ones."""
        other = Trial.__new__(Trial)
        other.__dict__.update(self.__dict__)
        other.case = case or self.case
        merged = self.arguments | changed
        other.arguments = {name: value for name, value in merged.items() if value is not None}
        scalars = {name: other.arguments[name] for name in other.case.scalars}
        other.case = dataclasses.replace(other.case, scalars=scalars)
        return other

    def of(self, function: str, **arguments: Any) -> "Trial":
        """A trial of another function, "ops.softmax", with exactly these arguments, in the sizes of this case."""
        contract = (contracts() | engine_contracts())[function]
        scalars = {name: arguments[name] for name in contract.scalars if name in arguments}
        other = self.with_arguments(dataclasses.replace(self.case, contract=contract, scalars={}))
        other.case, other.arguments = dataclasses.replace(other.case, scalars=scalars), arguments
        return other

    def on(self, backend: Backend) -> "Trial":
        """The same trial for another backend of the same dtype and accuracy."""
        other = self.with_arguments()
        other.backend, other._found = backend, {}
        return other

    def with_members(self, most: int) -> "Trial":
        """The same trial with orbits of that many members at most."""
        other = self.with_arguments()
        other._members = most
        return other

    @property
    def members(self) -> int:
        """How many members orbits may have: noise only grows with them, so that few may decide."""
        return self._members

    def run(self) -> list[Array]:
        """The arrays that the backend returns, in order: of a function of the mirror, or of a whole model.

        Raises NotImplementedError for what the backend declares that it does not support.
        """
        refusal = Supports.of(self.backend).refusal(self.arguments)
        if refusal:
            raise NotImplementedError(refusal)
        return list(leaves(run(self.case, self.backend, self.arguments), self.dtype))

    def presents(self) -> list[Array]:
        """The keys and values that the function returns behind its result. Raises NotImplementedError without any."""
        behind = self.run()[1:]
        if not behind:
            raise NotImplementedError("keys and values")
        return behind

    def model(self) -> BackendModel:
        """The case's parameters as a model on the backend."""
        return self.backend.model(self.arguments["config"], flatten(self.arguments["params"]))

    def references(self) -> list[Reference]:
        """The reference of every array that the function returns."""
        accuracy = accuracy_of(self.backend)
        key = self.case.contract.function, self.dtype.name, pickle.dumps((dict(accuracy), self.arguments))
        runs = self.remember(key, lambda: ReferenceRuns(self.case, self.dtype, accuracy, self.arguments))
        return runs.references(self._members)

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """The cached result of make() under that key, for this case."""
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def run_once(self, key: Any, run: Callable[[], Any]) -> Any:
        """The cached result of run() under that key, for this case on this backend."""
        if key not in self._found:
            self._found[key] = run()
        return self._found[key]

    def noise(self, index: int = 0) -> float:
        """The noise floor of one of the returned arrays."""
        return self.references()[index].noise

    def compare(self) -> Iterator[Verdict]:
        """The verdict on each array that the backend returns, by the reference.

        A port, of which nothing is known, has been called before, with other numbers in the same shapes: what it keeps
        of them, and should not, is wrong now.
        """
        if getattr(self.backend, "may_remember", False):
            with contextlib.suppress(Exception):  # as a case of its own it would be judged
                run(self.case, self.backend, build(other_numbers(self.case, 1), self.dtype)[0])
        value, known = self.run(), self.references()
        if len(value) == 1 < len(known) and "past" in Supports.of(self.backend).refused:
            known = known[:1]  # keys and values are for those who have a past
        if len(value) != len(known):
            yield refused(f"returned {counted(len(value), 'array')}; the contract is {self.case.contract.promise}")
            return
        for array, reference in zip(value, known, strict=True):
            yield dataclasses.replace(reference.judge(array), name=reference.name)

    def identical(self, value: Any, expected: Any, rows: Array | None = None) -> Verdict:
        """A law's verdict: the same bits, where rows is true."""
        return identical(value, expected, rows)

    def close(self, value: Any, expected: Any, noise: float, rows: Array | None = None, size: float = 0.0) -> Verdict:
        """A law's verdict: equal in exact arithmetic; see verdict.close."""
        return close(value, expected, noise, self.dtype, rows, size)


def other_numbers(case: Case, number: int) -> Case:
    """The case with other numbers in the same shapes, for number 0 itself; a seed that is drawn is below a million."""
    return dataclasses.replace(case, seed=case.seed + 1_000_001 * number)


def decide(judge: Callable[[Trial], Iterable[Verdict]], trial: Trial) -> list[Verdict]:
    """A rule's verdicts on a trial, up to the first disagreement.

    Noise only grows with the members of an orbit: where few are enough for all to agree, more would change nothing. By
    the fewest, only those agree that stay far inside their tolerance, so that what is said of its use is not inflated.
    """
    for most in (orbit.FEWEST, orbit.MEMBERS):
        found = list(_until_one_differs(judge(trial.with_members(most))))
        if all(verdict.agrees and (most > orbit.FEWEST or verdict.severity <= 1 / 2) for verdict in found):
            return found
    return list(_until_one_differs(judge(trial)))


def _until_one_differs(found: Iterable[Verdict]) -> Iterator[Verdict]:
    for verdict in found:
        yield verdict
        if not verdict.agrees:
            return


def run(case: Case, backend: Backend, arguments: Arguments) -> Any:
    """What the backend returns: a function of the mirror by name, or a whole model by way of its engine."""
    file, name = case.contract.function.split(".")
    if file != "engine":
        return backend.call(case.contract.function, arguments)
    ids, mask, positions = arguments["ids"], arguments.get("attention_mask"), arguments.get("position_ids")
    model = backend.model(arguments["config"], flatten(arguments["params"]))
    if name == "classify":
        return model.classify(ids, mask, positions)
    logits = model.logits(ids, mask, positions)
    return cached(model, logits, ids, mask, positions) if name == "cached" else logits


def cached(model: BackendModel, logits: Array, ids: Array, mask: Array | None, positions: Array | None) -> Array:
    """The scores (B, T, V) when the first half is read at once and the rest token by token; before that, `logits`.

    Of long sequences, the last eight tokens are the rest: those of the large cases pass the end of a cache of 64.
    """
    batch_size, length = ids.shape
    mask = np.ones_like(ids) if mask is None else mask
    positions = np.broadcast_to(np.arange(length), ids.shape) if positions is None else positions
    decoder = model.decoder(batch_size, length)
    read = max((length + 1) // 2, length - SINGLE)
    columns, start = [logits[:, : read - 1]], 0
    for end in range(read, length + 1):
        decoder.read(ids[:, start:end], mask[:, start:end], positions[:, start:end])
        columns.append(decoder.logits()[:, None])
        start = end
    return np.concatenate(columns, axis=1)


def references(
    case: Case,
    dtype: np.dtype,
    accuracy: Mapping[str, float],
    arguments: Arguments | None = None,
    most: int = orbit.SAMPLES,
) -> list[Reference]:
    """The reference of every array that the function returns, with orbits of at most `most` members.

    arguments: those of the case, or others of the same shapes.
    """
    return ReferenceRuns(case, dtype, accuracy, arguments).references(most)


class OrbitRuns:
    """The float64 oracle of all that is computed, and the orbit, whose members run when they are asked for."""

    def __init__(self, oracle: list[Array]) -> None:
        self._oracle = oracle
        self._runs: list[list[Array]] = [[] for _ in oracle]

    def member(self, member: int) -> list[Array]:
        """The arrays of one member of the orbit, in order."""
        raise NotImplementedError

    def runs(self, most: int) -> list[list[Array]]:
        """Of every array the orbit, of at most `most` members."""
        count = orbit.members(self._oracle, most)
        with np.errstate(all="ignore"):
            while self._runs and len(self._runs[0]) < count:
                for runs, x in zip(self._runs, self.member(len(self._runs[0])), strict=True):
                    runs.append(x)
        return [runs[:count] for runs in self._runs]


class ReferenceRuns(OrbitRuns):
    """The runs of a function of the reference.

    In the orbit, elementary functions err by as much as the backend declares, up or down at random.
    """

    def __init__(
        self, case: Case, dtype: np.dtype, accuracy: Mapping[str, float], arguments: Arguments | None = None
    ) -> None:
        self._case, self._dtype, self._accuracy = case, dtype, accuracy
        self._arguments = build(case, dtype)[0] if arguments is None else arguments
        given = frozenset(item.name for item in case.contract.inputs if item.name not in self._arguments)
        self._axes = case_axes(dataclasses.replace(case, absent=given))
        self._target = _first(case.contract.target) if case.contract.reference else case.contract.target
        with np.errstate(all="ignore"):
            super().__init__(list(leaves(self._target(**as_float64(self._arguments)), np.dtype(np.float64))))

    def references(self, most: int) -> list[Reference]:
        """The reference of every array, with orbits of at most `most` members."""
        case, summed, names = self._case, terms(self._case), result_names(self._case, len(self._oracle))
        rows = [_meaning(case, i, self._arguments) for i in range(len(self._oracle))]
        return [
            Reference(oracle, runs, kept, summed, name)
            for oracle, runs, kept, name in zip(self._oracle, self.runs(most), rows, names, strict=True)
        ]

    def member(self, member: int) -> list[Array]:
        """The function's results on one of the equivalent forms of its arguments, in the order of the arguments."""
        case = self._case
        chosen = orbit.permutations(case, member)
        permuted = {name: orbit.permute(x, self._axes.get(name), case, chosen) for name, x in self._arguments.items()}
        with observing(orbit.inexact(self._accuracy, case, member)):
            returned = list(leaves(self._target(**permuted), self._dtype))
        axes = result_axes(case, len(returned))
        return [orbit.undo(x, letters, case, chosen) for x, letters in zip(returned, axes, strict=True)]


def terms(case: Case) -> int:
    """How many numbers the function sums up for one element, at most: its longest axis that is not one of tokens."""
    trees = [parameter_axes(case.config).values() for item in case.contract.inputs if item.tree is not None]
    axes = {axis for tree in trees for text in tree for axis in split_axes(text)}
    axes |= {axis for item in case.contract.inputs for axis in item.axes or ()}
    summed = [axis for axis in axes if axis[-1] in UNORDERED and axis != "3*H*D"]
    return max((math.prod(axis_factors(axis, case.sizes)) for axis in summed), default=0)


def _first(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the keys and values that language_model returns beside the scores."""

    def first(**arguments: Any) -> Any:
        returned = function(**arguments)
        return returned[0] if isinstance(returned, tuple) else returned

    return first


def result_axes(case: Case, count: int) -> list[Axes]:
    """The axes of each of the arrays that a function returns, in order."""
    return [axes for _, axes in _results(case, count)]


def result_names(case: Case, count: int) -> list[str]:
    """The parameter name of each array that a function returns, in order; "" for an array in no tree."""
    return [name for name, _ in _results(case, count)]


def _results(case: Case, count: int) -> list[tuple[str, Axes]]:
    found: list[tuple[str, Axes]] = []
    for item in case.contract.outputs:
        if item.axes is None:
            found += _in_order(tree_axes(item, case.config))
        else:
            repeat = count - len(found) if "pairs" in item.kinds else 2 if "pair" in item.kinds else 1
            found += [("", item.axes)] * repeat
    return found


def _in_order(tree: Any, name: str = "") -> Iterator[tuple[str, Axes]]:
    """The axes in a tree of them, each under its name, in the order of `leaves`."""
    if isinstance(tree, dict | list):
        for step, branch in sorted(tree.items()) if isinstance(tree, dict) else enumerate(tree):
            yield from _in_order(branch, f"{name}.{step}" if name else str(step))
    else:
        yield name, tree


def _meaning(case: Case, index: int, arguments: Arguments) -> Array | None:
    """Where a result that is "kept" means something: not at pads. None: everywhere."""
    mask, outputs = arguments.get("attention_mask"), case.contract.outputs
    item = outputs[min(index, len(outputs) - 1)]  # the last may stand for several pairs
    if mask is None or item.axes is None or "kept" not in item.kinds:
        return None
    at = item.axes.index("T" if "T" in item.axes else "S")
    kept = (mask != 0)[:, -case.sizes[item.axes[at]] :]
    return np.expand_dims(kept, [axis for axis in range(len(item.axes)) if axis not in (0, at)])


def as_float64(tree: Any) -> Any:
    """A tree of arrays and options with its floats in float64."""
    if isinstance(tree, dict):
        return {key: as_float64(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(as_float64(value) for value in tree)
    if isinstance(tree, np.ndarray) and tree.dtype.kind not in "iub":
        return tree.astype(np.float64)
    return tree


def leaves(tree: Any, dtype: np.dtype) -> Iterator[Array]:
    """The arrays of a nested result, in order, those of a dict by name; a plain number becomes an array of dtype."""
    if isinstance(tree, list | tuple | dict):
        for branch in (tree[name] for name in sorted(tree)) if isinstance(tree, dict) else tree:
            yield from leaves(branch, dtype)
    else:
        is_plain = isinstance(tree, float) and not isinstance(tree, np.floating)
        yield np.asarray(tree, dtype) if is_plain else tree
