"""The pytest plugin: `pytest --pyargs parity --backend NAME` judges any backend.

Every run of pytest imports this file if the project is installed. So it imports only pytest, and it adds no option and
changes no test unless the suite `parity/conformance` is requested.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gpt2.backends import Backend
    from parity.time_limits import Failures

SUITE = Path(__file__).parent / "conformance"
# Name, meaning, default. Each can also be given as an environment variable: GPT2_BACKEND, GPT2_DEVICE, ...
OPTIONS = {
    "backend": ("the backend to judge: numpy, mindspore, or another that is registered", "mindspore"),
    "device": ("CPU, Ascend, GPU, or what the backend has", "the backend's own"),
    "dtype": ("float32, float16 or bfloat16", "float32"),
    "mode": ("how the backend runs", "the backend's own; pynative for mindspore"),
    "examples": ("random cases per rule", "25"),
    "seed": ("the same seed draws the same cases", "0"),
}


@dataclasses.dataclass(frozen=True)
class Session:
    """The backend to judge, the number of cases per rule, the random seed, and how long failures have taken."""

    backend: "Backend"
    examples: int
    seed: int
    failures: "Failures"


SESSION = pytest.StashKey[Session]()
TAKEN = pytest.StashKey[list[str]]()  # option names that another plugin has; set only if our suite is requested


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Iterator[None]:
    """Add the options, after all other plugins and conftest.py files have added theirs."""
    yield
    if not _asked_for(early_config):
        return
    early_config.stash[TAKEN] = [name for name in OPTIONS if _is_taken(parser, f"--{name}")]
    group = parser.getgroup("parity", "judge a backend of GPT-2 (pytest --pyargs parity)")
    for name, (meaning, default) in OPTIONS.items():
        if name not in early_config.stash[TAKEN]:
            text = f"{meaning} [${_variable(name)}, or {default}]"
            group.addoption(f"--{name}", dest=_destination(name), metavar=name.upper(), help=text)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the suite out of other test runs, such as `pytest .` in the folder of this project."""
    return True if collection_path == SUITE and TAKEN not in config.stash else None


def pytest_configure(config: pytest.Config) -> None:
    """Let the summary say why a rule was skipped, unless -r says otherwise."""
    if TAKEN in config.stash:
        config.option.reportchars = "s" + config.option.reportchars


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the backend. Raises pytest.UsageError, one line, for anything that is missing or wrong."""
    if TAKEN in session.config.stash:
        session.config.stash[SESSION] = _start(session.config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The backend to judge, and the settings."""
    if SESSION not in config.stash:
        return []
    from parity.report.record import environment

    session = config.stash[SESSION]
    backend, versions = session.backend, environment(session.backend)
    lib = f" {versions['backend_version']}" if versions["backend_version"] else ""
    return [
        f"parity: {backend.name}{lib} on {backend.device}, {backend.dtype}, {backend.mode}; {session.examples} cases "
        f"per rule, seed {session.seed}; gpt2-parity {versions['project']}, NumPy {versions['numpy']}",
        *(
            f"parity: --{name} belongs to another plugin or conftest.py here: set the environment variable "
            f"{_variable(name)} instead"
            for name in config.stash[TAKEN]
        ),
    ]


def _asked_for(config: pytest.Config) -> bool:
    known = config.known_args_namespace
    for argument in known.file_or_dir:
        target = str(argument).partition("::")[0]
        if known.pyargs and target.split(".")[0] == __name__.split(".")[0]:
            return True
        if (config.invocation_params.dir / target).resolve().is_relative_to(SUITE.parent.resolve()):
            return True
    return False


def _is_taken(parser: pytest.Parser, option: str) -> bool:
    try:
        return option not in parser.parse_known_and_unknown_args([option])[1]
    except pytest.UsageError:  # the option is known, and needs a value
        return True


def _variable(name: str) -> str:
    return f"GPT2_{name.upper()}"


def _destination(name: str) -> str:
    return f"gpt2_parity_{name}"


def _value(config: pytest.Config, name: str) -> str | None:
    return config.getoption(_destination(name), None) or os.environ.get(_variable(name)) or None


def _start(config: pytest.Config) -> Session:
    from gpt2.backends import DTYPES, get_backend
    from gpt2.errors import GPT2Error
    from parity.time_limits import Failures

    name = _value(config, "backend") or "mindspore"
    mode = _value(config, "mode")
    if mode is None and name.partition("@")[0] == "mindspore":
        mode = "pynative"  # a graph is compiled for every new shape
    dtype = _value(config, "dtype") or "float32"
    if dtype not in DTYPES[1:]:
        raise pytest.UsageError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES[1:])}")
    examples, seed = _whole_number(config, "examples", 25, least=1), _whole_number(config, "seed", 0, least=0)
    try:
        backend = get_backend(name, _value(config, "device"), dtype, mode)
    except GPT2Error as error:
        raise pytest.UsageError(str(error)) from error
    except Exception as error:  # third-party code: a missing driver can raise anything
        raise pytest.UsageError(f"backend {name!r} does not start: {_one_line(error)}") from error
    return Session(backend, examples, seed, Failures())


def _whole_number(config: pytest.Config, name: str, default: int, least: int) -> int:
    text: Any = _value(config, name) or default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise pytest.UsageError(f"--{name} must be a whole number of at least {least}, but is {text!r}")
    return number


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
