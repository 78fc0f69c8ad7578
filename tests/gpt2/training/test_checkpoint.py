"""Checkpoints of a training run: whole at every moment, the same bits back, and no damage that goes unnoticed."""

import contextlib
import errno
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import save_file

import gpt2
from gpt2 import GPT2Error
from gpt2.files import write_whole
from gpt2.training import checkpoint
from gpt2.training.checkpoint import Checkpoint, latest_checkpoint, read_checkpoint, write_checkpoint, write_weights
from tests.gpt2.small import ROOT, folder_of, parameters

Arrays = dict[str, NDArray[Any]]
DTYPES = [*map(np.dtype, ("float64", "float32", "float16", "int64", "int32", "bool")), np.dtype(ml_dtypes.bfloat16)]


def small(step: int = 100) -> Checkpoint:
    """A checkpoint that differs from those of other steps in every part."""
    weights = {"wte.weight": np.arange(6, dtype=np.float32).reshape(2, 3) + step}
    state = {"step": np.array(step), "m.wte.weight": np.full((2, 3), step, np.float32)}
    return Checkpoint(step, 4 * step, weights, state, {"seed": step, "text": "né\n\"'", "deep": [None, {"rate": 0.1}]})


def content(read: Checkpoint) -> Any:
    """All there is to know of a checkpoint, to compare."""
    arrays = {
        (kind, name): (x.dtype, x.shape, x.tobytes())
        for kind, group in (("model", read.parameters), ("state", read.state))
        for name, x in group.items()
    }
    return read.step, read.micro_batch, arrays, read.facts


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


# What is written is read.


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    """An array of any dtype in use, of any bits, NaN with a payload among them; empty or without axes at times."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    size = int(np.prod(shape)) * dtype.itemsize
    bits = draw(st.binary(min_size=size, max_size=size))
    if dtype.kind == "b":
        return np.array([byte % 2 == 1 for byte in bits], dtype).reshape(shape)
    return np.frombuffer(bits, dtype).reshape(shape)


TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(TEXT, arrays(), max_size=4),
    st.dictionaries(TEXT, arrays(), max_size=4),
    st.dictionaries(TEXT, JSON, max_size=4),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
def test_every_array_and_every_fact_comes_back(
    weights: Arrays, state: Arrays, facts: dict[str, Any], step: int, micro_batch: int
) -> None:
    written = Checkpoint(step, micro_batch, weights, state, facts)
    with tempfile.TemporaryDirectory() as folder:
        assert content(read_checkpoint(write_checkpoint(Path(folder), written, 1))) == content(written)


@pytest.mark.parametrize("turned", [lambda x: x.T, lambda x: x[::2], lambda x: x[:, ::-1], lambda x: x.astype(">f4")])
def test_arrays_may_lie_in_memory_in_any_order(turned: Callable[[NDArray[Any]], NDArray[Any]], tmp_path: Path) -> None:
    x = turned(np.arange(12, dtype=np.float32).reshape(3, 4))
    read = read_checkpoint(write_checkpoint(tmp_path, Checkpoint(1, 1, {"x": x}, {}, {}), 1))
    assert (read.parameters["x"] == x).all()


def test_the_file_is_named_after_its_step_and_readable_by_those_whom_the_umask_lets(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "new" / "folder", small(100), 1)
    assert path == tmp_path / "new" / "folder" / "step-00000100.safetensors"
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_the_latest_is_that_of_the_highest_step(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") is None
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "step-99999999999.safetensors.txt").touch()
    paths = [write_checkpoint(tmp_path, small(step), 9) for step in (99_999_999, 100_000_000, 5)]
    assert latest_checkpoint(tmp_path) == paths[1]


def test_the_last_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        write_checkpoint(tmp_path, small(step), 3)
        assert names(tmp_path) == [f"step-{k:08d}.safetensors" for k in range(max(1, step - 2), step + 1)]
    write_checkpoint(tmp_path, small(6), 1)
    assert names(tmp_path) == ["step-00000006.safetensors"]


def test_what_was_just_written_is_kept_whatever_its_step(tmp_path: Path) -> None:
    for step in (7, 8, 2):
        write_checkpoint(tmp_path, small(step), 2)
    assert names(tmp_path) == ["step-00000002.safetensors", "step-00000008.safetensors"]


def test_to_keep_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match="cannot keep 0 checkpoints"):
        write_checkpoint(tmp_path, small(), 0)
    assert names(tmp_path) == []


def test_a_step_that_is_written_again_is_replaced(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, small(3), 2)
    again = Checkpoint(3, 0, small(4).parameters, {}, {})
    assert content(read_checkpoint(write_checkpoint(tmp_path, again, 2))) == content(again)


def test_weights_are_those_that_load_reads(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder")
    ours = {name: x + 1 for name, x in parameters().items()}
    write_weights(folder / "model.safetensors", ours)
    loaded = gpt2.load(folder, "numpy").parameters
    assert {name: x.tobytes() for name, x in loaded.items()} == {name: x.tobytes() for name, x in ours.items()}
    assert names(folder) == ["config.json", "model.safetensors"]
    as_saved = tmp_path / "saved"
    gpt2.load(folder, "numpy").save(as_saved)
    assert (as_saved / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


# Nothing that is damaged is read.


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A checkpoint with an older one beside it, and its bytes."""
    folder = tmp_path_factory.mktemp("pair")
    write_checkpoint(folder, small(100), 2)
    path = write_checkpoint(folder, small(200), 2)
    return path, path.read_bytes()


