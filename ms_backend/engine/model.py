"""A whole GPT-2 of the twin on a device: scores, labels, stages, and the weights that may be replaced."""

import functools
import weakref
from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor

from ms_backend import fast, model, stages
from ms_backend.engine.cache import Caches
from ms_backend.engine.decoder import MindSporeDecoder
from ms_backend.engine.device import LOCK, Array, MindSporeDevice
from ms_backend.engine.runner import Kept, Runner, bucket, form
from ms_backend.weights import assign, to_tensor
from reference.config import GPT2Config, flatten, map_tree, nest

# Models that nobody has any longer: the next of the same form takes over what was compiled, with weights of its own.
# Large ones are not kept: their memory is worth more than the seconds that compiling takes.
PLACED, KEPT_SIZE = Kept(16), 2**20


class MindSporeModel:
    """A GPT-2 of the twin: plain functions for `stages` and `classify`, fast ones for the rest."""

    def __init__(self, backend: MindSporeDevice, config: GPT2Config, parameters: Mapping[str, Array]) -> None:
        self.backend, self.config = backend, config
        shapes = form({name: x.shape for name, x in sorted(parameters.items())})
        kind = backend.device, backend.dtype, backend.mode, form(config), shapes
        placed = PLACED.take(kind)
        if placed is None:
            placed = _Placed(backend, config, parameters)
        else:
            placed.assign(parameters)
        self._placed: _Placed = placed
        if backend.mode == "graph" and placed.size <= KEPT_SIZE:
            weakref.finalize(self, PLACED.give, kind, placed).atexit = False

    @property
    def params(self) -> dict:
        """The parameters as the plain functions take them."""
        return self._placed.params

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight, in place: compiled graphs then use the new ones.

        Raises ValueError if a name, a shape or a dtype differs.
        """
        self._placed.assign(parameters)

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of the next token at each position. Lengths are rounded up, so that few lengths are compiled."""
        length = bucket(ids.shape[1]) - ids.shape[1]
        if attention_mask is None:
            attention_mask = np.ones(ids.shape, np.int32)
        if position_ids is None:
            position_ids = np.arange(ids.shape[1])[None]
        inputs = {"ids": ids, "attention_mask": attention_mask, "position_ids": position_ids}
        padded = {name: to_tensor(np.pad(x, ((0, 0), (0, length)))) for name, x in inputs.items()}
        return self.backend.fetch(self._placed.logits(**padded))[:, : ids.shape[1]]

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every label."""
        return self.backend.fetch(self._placed.classify(**_tensors(ids, attention_mask, position_ids)))

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Every named stage, computed op by op in either mode."""
        seen: dict[str, Array] = {}
        keep = stages.keep_in(seen)
        replaced = {name: to_tensor(x.astype(np.float32)) for name, x in (given or {}).items()}
        head = model.sequence_classifier if "score" in self.params else model.language_model

        def watch(name: str, x: Tensor) -> Tensor:
            keep(name, x)
            return replaced[name].astype(x.dtype) if name in replaced else x

        with LOCK, stages.observing(watch):
            head(self.params, config=self.config, **_tensors(ids, attention_mask, position_ids))
        return {name: self.backend.round(x) for name, x in seen.items()}

    def decoder(self, batch_size: int, length: int) -> MindSporeDecoder:
        """Start a decoder for a batch."""
        return MindSporeDecoder(self, self._placed.caches, batch_size, length)


class _Placed:
    """The weights of a model on a device, and all that is compiled for them, in each of the forms once it is needed."""

    def __init__(self, device: MindSporeDevice, config: GPT2Config, parameters: Mapping[str, Array]) -> None:
        self.device, self.config = device, config
        self.size = sum(x.size for x in parameters.values())
        self.caches = Caches(device, config, lambda: self.fast_params)
        self._host = dict(parameters)

    def _place(self) -> dict:
        return map_tree(lambda name, x: Parameter(self.device.place(x), name=name), nest(self._host))

    @functools.cached_property
    def params(self) -> dict:
        """The parameters as the plain functions take them."""
        return self._place()

    @functools.cached_property
    def fast_params(self) -> dict:
        """The parameters as the fast functions take them."""
        return fast.fast_parameters(self._place())

    @functools.cached_property
    def logits(self) -> Runner:
        """Scores of every next token."""
        fixed = {"params": self.fast_params, "config": self.config}
        return Runner(fast.language_model_fast, fixed, self.device.mode)

    @functools.cached_property
    def classify(self) -> Runner:
        """Scores of every label."""
        return Runner(model.sequence_classifier, {"params": self.params, "config": self.config}, self.device.mode)

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight, in place."""
        if parameters.keys() != self._host.keys():
            raise ValueError(f"expected the parameters {sorted(self._host)}, got {sorted(parameters)}")
        self._host = dict(parameters)
        for tree, prepare in (("params", _same), ("fast_params", fast.fast_parameters)):
            if tree in self.__dict__:  # built already
                new = flatten(prepare(self._place()))
                for name, parameter in flatten(getattr(self, tree)).items():
                    assign(parameter, new[name])


def _same(tree: dict) -> dict:
    return tree


def _tensors(ids: Array, attention_mask: Array | None, position_ids: Array | None) -> dict[str, Tensor]:
    inputs = {"ids": ids, "attention_mask": attention_mask, "position_ids": position_ids}
    return {name: to_tensor(x) for name, x in inputs.items() if x is not None}
