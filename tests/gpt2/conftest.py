"""The engines that run here, and the real data."""

import functools
import os
from pathlib import Path

import pytest
from hypothesis import settings

from gpt2.backends import Backend, get_backend
from gpt2.errors import GPT2Error
from tests.gpt2.small import ROOT, byte_folder, folder_of

ENGINES = ("numpy", "mindspore pynative", "mindspore graph")


@functools.cache
def backend_of(engine: str) -> Backend:
    """The backend that an engine's name stands for, in float32. Raises GPT2Error if it does not run here."""
    name, _, mode = engine.partition(" ")
    return get_backend(name, mode=mode or None)


def usable(engine: str) -> Backend:
    """The backend of that name, or a skip that says why there is none."""
    try:
        return backend_of(engine)
    except GPT2Error as error:
        pytest.skip(f"no engine {engine!r} here: {error}")


def examples(factor: float, backend: Backend | None = None) -> settings:
    """So many times the examples of Hypothesis's profile; MindSpore, where everything takes longer, gets a fifth."""
    usual = settings().max_examples
    return settings(max_examples=max(1, round(factor * usual / (5 if backend and backend.name == "mindspore" else 1))))


@pytest.fixture(params=ENGINES)
def every_engine(request: pytest.FixtureRequest) -> Backend:
    """NumPy, and MindSpore in both modes."""
    return usable(request.param)


@pytest.fixture(params=ENGINES[:2])
def engine(request: pytest.FixtureRequest) -> Backend:
    """NumPy, and MindSpore where nothing needs compiling."""
    return usable(request.param)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of small real data: $GPT2_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("GPT2_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: set GPT2_DATA to its folder, {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small live model without a tokenizer. Not to be changed."""
    return folder_of(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small live model with a tokenizer of bytes. Not to be changed."""
    return byte_folder(tmp_path_factory.mktemp("models") / "speaker")
