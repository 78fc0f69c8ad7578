"""`gpt2 convert` reads ONNX: what torch exports, what onnxruntime fuses, what is written here; and refuses the rest."""

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="no package onnx: pip install 'gpt2-parity[onnx]'")

import onnx
from onnx import TensorProto, helper, numpy_helper

from gpt2.errors import GPT2Error
from gpt2.model import onnx_file
from gpt2.model.convert import convert
from gpt2.model.hf_folder import write_folder
from gpt2.model.onnx_file import write_onnx
from reference.config import ACTIVATIONS, GPT2Config
from tests.gpt2.command import run
from tests.gpt2.conftest import examples
from tests.gpt2.model.onnx_fused import Fused
from tests.gpt2.model.test_foreign_weights import config_of
from tests.gpt2.model.test_hf_folder import bits, read
from tests.gpt2.model.write_onnx_exports import EXPORTS, FOLDER, TWO_LAYERS, untrained
from tests.gpt2.small import SMALL, Parameters, byte_folder, parameters

FRESH = untrained(TWO_LAYERS)


def sized(config: GPT2Config) -> GPT2Config:
    """The config as `convert` writes it."""
    return dataclasses.replace(config, n_inner=config.inner_size)


@pytest.mark.parametrize("name", EXPORTS)
def test_an_exported_file_is_the_model_that_was_exported(name: str, tmp_path: Path) -> None:
    config, tensors = EXPORTS[name]
    said = run("convert", FOLDER / name, tmp_path / "folder").result
    assert f"activation {config.activation_function}: its graph computes it" in said
    assert config_of(tmp_path / "folder") == sized(config)
    assert bits(read(tmp_path / "folder")) == bits(tensors)


@pytest.mark.parametrize("tensors", [FRESH, parameters(TWO_LAYERS)], ids=["shared", "all different"])
def test_a_wholly_fused_graph_converts(tensors: Parameters, tmp_path: Path) -> None:
    """Equal gains and biases are one initializer: there are fewer of them than parameters, and none has their names."""
    fused = Fused(TWO_LAYERS, tensors)
    path = fused.save(tmp_path / "model.onnx")
    assert (len(fused.initializers) < len(tensors)) == (tensors is FRESH)
    assert convert(path, tmp_path / "folder").config == sized(TWO_LAYERS)
    assert bits(read(tmp_path / "folder")) == bits(tensors)


