"""One function of somebody's own in place of one of the mirror's."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends import numpy_dtype
from gpt2.errors import GPT2Error
from parity.cases.contracts import Contract, contracts
from parity.cases.supports import ARGUMENTS, FIXED, OPTIONS, Supports
from parity.ports.frameworks import Framework, measured_accuracy
from parity.ports.source import PortSource, parameter_names


class Port:
    """What ports of one function and of whole models have in common: framework, dtype, and what they support."""

    mode = "eager"
    sources: Any = None  # no files with the reference's names
    trainer: Any = None  # the judge gives it no dropout masks

    def __init__(self, source: PortSource, framework: Framework, dtype: str, supports: Supports, file: Path) -> None:
        self.name, self.device, self.dtype = f"port:{source}", framework.device, dtype
        self.version, self.supports, self.file = framework.version, supports, file
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
            last = max(i for i, ours in enumerate(self._given) if ours in given)
            returned = self._target(*(given.get(ours) for ours in list(self._given)[: last + 1]))
        else:
            returned = self._target(**{self._given[ours]: x for ours, x in given.items()})
        return self.to_numpy(returned)

    def model(self, config: Any, parameters: Any) -> Any:
        """Raises NotImplementedError: it is one function."""
        raise NotImplementedError("a whole model")

    def _passed(self, value: Any) -> Any:
        is_dtype = isinstance(value, np.dtype)
        return self.framework.dtype(value) if is_dtype else self.to_framework(value)

    def _match(self, target: Callable[..., Any], names: Mapping[str, str], place: str) -> tuple[bool, dict[str, str]]:
        """Whether arguments go by position, and the port's name for each of ours that it takes, in our order."""
        ours = list(inspect.signature(self.contract.target).parameters)
        unknown = set(names) - set(ours)
        if unknown:
            raise GPT2Error(
                f"{self.contract.function} has no argument {min(unknown)!r} to be called {names[min(unknown)]!r}: "
                f"it has {', '.join(ours)}"
            )
        kinds = {each.name: each for each in parameter_names(target)}
        takes_any = any(each.kind is each.VAR_KEYWORD for each in kinds.values())
        theirs = [each for each in kinds.values() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        named = {name: names.get(name, name) for name in ours}
        required = [each.name for each in theirs if each.default is each.empty]
        only_positional = any(each.kind is each.POSITIONAL_ONLY for each in theirs)
        if kinds and not only_positional and set(required) <= set(named.values()):
            taken = {name: other for name, other in named.items() if takes_any or other in kinds}
            self._require_needed(taken, place)
            return False, taken
        count = len(theirs) or len(ours)
        if len(required) > len(ours):
            raise GPT2Error(
                f"{place} needs {len(required)} arguments ({', '.join(required)}); {self.contract.function} has "
                f"{len(ours)}: {', '.join(ours)}"
            )
        taken = {name: name for name in ours[:count]}
        self._require_needed(taken, place)
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
