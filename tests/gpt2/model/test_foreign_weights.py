"""`gpt2 convert`: weights of OpenAI, llm.c, MindSpore, minGPT and nanoGPT are the same model here, bit for bit."""

import dataclasses
import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import gpt2
from gpt2.backends import Backend
from gpt2.model.convert import convert
from gpt2.model.hf_folder import CONFIG
from gpt2.model.tensorflow_checkpoint import MAGIC, open_checkpoint
from gpt2.model.tensors import PICKLED, WEIGHTS
from reference.config import LAYER_AXES, GPT2Config
from tests.gpt2.command import run
from tests.gpt2.conftest import examples
from tests.gpt2.model.test_hf_folder import bits, read
from tests.gpt2.model.torch_files import save, state
from tests.gpt2.small import SMALL, Parameters, byte_folder, folder_of, json_state, parameters

CONVERTED = dataclasses.replace(SMALL, n_inner=SMALL.inner_size)


def turned(tensors: Parameters) -> Parameters:
    """Weights as nn.Linear holds them."""
    return {name: np.ascontiguousarray(x.T) if ".c_" in name and x.ndim == 2 else x for name, x in tensors.items()}


def config_of(folder: Path) -> GPT2Config:
    return GPT2Config.from_dict(json.loads((folder / CONFIG).read_text()))


# OpenAI's folder, with TensorFlow's checkpoint.


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    if number < 128:
        return bytes([number])
    return bytes([128 | number & 127]) + varint(number >> 7)


def message(fields: list[tuple[int, int | bytes]]) -> bytes:
    """A protocol buffer."""
    return b"".join(
        varint(8 * field) + varint(value)
        if isinstance(value, int)
        else varint(8 * field + 2) + varint(len(value)) + value
        for field, value in fields
    )


def block(entries: list[tuple[bytes, bytes]], share: bool = True) -> bytes:
    """A block of a table: each key shares its beginning with the last; then the kind of compression, a checksum."""
    data, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (x, y) in enumerate(zip(key, last, strict=False)) if x != y), min(len(key), len(last)))
        shared = shared if share else 0
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return data + struct.pack("<II", 0, 1) + b"\x00" + bytes(4)


def table(entries: list[tuple[bytes, bytes]], size: int = 5) -> bytes:
    """A table of blocks of so many entries."""
    data, handles = b"", []
    for first in range(0, len(entries), size):
        part = block(entries[first : first + size])
        handles.append((entries[first : first + size][-1][0], varint(len(data)) + varint(len(part) - 5)))
        data += part
    ends = []
    for part in (block([]), block(handles, share=False)):
        ends.append(varint(len(data)) + varint(len(part) - 5))
        data += part
    return data + b"".join(ends).ljust(40, b"\x00") + struct.pack("<Q", MAGIC)


NUMBERS = {"float32": 1, "float64": 2, "int64": 9, "bfloat16": 14, "float16": 19}


def checkpoint(prefix: Path, tensors: Mapping[str, Any], shards: int = 1) -> Path:
    """The files of a checkpoint; returns the index."""
    entries = [(b"", message([(1, shards), (3, message([(1, 1)]))]))]
    data = [b""] * shards
    for i, name in enumerate(sorted(tensors)):
        x, shard = tensors[name], i % shards
        shape = message([(2, message([(1, size)])) for size in x.shape])
        place = [(3, shard)] * bool(shard) + [(4, len(data[shard]))] + [(5, x.nbytes)]
        entries.append((name.encode(), message([(1, NUMBERS[x.dtype.name]), (2, shape), *place])))
        data[shard] += x.tobytes()
    for shard, numbers in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}").write_bytes(numbers)
    index = prefix.with_name(f"{prefix.name}.index")
    index.write_bytes(table(entries))
    return index


def openai_names(tensors: Parameters) -> Parameters:
    """Parameters as OpenAI's code names and shapes them."""
    named = {}
    for name, x in tensors.items():
        *path, leaf = name.split(".")
        norm = path[-1].startswith("ln_")
        leaf = "b" if leaf == "bias" else "g" if norm else "w"
        if path[0] == "h":
            path = [f"h{path[1]}", *path[2:]]
        place = "/".join(["model", *path] + ([leaf] if path[-1] not in ("wte", "wpe") else []))
        named[place] = x[None] if ".c_" in name and x.ndim == 2 else x
    return named


