"""A file that somebody exported as a backend: `--backend onnxruntime:FILE.onnx` runs its own graph and weights.

It computes one model alone, that of the folder which `gpt2 convert FILE.onnx FOLDER` writes. So the judge, which draws
models, has nothing to ask it, but `gpt2 logits`, `generate` and `blame` on that folder show what the file computes.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends.cached_decoder import CachedDecoder
from gpt2.backends.onnxruntime_backend import NotOfferedError, OnnxRuntimeBackend, session
from gpt2.backends.protocol import Array
from gpt2.errors import GPT2Error
from reference.config import GPT2Config

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
KINDS = {"tensor(float)": "float32", "tensor(float16)": "float16"}
INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def get_onnxruntime(file: str = "", **options: Any) -> OnnxRuntimeBackend:
    """The backend; of a file, if one is named after the colon."""
    return OnnxFileBackend(Path(file), **options) if file else OnnxRuntimeBackend(**options)


class OnnxFileBackend(OnnxRuntimeBackend):
    """Runs one ONNX file. Its inputs are told by their names, as the exporters choose them."""

    def __init__(self, path: Path, device: str = "CPU", dtype: str | None = None, mode: str = "graph") -> None:
        """Raises GPT2Error if onnxruntime cannot load the file, or if it computes in another dtype."""
        super().__init__(device, mode=mode)
        if not path.is_file():
            raise GPT2Error(f"no file {path}: expected a model as .onnx after 'onnxruntime:'")
        self.path, self.name = path, f"onnxruntime:{path}"
        try:
            self.session = session(str(path), mode)
        except Exception as error:  # those of onnxruntime have no common class
            raise GPT2Error(f"onnxruntime cannot load {path}: {_first(error)}") from error
        arrays = _constants(path)
        self._held = {_digest(each) for x in arrays for each in (x, x.T)}
        # Whatever its inputs and outputs are converted to, it is as exact as its weights.
        self.dtype = "float16" if any(x.dtype == np.float16 and x.ndim > 1 for x in arrays) else "float32"
        if dtype not in (None, self.dtype):
            raise GPT2Error(f"{path} computes in {self.dtype}, not in {dtype}: leave --dtype out")

    def offers(self, function: str) -> bool:
        """Nothing that the judge draws models for."""
        return False

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Raises NotOfferedError."""
        raise NotOfferedError(f"{self.name} runs one model alone: judge --backend onnxruntime, or blame a folder")

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "OnnxFileModel":  # type: ignore[override]
        """The model of the file. Raises NotOfferedError unless the parameters are those of the file."""
        # A file need not hold biases of zeros: what it lacks is added as zeros when it is converted.
        other = [name for name, x in parameters.items() if x.any() and _digest(x) not in self._held]
        if other:
            raise NotOfferedError(
                f"{self.path} does not hold the {other[0]} of this model: it runs the folder that `gpt2 convert "
                f"{self.path} FOLDER` writes"
            )
        return OnnxFileModel(self, config)


class OnnxFileModel:
    """The model of a file."""

    def __init__(self, backend: OnnxFileBackend, config: GPT2Config) -> None:
        self.config, self.dtype = config, backend.dtype
        self._backend = backend
        outputs = [each.name for each in backend.session.get_outputs()]
        self._scores = "logits" if "logits" in outputs else outputs[0]

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of the next token at every position. Raises NotOfferedError for an input that the file lacks."""
        given = {IDS: ids, MASK: attention_mask, POSITIONS: position_ids}
        usual = {MASK: np.ones_like(ids), POSITIONS: np.broadcast_to(np.arange(ids.shape[1]), ids.shape)}
        feed, inputs = {}, self._backend.session.get_inputs()
        for each in inputs:
            if "past" in each.name:
                feed[each.name] = self._empty(each, len(ids))
            elif each.name in given and each.type in INTEGERS:
                x = given.pop(each.name)
                feed[each.name] = np.ascontiguousarray(usual[each.name] if x is None else x, INTEGERS[each.type])
            else:
                raise NotOfferedError(f"{self._backend.path} asks for an input {each.name!r} of {each.type}")
        for name, x in given.items():
            if x is not None and (name == IDS or not np.array_equal(x, np.broadcast_to(usual[name], x.shape))):
                raise NotOfferedError(f"{self._backend.path} has no input {name!r}")
        try:
            scores: Array = self._backend.session.run([self._scores], feed)[0]
        except Exception as error:  # as above
            raise GPT2Error(f"onnxruntime cannot run {self._backend.path}: {_first(error)}") from error
        if scores.shape != (*ids.shape, self.config.vocab_size):
            wanted = (*ids.shape, self.config.vocab_size)
            raise GPT2Error(f"{self._backend.path} computes scores of the shape {scores.shape}, expected {wanted}")
        return scores.astype(self.dtype, copy=False)

    def _empty(self, declared: Any, batch: int) -> Array:
        """No past: keys and values (B, H, 0, D), or both in one tensor (2, B, H, 0, D), as onnxruntime's tools do."""
        shape = [batch, self.config.n_head, 0, self.config.head_size]
        return np.zeros(([2] if len(declared.shape) == 5 else []) + shape, KINDS.get(declared.type, self.dtype))

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Raises NotOfferedError."""
        raise NotOfferedError(f"a classifier by {self._backend.path}")

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """The scores alone: which of the file's tensors is which stage, the exporter does not say."""
        return {"logits": self.logits(ids, attention_mask, position_ids)}

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Raises NotOfferedError: the weights are the file's."""
        raise NotOfferedError(f"other weights in {self._backend.path}")

    def decoder(self, batch_size: int, length: int) -> CachedDecoder:
        """A decoder for a new batch. It reads all tokens again at each step, whatever cache the file may have."""
        return CachedDecoder(self._read_again, lambda before, rows: [x[rows] for x in before], batch_size)

    def _read_again(
        self, ids: Array, attention_mask: Array | None, position_ids: Array | None, before: list[Array] | None
    ) -> tuple[Array, list[Array]]:
        start = before[0].shape[1] if before else 0
        if position_ids is None:
            position_ids = np.broadcast_to(np.arange(start, start + ids.shape[1]), ids.shape)
        new = [ids, position_ids]
        every = [np.concatenate(pair, axis=1) for pair in zip(before, new, strict=True)] if before else new
        return self.logits(every[0], attention_mask, every[1]), every


def _constants(path: Path) -> list[Array]:
    """Every constant of a file."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
        values = [a.t for node in graph.node for a in node.attribute if a.name == "value"]
        return [np.asarray(numpy_helper.to_array(tensor)) for tensor in (*graph.initializer, *values)]
    except Exception as error:  # those of protobuf and of the library
        raise GPT2Error(f"{path} is not a readable ONNX file: {_first(error)}") from error


def _digest(x: Array) -> bytes:
    shape = [size for size in x.shape if size > 1]  # a folded table of positions has an axis for the batch
    return hashlib.sha256(f"{x.dtype} {shape} ".encode() + np.ascontiguousarray(x).tobytes()).digest()


def _first(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
