"""Convert a minGPT or nanoGPT checkpoint, with linear weights as (out, in), to a Hugging Face GPT-2 folder."""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from gpt2.files import read_json
from gpt2.model import hf_folder
from reference.config import ConfigError, GPT2Config, parameter_shapes

LINEAR = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")


def convert(source: Path, folder: Path, n_head: int | None = None) -> tuple[GPT2Config, int]:
    """Write `folder` from source: a .safetensors file, a .json file with base64 tensors, or a folder with one of them.

    Sizes come from the tensors; n_head from the argument, the JSON's config, or a config.json beside the safetensors
    file. Both projects use the tanh form of GELU and a LayerNorm epsilon of 1e-5.
    Returns the config and the number of tensors. Raises GPT2Error if anything is missing or contradictory.
    """
    source = _find_state(source)
    state, fields = _read(source)
    parameters = _rename(state)
    heads = n_head or fields.get("n_head")
    if not isinstance(heads, int):
        raise GPT2Error(f"{source} does not say how many heads the model has: give --n-head")
    try:
        config = _config(parameters, heads, fields)
    except ConfigError as error:
        raise GPT2Error(f"{source}: {error}") from error
    # nanoGPT can be trained without biases. GPT-2 has them all; zeros are equivalent.
    for name, shape in parameter_shapes(config).items():
        if name.endswith(".bias") and name not in parameters:
            parameters[name] = np.zeros(shape, parameters["wte.weight"].dtype)
    hf_folder.check_parameters(parameters, config, str(source))
    files = [source.parent / name for name in hf_folder.TOKENIZER_FILES]
    hf_folder.write_folder(folder, config, parameters, [file for file in files if file.is_file()])
    return config, len(parameters)


def _find_state(source: Path) -> Path:
    if source.is_dir():
        files = sorted(source.glob("*.safetensors")) or sorted(source.glob("*model*.json"))
        if len(files) != 1:
            raise GPT2Error(f"{source} holds {len(files)} states to convert, expected one: name the file itself")
        source = files[0]
    if not source.is_file():
        raise GPT2Error(f"no file {source}: expected a state as .safetensors or as .json with base64 tensors")
    return source


def _read(source: Path) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
    if source.suffix == ".safetensors":
        beside = source.parent / hf_folder.CONFIG
        config = read_json(beside) if beside.is_file() else {}
        return dict(hf_folder.read_tensors(source)), config if isinstance(config, dict) else {}
    if source.suffix != ".json":
        raise GPT2Error(
            f"{source} is neither .safetensors nor .json: save the state as safetensors (nothing is unpickled)"
        )
    whole = read_json(source)
    if not isinstance(whole, dict):
        raise GPT2Error(f"{source} holds a {type(whole).__name__}, expected an object of tensors")
    tensors = {name: decode_tensor(name, value) for name, value in whole.items() if name != "config"}
    config = whole.get("config", {})
    return tensors, config if isinstance(config, dict) else {}


def decode_tensor(name: str, value: Any) -> NDArray[Any]:
    """The float32 array of {"shape": [...], "dtype": "torch.float32", "data": base64 of little-endian numbers}."""
    try:
        if value["dtype"] != "torch.float32":
            raise GPT2Error(f"tensor {name!r} holds {value['dtype']}, expected torch.float32")
        numbers = np.frombuffer(base64.b64decode(value["data"], validate=True), "<f4").astype(np.float32)
        return numbers.reshape([int(size) for size in value["shape"]])
    except (TypeError, KeyError, binascii.Error, ValueError, OverflowError) as error:
        if isinstance(error, GPT2Error):
            raise
        raise GPT2Error(f"tensor {name!r} is not an object with shape, dtype and base64 data: {error}") from error


def _rename(state: Mapping[str, NDArray[Any]]) -> hf_folder.Parameters:
    parameters: hf_folder.Parameters = {}
    for name, x in state.items():
        name = name.removeprefix("_orig_mod.").removeprefix("transformer.")
        if name == "h.0.attn.c_attn.weight" and x.ndim == 2 and x.shape[1] == 3 * x.shape[0]:
            raise GPT2Error(f"{name} is (in, out) already, as Hugging Face stores it: load it unconverted")
        if not hf_folder.BUFFER.fullmatch(name):
            parameters[name] = x.T if LINEAR.fullmatch(name) else x
    return parameters


def _config(parameters: hf_folder.Parameters, n_head: int, fields: Mapping[str, Any]) -> GPT2Config:
    for name in ("wte.weight", "wpe.weight", "h.0.mlp.c_fc.weight"):
        if name not in parameters or parameters[name].ndim != 2:
            raise GPT2Error(f"no matrix {name} in the state: expected the names of minGPT or nanoGPT")
    vocab_size, n_embd = parameters["wte.weight"].shape
    head = parameters.get("lm_head.weight")
    tied = head is None or np.array_equal(head, parameters["wte.weight"])
    if tied:
        parameters.pop("lm_head.weight", None)
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=len(parameters["wpe.weight"]),
        n_embd=n_embd,
        n_layer=len({name.split(".")[1] for name in parameters if name.startswith("h.")}),
        n_head=n_head,
        n_inner=parameters["h.0.mlp.c_fc.weight"].shape[1],
        tie_word_embeddings=tied,
        resid_pdrop=fields.get("resid_pdrop", fields.get("dropout", 0.1)),
        embd_pdrop=fields.get("embd_pdrop", fields.get("dropout", 0.1)),
        attn_pdrop=fields.get("attn_pdrop", fields.get("dropout", 0.1)),
    )