def openai_folder(folder: Path, config: GPT2Config = SMALL, tensors: Parameters | None = None, shards: int = 1) -> Path:
    """A folder as OpenAI published them, without the files of the tokenizer."""
    folder.mkdir()
    checkpoint(folder / "model.ckpt", openai_names(tensors or parameters(config)), shards)
    sizes = {"n_vocab": config.vocab_size, "n_ctx": config.n_positions, "n_embd": config.n_embd}
    (folder / "hparams.json").write_text(json.dumps(sizes | {"n_head": config.n_head, "n_layer": config.n_layer}))
    return folder


@pytest.fixture
def openai(tmp_path: Path) -> Path:
    """A folder as OpenAI published them."""
    folder = openai_folder(tmp_path / "openai")
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n'
    )
    vocabulary = byte_folder(tmp_path / "bytes")
    (vocabulary / "vocab.json").rename(folder / "encoder.json")
    (vocabulary / "merges.txt").rename(folder / "vocab.bpe")
    return folder


def test_the_folder_of_openai_converts_with_its_tokenizer(openai: Path, tmp_path: Path) -> None:
    said = run("convert", openai, tmp_path / "folder").result
    assert "activation gelu_new: the default of GPT-2" in said
    assert config_of(tmp_path / "folder") == CONVERTED
    assert bits(read(tmp_path / "folder")) == bits(parameters())
    loaded = gpt2.load(tmp_path / "folder", "numpy")
    assert loaded.decode(loaded.encode("né")[0]) == "né"


def test_a_checkpoint_may_be_named_by_its_prefix_and_continued(openai: Path, tmp_path: Path) -> None:
    """As fine-tuning leaves them: several, with moments of Adam, and without the file that names the latest."""
    moments = {f"{name}/Adam": x for name, x in openai_names(parameters()).items()} | {"beta1_power": np.float32(0.9)}
    checkpoint(openai / "model-7", openai_names(parameters()) | moments, shards=3)
    ran = run("convert", openai / "model-7", tmp_path / "folder")
    assert ran.code == 0
    assert "left out beta1_power, model/h0/attn/c_attn/b/Adam" in ran.err
    assert bits(read(tmp_path / "folder")) == bits(parameters())
    (openai / "checkpoint").unlink()
    assert "holds 2 checkpoints of TensorFlow" in run("convert", openai, tmp_path / "other").refusal


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64"])
def test_every_dtype_of_tensorflow_is_read_bit_for_bit(dtype: str, tmp_path: Path) -> None:
    x = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    found = open_checkpoint(checkpoint(tmp_path / "x", {"x": x, "one": x[0, 0]}))
    assert bits({name: each() for name, each in found.items()}) == bits({"x": x, "one": x[0, 0]})


def test_a_damaged_checkpoint_is_refused_or_read(tmp_path: Path) -> None:
    index = checkpoint(tmp_path / "x", {f"name/{i}": np.ones((2, i), np.float32) for i in range(9)})
    whole = index.read_bytes()
    flips = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=3)

    def attempt() -> str:
        try:
            for each in open_checkpoint(index).values():
                each()
        except gpt2.GPT2Error as error:
            return str(error)
        return ""

    @examples(1)
    @given(flips, st.none() | st.integers(0, len(whole)))
    def holds(wrong: list[tuple[int, int]], length: int | None) -> None:
        raw = bytearray(whole)
        for place, byte in wrong:
            raw[place] = byte
        index.write_bytes(raw[:length])
        assert "\n" not in attempt()

    holds()


LIES = {
    "a far place": ([4, 2], 2**69, 24, "ends within x"),
    "a size beyond all memory": ([2**60], 0, 2**62, "ends within x"),
    "no numbers, but a size": ([0, 2**69], 0, 0, "cannot have the shape"),
}


