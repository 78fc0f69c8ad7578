"""Whatever is changed in a recording: it is read, or refused in one line; nothing runs, no file elsewhere is opened.

--hypothesis-profile=deep changes 100,000.
"""

import codecs
import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import GPT2Error
from parity.recorded.read import read_recording
from parity.recorded.recording import Recording
from tests.parity.recorded.test_msprobe import all_tensors
from tests.parity.recorded.written import linear_dump, numbers

CI, DEEP, KINDS = 60, 100_000, 4
each_kind = settings(max_examples=CI if settings().max_examples <= 100 else DEEP // KINDS)
FORBIDDEN = ("exec", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "pickle.find_class")
codecs.lookup("raw_unicode_escape")  # Python opens and runs its own file at the first use, for a text in a pickle
FORBIDDEN_ROOMS = ("subprocess", "socket", "ctypes", "shutil")
HOSTILE: list[Any] = [
    None,
    -1,
    2**70,
    1e308,
    "NaN",
    "../x",
    "/etc/passwd",
    "",
    [],
    {},
    [2**40] * 3,
    {"type": "slice"},
    True,
]


class Watch:
    """Collects what Python's audit events tell of while it is on; a hook cannot be taken away again."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in FORBIDDEN or event.partition(".")[0] in FORBIDDEN_ROOMS:
            self.seen.append(event)
        elif event == "compile" and arguments[1] != "<unknown>":  # ast.literal_eval's, which parses a .npy's header
            self.seen.append(f"{event} {arguments[1]}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            opened = os.path.realpath(os.fsdecode(arguments[0]))
            if not Path(opened).is_relative_to(self.folder):
                self.seen.append(f"{event} {opened}")


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    found = Watch()
    yield found
    found.folder = None


def outcome(path: Path) -> Recording | str:
    """The recording, all of whose tensors that can be read were; or what was said."""
    try:
        recording = read_recording(path)
    except GPT2Error as error:
        return _one_line(error)
    assert all(note.isprintable() for note in recording.notes)
    for tensor in all_tensors(recording):
        try:
            if tensor.has_numbers:
                x = tensor.numbers()
                assert (x.shape, x.dtype.name) == (tensor.shape, tensor.dtype)
        except GPT2Error as error:
            _one_line(error)
    return recording


def _one_line(error: GPT2Error) -> str:
    said = str(error)
    assert said.isprintable(), repr(said)
    return said


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with a few of them changed, cut out, doubled, or cut off."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 40)))
        new = draw(st.one_of(st.binary(max_size=8), st.just(content[start:stop] * 2), st.just(content[:0])))
        content = content[:start] + new + (b"" if draw(st.integers(0, 9)) == 0 else content[stop:])
    return content


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a JSON tree but the whole."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*at, key)
        yield from places(value, (*at, key))


@st.composite
def mutated_tree(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON text of which a few values are others, or gone."""
    tree = json.loads(content)
    for _ in range(draw(st.integers(1, 3))):
        ways = list(places(tree))
        if not ways:
            break
        *above, key = draw(st.sampled_from(ways))
        holder = tree
        for step in above:
            holder = holder[step]
        others = [x for way in ways[:40] for x in [_at(tree, way)] if not isinstance(x, dict | list)]
        if draw(st.integers(0, 4)) == 0:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE + others)))  # it may be changed in its turn
    return json.dumps(tree).encode()


def _at(tree: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        tree = tree[step]
    return tree


def unmutated(folder: Path, framework: str) -> Path:
    linear_dump(folder, framework)
    return folder


def check(path: Path, file: Path, draw: Callable[[Any], Any], tree: bool, watch: Watch) -> None:
    """Change the file, read everything, and change it back."""
    content = file.read_bytes()
    file.write_bytes(draw(mutated_tree(content) if tree else mutated_bytes(content)))
    watch.seen.clear()
    watch.folder = path.resolve()
    try:
        outcome(path)
    finally:
        watch.folder = None
        file.write_bytes(content)
    assert not watch.seen


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dump of each framework, and arrays by stage; read once, so that all modules are imported."""
    folder = tmp_path_factory.mktemp("dumps")
    found = {name: unmutated(folder / name, name) for name in ("mindspore", "pytorch")}
    found["stages"] = folder / "stages.npz"
    np.savez_compressed(found["stages"], **{"h.0.attn.q": numbers(1, 2, 3, 4), "ids": np.arange(3)[None]})
    for path in found.values():
        assert isinstance(outcome(path), Recording)
    (folder / "empty").mkdir()
    assert isinstance(outcome(folder / "empty"), str)
    return found


@each_kind
@given(st.data())
def test_json_of_other_values(dumps: dict[str, Path], watch: Watch, data: st.DataObject) -> None:
    path = dumps[data.draw(st.sampled_from(["mindspore", "pytorch"]))]
    name = data.draw(st.sampled_from(["dump.json"] * 4 + ["construct.json", "stack.json"]))
    check(path, path / name, data.draw, True, watch)


@each_kind
@given(st.data())
def test_json_of_other_bytes(dumps: dict[str, Path], watch: Watch, data: st.DataObject) -> None:
    path = dumps["mindspore"]
    name = data.draw(st.sampled_from(["dump.json"] * 4 + ["construct.json", "stack.json"]))
    check(path, path / name, data.draw, False, watch)


@each_kind
@given(st.data())
def test_files_of_other_bytes(dumps: dict[str, Path], watch: Watch, data: st.DataObject) -> None:
    path = dumps[data.draw(st.sampled_from(["mindspore", "pytorch"]))]
    files = sorted((path / "dump_tensor_data").iterdir())
    check(path, data.draw(st.sampled_from(files)), data.draw, False, watch)


@each_kind
@given(st.data())
def test_archives_of_other_bytes(dumps: dict[str, Path], watch: Watch, data: st.DataObject) -> None:
    path = dumps["stages"]
    check(path, path, data.draw, False, watch)


def test_the_watch_sees(watch: Watch, tmp_path: Path) -> None:
    watch.seen.clear()
    watch.folder = tmp_path.resolve()
    (tmp_path / "inside").write_text("x")
    exec("1")
    open(__file__).close()
    watch.folder = None
    assert [event.split()[0] for event in watch.seen] == ["compile", "exec", "open"]
