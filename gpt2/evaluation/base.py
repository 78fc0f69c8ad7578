"""The protocol of a task, the registry of tasks, and the evaluation of a model on a file."""

import dataclasses
import importlib
import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from gpt2.data.records import BrokenLines
from gpt2.errors import GPT2Error
from gpt2.model.model import Model

ENTRY_POINTS = "gpt2.tasks"  # the group in which a package registers its tasks
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
    """How to run a task: samples per batch, the seed of sampling, and what to do with broken samples.

    watch is a callback that gets the number of samples done, and of all samples.
    """

    batch_size: int = 4
    seed: int = 0
    broken: BrokenLines = dataclasses.field(default_factory=BrokenLines)
    watch: Callable[[int, int], Any] = lambda done, total: None


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
    """The results. Accuracy, ROUGE, BLEU, F1 and exact match are in percent, as in the paper."""

    scores: dict[str, float]
    samples: int
    """Number of samples evaluated; for perplexity: of tokens."""
    examples: list[dict[str, Any]]
    """Prompt, expected answer and answer of each sample, for JSON."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How it was measured, if that varies."""
    skipped: int = 0


class EvaluationTask(Protocol):
    """A way to evaluate a model. A task is a frozen dataclass; its fields are its options, of type str, int or None."""

    def read(self, path: Path, broken: BrokenLines, encoding: str | None = None) -> list[Any]:
        """Read the samples of a file. Raises GPT2Error, naming file and line, for unreadable data.

        encoding: as in `gpt2.data.formats.read_source`. A task may leave this parameter out; then none can be given.
        """

    def judge(self, model: Model, samples: list[Any], run: Run) -> EvaluationReport:
        """Evaluate a model on samples that `read` returned."""


def task_names() -> list[str]:
    """Names of the tasks of this package and of those that other packages register."""
    return [*OWN, *sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - OWN.keys())]


def find_task(name: str, options: Mapping[str, Any] | None = None) -> EvaluationTask:
    """The task of this name with these options; a value may have its type or be text.

    Raises GPT2Error if there is no such task, option or value, or the task cannot be imported.
    """
    task_class, values = _load(name), {}
    if not dataclasses.is_dataclass(task_class):
        raise GPT2Error(f"task {name!r} is registered, but is not a dataclass, whose fields would be its options")
    types = typing.get_type_hints(task_class)
    for option, value in (options or {}).items():
        if option not in types:
            raise GPT2Error(f"task {name!r} has no option {option!r}: it has {', '.join(types) or 'none'}")
        values[option] = _converted(name, option, value, types[option])
    return typing.cast(EvaluationTask, task_class(**values))


def _load(name: str) -> type:
    points = [point for point in entry_points(group=ENTRY_POINTS) if point.name == name]
    try:
        if name in OWN:
            module, _, attribute = OWN[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if points:
            return points[0].load()
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
    encoding: str | None = None,
    watch: Callable[[int, int], Any] = Run.watch,
) -> EvaluationReport:
    """Evaluate a model on a file. limit: use only the first samples (perplexity: lines).

    skip_bad: skip and count samples that cannot be read or do not fit the model, instead of stopping. encoding: that of
    the file; None: UTF-8, or what its byte-order mark says. watch: see Run.
    Raises GPT2Error, naming file and line.
    """
    chosen = find_task(task) if isinstance(task, str) else task
    run = Run(batch_size, seed, BrokenLines(skip_bad), watch)
    samples = _read(chosen, path, run.broken, encoding)[:limit]
    report = chosen.judge(model, samples, run) if samples else None
    messages = run.broken.messages
    if report is None or not report.samples:
        why = f"; the first that is broken: {messages[0]}" if messages else ""
        raise GPT2Error(f"{path} holds no sample to judge the model by{why}")
    if messages:
        warnings.warn(run.broken.left_out("samples", path), stacklevel=2)
    return dataclasses.replace(report, skipped=len(messages))


def _read(task: EvaluationTask, path: Path, broken: BrokenLines, encoding: str | None) -> list[Any]:
    if encoding is None:
        return task.read(path, broken)
    if "encoding" not in inspect.signature(task.read).parameters:
        raise GPT2Error(f"the task {type(task).__name__} takes no encoding: save {path} as UTF-8")
    return task.read(path, broken, encoding)