@pytest.mark.parametrize(("shape", "offset", "size", "said"), LIES.values(), ids=LIES)
def test_a_checkpoint_whose_index_lies_is_refused(
    shape: list[int], offset: int, size: int, said: str, tmp_path: Path
) -> None:
    index = checkpoint(tmp_path / "x", {"x": np.ones(6, np.float32)})
    size = 4 * math.prod(shape) if size else 0
    sizes = message([(2, message([(1, each)])) for each in shape])
    entry = message([(1, 1), (2, sizes), (4, offset), (5, size)])
    index.write_bytes(table([(b"", message([(1, 1)])), (b"x", entry)]))
    with pytest.raises(gpt2.GPT2Error, match=said):
        open_checkpoint(index)["x"]()


def test_an_index_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "x.index"
    index.write_bytes(table([(b"x" * 20_000 + b"%05d" % i, b"") for i in range(3)]))
    with pytest.raises(gpt2.GPT2Error, match="a name is too long"):
        open_checkpoint(index)
    part = block([(b"x", b"")])
    handles = block([(b"%d" % i, varint(0) + varint(len(part) - 5)) for i in range(3)], share=False)
    ends = varint(0) + varint(len(part) - 5) + varint(len(part)) + varint(len(handles) - 5)
    index.write_bytes(part + handles + ends.ljust(40, b"\x00") + struct.pack("<Q", MAGIC))
    with pytest.raises(gpt2.GPT2Error, match="its blocks overlap"):
        open_checkpoint(index)


def test_a_place_that_cannot_be_looked_into_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert run("convert", "closed/model.bin", tmp_path / "folder").refusal == (
        "cannot read closed/model.bin: Permission denied"
    )


def test_a_checkpoint_without_its_numbers_is_refused(openai: Path, tmp_path: Path) -> None:
    data = openai / "model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    assert "ends within model/wte" in run("convert", openai, tmp_path / "folder").refusal
    data.unlink()
    assert f"{data} is missing" in run("convert", openai, tmp_path / "folder").refusal


# llm.c.


def llm_c(
    path: Path, version: int, config: GPT2Config = SMALL, tensors: Parameters | None = None, pad: int = 33
) -> Path:
    """A file as llm.c's train_gpt2.py writes it. pad: rows of the table beyond the vocabulary."""
    rows = config.vocab_size + pad
    sizes = (config.n_positions, config.vocab_size, config.n_layer, config.n_head, config.n_embd, rows)
    header = struct.pack("<8i", 20240326, version, *sizes).ljust(1024, b"\x00")
    tensors = turned(tensors or parameters(config))
    table = np.ones((rows, config.n_embd), np.float32)  # llm.c has zeros there; no matter
    table[: config.vocab_size] = tensors["wte.weight"]
    parts = [table, tensors["wpe.weight"]]
    parts += [tensors[f"h.{i}.{name}"] for name in LAYER_AXES for i in range(config.n_layer)]
    parts += [tensors["ln_f.weight"], tensors["ln_f.bias"]]
    dtype = np.float32 if version == 3 else ml_dtypes.bfloat16
    path.write_bytes(header + b"".join(x.astype(dtype).tobytes() for x in parts))
    return path


@pytest.mark.parametrize(("version", "dtype"), [(3, np.float32), (5, ml_dtypes.bfloat16)])
def test_a_file_of_llm_c_converts(version: int, dtype: Any, tmp_path: Path) -> None:
    assert convert(llm_c(tmp_path / "gpt2.bin", version), tmp_path / "folder").config == CONVERTED
    assert bits(read(tmp_path / "folder")) == bits({name: x.astype(dtype) for name, x in parameters().items()})


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (1, 1, "has version 1 of llm.c's format, expected 3"),
        (4, SMALL.n_layer + 1, "but its header says"),
        (5, 3, "n_head"),
        (7, SMALL.vocab_size - 1, "but its header says"),
        (4, -1, "n_layer"),
    ],
)
def test_a_wrong_header_of_llm_c_is_named(place: int, value: int, said: str, tmp_path: Path) -> None:
    path = llm_c(tmp_path / "gpt2.bin", 3)
    raw = bytearray(path.read_bytes())
    raw[4 * place : 4 * place + 4] = struct.pack("<i", value)
    path.write_bytes(raw)
    assert said in run("convert", path, tmp_path / "folder").refusal
    path.write_bytes(raw[:100])
    assert "ends within its header" in run("convert", path, tmp_path / "folder").refusal


# minGPT and nanoGPT: which activation function they were trained with.


