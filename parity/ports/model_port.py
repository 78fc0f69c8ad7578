"""A whole model of somebody's own: `build(config, parameters)` returns it, hooks on its submodules show its stages."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from gpt2.backends.cached_decoder import CachedDecoder
from gpt2.backends.stage_places import BEFORE, SEEN_ALONE, common_name, stage_taps
from gpt2.errors import described
from parity.cases.supports import EVERYTHING, Supports
from parity.ports.base import Port
from parity.ports.decoder import cache_in, is_batch_first, reordered
from parity.ports.frameworks import Change, Framework
from parity.ports.source import PortSource, parameters_of
from parity.ports.stage_hooks import from_stage, to_stage
from reference.config import GPT2Config, flatten, nest, parameter_shapes
from reference.model import shift_labels

Array = NDArray[Any]
CACHED = "engine.cached"
FORWARD = ("engine.logits", "model.language_model", "engine.classify", "model.sequence_classifier")
LANGUAGE_MODEL = ("engine.logits", "model.language_model", "model.language_model_loss", "model.language_model_loss_vjp")
CLASSIFIER = (
    "engine.classify",
    "model.sequence_classifier",
    "model.sequence_classifier_loss",
    "model.sequence_classifier_loss_vjp",
)
SMALL = GPT2Config(vocab_size=2, n_positions=2, n_embd=2, n_layer=1, n_head=1, pad_token_id=0, num_labels=3)


class ModelPort(Port):
    """A backend of whole models: `build` is called with a GPT2Config and tensors by their checkpoint names.

    What it returns is called with ids (B, T), and, if it has parameters of these names, attention_mask, position_ids
    and past_key_values; it returns scores (B, T, V), alone or as the first of several, or as `.logits`. For parameters
    with a score.weight it is a classifier, whose scores are (B, K), or nothing that is judged.
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
        self.no_cache = "past" if "past" in supports.refused else ""  # why cached decoding is not offered, or ""
        self.batch_first = False  # whether sequences are the first axis of every tensor of the cache
        self.no_classifier = self.no_language_model = ""  # why they are not offered, or ""
        self.no_classifier = self._without_classifier()
        self.supports = self.supports.also(self._without_inputs())

    def _without_inputs(self) -> Supports:
        """What follows from the inputs that a language model does not take: a small one is built, to look at it."""
        try:
            model = self._small("language_model")
        except NotImplementedError as error:
            self.no_language_model = str(error)
            return EVERYTHING
        except Exception:  # whatever the port raises: it is told when the model is judged
            return EVERYTHING
        self._look_at_cache(model)
        return Supports.read({name: False for name in ("attention_mask", "position_ids") if name not in model.takes})

    def _look_at_cache(self, model: "PortModel") -> None:
        with contextlib.suppress(Exception):  # as above
            try:
                _, cache = model.read(np.zeros((3, 2), np.int64))
                self.batch_first = is_batch_first(cache, 3)
            except NotImplementedError as error:
                self.no_cache = self.no_cache or str(error)

    def _without_classifier(self) -> str:
        """Why classifiers are not offered; "" if they are: a small one has scores of labels."""
        try:
            self._small("sequence_classifier").classify(np.ones((1, 1), np.int64))
        except Exception as error:  # a model that never claimed to be a classifier raises anything
            return f"a classifier: {described(error, self.file)}"
        return ""

    def _small(self, head: str) -> "PortModel":
        config = self.supports.config(SMALL)
        return self.model(config, {name: np.ones(x) for name, x in parameter_shapes(config, head).items()})

    def offers(self, function: str) -> bool:
        """Whether it is about whole models of the kinds that are built here."""
        if function in CLASSIFIER:
            return not self.no_classifier
        return not self.no_language_model and (function in LANGUAGE_MODEL or (function == CACHED and not self.no_cache))

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "PortModel":
        """Build a model with these parameters. Raises NotImplementedError for what the port does not support."""
        self.require({"config": config})
        if "score.weight" in parameters and self.no_classifier:
            raise NotImplementedError(self.no_classifier)
        built = self.run(self.entry, config, self.to_framework(dict(parameters)))
        return PortModel(self, built, config, parameters, self._names)

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """The scores, the loss, or its gradients. Raises NotImplementedError for any other function."""
        if function not in (*LANGUAGE_MODEL, *CLASSIFIER):
            raise NotImplementedError(function)
        if arguments.get("keep") is not None:
            raise NotImplementedError("dropout")
        self.require(arguments)
        model = self.model(arguments["config"], flatten(arguments["params"]))
        inputs: Any = arguments["ids"], arguments.get("attention_mask"), arguments.get("position_ids")
        if function in FORWARD:
            return model.classify(*inputs) if function in CLASSIFIER else model.logits(*inputs)
        labels, ignored = arguments["labels"], arguments.get("ignore_index", -100)
        labels = labels if function in CLASSIFIER else shift_labels(labels, inputs[1], ignored)
        model, inputs = model.padded(*inputs)
        if function.endswith("_vjp"):
            return model.gradients(labels, ignored, float(arguments["grad"]), *inputs)
        return self.to_numpy(model.loss(labels, ignored, *inputs))


