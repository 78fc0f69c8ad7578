"""What is expected of one recorded result: the reference on the recorded arguments, a part of the numbers at a time."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parity.cases.cases import Case
from parity.cases.contracts import Contract, contracts
from parity.recorded.recording import RecordedTensor
from parity.verdict import orbit
from parity.verdict.trial import OrbitRuns, ReferenceRuns
from parity.verdict.verdict import Reference, Verdict, identical, refused
from reference.stages import observing

Array = NDArray[Any]
Shuffle = Callable[[int], Any]
# Numbers that are judged at once: the oracle, and the dozen arrays of its size that a verdict needs, stay small.
MOST_AT_ONCE = 2**22
MANY = 2**16  # of so many numbers, the largest error of one run is no chance: for these a first look takes one member
SAME = Case(Contract("tensor", (), ()), {}, {}, frozenset(), "none", "recorded", seed=0)


class Runs(Protocol):
    """The reference's runs on one input; see trial.ReferenceRuns."""

    def references(self, most: int) -> list[Reference]:
        """The reference of every array, with orbits of at most `most` members."""
        ...


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What is expected of one result. judge: the verdict on its numbers, which have `shape`. name: the parameter's."""

    shape: tuple[int, ...]
    judge: Callable[[Array], Verdict]
    name: str = ""

    def verdict(self, recorded: RecordedTensor) -> Verdict:
        """The verdict on a recorded result."""
        if recorded.shape != self.shape:
            return dataclasses.replace(refused(f"shape {recorded.shape}, expected {self.shape}"), name=self.name)
        return dataclasses.replace(self.judge(recorded.numbers()), name=self.name)


class References:
    """The reference on recorded arguments, with the accuracy of elementary functions; remembers its verdicts.

    framework: the one that was recorded, "pytorch", "mindspore" or "".
    """

    def __init__(self, accuracy: Mapping[str, float], framework: str = "") -> None:
        self.accuracy, self.framework = accuracy, framework
        self._verdicts: dict[bytes, Verdict] = {}
        self._last: tuple[bytes, Runs] | None = None

    def verdict(self, function: str, arguments: dict[str, Any], dtype: np.dtype, which: int, value: Array) -> Verdict:
        """The verdict on one result of a function of the reference, whose arguments have the axes of its contract.

        A module repeats the call of its one operator: the same numbers get the same verdict, without computing again.
        """
        key = hashlib.blake2b(f"{function} {dtype} {which}".encode())
        _digest({"value": value} | arguments, key)
        if key.digest() not in self._verdicts:
            found = decided(self.runs(function, arguments, dtype), which, value, value.dtype)
            self._verdicts[key.digest()] = found
        return self._verdicts[key.digest()]

    def runs(self, function: str, arguments: dict[str, Any], dtype: np.dtype) -> Runs:
        """The runs of a function on these arguments; those of the last arguments are kept, for its next result."""
        key = hashlib.blake2b(f"{function} {dtype}".encode())
        _digest(arguments, key)
        if self._last is None or self._last[0] != key.digest():
            self._last = None  # before the next are computed
            with np.errstate(all="ignore"):
                runs = ReferenceRuns(case_of(function, arguments), dtype, self.accuracy, arguments)
            self._last = key.digest(), runs
        return self._last[1]


def case_of(function: str, arguments: dict[str, Any]) -> Case:
    """The case of recorded arguments: sizes from their shapes, options from the arguments themselves.

    Raises ValueError if two arguments give one axis two sizes, or have another number of axes than the contract.
    """
    contract, sizes = contracts()[function], dict[str, int]()
    for item in contract.inputs:
        if item.axes is None or item.name not in arguments or "pair" in item.kinds or "pairs" in item.kinds:
            continue
        shape = np.shape(arguments[item.name])
        if len(shape) != len(item.axes):
            raise ValueError(f"{item.name} has {len(shape)} axes, not {len(item.axes)}")
        for letter, size in zip(item.axes, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"{item.name} has shape {shape}, which does not fit the other arguments")
    scalars = {name: arguments[name] for name in contract.scalars if name in arguments}
    absent = frozenset(item.name for item in contract.inputs if item.name not in arguments)
    return Case(contract, _config_sizes(scalars) | sizes, scalars, absent, "none", "recorded", seed=0)


def _config_sizes(scalars: dict[str, Any]) -> dict[str, int]:
    config = scalars.get("config")
    if config is None:
        return {}
    return {
        "C": config.n_embd, "H": config.n_head, "D": config.head_size, "I": config.inner_size,
        "V": config.vocab_size, "L": config.n_positions, "K": config.num_labels,
    }  # fmt: skip


