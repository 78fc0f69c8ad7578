"""A checkpoint is there whole or not at all, whether the process is killed, the power fails or the disk is full."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2 import GPT2Error
from gpt2.files import write_whole
from gpt2.training import checkpoint
from gpt2.training.checkpoint import Checkpoint, latest_checkpoint, read_checkpoint, write_checkpoint
from tests.gpt2.small import ROOT
from tests.gpt2.training.checkpoints import content, names, one_line_and_nothing_lost, small

# A process that is killed, in the middle of whatever it does.


KILLED_AT_EVERY_STEP = """
import io, os, shutil, signal, sys
from pathlib import Path
from gpt2.training import checkpoint
from tests.gpt2.training.checkpoints import small

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
from tests.gpt2.training.checkpoints import small, one_line_and_nothing_lost
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
        pytest.raises(GPT2Error, match=r"cannot write .*folder: it exists and is not a file"),
        write_whole(tmp_path / "folder") as part,
    ):
        part.write_text("text")
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(GPT2Error, match=r"cannot write .*pipe: it exists and is not a file"), write_whole(pipe) as part:
        part.write_text("text")
    assert pipe.is_fifo()
