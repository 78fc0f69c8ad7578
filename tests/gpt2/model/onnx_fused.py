"""A GPT-2 as onnxruntime's optimiser fuses it whole, written by hand; a part of it can be another one."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reference.config import GPT2Config
from tests.gpt2.small import Parameters

DOMAIN = "com.microsoft"


class Fused:
    """The nodes of a fused graph: EmbedLayerNormalization, Attention, SkipLayerNormalization, FastGelu.

    Initializers that hold the same numbers are one, as the exporter leaves them.
    """

    def __init__(self, config: GPT2Config, tensors: Parameters) -> None:
        self.config, self.tensors = config, tensors
        self.nodes: list[Any] = []
        self.initializers: dict[tuple[bytes, tuple[int, ...]], Any] = {}
        self._write()

    def hold(self, x: NDArray[Any]) -> str:
        """The name of the initializer that holds these numbers."""
        x = np.ascontiguousarray(x)
        key = x.tobytes(), x.shape
        if key not in self.initializers:
            self.initializers[key] = numpy_helper.from_array(x, f"held {len(self.initializers)}")
        return str(self.initializers[key].name)

    def parameter(self, name: str) -> str:
        """The name of the initializer of a parameter."""
        return self.hold(self.tensors[name])

    def node(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node, named by its first output; fused ones are told by their domain."""
        domain = DOMAIN if operator in FUSED else ""
        made = helper.make_node(operator, inputs, outputs, outputs[0], domain=domain, **attributes)
        self.nodes.append(made)
        return outputs[0]

    def _write(self) -> None:
        config, held, epsilon = self.config, self.parameter, self.config.layer_norm_epsilon
        first = ["input_ids", "", held("wte.weight"), held("wpe.weight"), "", held("h.0.ln_1.weight")]
        outputs = "norm 0", "", "sum 0"
        self.node("EmbedLayerNormalization", [*first, held("h.0.ln_1.bias")], *outputs, epsilon=epsilon)
        for i in range(config.n_layer):
            at, behind = f"h.{i}", f"h.{i + 1}.ln_1" if i + 1 < config.n_layer else "ln_f"
            c_attn = [held(f"{at}.attn.c_attn.weight"), held(f"{at}.attn.c_attn.bias")]
            attention = {"num_heads": config.n_head, "unidirectional": 1}
            self.node("Attention", [f"norm {2 * i}", *c_attn], f"attended {i}", **attention)
            self.node("MatMul", [f"attended {i}", held(f"{at}.attn.c_proj.weight")], f"projected {i}")
            self._norm(f"projected {i}", 2 * i + 1, f"{at}.attn.c_proj.bias", f"{at}.ln_2")
            self.node("MatMul", [f"norm {2 * i + 1}", held(f"{at}.mlp.c_fc.weight")], f"c_fc {i}")
            self.node("FastGelu", [f"c_fc {i}", held(f"{at}.mlp.c_fc.bias")], f"gelu {i}")
            self.node("MatMul", [f"gelu {i}", held(f"{at}.mlp.c_proj.weight")], f"mlp {i}")
            self._norm(f"mlp {i}", 2 * i + 2, f"{at}.mlp.c_proj.bias", behind)
        self.node("MatMul", [f"norm {2 * config.n_layer}", self.hold(self.tensors["wte.weight"].T)], "logits")

    def _norm(self, added: str, number: int, bias: str, norm: str) -> None:
        held = self.parameter
        inputs = [added, f"sum {number - 1}", held(f"{norm}.weight"), held(f"{norm}.bias"), held(bias)]
        outputs = f"norm {number}", "", "", f"sum {number}"
        self.node("SkipLayerNormalization", inputs, *outputs, epsilon=self.config.layer_norm_epsilon)

    def save(self, path: Path) -> Path:
        """Write the file."""
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "tokens"])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "tokens", self.config.vocab_size])
        graph = helper.make_graph(self.nodes, "fused", [ids], [logits], list(self.initializers.values()))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        return path


FUSED = ("EmbedLayerNormalization", "Attention", "SkipLayerNormalization", "FastGelu")
