"""What a task is, where tasks are found, and how one is run on a model and a file."""

import dataclasses
import importlib
import typing
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from gpt2.data.records import BrokenLines
from gpt2.errors import GPT2Error
from gpt2.model.model import Model

ENTRY_POINTS = "gpt2.tasks"  # the group in which a package registers a task of its own
OWN = {
    "perplexity": "gpt2.evaluation.likelihood_tasks:Perplexity",
    "lambada": "gpt2.evaluation.likelihood_tasks:Lambada",
    "cbt": "gpt2.evaluation.likelihood_tasks:ChildrensBookTest",
    "tldr": "gpt2.evaluation.generation_tasks:Summaries",
    "translation": "gpt2.evaluation.generation_tasks:Translation",
    "questions": "gpt2.evaluation.generation_tasks:Questions",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """How a task is run: samples at a time, the seed of what is drawn, and what becomes of samples that are broken.

    watch is called with how much is done, and of how much.
    """

    batch_size: int = 4
    seed: int = 0
    broken: BrokenLines = dataclasses.field(default_factory=BrokenLines)
    watch: Callable[[int, int], Any] = lambda done, total: None


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
    """What was found. Shares (accuracy, ROUGE, BLEU, F1, exact match) are in percent, as in the paper."""

    scores: dict[str, float]
    samples: int
    """How many were judged; of perplexity: tokens."""
    examples: list[dict[str, Any]]
    """Of each sample what was asked, expected and answered, as JSON takes it."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How it was measured, where that is not the same each time."""
    skipped: int = 0


class EvaluationTask(Protocol):
    """One way to judge a model. A task is a frozen dataclass: its fields are its options, of types str, int or None."""

    def read(self, path: Path, broken: BrokenLines) -> list[Any]:
        """The samples of a file. Raises GPT2Error, naming file and line, for what cannot be read."""

    def judge(self, model: Model, samples: list[Any], run: Run) -> EvaluationReport:
        """The scores of a model on samples that `read` returned."""


def task_names() -> list[str]:
    """The tasks that there are, by this package and by others."""
    return [*OWN, *sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - OWN.keys())]


def find_task(name: str, options: Mapping[str, Any] | None = None) -> EvaluationTask:
    """The task of that name with these options, given as what they are or as text.

    Raises GPT2Error if there is no such task, it cannot be imported, or has no such option or value.
    """
    task_class, given = _load(name), {}
    if not dataclasses.is_dataclass(task_class):
        raise GPT2Error(f"task {name!r} is registered, but is no dataclass: its fields are its options")
    types = typing.get_type_hints(task_class)
    for option, value in (options or {}).items():
        if option not in types:
            raise GPT2Error(f"task {name!r} has no option {option!r}: it has {', '.join(types) or 'none'}")
        given[option] = _converted(name, option, value, types[option])
    return typing.cast(EvaluationTask, task_class(**given))


def _load(name: str) -> type:
    found = [point for point in entry_points(group=ENTRY_POINTS) if point.name == name]
    try:
        if name in OWN:
            module, _, attribute = OWN[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if found:
            return found[0].load()
    except (ImportError, AttributeError) as error:
        raise GPT2Error(f"task {name!r} is registered, but cannot be imported: {error}") from error
    raise GPT2Error(f"unknown task {name!r}: choose one of {', '.join(task_names())}")


def _converted(name: str, option: str, value: Any, expected: Any) -> Any:
    if not isinstance(value, str) or expected is str:
        return value
    try:
        return int(value)
    except ValueError as error:
        raise GPT2Error(f"option {option!r} of task {name!r} must be an integer, but is {value!r}") from error


def evaluate(
    model: Model,
    task: EvaluationTask | str,
    path: Path,
    *,
    limit: int | None = None,
    batch_size: int = 4,
    seed: int = 0,
    skip_bad: bool = False,
    watch: Callable[[int, int], Any] = Run.watch,
) -> EvaluationReport:
    """The scores of a model on a file. limit: only the first samples (of perplexity: lines).

    skip_bad: samples that cannot be read, or do not fit the model, are left out and counted, instead of stopping the
    run. watch: see Run. Raises GPT2Error, naming file and line.
    """
    chosen = find_task(task) if isinstance(task, str) else task
    run = Run(batch_size, seed, BrokenLines(skip_bad), watch)
    samples = chosen.read(path, run.broken)[:limit]
    report = chosen.judge(model, samples, run) if samples else None
    messages = run.broken.messages
    if report is None or not report.samples:
        why = f"; the first that is broken: {messages[0]}" if messages else ""
        raise GPT2Error(f"{path} holds no sample to judge the model by{why}")
    if messages:
        warnings.warn(f"{len(messages)} of the samples of {path} are left out; the first: {messages[0]}", stacklevel=2)
    return dataclasses.replace(report, skipped=len(messages))
