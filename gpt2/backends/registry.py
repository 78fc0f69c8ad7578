"""Find backends by name, among the entry points of installed packages."""

import importlib
import importlib.util
import os
from importlib.metadata import entry_points

from gpt2.backends.protocol import Backend
from gpt2.errors import GPT2Error

ENTRY_POINTS = "gpt2.backends"  # the group in which a package registers its backends
INTERNAL = ("exercise", "port", "twin")  # those that commands name themselves; `exercise:5`, `port:...` take a place
DEVICES = ("CPU", "Ascend", "GPU")
# Those that run in another environment: gpt2.peers makes them. What comes after a colon is the command of its Python.
PEERS = ("torch", "mindnlp", "mindspore@VERSION")
# The packages that backends of this project need beyond its own dependencies, and the extra that brings them.
NEEDED = {"mindspore": (("mindspore",), "MindSpore"), "onnxruntime": (("onnx", "onnxruntime"), "onnx and onnxruntime")}
EXTRAS = {"mindspore": "mindspore", "onnxruntime": "onnx"}


def backend_names() -> list[str]:
    """Names of the backends to choose from, registered by this package or by other installed ones."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - {*INTERNAL})


def is_peer(name: str) -> bool:
    """Whether it is the name of a backend in PEERS."""
    return name in PEERS[:2] or name.startswith("mindspore@")


def get_backend(
    name: str | None = None, device: str | None = None, dtype: str | None = None, mode: str | None = None
) -> Backend:
    """The backend of this name; defaults: $GPT2_BACKEND or numpy, and the backend's default device, dtype and mode.

    A name may have an argument after a colon, as in "twin:no past"; "cpu" is "CPU". A name in PEERS runs in an
    environment of its own, "mindspore@2.9.0".
    Raises GPT2Error for a name, device, dtype or mode that is unknown or not available here.
    """
    source = "" if name else " in the environment variable GPT2_BACKEND"
    named = name or os.environ.get("GPT2_BACKEND") or "numpy"
    name, _, argument = named.partition(":")
    device = next((known for known in DEVICES if device is not None and known.lower() == device.lower()), device)
    options = {"device": device, "dtype": dtype, "mode": mode}
    chosen = {option: value for option, value in options.items() if value is not None}
    points = [point for point in entry_points(group=ENTRY_POINTS) if point.name == name]
    if not points and is_peer(name):
        made: Backend = importlib.import_module("gpt2.peers").get_peer(named, **chosen)
        return made
    if not points:
        elsewhere = f"in an environment of their own (gpt2 peers): {', '.join(PEERS)}"
        raise GPT2Error(f"unknown backend {name!r}{source}: choose one of {', '.join(backend_names())}; {elsewhere}")
    if argument and name in ("numpy", "mindspore"):
        raise GPT2Error(f"backend {name!r} takes no argument, but was given {argument!r}: use --backend {name}")
    packages, words = NEEDED.get(name, ((), ""))
    if any(importlib.util.find_spec(package) is None for package in packages):
        command = f"pip install 'gpt2-parity[{EXTRAS[name]}]'"
        raise GPT2Error(f"backend {name!r} needs {words}: {command}, or --backend numpy")
    try:
        factory = points[0].load()
    except (ImportError, AttributeError) as error:
        raise GPT2Error(f"backend {name!r} is registered, but {points[0].value} cannot be imported: {error}") from error
    try:
        return factory(argument, **chosen) if argument else factory(**chosen)
    except GPT2Error:
        raise
    except ValueError as error:
        raise GPT2Error(str(error)) from error
