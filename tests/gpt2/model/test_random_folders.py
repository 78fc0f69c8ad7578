"""Random models in every layout that is read have the logits that the reference computes from the same numbers.

The files are written here, by what their projects' formats say, without code of `gpt2`. PyTorch and transformers write
theirs in tests/peers/test_folders.py.
"""

import collections
import dataclasses
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import gpt2
from gpt2.backends import Backend, numpy_dtype
from gpt2.model.convert import convert
from parity.cases.supports import Supports
from reference.config import FIELD_ALIASES, GPT2Config
from tests.gpt2.conftest import backend_of, examples, usable
from tests.gpt2.model.test_foreign_weights import llm_c, message, openai_folder, turned
from tests.gpt2.model.torch_files import save, save_as_of_old, state
from tests.gpt2.small import Parameters
from tests.peers.question import Question, alone, expect_agreement, questions

HEAD, TABLE = "lm_head.weight", "wte.weight"


@dataclasses.dataclass(frozen=True)
class Given:
    """What is to be written: a model and its numbers, already rounded to a dtype, and a source of further choices."""

    config: GPT2Config
    parameters: Parameters
    random: np.random.Generator

    def chance(self) -> bool:
        """True in half of the cases."""
        return bool(self.random.integers(2))

    def named(self, prefix: str = "transformer.") -> Parameters:
        """The parameters with a prefix before all names but that of the head."""
        return {name if name == HEAD else prefix + name: x for name, x in self.parameters.items()}

    def masks(self) -> Parameters:
        """The buffers that attention had in older code, in some of the cases."""
        layers = range(self.config.n_layer if self.chance() else 0)
        mask = np.tril(np.ones((1, 1, 4, 4), np.uint8))
        return {f"transformer.h.{i}.attn.bias": mask for i in layers}


Writer = Callable[[Path, Given], tuple[Path, dict[str, Any] | None]]
"""It returns what it wrote, and the arguments with which `gpt2 convert` reads that; None if it loads as it is."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A project's files: what it can hold, and how it is written. dtypes: those of its files."""

    write: Writer
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16")
    biases: bool = True


# Hugging Face transformers.


def config_file(folder: Path, config: GPT2Config, **changes: Any) -> None:
    fields = {**config.to_dict(), **changes}
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")


def safetensors(folder: Path, given: Given) -> tuple[Path, None]:
    """Whole or in shards, with the names of a language model or of its body, by itself or wrapped."""
    prefix = ["", "transformer.", "module.transformer.", "_orig_mod.transformer."][given.random.integers(4)]
    tensors = {name: np.ascontiguousarray(x) for name, x in (given.named(prefix) | given.masks()).items()}
    config_file(folder, given.config, n_ctx=3)
    if given.chance():
        save_file(tensors, folder / "model.safetensors")
        return folder, None
    files = {name: f"model-{1 + i % 2:05}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({name: x for name, x in tensors.items() if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}), encoding="utf-8")
    return folder, None


def heads(folder: Path, given: Given) -> tuple[Path, None]:
    """A value head beside the model; or the table of a tied model under the head's name, alone or a second time."""
    tensors, tied = given.named(), given.config.tie_word_embeddings
    table = tensors["transformer.wte.weight"]
    if tied and given.chance():
        tensors[HEAD] = table.copy()
        if given.chance():
            del tensors["transformer.wte.weight"]
    else:
        tensors["v_head.summary.weight"] = np.ones((1, given.config.n_embd), table.dtype)
    config_file(folder, given.config, tie_word_embeddings=tied or given.chance())
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, folder / "model.safetensors")
    return folder, None


def pickle(folder: Path, given: Given) -> tuple[Path, None]:
    """pytorch_model.bin, of today or of before PyTorch 1.6, whole or in shards."""
    tensors = given.named(["", "transformer."][given.random.integers(2)]) | given.masks()
    config_file(folder, given.config)
    if given.chance():
        (save if given.chance() else save_as_of_old)(folder / "pytorch_model.bin", state(tensors))
        return folder, None
    files = {name: f"pytorch_model-{1 + i % 2:05}-of-00002.bin" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        save(folder / file, state({name: x for name, x in tensors.items() if files[name] == file}))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}), encoding="utf-8")
    return folder, None


