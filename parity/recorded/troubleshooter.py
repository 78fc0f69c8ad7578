"""Read what MindSpore's troubleshooter recorded, of MindSpore or PyTorch: `ts.save`, and the folders of `api_dump`.

`ts.save(file, data)` writes ID_NAME.npy, where ID counts what was saved; lists and dicts add .0 or .key to the name.
What is named by one of the reference's stages can be judged: ts.save("h.0.attn.q", q) writes 7_h.0.attn.q.npy.

`api_dump` writes rank0/ with FRAMEWORK_api_dump/KIND_NAME_COUNT_forward_input.0.npy, one file for each float tensor;
FRAMEWORK_api_dump_info.pkl, in spite of its name a JSON list on every line, in the order of the run; and
FRAMEWORK_api_dump_stack.json. Backward files hold the gradients of a call's results. What it does not keep, and what is
thus not known of a call: arguments that are no float tensors, keywords, parameters.
Source: troubleshooter/docs/api/save.md and migrator/api_dump.md in mindspore-ai/toolkits, and what its hooks write.
"""

import dataclasses
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from gpt2.errors import GPT2Error
from gpt2.json_input import parse_json, read_json
from parity.recorded.files import AGAIN, dtype_named, quoted, require_inside, tensor_in
from parity.recorded.msprobe import frame, number
from parity.recorded.recording import Call, RecordedRun, RecordedTensor, Recording, Statistics
from parity.recorded.stage_files import by_stage, is_given, npy_tensor

SAVED = re.compile(r"(\d{1,9})_(.+)\.npy", re.ASCII)
PART = re.compile(r"([A-Za-z]+)_(.+)_(\d{1,9})_(forward|backward)_(input|output)((?:\.\d{1,4}){0,8})", re.ASCII)
FRAMEWORKS = {"mindspore": "mindspore", "torch": "pytorch", "mindtorch": "mindspore"}
MOST_ARGUMENTS = 1000


def is_saved(folder: Path) -> bool:
    """Whether a folder holds what `ts.save` wrote."""
    return any(SAVED.fullmatch(path.name) for path in folder.iterdir())


def dump_folders(path: Path) -> list[tuple[Path, str]]:
    """The folders of `api_dump` there or in its ranks, rank0 first, each with the framework's prefix."""
    inner = [x for x in path.iterdir() if re.fullmatch(r"rank\d{1,9}", x.name)] if path.is_dir() else []
    folders = [path, *sorted(inner, key=lambda x: int(x.name[4:]))]
    if path.name.endswith("_api_dump"):
        folders.append(path.parent)
    return [
        (folder, prefix)
        for folder in folders
        for prefix in FRAMEWORKS
        if any((folder / f"{prefix}_api_dump{end}").exists() for end in ("", "_info.pkl"))
    ]


def read_troubleshooter(path: Path) -> Recording:
    """The recording in such a folder; numbers are read when they are asked for. Raises GPT2Error."""
    folders = dump_folders(path)
    if not folders:
        return _saved(path)
    root = (path.parent if path.name.endswith("_api_dump") else path).resolve()
    runs, notes = [], ["troubleshooter keeps float tensors alone: an axis, an eps or a parameter is not known"]
    for i, (folder, prefix) in enumerate(folders):
        place = f"rank {i}" if len(folders) > 1 else ""
        run, unknown = _api_dump(folder, prefix, root)
        runs.append(dataclasses.replace(run, rank=i, place=place))
        if unknown:
            notes.append(
                f"{len(unknown):,} files are no parts of calls and were left out, such as {quoted(unknown[0])}"
            )
    return Recording(path, "troubleshooter", tuple(runs), tuple(notes))


def _saved(folder: Path) -> Recording:
    """What `ts.save` wrote: what comes again under a name is of the next step."""
    root = folder.resolve()
    steps: list[dict[str, RecordedTensor]] = []
    times: dict[str, int] = defaultdict(int)
    matches = [found for found in (SAVED.fullmatch(path.name) for path in folder.iterdir()) if found is not None]
    for found in sorted(matches, key=lambda found: int(found[1])):
        step = times[found[2]]
        times[found[2]] += 1
        steps += [{}] * (step == len(steps))
        steps[step] = steps[step] | {found[2]: npy_tensor(folder / found[0], root)}
    runs, notes = [], []
    for i, named in enumerate(steps):
        stages, said = by_stage(named)
        notes += said if i == 0 else []
        place = f"step {i}" if len(steps) > 1 else ""
        runs.append(RecordedRun(task="tensor", step=i, place=place, stages=stages))
    if not any(not is_given(name) for run in runs for name in run.stages):
        raise GPT2Error(f'{folder} holds nothing that is named by a stage: save by ts.save("h.0.attn.q", q)')
    return Recording(folder, "troubleshooter", tuple(runs), tuple(notes))


