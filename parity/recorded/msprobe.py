"""Read the dumps of msprobe (mindstudio-probe), of PyTorch and of MindSpore, where neither these nor it are installed.

FOLDER/step0/rank0/ (proc1234 where the run has no ranks; graph/ or pynative/ may stand above the step) holds
* dump.json: the calls by name in the order of the run, with what went in and came out, each tensor by its dtype, shape,
  statistics (or a checksum) and, in the task "tensor", the name of its file;
* dump_tensor_data/: those files, .npy or .pt. Where dump.json says that they are, they were once: not followed;
* construct.json: the module call that each call is part of; absent in level L1;
* stack.json: the lines that called.
Source: what msprobe 26.2.0 writes, and its documentation of dump.json.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gpt2.errors import GPT2Error, counted
from gpt2.json_input import as_type, object_with, read_json
from parity.recorded.files import AGAIN, dtype_named, plain_name, quoted, require_inside, tensor_in
from parity.recorded.recording import Call, RecordedRun, RecordedTensor, Recording, Statistics

DUMP, DATA = "dump.json", "dump_tensor_data"
FOLDERS = re.compile(r"(step|rank|proc)(\d*)|graph|pynative")
MOST_FOLDERS = 4  # graph or pynative, step, rank: the most that stand above dump.json, and the folder given
MODULES = ("Module", "Cell")
GRADIENTS = "parameters_grad"
DEEPEST = 64  # lists within lists
DUMP_FIELDS = {"task": str, "level": str, "data": dict[str, Any]}
SINGLES = {"input_args": list, "input_kwargs": dict, "input": list, "output": list, "parameters": dict}


class _Tensor(msgspec.Struct):
    """A tensor in dump.json, as far as it is read."""

    type: str
    dtype: str
    shape: list[int]
    Max: Any = None
    Min: Any = None
    Mean: Any = None
    Norm: Any = None
    md5: Any = None
    data_name: Any = None


@dataclasses.dataclass(frozen=True)
class _Name:
    """The name of a call in its parts."""

    path: str
    operator: str
    kind: str
    """forward, backward or parameters_grad."""
    number: int


def dump_folders(path: Path) -> list[Path]:
    """The folders that hold a dump.json: this one, the one that it is the data of, or those below it, in order."""
    path = path.parent if path.name in (DUMP, DATA) and (path.parent / DUMP).is_file() else path
    found = list(_with_dump(path, MOST_FOLDERS))
    return sorted(found, key=lambda folder: _in_order(folder.relative_to(path)))


def _with_dump(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / DUMP).is_file():
        yield folder
    elif depth and folder.is_dir():
        for inner in folder.iterdir():
            if FOLDERS.fullmatch(inner.name) and inner.is_dir():
                yield from _with_dump(inner, depth - 1)


def _in_order(path: Path) -> list[tuple[str, int, str]]:
    found = [re.fullmatch(r"(\D*)(\d*)", part) for part in path.parts]
    return [(x[1], int(x[2][:18] or 0), x[2]) for x in found if x is not None]


def read_msprobe(path: Path) -> Recording:
    """The recording in a folder of msprobe's, or in one of its steps or ranks; numbers are read when asked for.

    Raises GPT2Error, in one line, for a dump that is damaged, or that names files outside its folder.
    """
    folders = dump_folders(path)
    if not folders:
        raise GPT2Error(f"{path} holds no {DUMP} of msprobe: name the folder that has step0 in it")
    root = (path if path.is_dir() and path.name != DATA else path.parent).resolve()
    runs, notes = [], []
    for folder in folders:
        require_inside(folder / DUMP, root)
        run, said = _Reader(folder, root).run(_place(folder, folders, root))
        runs.append(run)
        notes += [f"{run.place}: {note}" if run.place else note for note in said]
    return Recording(path, "msprobe", tuple(runs), tuple(notes))


def _place(folder: Path, folders: list[Path], root: Path) -> tuple[int, int, str]:
    """The step, the rank, and both in words, from the names of the folders. Processes are numbered, from 0."""
    parts = folder.resolve().parts[-MOST_FOLDERS + 1 :]
    numbers = {found[1]: found[2] for found in map(FOLDERS.fullmatch, parts) if found is not None and found[1]}
    step, rank = (int(numbers.get(kind, "")[:18] or 0) for kind in ("step", "rank"))
    if "proc" in numbers:
        rank = [x for x in folders if x.parent == folder.parent].index(folder)
    modes = [part for part in parts if part in ("graph", "pynative")]
    modes *= len({x for other in folders for x in other.parts if x in ("graph", "pynative")}) > 1
    words = ", ".join([*modes, f"step {step}", f"rank {rank}"])
    return step, rank, words if len(folders) > 1 else ""


class _Reader:
    """Reads one folder that holds a dump.json."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._root = folder, root
        self._file = folder / DUMP
        self._notes: list[str] = []
        self._dtypes: Counter[str] = Counter()
        data = folder / DATA
        require_inside(data, root)
        self._data = data if data.is_dir() else None
        self._without_data = False

    def run(self, place: tuple[int, int, str]) -> tuple[RecordedRun, list[str]]:
        """The run, and the notes on what was not read."""
        head = read_json(self._file, dict[str, Any], f": {AGAIN}")
        dump = as_type(head, object_with(DUMP_FIELDS), str(self._file), f": {AGAIN}")
        parents, stacks = self._parents(), self._stacks()
        calls: list[Call] = []
        gradients: dict[str, RecordedTensor] = {}
        unknown: list[str] = []
        for name, entry in dump["data"].items():
            parts = parts_of(name) if name.isprintable() else None
            if parts is None or not isinstance(entry, dict):
                unknown.append(name)
            elif parts.kind == GRADIENTS:
                gradients |= self._gradients(name, parts, entry)
            else:
                calls.append(self._call(name, parts, entry, parents.get(name, ""), stacks.get(name, ())))
        if not calls and not gradients:
            self._notes.append(f"{self._file} holds no calls")
        if unknown:
            self._notes.append(f"{len(unknown):,} of its names are no calls, and were left out: {_some(unknown)}")
        if self._without_data:
            self._notes.append(f"there is no {DATA}: statistics are all that can be judged")
        framework = head.get("framework")
        run = RecordedRun(
            framework=framework if framework in ("pytorch", "mindspore") else _framework(calls),
            level=dump["level"],
            task=dump["task"],
            step=place[0],
            rank=place[1],
            place=place[2],
            calls=tuple(calls),
            parameter_gradients=gradients,
        )
        return run, self._notes + [
            f"{counted(count, 'value')} of dtype {dtype}, not read here" for dtype, count in self._dtypes.items()
        ]

    def _optional(self, name: str, without: str) -> dict[str, Any]:
        path = self._folder / name
        require_inside(path, self._root)
        if not path.is_file():
            self._notes.append(f"there is no {name}: {without}")
            return {}
        return read_json(path, dict[str, Any], f": {AGAIN}")

    def _parents(self) -> dict[str, str]:
        """The parents by name; a list is one with Megatron's micro step."""
        found = self._optional("construct.json", "which module a call is part of is not known")
        first = {name: x[0] if isinstance(x, list) and x else x for name, x in found.items()}
        return {name: parent for name, parent in first.items() if isinstance(parent, str)}

    def _stacks(self) -> dict[str, tuple[str, ...]]:
        """The lines by name, of number -> [names, lines], or, from before msprobe 2, name -> lines."""
        stacks: dict[str, tuple[str, ...]] = {}
        for key, value in self._optional("stack.json", "the lines that called are not known").items():
            pair = (
                value if isinstance(value, list) and len(value) == 2 and isinstance(value[0], list) else [[key], value]
            )
            names, lines = pair
            frames = tuple(frame(line) for line in lines if isinstance(line, str)) if isinstance(lines, list) else ()
            stacks |= {name: frames for name in names if isinstance(name, str)}
        return stacks

    def _call(self, name: str, parts: _Name, entry: dict[str, Any], parent: str, stack: tuple[str, ...]) -> Call:
        is_backward = parts.kind == "backward"
        where = f"{self._file}: {quoted(name)}"
        for field, kind in SINGLES.items():
            if not isinstance(entry.get(field), kind | None):  # msprobe writes null for no arguments
                raise GPT2Error(f"{where}: {field!r} must be {'a list' if kind is list else 'an object'}: {AGAIN}")
        arguments = entry.get("input") if is_backward else entry.get("input_args")
        keywords, parameters = (
            {key: self._value(x, where) for key, x in (entry.get(field) or {}).items()}
            for field in ("input_kwargs", "parameters")
        )
        return Call(
            name=name,
            operator=parts.operator,
            path=parts.path,
            is_backward=is_backward,
            number=parts.number,
            arguments=tuple(self._value(x, where) for x in arguments or ()),
            keywords=keywords,
            results=tuple(self._value(x, where) for x in entry.get("output") or ()),
            parameters={key: x for key, x in parameters.items() if isinstance(x, RecordedTensor)},
            parent=parent,
            stack=stack,
        )

    def _gradients(self, name: str, parts: _Name, entry: dict[str, Any]) -> dict[str, RecordedTensor]:
        found = {}
        for parameter, value in entry.items():
            read = self._value(value, f"{self._file}: {quoted(name)}")
            first = read[0] if isinstance(read, list) and read else read
            if isinstance(first, RecordedTensor):  # null: it has none
                found[f"{parts.path}.{parameter}"] = first
        return found

    def _value(self, value: Any, where: str, depth: int = 0) -> Any:
        """An argument or a result: a tensor, a plain value, or lists and dicts of these."""
        if depth > DEEPEST:
            raise GPT2Error(f"{where} has lists within lists, more than {DEEPEST} deep: {AGAIN}")
        if isinstance(value, list):
            return [self._value(x, where, depth + 1) for x in value]
        if not isinstance(value, dict):
            return value
        kind = value.get("type")
        if not isinstance(kind, str):
            return {key: self._value(x, where, depth + 1) for key, x in value.items()}
        if "shape" in value and "dtype" in value:
            tensor = self._tensor(value, where)
            asks = value.get("requires_grad") is True and isinstance(tensor, RecordedTensor)
            return dataclasses.replace(tensor, requires_grad=True) if asks else tensor
        return plain_value(kind, value, where)

    def _tensor(self, value: dict[str, Any], where: str) -> Any:
        hint = f": {AGAIN}"
        tensor = as_type(value, _Tensor, where, hint)
        dtype = dtype_named(tensor.dtype)
        shape = tuple(tensor.shape)
        if any(size < 0 for size in shape):
            raise GPT2Error(f"{where} has a tensor of shape {quoted(list(shape))}{hint}")
        if dtype is None:
            self._dtypes[quoted(tensor.dtype)] += 1
            return f"{tensor.dtype} of shape {list(shape)}"
        highest, lowest = number(tensor.Max, where), number(tensor.Min, where)
        mean, norm = number(tensor.Mean, where), number(tensor.Norm, where)
        statistics = Statistics(highest, lowest, mean, norm, None if tensor.md5 is None else str(tensor.md5))
        if tensor.data_name in (None, -1, "-1"):
            return RecordedTensor(dtype, shape, statistics)
        name = plain_name(as_type(tensor.data_name, str, f"{where}: 'data_name'", hint), self._file)
        if tensor.type == "numpy.ndarray" and not name.endswith(".npy"):
            name += ".npy"  # msprobe asks NumPy for a .pt, which appends its own
        if self._data is None:
            self._without_data = True
            return RecordedTensor(dtype, shape, statistics)
        return tensor_in(self._data, name, self._root, dtype, shape, statistics)


