"""Parameters that ask for a gradient and got none: a bias that was dropped, or a result that was cut off."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

from parity.recorded.recording import Call, RecordedRun, RecordedTensor, Statistics, tensors
from parity.recorded.runs.names import common_parameter
from reference.config import GPT2Config, parameter_shapes

GPT2S = {*parameter_shapes(GPT2Config(n_layer=1)), "lm_head.weight"}
Key = tuple[int, Statistics]


@dataclasses.dataclass(frozen=True)
class MissingGradient:
    """A parameter without its gradient. name: Hugging Face's. call: of the module that has it.

    is_reached: whether a gradient reached the module, which then left the parameter out; if not, `around`, the call
    that this one is part of, cut its result off. None: that one was not recorded.
    """

    name: str
    call: Call
    is_reached: bool = True
    around: Call | None = None

    @property
    def blamed(self) -> Call:
        """The call that lost the gradient."""
        return self.call if self.is_reached or self.around is None else self.around


def missing_gradients(run: RecordedRun) -> list[MissingGradient]:
    """The parameters of a GPT-2 that require a gradient and have none, in the order in which the backward pass ran.

    Not one that is frozen, tied to another that has a gradient, or of a module whose result nothing uses that a
    gradient came back from, or only by way of another that is cut off. PyTorch's dumps say what requires a gradient;
    MindSpore computes what it was asked for, zeros where no gradient came.
    """
    if not run.parameter_gradients:
        return []
    return list(_Search(run).missing())


class _Search:
    def __init__(self, run: RecordedRun) -> None:
        self._run = run
        self._forward = [call for call in run.calls if not call.is_backward]
        self._by_name = {call.name: call for call in self._forward}
        self._back = {call.name.replace(".backward", ".forward") for call in run.calls if call.is_backward}
        self._users: dict[Key, list[int]] = collections.defaultdict(list)
        for place, call in enumerate(self._forward):
            for x in tensors((call.arguments, call.keywords)):
                self._users[_key(x)].append(place)
        self._cut: set[Key] = set()
        self._around_cut: set[str] = set()
        self._tied = {
            _key(x)
            for call in self._forward
            for name, x in call.parameters.items()
            if len(x.shape) > 1 and f"{call.path}.{name}" in run.parameter_gradients
        }

    def missing(self) -> Iterator[MissingGradient]:
        calls: dict[str, list[int]] = collections.defaultdict(list)
        for place, call in enumerate(self._forward):
            if call.is_module and call.parameters:
                calls[call.path].append(place)
        for path, places in reversed(calls.items()):
            call = self._forward[places[-1]]
            is_reached = any(self._forward[place].name in self._back for place in places)
            names = [name for name, x in call.parameters.items() if self._has_none(path, name, x, is_reached)]
            if names and (is_reached or any(self._is_cut_off(place) for place in places)):
                around = self._by_name.get(call.parent)
                yield from (MissingGradient(common_parameter(path, name), call, is_reached, around) for name in names)

    def _has_none(self, path: str, name: str, parameter: RecordedTensor, is_reached: bool) -> bool:
        recorded = self._run.parameter_gradients.get(f"{path}.{name}")
        is_missing = parameter.requires_grad if recorded is None else not is_reached and recorded.statistics.norm == 0
        is_tied = recorded is None and _key(parameter) in self._tied
        return is_missing and not is_tied and _is_gpt2s(common_parameter(path, name))

    def _is_cut_off(self, place: int) -> bool:
        """Whether the result requires a gradient, and what was made of it, step by step, got one."""
        call = self._forward[place]
        results = list(tensors(call.results))
        requires_grad = any(x.requires_grad for x in results) or self._run.framework == "mindspore"
        if not requires_grad or not self._reaches_loss(place, results):
            return False
        self._cut |= {_key(x) for x in results}
        while call.parent in self._by_name and call.parent not in self._around_cut:
            self._around_cut.add(call.parent)
            call = self._by_name[call.parent]
        return True

    def _reaches_loss(self, place: int, results: Sequence[RecordedTensor]) -> bool:
        waiting, seen = [(place, x) for x in results], {place}
        while waiting:
            since, x = waiting.pop()
            known = x.statistics.norm is not None or x.statistics.md5 is not None
            for user in self._users[_key(x)] if known else ():
                call = self._forward[user]
                made = list(tensors(call.results))
                if user > since and user not in seen and not self._is_within_cut(call, made):
                    seen.add(user)
                    if call.name in self._back:
                        return True
                    waiting += ((user, y) for y in made)
        return False

    def _is_within_cut(self, call: Call, results: Sequence[RecordedTensor]) -> bool:
        """Whether a call makes a result that is known to be cut off, or holds the module that does."""
        return call.name in self._around_cut or any(_key(x) in self._cut for x in results)


def _key(x: RecordedTensor) -> Key:
    return math.prod(x.shape), x.statistics


def _is_gpt2s(name: str) -> bool:
    plain = re.sub(r"^h\.\d+\.", "h.0.", name)
    return re.sub(r"\.attn\.[qkv]\.", ".attn.c_attn.", plain) in GPT2S