def _api_dump(folder: Path, prefix: str, root: Path) -> tuple[RecordedRun, list[str]]:
    """The run in one rank's folder, and the names that are no parts of calls."""
    data = folder / f"{prefix}_api_dump"
    require_inside(data, root)
    found = _listed(folder / f"{prefix}_api_dump_info.pkl", data, root)
    files = sorted(data.iterdir()) if data.is_dir() else []
    found |= {x.stem: npy_tensor(x, root) for x in files if x.suffix == ".npy" and x.stem not in found}
    stacks = _stacks(folder / f"{prefix}_api_dump_stack.json", root)
    unknown: list[str] = []
    calls: dict[str, tuple[tuple[str, str, int, str], dict[str, list[Any]]]] = {}
    for name, tensor in found.items():
        part = PART.fullmatch(name)
        if part is None:
            unknown.append(name)
            continue
        kind, operator, count, direction, side, at = part.groups()
        called = f"{kind}_{operator}_{count}_{direction}"
        call = calls.setdefault(called, ((kind, operator, int(count), direction), {"input": [], "output": []}))
        _put(call[1][side], [int(i) for i in at.split(".")[1:]] or [0], tensor, name)
    run = RecordedRun(
        framework=FRAMEWORKS[prefix],
        level="L1",
        task="tensor" if data.is_dir() else "statistics",
        calls=tuple(
            Call(
                name=name,
                operator=operator,
                is_backward=direction == "backward",
                number=count,
                arguments=tuple(sides["input"]),
                results=tuple(sides["output"]),
                stack=stacks.get(name, ()),
                is_complete=False,
            )
            for name, ((_, operator, count, direction), sides) in calls.items()
        ),
    )
    return run, unknown


def _put(values: list[Any], at: list[int], tensor: RecordedTensor, name: str) -> None:
    """Put a tensor at a place of a list, or of a list in it; what is not known between is None."""
    if at[0] >= MOST_ARGUMENTS:
        raise GPT2Error(f"{quoted(name)} has more than {MOST_ARGUMENTS:,} arguments: {AGAIN}")
    values += [None] * (at[0] + 1 - len(values))
    if len(at) == 1:
        values[at[0]] = tensor
        return
    if not isinstance(values[at[0]], list):
        values[at[0]] = []
    _put(values[at[0]], at[1:], tensor, name)


def _listed(path: Path, data: Path, root: Path) -> dict[str, RecordedTensor]:
    """The tensors by name in the order of the run. Each line is [name, step, [], dtype, shape, [max, min, mean]]."""
    require_inside(path, root)
    if not path.is_file():
        return {}
    found = {}
    for i, line in enumerate(_lines(path), 1):
        where = f"{path}, line {i}"
        entry = parse_json(line, list[Any], where, f": {AGAIN}")
        name, dtype, shape = (entry[0], entry[3], entry[4]) if len(entry) > 4 else (None, None, None)
        if (
            not isinstance(name, str)
            or not isinstance(dtype, str)
            or not isinstance(shape, list)
            or not _is_shape(shape)
        ):
            raise GPT2Error(f"{where} is not [name, step, [], dtype, shape, statistics]: {AGAIN}")
        named = dtype_named(dtype)
        if named is None or PART.fullmatch(name) is None:  # a scalar has <class 'float'>
            continue
        said = entry[5] if len(entry) > 5 and isinstance(entry[5], list) and len(entry[5]) == 3 else [None] * 3
        highest, lowest, mean = (number(x, where) if not isinstance(x, list) else None for x in said)
        statistics = Statistics(highest, lowest, mean)
        if (data / f"{name}.npy").is_file():
            found[name] = tensor_in(data, f"{name}.npy", root, named, tuple(shape), statistics)
        else:
            found[name] = RecordedTensor(named, tuple(shape), statistics)
    return found


def _is_shape(shape: list[Any]) -> bool:
    return all(type(size) is int and size >= 0 for size in shape)


def _lines(path: Path) -> list[bytes]:
    try:
        return [line for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror or error}") from error


def _stacks(path: Path, root: Path) -> dict[str, tuple[str, ...]]:
    require_inside(path, root)
    found = read_json(path, dict[str, Any], f": {AGAIN}") if path.is_file() else {}
    lists = {name: lines for name, lines in found.items() if isinstance(lines, list)}
    return {name: tuple(frame(x) for x in lines if isinstance(x, str)) for name, lines in lists.items()}