def parts_of(name: str) -> _Name | None:
    """The parts of a call's name; None if it is none.

    Module.transformer.h.0.attn.GPT2Attention.forward.0, Functional.softmax.0.forward, Primitive.op.LayerNorm.0.forward.
    """
    parts = name.split(".")
    kinds = [i for i, part in enumerate(parts) if part in ("forward", "backward", GRADIENTS)]
    if not kinds or kinds[-1] < 2:
        return None
    at = kinds[-1]
    if parts[0] in MODULES:
        number = parts[at + 1] if at + 1 < len(parts) else "0"
        return _Name(".".join(parts[1 : at - 1]), parts[at - 1], parts[at], int(number)) if _is_count(number) else None
    if at != len(parts) - 1 or at < 3 or parts[at] == GRADIENTS or not _is_count(parts[at - 1]):
        return None
    operator = parts[at - 2] if parts[0] == "Primitive" else ".".join(parts[1 : at - 1])
    return _Name("", operator, parts[at], int(parts[at - 1]))


def _some(names: list[str]) -> str:
    return ", ".join(map(quoted, names[:3])) + (", ..." if len(names) > 3 else "")


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 18


def plain_value(kind: str, value: dict[str, Any], where: str) -> Any:
    """A value that is no tensor, as msprobe writes it: {"type": "int", "value": 0}."""
    plain = value.get("value", value.get("format"))
    if kind == "slice" and isinstance(plain, list) and len(plain) == 3:
        return slice(*plain)
    if kind == "ellipsis":
        return ...
    if kind.endswith(".dtype") and isinstance(plain, str):
        return dtype_named(plain) or plain
    if kind.startswith("float") and isinstance(plain, str):
        return number(plain, where)
    if kind == "torch.Size" and isinstance(plain, list):
        return tuple(plain)
    return plain


def number(value: Any, where: str) -> float | None:
    """A statistic: a number, "NaN", "inf", or null where there is none."""
    if value is None:
        return None
    try:
        if isinstance(value, bool | int | float | str):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise GPT2Error(f"{where} has a number that is {quoted(value)}: {AGAIN}")


def frame(line: str) -> str:
    """A line of a call stack on one line, without what could move a terminal's cursor."""
    return "".join(x if x.isprintable() else " " for x in re.sub(r",\s*\n\s*", ", ", line)).strip()


def _framework(calls: list[Call]) -> str:
    """The framework, from before dump.json named it."""
    kinds = {call.name.partition(".")[0] for call in calls}
    return "mindspore" if kinds & {"Cell", "Primitive", "Mint"} else "pytorch" if kinds & {"Module", "Torch"} else ""
