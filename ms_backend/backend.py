"""The MindSpore engine behind the protocol of gpt2/backends.py: devices, dtypes, compiled graphs, threads."""

import functools
import importlib
import json
import os
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

os.environ.setdefault("GLOG_v", "4")  # quiets MindSpore's own log; what matters comes back as an exception
os.environ.setdefault("MS_OM_PATH", tempfile.gettempdir())  # where it writes a graph that did not compile

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore import ops as P

from ms_backend import fast, generate, model, stages
from ms_backend.attention import mask_value
from ms_backend.autodiff import vjp
from ms_backend.weights import assign, to_tensor
from reference.config import GPT2Config, TrainingConfig, flatten, map_tree, nest

Array = np.ndarray
DEVICES = ("CPU", "Ascend", "GPU")
DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}
MODES = ("graph", "pynative")
# No matmul, softmax, LayerNorm or gather there: values are rounded to the dtype, and computed in float32.
WITHOUT_KERNELS = {("CPU", "bfloat16")}

_lock = threading.RLock()  # two threads in one graph give wrong numbers, not an error
_device: str | None = None


class MindSporeError(ValueError):
    """What MindSpore cannot do here: one line that says what was expected, what came and what to do."""


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


class MindSporeBackend:
    """The twin on `device`, in `dtype`, compiled ("graph") or op by op ("pynative").

    Raises MindSporeError for an unknown or absent device, dtype or mode.
    """

    name = "mindspore"
    sources = Path(__file__).parent

    def __init__(self, device: str = "CPU", dtype: str = "float32", mode: str = "graph") -> None:
        for what, value, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES), ("mode", mode, MODES)):
            if value not in known:
                raise MindSporeError(f"backend 'mindspore' has no {what} {value!r}: choose one of {', '.join(known)}")
        _use_device(device)
        self.device, self.dtype, self.mode, self.lock = device, dtype, mode, _lock
        self.compute_dtype = DTYPES[dtype]
        if (device, dtype) in WITHOUT_KERNELS:
            self.compute_dtype = ms.float32
            warnings.warn(
                f"MindSpore has no {dtype} kernels on {device}: weights are rounded to {dtype}, sums run in float32",
                stacklevel=2,
            )

    @functools.cached_property
    def accuracy(self) -> Mapping[str, float]:
        """Largest relative error of MindSpore's elementary functions on this device, as measured; see accuracy.json."""
        measured = json.loads(resources.files(__package__).joinpath("accuracy.json").read_text(encoding="utf-8"))
        for entry in measured:
            if entry["device"] == self.device and entry["mindspore"] == ms.__version__:
                return entry["relative_error"]
        return {}

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

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run one function of the mirror on (trees of) NumPy arrays.

        What ends in _vjp is differentiated by MindSpore; what trains takes Parameters, and runs op by op in any mode.
        """
        file, name = function.split(".")
        target = getattr(importlib.import_module(f"{__package__}.{file}"), name.removesuffix("_vjp"))
        tensors, constants = {}, {}
        for key, value in arguments.items():
            if isinstance(value, np.dtype):
                constants[key] = DTYPES[self.dtype]
            elif isinstance(value, np.ndarray | dict | list | tuple):
                tensors[key] = _map(self.place, value)
            else:
                constants[key] = value
        if name.endswith("_vjp"):
            with _lock:
                return _map(self.fetch, vjp(target, tensors.pop("grad"), {**tensors, **constants}, self.mode))
        if file == "train":
            tensors["params"] = map_tree(lambda name, x: Parameter(x, name=name), tensors["params"])
        mode = "pynative" if file == "train" else self.mode
        return _map(self.fetch, Runner(target, constants, mode)(**tensors))

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "MindSporeModel":
        """Put the parameters in place."""
        return MindSporeModel(self, config, parameters)

    def trainer(self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig) -> Any:
        """Start training. Raises MindSporeError unless the backend's dtype, that of the weights, is float32."""
        from ms_backend.trainer import MindSporeTrainer

        if self.dtype != "float32":
            raise MindSporeError(
                f"weights are trained in float32, not in {self.dtype}: use --dtype float32 and a level from O1 to O3"
            )
        return MindSporeTrainer(self, config, parameters, settings)


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_map(function, value) for value in tree)
    return function(tree)


