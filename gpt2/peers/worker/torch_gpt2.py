"""GPT-2 of Hugging Face transformers on PyTorch, or on what takes its name, as the subject of a peer."""

import inspect
import types

import frames
import numpy as np
import torch
import transformers
import transformers_functions as functions
from transformers.activations import ACT2FN

DEVICES = {"CPU": "cpu", "GPU": "cuda", "Ascend": "npu"}
OPS = "conv1d layer_norm gelu_new gelu relu silu softmax log_softmax cross_entropy embedding unembedding"
ACTIVATIONS = "quick_gelu mish tanh sigmoid leaky_relu relu2 linear"
ATTENTION = "attention_weights attention"
MODEL = "mlp block language_model language_model_loss sequence_classifier sequence_classifier_loss"


class Config(types.SimpleNamespace):
    """The fields of a configuration."""

    def to_dict(self):
        """As transformers takes them."""
        return vars(self)


KINDS = {"GPT2Config": Config}


def offered():
    """Every function by its name in the mirror."""
    found = {f"activations.{name}": ACT2FN[name] for name in ACTIVATIONS.split()}
    for file, names in (("ops", OPS), ("attention", ATTENTION), ("model", MODEL)):
        found.update({f"{file}.{name}": getattr(functions, name) for name in names.split()})
    return {name: _of_x(each) if isinstance(each, torch.nn.Module) else each for name, each in found.items()}


def _of_x(module):
    """A module as a function whose argument has the mirror's name."""
    return lambda x: module(x)


def mapped(function, tree):
    """The tree with function(leaf) in place of every leaf."""
    if isinstance(tree, dict):
        return {name: mapped(function, x) for name, x in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(function, x) for x in tree)
    return function(tree)


class Torch:
    """The subject: functions and models on a device, in a dtype."""

    def __init__(self, device, dtype, mode):
        self.at, self.dtype, self.functions = DEVICES.get(device, device), getattr(torch, dtype), offered()
        try:
            torch.zeros(1, device=self.at)
        except Exception as error:  # each kind of device raises one of its own
            raise ValueError(f"device {device!r} is not available to PyTorch here: use --device CPU") from error
        names = [*self.functions, *(f"{name}_vjp" for name in self.functions)]
        versions = {"PyTorch": torch.__version__, "transformers": transformers.__version__}
        self.facts = {"device": device, "dtype": dtype, "mode": mode, "functions": names, "versions": versions}

    def tensor(self, x):
        """A tensor with a copy of the numbers of an array, floats in the dtype; anything else unchanged."""
        if not isinstance(x, np.ndarray):
            return x
        if x.dtype == frames.BFLOAT16:
            found = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
        else:
            found = torch.from_numpy(x)
        return found.to(self.at, self.dtype if x.dtype.kind not in "iub" else None)

    def array(self, x):
        """A copy of the numbers of a tensor; anything else unchanged."""
        if not isinstance(x, torch.Tensor):
            return x
        x = x.detach().cpu().contiguous()
        if x.dtype == torch.bfloat16:
            return x.view(torch.int16).numpy().view(frames.BFLOAT16)
        return x.numpy()

    def elementary(self, name, x):
        """exp, tanh, erf, log or sigmoid of an array in float32."""
        return getattr(torch, name)(torch.from_numpy(x).to(self.at)).cpu().numpy()

    def activation(self, name, x):
        """The kernel of gelu or gelu_new on an array in float32."""
        form = {"gelu": "none", "gelu_new": "tanh"}[name]
        return torch.nn.functional.gelu(torch.from_numpy(x).to(self.at), approximate=form).cpu().numpy()

    def call(self, function, arguments):
        """Run a function, or, of a name in _vjp, differentiate it."""
        target = self.functions.get(function[: -len("_vjp")] if function.endswith("_vjp") else function)
        if target is None:
            raise NotImplementedError(function)
        arguments = mapped(self.tensor, arguments)
        if function.endswith("_vjp"):
            return self.gradients(target, **arguments)
        with torch.no_grad():
            return mapped(self.array, target(**arguments))

    def gradients(self, target, grad, **arguments):
        """The gradients of sum(grad * result) by every float argument, in the order of the function's arguments."""
        known = list(inspect.signature(target).parameters)
        floats, wanted = [], {}
        for name in sorted(arguments, key=known.index):
            leaves = []
            mapped(leaves.append, arguments[name])
            if isinstance(leaves[0], torch.Tensor) and leaves[0].is_floating_point():
                wanted[name] = arguments[name] = mapped(torch.nn.Parameter, arguments[name])
                mapped(floats.append, arguments[name])

        def weighed():
            result = target(**arguments)
            result = result[0] if isinstance(result, tuple) else result
            return (result.float() * grad).sum()

        grad = grad.float() if isinstance(grad, torch.Tensor) else float(grad)
        if hasattr(torch.autograd, "grad"):
            found = torch.autograd.grad(weighed(), floats, allow_unused=True)
        else:  # of MindNLP, whose `backward` does nothing
            with torch.no_grad():
                weighed()  # what is raised is raised here: raised below, it would spoil the next gradient
            given = torch.autograd.value_and_grad(weighed, floats, attach_grads=False)()[1]
            found = [torch.from_numpy(g.asnumpy().copy()) for g in given]  # tensors of MindSpore's, without a device
        by_leaf = {id(x): torch.zeros_like(x) if g is None else g for x, g in zip(floats, found)}  # noqa: B905  (3.9)
        gradients = tuple(mapped(lambda x: self.array(by_leaf[id(x)]), tree) for tree in wanted.values())
        return gradients if len(gradients) > 1 else gradients[0]

    def model(self, config, parameters):
        """A whole model."""
        return Model(self, config, parameters)


