"""The backend of onnxruntime, on the CPU: models that are written as ONNX graphs, or a file that somebody exported."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpt2.backends.onnx_writer import GIVEN, IR_VERSION, OPSET, Writer
from gpt2.backends.protocol import Array, numpy_dtype
from gpt2.errors import GPT2Error
from reference import elementary, generate
from reference.config import GPT2Config, flatten

DTYPES = ("float32", "float16")
MODES = ("graph", "plain")
OFFERED = ("engine.logits", "engine.cached", "engine.classify", "model.language_model", "model.sequence_classifier")
# Where its elementary functions are measured, and by which operator: exp below e**-20 is lost in a softmax. Sigmoid
# errs by 1.4e-7 even where it is lower than that. A model adds such values to larger ones: it is measured from 0 on.
POINTS = 20_000
MEASURED: dict[str, tuple[str, float, float]] = {
    "exp": ("Exp", -20, 0),
    "sigmoid": ("Sigmoid", 0, 20),
    "tanh": ("Tanh", -20, 20),
    "erf": ("Erf", -20, 20),
}
Feed = dict[str, Array]


class NotOfferedError(GPT2Error, NotImplementedError):
    """What onnxruntime is not asked for here; the judge counts such cases."""


class OnnxRuntimeBackend:
    """Runs whole models by onnxruntime: mode "graph" with all of its fusions, "plain" node by node as written."""

    name, trainer, sources = "onnxruntime", None, None

    def __init__(self, device: str = "CPU", dtype: str = "float32", mode: str = "graph") -> None:
        import onnxruntime

        if device != "CPU":
            raise GPT2Error(f"backend 'onnxruntime' runs on device 'CPU' alone here, not on {device!r}")
        if mode not in MODES:
            raise GPT2Error(f"backend 'onnxruntime' has no mode {mode!r}: choose one of {', '.join(MODES)}")
        if dtype not in DTYPES:
            raise GPT2Error(f"backend 'onnxruntime' has no dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        self.device, self.dtype, self.mode = device, dtype, mode
        self.version = onnxruntime.__version__

    @functools.cached_property
    def accuracy(self) -> Mapping[str, float]:
        """Largest relative error of onnxruntime's elementary functions in float32, measured here and now."""
        return measured_accuracy(self.mode)

    def offers(self, function: str) -> bool:
        """Whether it is about whole models."""
        return function in OFFERED

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "OnnxRuntimeModel":
        """A model with these parameters."""
        return OnnxRuntimeModel(config, parameters, self.dtype, self.mode)

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run a whole model. Raises NotOfferedError for any other function, and for dropout."""
        if function not in OFFERED or arguments.get("keep") is not None:
            raise NotOfferedError("dropout" if function in OFFERED else function)
        model = self.model(arguments["config"], flatten(arguments["params"]))
        inputs = arguments["ids"], arguments.get("attention_mask"), arguments.get("position_ids")
        if "score.weight" in model.parameters:
            return model.classify(*inputs)
        past = [each for pair in arguments.get("past") or () for each in pair]
        scores, present = model.read(*inputs, past)
        return scores, list(zip(present[::2], present[1::2], strict=True))


class OnnxRuntimeModel:
    """A GPT-2 as a graph, and the sessions that run it."""

    def __init__(self, config: GPT2Config, parameters: Mapping[str, Array], dtype: str, mode: str) -> None:
        self.config, self.dtype, self._mode = config, dtype, mode
        self._place(parameters)

    def _place(self, parameters: Mapping[str, Array]) -> None:
        dtype = numpy_dtype(self.dtype)
        self.parameters = {name: np.ascontiguousarray(x, dtype) for name, x in parameters.items()}
        self._writer = Writer(self.config, self.parameters, self.dtype)
        self._session = self._open(self._writer, list(self._writer.outputs))

    def _open(self, writer: Writer, outputs: list[str]) -> Any:
        return session(writer.proto(outputs, external=True).SerializeToString(), self._mode, self.parameters)

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight."""
        if {name: x.shape for name, x in self.parameters.items()} != {n: x.shape for n, x in parameters.items()}:
            raise ValueError("the new weights must have the names and shapes of the old ones")
        self._place(parameters)

    def read(
        self, ids: Array, attention_mask: Array | None, position_ids: Array | None, past: list[Array]
    ) -> tuple[Array, list[Array]]:
        """The scores, and the keys and values of the past with the new ones behind them."""
        scores, *present = self._run(self._session, self._feed(ids, attention_mask, position_ids, past))
        return scores, present

    def _run(self, session: Any, feed: Feed) -> list[Array]:
        """Raises NotOfferedError for a LayerNorm of one channel where onnxruntime, as 1.23, refuses that."""
        try:
            values: list[Array] = session.run(None, feed)
        except Exception as error:
            if self.config.n_embd == 1 and "LayerNormalization" in str(error):
                raise NotOfferedError("a LayerNorm of one channel") from error
            raise
        return values

    def _feed(
        self, ids: Array, attention_mask: Array | None, position_ids: Array | None, past: list[Array] | None = None
    ) -> Feed:
        config, (batch, tokens) = self.config, ids.shape
        empty = np.zeros((batch, config.n_head, 0, config.head_size), self.dtype)
        kept = [x.astype(self.dtype, copy=False) for x in past or ()] or [empty] * 2 * config.n_layer
        start = kept[0].shape[2]
        if position_ids is None:
            position_ids = np.arange(start, start + tokens)[None]
        mask = np.ones((batch, start + tokens)) if attention_mask is None else attention_mask
        feed = {"input_ids": ids, "attention_mask": mask, "position_ids": position_ids}
        if "score.weight" in self.parameters:
            pad = config.pad_token_id
            labelled = ids != pad if attention_mask is None and pad is not None else mask[:, start:] != 0
            feed["label_mask"] = np.asarray(labelled)
        names = [f"past_key_values.{i}.{kind}" for i in range(config.n_layer) for kind in ("key", "value")]
        return {n: np.ascontiguousarray(x, np.int64) for n, x in feed.items()} | dict(zip(names, kept, strict=True))

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of the next token at every position."""
        if "score.weight" in self.parameters:
            raise NotOfferedError("scores of tokens by a classifier")
        return self.read(ids, attention_mask, position_ids, [])[0]

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of every label."""
        return self.read(ids, attention_mask, position_ids, [])[0]

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Every named stage: the graph is written once more, with all of them as its outputs."""
        given = given or {}
        writer = Writer(self.config, self.parameters, self.dtype, given)
        feed = self._feed(ids, attention_mask, position_ids)
        replaced = {GIVEN + name: np.ascontiguousarray(x, writer.type_of(name)) for name, x in given.items()}
        values = self._run(self._open(writer, writer.stages), feed | replaced)
        return dict(zip(writer.stages, values, strict=True))

    def decoder(self, batch_size: int, length: int) -> "OnnxRuntimeDecoder":
        """A decoder for a new batch."""
        return OnnxRuntimeDecoder(self.read, batch_size)


class OnnxRuntimeDecoder:
    """Continues a batch of sequences; what was read stands in arrays whose first axis is that of the sequences."""

    def __init__(self, read: Callable[[Array, Array, Array, list[Array]], tuple[Array, list[Array]]], batch_size: int):
        """read: from ids, the mask of all tokens, positions and what was read to scores and what is read now."""
        self._read, self._cache = read, list[Array]()
        self._attention_mask = np.zeros((batch_size, 0), np.int64)
        self._next_positions = np.zeros((batch_size, 1), np.int64)
        self._chosen = np.zeros(batch_size, np.int64)
        self._logits: Array = np.zeros((batch_size, 0))

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Read ids (B, T) into the cache."""
        self._attention_mask = np.concatenate((self._attention_mask, attention_mask), axis=1)
        scores, self._cache = self._read(ids, self._attention_mask, position_ids, self._cache)
        self._logits, self._next_positions = scores[:, -1], position_ids[:, -1:] + 1

    def logits(self) -> Array:
        """Logits of the next token."""
        return self._logits

    def greedy(self) -> Array:
        """The likeliest next ids."""
        self._chosen = generate.greedy(self._logits)
        return self._chosen

    def sample(self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0) -> Array:
        """Next ids, sampled with the random numbers `uniform`."""
        self._chosen = generate.sample(self._logits, uniform, temperature, top_k, top_p, min_p)
        return self._chosen

    def advance(self) -> None:
        """Read the last chosen ids into the cache."""
        self.read(self._chosen[:, None], np.ones((len(self._chosen), 1), np.int64), self._next_positions)

    def reorder(self, rows: Array) -> None:
        """Replace sequence i by a copy of sequence rows[i]."""
        self._cache = [kept[rows] for kept in self._cache]
        self._attention_mask, self._next_positions = self._attention_mask[rows], self._next_positions[rows]
        self._logits, self._chosen = self._logits[rows], self._chosen[rows]


