"""Read a GPT-2 out of an ONNX file: plain, as PyTorch exports it, or with nodes that onnxruntime has fused. Write one.

The graph is read from the scores back to the ids, by what its nodes compute. Names tell nothing: where two biases or
gains are the same numbers, an exporter stores one of them and gives it to both nodes.
Source: `GPT2LMHeadModel` in Hugging Face's modeling_gpt2.py, and what torch.onnx.export makes of it; for the fused
nodes ContribOperators.md of onnxruntime.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends.onnx_writer import Writer
from gpt2.errors import GPT2Error
from gpt2.model.onnx_curves import Curve
from gpt2.model.onnx_graph import MICROSOFT, Graph, imported_onnx
from gpt2.model.tensors import Array, Tensors
from reference.config import GPT2Config

ATTENTION = f"{MICROSOFT}:Attention"
SKIP_NORM, EMBED_NORM = f"{MICROSOFT}:SkipLayerNormalization", f"{MICROSOFT}:EmbedLayerNormalization"
FUSED_PRODUCT = f"{MICROSOFT}:FusedMatMul"
PRODUCTS = ("MatMul", FUSED_PRODUCT)
SHAPES = ("Shape", "Size")
CUTS = ("Slice", "Gather")  # the last tokens alone are scored
ORDERING = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Trilu"}
# What masks and positions are computed with: integers and booleans, and the number that hides a score.
LOGIC = {
    *ORDERING, "Add", "And", "Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "CumSum", "Div", "Equal",
    "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "IsNaN", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Range", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze",
    "Where", "Xor",
}  # fmt: skip
# How far the factor of the scores may lie from the true one: it may be the product of two roots, each in float16.
FACTOR_ERROR = 2.0**-9
ONNX = "model.onnx"
IN_ONE_FILE = 2**30


def write_onnx(path: Path, config: GPT2Config, parameters: Mapping[str, Array]) -> None:
    """Write a language model; numbers beyond IN_ONE_FILE bytes lie in a file beside it, as protobuf has a limit.

    They are float32, or float16 if the parameters are. Raises GPT2Error for a classifier, or without the package onnx.
    """
    onnx = imported_onnx()
    if "score.weight" in parameters:
        raise GPT2Error("a classifier is not written as ONNX: expected a language model")
    dtype = "float16" if parameters["wte.weight"].dtype == np.float16 else "float32"
    rounded = {name: x.astype(dtype) for name, x in parameters.items()}
    writer = Writer(config, rounded, dtype)
    outside = sum(x.nbytes for x in rounded.values()) > IN_ONE_FILE
    beside = f"{path.name}.data" if outside else None
    onnx.save_model(writer.proto(list(writer.outputs)), path, save_as_external_data=outside, location=beside)


def read_onnx(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The parameters of the GPT-2 in a file by name, weights as (in, out), and the fields of the config it computes.

    Raises GPT2Error if the package onnx is missing, if the file is damaged, or, naming the first node that was not
    expected, if the graph is not that of a GPT-2.
    """
    return _Reader(Graph(path)).read()