class Model:
    """A whole model, its submodules watched where it is asked for stages, and its cache given back and forth."""

    def __init__(self, owner, config, parameters):
        self.owner, self.config, self.classifies = owner, config, "score.weight" in parameters
        self.assign(parameters)

    def assign(self, parameters):
        """Replace every weight."""
        self.built = functions.whole(self.config, _nested(mapped(self.owner.tensor, parameters))).to(self.owner.at)

    def _returned(self, ids, attention_mask, position_ids, **cache):
        ids, mask, positions = mapped(self.owner.tensor, (ids, attention_mask, position_ids))
        with torch.no_grad():
            if self.classifies:
                return functions.labels_of(self.built, ids, mask, positions)
            return functions.scores(self.built, ids, mask, positions, **cache)

    def logits(self, ids, attention_mask, position_ids):
        """Scores (B, T, V)."""
        if self.classifies:
            raise NotImplementedError("scores of tokens by a classifier")
        return self.owner.array(self._returned(ids, attention_mask, position_ids).logits)

    def classify(self, ids, attention_mask, position_ids):
        """Scores of the labels (B, K)."""
        if not self.classifies:
            raise NotImplementedError("a classifier")
        return self.owner.array(self._returned(ids, attention_mask, position_ids))

    def submodules(self):
        """The names of all submodules."""
        return [name for name, _ in self.built.named_modules()]

    def stages(self, ids, attention_mask, position_ids, given, taps):
        """What is seen at the taps, {stage: (before or after, submodule)}; those in `given` are replaced after that."""
        seen, modules, hooks = {}, dict(self.built.named_modules()), []

        def change(stage, x):
            if stage in seen:
                return x
            seen[stage] = self.owner.array(x).copy()
            return self.owner.tensor(given[stage]).to(x.dtype).reshape(x.shape) if stage in given else x

        for stage, (where, name) in taps.items():
            if where == "before":
                hook = modules[name].register_forward_pre_hook(
                    lambda _, inputs, stage=stage: (change(stage, inputs[0]), *inputs[1:])
                )
            else:
                hook = modules[name].register_forward_hook(lambda _, inputs, x, stage=stage: _first(change, stage, x))
            hooks.append(hook)
        try:
            scores = self._returned(ids, attention_mask, position_ids)
        finally:
            for hook in hooks:
                hook.remove()
        name, scores = ("label_logits", scores) if self.classifies else ("logits", scores.logits)
        return {**seen, name: self.owner.array(scores)}

    def read(self, ids, attention_mask, position_ids, cache):
        """The scores (B, 1, V) after the last id, and the cache with these ids."""
        if self.classifies:
            raise NotImplementedError("scores of tokens by a classifier")
        cache = transformers.DynamicCache() if cache is None else cache
        found = self._returned(ids, attention_mask, position_ids, past_key_values=cache, use_cache=True)
        return self.owner.array(found.logits[:, -1:]), found.past_key_values

    def reorder(self, cache, rows):
        """The cache with a copy of sequence rows[i] as sequence i."""
        cache.reorder_cache(self.owner.tensor(rows))
        return cache


def _first(change, stage, result):
    if isinstance(result, tuple):
        return (change(stage, result[0]), *result[1:])
    return change(stage, result)


def _nested(parameters):
    """{"h.0.ln_1.weight": x} as {"h": {"0": {"ln_1": {"weight": x}}}}."""
    tree = {}
    for name, x in parameters.items():
        *path, leaf = name.split(".")
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node[leaf] = x
    return tree


def make(device="CPU", dtype="float32", mode="eager"):
    """The subject."""
    return Torch(device, dtype, mode)