class PortModel:
    """A model that a port has built, with its submodules watched."""

    def __init__(
        self, port: ModelPort, built: Any, config: GPT2Config, parameters: Mapping[str, Array], names: Mapping[str, str]
    ) -> None:
        self._port, self._built, self._config, self._names = port, built, config, names
        self._parameters, self._classifies = parameters, "score.weight" in parameters
        named = [each for each in parameters_of(built) or () if each.kind is not inspect.Parameter.VAR_KEYWORD]
        self.takes = {each.name for each in named}

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores (B, T, V)."""
        if self._classifies:
            raise NotImplementedError("scores of tokens by a classifier")
        scores: Array = self._port.framework.array(self._scores(ids, attention_mask, position_ids))
        return scores

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of the labels (B, K)."""
        if not self._classifies:
            raise NotImplementedError("a classifier")
        model, inputs = self.padded(ids, attention_mask, position_ids)
        scores: Array = self._port.framework.array(model._scores(*inputs))
        return scores

    def padded(
        self, ids: Array, attention_mask: Array | None, position_ids: Array | None
    ) -> tuple["PortModel", tuple[Array, Array | None, Array | None]]:
        """The model and its inputs; for a classifier with the id of a pad at every pad, and at no last token of a text.

        Ports find the last token by the mask or, as transformers does, by its id: here both find the same. Raises
        NotImplementedError where they cannot.
        """
        config, as_given = self._config, (self, (ids, attention_mask, position_ids))
        if not self._classifies:
            return as_given
        if attention_mask is None and config.pad_token_id is not None:
            if position_ids is not None and (ids[:, -1] == config.pad_token_id).any():
                raise NotImplementedError("position_ids with pads that their id alone tells")
            return as_given
        mask = np.ones_like(ids) if attention_mask is None else attention_mask
        pads = self._port.supports.values("pad_token_id", [config.pad_token_id, *range(config.vocab_size)])
        if set(pads) == {None} and mask.all():
            return as_given
        if not mask.any(axis=1).all():
            raise NotImplementedError("a sequence of pads alone")
        last = ids[np.arange(len(ids)), np.max((mask != 0) * np.arange(ids.shape[1]), axis=1)]
        free = [pad for pad in pads if pad is not None and pad not in last]
        if not free:
            raise NotImplementedError("no id is left for pads: each is the last of some text")
        model = self
        if free[0] != config.pad_token_id:
            model = self._port.model(dataclasses.replace(config, pad_token_id=free[0]), self._parameters)
        return model, (np.where(mask == 0, free[0], ids), attention_mask, position_ids)

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """The stages that the submodules compute, and the scores; those in `given` are replaced after they are seen."""
        seen: dict[str, Array] = {}
        model, inputs = self.padded(ids, attention_mask, position_ids)
        with model._watched(seen, given or {}):
            scores = model._scores(*inputs)
        if position_ids is not None and "wpe" in seen:  # a model that takes no positions has them once for all texts
            seen["wpe"] = np.broadcast_to(seen["wpe"], (len(ids), *seen["wpe"].shape[1:])).copy()
        return {**seen, "label_logits" if self._classifies else "logits": self._port.framework.array(scores)}

    @property
    def replaceable(self) -> set[str]:
        """The stages that `given` can replace."""
        return {stage for stage, _, _ in self._hooks() if stage.rpartition(".")[2] not in SEEN_ALONE}

    def decoder(self, batch_size: int, length: int) -> CachedDecoder:
        """A decoder with the cache of the model's own. Raises NotImplementedError if it has none."""
        if self._port.no_cache:
            raise NotImplementedError(self._port.no_cache)
        return CachedDecoder(self.read, self._reordered, batch_size)

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
        config, (batch_size, length) = self._config, inputs[0].shape
        heads = (batch_size, config.n_head, length, config.n_embd // config.n_head)
        found = framework.losses_gradients(wanted, lambda: self.loss(labels, ignore_index, *inputs), grad, heads)
        return nest({name: self._as_in_checkpoint(name, wanted[name], x) for name, x in found.items()})

    def _as_in_checkpoint(self, name: str, parameter: Any, gradient: Array) -> Array:
        """The gradient of a weight that a port holds turned, turned back."""
        known, theirs = self._parameters[name], self._port.framework.array(parameter)
        turned = not np.array_equal(theirs, known) and np.array_equal(theirs.T, known)
        return gradient.T if turned else gradient

    def _scores(self, ids: Array, attention_mask: Array | None, position_ids: Array | None) -> Any:
        """The scores as the framework has them. Usual positions are left to a model that takes none."""
        if not self._takes("position_ids") and _are_usual(position_ids):
            position_ids = None
        return self._scores_in(self._returned(ids, attention_mask, position_ids))

    def _takes(self, name: str) -> bool:
        return name in self.takes and name not in self._port.supports.refused

    def _returned(
        self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None, **more: Any
    ) -> Any:
        """What the model returns for these inputs."""
        if attention_mask is None and position_ids is not None and "attention_mask" in self.takes:
            attention_mask = np.ones_like(ids)  # transformers takes odd positions without a mask for packed texts
        if attention_mask is not None and attention_mask.all() and not self._takes("attention_mask"):
            attention_mask = None
        given = {"attention_mask": attention_mask, "position_ids": position_ids}
        self._port.require(given)  # also of laws, which call the model itself
        for name, value in given.items():
            if value is not None and name not in self.takes:  # a classifier may take less than the language model
                raise NotImplementedError(name)
        tensors = {
            name: self._port.framework.tensor(np.ascontiguousarray(x)) for name, x in given.items() if x is not None
        }
        return self._port.run(self._built, self._port.framework.tensor(np.ascontiguousarray(ids)), **tensors, **more)

    def _scores_in(self, returned: Any) -> Any:
        scores = getattr(returned, "logits", returned)
        if isinstance(scores, Mapping):
            scores = scores["logits"]
        scores = scores[0] if isinstance(scores, list | tuple) and scores else scores
        expected = "(B, K)" if self._classifies else "(B, T, V)"
        if not hasattr(scores, "shape"):
            raise TypeError(f"the model returned something of type {type(scores).__name__}; expected scores {expected}")
        if len(scores.shape) != expected.count(",") + 1:
            raise TypeError(f"the model returned scores of shape {tuple(scores.shape)}; expected {expected}")
        return scores

    def read(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        cache: Any = None,
    ) -> tuple[Array, Any]:
        """The scores of ids after a cache, and the cache with them. Raises NotImplementedError if there is none."""
        name = self._names.get("past_key_values", "past_key_values")
        if name not in self.takes:
            raise NotImplementedError(f"a cache: the model takes no {name}")
        more = {"use_cache": True} if "use_cache" in self.takes else {}
        if cache is not None:
            more[name] = cache
        with self._port.framework.without_gradients():
            returned = self._returned(ids, attention_mask, position_ids, **more)
        return self._port.framework.array(self._scores_in(returned)), cache_in(returned, name)

    def _reordered(self, cache: Any, rows: Array) -> Any:
        chosen = self._port.framework.tensor(rows)
        return self._port.run(reordered, self._built, cache, chosen, self._port.batch_first)

    def _hooks(self) -> Iterator[tuple[str, str, Any]]:
        """A stage, where it is seen, and at which submodule."""
        modules = dict(self._port.framework.modules(self._built))
        for stage, (where, name) in stage_taps(modules, self._config, self._names).items():
            yield stage, where, modules[name]

    @contextlib.contextmanager
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


def _are_usual(position_ids: Array | None) -> bool:
    return position_ids is not None and bool((position_ids == np.arange(position_ids.shape[-1])).all())