# OpenAI and llm.c.


def openai(folder: Path, given: Given) -> tuple[Path, dict[str, Any]]:
    return openai_folder(folder / "124M", given.config, given.parameters, int(given.random.integers(1, 4))), {}


def llm_c_file(folder: Path, given: Given) -> tuple[Path, dict[str, Any]]:
    version = 3 if given.parameters[TABLE].dtype == np.float32 else 5
    pad = int(given.random.integers(0, 3))
    return llm_c(folder / "gpt2_124M.bin", version, given.config, given.parameters, pad), {}


# minGPT and nanoGPT.


def torch_state(folder: Path, given: Given, tensors: Parameters) -> tuple[Path, dict[str, Any]]:
    """A state, by itself or in a checkpoint, of a compiled model or not, as a pickle or as safetensors."""
    prefix = ["", "_orig_mod."][given.random.integers(2)]
    tensors = {prefix + name: np.ascontiguousarray(x) for name, x in tensors.items()}
    if given.chance():
        save_file(tensors, folder / "ckpt.safetensors")
        return folder / "ckpt.safetensors", {"n_head": given.config.n_head}
    if given.chance():
        return save(folder / "model.pt", state(tensors)), {"n_head": given.config.n_head}
    sizes = {"n_layer": given.config.n_layer, "n_head": given.config.n_head, "bias": True, "dropout": 0.0}
    tree = {"model": state(tensors), "model_args": sizes, "iter_num": 5, "config": {"a": None}}
    return save(folder / "ckpt.pt", tree), {}


def nanogpt(folder: Path, given: Given) -> tuple[Path, dict[str, Any]]:
    return torch_state(folder, given, turned(given.named()) | {HEAD: given.parameters[TABLE].copy()} | given.masks())


def nanogpt_without_biases(folder: Path, given: Given) -> tuple[Path, dict[str, Any]]:
    tensors = {name: x for name, x in turned(given.named()).items() if not name.endswith("bias")}
    return torch_state(folder, given, tensors | {HEAD: given.parameters[TABLE].copy()})


def mingpt(folder: Path, given: Given) -> tuple[Path, dict[str, Any]]:
    return torch_state(folder, given, turned(given.named()) | given.masks())


# MindSpore.


def ckpt(folder: Path, given: Given) -> tuple[Path, dict[str, Any]]:
    """MindNLP's names, its first ones or the course's, (in, out) or (out, in), with what a training step adds.

    The configuration stands beside it, under the names that it has there, or in the arguments.
    Source: `checkpoint.proto` of MindSpore.
    """
    old, prefix = given.chance(), ["", "transformer."][given.random.integers(2)]
    pairs = []
    for name, x in (turned(given.parameters) if given.chance() else given.parameters).items():
        if old and ".ln_" in f".{name}":
            name = name.replace("weight", "gamma").replace("bias", "beta")
        if old and name.startswith("w"):
            name = name.replace(".weight", ".embedding_table")
        pairs.append((name if name == HEAD else prefix + name, x))
    pairs += [("global_step", np.array([3], np.int32))] * given.chance()
    kinds = {"float32": "Float32", "float16": "Float16", "bfloat16": "BFloat16", "int32": "Int32"}
    whole = b""
    for name, x in pairs:
        sizes: list[tuple[int, int | bytes]] = [(1, size) for size in x.shape]
        tensor = message([*sizes, (2, kinds[x.dtype.name].encode()), (3, np.ascontiguousarray(x).tobytes())])
        whole += message([(1, message([(1, name.encode()), (2, tensor)]))])
    path, config = folder / "mindspore.ckpt", given.config
    path.write_bytes(whole)
    if not given.chance() and config == plain(config):
        return path, {"n_head": config.n_head, "activation": config.activation_function}
    fields = config.to_dict()
    if given.chance():
        fields = {next((a for a, known in FIELD_ALIASES.items() if known == n), n): x for n, x in fields.items()}
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    return folder, {}


