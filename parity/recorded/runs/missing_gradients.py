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

    around: the call that was given this call's result and no gradient for it: it is to blame; None: a gradient reached
    the module, which left the parameter out.
    """

    name: str
    call: Call
    around: Call | None = None

    @property
    def blamed(self) -> Call:
        """The call that lost the gradient."""
        return self.around or self.call


def missing_gradients(run: RecordedRun) -> list[MissingGradient]:
    """The parameters of a GPT-2 that require a gradient and have none, in the order in which the backward pass ran.

    Not one that is frozen, tied to another that has a gradient, or of a module whose result nothing uses that a
    gradient came back from. Only PyTorch's dumps say what requires a gradient.
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
            names = [name for name, x in call.parameters.items() if self._has_none(path, name, x)]
            is_reached = any(self._forward[place].name in self._back for place in places)
            if names and (is_reached or any(map(self._is_cut_off, places))):
                around = None if is_reached else self._by_name.get(call.parent)
                yield from (MissingGradient(common_parameter(path, name), call, around) for name in names)

    def _has_none(self, path: str, name: str, parameter: RecordedTensor) -> bool:
        whole = f"{path}.{name}"
        return (
            parameter.requires_grad
            and whole not in self._run.parameter_gradients
            and _key(parameter) not in self._tied
            and _is_gpt2s(common_parameter(path, name))
        )

    def _is_cut_off(self, place: int) -> bool:
        """Whether the result requires a gradient, and what was made of it, step by step, got one."""
        results = list(tensors(self._forward[place].results))
        return any(x.requires_grad for x in results) and self._reaches_loss(place, results)

    def _reaches_loss(self, place: int, results: Sequence[RecordedTensor]) -> bool:
        waiting, seen = [(place, x) for x in results], {place}
        while waiting:
            since, x = waiting.pop()
            known = x.statistics.norm is not None or x.statistics.md5 is not None
            for user in self._users[_key(x)] if known else ():
                if user > since and user not in seen:
                    seen.add(user)
                    if self._forward[user].name in self._back:
                        return True
                    waiting += ((user, y) for y in tensors(self._forward[user].results))
        return False


def _key(x: RecordedTensor) -> Key:
    return math.prod(x.shape), x.statistics


def _is_gpt2s(name: str) -> bool:
    plain = re.sub(r"^h\.\d+\.", "h.0.", name)
    return re.sub(r"\.attn\.[qkv]\.", ".attn.c_attn.", plain) in GPT2S
