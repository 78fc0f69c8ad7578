"""One function of somebody's own in place of one of the mirror's."""

import contextlib
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends import numpy_dtype
from gpt2.errors import GPT2Error
from parity.cases.contracts import Contract, contracts
from parity.cases.supports import ARGUMENTS, FIXED, OPTIONS, Supports
from parity.ports.frameworks import Framework, measured_accuracy
from parity.ports.source import PortSource, parameters_of


def leaves(tree: Any) -> Iterator[Any]:
    """What a tree of results holds."""
    if isinstance(tree, dict | list | tuple):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(branch)
    else:
        yield tree


class Port:
    """What ports of one function and of whole models have in common: framework, dtype, and what they support."""

    mode = "eager"
    sources: Any = None  # no files with the reference's names
    trainer: Any = None  # the judge gives it no dropout masks

    def __init__(self, source: PortSource, framework: Framework, dtype: str, supports: Supports, file: Path) -> None:
        self.name, self.device, self.dtype = f"port:{source}", framework.device, dtype
        self.supports, self.file = supports, file
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8] if file.is_file() else "unknown"
        self.version = f"{framework.version}, file {digest}"
        self.framework = framework
        self.accuracy: Mapping[str, float] = _accuracy(framework, file)

    def to_framework(self, tree: Any) -> Any:
        """A tree of arrays as one of tensors, floats in the port's dtype; what is no array stays what it is."""
        if isinstance(tree, dict):
            return {name: self.to_framework(x) for name, x in tree.items()}
        if isinstance(tree, list | tuple):
            return type(tree)(self.to_framework(x) for x in tree)
        if not isinstance(tree, np.ndarray):
            return tree
        return self.framework.tensor(tree if tree.dtype.kind in "iub" else tree.astype(numpy_dtype(self.dtype)))

    def to_numpy(self, tree: Any) -> Any:
        """A tree of tensors as one of arrays."""
        if isinstance(tree, dict):
            return {name: self.to_numpy(x) for name, x in tree.items()}
        if isinstance(tree, list | tuple):
            return type(tree)(self.to_numpy(x) for x in tree)
        return self.framework.array(tree)

    def run(self, target: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the port. What it prints goes to standard error, and it does not end the process."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return target(*arguments, **named)
        except SystemExit as error:
            raise RuntimeError(f"the port calls sys.exit({error.code!r})") from error

    def require(self, arguments: Mapping[str, Any]) -> None:
        """Raise NotImplementedError, naming it, for what the port does not support."""
        refusal = self.supports.refusal(arguments)
        if refusal:
            raise NotImplementedError(refusal)


def _accuracy(framework: Framework, file: Path) -> Mapping[str, float]:
    """Largest relative error of the framework's elementary functions: known, or measured here and now.

    That of tanh, in MindSpore much less accurate than others, counts if the port's file calls it.
    """
    known = getattr(framework, "accuracy", None)
    if not known:
        return measured_accuracy(framework)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    called = re.search(r"\btanh\(|\bTanh\(", text)
    return {**known, "tanh": measured_accuracy(framework)["tanh"]} if called else known


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
        self._target = target
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
            returned = self.run(self._target, *(given.get(ours) for ours in list(self._given)[: last + 1]))
        else:
            passed = dict.fromkeys(self._needed) | given  # None for what is absent
            returned = self.run(self._target, **{self._given[ours]: x for ours, x in passed.items()})
        return self._results(self.to_numpy(returned))

    def _results(self, returned: Any) -> Any:
        """The results without those that are None. Raises TypeError, in the contract's words, for what is no array."""
        if isinstance(returned, list | tuple):
            returned = type(returned)(x for x in returned if x is not None)
        for x in leaves(returned):
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