def without_biases(tensors: Parameters) -> Parameters:
    return {name: x for name, x in tensors.items() if not name.endswith("bias")}


LAYOUTS: dict[str, tuple[Callable[[Parameters], Parameters], str]] = {
    "nanoGPT": (lambda x: turned(x) | {"lm_head.weight": x["wte.weight"]}, "gelu"),
    "nanoGPT without biases": (lambda x: without_biases(turned(x)) | {"lm_head.weight": x["wte.weight"]}, "gelu"),
    "nanoGPT without its second table": (turned, "gelu"),
    "minGPT": (lambda x: turned(x) | {"lm_head.weight": -x["wte.weight"]}, "gelu_new"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_activation_is_guessed_from_the_layout_and_said(layout: str, suffix: str, tmp_path: Path) -> None:
    made, activation = LAYOUTS[layout]
    source = tmp_path / f"state{suffix}"
    named = {f"_orig_mod.transformer.{name}": x for name, x in made(parameters()).items()}
    named = {name.replace("transformer.lm_head", "lm_head"): x for name, x in named.items()}
    if suffix == ".safetensors":
        save_file({name: np.array(x) for name, x in named.items()}, source)
    else:
        save(source, {"model": state(named), "model_args": {"n_head": 2, "dropout": 0.0}, "iter_num": 5})
    heads = ("--n-head", 2) if suffix == ".safetensors" else ()
    said = run("convert", source, tmp_path / "folder", *heads).result
    assert f"activation {activation}: {layout.split()[0]}" in said
    assert config_of(tmp_path / "folder").activation_function == activation
    said = run("convert", source, tmp_path / "other", *heads, "--activation", "relu").result
    assert "activation relu: given" in said
    assert config_of(tmp_path / "other").activation_function == "relu"
    if "without biases" not in layout:
        want = parameters() | ({"lm_head.weight": -parameters()["wte.weight"]} if layout == "minGPT" else {})
        assert bits(read(tmp_path / "folder")) == bits(want)


def test_a_configuration_that_names_the_activation_is_believed(tmp_path: Path) -> None:
    source = json_state(tmp_path, config={"n_head": 1, "activation_function": "relu"})
    assert "activation relu: its configuration says so" in run("convert", source, tmp_path / "folder").result
    refusal = run("convert", source, tmp_path / "other", "--activation", "swoosh").refusal
    assert "'activation_function' must be one of gelu_new" in refusal


def test_a_configuration_beside_a_state_may_use_general_names(tmp_path: Path) -> None:
    """As config.json may in a folder that loads as it is; and what GPT-2 does not have is refused here too."""
    source = save(tmp_path / "model.pt", state(turned(parameters())))
    fields = {"model_type": "gpt-mini", "num_attention_heads": 2, "layer_norm_epsilon": 1e-3}
    (tmp_path / CONFIG).write_text(json.dumps(fields))
    made = convert(source, tmp_path / "folder").config
    assert (made.n_head, made.layer_norm_epsilon) == (2, 1e-3)
    (tmp_path / CONFIG).write_text(json.dumps(fields | {"add_cross_attention": True}))
    assert "'add_cross_attention' is not supported" in run("convert", source, tmp_path / "other").refusal


def test_nanogpt_computes_what_nanogpt_computes(data: Path, engine: Backend, tmp_path: Path) -> None:
    """What its author's code found for these weights, erf GELU: the tanh form is off by a hundred times the noise."""
    case = data.parent / "cases" / "nanogpt"
    if not case.is_dir():
        pytest.skip(f"no {case}: the case of nanoGPT is not at hand")
    convert(case / "ckpt.safetensors", tmp_path / "erf", 4)
    convert(case / "ckpt.safetensors", tmp_path / "tanh", 4, "gelu_new")
    want, ids = np.load(case / "want.npy"), [[1, 2, 3, 400, 447]]
    erf, tanh = (np.abs(gpt2.load(tmp_path / kind, engine).logits(ids) - want).max() for kind in ("erf", "tanh"))
    assert 100 * erf < tanh


# All layouts, of models of any size.


def nanogpt(path: Path, config: GPT2Config) -> Path:
    """A checkpoint as nanoGPT's train.py saves it."""
    tensors = turned(parameters(config)) | {"lm_head.weight": parameters(config)["wte.weight"]}
    return save(path, {"model": state(tensors), "model_args": {"n_head": config.n_head, "bias": True}})


MAKERS: dict[str, Callable[[Path, GPT2Config], Path]] = {
    "openai": openai_folder,
    "gpt2_124M.bin": lambda path, config: llm_c(path, 3, config),
    "ckpt.pt": nanogpt,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_model_of_any_size_converts_bit_for_bit(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    sizes = st.tuples(*[st.integers(1, most) for most in (3, 4, 20, 9, 3)])

    @examples(0.15)
    @given(sizes)
    def holds(drawn: tuple[int, ...]) -> None:
        n_head, head_size, vocabulary, context, layers = drawn
        config = GPT2Config(
            n_head=n_head, n_embd=n_head * head_size, vocab_size=vocabulary, n_positions=context, n_layer=layers
        )
        room = tmp_path_factory.mktemp("room")
        made = convert(MAKERS[name](room / name, config), room / "folder").config
        activation = "gelu" if name == "ckpt.pt" else "gelu_new"
        assert made == dataclasses.replace(config, n_inner=config.inner_size, activation_function=activation)
        assert bits(read(room / "folder")) == bits(parameters(config))

    holds()


# Hugging Face folders, and MindSpore.


def test_a_pickled_folder_is_written_again_as_safetensors(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "old")
    (folder / WEIGHTS).unlink()
    save(folder / PICKLED, state({f"transformer.{name}": x for name, x in parameters().items()}))
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    assert convert(folder, tmp_path / "new").config == SMALL
    assert bits(read(tmp_path / "new")) == bits(parameters())
    assert gpt2.load(tmp_path / "new", "numpy").end_ids == (3, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_mindspore_checkpoints_both_ways(dtype: Any, tmp_path: Path) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    tensors = {name: x.astype(dtype) for name, x in parameters().items()}
    folder = folder_of(tmp_path / "folder", SMALL, tensors)
    run("convert", folder, tmp_path / "mindspore", "--to", "ckpt").result  # noqa: B018 (raises)
    assert sorted(path.name for path in (tmp_path / "mindspore").iterdir()) == [CONFIG, "mindspore.ckpt"]
    assert convert(tmp_path / "mindspore", tmp_path / "again").config == CONVERTED
    assert bits(read(tmp_path / "again")) == bits(tensors)


@pytest.mark.parametrize("outward", [False, True])
def test_names_of_mindspore_cells_are_understood(outward: bool, tmp_path: Path) -> None:
    """As MindNLP's first versions and the course name them, with what a training step adds."""
    mindspore = pytest.importorskip("mindspore", reason="MindSpore is not installed")
    renamed = {}
    for name, x in (turned(parameters()) if outward else parameters()).items():
        norm = ".ln_" in f".{name}"
        name = name.replace("weight", "gamma").replace("bias", "beta") if norm else name
        name = name.replace(".weight", ".embedding_table") if name.startswith("w") else name
        renamed[f"transformer.{name}"] = x
    renamed |= {"lm_head.weight": parameters()["wte.weight"], "global_step": np.array([3], np.int32)}
    data = [{"name": name, "data": mindspore.Tensor(np.ascontiguousarray(x))} for name, x in renamed.items()]
    mindspore.save_checkpoint(data, str(tmp_path / "gpt2.ckpt"))
    ran = run("convert", tmp_path / "gpt2.ckpt", tmp_path / "folder", "--n-head", 2)
    assert (ran.code, "left out global_step" in ran.err) == (0, True), ran
    assert bits(read(tmp_path / "folder")) == bits(parameters())


def test_what_mindspore_cannot_read_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    (tmp_path / "gpt2.ckpt").write_bytes(b"\x01\x02\x03")
    assert "MindSpore cannot read" in run("convert", tmp_path / "gpt2.ckpt", tmp_path / "folder").refusal


def test_to_ckpt_takes_a_model_as_it_is(small: Path, tmp_path: Path) -> None:
    refusal = run("convert", small, tmp_path / "folder", "--to", "ckpt", "--n-head", 2).refusal
    assert "--n-head and --activation are for states of other projects" in refusal