class _Graph(nn.Cell):
    """A function as a compiled graph: inputs have names, parameters are read where they lie, all else is fixed."""

    def __init__(self, function: Callable[..., Any], names: tuple[str, ...], constants: dict[str, Any]) -> None:
        super().__init__(auto_prefix=False)
        self.function, self.names, self.constants = function, names, constants

    @ms.jit
    def construct(self, *inputs):  # type: ignore[no-untyped-def]
        return self.function(**{name: inputs[i] for i, name in enumerate(self.names)}, **self.constants)


class Runner:
    """A function with some arguments fixed, run as a graph or op by op, entered by one thread at a time.

    After an error the graph is thrown away: MindSpore's graphs fail at every later call of a shape once one has failed.
    """

    def __init__(self, function: Callable[..., Any], constants: dict[str, Any], mode: str) -> None:
        self._function, self._constants, self._mode = function, constants, mode
        self._graphs: dict[tuple[str, ...], _Graph] = {}

    def __call__(self, **inputs: Any) -> Any:
        with _lock:
            if self._mode == "pynative":
                return self._function(**inputs, **self._constants)
            names = tuple(inputs)
            if names not in self._graphs:
                self._graphs[names] = _Graph(self._function, names, self._constants)
            try:  # a Tensor is quicker by itself than in a dict; a tree that is not mutable would be compiled in
                return self._graphs[names](*(x if isinstance(x, Tensor) else ms.mutable(x) for x in inputs.values()))
            except Exception:
                del self._graphs[names]
                raise


