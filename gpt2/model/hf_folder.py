"""Read, check and write Hugging Face GPT-2 folders: config.json, safetensors weights, tokenizer files."""

import dataclasses
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gpt2.arguments import is_finite
from gpt2.errors import GPT2Error, NotFiniteError
from gpt2.files import write_folder_whole
from gpt2.json_input import read_json
from gpt2.model.tensors import (
    INDEX,
    PICKLED,
    PICKLED_INDEX,
    WEIGHTS,
    Tensors,
    open_folder,
    some,
    weight_files,
)
from gpt2.tokenizer import class_in_config
from reference.config import ConfigError, GPT2Config, parameter_shapes

CONFIG, GENERATION = "config.json", "generation_config.json"
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
# The parts of a GPT-2 below its heads. Here a tensor without a place means that config.json is wrong.
BODY = re.compile(r"(h|wte|wpe|ln_f)\.")
LM_HEAD, TABLE = "lm_head.weight", "wte.weight"
SINGLE_LABEL, MULTI_LABEL, REGRESSION = PROBLEMS = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
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
        wanted = [CONFIG, GENERATION, *TOKENIZER_FILES]
        found = Path(huggingface_hub.snapshot_download(name, allow_patterns=["*.safetensors", INDEX, *wanted]))
        if any(found.glob("*.safetensors")):
            return found
        pickled = [PICKLED, PICKLED_INDEX, "pytorch_model-*.bin"]
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=[*pickled, *wanted]))
    except Exception as error:  # offline, unknown name or no access: the library has many exception classes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GPT2Error(
            f"no {CONFIG} in {name!r} here, and the Hugging Face hub did not give a model of that name: "
            f"check the name and the network ({reason})"
        ) from error


def read_config(folder: Path) -> GPT2Config:
    """The configuration in folder/config.json, whose tie_word_embeddings is what the weights say.

    Where the weights hold one table of embeddings, lm_head is tied to it; where they hold two that differ, it is not.
    Source: `tie_weights` of Hugging Face transformers. Raises GPT2Error, naming the field, for a bad value.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise GPT2Error(f"no {CONFIG} in {folder}: expected a Hugging Face GPT-2 folder; `gpt2 convert` makes one")
    try:
        config = GPT2Config.from_dict(read_json(path, dict[str, Any]))
    except ConfigError as error:
        raise GPT2Error(f"{path}: {error}") from error
    return _tied_as_stored(config, open_folder(folder), folder) if weight_files(folder) else config


def _tied_as_stored(config: GPT2Config, tensors: Tensors, folder: Path) -> GPT2Config:
    if LM_HEAD not in tensors or "score.weight" in tensors:
        return config
    tied = TABLE not in tensors or (config.tie_word_embeddings and _are_alike(tensors[LM_HEAD](), tensors[TABLE]()))
    if tied == config.tie_word_embeddings:
        return config
    if tied:
        said = f"no {TABLE} in the weights: {LM_HEAD} serves as both, although tie_word_embeddings is false"
    else:
        said = f"{LM_HEAD} differs from {TABLE}, so the two are not tied, although tie_word_embeddings is true"
    warnings.warn(f"{folder}: {said}", stacklevel=1)  # one place, so that the same note is given once
    return dataclasses.replace(config, tie_word_embeddings=tied)


def _are_alike(x: NDArray[Any], y: NDArray[Any]) -> bool:
    return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())  # NaN is like NaN


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


def read_problem(folder: Path) -> str | None:
    """What a classifier's scores mean: problem_type in config.json, or None. Raises GPT2Error if it is unknown."""
    problem = read_json(folder / CONFIG, dict[str, Any]).get("problem_type")
    if problem not in (None, *PROBLEMS):
        raise GPT2Error(f"{folder / CONFIG}: problem_type must be null, {', '.join(PROBLEMS)}, but is {problem!r}")
    return problem


