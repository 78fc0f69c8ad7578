"""Bugs planted in the MindSpore twin: mistakes that only an engine with graphs and its own memory can make."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import NORMS

OF_MINDSPORE = (
    Mutant(
        "MindSpore: gelu as it comes",
        "ops.gelu computes erf unless it is given approximate='tanh'.",
        (
            Edit(
                "ms_backend.ops.gelu_new",
                'ops.gelu(x.astype(ms.float32), approximate="tanh")',
                "ops.gelu(x.astype(ms.float32))",
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: its own epsilon",
        "The default of ops.LayerNorm and nn.LayerNorm is 1e-7 where PyTorch's is 1e-5.",
        (Edit("ms_backend.ops.layer_norm", "ops.LayerNorm(-1, -1, eps)", "ops.LayerNorm(-1, -1)"),),
        (*NORMS, "ops.layer_norm"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: dropout left on",
        "ops.dropout has the default training=True, which a Cell's set_train does not change.",
        (
            Edit(
                "ms_backend.fast.block_fast",
                "return x + mlp_fast(layer_norm(x, "
                '**params["ln_2"], eps=eps), params["mlp"], config, part(keep, "mlp"))',
                'h = mlp_fast(layer_norm(x, **params["ln_2"], eps=eps), params["mlp"], config)\n'
                "    return x + P.dropout(h, config.resid_pdrop)",
            ),
        ),
        ("fast.block_fast", "fast.gpt2_fast", "fast.language_model_fast", "engine.logits", "engine.cached"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the slot compiled in",
        "The graph treats a number as a constant: every token goes to the slot of the first.",
        (
            Edit(
                "ms_backend.engine.cache.Cache.__init__",
                '"cache": self._cache, "last_only": True}',
                '"cache": self._cache, "last_only": True, "slot": 0}',
            ),
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.read",
                "attention_mask=to_tensor(self._attention_mask), slot=Tensor(self._slot, ms.int32)",
                "attention_mask=to_tensor(self._attention_mask)",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: one graph for all models",
        "Compiled graphs are cached by function only; weights and configuration are those of the first model.",
        (
            Edit(
                "ms_backend.engine.runner.Runner.__init__",
                "    def __init__(self, function: Callable[..., Any], constants: dict[str, Any], mode: str) -> None:",
                "    graphs: dict[Any, Any] = {}\n\n"
                "    def __init__(self, function: Callable[..., Any], constants: dict[str, Any], mode: str) -> None:",
            ),
            Edit(
                "ms_backend.engine.runner.Runner.__call__",
                "if names not in self._graphs:\n"
                "                self._graphs[names] = _Graph(self._function, names, self._constants)",
                "new = _Graph(self._function, names, self._constants)\n"
                "            self._graphs[names] = self.graphs.setdefault((self._function, names), new)",
            ),
        ),
        ("engine.logits", "engine.cached", "engine.classify"),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: scores that change later",
        "Tensor.asnumpy() shares the tensor's memory; if the next step writes to that Parameter, the result changes.",
        (
            Edit(
                "ms_backend.engine.device.MindSporeDevice.fetch",
                "self.round(x.asnumpy().copy())",
                "self.round(x.asnumpy())",
            ),
            Edit(
                "ms_backend.engine.cache.Cache.__init__",
                "        self.read = Runner(fast.language_model_fast, fixed, device.mode)",
                "        self.read = Runner(fast.language_model_fast, fixed, device.mode)\n"
                "        self.scores = Parameter(P.zeros((size[0], config.vocab_size), device.compute_dtype))",
            ),
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.read",
                "self._logits, self._slot = scores[:, -1], end",
                "P.assign(self._cache.scores, scores[:, -1])\n"
                "        self._logits, self._slot = self._cache.scores, end",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: pads of a bucket are seen",
        "Ids are padded to a round number for the compiler, but the mask is padded with ones.",
        (
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.read",
                "self._attention_mask[:, start:end] = attention_mask",
                "self._attention_mask[:, self._slot : start] = 1\n"
                "        self._attention_mask[:, start:end] = attention_mask",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the bucket filled on the right",
        "The last position, whose scores are returned, is then a pad.",
        (
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.read",
                "np.pad(x, ((0, 0), (pads, 0)))",
                "np.pad(x, ((0, 0), (0, pads)))",
            ),
            Edit(
                "ms_backend.engine.decoder.MindSporeDecoder.read",
                "start, end = self._slot + pads, self._slot + pads + ids.shape[1]",
                "start, end = self._slot, self._slot + ids.shape[1]",
            ),
        ),
        ("engine.cached",),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the weights of a compiled graph",
        "set_data in place of assign: a graph that is compiled already still uses the old weights.",
        (Edit("ms_backend.weights.assign", "P.assign(parameter, value)", "parameter.set_data(value)"),),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used"),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: a cache not cleared",
        "A cache is reused without clearing: a NaN in it passes through any mask, because 0 * NaN is NaN.",
        (Edit("ms_backend.engine.cache.Caches.take", "                cache.clear()\n", ""),),
        ("engine.logits", "engine.cached", "laws.assigned_weights_are_used", "laws.decoders_do_not_meet"),
        engine="mindspore",
        mode="pynative",
    ),
)
