"""Convert a minGPT or nanoGPT checkpoint, with linear weights as (out, in), to a Hugging Face GPT-2 folder."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from gpt2.json_input import as_type, read_json
from gpt2.model import hf_folder
from gpt2.model.tensors import BUFFER, read_tensors
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
    hf_folder.fit({name: functools.partial(np.asarray, x) for name, x in parameters.items()}, config, str(source))
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
        return dict(read_tensors(source)), read_json(beside, dict[str, Any]) if beside.is_file() else {}
    if source.suffix != ".json":
        raise GPT2Error(
            f"{source} is neither .safetensors nor .json: save the state as safetensors (nothing is unpickled)"
        )
    whole = read_json(source, dict[str, Any])
    config = as_type(whole.pop("config", {}), dict[str, Any], f"{source}: 'config'")
    return {name: decode_tensor(name, value) for name, value in whole.items()}, config


class _Tensor(msgspec.Struct):
    """data: little-endian numbers, in base64."""

    shape: list[int]
    dtype: str
    data: bytes


def decode_tensor(name: str, value: Any) -> NDArray[Any]:
    """The float32 array of {"shape": [...], "dtype": "torch.float32", "data": base64 of little-endian numbers}."""
    tensor = as_type(value, _Tensor, f"tensor {name!r}")
    if tensor.dtype != "torch.float32":
        raise GPT2Error(f"tensor {name!r} holds {tensor.dtype}, expected torch.float32")
    try:
        return np.frombuffer(tensor.data, "<f4").astype(np.float32).reshape(tensor.shape)
    except (ValueError, OverflowError) as error:
        raise GPT2Error(f"tensor {name!r}: its data do not fit its shape: {error}") from error


def _rename(state: Mapping[str, NDArray[Any]]) -> hf_folder.Parameters:
    parameters: hf_folder.Parameters = {}
    for name, x in state.items():
        name = name.removeprefix("_orig_mod.").removeprefix("transformer.")
        if name == "h.0.attn.c_attn.weight" and x.ndim == 2 and x.shape[1] == 3 * x.shape[0]:
            raise GPT2Error(f"{name} is (in, out) already, as Hugging Face stores it: load it unconverted")
        if not BUFFER.fullmatch(name):
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
