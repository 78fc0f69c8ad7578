"""A whole model of somebody's own: `build(config, parameters)` returns it, hooks on its submodules show its stages."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from parity.cases.supports import EVERYTHING, Supports
from parity.ports.base import Port
from parity.ports.frameworks import Change, Framework
from parity.ports.source import PortSource, parameters_of
from parity.ports.stage_hooks import AFTER, BEFORE, SEEN_ALONE, common_name, from_stage, stages_at, to_stage
from reference.config import GPT2Config, flatten, nest, parameter_shapes
from reference.model import shift_labels

Array = NDArray[Any]
FORWARD = ("engine.logits", "model.language_model")
LOSSES = ("model.language_model_loss", "model.language_model_loss_vjp")


class ModelPort(Port):
    """A backend of whole language models: `build` is called with a GPT2Config and tensors by their checkpoint names.

    What it returns is called with ids (B, T), and, if it has parameters of these names, attention_mask and
    position_ids; it returns scores (B, T, V), alone or as the first of several, or as `.logits`.
    """

    def __init__(
        self,
        source: PortSource,
        build: Callable[..., Any],
        framework: Framework,
        dtype: str,
        supports: Supports,
        file: Path,
    ) -> None:
        super().__init__(source, framework, dtype, supports.also(Supports.read({"past": False})), file)
        self.entry, self._names = build, dict(source.names)
        self.supports = self.supports.also(self._without_inputs())

    def _without_inputs(self) -> Supports:
        """What follows from the inputs that a model does not take: a small one is built, to look at it."""
        config = self.supports.config(GPT2Config(vocab_size=2, n_positions=2, n_embd=2, n_layer=1, n_head=1))
        try:
            takes = self.model(config, {name: np.ones(x) for name, x in parameter_shapes(config).items()}).takes
        except Exception:  # whatever the port raises: it is told when the model is judged
            return EVERYTHING
        return Supports.read({name: False for name in ("attention_mask", "position_ids") if name not in takes})

    def offers(self, function: str) -> bool:
        """Whether it is about whole language models."""
        return function in (*FORWARD, *LOSSES)

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "PortModel":
        """Build a model with these parameters. Raises NotImplementedError for what the port does not support."""
        self.require({"config": config})
        if "score.weight" in parameters:
            raise NotImplementedError("a classifier")
        built = self.run(self.entry, config, self.to_framework(dict(parameters)))
        return PortModel(self, built, config, parameters, self._names)

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """The scores, the loss, or its gradients. Raises NotImplementedError for any other function."""
        if not self.offers(function):
            raise NotImplementedError(function)
        self.require(arguments)
        model = self.model(arguments["config"], flatten(arguments["params"]))
        inputs = arguments["ids"], arguments.get("attention_mask"), arguments.get("position_ids")
        if function in FORWARD:
            return model.logits(*inputs)
        labels = shift_labels(arguments["labels"], inputs[1], arguments.get("ignore_index", -100))
        if function.endswith("_vjp"):
            return model.gradients(labels, arguments.get("ignore_index", -100), float(arguments["grad"]), *inputs)
        return self.to_numpy(model.loss(labels, arguments.get("ignore_index", -100), *inputs))


class PortModel:
    """A model that a port has built, with its submodules watched."""

    def __init__(
        self, port: ModelPort, built: Any, config: GPT2Config, parameters: Mapping[str, Array], names: Mapping[str, str]
    ) -> None:
        self._port, self._built, self._config, self._names = port, built, config, names
        self._parameters = parameters
        forward = getattr(built, "forward", None) or getattr(built, "construct", None) or built
        named = [each for each in parameters_of(forward) or () if each.kind is not inspect.Parameter.VAR_KEYWORD]
        self.takes = {each.name for each in named}

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores (B, T, V)."""
        scores: Array = self._port.framework.array(self._scores(ids, attention_mask, position_ids))
        return scores

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """The stages that the submodules compute, and the scores; those in `given` are replaced after they are seen."""
        seen: dict[str, Array] = {}
        with self._watched(seen, given or {}):
            scores = self._scores(ids, attention_mask, position_ids)
        return {**seen, "logits": self._port.framework.array(scores)}

    @property
    def replaceable(self) -> set[str]:
        """The stages that `given` can replace."""
        return {stage for stage, _, _ in self._hooks() if stage.rpartition(".")[2] not in SEEN_ALONE}

    def decoder(self, batch_size: int, length: int) -> Any:
        """Raises NotImplementedError."""
        raise NotImplementedError("a decoder")

    def classify(self, *inputs: Any) -> Array:
        """Raises NotImplementedError."""
        raise NotImplementedError("a classifier")

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Raises NotImplementedError."""
        raise NotImplementedError("new weights")

    def loss(self, labels: Array, ignore_index: int, *inputs: Any) -> Any:
        """The mean cross-entropy of the scored labels (B, T), each at the position that predicts it; a tensor."""
        scores = self._scores(*inputs)
        if not (labels != ignore_index).any():
            return (scores * 0).sum()
        return self._port.framework.cross_entropy(scores, labels, ignore_index)

    def gradients(self, labels: Array, ignore_index: int, grad: float, *inputs: Any) -> dict[str, Any]:
        """The gradient of the loss by each parameter, a tree with the names of the checkpoint.

        Raises NotImplementedError where the framework has no gradients, or a parameter cannot be found by its name.
        """
        framework = self._port.framework
        theirs = {common_name(name, self._names): x for name, x in framework.parameters(self._built).items()}
        if not theirs:
            raise NotImplementedError("gradients: there is no module whose parameters have names")
        missing = [name for name in self._parameters if name not in theirs]
        if missing:
            raise NotImplementedError(f"gradients: no parameter is called {missing[0]}")
        wanted = {name: theirs[name] for name in self._parameters}
        found = framework.losses_gradients(wanted, lambda: self.loss(labels, ignore_index, *inputs), grad)
        return nest({name: self._as_in_checkpoint(name, wanted[name], x) for name, x in found.items()})

    def _as_in_checkpoint(self, name: str, parameter: Any, gradient: Array) -> Array:
        """The gradient of a weight that a port holds turned, turned back."""
        known, theirs = self._parameters[name], self._port.framework.array(parameter)
        turned = not np.array_equal(theirs, known) and np.array_equal(theirs.T, known)
        return gradient.T if turned else gradient

    def _scores(self, ids: Array, attention_mask: Array | None, position_ids: Array | None) -> Any:
        """The scores as the framework has them."""
        if attention_mask is None and position_ids is not None and "attention_mask" in self.takes:
            attention_mask = np.ones_like(ids)  # transformers takes odd positions without a mask for packed texts
        given = {"attention_mask": attention_mask, "position_ids": position_ids}
        self._port.require(given)  # also of laws, which call the model itself
        tensors = {
            name: self._port.framework.tensor(np.ascontiguousarray(x)) for name, x in given.items() if x is not None
        }
        returned = self._port.run(self._built, self._port.framework.tensor(np.ascontiguousarray(ids)), **tensors)
        scores = getattr(returned, "logits", returned)
        if isinstance(scores, Mapping):
            scores = scores["logits"]
        scores = scores[0] if isinstance(scores, list | tuple) and scores else scores
        if len(getattr(scores, "shape", ())) != 3:
            raise TypeError(f"the model returned something of type {type(scores).__name__}; expected scores (B, T, V)")
        return scores

    def _hooks(self) -> Iterator[tuple[str, str, Any]]:
        """A stage, where it is seen, and at which submodule; each stage once, rather after a submodule than before."""
        found: dict[str, tuple[str, Any]] = {}
        for name, module in self._port.framework.modules(self._built):
            for where, stage in stages_at(common_name(name, self._names), self._config).items():
                if stage not in found or (found[stage][0], where) == (BEFORE, AFTER):
                    found[stage] = where, module
        yield from ((stage, where, module) for stage, (where, module) in found.items())

    @contextmanager
    def _watched(self, seen: dict[str, Array], given: Mapping[str, Array]) -> Iterator[None]:
        ends = []
        try:
            for stage, where, module in self._hooks():
                change = self._change(stage, seen, given)
                sides = (change, None) if where == BEFORE else (None, change)
                ends.append(self._port.framework.watch(module, *sides))
            yield
        finally:
            for end in ends:
                end()

    def _change(self, stage: str, seen: dict[str, Array], given: Mapping[str, Array]) -> Change:
        framework, dtype = self._port.framework, numpy_dtype(self._port.dtype)

        def change(x: Any) -> Any:
            if stage in seen:  # a submodule that is called again computes something else
                return x
            value = framework.array(x)
            seen[stage] = to_stage(stage, value, self._config)
            if stage not in given or stage.rpartition(".")[2] in SEEN_ALONE:
                return x
            return framework.tensor(np.ascontiguousarray(from_stage(stage, given[stage].astype(dtype), value.shape)))

        return change
