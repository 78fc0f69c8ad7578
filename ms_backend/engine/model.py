"""A whole GPT-2 of the twin on a device: scores, labels, stages, and the weights that may be replaced."""

import functools
from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor

from ms_backend import fast, model, stages
from ms_backend.engine.cache import Caches
from ms_backend.engine.decoder import MindSporeDecoder
from ms_backend.engine.device import LOCK, Array, MindSporeDevice
from ms_backend.engine.runner import Runner, bucket
from ms_backend.weights import assign, to_tensor
from reference.config import GPT2Config, flatten, map_tree, nest


class MindSporeModel:
    """A GPT-2 of the twin: plain functions for `stages` and `classify`, fast ones for the rest."""

    def __init__(self, backend: MindSporeDevice, config: GPT2Config, parameters: Mapping[str, Array]) -> None:
        self.backend, self.config = backend, config
        self._host = dict(parameters)
        self._caches = Caches(backend, config, lambda: self.fast_params)

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
        """Replace every weight, in place: compiled graphs then use the new ones.

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
        """Scores of the next token at each position. Lengths are rounded up, so that few lengths are compiled."""
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

        with LOCK, stages.observing(watch):
            head(self.params, config=self.config, **_tensors(ids, attention_mask, position_ids))
        return {name: self.backend.round(x) for name, x in seen.items()}

    def decoder(self, batch_size: int, length: int) -> MindSporeDecoder:
        """Start a decoder for a batch."""
        return MindSporeDecoder(self._caches, batch_size, length)


def _same(tree: dict) -> dict:
    return tree


def _tensors(ids: Array, attention_mask: Array | None, position_ids: Array | None) -> dict[str, Tensor]:
    inputs = {"ids": ids, "attention_mask": attention_mask, "position_ids": position_ids}
    return {name: to_tensor(x) for name, x in inputs.items() if x is not None}
