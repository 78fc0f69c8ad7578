"""What is written to a checkpoint is read, bit for bit, and nothing that is damaged is."""

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import save_file

import gpt2
from gpt2 import GPT2Error
from gpt2.training import checkpoint
from gpt2.training.checkpoint import Checkpoint, latest_checkpoint, read_checkpoint, write_checkpoint, write_weights
from tests.gpt2.small import folder_of, parameters
from tests.gpt2.training.checkpoints import DTYPES, Arrays, content, names, small

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
    assert "has the format 'gpt2-training/3', expected 'gpt2-training/2'" in refusal(path)


def test_checkpoints_of_the_first_format_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint._save

    def as_before(tensors: Any, path: Path, metadata: dict[str, str]) -> None:
        save(tensors, path, {"facts of then" if name == "checkpoint" else name: x for name, x in metadata.items()})

    with monkeypatch.context() as changed:
        changed.setattr(checkpoint, "FORMAT", "gpt2-training/1")
        changed.setattr(checkpoint, "_save", as_before)
        path = write_checkpoint(tmp_path, small(3), 1)
    assert content(read_checkpoint(path)) == content(small(3))


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
