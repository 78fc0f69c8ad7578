"""Write the files of onnx_exports/, as PyTorch exports a GPT-2 and onnxruntime's optimiser fuses it.

Run it where torch, transformers, onnx, onnxruntime and onnxscript are installed:
python -m tests.gpt2.model.write_onnx_exports. The files here are from torch 2.13.0, transformers 5.23.0, onnx 1.23.2
and onnxruntime 1.32.0. Weights are those of tests/gpt2/small.py, so that no other file has to hold them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gpt2.model.hf_folder import named_fully
from reference.config import GPT2Config
from tests.gpt2.small import Parameters, parameters

FOLDER = Path(__file__).parent / "onnx_exports"
ONE_LAYER = GPT2Config(
    vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=2, n_inner=5, activation_function="gelu"
)
TWO_LAYERS = GPT2Config(vocab_size=11, n_positions=6, n_embd=4, n_layer=2, n_head=2, n_inner=16)
UNTIED = GPT2Config(
    vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=1, n_inner=5, layer_norm_epsilon=1e-6,
    activation_function="quick_gelu", tie_word_embeddings=False,
)  # fmt: skip

CONTEXT_OF_3 = GPT2Config(vocab_size=11, n_positions=3, n_embd=4, n_layer=1, n_head=2, n_inner=16)


def untrained(config: GPT2Config) -> Parameters:
    """Weights as a GPT-2 begins with them: all gains are 1 and all biases 0, so that exporters share them."""
    drawn = parameters(config)
    gains = {name for name in drawn if ".ln_" in f".{name}" and name.endswith("weight")}
    return {name: x if x.ndim > 1 else np.full_like(x, name in gains) for name, x in drawn.items()}


def half(tensors: Parameters) -> Parameters:
    """Weights rounded to float16."""
    return {name: x.astype(np.float16) for name, x in tensors.items()}


# What each file holds.
EXPORTS: dict[str, tuple[GPT2Config, Parameters]] = {
    "written_out.onnx": (ONE_LAYER, parameters(ONE_LAYER)),  # opset 14: neither LayerNormalization nor Gelu
    "external.onnx": (UNTIED, parameters(UNTIED)),  # torch.export; the numbers lie in external.onnx.data
    "attention.onnx": (UNTIED, parameters(UNTIED)),  # opset 23: ONNX's own Attention; ids are the only input
    "fused.onnx": (TWO_LAYERS, untrained(TWO_LAYERS)),
    "static.onnx": (CONTEXT_OF_3, parameters(CONTEXT_OF_3)),  # texts of 3 tokens: masks and positions are constants
    "fused_float16.onnx": (TWO_LAYERS, half(parameters(TWO_LAYERS))),
}


def main() -> None:
    """Write every file anew."""
    _export(FOLDER / "written_out.onnx", ONE_LAYER, parameters(ONE_LAYER), attention="eager", opset_version=14)
    two = {0: "batch", 1: "tokens"}
    shapes = {"ids": two, "mask": two, "past": [[{0: "batch", 2: "past"}] * 2]}
    _export(FOLDER / "external.onnx", UNTIED, parameters(UNTIED), "sdpa", dynamo=True, dynamic_shapes=shapes)
    _put_outside(FOLDER / "external.onnx")
    _export_alone(FOLDER / "attention.onnx", UNTIED, parameters(UNTIED), dynamic_shapes=[two], opset_version=23)
    _export_alone(FOLDER / "static.onnx", CONTEXT_OF_3, parameters(CONTEXT_OF_3))
    for name, tensors in (("fused", untrained(TWO_LAYERS)), ("fused_float16", parameters(TWO_LAYERS))):
        _export(FOLDER / f"{name}.onnx", TWO_LAYERS, tensors, "eager", opset_version=17)
        _fuse(FOLDER / f"{name}.onnx", name.endswith("float16"))


def _export(path: Path, config: GPT2Config, tensors: Parameters, attention: str, **options: Any) -> None:
    import torch
    from transformers.cache_utils import DynamicCache

    model = _model(config, tensors, attention)

    class Exported(torch.nn.Module):
        """The scores, and the keys and values, as optimum exports them."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, past: Any) -> Any:
            cache = DynamicCache()
            for i, (key, value) in enumerate(past):
                cache.update(key, value, i)
            made = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
            return made.logits, [(layer.keys, layer.values) for layer in made.past_key_values.layers]

    past = [[torch.zeros(2, config.n_head, 2, config.head_size)] * 2 for _ in range(config.n_layer)]
    inputs = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 5, dtype=torch.long), past
    names = [f"past_key_values.{i}.{kind}" for i in range(config.n_layer) for kind in ("key", "value")]
    present = [name.replace("past_key_values", "present") for name in names]
    if not options.get("dynamo"):
        axes = {"input_ids": {0: "batch", 1: "tokens"}, "attention_mask": {0: "batch", 1: "all"}}
        axes |= {name: {0: "batch", 2: "past"} for name in names}
        options |= {"dynamo": False, "dynamic_axes": axes}
    names = ["input_ids", "attention_mask", *names]
    options |= {"input_names": names, "output_names": ["logits", *present]}
    torch.onnx.export(Exported().eval(), inputs, str(path), **options)
    _strip(path)


def _export_alone(path: Path, config: GPT2Config, tensors: Parameters, **options: Any) -> None:
    import torch

    model = _model(config, tensors, "sdpa")

    class Exported(torch.nn.Module):
        """The scores of ids alone."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any) -> Any:
            return self.model(input_ids=ids, use_cache=False).logits

    options |= {"dynamo": True, "input_names": ["input_ids"], "output_names": ["logits"]}
    torch.onnx.export(Exported().eval(), (torch.zeros(2, 3, dtype=torch.long),), str(path), **options)
    _strip(path)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)  # which is empty


def _model(config: GPT2Config, tensors: Parameters, attention: str) -> Any:
    import torch
    import transformers

    settings = config.to_dict() | {"attn_implementation": attention, "use_cache": True}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings)).eval()
    model.load_state_dict({name: torch.from_numpy(x) for name, x in named_fully(tensors).items()}, strict=False)
    return model


def _fuse(path: Path, narrow: bool) -> None:
    from onnxruntime.transformers.optimizer import optimize_model

    config = TWO_LAYERS
    fused = optimize_model(str(path), "gpt2", num_heads=config.n_head, hidden_size=config.n_embd, opt_level=0)
    if narrow:
        fused.convert_float_to_float16()
    fused.save_model_to_file(str(path))
    _strip(path)


def _put_outside(path: Path) -> None:
    """Move the parameters into a file beside the graph, as the exporter does with large ones."""
    import onnx
    from onnx.external_data_helper import set_external_data

    model, beside = onnx.load(path), path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims:
            set_external_data(tensor, beside.name)
    onnx.save(model, path)


def _strip(path: Path) -> None:
    """Remove what was noted of the exporting machine, and the names of nodes, which are long."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    short: dict[str, str] = {}
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [short.setdefault(name, f"t{len(short)}") if name.startswith("/") else name for name in names]
    for value in model.graph.value_info:
        value.name = short.get(value.name, value.name)
    del model.graph.value_info[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
