"""A recorded run: the calls of one step on one device, with what went in and what came out.

Every reader of a format returns this, and all that judges knows no other form.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What a dump says of a tensor besides, or instead of, its numbers. None: the dump does not say it.

    norm: the 2-norm.
    """

    max: float | None = None
    min: float | None = None
    mean: float | None = None
    norm: float | None = None
    md5: str | None = None


@dataclasses.dataclass(frozen=True)
class RecordedTensor:
    """One tensor of a call. `numbers` reads them when they are asked for, so that a dump may be larger than memory.

    dtype: NumPy's name of it, "float32", "bfloat16", "int64", "bool". source: the file, within the dump, that holds the
    numbers; "" if they were not kept. requires_grad: whether the dump says that a gradient is asked for.
    """

    dtype: str
    shape: tuple[int, ...]
    statistics: Statistics = Statistics()
    source: str = ""
    read: Callable[[], Array] | None = None
    requires_grad: bool = False

    @property
    def has_numbers(self) -> bool:
        """Whether the numbers were kept, not their statistics alone."""
        return self.read is not None

    def numbers(self) -> Array:
        """The numbers, of the shape and dtype that are promised. Raises GPT2Error for a file that holds no such."""
        if self.read is None:
            raise ValueError("the dump holds no numbers of this tensor")
        return self.read()


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an operator or a module, forward or backward, in the order of the run.

    name: as the dump has it, "Module.transformer.h.0.attn.c_attn.Conv1D.forward.0". path: the module's, in the words of
    the model, "transformer.h.0.attn.c_attn"; "" for an operator. operator: the class or function, "Conv1D", "softmax".
    number: how often it had been called before. arguments, keywords, results: RecordedTensor, a plain value, or a list
    of these; a backward call's arguments are the gradients of the results, its results those of the arguments.
    parameters: a module's own, by name. parent: the name of the module call that this one is part of; "" at the top.
    stack: the lines that called it, the innermost first, "File ..., line 12, in forward, ...". is_complete: whether all
    arguments were kept; if not, an axis, an eps or a flag may have been given that the recording does not have.
    """

    name: str
    operator: str
    path: str = ""
    is_backward: bool = False
    number: int = 0
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: tuple[Any, ...] = ()
    parameters: dict[str, RecordedTensor] = dataclasses.field(default_factory=dict)
    parent: str = ""
    stack: tuple[str, ...] = ()
    is_complete: bool = True

    @property
    def is_module(self) -> bool:
        """Whether it is a module or cell, and no operator."""
        return bool(self.path)


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """One step on one device. place: "step 0, rank 0", or "" if the recording has but one.

    calls: in the order of the run. parameter_gradients: by the parameter's whole name, "transformer.wte.weight".
    stages: values that were kept by the name of the reference's stage, without a call, "h.0.attn.q", and what the model
    was given: "ids", "attention_mask", "position_ids".
    """

    framework: str = ""  # "pytorch", "mindspore", or "" if it is not said
    level: str = ""
    task: str = ""
    step: int = 0
    rank: int = 0
    place: str = ""
    calls: tuple[Call, ...] = ()
    parameter_gradients: dict[str, RecordedTensor] = dataclasses.field(default_factory=dict)
    stages: dict[str, RecordedTensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recording:
    """All that was read of a dump. notes: what was found there and not read, each in a sentence."""

    source: Path
    kind: str  # "msprobe", "troubleshooter", "stages", "recorder"
    runs: tuple[RecordedRun, ...]
    notes: tuple[str, ...] = ()


def tensors(value: Any) -> Iterator[RecordedTensor]:
    """The tensors among a call's arguments or results, in order."""
    if isinstance(value, RecordedTensor):
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from tensors(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from tensors(entry)


def numbers_of(value: Any) -> Any:
    """A call's argument with its tensors as arrays."""
    if isinstance(value, RecordedTensor):
        return value.numbers()
    if isinstance(value, list | tuple):
        return type(value)(numbers_of(entry) for entry in value)
    if isinstance(value, dict):
        return {name: numbers_of(entry) for name, entry in value.items()}
    return value


def is_float(tensor: RecordedTensor) -> bool:
    """Whether it holds floating-point numbers."""
    return tensor.dtype == "bfloat16" or np.dtype(tensor.dtype).kind == "f"
