"""Write a GPT-2 as an ONNX graph, with ONNX's own operators alone, in the order of reference/model.py.

Inputs and outputs have the names that Hugging Face optimum gives them. The keys and values of the past may be empty.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gpt2.backends.protocol import Array, numpy_dtype
from reference.attention import attention_scale, mask_value
from reference.config import GPT2Config

OPSET, IR_VERSION = 20, 9  # the first with Gelu; what onnxruntime reads since version 1.17
GIVEN = "given."  # before the names of inputs that replace stages
SIMPLE = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "mish": "Mish"}


class Writer:
    """Writes the graph of one model, node by node. Tensors have the names of the stages that they are."""

    def __init__(self, config: GPT2Config, parameters: Mapping[str, Array], dtype: str, given: Collection[str] = ()):
        """given: the stages that inputs of the graph replace, once they are computed."""
        self.config, self.parameters, self.dtype = config, parameters, dtype
        self.stages: list[str] = []
        self.outputs: dict[str, list[str | int]] = {}
        self._given, self._count = given, 0
        self._nodes: list[Any] = []
        self._inputs: dict[str, tuple[Any, list[str | int]]] = {}
        self._constants: dict[str, Array] = {}
        self._write()

    def proto(self, outputs: Collection[str], external: bool = False) -> Any:
        """The model, as onnx.ModelProto, with these outputs.

        external: leave the parameters' numbers out, which are given to the session under their names.
        """
        from onnx import TensorProto, helper, numpy_helper

        def declared(name: str, kind: Any, shape: Any = None) -> Any:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

        weights = []
        for name, x in {**self.parameters, **self._constants}.items():
            if external and name in self.parameters:
                kind = helper.np_dtype_to_tensor_dtype(x.dtype)
                held = TensorProto(name=name, data_type=kind, dims=x.shape, data_location=TensorProto.EXTERNAL)
                held.external_data.add(key="location", value="parameters")
                weights.append(held)
            else:
                weights.append(numpy_helper.from_array(np.ascontiguousarray(x), name))
        inputs = [declared(name, kind, shape or None) for name, (kind, shape) in self._inputs.items()]
        made = [declared(name, self.type_of(name), self.outputs.get(name)) for name in outputs]
        graph = helper.make_graph(self._nodes, "gpt2", inputs, made, weights)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="gpt2-parity")

    def type_of(self, stage: str) -> Any:
        """The dtype of a stage: the scores may be wider than the rest, see reorder_and_upcast_attn."""
        wide = self.config.reorder_and_upcast_attn and stage.endswith("scores")
        return np.float32 if wide else self.dtype

    # What the graph is made of.

    def _input(self, name: str, kind: Any, *shape: str | int) -> str:
        self._inputs[name] = kind, list(shape)
        return name

    def _constant(self, value: Any, dtype: Any = np.int64) -> str:
        x = np.asarray(value, dtype)
        name = f"constant {x.dtype} {x.tolist()}"
        self._constants[name] = x
        return name

    def _number(self, value: float) -> str:
        return self._constant(value, numpy_dtype(self.dtype))

    def _node(self, operator: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        from onnx import helper

        self._count += 1
        made = [
            name or f"{operator} {self._count}" if i == 0 else f"{operator} {self._count}.{i}" for i in range(outputs)
        ]
        self._nodes.append(helper.make_node(operator, inputs, made, f"{operator} {self._count}", **attributes))
        return made[0] if outputs == 1 else made

    def _observe(self, stage: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """The node that computes a stage; the input that replaces it, if it is given."""
        self.stages.append(stage)
        computed: str = self._node(operator, *inputs, name=stage, **attributes)
        return self._input(GIVEN + stage, self.type_of(stage)) if stage in self._given else computed

    # The parts of a GPT-2, in the order of computation.

    def _write(self) -> None:
        config = self.config
        ids = self._input("input_ids", np.int64, "batch", "tokens")
        mask = self._input("attention_mask", np.int64, "batch", "all tokens")
        positions = self._input("position_ids", np.int64, "batch or 1", "tokens")
        tokens = self._observe("wte", "Gather", "wte.weight", ids)
        places = self._observe("wpe", "Gather", "wpe.weight", positions)
        x = self._observe("embeddings", "Add", tokens, places)
        visible = self._visible(ids, mask)
        for i in range(config.n_layer):
            x = self._block(x, i, visible)
        x = self._norm("ln_f", x)
        if "score.weight" in self.parameters:
            self._classify(x, ids)
        else:
            head = "wte.weight" if config.tie_word_embeddings else "lm_head.weight"
            self._observe("logits", "MatMul", x, self._node("Transpose", head))
            self.outputs = {"logits": ["batch", "tokens", config.vocab_size], **self.outputs}

    def _visible(self, ids: str, mask: str) -> str:
        """(B, 1, T, S): True where a query may look."""
        end, one, zero = self._size(mask, 1), self._constant(1), self._constant(0)
        keys = self._node("Range", zero, end, one)
        queries = self._node("Range", self._node("Sub", end, self._size(ids, 1)), end, one)
        causal = self._node("LessOrEqual", keys, self._node("Unsqueeze", queries, self._constant([1])))
        shown = self._node("Cast", mask, to=_number_of(np.bool_))
        return str(self._node("And", causal, self._node("Unsqueeze", shown, self._constant([1, 2]))))

    def _size(self, tensor: str, axis: int) -> str:
        return str(self._node("Squeeze", self._node("Shape", tensor, start=axis, end=axis + 1)))

    def _block(self, x: str, layer: int, visible: str) -> str:
        at, act = f"h.{layer}", self.config.activation_function
        attended = self._attention(self._norm(f"{at}.ln_1", x), layer, visible)
        x = self._observe(f"{at}.attn_residual", "Add", x, attended)
        h = self._affine(f"{at}.mlp.c_fc", self._norm(f"{at}.ln_2", x))
        h = self._affine(f"{at}.mlp.c_proj", self._activation(f"{at}.mlp.{act}", h))
        return self._observe(f"{at}.mlp_residual", "Add", x, h)

    def _norm(self, at: str, x: str) -> str:
        epsilon = self.config.layer_norm_epsilon
        return self._observe(at, "LayerNormalization", x, f"{at}.weight", f"{at}.bias", axis=-1, epsilon=epsilon)

    def _affine(self, at: str, x: str, stage: str = "") -> str:
        return self._observe(stage or at, "Add", self._node("MatMul", x, f"{at}.weight"), f"{at}.bias")

    def _activation(self, stage: str, x: str) -> str:
        name = self.config.activation_function
        if name in ("gelu", "gelu_new"):
            return self._observe(stage, "Gelu", x, approximate="tanh" if name == "gelu_new" else "none")
        if name in ("silu", "quick_gelu"):
            inner = x if name == "silu" else self._node("Mul", x, self._number(1.702))
            return self._observe(stage, "Mul", x, self._node("Sigmoid", inner))
        if name == "leaky_relu":
            return self._observe(stage, "LeakyRelu", x, alpha=0.01)
        if name == "relu2":
            positive = self._node("Relu", x)
            return self._observe(stage, "Mul", positive, positive)
        return self._observe(stage, SIMPLE.get(name, "Identity"), x)

    def _attention(self, x: str, layer: int, visible: str) -> str:
        config, at = self.config, f"h.{layer}.attn"
        qkv = self._affine(f"{at}.c_attn", x, f"{at}.qkv")
        thirds = self._node("Split", qkv, outputs=3, axis=-1, num_outputs=3)
        shape = self._constant([0, 0, config.n_head, config.head_size])
        q, k, v = (
            self._observe(f"{at}.{letter}", "Transpose", self._node("Reshape", third, shape), perm=[0, 2, 1, 3])
            for letter, third in zip("qkv", thirds, strict=True)
        )
        k, v = (self._with_past(layer, kind, new) for kind, new in (("key", k), ("value", v)))
        weights = self._weights(q, k, layer, visible)
        mean = self._observe(f"{at}.attn_output", "MatMul", weights, v)
        side_by_side = self._node("Transpose", mean, perm=[0, 2, 1, 3])
        merged = self._observe(f"{at}.merged", "Reshape", side_by_side, self._constant([0, 0, config.n_embd]))
        return self._affine(f"{at}.c_proj", merged)

    def _with_past(self, layer: int, kind: str, new: str) -> str:
        config, name = self.config, f"present.{layer}.{kind}"
        past = f"past_key_values.{layer}.{kind}"
        self._input(past, self.dtype, "batch", config.n_head, "past", config.head_size)
        self.outputs[name] = ["batch", config.n_head, "all tokens", config.head_size]
        return str(self._node("Concat", past, new, name=name, axis=2))

    def _weights(self, q: str, k: str, layer: int, visible: str) -> str:
        at, dtype = f"h.{layer}.attn", np.dtype(self.type_of("scores"))
        if dtype != self.dtype:
            q, k = (self._node("Cast", x, to=_number_of(dtype)) for x in (q, k))
        product = self._node("MatMul", q, self._node("Transpose", k, perm=[0, 1, 3, 2]))
        scale = self._constant(attention_scale(self.config, layer), dtype)
        scores = self._observe(f"{at}.scores", "Div", product, scale)
        lowest = self._constant(mask_value(dtype), dtype)
        masked = self._observe(f"{at}.masked_scores", "Where", visible, scores, lowest)
        if dtype == self.dtype:
            return self._observe(f"{at}.attn_weights", "Softmax", masked, axis=-1)
        wide = self._node("Softmax", masked, axis=-1)
        return self._observe(f"{at}.attn_weights", "Cast", wide, to=_number_of(self.dtype))

    def _classify(self, x: str, ids: str) -> None:
        """The scores of the labels at the last position where label_mask, (B, T), is not 0."""
        mask = self._input("label_mask", np.int64, "batch", "tokens")
        scores = self._observe("score", "MatMul", x, self._node("Transpose", "score.weight"))
        places = self._node("Range", self._constant(0), self._size(ids, 1), self._constant(1))
        last = self._node("ReduceMax", self._node("Mul", mask, places), self._constant([1]), keepdims=1)
        self._observe("label_logits", "GatherND", scores, last, batch_dims=1)
        self.outputs = {"label_logits": ["batch", self.config.num_labels], **self.outputs}


def _number_of(dtype: Any) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
