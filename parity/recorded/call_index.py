"""The calls of a run by name, by module path and by the module call that they are part of."""

import collections
import math
from collections.abc import Iterator

from parity.recorded.recording import Call, RecordedRun, RecordedTensor, Statistics, tensors

FORWARD, BACKWARD = ".forward", ".backward"


class CallIndex:
    """Finds the forward call of a backward call, a module's submodules, and what ran within a call."""

    def __init__(self, run: RecordedRun) -> None:
        forward = [call for call in run.calls if not call.is_backward]
        self.framework = run.framework
        self._by_name = {call.name: call for call in forward}
        self._by_place = {(call.path, call.operator, call.number): call for call in forward}
        self._modules = {(call.path, call.number): call for call in forward if call.is_module}
        self._within: dict[str, list[Call]] = collections.defaultdict(list)
        for call in forward:
            if call.parent:
                self._within[call.parent].append(call)
        self._users: dict[tuple[int, Statistics], list[str]] = collections.defaultdict(list)
        for call in forward:
            for x in tensors((call.arguments, call.keywords)) if not call.is_module else ():
                self._users[math.prod(x.shape), x.statistics].append(call.parent)
        self._count = collections.Counter(call.path for call in forward if call.is_module)

    def forward_of(self, call: Call) -> Call | None:
        """The forward call that a backward call belongs to, if it is recorded."""
        by_place = self._by_place.get((call.path, call.operator, call.number))
        return self._by_name.get(call.name.replace(BACKWARD, FORWARD), by_place)

    def submodule(self, call: Call, name: str) -> Call | None:
        """The call of a module's submodule that belongs to this call of the module."""
        return self._modules.get((f"{call.path}.{name}", call.number))

    def within(self, call: Call) -> list[Call]:
        """The calls that are part of this one directly, in order."""
        return self._within.get(call.name, [])

    def all_within(self, call: Call, depth: int = 0) -> Iterator[Call]:
        """The calls that are part of this one, and those that are part of these."""
        for inner in self.within(call) if depth < 50 else ():
            yield inner
            yield from self.all_within(inner, depth + 1)

    def is_used_beside(self, parameter: RecordedTensor, modules: set[str]) -> bool:
        """Whether an operator that is not part of these module calls takes the same numbers, as statistics tell."""
        known = parameter.statistics.norm is not None or parameter.statistics.md5 is not None
        users = self._users.get((math.prod(parameter.shape), parameter.statistics), [])
        return known and any(parent not in modules for parent in users)

    def count(self, path: str) -> int:
        """How often a module was called."""
        return self._count[path]

    def modules(self) -> Iterator[Call]:
        """The forward calls of modules."""
        yield from self._modules.values()
