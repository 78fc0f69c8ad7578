"""Frames: what goes in comes out, and what is no frame is refused before it takes memory."""

import dataclasses
import io
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gpt2.peers import frames
from reference.config import GPT2Config, StepReport

KINDS = {"StepReport": StepReport, "GPT2Config": GPT2Config}
DTYPES = st.sampled_from([*frames.DTYPES.values()])
NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
ARRAYS = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


def sent(*trees: Any) -> Any:
    """The trees after they have been written to a file and read from it; the last one."""
    file = io.BytesIO(b"".join(buffer for tree in trees for buffer in frames.to_frame(tree)))
    return [received(file) for _ in trees][-1]


def received(file: io.BytesIO) -> Any:
    def fill(view: memoryview) -> None:
        if file.readinto(view) < len(view):
            raise EOFError

    return frames.from_frame(fill, KINDS)


def same(given: Any, found: Any) -> bool:
    """Whether they have the same types and the same bits."""
    if type(given) is not type(found):
        return False
    if isinstance(given, np.ndarray | np.generic):
        return (given.dtype, given.shape, given.tobytes()) == (found.dtype, found.shape, found.tobytes())
    if isinstance(given, list | tuple):
        return len(given) == len(found) and all(map(same, given, found))
    if isinstance(given, dict):
        return list(given) == list(found) and all(same(given[name], found[name]) for name in given)
    return given == found or (given != given and found != found)


@settings(max_examples=max(30, settings().max_examples // 3))
@given(st.recursive(NUMBERS | ARRAYS, lambda x: st.lists(x) | st.lists(x).map(tuple) | st.dictionaries(st.text(), x)))
def test_a_tree_comes_out_as_it_went_in(tree: Any) -> None:
    assert same(tree, sent(tree))


@given(DTYPES, st.lists(st.integers(0, 4), max_size=3), st.booleans(), st.randoms(use_true_random=False))
def test_the_bits_of_an_array_pass(dtype: np.dtype, shape: list[int], turned: bool, random: Any) -> None:
    x = np.frombuffer(random.randbytes(dtype.itemsize * int(np.prod(shape))), np.uint8).view(dtype).reshape(shape)
    x = (x & 1).astype(bool) if dtype.kind == "b" else x.T if turned else x
    assert same(x, sent([x])[0])
    if not x.shape:
        assert same(x[()], sent(x[()]))


def test_bfloat16_passes() -> None:
    x = np.linspace(-3, 3, 12, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(3, 4)
    assert same(x, sent({"x": x})["x"])


def test_configurations_and_dtypes_pass() -> None:
    config = GPT2Config(n_layer=1, eos_token_id=(1, 2))
    assert sent(config) == config
    assert sent(np.dtype("float16")) == np.dtype("float16")
    report = StepReport(1.5, True, False, 1e-3, float("inf"), 2.0)
    assert dataclasses.astuple(sent([1], report)) == dataclasses.astuple(report)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([None]), np.array(["text"]), np.zeros(1, complex)])
def test_what_does_not_pass_is_said_to_the_sender(value: Any) -> None:
    with pytest.raises(TypeError, match=r"do(es)? not pass to another process"):
        frames.to_frame([value])


def a_frame(text: bytes, arrays_size: int = 0, magic: bytes = frames.MAGIC) -> io.BytesIO:
    return io.BytesIO(frames.HEAD.pack(magic, len(text), arrays_size) + text)


WRONG = {
    "text": a_frame(b"GPT-2 loading ...\n"),
    "another head": io.BytesIO(b"Loading the model, please wait\n"),
    "another protocol": a_frame(b"{}", magic=frames.MAGIC[:3] + b"\x09"),
    "long text": io.BytesIO(frames.HEAD.pack(frames.MAGIC, 2**31, 0)),
    "large arrays": io.BytesIO(frames.HEAD.pack(frames.MAGIC, 2, 2**63) + b"{}"),
    "no arrays": a_frame(b'{"value": 1}'),
    "a list": a_frame(b"[1]"),
    "deep": a_frame(b"[" * 10**5),
    "shape": a_frame(b'{"value": null, "arrays": [["float32", [-1]]]}', 4),
    "whole": a_frame(b'{"value": null, "arrays": [["float32", [1.0]]]}', 4),
    "size": a_frame(b'{"value": null, "arrays": [["float32", [2]]]}', 4),
    "overflow": a_frame(json.dumps({"value": None, "arrays": [["int8", [2**32, 2**32]]]}).encode(), 0),
    "dtype": a_frame(b'{"value": null, "arrays": [["object", [0]]]}'),
    "index": a_frame(b'{"value": {"array": 0}, "arrays": []}'),
    "kind": a_frame(b'{"value": {"handle": 1}, "arrays": []}'),
    "two kinds": a_frame(b'{"value": {"array": 0, "tuple": []}, "arrays": []}'),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_frame_is_refused(name: str) -> None:
    WRONG[name].seek(0)
    with pytest.raises(frames.FrameError):
        received(WRONG[name])


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused(noise: bytes, headed: bool) -> None:
    with pytest.raises((frames.FrameError, EOFError)):
        received(a_frame(noise) if headed else io.BytesIO(noise))


def test_an_array_is_sent_as_it_lies_there() -> None:
    """What is contiguous is not copied: the buffers of a frame show later changes."""
    x = np.zeros(4, np.float32)
    buffer = frames.to_frame([x])[1]
    x[:] = 1
    assert np.frombuffer(buffer, np.float32).tolist() == [1, 1, 1, 1]