def config_fields(
    config: GPT2Config, head: str, dtype: str, labels: Sequence[str] = (), problem: str | None = None
) -> dict[str, Any]:
    """The fields of config.json. head: "language_model" or "sequence_classifier".

    labels: the label names of a classifier; problem: its problem_type, by default that labels exclude each other.
    """
    fields = {"architectures": [ARCHITECTURES[head]], **config.to_dict(), "dtype": dtype}
    fields |= {"problem_type": problem} if problem else {}
    if not labels:
        return fields
    return fields | {
        "problem_type": problem or SINGLE_LABEL,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def read_parameters(folder: Path, config: GPT2Config, allow_nan: bool = False) -> Parameters:
    """Every parameter by name, without the prefix "transformer.", in the dtype of the file.

    Heads that config has no place for are left out, with one note that names them. Raises GPT2Error for a damaged file
    or one that could run code, for any tensor that is missing, of a shape that does not fit config, or in excess in the
    body of the model, and, unless allow_nan, NotFiniteError for one that holds NaN or infinity.
    """
    return fit(open_folder(folder), config, str(folder), allow_nan)


def fit(
    tensors: Mapping[str, Callable[[], NDArray[Any]]], config: GPT2Config, where: str, allow_nan: bool = False
) -> Parameters:
    """Exactly the parameters that config asks for, as `read_parameters` describes them."""
    tensors, head = dict(tensors), "sequence_classifier" if "score.weight" in tensors else "language_model"
    if LM_HEAD in tensors and (config.tie_word_embeddings or head == "sequence_classifier"):
        copy = tensors.pop(LM_HEAD)
        tensors.setdefault(TABLE, copy)
    if len(tensors) < config.n_layer:
        raise GPT2Error(f"{where}: holds {len(tensors)} tensors, but the config says n_layer = {config.n_layer}")
    expected = parameter_shapes(config, head)
    missing, unknown = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing:
        raise GPT2Error(f"{where}: missing {some(missing)}; the config asks for {len(expected)} tensors")
    misplaced = {name for name in unknown if BODY.match(name)}
    if misplaced:
        raise GPT2Error(f"{where}: unexpected {some(misplaced)}; the config has no place for it")
    if unknown:
        what = {"language_model": "a language model", "sequence_classifier": "a classifier"}[head]
        warnings.warn(f"{where}: left out {some(unknown)}: {what} has no place for it", stacklevel=1)
    parameters = {name: tensors[name]() for name in expected}
    for name, shape in expected.items():
        parameter = parameters[name]
        if parameter.shape != shape:
            raise GPT2Error(f"{where}: {name} has shape {parameter.shape}, but the config says {shape}")
        if parameter.dtype.kind != "f" and parameter.dtype.name != "bfloat16":
            raise GPT2Error(f"{where}: {name} holds {parameter.dtype}, expected floating-point numbers")
        if not allow_nan and not is_finite(parameter):
            wrong = int((~np.isfinite(parameter)).sum())
            raise NotFiniteError(
                f"{where}: {name} holds NaN or infinity in {wrong} of its {parameter.size} numbers, so that the model "
                "computes nothing: fetch or train it again"
            )
    return parameters


def write_folder(
    folder: Path,
    config: GPT2Config,
    parameters: Mapping[str, NDArray[Any]],
    files: list[Path],
    labels: Sequence[str] = (),
    problem: str | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Write, atomically, a folder that Hugging Face transformers and `read_parameters` load.

    files: files to copy, such as the tokenizer's; names: the new names of some of them, by the old ones. labels,
    problem: those of a classifier, as for config_fields. Raises GPT2Error if the folder is not empty or cannot be
    written.
    """
    require_empty(folder)
    head = "sequence_classifier" if "score.weight" in parameters else "language_model"
    fields = config_fields(config, head, next(iter(parameters.values())).dtype.name, labels, problem)
    fields |= class_in_config(files[0].parent) if files else {}
    with write_folder_whole(folder) as part:
        (part / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        save_weights(parameters, part / WEIGHTS)
        for file in files:
            shutil.copy(file, part / (names or {}).get(file.name, file.name))


def require_empty(folder: Path) -> None:
    """Raise GPT2Error if there is something in a folder that is to be written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GPT2Error(f"{folder} exists and is not an empty folder: name another one, or remove it first")


def files_beside(folder: Path) -> list[Path]:
    """The files of the tokenizer and of generation that stand beside a model's weights, and are saved with them."""
    return [folder / name for name in (*TOKENIZER_FILES, GENERATION) if (folder / name).is_file()]


def named_fully(parameters: Mapping[str, NDArray[Any]]) -> Parameters:
    """The parameters under Hugging Face's names."""
    return {name if name in HEADS else f"transformer.{name}": x for name, x in parameters.items()}


def save_weights(parameters: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write the weights to a new safetensors file, under Hugging Face's names."""
    tensors = {name: np.asarray(x, order="C") for name, x in named_fully(parameters).items()}
    save_file(tensors, path, metadata={"format": "pt"})
