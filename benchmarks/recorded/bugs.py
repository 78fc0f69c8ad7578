"""A planted bug of a recorded run: lines of a model's source that are replaced, or weights that are loaded wrongly."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Change:
    """Replace `old`, wherever it occurs in a function or class at the top of the file, by `new`. scope "": anywhere."""

    scope: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True)
class Bug:
    """One bug in one model.

    where: the modules that were changed, "h.*.attn", "" for the model around the blocks and what is outside of all
    modules. stages: what the first wrong stages are, if it is the order of the stages, not one of them, that was
    changed. changes: to the source, and `prelude`, which is put before its first class. load: a wrong way to load, of
    LOADS. new: written for this campaign, before any of it was judged; the others tell stories of parity/mutants.
    needs: fields of the configuration, or of the run, without which the bug does not show.
    """

    name: str
    model: str
    where: tuple[str, ...]
    stages: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    prelude: str = ""
    load: str = ""
    new: bool = False
    needs: tuple[tuple[str, object], ...] = ()

    def edit(self, text: str, before: str) -> str:
        """The source with the bug; the prelude comes before the line `before`.

        Raises ValueError if a change does not fit.
        """
        for change in self.changes:
            start, end = _span(text, change.scope)
            if change.old not in text[start:end]:
                raise ValueError(f"{self.name}: no {change.old!r} in {change.scope or 'the file'}")
            text = text[:start] + text[start:end].replace(change.old, change.new) + text[end:]
        return text.replace(before, f"{self.prelude}\n\n{before}", 1) if self.prelude else text


def _span(text: str, scope: str) -> tuple[int, int]:
    """Start and end of a function or class."""
    if not scope:
        return 0, len(text)
    found = re.search(rf"^(class|def) {re.escape(scope)}\b.*?(?=^[@\w#]|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"there is no {scope}")
    return found.span()


def _c_proj_transposed(parameters: dict[str, np.ndarray]) -> None:
    for name, x in parameters.items():
        if name.endswith("attn.c_proj.weight"):
            parameters[name] = np.ascontiguousarray(x.T)


def _head_left_out(parameters: dict[str, np.ndarray]) -> None:
    head = parameters["lm_head.weight"]
    parameters["lm_head.weight"] = np.random.default_rng(0).normal(0, 0.02, head.shape).astype(head.dtype)


def _no_bias_of_queries(parameters: dict[str, np.ndarray]) -> None:
    for name, x in parameters.items():
        if name.endswith("attn.c_attn.bias"):
            parameters[name] = np.where(np.arange(x.size) < x.size // 3, 0, x).astype(x.dtype)


LOADS: dict[str, Callable[[dict[str, np.ndarray]], None]] = {
    "c_proj transposed": _c_proj_transposed,
    "head left out": _head_left_out,
    "no bias of queries": _no_bias_of_queries,
}
