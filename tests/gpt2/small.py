"""Small live models, and folders that hold them, for tests of the door."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import pre_tokenizers

from gpt2.backends import Backend, get_backend
from gpt2.model.hf_folder import CONFIG, write_folder
from gpt2.model.model import Model
from gpt2.model.tensors import WEIGHTS
from reference.config import GPT2Config, parameter_shapes

Parameters = dict[str, NDArray[Any]]

SMALL = GPT2Config(vocab_size=31, n_positions=24, n_embd=16, n_layer=2, n_head=2)
BYTES = GPT2Config(vocab_size=256, n_positions=32, n_embd=16, n_layer=2, n_head=2)
ROOT = Path(__file__).parents[2]


def parameters(config: GPT2Config = SMALL, head: str = "language_model", dtype: Any = np.float32) -> Parameters:
    """Dense values: every parameter matters, and the model writes many different tokens."""
    random, drawn = np.random.default_rng(1), {}
    for name, shape in parameter_shapes(config, head).items():
        spread = 0.2 if len(shape) == 1 else 2 * shape[0] ** -0.5 if name.startswith("h.") else 1.0
        gain = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
        drawn[name] = (gain + spread * random.standard_normal(shape)).astype(dtype)
    return drawn


def model(backend: Backend | None = None, config: GPT2Config = SMALL) -> Model:
    """The small language model on a backend, by default NumPy's."""
    return Model(config, parameters(config), backend or get_backend("numpy"))


def folder_of(path: Path, config: GPT2Config = SMALL, tensors: Parameters | None = None) -> Path:
    """A folder that holds config and tensors as they are, right or wrong."""
    path.mkdir()
    (path / CONFIG).write_text(json.dumps(config.to_dict()), encoding="utf-8")
    save_file({name: np.ascontiguousarray(x) for name, x in (tensors or parameters(config)).items()}, path / WEIGHTS)
    return path


def byte_folder(path: Path) -> Path:
    """A model that reads and writes bytes, so that a character may take several tokens, with its tokenizer."""
    write_folder(path, BYTES, parameters(BYTES), [])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = json.dumps({letter: i for i, letter in enumerate(alphabet)}, ensure_ascii=False)
    (path / "vocab.json").write_text(vocabulary, encoding="utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return path


def json_state(folder: Path, **changes: Any) -> Path:
    """A file with a state in JSON, all zeros, as `gpt2 convert` takes it; changes replace its entries."""
    shapes = {
        "wte": [3, 2],
        "wpe": [4, 2],
        "ln_f": [2],
        "h.0.ln_1": [2],
        "h.0.ln_2": [2],
        "h.0.attn.c_attn": [6, 2],
        "h.0.attn.c_proj": [2, 2],
        "h.0.mlp.c_fc": [8, 2],
        "h.0.mlp.c_proj": [2, 8],
    }
    state: dict[str, Any] = {f"transformer.{name}.weight": zeros(shape) for name, shape in shapes.items()}
    path = folder / "model.json"
    path.write_text(json.dumps(state | {"config": {"n_head": 1}} | changes))
    return path


def zeros(sizes: list[int], **changes: Any) -> dict[str, Any]:
    """A tensor as the JSON has it."""
    data = base64.b64encode(bytes(4 * math.prod(sizes))).decode()
    return {"shape": sizes, "dtype": "torch.float32", "data": data} | changes