def session(model: bytes | str, mode: str, parameters: Mapping[str, Array] | None = None) -> Any:
    """A session for a model, as bytes or a path; the numbers of parameters that it leaves out are shared with it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    if mode == "plain":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if parameters:
        values = [ort.OrtValue.ortvalue_from_numpy(x) for x in parameters.values()]
        options.add_external_initializers(list(parameters), values)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@functools.cache
def measured_accuracy(mode: str) -> dict[str, float]:
    """Largest relative error of each elementary function, and of those inside of Gelu, which are others."""
    found = {}
    for name, (operator, low, high) in MEASURED.items():
        x = np.linspace(low, high, POINTS, dtype=np.float32)
        found[name] = _error(_run(operator, x, mode), getattr(elementary, name)(x.astype(np.float64)))
    # From 1 on, 1 + f has digits enough to tell what is inside x (1 + f) / 2.
    x = np.concatenate([sign * np.linspace(1, 20, POINTS, dtype=np.float32) for sign in (-1, 1)])
    wide = x.astype(np.float64)
    inner = {"erf": wide / math.sqrt(2), "tanh": math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)}
    for name, approximate in (("erf", "none"), ("tanh", "tanh")):
        inside = 2 * _run("Gelu", x, mode, approximate=approximate).astype(np.float64) / wide - 1
        found[name] = max(found[name], _error(inside, getattr(elementary, name)(inner[name])))
    return found


def _error(value: Array, exact: Array) -> float:
    return float(np.abs(value / exact - 1).max())


def _run(operator: str, x: Array, mode: str, **attributes: Any) -> Array:
    """One operator on one array."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "function", ends[:1], ends[1:])
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    value: Array = session(model.SerializeToString(), mode).run(None, {"x": x})[0]
    return value