def _digest(tree: Any, key: Any) -> None:
    """Add a tree of arguments to a hash."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            key.update(name.encode())
            _digest(value, key)
    elif isinstance(tree, np.ndarray):
        key.update(f"{tree.dtype} {tree.shape}".encode())
        turned = tree.T if tree.flags.f_contiguous and not tree.flags.c_contiguous else tree
        key.update(f"{turned is tree}".encode())
        key.update(np.ascontiguousarray(turned).reshape(-1).view(np.uint8).data)
    else:
        key.update(repr(tree).encode())


class OperationRuns(OrbitRuns):
    """The runs of a tensor operation that the reference does not have.

    function(shuffle, *arrays) returns a list of arrays; what it sums up it puts in the order shuffle(count) first.
    Floats are computed in float32 at least and rounded once, to the dtypes of the results.
    """

    def __init__(
        self, function: Callable[..., list[Any]], arguments: Iterable[Any], dtypes: list[np.dtype], accuracy: Mapping
    ) -> None:
        self._function, self._arguments, self._dtypes, self._accuracy = function, list(arguments), dtypes, accuracy
        with np.errstate(all="ignore"):
            super().__init__([np.asarray(x) for x in function(slice, *(_as(x, np.float64) for x in self._arguments))])

    def references(self, most: int) -> list[Reference]:
        """The reference of every array, with orbits of at most `most` members."""
        return [Reference(oracle, runs) for oracle, runs in zip(self._oracle, self.runs(most), strict=True)]

    def member(self, member: int) -> list[Array]:
        """The operation's results, its sums in another order for every member but the first."""
        random = np.random.default_rng([0, member])
        shuffle: Any = random.permutation if member else slice
        wide = np.result_type(np.float32, *(dtype for dtype in self._dtypes if dtype.itemsize > 4))
        move = orbit.inexact(self._accuracy, SAME, member)
        with observing(move):
            found = self._function(shuffle, *(_as(x, wide) for x in self._arguments))
            stages = ["rounding" if dtype.itemsize > 2 else f"rounding.{dtype.name}" for dtype in self._dtypes]
            return [
                np.asarray(move(stage, np.asarray(x)).astype(dtype))
                for x, dtype, stage in zip(found, self._dtypes, stages, strict=True)
            ]


def _as(x: Any, dtype: Any) -> Any:
    is_floats = isinstance(x, np.ndarray) and x.dtype.kind not in "iub"
    return x.astype(dtype) if is_floats else x


def decided(runs: Runs, which: int, value: Array, dtype: np.dtype) -> Verdict:
    """The verdict on one array, by as few members of the orbit as settle it; see trial.decide.

    A result in another dtype than the reference's, as of a product that ran in 16 bits and was cast, is compared in
    its own.
    """
    verdict = refused("not judged")
    first = (1,) if value.size >= MANY else ()
    for most in (*first, orbit.FEWEST, orbit.MEMBERS, orbit.SAMPLES):
        with np.errstate(all="ignore"):
            known = runs.references(most)[which]
            if known.orbit[0].dtype != dtype:
                known = dataclasses.replace(known, orbit=[x.astype(dtype) for x in known.orbit])
            verdict = known.judge(value)
        if (verdict.agrees and (most > orbit.FEWEST or verdict.severity <= 1 / 2)) or verdict.reason:
            return verdict
        if verdict.is_plain and most > orbit.FEWEST:
            return verdict
    return verdict


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that is nearest to its limit or farthest beyond it."""
    return max(verdicts, key=lambda verdict: (not verdict.agrees, verdict.severity))


def moved(verdict: Verdict, offset: tuple[int, ...], part: tuple[int, ...], shape: tuple[int, ...]) -> Verdict:
    """A verdict on a part of a flattened array, with the index that its element has in the whole one, of that shape.

    offset: where the part begins in the array of shape `part`, that the whole one was made to have.
    """
    if len(verdict.index) != len(part) or math.prod(part) != math.prod(shape):
        return verdict
    place = tuple(i + start for i, start in zip(verdict.index, offset, strict=True))
    flat = int(np.ravel_multi_index(place, part)) if part else 0
    return dataclasses.replace(verdict, index=tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ())


def parts(count: int, each: int) -> Iterator[slice]:
    """Slices of an axis of that many entries, of each of which `each` numbers are computed."""
    step = max(1, MOST_AT_ONCE // max(each, 1))
    for start in range(0, max(count, 1), step):
        yield slice(start, min(start + step, count))


def exactly(expected: Array, name: str = "") -> Expectation:
    """The expectation of these numbers, bit for bit."""

    def judge(value: Array) -> Verdict:
        if expected.dtype != value.dtype and value.dtype.kind in "iub" and expected.dtype.kind in "iub":
            return identical(value, expected.astype(value.dtype))  # frameworks count in int32 or int64
        return identical(value, expected)

    return Expectation(expected.shape, judge, name)


def by_operation(
    function: Callable[..., list[Any]],
    arguments: list[Any],
    shapes: list[tuple[int, ...]],
    dtypes: list[np.dtype],
    accuracy: Mapping[str, float],
) -> list[Expectation]:
    """What is expected of each result of a tensor operation."""
    made: list[OperationRuns] = []

    def runs() -> Runs:
        if not made:
            made.append(OperationRuns(function, arguments, dtypes, accuracy))
        return made[0]

    def expectation(which: int) -> Expectation:
        return Expectation(shapes[which], lambda value: decided(runs(), which, value, value.dtype))

    return [expectation(which) for which in range(len(shapes))]


def elementwise(
    function: Callable[..., Any],
    arguments: list[Any],
    shape: tuple[int, ...],
    accuracy: Mapping[str, float],
) -> Expectation:
    """What is expected of a function of each element: function(*arrays), whose arrays broadcast to that shape."""
    spread = [np.broadcast_to(x, shape) if isinstance(x, np.ndarray) else x for x in arguments]

    def judge(value: Array) -> Verdict:
        if not shape:
            runs = OperationRuns(lambda _, *xs: [function(*xs)], arguments, [value.dtype], accuracy)
            return decided(runs, 0, value, value.dtype)
        axis = int(np.argmax(shape))
        found = []
        for part in parts(shape[axis], value.size // max(shape[axis], 1)):
            at = (slice(None),) * axis + (part,)
            some = [x[at] if isinstance(x, np.ndarray) else x for x in spread]
            runs = OperationRuns(lambda _, *xs: [function(*xs)], some, [value.dtype], accuracy)
            offset = tuple(part.start if i == axis else 0 for i in range(len(shape)))
            found.append(moved(decided(runs, 0, value[at], value.dtype), offset, shape, shape))
        return worst(found)

    return Expectation(shape, judge)