def bucket(length: int) -> int:
    """The length that is compiled for `length` tokens: the next power of two up to 64, then the next multiple of 64."""
    return 1 << (length - 1).bit_length() if length <= 64 else -(-length // 64) * 64


class MindSporeModel:
    """A GPT-2 of the twin: plain functions for `stages` and `classify`, fast ones for the rest."""

    def __init__(self, backend: MindSporeBackend, config: GPT2Config, parameters: Mapping[str, Array]) -> None:
        self.backend, self.config = backend, config
        self._host = dict(parameters)
        self._free_rooms: list[_Room] = []

    def _place(self) -> dict:
        return map_tree(lambda name, x: Parameter(self.backend.place(x), name=name), nest(self._host))

    @functools.cached_property
    def params(self) -> dict:
        """The parameters as the plain functions take them."""
        return self._place()

    @functools.cached_property
    def fast_params(self) -> dict:
        """The parameters as the fast functions take them."""
        return fast.fast_parameters(self._place())

    @functools.cached_property
    def _logits(self) -> Runner:
        fixed = {"params": self.fast_params, "config": self.config}
        return Runner(fast.language_model_fast, fixed, self.backend.mode)

    @functools.cached_property
    def _classify(self) -> Runner:
        return Runner(model.sequence_classifier, {"params": self.params, "config": self.config}, self.backend.mode)

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight, in place: compiled graphs go on with the new ones.

        Raises ValueError if a name, a shape or a dtype differs.
        """
        if parameters.keys() != self._host.keys():
            raise ValueError(f"expected the parameters {sorted(self._host)}, got {sorted(parameters)}")
        self._host = dict(parameters)
        for tree, prepare in (("params", _same), ("fast_params", fast.fast_parameters)):
            if tree in self.__dict__:  # built already
                new = flatten(prepare(self._place()))
                for name, parameter in flatten(getattr(self, tree)).items():
                    assign(parameter, new[name])

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every next token. Computed for a round number of tokens, so that not every length is compiled."""
        length = bucket(ids.shape[1]) - ids.shape[1]
        if attention_mask is None:
            attention_mask = np.ones(ids.shape, np.int32)
        if position_ids is None:
            position_ids = np.arange(ids.shape[1])[None]
        inputs = {"ids": ids, "attention_mask": attention_mask, "position_ids": position_ids}
        padded = {name: to_tensor(np.pad(x, ((0, 0), (0, length)))) for name, x in inputs.items()}
        return self.backend.fetch(self._logits(**padded))[:, : ids.shape[1]]

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every label."""
        return self.backend.fetch(self._classify(**_tensors(ids, attention_mask, position_ids)))

    def stages(
        self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:  # fmt: skip
        """Every named stage, computed op by op in either mode."""
        seen: dict[str, Array] = {}
        keep = stages.keep_in(seen)
        replaced = {name: to_tensor(x.astype(np.float32)) for name, x in (given or {}).items()}
        head = model.sequence_classifier if "score" in self.params else model.language_model

        def watch(name: str, x: Tensor) -> Tensor:
            keep(name, x)
            return replaced[name].astype(x.dtype) if name in replaced else x

        with _lock, stages.observing(watch):
            head(self.params, config=self.config, **_tensors(ids, attention_mask, position_ids))
        return {name: self.backend.round(x) for name, x in seen.items()}

    def decoder(self, batch_size: int, length: int) -> "MindSporeDecoder":
        """Start a batch."""
        return MindSporeDecoder(self, batch_size, length)

    def room(self, size: tuple[int, int], tenant: "MindSporeDecoder") -> "_Room":
        """A cache for (sequences, tokens). One that an earlier batch has left is used again, compiled as it is."""
        with _lock:
            free = [room for room in self._free_rooms if room.size == size]
            room = free[0] if free else _Room(self, size)
            if free:
                self._free_rooms.remove(room)
                room.clear()
        weakref.finalize(tenant, self._free_rooms.append, room)
        return room


def _same(tree: dict) -> dict:
    return tree


def _tensors(ids: Array, attention_mask: Array | None, position_ids: Array | None) -> dict[str, Tensor]:
    inputs = {"ids": ids, "attention_mask": attention_mask, "position_ids": position_ids}
    return {name: to_tensor(x) for name, x in inputs.items() if x is not None}


class _Room:
    """A cache of `size` (sequences, tokens) and the compiled functions that work on it."""

    def __init__(self, owner: MindSporeModel, size: tuple[int, int]) -> None:
        self.size = size
        backend, config = owner.backend, owner.config
        self._cache = fast.make_cache(config, *size, backend.compute_dtype)
        fixed = {"params": owner.fast_params, "config": config, "cache": self._cache, "last_only": True}
        self.read = Runner(fast.language_model_fast, fixed, backend.mode)
        self.step = Runner(_step, fixed, backend.mode)
        self.reorder = Runner(_reorder, {"cache": self._cache}, backend.mode)
        self.cache_bytes = sum(kept.nbytes for pair in self._cache for kept in pair)

    def clear(self) -> None:
        """Put zeros in place: a NaN that an earlier batch left would reach through any mask."""
        for k, v in self._cache:
            for kept in (k, v):
                assign(kept, P.zeros_like(kept))


def _step(ids: Tensor, position_ids: Tensor, slot: Tensor, **fixed: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores (B, V) after ids (B,), the likeliest ids (B,), and where these go: positions (B, 1) and the slot."""
    scores = fast.language_model_fast(ids=ids.reshape(-1, 1), position_ids=position_ids, slot=slot, **fixed)
    scores = scores.reshape(ids.shape[0], -1)
    return scores, generate.greedy(scores), position_ids + 1, slot + 1


def _reorder(cache: list[tuple[Parameter, Parameter]], rows: Tensor) -> None:
    """Put in place of each sequence's keys and values those of sequence rows[i]."""
    for k, v in cache:
        for kept in (k, v):
            P.assign(kept, P.gather(kept, rows, 0))


class MindSporeDecoder:
    """A batch being continued by the twin. Ids are read in round numbers, filled up with pads on the left.

    What it chooses stays on the device, and the next step is taken from there.
    """

    def __init__(self, owner: MindSporeModel, batch_size: int, length: int) -> None:
        self._owner, self._backend, self._batch_size, self._length = owner, owner.backend, batch_size, length
        self._slot = self._read = 0  # pads of a bucket take slots as well
        self._logits: Tensor | None = None
        self._likeliest: Tensor | None = None
        self._chosen: Tensor | None = None
        self._next: dict[str, Tensor] = {}  # where advance goes on

    def _move_in(self, tokens: int) -> None:
        """Take a room for a prompt of that many tokens: of one size for all prompts of a bucket."""
        slots = bucket(bucket(tokens) + self._length - tokens)
        self._room = self._owner.room((self._batch_size, slots), self)
        self._spare = slots - self._length  # slots that pads may take
        self._attention_mask = np.ones(
            self._room.size, np.int32
        )  # no pad follows: causality hides what is not yet read

    @property
    def slots(self) -> int:
        """S, how many tokens the cache has room for, pads included; known as soon as a prompt has been read."""
        return self._room.size[1]

    @property
    def cache_bytes(self) -> int:
        """Memory of the keys and values, 2 n_layer B H S D numbers."""
        return self._room.cache_bytes

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Take in ids."""
        self._require_room(ids.shape[1])
        if self._slot == 0:
            self._move_in(ids.shape[1])
        pads = min(bucket(ids.shape[1]) - ids.shape[1], self._spare)
        self._spare -= pads
        self._read += ids.shape[1]
        inputs = {"ids": ids, "position_ids": position_ids}
        padded = {name: to_tensor(np.pad(x, ((0, 0), (pads, 0)))) for name, x in inputs.items()}
        start, end = self._slot + pads, self._slot + pads + ids.shape[1]
        self._attention_mask[:, self._slot : start] = 0
        self._attention_mask[:, start:end] = attention_mask
        scores = self._room.read(
            **padded, attention_mask=to_tensor(self._attention_mask), slot=Tensor(self._slot, ms.int32)
        )
        self._logits, self._slot = scores[:, -1], end
        self._likeliest = None
        self._next = {
            "position_ids": to_tensor(position_ids[:, -1:] + 1),
            "slot": Tensor(end, ms.int32),
            "attention_mask": to_tensor(self._attention_mask),
        }

    def _require_room(self, tokens: int) -> None:
        if self._read + tokens > self._length:
            raise ValueError(f"{tokens} tokens do not fit: {self._read} of {self._length} have been read")

    def logits(self) -> Array:
        """Scores of the next token."""
        return self._backend.fetch(self._logits)

    def greedy(self) -> Array:
        """The likeliest next ids."""
        with _lock:
            self._chosen = generate.greedy(self._logits) if self._likeliest is None else self._likeliest
            return self._backend.fetch(self._chosen)

    def sample(self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0) -> Array:
        """Ids drawn by uniform."""
        with _lock:
            numbers = Tensor(uniform.astype(np.float32))
            self._chosen = generate.sample(self._logits, numbers, temperature, top_k, top_p, min_p)
            return self._backend.fetch(self._chosen)

    def advance(self) -> None:
        """Read the ids chosen last, which lie on the device."""
        self._require_room(1)
        self._logits, self._likeliest, positions, slot = self._room.step(ids=self._chosen, **self._next)
        self._next |= {"position_ids": positions, "slot": slot}
        self._slot, self._read = self._slot + 1, self._read + 1

    def reorder(self, rows: Array) -> None:
        """Let sequence i go on from what sequence rows[i] has read."""
        self._attention_mask = self._attention_mask[rows]
        with _lock:
            chosen = to_tensor(rows)
            self._room.reorder(rows=chosen)
            self._logits = P.gather(self._logits, chosen, 0)
            self._likeliest = None
            for name in ("position_ids", "attention_mask"):
                self._next[name] = P.gather(self._next[name], chosen, 0)
            if self._chosen is not None:
                self._chosen = P.gather(self._chosen, chosen, 0)
