"""Read what `gpt2.record` wrote: the form is in gpt2/recorder.py."""

from pathlib import Path
from typing import Any

import msgspec

from gpt2.errors import GPT2Error
from gpt2.json_input import as_type, object_with, read_json
from gpt2.recorder import FORMAT, INDEX, VERSION
from parity.recorded.files import AGAIN, dtype_named, plain_name, quoted, require_inside, tensor_in
from parity.recorded.recording import Call, RecordedRun, RecordedTensor, Recording, Statistics

DEEPEST = 64  # lists within lists


class _Call(msgspec.Struct, rename={"operator": "class"}):
    """A call in calls.json."""

    name: str
    path: str
    operator: str
    number: int
    parent: str
    arguments: list[Any]
    keywords: dict[str, Any]
    results: list[Any]
    parameters: dict[str, Any]


class _Tensor(msgspec.Struct):
    """A tensor in calls.json."""

    file: str
    dtype: str
    shape: list[int]


def read_recorder(folder: Path) -> Recording:
    """The recording in such a folder; numbers are read when they are asked for. Raises GPT2Error."""
    file = folder / INDEX
    root = folder.resolve()
    require_inside(file, root)
    hint = f": {AGAIN}"
    fields = object_with({"format": str, "version": int, "framework": str, "calls": list[Any]})
    index = read_json(file, fields, hint)
    if (index["format"], index["version"]) != (FORMAT, VERSION):
        found = f"{quoted(index['format'])}, version {index['version']}"
        raise GPT2Error(f"{file} is {found}, but {FORMAT!r}, version {VERSION}, is what can be read{hint}")
    calls = [_call(entry, f"{file}, call {i}", folder, root) for i, entry in enumerate(index["calls"])]
    return Recording(folder, "recorder", (RecordedRun(index["framework"], "L0", "tensor", calls=tuple(calls)),))


def _call(entry: Any, where: str, folder: Path, root: Path) -> Call:
    call = as_type(entry, _Call, where, f": {AGAIN}")

    def value(kept: Any, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise GPT2Error(f"{where} has lists within lists, more than {DEEPEST} deep: {AGAIN}")
        if isinstance(kept, list):
            return [value(x, depth + 1) for x in kept]
        if not isinstance(kept, dict):
            return kept
        if isinstance(kept.get("fields"), dict):
            return {name: value(x, depth + 1) for name, x in kept["fields"].items()}
        return kept["text"] if isinstance(kept.get("text"), str) else _tensor(kept, where, folder, root)

    parameters = {name: value(x) for name, x in call.parameters.items()}
    return Call(
        name=call.name,
        operator=call.operator,
        path=call.path,
        number=call.number,
        arguments=tuple(value(x) for x in call.arguments),
        keywords={name: value(x) for name, x in call.keywords.items()},
        results=tuple(value(x) for x in call.results),
        parameters={name: x for name, x in parameters.items() if isinstance(x, RecordedTensor)},
        parent=call.parent,
    )


def _tensor(kept: dict[str, Any], where: str, folder: Path, root: Path) -> RecordedTensor:
    tensor = as_type(kept, _Tensor, where, f": {AGAIN}")
    dtype = dtype_named(tensor.dtype)
    if dtype is None or any(size < 0 for size in tensor.shape):
        raise GPT2Error(
            f"{where} has a tensor of dtype {quoted(tensor.dtype)} and shape {quoted(tensor.shape)}: {AGAIN}"
        )
    name = plain_name(tensor.file, folder / INDEX)
    return tensor_in(folder, name, root, dtype, tuple(tensor.shape), Statistics())
