"""Run two GPT-2s on MindSpore, op by op, under msprobe.

`python -m benchmarks.recorded.mindspore FOLDER`, in an environment with MindSpore and mindstudio-probe. One model is
made of cells (benchmarks/recorded/cells.py), the other is the twin, whose functions become cells where a checkpoint has
a name for them.
"""

import importlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops
from safetensors.numpy import load_file

# msprobe takes its statistics by mint.norm, which has no kernel on the CPU
mint.norm = lambda x, *rest, **options: ops.sqrt((x.astype(ms.float32) * x.astype(ms.float32)).sum())
from msprobe.mindspore import PrecisionDebugger  # noqa: E402

from benchmarks.recorded.bugs import LOADS, Bug  # noqa: E402
from benchmarks.recorded.cells_bugs import BUGS  # noqa: E402
from benchmarks.recorded.dumping import Dumping, selected  # noqa: E402
from parity.mutants.base import Edit, edited_package  # noqa: E402
from reference.config import GPT2Config, nest  # noqa: E402

CELLS = Path(__file__).with_name("cells.py")


def cells_model(config: GPT2Config, weights: dict[str, Tensor], bug: Bug | None, sources: Path) -> tuple[Any, Callable]:
    """The model of cells, and its loss."""
    text = CELLS.read_text(encoding="utf-8")
    file = sources / f"cells_{BUGS.index(bug) if bug else ''}.py"
    file.write_text(bug.edit(text, "class Conv1D(") if bug else text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module.GPT2(weights, config), module.loss_of


class Function(nn.Cell):
    """A function of the twin as a cell: `hold` is the call with all that is no tensor."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.hold = None

    def construct(self, *tensors):
        return self.hold(*tensors)


class Twin(nn.Cell):
    """The twin's language model: the functions that it calls are cells, found by the parameters that they get."""

    def __init__(self, package: ModuleType, parameters: dict[str, Parameter], config: GPT2Config) -> None:
        super().__init__(auto_prefix=False)
        self.tree, self.config, self.given = nest(parameters), config, parameters
        model, attention = (
            importlib.import_module(f"{package.__name__}.ms_backend.{name}") for name in ("model", "attention")
        )
        self.loss = model.language_model_loss
        self.by_weight: dict[int, dict[str, nn.Cell]] = {}
        self.wte, self.wpe = self._cell("Embedding", "wte"), self._cell("Embedding", "wpe")
        blocks = []
        for i in range(config.n_layer):
            block = self._cell("Block", f"h.{i}", "ln_1.weight")
            block.ln_1, block.ln_2 = self._cell("Norm", f"h.{i}.ln_1"), self._cell("Norm", f"h.{i}.ln_2")
            block.attn = self._cell("Attention", f"h.{i}.attn", "c_attn.weight")
            block.mlp = self._cell("MLP", f"h.{i}.mlp", "c_fc.weight")
            for name in ("c_attn", "c_proj"):
                setattr(block.attn, name, self._cell("Conv1D", f"h.{i}.attn.{name}"))
            for name in ("c_fc", "c_proj"):
                setattr(block.mlp, name, self._cell("Conv1D", f"h.{i}.mlp.{name}"))
            blocks.append(block)
        self.h = nn.CellList(blocks, auto_prefix=False)
        self.ln_f = self._cell("Norm", "ln_f")
        self._reach(model, attention)

    def _cell(self, kind: str, name: str, first: str = "weight") -> nn.Cell:
        cell = type(kind, (Function,), {})()  # msprobe names a call by its class
        self.by_weight.setdefault(id(self.given[f"{name}.{first}"]), {})[kind] = cell
        for key, parameter in self.given.items():
            if key.rpartition(".")[0] == name:
                setattr(cell, key.rpartition(".")[2], parameter)
        return cell

    def _run(self, kind: str, parameter: Parameter, call: Callable, *tensors: Tensor | None) -> Any:
        cell = self.by_weight[id(parameter)][kind]
        cell.hold = call
        return cell(*(x for x in tensors if x is not None))

    def _reach(self, model: ModuleType, attention: ModuleType) -> None:
        """Let the twin's functions call the cells."""
        block, attend, mlp, norm, embed, conv1d = (
            model.block, model.attention, model.mlp, model._norm, model.embedding, model.conv1d
        )  # fmt: skip

        def run_block(x, params, config, layer, mask, past, keep):
            call = lambda x, mask=None: block(x, params, config, layer, mask, past, keep)  # noqa: E731
            return self._run("Block", params["ln_1"]["weight"], call, x, mask)

        def run_attention(x, params, config, layer, mask, past, keep):
            call = lambda x, mask=None: attend(x, params, config, layer, mask, past, keep)  # noqa: E731
            return self._run("Attention", params["c_attn"]["weight"], call, x, mask)

        def run_mlp(x, params, config, layer, keep):
            return self._run("MLP", params["c_fc"]["weight"], lambda x: mlp(x, params, config, layer, keep), x)

        def run_norm(stage, x, params, config):
            return self._run("Norm", params["weight"], lambda x: norm(stage, x, params, config), x)

        def run_embedding(ids, weight):
            return self._run("Embedding", weight, lambda ids: embed(ids, weight), ids)

        def run_conv1d(x, weight, bias):
            return self._run("Conv1D", weight, lambda x: conv1d(x, weight, bias), x)

        model.block, model.attention, model.mlp, model._norm = run_block, run_attention, run_mlp, run_norm
        model.embedding, model.conv1d, attention.conv1d = run_embedding, run_conv1d, run_conv1d

    def construct(self, ids, labels, attention_mask=None):
        return self.loss(self.tree, ids, labels, self.config, attention_mask)


def twin_model(config: GPT2Config, weights: dict[str, Tensor], bug: Bug | None) -> Twin:
    """The twin, with its own copy of the sources."""
    edits = tuple(Edit(change.scope, change.old, change.new) for change in bug.changes) if bug else ()
    edited_package.cache_clear()  # the cells are put into the copy
    package = edited_package(edits)
    return Twin(package, {name: Parameter(x, name=name) for name, x in weights.items()}, config)


def run(place: Path, model: str, dtype: str, bug: Bug | None, dumping: Dumping, target: Path, sources: Path) -> float:
    """Dump one forward and backward pass; the loss."""
    fields = json.loads((place / "model" / "config.json").read_text(encoding="utf-8"))
    config, arrays = GPT2Config.from_dict(fields), load_file(place / "model" / "model.safetensors")
    if bug is not None and bug.load:
        LOADS[bug.load](arrays)
    weights = {name: Tensor(x.astype(dtype)) for name, x in arrays.items()}
    edits = None if bug is None or bug.load else bug
    if model == "cells":
        network, loss_of = cells_model(config, weights, edits, sources)
        forward = lambda *inputs: loss_of(network, *inputs)  # noqa: E731
    else:
        network = forward = twin_model(config, weights, edits)
    given = np.load(place / "inputs.npz")
    inputs = [Tensor(given[name].astype(np.int32)) for name in ("ids", "labels", "attention_mask") if name in given]
    chosen = network.given.values() if model == "twin" else network.trainable_params()
    differentiate = ms.value_and_grad(forward, None, ms.ParameterTuple(chosen))
    with dumping.into(target, network):
        loss, gradients = differentiate(*inputs)
        ms.runtime.synchronize()
    del gradients
    return float(loss.asnumpy())


def main(folder: Path) -> None:
    """Dump every case for MindSpore below a folder."""
    ms.set_device("CPU")
    ms.runtime.launch_blocking()
    ms.set_context(mode=ms.PYNATIVE_MODE)
    bugs = {bug.name: bug for bug in BUGS}
    with tempfile.TemporaryDirectory() as temporary:
        dumping = Dumping(PrecisionDebugger, Path(temporary))
        for model in ("cells", "twin"):
            for place, case, name in selected(folder, model):
                target = place / ("dump" if name == case.bug else "golden")
                loss = run(place, model, case.dtype, bugs.get(name), dumping, target, Path(temporary))
                dumping.log(place, name, loss)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
