"""What ports of one function and of whole models have in common."""

import contextlib
import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends import numpy_dtype
from parity.cases.supports import Supports
from parity.ports.frameworks import Framework, measured_accuracy
from parity.ports.source import PortSource
from parity.verdict.orbit import BY_SIGMOID


class Port:
    """A backend made of somebody's code: its framework and dtype, the file it is in, and what it supports."""

    mode = "eager"
    sources: Any = None  # no files with the reference's names
    trainer: Any = None  # the judge gives it no dropout masks
    entry: Any  # what is called: the function, or that which builds the model
    may_remember: bool = True  # it is called with other numbers before it is judged

    def __init__(self, source: PortSource, framework: Framework, dtype: str, supports: Supports, file: Path) -> None:
        self.name, self.device, self.dtype = f"port:{source}", framework.device, dtype
        self.source = source
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
        if isinstance(tree, list | tuple):  # a tuple of the framework's own kind too
            return tuple(self.to_numpy(x) for x in tree)
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

    That of tanh, in MindSpore much less accurate than others, counts if the port's file calls it; that of sigmoid
    counts as tanh's too if the file calls that: x sigmoid(2u) is a GELU as well.
    """
    known = getattr(framework, "accuracy", None)
    if not known:
        return measured_accuracy(framework)
    text = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    called = {name for name in ("tanh", "sigmoid") if re.search(rf"\b({name}|{name.title()})\(", text)}
    tanh = {"tanh": measured_accuracy(framework)["tanh"]} if "tanh" in called else {}
    return {**known, **tanh} | ({BY_SIGMOID: known["sigmoid"]} if "sigmoid" in called else {})