def refusal(path: Path) -> str:
    """The one line that says why a checkpoint is not read; both it and the older one are named."""
    with pytest.raises(GPT2Error) as caught:
        read_checkpoint(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert f"remove it to resume from {path.with_name('step-00000100.safetensors')}" in line
    return line


@given(st.data())
def test_a_flipped_bit_is_found_wherever_it_is(pair: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = pair
    place = data.draw(st.integers(0, len(whole) - 1), "byte")
    damaged = bytearray(whole)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path.write_bytes(damaged)
    assert "damaged" in refusal(path)


def test_a_flipped_bit_is_found_in_every_byte_of_the_head(pair: tuple[Path, bytes]) -> None:
    path, whole = pair
    for place in range(8 + struct.unpack("<Q", whole[:8])[0]):
        damaged = bytearray(whole)
        damaged[place] ^= 0x20  # the bit between upper and lower case
        path.write_bytes(damaged)
        assert "damaged" in refusal(path)


@given(st.data())
def test_a_file_that_is_cut_short_or_goes_on_is_found(pair: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = pair
    more = data.draw(st.binary(min_size=1), "more")
    length = data.draw(st.integers(0, len(whole) - 1), "length")
    for damaged in (whole[:length], whole + more):
        path.write_bytes(damaged)
        assert "damaged" in refusal(path)


@given(st.binary(max_size=200))
def test_what_is_no_checkpoint_is_not_read(pair: tuple[Path, bytes], noise: bytes) -> None:
    path, _ = pair
    path.write_bytes(noise)
    assert "was not written by a training run" in refusal(path)


def test_other_safetensors_files_are_not_read(pair: tuple[Path, bytes]) -> None:
    path, _ = pair
    save_file(small().parameters, path)
    assert "was not written by a training run" in refusal(path)


def test_another_format_is_named(pair: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = pair
    with monkeypatch.context() as changed:
        changed.setattr(checkpoint, "FORMAT", "gpt2-training/3")
        write_checkpoint(path.parent, small(200), 2)
    assert "has the format 'gpt2-training/3', expected 'gpt2-training/1'" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(pair: tuple[Path, bytes]) -> None:
    path, _ = pair
    path.unlink()
    assert "cannot read the checkpoint" in refusal(path)
    path.mkdir()
    assert "cannot read the checkpoint" in refusal(path)
    path.rmdir()


def test_without_an_older_one_the_run_starts_anew(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, small(2), 2)
    write_checkpoint(tmp_path, small(3), 2)
    path.write_bytes(b"")
    with pytest.raises(GPT2Error, match="remove it and start again, as there is no older one"):
        read_checkpoint(path)


# A process that is killed, in the middle of whatever it does.

KILLED_AT_EVERY_STEP = """
import io, os, shutil, signal, sys
from pathlib import Path
from gpt2.training import checkpoint
from tests.gpt2.training.test_checkpoint import small

old, copies, keep, running = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), False
steps, last = 0, 0

def count():
    global steps
    steps += running
    if steps == last:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(call):
    def wrapper(*arguments, **options):
        count()
        result = call(*arguments, **options)
        count()
        return result
    return wrapper

def in_pieces(tensors, path, metadata):
    save_file(tensors, path, metadata=metadata)
    whole = path.read_bytes()
    path.unlink()
    other = path.with_name(".tmpNAME")  # as safetensors does
    for end in range(0, len(whole), 97):
        other.write_bytes(whole[:end])
        count()
    path.write_bytes(whole)
    other.unlink()

save_file = checkpoint.save_file
checkpoint.save_file = in_pieces
# os.rmdir and os.unlink by way of shutil and pathlib too; io.open by way of pathlib
for name in ("replace", "fsync", "open", "close", "mkdir", "unlink", "rmdir", "chmod"):
    setattr(os, name, counted(getattr(os, name)))
io.open = counted(io.open)

for last in range(1, 1000):
    folder = copies / str(last)
    shutil.copytree(old, folder)
    child = os.fork()
    if child == 0:
        running = True
        checkpoint.write_checkpoint(folder, small(300), keep)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:  # this time the write had come to its end
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(last)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
@pytest.mark.parametrize("keep", [1, 2])
def test_a_run_killed_at_any_step_of_a_write_leaves_the_old_or_the_new(keep: int, tmp_path: Path) -> None:
    old, copies = tmp_path / "old", tmp_path / "copies"
    for step in (100, 200):
        write_checkpoint(old, small(step), 2)
    command = [sys.executable, "-c", KILLED_AT_EVERY_STEP, *map(str, (old, copies, keep))]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    found = []
    for last in range(1, int(ran.stdout) + 1):
        folder = copies / str(last)
        latest = latest_checkpoint(folder)
        assert latest is not None
        found.append(read_checkpoint(latest).step)
        assert content(read_checkpoint(latest)) == content(small(found[-1]))
        write_checkpoint(folder, small(400), keep)
        assert names(folder) == [f"step-{step:08d}.safetensors" for step in (found[-1], 400)[-keep:]]
    assert found == sorted(found), "once the new one is there, it stays"
    assert found.count(200) > 20, "kills before the new one was there"
    assert found.count(300) > 5, "and after"


def test_a_write_that_follows_a_killed_one_removes_what_it_left(tmp_path: Path) -> None:
    for left in (".step-00000300.safetensors.part", ".step-00000100.safetensors.part"):
        (tmp_path / left).mkdir()
        (tmp_path / left / ".tmpX").write_bytes(b"half")
    (tmp_path / "mine.part").mkdir()
    write_checkpoint(tmp_path, small(300), 1)
    assert names(tmp_path) == ["mine.part", "step-00000300.safetensors"]


# Files outlive a power cut.


def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_before_the_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done = tmp_path / "new" / "folder", []

    def traced(name: str, call: Callable[..., Any], what: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            done.append((name, what(*arguments)))
            return call(*arguments)

        return wrapper

    inode = {"fsync": lambda handle: os.fstat(handle).st_ino, "replace": lambda a, b: (os.stat(a).st_ino, Path(b))}
    for name, what in inode.items():
        monkeypatch.setattr(os, name, traced(name, getattr(os, name), what))
    monkeypatch.setattr(Path, "unlink", traced("unlink", Path.unlink, lambda path: path))
    first, second = (write_checkpoint(folder, small(step), 1) for step in (1, 2))
    assert names(folder) == [second.name]
    parents = [tmp_path.stat().st_ino, folder.parent.stat().st_ino]
    new_folders = [("fsync", inode) for inode in parents]
    files = [done[2][1], done[5][1]]
    assert files[1] == second.stat().st_ino
    assert done == [
        *new_folders,
        *[("fsync", files[0]), ("replace", (files[0], first)), ("fsync", folder.stat().st_ino)],
        *[("fsync", files[1]), ("replace", (files[1], second)), ("fsync", folder.stat().st_ino)],
        ("unlink", first),
    ]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.EIO])
def test_a_file_system_need_not_sync_folders_but_must_not_fail(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    fails = pytest.raises(GPT2Error, match="Input/output error") if number == errno.EIO else contextlib.nullcontext()
    with fails:
        write_checkpoint(tmp_path, small(), 1)


# What cannot be written.


@contextlib.contextmanager
def one_line_and_nothing_lost(folder: Path, reason: str) -> Iterator[None]:
    """What is run here must be refused for that reason, and leave the folder as it is."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(GPT2Error, match=reason) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert "what was there before is unharmed" in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with two checkpoints."""
    for step in (100, 200):
        write_checkpoint(tmp_path, small(step), 2)
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_file_too_large_for_the_system_leaves_the_old_checkpoints_and_no_other_file(share: float, two: Path) -> None:
    room = int(share * (two / "step-00000100.safetensors").stat().st_size)
    program = f"""
import resource
from pathlib import Path
from gpt2.training.checkpoint import write_checkpoint
from tests.gpt2.training.test_checkpoint import small, one_line_and_nothing_lost
with one_line_and_nothing_lost(Path({str(two)!r}), "File too large"):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
    write_checkpoint(Path({str(two)!r}), small(300), 1)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 64 KiB, with two checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        for step in (100, 200):
            write_checkpoint(folder, small(step), 2)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_checkpoints_and_no_other_file(full_disk: Path) -> None:
    large = Checkpoint(300, 0, {"x": np.ones(100_000)}, {}, {})
    with one_line_and_nothing_lost(full_disk, "No space left on device"):
        write_checkpoint(full_disk, large, 1)
    write_checkpoint(full_disk, small(300), 2)
    assert latest_checkpoint(full_disk) == full_disk / "step-00000300.safetensors"


@pytest.mark.parametrize(
    ("module", "call"),
    [
        (Path, "mkdir"),
        (checkpoint, "save_file"),
        (checkpoint, "_seal"),
        (Path, "chmod"),
        (os, "fsync"),
        (os, "replace"),
    ],
)
def test_a_write_that_fails_at_any_call_leaves_the_old_checkpoints_and_no_other_file(
    module: Any, call: str, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with one_line_and_nothing_lost(two, "No space left on device"), monkeypatch.context() as changed:
        changed.setattr(module, call, fails)
        write_checkpoint(two, small(300), 1)


@pytest.mark.parametrize("place", ["file/below", "/proc/checkpoints"])
def test_a_place_that_cannot_be_written_to_is_refused_in_one_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with one_line_and_nothing_lost(tmp_path, r"^cannot write .*step-00000100\.safetensors: "):
        write_checkpoint(tmp_path / place, small(), 1)
    assert latest_checkpoint(tmp_path / place) is None


# Other files.


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with write_whole(path) as part:
        part.write_text("old")
        assert part.suffix == ".txt"
        assert not path.exists()
    with contextlib.suppress(KeyboardInterrupt), write_whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(GPT2Error, match=r"cannot write .*folder: Is a directory"),
        write_whole(tmp_path / "folder") as part,
    ):
        part.write_text("text")
    assert names(tmp_path) == ["folder"]
