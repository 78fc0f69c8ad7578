"""A part of a long search, for one of several machines: the parts together have the cases of the whole, each once."""

import re
from collections.abc import Mapping, Sequence

import msgspec

from gpt2.errors import GPT2Error
from parity.check import Rule

_TEXT = re.compile(r"(\d{1,6})/(\d{1,6})")


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of how many.

    names: what was asked for, as in FUNCTIONS; functions: the rules of all parts, in order.
    """

    number: int
    count: int
    names: tuple[str, ...]
    functions: tuple[str, ...]

    @classmethod
    def of(cls, text: str, rules: Mapping[str, Rule], names: Sequence[str] = ()) -> "Shard":
        """The part that "2/8" stands for. Raises GPT2Error unless there is one, with a rule in it."""
        found = _TEXT.fullmatch(text)
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count:
            raise GPT2Error(f"--shard is a part of how many, from 1/8 to 8/8, but is {text!r}")
        if count > len(rules):
            raise GPT2Error(
                f"--shard {text}: there are only {len(rules)} rules to share out: use no more parts than that"
            )
        return cls(number, count, tuple(names), tuple(rules))

    @property
    def words(self) -> str:
        """The part in words."""
        return f"shard {self.number} of {self.count}"

    def part(self, rules: Mapping[str, Rule]) -> dict[str, Rule]:
        """Its rules, in their order. They are dealt out from the longest to the shortest, so that parts are alike."""
        mine = {rule.name for rule in longest_first(rules)[self.number - 1 :: self.count]}
        return {name: rule for name, rule in rules.items() if name in mine}


def longest_first(rules: Mapping[str, Rule]) -> list[Rule]:
    """The rules in the order of what they cost: what trains or is compiled, what generates, then the others."""
    return sorted(rules.values(), key=lambda rule: (not (rule.trains or rule.compiled), not rule.generates))
