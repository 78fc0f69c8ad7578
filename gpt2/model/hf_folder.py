"""Read, check and write Hugging Face GPT-2 folders: config.json, safetensors weights, tokenizer files."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpt2.errors import GPT2Error
from gpt2.files import write_folder_whole
from gpt2.json_input import read_json
from gpt2.tokenizer import class_in_config
from reference.config import ConfigError, GPT2Config, parameter_shapes

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "spiece.model",
)
HEADS = ("lm_head.weight", "score.weight")  # tensors without the prefix "transformer."
ARCHITECTURES = {"language_model": "GPT2LMHeadModel", "sequence_classifier": "GPT2ForSequenceClassification"}
# Buffers in old checkpoints: the causal mask and its fill value.
BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
# "gpt2", "openai-community/gpt2".
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
# Models inside the package. New models on the hub must have an owner in their name, so these names cannot clash.
PACKAGED = {"tiny": Path(__file__).parents[1] / "tiny"}
Parameters = dict[str, NDArray[Any]]


def find_folder(source: str | os.PathLike[str]) -> Path:
    """The folder that `source` names: on disk, the packaged model "tiny", or a model of the Hugging Face hub.

    Files of the hub are downloaded. A local folder without config.json does not hide a packaged or hub model of the
    same name. Raises GPT2Error if there is no such model.
    """
    folder, name = Path(source), str(source)
    on_hub = HUB_NAME.fullmatch(name)
    try:
        if name and ((folder / CONFIG).is_file() or (folder.is_dir() and not on_hub)):
            return folder
        if name in PACKAGED:
            return PACKAGED[name]
        is_file = folder.is_file()
    except OSError as error:  # no permission, or a name that is too long
        raise GPT2Error(f"cannot look for the model folder {name!r}: {error.strerror}") from error
    if is_file or not on_hub:
        raise GPT2Error(
            f"no model folder {name!r}: expected a folder with {CONFIG} and {WEIGHTS}, or a name on the hub"
        )
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(name, allow_patterns=[CONFIG, "*.safetensors", INDEX, *TOKENIZER_FILES])
        )
    except Exception as error:  # offline, unknown name or no access: the library has many exception classes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GPT2Error(
            f"no {CONFIG} in {name!r} here, and the Hugging Face hub did not give a model of that name: "
            f"check the name and the network ({reason})"
        ) from error


def read_config(folder: Path) -> GPT2Config:
    """The configuration in folder/config.json. Raises GPT2Error, naming the field, for a bad value."""
    path = folder / CONFIG
    if not path.is_file():
        raise GPT2Error(f"no {CONFIG} in {folder}: expected a Hugging Face GPT-2 folder; `gpt2 convert` makes one")
    try:
        return GPT2Config.from_dict(read_json(path, dict[str, Any]))
    except ConfigError as error:
        raise GPT2Error(f"{path}: {error}") from error


def read_labels(folder: Path) -> tuple[str, ...] | None:
    """The label names of a classifier, in order, from id2label in config.json; None if the folder names none.

    Hugging Face's placeholders LABEL_0, LABEL_1, ... count as no names. Raises GPT2Error if the names are not numbered
    from 0, or not all different.
    """
    named = read_json(folder / CONFIG, dict[str, Any]).get("id2label")
    if not isinstance(named, dict) or named == {str(i): f"LABEL_{i}" for i in range(len(named))}:
        return None
    names = [named.get(str(i)) for i in range(len(named))]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise GPT2Error(f"{folder / CONFIG}: id2label must name each label by its number, from '0' on: {named}")
    return tuple(map(str, names))


def config_fields(config: GPT2Config, head: str, dtype: str, labels: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of config.json. head: "language_model" or "sequence_classifier"; labels: those of a classifier."""
    fields = {"architectures": [ARCHITECTURES[head]], **config.to_dict(), "dtype": dtype}
    if not labels:
        return fields
    return fields | {
        "problem_type": "single_label_classification",
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def read_parameters(folder: Path, config: GPT2Config) -> Parameters:
    """Every parameter by name, without the prefix "transformer.", in the dtype of the file.

    Raises GPT2Error for pickled weights, a damaged file, and any tensor that is missing, unknown, or of a shape that
    does not fit config.
    """
    parameters: Parameters = {}
    for path in _weight_files(folder):
        for name, x in read_tensors(path):
            name = name.removeprefix("transformer.")
            if name in parameters:
                raise GPT2Error(f"{path}: {name} is there twice, in two files or with and without 'transformer.'")
            if not BUFFER.fullmatch(name):
                parameters[name] = x
    return check_parameters(parameters, config, str(folder))


def check_parameters(parameters: Parameters, config: GPT2Config, where: str) -> Parameters:
    """Exactly the parameters that config asks for. Raises GPT2Error, naming the tensor, if one does not fit."""
    head = "sequence_classifier" if "score.weight" in parameters else "language_model"
    if config.tie_word_embeddings or head == "sequence_classifier":
        copy = parameters.pop("lm_head.weight", None)
        embeddings = parameters.get("wte.weight", np.zeros(0))
        if copy is not None and head == "language_model" and not np.array_equal(copy, embeddings):
            raise GPT2Error(
                f"{where}: lm_head.weight differs from wte.weight, but the config ties them: "
                "set tie_word_embeddings to false"
            )
    if len(parameters) < config.n_layer:
        raise GPT2Error(f"{where}: holds {len(parameters)} tensors, but the config says n_layer = {config.n_layer}")
    expected = parameter_shapes(config, head)
    missing, unknown = expected.keys() - parameters.keys(), parameters.keys() - expected.keys()
    if missing:
        raise GPT2Error(f"{where}: missing {_some(missing)}; the config asks for {len(expected)} tensors")
    if unknown:
        raise GPT2Error(f"{where}: unexpected {_some(unknown)}; the config has no place for it")
    for name, shape in expected.items():
        parameter = parameters[name]
        if parameter.shape != shape:
            raise GPT2Error(f"{where}: {name} has shape {parameter.shape}, but the config says {shape}")
        if parameter.dtype.kind == "f" or parameter.dtype.name == "bfloat16":
            continue
        raise GPT2Error(f"{where}: {name} holds {parameter.dtype}, expected floating-point numbers")
    return parameters


def _some(names: set[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        shards = sorted(set(read_json(folder / INDEX, _Index).weight_map.values()))
        outside = [name for name in shards if Path(name).name != name or name in ("", "..")]
        if outside:
            raise GPT2Error(f"{folder / INDEX} points outside its folder: {outside[0]!r}")
        return [folder / name for name in shards]
    pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth"))
    if pickled:
        raise GPT2Error(
            f"{pickled[0]} is a pickle, which can run code when it is read: save the model as {WEIGHTS} and try again"
        )
    raise GPT2Error(f"no {WEIGHTS} in {folder}: expected the weights as safetensors, in one file or with {INDEX}")


def read_tensors(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every (name, array) of a safetensors file. Raises GPT2Error if it is missing, damaged or truncated."""
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                yield name, _tensor(file, name, path)
    except FileNotFoundError as error:
        raise GPT2Error(f"{path} is missing: the index names it as one of the weight files") from error
    except (SafetensorError, OSError) as error:
        raise GPT2Error(f"{path} is not a readable safetensors file ({error}): fetch or save it again") from error


def _tensor(file: Any, name: str, path: Path) -> NDArray[Any]:
    import ml_dtypes

    try:
        x = file.get_tensor(name)
    except (SafetensorError, TypeError, AttributeError) as error:  # raised for a dtype that NumPy lacks
        dtype = file.get_slice(name).get_dtype()
        raise GPT2Error(f"{path}: {name} holds {dtype}, expected F32, F16, BF16 or F64") from error
    # NumPy looks bfloat16 up by its name, and MindSpore has its own type of that name.
    return x.view(ml_dtypes.bfloat16) if x.dtype.name == "bfloat16" else x


def write_folder(
    folder: Path,
    config: GPT2Config,
    parameters: Mapping[str, NDArray[Any]],
    files: list[Path],
    labels: Sequence[str] = (),
) -> None:
    """Write, atomically, a folder that Hugging Face transformers and `read_parameters` load.

    files: tokenizer files to copy; labels: a classifier's label names. Raises GPT2Error if the folder is not empty or
    cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GPT2Error(f"{folder} exists and is not an empty folder: name another one, or remove it first")
    head = "sequence_classifier" if "score.weight" in parameters else "language_model"
    fields = config_fields(config, head, next(iter(parameters.values())).dtype.name, labels)
    fields |= class_in_config(files[0].parent) if files else {}
    with write_folder_whole(folder) as part:
        (part / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        save_weights(parameters, part / WEIGHTS)
        for file in files:
            shutil.copy(file, part / file.name)


def save_weights(parameters: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write the weights to a new safetensors file, under Hugging Face's names."""
    tensors = {
        name if name in HEADS else f"transformer.{name}": np.asarray(x, order="C") for name, x in parameters.items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
