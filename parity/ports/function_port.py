"""One function of somebody's own in place of one of the mirror's."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends import numpy_dtype
from gpt2.errors import GPT2Error
from parity.cases.contracts import Contract, contracts
from parity.cases.supports import ARGUMENTS, FIXED, OPTIONS, Supports
from parity.ports.base import Port
from parity.ports.frameworks import Framework
from parity.ports.source import PortSource, parameters_of
from parity.verdict.trial import leaves


class FunctionPort(Port):
    """A backend that has one function, and nothing else.

    Arguments are given by name where the port's parameters have the reference's names, or those that `names` gives
    them, else by position; what the port has no parameter for is not drawn. Raises GPT2Error if it lacks one that
    cannot be left out.
    """

    def __init__(
        self,
        source: PortSource,
        target: Callable[..., Any],
        framework: Framework,
        dtype: str,
        supports: Supports,
        file: Path,
    ) -> None:
        self.contract: Contract = contracts()[source.function]
        self.entry = target
        self._needed: list[str] = []  # our names of parameters without a default
        self._by_position, self._given = self._match(target, dict(source.names), source.place)
        super().__init__(source, framework, dtype, supports.also(self._without_parameters()), file)

    def offers(self, function: str) -> bool:
        """Whether it is that function."""
        return function == self.contract.function

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run the port. Raises NotImplementedError for another function, or for arguments it does not support."""
        if function != self.contract.function:
            raise NotImplementedError(function)
        self.require(arguments)
        given = {ours: self._passed(arguments[ours]) for ours in self._given if ours in arguments}
        if self._by_position:
            last = max(i for i, ours in enumerate(self._given) if ours in given or ours in self._needed)
            returned = self.run(self.entry, *(given.get(ours) for ours in list(self._given)[: last + 1]))
        else:
            passed = dict.fromkeys(self._needed) | given  # None for what is absent
            returned = self.run(self.entry, **{self._given[ours]: x for ours, x in passed.items()})
        return self._results(self.to_numpy(returned))

    def _results(self, returned: Any) -> Any:
        """The results without those that are None. Raises TypeError, in the contract's words, for what is no array."""
        if isinstance(returned, list | tuple):
            returned = tuple(x for x in returned if x is not None)
        found: list[Any] = list(leaves(returned, numpy_dtype(self.dtype)))
        for x in found:
            if not isinstance(x, np.ndarray | np.generic | int | float | bool):
                promise = self.contract.promise
                raise TypeError(f"returned something of type {type(x).__name__}; the contract is {promise}")
        return returned

    def model(self, config: Any, parameters: Any) -> Any:
        """Raises NotImplementedError: it is one function."""
        raise NotImplementedError("a whole model")

    def _passed(self, value: Any) -> Any:
        is_dtype = isinstance(value, np.dtype)
        return self.framework.dtype(value) if is_dtype else self.to_framework(value)

    def _match(self, target: Callable[..., Any], names: Mapping[str, str], place: str) -> tuple[bool, dict[str, str]]:
        """Whether arguments go by position, and the port's name for each of ours that it takes, in our order."""
        ours = list(inspect.signature(self.contract.target).parameters)
        known = parameters_of(target)
        kinds = {each.name: each for each in known or ()}
        takes_any = any(each.kind is each.VAR_KEYWORD for each in kinds.values())
        absent = [theirs for theirs in names.values() if known is not None and theirs not in kinds and not takes_any]
        if absent:
            raise GPT2Error(f"{place} has no parameter {absent[0]!r}: it has {', '.join(kinds) or 'none'}")
        unknown = set(names) - set(ours)
        if unknown:
            raise GPT2Error(
                f"{self.contract.function} has no argument {min(unknown)!r} to be called {names[min(unknown)]!r}: "
                f"it has {', '.join(ours)}"
            )
        theirs = [each for each in kinds.values() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        named = {name: names.get(name, name) for name in ours}
        required = [each.name for each in theirs if each.default is each.empty]
        only_positional = any(each.kind is each.POSITIONAL_ONLY for each in theirs)
        if kinds and not only_positional and set(required) <= set(named.values()):
            taken = {name: other for name, other in named.items() if takes_any or other in kinds}
            if taken or not any(each.kind is each.VAR_POSITIONAL for each in kinds.values()):
                self._require_needed(taken, place)
                self._needed = [name for name, other in taken.items() if other in required]
                return False, taken
        by_name_alone = [each.name for each in theirs if each.kind is each.KEYWORD_ONLY and each.name in required]
        if by_name_alone or names:
            strange = [name for name in required if name not in named.values()]
            theirs_alone = (strange or by_name_alone)[0]
            raise GPT2Error(
                f"{place} has a parameter {theirs_alone!r}, which {self.contract.function} does not have: say which of "
                f"{', '.join(ours)} it is: --map OURS={theirs_alone}"
            )
        takes_all = known is None or any(each.kind is each.VAR_POSITIONAL for each in kinds.values())
        count = len(ours) if takes_all else len(theirs)
        if len(required) > len(ours):
            raise GPT2Error(
                f"{place} needs {len(required)} arguments ({', '.join(required)}); {self.contract.function} has "
                f"{len(ours)}: {', '.join(ours)}"
            )
        taken = {name: name for name in ours[:count]}
        self._require_needed(taken, place)
        self._needed = ours[: len(required)]
        return True, taken

    def _require_needed(self, taken: Mapping[str, str], place: str) -> None:
        for name, parameter in inspect.signature(self.contract.target).parameters.items():
            needed = parameter.default is parameter.empty and name not in FIXED and name != "config"
            if needed and name not in taken:
                raise GPT2Error(
                    f"{place} takes no {name!r}, which {self.contract.function} needs: name its parameter so, or say "
                    f"what it is called: --map {name}=THEIR_NAME"
                )

    def _without_parameters(self) -> Supports:
        """What follows from the parameters that the port does not have."""
        ours = list(inspect.signature(self.contract.target).parameters)
        missing = [name for name in ours if name not in self._given]
        declared: dict[str, Any] = {ARGUMENTS.get(name, name): False for name in missing if name in ARGUMENTS | FIXED}
        if "config" in missing:
            declared |= dict.fromkeys(OPTIONS, False)
        return Supports.read(declared)
