"""A device that runs MindSpore: which devices there are, their dtypes, and how arrays get there and back."""

import functools
import importlib
import json
import math
import threading
import warnings
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ms_backend.attention import mask_value
from ms_backend.weights import to_tensor

Array = np.ndarray
DEVICES = ("CPU", "Ascend", "GPU")
DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}
MODES = ("graph", "pynative")
# No matmul, softmax, LayerNorm or gather there: values are rounded to the dtype, and computed in float32.
WITHOUT_KERNELS = {("CPU", "bfloat16")}

POINTS = int(1e5)  # at which elementary functions are measured; an even number, so that none of them is 0

LOCK = threading.RLock()  # two threads in one graph give wrong numbers, not an error
_device: str | None = None


class MindSporeError(ValueError):
    """Something that MindSpore cannot do here: one line that says what was expected, what was given and what to do."""


def _use_device(device: str) -> None:
    global _device
    if device == _device:
        return
    if _device is not None:
        raise MindSporeError(f"this process already runs MindSpore on {_device!r}: start another one for {device!r}")
    try:
        ms.set_device(device)
    except RuntimeError as error:
        raise MindSporeError(
            f"device {device!r} is not available to MindSpore here: install its driver and toolkit, or use --device CPU"
        ) from error
    if device == "CPU":
        ms.runtime.launch_blocking()  # without it every small op waits about 1 ms for the launch threads
    _device = device


def _measured_errors() -> dict[str, float]:
    """Largest relative error of elementary functions in float32: exp of a softmax, log of a sum over a vocabulary.

    Not of tanh, which is less accurate and which the twin does not use.
    """
    x, few = np.linspace(-20.0, 20.0, POINTS), np.linspace(2.0, 5e4, POINTS)
    exact: dict[str, tuple[Array, Callable[[Array], Array]]] = {
        "exp": (np.linspace(-20.0, 0.0, POINTS), np.exp),
        "sigmoid": (x, lambda y: 1 / (1 + np.exp(-y))),
        "erf": (x, np.vectorize(math.erf)),
        "log": (few, np.log),
    }
    errors = {}
    for name, (points, function) in exact.items():
        rounded = points.astype(np.float32)
        found = getattr(ops, name)(Tensor(rounded)).asnumpy().astype(np.float64)
        errors[name] = float(np.abs(found / function(rounded.astype(np.float64)) - 1).max())
    return errors


class MindSporeDevice:
    """`device`, in `dtype`, with functions compiled ("graph") or run op by op ("pynative").

    Raises MindSporeError for an unknown or absent device, dtype or mode.
    """

    def __init__(self, device: str = "CPU", dtype: str = "float32", mode: str = "graph") -> None:
        for what, value, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES), ("mode", mode, MODES)):
            if value not in known:
                raise MindSporeError(f"backend 'mindspore' has no {what} {value!r}: choose one of {', '.join(known)}")
        _use_device(device)
        self.device, self.dtype, self.mode = device, dtype, mode
        self.compute_dtype = DTYPES[dtype]
        if (device, dtype) in WITHOUT_KERNELS:
            self.compute_dtype = ms.float32
            warnings.warn(
                f"MindSpore has no {dtype} kernels on {device}: weights are rounded to {dtype}, sums run in float32",
                stacklevel=2,
            )

    @functools.cached_property
    def accuracy(self) -> Mapping[str, float]:
        """Largest relative error of MindSpore's elementary functions on this device: see accuracy.json.

        It is measured here, which is said, if this version has not been measured on this device.
        """
        measured = json.loads(resources.files(__package__).joinpath("accuracy.json").read_text(encoding="utf-8"))
        for entry in measured:
            if entry["device"] == self.device and entry["mindspore"] == ms.__version__:
                return entry["relative_error"]
        errors = _measured_errors()
        shown = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
        warnings.warn(
            f"MindSpore {ms.__version__} on {self.device} was not measured before; largest relative errors: {shown}",
            stacklevel=2,
        )
        return errors

    def place(self, x: Array) -> Tensor:
        """A copy on the device; floats are rounded to the backend's dtype and held in the dtype it computes in."""
        if x.dtype.kind not in "iub":
            x = x.astype(self.numpy_dtype)
        return to_tensor(x, self.compute_dtype)

    @functools.cached_property
    def numpy_dtype(self) -> np.dtype:
        """NumPy's dtype of that name."""
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if self.dtype == "bfloat16" else self.dtype)

    def fetch(self, x: Any) -> Any:
        """A NumPy copy of a tensor; floats of the compute dtype are rounded to the backend's dtype."""
        if not isinstance(x, Tensor):
            return x
        if x.dtype == ms.bfloat16:
            x = x.astype(ms.float32)  # MindSpore's NumPy bfloat16 is not that of ml_dtypes
        return self.round(x.asnumpy().copy())  # asnumpy alone is a view that later calls overwrite

    def round(self, x: Array) -> Array:
        """float32 rounded to bfloat16, if that is the backend's dtype; finite numbers stay finite."""
        if x.dtype != np.float32 or self.dtype != "bfloat16":
            return x
        lowest = mask_value(DTYPES[self.dtype])
        return np.where(np.isfinite(x), np.clip(x, lowest, -lowest), x).astype(self.numpy_dtype)