def plain(config: GPT2Config) -> GPT2Config:
    """The configuration with nothing that sizes and activation do not say."""
    kept = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function")
    said = {name: getattr(config, name) for name in (*kept, "tie_word_embeddings", "num_labels")}
    return GPT2Config(**said)


USUAL: dict[str, Any] = {
    "layer_norm_epsilon": False,
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "n_inner": False,
}
GPT2 = USUAL | {"activation_function": ["gelu_new"], "tie_word_embeddings": [True]}
NANOGPT = USUAL | {"activation_function": ["gelu"], "tie_word_embeddings": [True]}
LAYOUTS = {
    "safetensors": Layout(safetensors),
    "heads": Layout(heads),
    "pickle": Layout(pickle),
    "OpenAI": Layout(openai, GPT2),
    "llm.c": Layout(llm_c_file, GPT2, ("float32", "bfloat16")),
    "nanoGPT": Layout(nanogpt, NANOGPT),
    "nanoGPT without biases": Layout(nanogpt_without_biases, NANOGPT, biases=False),
    "minGPT": Layout(mingpt, USUAL | {"activation_function": ["gelu_new"], "tie_word_embeddings": [False]}),
    "MindSpore": Layout(ckpt),
}


def expect_logits(layout: Layout, question: Question, dtype: str, seed: int, backend: Backend) -> None:
    """Write the model, load it, and let the noise floor judge its logits."""
    rounded = {name: x.astype(numpy_dtype(dtype)) for name, x in question.parameters.items()}
    if not layout.biases:
        rounded |= {name: np.zeros_like(x) for name, x in rounded.items() if name.endswith("bias")}
    question = dataclasses.replace(question, parameters={n: x.astype(np.float32) for n, x in rounded.items()})
    written = Given(question.config, rounded, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as room, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes on what is left out
        folder, options = layout.write(Path(room), written)
        if options is not None:
            convert(folder, Path(room, "converted"), **options)
            folder = Path(room, "converted")
        model = gpt2.load(folder, backend)
        logits = model.logits(**question.inputs)
    assert {x.dtype.name for x in model.parameters.values()} == {dtype}
    expect_agreement(layout.write.__name__, {"logits": logits}, question, backend.accuracy)


SEEDS = st.integers(0, 9999)


@pytest.mark.parametrize("name", LAYOUTS)
def test_random_folders_of_every_layout(name: str, record_property: Callable[[str, object], None]) -> None:
    if name == "MindSpore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    layout, folders = LAYOUTS[name], collections.Counter[str]()

    @examples(0.1)
    @given(questions("language_model", alone, Supports.read(layout.fixed)), st.sampled_from(layout.dtypes), SEEDS)
    def holds(question: Question, dtype: str, seed: int) -> None:
        expect_logits(layout, question, dtype, seed, backend_of("numpy"))
        folders[dtype] += 1

    holds()
    record_property("folders", folders.total())
    print(f"{name}: {folders.total()} folders")


def test_random_folders_op_by_op_on_mindspore() -> None:
    backend = usable("mindspore pynative")
    drawn = st.sampled_from(list(LAYOUTS.values())).flatmap(
        lambda layout: st.tuples(
            st.just(layout),
            questions("language_model", alone, Supports.read(layout.fixed)),
            st.sampled_from(layout.dtypes),
            SEEDS,
        )
    )
    folders = 0

    @examples(0.1, backend)
    @given(drawn)
    def holds(chosen: tuple[Layout, Question, str, int]) -> None:
        nonlocal folders
        expect_logits(*chosen, backend)
        folders += 1

    holds()
    print(f"{folders} folders")
