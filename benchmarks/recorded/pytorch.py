"""Run transformers' GPT-2 on PyTorch, forward and backward, under msprobe.

`python -m benchmarks.recorded.pytorch FOLDER`, in the environment of PyTorch, with mindstudio-probe. It
imports nothing of ours that computes.
"""

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import numpy as np
import torch
from msprobe.pytorch import PrecisionDebugger
from safetensors.numpy import load_file
from transformers import GPT2Config
from transformers.models.gpt2 import modeling_gpt2

from benchmarks.recorded.bugs import LOADS, Bug
from benchmarks.recorded.dumping import Dumping, selected
from benchmarks.recorded.transformers_bugs import BUGS

FIRST = "def eager_attention_forward("


def edited(bug: Bug, folder: Path) -> ModuleType:
    """modeling_gpt2 with the bug. Raises ValueError if it does not fit."""
    text = Path(modeling_gpt2.__file__).read_text(encoding="utf-8")
    file = folder / f"modeling_gpt2_{BUGS.index(bug)}.py"
    file.write_text(bug.edit(text, FIRST), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"transformers.models.gpt2.{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build(folder: Path, dtype: str, train: bool, bug: Bug | None, sources: Path) -> torch.nn.Module:
    """The model in a folder. Raises ValueError if a tensor is missing or left over."""
    module = modeling_gpt2 if bug is None or bug.load else edited(bug, sources)
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = module.GPT2LMHeadModel(GPT2Config(**fields, attn_implementation="eager"))
    weights = load_file(folder / "model.safetensors")
    if bug is not None and bug.load:
        LOADS[bug.load](weights)
    state = {
        name if name == "lm_head.weight" else f"transformer.{name}": torch.from_numpy(x) for name, x in weights.items()
    }
    if fields["tie_word_embeddings"]:
        state["lm_head.weight"] = state["transformer.wte.weight"]
    model.load_state_dict(state)
    return model.to(getattr(torch, dtype)).train(train)


def main(folder: Path) -> None:
    """Dump every case for transformers below a folder."""
    torch.set_num_threads(1)
    bugs = {bug.name: bug for bug in BUGS}
    with tempfile.TemporaryDirectory() as temporary:
        dumping = Dumping(PrecisionDebugger, Path(temporary))
        for place, case, bug_name in selected(folder, "transformers"):
            torch.manual_seed(case.seed)
            model = build(place / "model", case.dtype, case.train, bugs.get(bug_name), Path(temporary))
            inputs = {name: torch.from_numpy(x) for name, x in np.load(place / "inputs.npz").items()}
            with dumping.into(place / ("dump" if bug_name == case.bug else "golden"), model):
                loss = model(inputs.pop("ids"), use_cache=False, **inputs).loss
                loss.backward()
            dumping.log(place, bug_name, loss.item())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
