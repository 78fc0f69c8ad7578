"""The backend of onnxruntime, on the CPU: models that are written as ONNX graphs, or a file that somebody exported."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpt2.backends.cached_decoder import CachedDecoder
from gpt2.backends.elementary_errors import RANGES, measured_errors
from gpt2.backends.onnx_writer import GIVEN, IR_VERSION, OPSET, Writer
from gpt2.backends.protocol import Array, numpy_dtype
from gpt2.errors import GPT2Error
from reference.config import GPT2Config, flatten

DTYPES = ("float32", "float16")
MODES = ("graph", "plain")
OFFERED = ("engine.logits", "engine.cached", "engine.classify", "model.language_model", "model.sequence_classifier")
# Its elementary functions that are measured. Sigmoid errs by 1.4e-7 even where it is lower than that; a model adds such
# values to larger ones, so it is measured from 0 on.
OPERATORS = {"exp": "Exp", "sigmoid": "Sigmoid", "tanh": "Tanh", "erf": "Erf"}
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
        self, ids: Array, attention_mask: Array | None, position_ids: Array | None, past: list[Array] | None
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
        return self.read(ids, attention_mask, position_ids, None)[0]

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of every label."""
        return self.read(ids, attention_mask, position_ids, None)[0]

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

    def decoder(self, batch_size: int, length: int) -> CachedDecoder:
        """A decoder for a new batch."""
        return CachedDecoder(self.read, lambda cache, rows: [kept[rows] for kept in cache], batch_size)


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

    def elementary(name: str, x: Array) -> Array | None:
        return _run(OPERATORS[name], x, mode) if name in OPERATORS else None

    def activation(name: str, x: Array) -> Array:
        return _run("Gelu", x, mode, approximate="tanh" if name == "gelu_new" else "none")

    return measured_errors(elementary, activation, RANGES | {"sigmoid": (0.0, 20.0)})


def _run(operator: str, x: Array, mode: str, **attributes: Any) -> Array:
    """One operator on one array."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "function", ends[:1], ends[1:])
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    value: Array = session(model.SerializeToString(), mode).run(None, {"x": x})[0]
    return value