class _Reader:
    """Reads one graph. A sum of the residual stream is named by the node that computes it, alone or with its norm."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sums: dict[str, str] = {}  # sums that a fused node computes before it normalises: first output, by name
        self.tensors: dict[str, Array] = {}
        self.facts: dict[str, set[Any]] = {"layer_norm_epsilon": set(), "activation_function": set(), "n_head": set()}
        self.scales: list[float | None] = []  # of the scores of each layer; None for the usual one
        self._ordered: dict[str, bool] = {}
        self._with_product: set[str] = set()  # tensors that a product is computed for, as no mask is
        for name in graph.producers:
            operator = graph.operator(name)
            inside = operator not in SHAPES and not self._with_product.isdisjoint(graph.arguments(name))
            self._with_product |= {name} if operator in PRODUCTS or inside else set()

    def read(self) -> tuple[Tensors, dict[str, Any]]:
        """The parameters and the fields, as `read_onnx` describes them."""
        graph = self.graph
        scores = "logits" if "logits" in graph.outputs or not graph.outputs else graph.outputs[0]
        hidden, head = self._head(scores)
        x, layers = self._norm(hidden, "ln_f"), list[str]()
        while not self._embeddings(x, head):
            layer = f"h.{len(layers)}"  # counted from the last
            middle, projected = self._branch(x, f"{layer}.mlp.c_proj")
            self._same(self._norm(self._mlp(projected, layer), f"{layer}.ln_2"), middle)
            x, projected = self._branch(middle, f"{layer}.attn.c_proj")
            self._same(self._norm(self._attention(projected, layer), f"{layer}.ln_1"), x)
            layers.append(layer)
        if head is not None:
            self.tensors["lm_head.weight"] = head
        return self._named(len(layers)), self._fields(scores)

    def _named(self, layers: int) -> Tensors:
        found: Tensors = {}
        for name, held in self.tensors.items():
            if name.startswith("h."):
                _, number, rest = name.split(".", 2)
                name = f"h.{layers - 1 - int(number)}.{rest}"
            found[name] = functools.partial(np.array, held)
        return found

    def _fields(self, scores: str) -> dict[str, Any]:
        for name, values in self.facts.items():
            if len(values) > 1:
                self.graph.refuse(scores, f"the same {name} in all layers, not {sorted(values)},")
        fields = {name: next(iter(values)) for name, values in self.facts.items() if values}
        return fields | self._scaling(scores, fields.get("n_head"))

    def _scaling(self, scores: str, heads: int | None) -> dict[str, bool]:
        """Which of the config's ways to scale the scores all layers have."""
        given = {len(self.scales) - 1 - i: scale for i, scale in enumerate(self.scales) if scale is not None}
        if heads is None:
            return {}
        size = max(1, self.tensors["ln_f.weight"].size // heads)
        for by_size in (True, False):
            for by_layer in (False, True):
                usual = size**-0.5 if by_size else 1.0
                wanted = {i: usual / (i + 1) if by_layer else usual for i in given}
                if all(abs(given[i] / wanted[i] - 1) < FACTOR_ERROR for i in given):
                    return {"scale_attn_weights": by_size, "scale_attn_by_inverse_layer_idx": by_layer}
        return self.graph.refuse(scores, f"scores divided by the root of {size} or by the layer's number, not this: ")

    def _same(self, found: str, expected: str) -> None:
        if found != expected:
            self.graph.refuse(self.sums.get(found, found), "a LayerNorm of the residual stream")

    # The parts of a GPT-2, each named by the tensor that it ends with.

    def _head(self, scores: str) -> tuple[str, Array | None]:
        """The hidden states that are scored, and the matrix (V, C) that scores them; None in a model without a head."""
        graph, name = self.graph, self.graph.through(scores)
        found = self._affine(name)
        if found is None:
            return name, None
        x, weight, bias = found
        if bias:
            graph.refuse(name, "a head without a bias")
        while graph.operator(x) in CUTS and not graph.is_constant(graph.argument(x, 0)):
            x = graph.through(graph.argument(x, 0))
        return x, weight.T

    def _affine(self, name: str) -> tuple[str, Array, str] | None:
        """x, weight (in, out) and bias, "" without one, of the affine map that a tensor is; None if it is none."""
        graph, name = self.graph, self.graph.through(name)
        operator = graph.operator(name)
        if operator == "Gemm":
            plain = [graph.attribute(name, "alpha", 1.0), graph.attribute(name, "beta", 1.0)] == [1, 1]
            if not plain or graph.attribute(name, "transA", 0) or not graph.is_constant(graph.argument(name, 1)):
                return None
            weight = graph.constant(graph.argument(name, 1))
            turned = graph.attribute(name, "transB", 0)
            return graph.through(graph.argument(name, 0)), weight.T if turned else weight, graph.argument(name, 2)
        if operator == "Add":
            product, bias = graph.with_constant(name)
            found = self._affine(product) if graph.operator(graph.through(product)) == "MatMul" else None
            return None if found is None else (*found[:2], bias)
        if operator != "MatMul" or not graph.is_constant(graph.argument(name, 1)):
            return None
        weight = graph.constant(graph.argument(name, 1))
        return (graph.through(graph.argument(name, 0)), weight, "") if weight.ndim == 2 else None

    def _keep(self, at: str, weight: str | Array, bias: str) -> None:
        """Keep the weight and the bias, "" if there is none, under the parameter's name."""
        self.tensors[f"{at}.weight"] = self.graph.constant(weight) if isinstance(weight, str) else weight
        if bias:
            self.tensors[f"{at}.bias"] = self.graph.constant(bias)

    def _norm(self, name: str, at: str) -> str:
        """Keep a LayerNorm's gain and bias; return the sum of the residual stream that it reads."""
        graph, name = self.graph, self.graph.through(name)
        operator = graph.operator(name)
        if operator == "LayerNormalization":
            x, gain, bias = graph.argument(name, 0), graph.argument(name, 1), graph.argument(name, 2)
            epsilon: Any = np.float32(graph.attribute(name, "epsilon", 1e-5))
            x = self._canonical(x)
        elif operator in (SKIP_NORM, EMBED_NORM) and graph.producers[name].output[0] == name:
            gain, bias = (graph.argument(name, place) for place in ((2, 3) if operator == SKIP_NORM else (5, 6)))
            x, epsilon = self._canonical(name, of_norm=True), np.float32(graph.attribute(name, "epsilon", 1e-12))
        else:
            x, gain, bias, epsilon = self._written_norm(name)
        if not gain or not all(graph.is_constant(each) for each in (gain, bias) if each):
            graph.refuse(name, "a LayerNorm with a gain that is a parameter")
        self._keep(at, gain, bias)
        self.facts["layer_norm_epsilon"].add(float(str(epsilon)))  # 1e-5, which float32 and float16 only come near to
        return x

    def _canonical(self, name: str, of_norm: bool = False) -> str:
        """The one name of a sum of the residual stream; `of_norm`: of the one that a fused node normalises."""
        name = self.graph.through(name)
        if self.graph.operator(name) not in (SKIP_NORM, EMBED_NORM):
            return name
        outputs = list(self.graph.producers[name].output)
        if not of_norm and outputs.index(name) == 0:
            return name
        self.sums[f"the sum in {outputs[0]}"] = outputs[0]
        return f"the sum in {outputs[0]}"

    def _written_norm(self, name: str) -> tuple[str, str, str, Any]:
        """x, gain, bias and epsilon of (x - mean) / sqrt(mean((x - mean)^2) + eps) * gain + bias, written out."""
        graph, expected = self.graph, "a LayerNorm"
        scaled, bias = graph.with_constant(name) if graph.operator(name) == "Add" else ("", "")
        scaled = graph.through(scaled)
        normed, gain = graph.with_constant(scaled) if graph.operator(scaled) == "Mul" else ("", "")
        normed = graph.through(normed)
        if graph.operator(normed) != "Div":
            graph.refuse(name, expected)
        centred, deviation = (graph.through(each) for each in graph.arguments(normed))
        variance = graph.through(graph.argument(deviation, 0)) if graph.operator(deviation) == "Sqrt" else ""
        if graph.operator(variance) != "Add":
            graph.refuse(normed, expected)
        mean, epsilon = graph.with_constant(variance)
        square = self._mean_of(mean)
        power = graph.scalar(graph.argument(square, 1)) if graph.operator(square) == "Pow" else None
        sides = {graph.through(each) for each in graph.arguments(square)[: 1 if power == 2 else 2]} if square else set()
        x = self._centred(centred)
        if not x or len(sides) != 1 or self._centred(*sides) != x or graph.operator(square) not in ("Pow", "Mul"):
            graph.refuse(normed, expected)
        return x, gain, bias, graph.constant(epsilon).reshape(-1)[:1].squeeze()[()]

    def _mean_of(self, name: str) -> str:
        """What a tensor is the mean of; "" if of nothing."""
        name = self.graph.through(name)
        return self.graph.through(self.graph.argument(name, 0)) if self.graph.operator(name) == "ReduceMean" else ""

    def _centred(self, name: str) -> str:
        """x, if a tensor is x - mean(x); "" otherwise."""
        if self.graph.operator(name) != "Sub":
            return ""
        x, mean = self.graph.arguments(name)
        x = self._canonical(x)
        return x if self._canonical(self._mean_of(mean)) == x else ""

    def _branch(self, name: str, at: str) -> tuple[str, str]:
        """The residual stream before a sum, and what the c_proj reads whose result is added to it."""
        graph, node = self.graph, self.sums.get(name, name)
        operator = graph.operator(node)
        if operator in ("Add", SKIP_NORM):
            extra = graph.argument(node, 4) if operator == SKIP_NORM else ""  # the bias of c_proj
            first, second = graph.arguments(node)[:2]
            for added, stream in ((first, second), (second, first)):
                found = self._affine(added)
                if found is not None and not (found[2] and extra):
                    self._keep(at, found[1], found[2] or extra)
                    return self._is_sum(stream), found[0]
            if sum(self._of_stream(each) for each in (first, second)) == 1:  # the other is the unexpected one
                node = graph.through(first if self._of_stream(second) else second)
        return graph.refuse(node, f"a sum with {at.split('.', 2)[2]}")

    def _of_stream(self, name: str) -> bool:
        """Whether a tensor is a sum, as the residual stream is everywhere."""
        return self.graph.operator(self.graph.through(name)) in ("Add", SKIP_NORM, EMBED_NORM)

    def _is_sum(self, name: str) -> str:
        """The one name of a tensor of the residual stream. Refuses what is no sum."""
        if not self._of_stream(name):
            self.graph.refuse(self.graph.through(name), "the residual stream")
        return self._canonical(name)

    def _mlp(self, name: str, layer: str) -> str:
        """Keep c_fc; return what it reads."""
        curve = Curve(self.graph, self._affine)
        self.facts["activation_function"].add(curve.activation(name))
        x, weight, bias = curve.source
        self._keep(f"{layer}.mlp.c_fc", weight, bias)
        return x

    def _embeddings(self, name: str, head: Array | None) -> bool:
        """Whether a sum is that of the embeddings, which are kept then."""
        graph, node = self.graph, self.sums.get(name, name)
        if graph.operator(node) == EMBED_NORM:
            if graph.argument(node, 1) or graph.argument(node, 4):
                graph.refuse(node, "no embedding of segments")
            self._keep("wte", graph.argument(node, 2), "")
            self._keep("wpe", graph.argument(node, 3), "")
            return True
        if graph.operator(node) != "Add":
            return False
        looked_up = [each for each in map(graph.through, graph.arguments(node)) if graph.operator(each) == "Gather"]
        tables = [each for each in looked_up if graph.is_constant(graph.argument(each, 0))]
        if len(tables) == 1 and graph.is_constant(graph.with_constant(node)[1]):  # for texts of one length alone
            rows = graph.constant(graph.with_constant(node)[1])
            self._keep("wte", graph.argument(tables[0], 0), "")
            self._keep("wpe", rows.reshape(rows.shape[-2:]) if rows.size == math.prod(rows.shape[-2:]) else rows, "")
            return True
        if len(tables) != 2:
            return False
        if self._is_of_tokens(tables[1], head) and not self._is_of_tokens(tables[0], head):
            tables.reverse()
        self._keep("wte", graph.argument(tables[0], 0), "")
        self._keep("wpe", graph.argument(tables[1], 0), "")
        self._follow(graph.argument(tables[1], 1))  # positions
        return True

    def _is_of_tokens(self, lookup: str, head: Array | None) -> bool:
        """Whether ids are looked up: what is an input and fits the head, not a sequence that the graph counts."""
        ids = self.graph.through(self.graph.argument(lookup, 1))
        rows = self.graph.constant(self.graph.argument(lookup, 0)).shape[0]
        return ids in self.graph.inputs and "position" not in ids and (head is None or len(head) == rows)

    # Attention.

    def _attention(self, name: str, layer: str) -> str:
        """Keep c_attn; return what it reads."""
        graph, name = self.graph, self.graph.through(name)
        if graph.operator(name) == ATTENTION:
            if not graph.attribute(name, "unidirectional", 0) or graph.argument(name, 5):
                graph.refuse(name, "causal attention without a bias of the scores")
            self.facts["n_head"].add(int(graph.attribute(name, "num_heads", 1)))
            self.scales.append(graph.attribute(name, "scale", 0.0) or None)
            weight, bias = graph.argument(name, 1), graph.argument(name, 2)
            if not graph.is_constant(weight):
                graph.refuse(name, "attention with a weight that is a parameter")
            self._keep(f"{layer}.attn.c_attn", weight, bias)
            return graph.through(graph.argument(name, 0))
        if graph.operator(name) == "Transpose":  # the heads side by side again
            name = graph.through(graph.argument(name, 0))
        q, k, v, scale = self._weighted_mean(name)
        thirds = [self._third(each, place) for place, each in enumerate((q, k, v))]
        qkv = {third[0] for third in thirds}
        found = self._affine(thirds[0][0])
        if len(qkv) != 1 or found is None:
            graph.refuse(thirds[0][0], "one affine map for queries, keys and values")
        heads = self._heads(thirds, found[1].shape[1] // 3)
        self.facts["n_head"] |= {heads} if heads else set()
        self.scales.append(None if scale is None else scale * thirds[0][1] * thirds[1][1])
        self._keep(f"{layer}.attn.c_attn", found[1], found[2])
        return found[0]

    def _weighted_mean(self, name: str) -> tuple[str, str, str, float | None]:
        """q, k, v, and the factor of the scores, None for the usual one, of attention's result."""
        graph = self.graph
        if graph.operator(name) == "Attention":  # ONNX's own, since opset 23
            causal = graph.attribute(name, "is_causal", 0) or self._follow(graph.argument(name, 3))
            if not causal or graph.attribute(name, "softcap", 0.0):
                graph.refuse(name, "attention with a causal mask, and no cap on the scores")
            q, k, v = graph.arguments(name)[:3]
            return q, k, v, graph.attribute(name, "scale", 0.0) or None
        if graph.operator(name) not in PRODUCTS:
            graph.refuse(name, "attention, or the sum of values by its weights,")
        weights, v = graph.arguments(name)[:2]
        weights = graph.through(weights)
        if graph.operator(weights) == "Where":  # 0 for NaN, as scaled_dot_product_attention has it
            weights = graph.through(graph.argument(weights, 2))
        if graph.operator(weights) != "Softmax":
            graph.refuse(weights, "a softmax of the scores")
        product, scale, causal = self._scores(graph.argument(weights, 0))
        if not causal:
            graph.refuse(weights, "a causal mask before it")
        q, k = graph.arguments(product)[:2]
        return q, k, v, scale

    def _scores(self, name: str) -> tuple[str, float, bool]:
        """The product of queries and keys below masked scores, its factor, and whether a mask is causal."""
        graph, scale, causal = self.graph, 1.0, False
        while graph.operator(name := graph.through(name)) not in PRODUCTS:
            operator, given = graph.operator(name), graph.arguments(name) if graph.operator(name) else []
            inside = [each for each in given if each in self._with_product]
            factor = next((x for x in map(graph.scalar, given) if x is not None), None)
            if operator not in ("Add", "Sub", "Mul", "Div", "Where") or len(inside) != 1:
                graph.refuse(name, "masked scores")
            if operator in ("Mul", "Div") and factor is not None and inside[0] == given[0]:
                scale = scale * factor if operator == "Mul" else scale / factor if factor else math.nan
            else:
                masks = [self._follow(each) for each in given if each != inside[0]]
                causal = causal or any(masks)
            name = inside[0]
        if graph.operator(name) == FUSED_PRODUCT:
            scale *= graph.attribute(name, "alpha", 1.0)
        return name, scale, causal

    def _ancestors(self, name: str) -> Iterator[str]:
        """A tensor and what it is computed from, but for what only its shape is asked of."""
        seen, waiting = set(), [name]
        while waiting:
            name = waiting.pop()
            if not name or name in seen:
                continue
            seen.add(name)
            yield name
            if self.graph.operator(name) not in ("", *SHAPES):
                waiting += self.graph.arguments(name)

    def _follow(self, name: str) -> bool:
        """Whether a mask depends on the order of positions. Refuses what computes more than a mask or positions."""
        if name not in self._ordered:
            found = False
            for each in self._ancestors(name):
                operator = self.graph.operator(each)
                if operator and operator not in LOGIC:
                    self.graph.refuse(each, "a mask, or positions,")
                found = found or operator in ORDERING
                if not found and self.graph.is_constant(each):
                    found = _is_triangle(self.graph.constant(each))
            self._ordered[name] = found
        return self._ordered[name]

    def _third(self, name: str, place: int) -> tuple[str, float, list[int]]:
        """What queries (place 0), keys or values are a third of, the factor on them, and the sizes of their heads."""
        graph, scale, shape = self.graph, 1.0, list[int]()
        while True:
            operator = graph.operator(name)
            given = graph.arguments(name) if operator else []
            if operator == "Split":
                sizes = self._sizes(graph.argument(name, 1)) or graph.attribute(name, "split", [])
                outputs = list(graph.producers[name].output)
                if outputs.index(name) != place or len(outputs) != 3 or len({*sizes}) > 1:
                    graph.refuse(name, f"thirds for queries, keys and values, and here number {place + 1} of them,")
                return graph.through(given[0]), scale, shape
            if operator in ("Mul", "Div") and (factor := graph.scalar(given[1])):
                scale = scale * factor if operator == "Mul" else scale / factor
            elif operator == "Concat" and len(given) == 2:  # behind the keys and values of the past
                given = given[1:]
            elif operator == "Reshape":
                shape = self._sizes(given[1])
            elif operator != "Transpose" and graph.through(name) == name:
                graph.refuse(name, "queries, keys and values cut out of one tensor")
            name = given[0]

    def _heads(self, thirds: list[tuple[str, float, list[int]]], channels: int) -> int | None:
        """The number of heads, from the shape (B, T, H, D) of a third; None if it does not say."""
        for _, _, shape in thirds:
            if len(shape) == 4 and shape[3] > 0:
                return channels // shape[3]
            if len(shape) == 4 and shape[2] > 0:
                return shape[2]
        return None

    def _sizes(self, name: str) -> list[int]:
        """The numbers of a shape, -1 for those that the file does not say; none if it says nothing."""
        graph, name = self.graph, self.graph.through(name) if name else ""
        if name and graph.is_constant(name):
            return [int(size) for size in graph.constant(name).reshape(-1)]
        if graph.operator(name) != "Concat":
            return []
        return [int(-1 if (x := graph.scalar(each)) is None else x) for each in graph.arguments(name)]


def _is_triangle(x: Array) -> bool:
    """Whether a constant is a causal mask: of 1 and 0, or of 0 and what is added to hide a score."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2:
        return False
    visible = np.broadcast_to(np.tri(x.shape[-1], dtype=bool), x.shape)
    return bool(np.array_equal(x != 0, visible) or np.array_equal(x == 0, visible))