@st.composite
def configs(draw: st.DrawFn) -> GPT2Config:
    """Any config, but for what no graph tells: the number of the only layer, and the root of one channel."""
    n_head, head_size, n_layer = (draw(st.integers(1, most)) for most in (3, 4, 3))
    return GPT2Config(
        vocab_size=draw(st.integers(1, 9)),
        n_positions=draw(st.integers(1, 9)),
        n_embd=n_head * head_size,
        n_layer=n_layer,
        n_head=n_head,
        n_inner=draw(st.integers(1, 9)),
        activation_function=draw(st.sampled_from(ACTIVATIONS)),
        layer_norm_epsilon=draw(st.sampled_from([1e-5, 1e-6, 1e-12, 0.001])),
        scale_attn_weights=draw(st.booleans()) or head_size == 1,
        scale_attn_by_inverse_layer_idx=draw(st.booleans()) and n_layer > 1,
        tie_word_embeddings=draw(st.booleans()),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_written_is_read_bit_for_bit(dtype: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    @examples(0.4)
    @given(configs())
    def holds(config: GPT2Config) -> None:
        room, tensors = tmp_path_factory.mktemp("room"), parameters(config, dtype=dtype)
        write_onnx(room / "model.onnx", config, tensors)
        assert convert(room / "model.onnx", room / "folder").config == config
        assert bits(read(room / "folder")) == bits(tensors)

    holds()


def test_a_folder_becomes_onnx_and_a_folder_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the numbers are so many that they lie in a file of their own."""
    folder = byte_folder(tmp_path / "folder")
    for limit, files in ((2**30, ["model.onnx"]), (0, ["model.onnx", "model.onnx.data"])):
        monkeypatch.setattr(onnx_file, "IN_ONE_FILE", limit)
        written = tmp_path / f"onnx {limit}"
        run("convert", folder, written, "--to", "onnx").result  # noqa: B018 (raises)
        assert sorted(path.name for path in written.glob("model*")) == files
        onnx.checker.check_model(str(written / "model.onnx"), full_check=True)
        run("convert", written, tmp_path / f"again {limit}").result  # noqa: B018
        assert bits(read(tmp_path / f"again {limit}")) == bits(read(folder))
        assert (tmp_path / f"again {limit}" / "vocab.json").is_file()


def test_a_classifier_is_not_written(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", SMALL, parameters(SMALL, "sequence_classifier"), [])
    said = run("convert", tmp_path / "folder", tmp_path / "onnx", "--to", "onnx").refusal
    assert said == "a classifier is not written as ONNX: expected a language model"


# Graphs that are not those of a GPT-2.

Change = Callable[[Fused], None]


def find(fused: Fused, name: str) -> Any:
    return next(node for node in fused.nodes if node.name == name)


def attribute(name: str, **values: Any) -> Change:
    """Change attributes of a node."""

    def change(fused: Fused) -> None:
        node = find(fused, name)
        kept = [each for each in node.attribute if each.name not in values]
        del node.attribute[:]
        node.attribute.extend(kept + [helper.make_attribute(key, value) for key, value in values.items()])

    return change


def operator(name: str, kind: str, domain: str = "") -> Change:
    """Give a node another operator."""

    def change(fused: Fused) -> None:
        find(fused, name).op_type, find(fused, name).domain = kind, domain

    return change


def before(name: str, place: int, kind: str, *more: NDArray[Any]) -> Change:
    """Put a node before an input of another one."""

    def change(fused: Fused) -> None:
        node = find(fused, name)
        inputs = [node.input[place], *map(fused.hold, more)]
        fused.nodes.insert(fused.nodes.index(node), helper.make_node(kind, inputs, ["new"], "new"))
        node.input[place] = "new"

    return change


def other_norm(fused: Fused) -> None:
    """The second layer's attention reads what the first one reads."""
    find(fused, "attended 1").input[0] = "norm 0"


CHANGES: dict[str, tuple[Change, str]] = {
    "not causal": (attribute("attended 1", unidirectional=0), "node 'attended 1' (Attention) is unexpected"),
    "other heads": (attribute("attended 1", num_heads=1), "the same n_head in all layers, not [1, 2]"),
    "other scale": (attribute("attended 0", scale=0.3), "scores divided by the root of 2"),
    "other epsilon": (attribute("norm 2", epsilon=0.5), "the same layer_norm_epsilon in all layers"),
    "RMSNorm": (operator("norm 4", "SimplifiedLayerNormalization"), "node 'norm 4' (SimplifiedLayerNormalization)"),
    "other activation": (
        operator("gelu 1", "HardSwish"),
        "node 'gelu 1' (HardSwish) is unexpected: a GPT-2 has an act",
    ),
    "quantised": (operator("mlp 1", "MatMulInteger"), "node 'mlp 1' (MatMulInteger) is unexpected: a GPT-2 has a sum"),
    "gate": (before("mlp 0", 0, "Mul", np.ones(16, np.float32)), "node 'new' (Mul)"),
    "clipped": (before("norm 3", 1, "Relu"), "node 'new' (Relu) is unexpected"),
    "bias of the head": (before("logits", 0, "Add", np.ones(4, np.float32)), "node 'new' (Add)"),
    "another stream": (other_norm, "node 'norm 0' (EmbedLayerNormalization) is unexpected: a GPT-2 has a LayerNorm"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_graph_is_refused_at_its_first_other_node(name: str, tmp_path: Path) -> None:
    change, said = CHANGES[name]
    fused = Fused(TWO_LAYERS, parameters(TWO_LAYERS))
    change(fused)
    assert said in run("convert", fused.save(tmp_path / "model.onnx"), tmp_path / "folder").refusal


def model_of(name: str) -> Any:
    return onnx.load(FOLDER / name, load_external_data=False)


def test_keys_are_no_queries(tmp_path: Path) -> None:
    """The thirds of c_attn in another order, as some other models have them."""
    model = model_of("written_out.onnx")
    split = next(node for node in model.graph.node if node.op_type == "Split")
    split.output[:] = [split.output[i] for i in (1, 0, 2)]
    onnx.save(model, tmp_path / "model.onnx")
    assert "(Split) is unexpected" in run("convert", tmp_path / "model.onnx", tmp_path / "folder").refusal


def test_scores_without_a_causal_mask_are_refused(tmp_path: Path) -> None:
    model = model_of("written_out.onnx")
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    masked = next(node for node in model.graph.node if softmax.input[0] in node.output)
    softmax.input[0] = masked.input[0]
    onnx.save(model, tmp_path / "model.onnx")
    assert "a GPT-2 has a causal mask" in run("convert", tmp_path / "model.onnx", tmp_path / "folder").refusal


# Damaged files, and such as somebody made to do harm.


def refused(path: Path) -> str:
    """What is said of a file, in one line."""
    with pytest.raises(GPT2Error) as caught:
        convert(path, path.parent / "folder")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def external(**said: Any) -> Callable[[Any], None]:
    """Give another place for the numbers of every tensor."""

    def change(model: Any) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = str(said.get(entry.key, entry.value))

    return change


def cycle(model: Any) -> None:
    first = model.graph.node[0]
    first.input[0] = model.graph.node[-1].output[0]


def twice(model: Any) -> None:
    model.graph.node.append(model.graph.node[-1])


def huge(model: Any) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.dims[:] = [2**40, 2**20]


def negative(model: Any) -> None:
    for tensor in model.graph.initializer:
        tensor.dims[:] = [-1] * len(tensor.dims)


def text(model: Any) -> None:
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2:
            tensor.CopyFrom(numpy_helper.from_array(np.array([[b"a"]], object), tensor.name))


def no_nodes(model: Any) -> None:
    del model.graph.node[:]


HARMFUL: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "above": ("external.onnx", external(location="../external.onnx.data"), "points outside its folder"),
    "absolute": ("external.onnx", external(location="/etc/passwd"), "points outside its folder"),
    "of Windows": ("external.onnx", external(location="C:\\data"), "points outside its folder"),
    "nowhere": ("external.onnx", external(location=""), "points outside its folder"),
    "missing": ("external.onnx", external(location="other"), "other is missing"),
    "beyond the end": ("external.onnx", external(offset=2**62), "does not hold the numbers"),
    "before the start": ("external.onnx", external(offset=-4), "does not hold the numbers"),
    "no number": ("external.onnx", external(offset="x"), "cannot be read"),
    "other length": ("external.onnx", external(length=3), "does not hold the numbers"),
    "huge outside": ("external.onnx", huge, "does not hold the numbers"),
    "cycle": ("fused.onnx", cycle, "which nothing before it computes"),
    "twice": ("fused.onnx", twice, "which is there already"),
    "huge": ("fused.onnx", huge, "cannot be read"),
    "negative": ("fused.onnx", negative, "has the shape"),
    "text": ("fused.onnx", text, ""),
    "empty": ("fused.onnx", no_nodes, "the tensor 'logits' is unexpected"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    source, change, said = HARMFUL[name]
    (tmp_path / "inside").mkdir()
    for folder in (tmp_path, tmp_path / "inside"):  # what it points to is there
        shutil.copy(FOLDER / "external.onnx.data", folder)
    model = model_of(source)
    change(model)
    path = tmp_path / "inside" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert said in refused(path)


def test_random_damage_ends_in_one_line_or_in_a_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = (FOLDER / "fused.onnx").read_bytes()

    @examples(0.6)
    @given(st.integers(0, len(whole)), st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))))
    def holds(end: int, changes: list[tuple[int, int]]) -> None:
        damaged = bytearray(whole)
        for place, byte in changes:
            damaged[place] = byte
        path = tmp_path_factory.mktemp("room") / "model.onnx"
        path.write_bytes(damaged if changes else damaged[:end])
        ran = run("convert", path, path.parent / "folder")
        assert ran.code == 0 or ran.refusal

    holds()


def test_without_the_package_the_command_for_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = run("convert", FOLDER / "fused.onnx", tmp_path / "folder").refusal
    assert said == "ONNX is read and written by the package onnx: pip install 'gpt2-parity[onnx]'"


def test_a_graph_that_does_not_say_its_heads_needs_them(tmp_path: Path) -> None:
    """Where a shape is computed, nothing in the file may be the size of a head."""
    model = model_of("written_out.onnx")
    turned = {node.input[0] for node in model.graph.node if node.op_type == "Transpose"}
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.output[0] in turned:
            node.input[1] = "input_ids"  # unknown, as far as the file says
    onnx.save(model, tmp_path / "model.onnx")
    assert "give --n-head" in run("convert", tmp_path / "model.onnx", tmp_path / "folder").refusal
    run("convert", tmp_path / "model.onnx", tmp_path / "folder", "--n-head", 2).result  # noqa: B018
    assert bits(read(tmp_path / "folder")) == bits(EXPORTS["written_out.onnx"][1])
