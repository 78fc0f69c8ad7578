"""Convert weights of other projects to a Hugging Face GPT-2 folder, and a folder to a .ckpt of MindSpore or to ONNX.

Read: states of minGPT and nanoGPT (safetensors, .pt, JSON with base64 tensors), OpenAI's TensorFlow folder, .bin of
llm.c, .ckpt of MindSpore, .onnx, and Hugging Face folders with pytorch_model.bin.
"""

import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from gpt2.files import write_folder_whole
from gpt2.json_input import as_type, read_json
from gpt2.model import hf_folder, mindspore_ckpt, tensorflow_checkpoint
from gpt2.model.llm_c import is_llm_c, read_llm_c
from gpt2.model.onnx_file import ONNX, read_onnx, write_onnx
from gpt2.model.pytorch_bin import read_pickle, state_of
from gpt2.model.tensorflow_checkpoint import VOCABULARY
from gpt2.model.tensors import NO_WEIGHTS, Tensors, named_plainly, open_file, weight_files
from reference.config import FIELD_ALIASES, ConfigError, GPT2Config, parameter_shapes

LINEAR = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
KINDS = ("*.safetensors", "*model*.json", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.onnx")
SAID, COMPUTED = "its configuration says so", "its graph computes it"


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was made of a state."""

    config: GPT2Config
    tensors: int
    activation_from: str
    """Why the config names its activation function."""


def convert(source: Path, folder: Path, n_head: int | None = None, activation: str | None = None) -> Converted:
    """Write `folder` from source: a file with a state, or a folder with one of them (see KINDS), or OpenAI's folder.

    Sizes come from the tensors; n_head and activation from the arguments, from the state's own config, or from a
    config.json beside it. No tensor says which activation function it was trained with, so without any of these the
    project decides: minGPT has always computed the tanh form of GELU; nanoGPT, since 2023, erf.
    Raises GPT2Error if anything is missing or contradictory.
    """
    try:
        if n_head is None and activation is None and _is_hugging_face(source):
            return _copy(source, folder)
        source = _find_state(source)
    except OSError as error:  # no permission to look into a folder
        raise GPT2Error(f"cannot read {source}: {error.strerror or error}") from error
    why = COMPUTED if source.suffix == ".onnx" else SAID
    try:
        state, said = _read(source)
        fields = {FIELD_ALIASES.get(name, name): value for name, value in said.items()}
        parameters, outward = _rename(state, source)
    except OSError as error:
        raise GPT2Error(f"cannot read {source}: {error.strerror or error}") from error
    heads = n_head or fields.get("n_head")
    if not isinstance(heads, int):
        raise GPT2Error(f"{source} does not say how many heads the model has: give --n-head")
    if activation is not None:
        fields, why = {**fields, "activation_function": activation}, "given"
    elif "activation_function" not in fields:
        fields["activation_function"], why = _guess(parameters, outward)
    try:
        config = _config(parameters, heads, fields)
    except ConfigError as error:
        raise GPT2Error(f"{source}: {error}") from error
    # nanoGPT can be trained without biases. GPT-2 has them all; zeros are equivalent.
    for name, shape in parameter_shapes(config).items():
        if name.endswith(".bias") and name not in parameters:
            parameters[name] = np.zeros(shape, parameters["wte.weight"].dtype)
    tensors = {name: functools.partial(np.asarray, x) for name, x in parameters.items()}
    fitting = hf_folder.fit(tensors, config, str(source))
    files = hf_folder.files_beside(source.parent)
    files += [source.parent / name for name in VOCABULARY if (source.parent / name).is_file()]
    hf_folder.write_folder(folder, config, fitting, files, names=VOCABULARY)
    return Converted(config, len(fitting), why)


def _is_hugging_face(source: Path) -> bool:
    """Whether this is a folder that loads as it is."""
    path = source / hf_folder.CONFIG
    return path.is_file() and read_json(path, dict[str, Any]).get("model_type") == "gpt2" and bool(weight_files(source))


def _copy(source: Path, folder: Path) -> Converted:
    """Write a Hugging Face folder again, with its weights as safetensors."""
    config = hf_folder.read_config(source)
    parameters = hf_folder.read_parameters(source, config)
    about = hf_folder.read_labels(source) or (), hf_folder.read_problem(source)
    hf_folder.write_folder(folder, config, parameters, hf_folder.files_beside(source), *about)
    return Converted(config, len(parameters), SAID)


def to_ckpt(source: str, folder: Path) -> GPT2Config:
    """Write the model `source` as a folder for MindSpore: config.json, mindspore.ckpt and the tokenizer's files.

    Tensors have the names that MindNLP and transformers use. Raises GPT2Error if source is no model, if folder is not
    empty, or if MindSpore is not installed.
    """
    return _write_as(
        source,
        folder,
        lambda part, _, tensors: mindspore_ckpt.write_ckpt(
            part / mindspore_ckpt.CHECKPOINT, hf_folder.named_fully(tensors)
        ),
    )


def to_onnx(source: str, folder: Path) -> GPT2Config:
    """Write the language model `source` as a folder with model.onnx, config.json and the tokenizer's files.

    Inputs and outputs have optimum's names. Raises GPT2Error if source is no language model, if folder is not empty, or
    if the package onnx is not installed.
    """
    return _write_as(source, folder, lambda part, *model: write_onnx(part / ONNX, *model))


def _write_as(source: str, folder: Path, write: Callable[[Path, GPT2Config, hf_folder.Parameters], None]) -> GPT2Config:
    """Write a folder that holds a model's weights as `write` puts them there, its config and its tokenizer's files."""
    found = hf_folder.find_folder(source)
    config = hf_folder.read_config(found)
    parameters = hf_folder.read_parameters(found, config)
    hf_folder.require_empty(folder)
    with write_folder_whole(folder) as part:
        write(part, config, parameters)
        fields = json.loads((found / hf_folder.CONFIG).read_text(encoding="utf-8-sig"))
        fields["tie_word_embeddings"] = config.tie_word_embeddings
        (part / hf_folder.CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        for file in hf_folder.files_beside(found):
            shutil.copy(file, part / file.name)
    return config


def _find_state(source: Path) -> Path:
    """The file of the state; the index, if it is a checkpoint of TensorFlow."""
    if source.is_dir():
        if (source / tensorflow_checkpoint.HPARAMS).is_file():
            return tensorflow_checkpoint.find_index(source)
        found = [path for kind in KINDS for path in sorted(source.glob(kind)) if not NO_WEIGHTS.fullmatch(path.name)]
        if len(found) != 1:
            raise GPT2Error(f"{source} holds {len(found)} states to convert, expected one: name the file itself")
        source = found[0]
    index = source.with_name(f"{source.name}.index")
    if index.is_file():
        return index
    if not source.is_file():
        raise GPT2Error(
            f"no file {source}: expected a state as .safetensors, .pt, .bin, .ckpt, .onnx or .json, or OpenAI's folder"
        )
    return source


def _read(source: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a state, and what is known of its configuration."""
    if source.suffix == ".json":
        whole = read_json(source, dict[str, Any])
        config = as_type(whole.pop("config", {}), dict[str, Any], f"{source}: 'config'")
        return {name: functools.partial(decode_tensor, name, value) for name, value in whole.items()}, config
    if source.suffix == ".index":
        return tensorflow_checkpoint.read_folder(source)
    if source.suffix == ".bin" and is_llm_c(source):
        return read_llm_c(source)
    beside = source.parent / hf_folder.CONFIG
    fields = read_json(beside, dict[str, Any]) if beside.is_file() else {}
    if source.suffix == ".onnx":
        tensors, computed = read_onnx(source)
        return tensors, fields | computed
    if source.suffix == ".safetensors":
        return open_file(source), fields
    if source.suffix == ".ckpt" and not _is_zip(source):
        return mindspore_ckpt.read_ckpt(source), fields
    if source.suffix not in (".bin", ".pt", ".pth", ".ckpt"):
        raise GPT2Error(f"{source} is none of .safetensors, .pt, .pth, .bin, .ckpt, .onnx, .json and .index")
    tree, _ = read_pickle(source)
    own = tree.get("model_args") if isinstance(tree, dict) and state_of(tree) else None  # nanoGPT's sizes
    return open_file(source), fields | (own if isinstance(own, dict) else {})


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


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
    if any(size < 0 for size in tensor.shape):  # NumPy would choose the size -1
        raise GPT2Error(f"tensor {name!r}: its shape must be integers of at least 0, but is {tensor.shape}")
    try:
        return np.frombuffer(tensor.data, "<f4").astype(np.float32).reshape(tensor.shape)
    except (ValueError, OverflowError) as error:
        raise GPT2Error(f"tensor {name!r}: its data do not fit its shape: {error}") from error


def _rename(state: Tensors, source: Path) -> tuple[hf_folder.Parameters, bool]:
    """The parameters under our names, weights as (in, out), and whether the state had them as nn.Linear, (out, in)."""
    read = {name: tensor() for name, tensor in named_plainly(state, source).items()}
    first = read.get("h.0.attn.c_attn.weight", np.zeros(0))
    outward = first.ndim == 2 and first.shape[0] == 3 * first.shape[1]
    if not outward:
        return read, False
    return {name: x.T if LINEAR.fullmatch(name) else x for name, x in read.items()}, True


def _guess(parameters: Mapping[str, NDArray[Any]], outward: bool) -> tuple[str, str]:
    """The activation function that the layout of a state speaks for, and why."""
    if not outward:
        return "gelu_new", "the default of GPT-2"
    if "h.0.attn.c_attn.bias" not in parameters:
        return "gelu", "nanoGPT, since there are no biases; before 2023 it computed gelu_new"
    head = parameters.get("lm_head.weight")
    if head is not None and not np.array_equal(head, parameters.get("wte.weight", np.zeros(0))):
        return "gelu_new", "minGPT, since lm_head is not tied to wte"
    return "gelu", "nanoGPT, since lm_head is tied to wte; before 2023 it computed gelu_new"


def _config(parameters: hf_folder.Parameters, n_head: int, fields: Mapping[str, Any]) -> GPT2Config:
    if "wte.weight" not in parameters and "lm_head.weight" in parameters:
        parameters["wte.weight"] = parameters.pop("lm_head.weight")
    for name in ("wte.weight", "wpe.weight", "h.0.mlp.c_fc.weight"):
        if name not in parameters or parameters[name].ndim != 2:
            raise GPT2Error(f"no matrix {name} in the state: expected the names of minGPT, nanoGPT or transformers")
    vocab_size, n_embd = parameters["wte.weight"].shape
    head = parameters.get("lm_head.weight")
    tied = head is None or np.array_equal(head, parameters["wte.weight"])
    if tied:
        parameters.pop("lm_head.weight", None)
    sizes = {
        "vocab_size": vocab_size,
        "n_positions": len(parameters["wpe.weight"]),
        "n_embd": n_embd,
        "n_layer": len({name.split(".")[1] for name in parameters if name.startswith("h.")}),
        "n_head": n_head,
        "n_inner": parameters["h.0.mlp.c_fc.weight"].shape[1],
        "tie_word_embeddings": tied,
    }
    rates = {name: fields.get("dropout", 0.1) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    own = {name: value for name, value in fields.items() if name != "model_type"}  # minGPT's is "gpt-mini" or the like
    return GPT2Config.from_dict(rates | own | sizes)
