"""The configuration of a GPT-2, and the names and shapes of the parameters that follow from it.

Field names are those of Hugging Face's `config.json`, parameter names those of its GPT-2 checkpoints.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

USUAL_ACTIVATIONS = ("gelu_new", "gelu", "relu", "silu")
ACTIVATIONS = (*USUAL_ACTIVATIONS, "quick_gelu", "mish", "tanh", "sigmoid", "leaky_relu", "relu2", "linear")
# Other spellings that Hugging Face accepts for the very same functions, computed by other operators.
ACTIVATION_ALIASES = {
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "swish": "silu",
}
# Hugging Face's general names for fields of GPT-2.
FIELD_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
# Fields of config.json that would change the result and that GPT-2 proper does not have: only "off" is accepted.
UNSUPPORTED = ("add_cross_attention", "is_encoder_decoder", "pruned_heads", "quantization_config")


class ConfigError(ValueError):
    """An invalid configuration; the message names the field."""


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Every field of `config.json` that changes what GPT-2 computes; defaults are GPT-2 small (124M).

    Raises ConfigError, naming the field, for a value outside its range. Source: GPT-2 paper, table 2, and
    `configuration_gpt2.py` of Hugging Face transformers for the names.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    """The id that ends a text, or several."""
    pad_token_id: int | None = None
    num_labels: int = 2

    def __post_init__(self) -> None:
        for field in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "num_labels"):
            self._require(
                field, _is_int(getattr(self, field)) and getattr(self, field) >= 1, "an integer of at least 1"
            )
        self._require("num_labels", self.num_labels <= 10**6, "at most 1000000")
        self._require(
            "n_inner",
            self.n_inner is None or (_is_int(self.n_inner) and self.n_inner >= 1),
            "null (4 * n_embd) or an integer of at least 1",
        )
        self._require("n_head", self.n_embd % self.n_head == 0, f"a divisor of n_embd = {self.n_embd}")
        known = ", ".join(ACTIVATIONS + tuple(ACTIVATION_ALIASES))
        self._require("activation_function", self.activation_function in known.split(", "), f"one of {known}")
        object.__setattr__(
            self, "activation_function", ACTIVATION_ALIASES.get(self.activation_function, self.activation_function)
        )
        self._require(
            "layer_norm_epsilon",
            _is_number(self.layer_norm_epsilon) and 0 <= self.layer_norm_epsilon < 1,
            "a number from 0 to below 1",
        )
        for switch in (field.name for field in dataclasses.fields(self) if field.type is bool):
            self._require(switch, isinstance(getattr(self, switch), bool), "true or false")
        for field in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
            value = getattr(self, field)
            self._require(field, _is_number(value) and 0 <= value < 1, "a probability from 0 to below 1")
        self._require(
            "initializer_range",
            _is_number(self.initializer_range) and self.initializer_range >= 0,
            "a number of at least 0",
        )
        for field in ("bos_token_id", "pad_token_id"):
            value = getattr(self, field)
            self._require(field, value is None or _is_int(value), "null or an integer")
        ends = self.eos_token_id
        several = isinstance(ends, list | tuple) and bool(ends) and all(map(_is_int, ends))
        self._require(
            "eos_token_id", ends is None or _is_int(ends) or several, "null, an integer or a list of integers"
        )
        if several:
            object.__setattr__(self, "eos_token_id", tuple(ends))  # type: ignore[arg-type]

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"config field {field!r} must be {expected}, but is {getattr(self, field)!r}")

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end a text: those of eos_token_id."""
        if self.eos_token_id is None:
            return ()
        return self.eos_token_id if isinstance(self.eos_token_id, tuple) else (self.eos_token_id,)

    @property
    def head_size(self) -> int:
        """D, channels of one head."""
        return self.n_embd // self.n_head

    @property
    def inner_size(self) -> int:
        """I, units of the MLP."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "GPT2Config":
        """Read the mapping of a Hugging Face `config.json`; fields without effect on the result are ignored.

        n_ctx is one of them: it was the size of a buffer, and transformers does not read it.
        Raises ConfigError, naming the field, for another architecture, an unsupported feature or a bad value.
        """
        if fields.get("model_type", "gpt2") != "gpt2":
            raise ConfigError(f"config field 'model_type' must be 'gpt2', but is {fields['model_type']!r}")
        for field in UNSUPPORTED:
            if fields.get(field):
                raise ConfigError(f"config field {field!r} is not supported: remove it, or set it to false")
        known = {field.name for field in dataclasses.fields(cls)}
        named = {FIELD_ALIASES.get(name, name): value for name, value in fields.items()}
        chosen = {name: value for name, value in named.items() if name in known}
        if "num_labels" not in chosen and fields.get("id2label"):
            if not isinstance(fields["id2label"], dict):
                raise ConfigError(f"config field 'id2label' must be an object, but is {fields['id2label']!r}")
            chosen["num_labels"] = len(fields["id2label"])
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The mapping that `config.json` holds; Hugging Face's GPT2Config reads it back to the same model."""
        fields = dataclasses.asdict(self)
        labels = fields.pop("num_labels")
        if isinstance(self.eos_token_id, tuple):
            fields["eos_token_id"] = list(self.eos_token_id)
        return {
            "model_type": "gpt2",
            **fields,
            "id2label": {str(i): f"LABEL_{i}" for i in range(labels)},
            "label2id": {f"LABEL_{i}": i for i in range(labels)},
        }


LEVELS = ("O0", "O1", "O2", "O3")
OPTIMIZERS = ("adamw", "adam_weight_decay")
SCHEDULES = ("constant", "linear", "cosine")
LOSS_SCALERS = ("none", "static", "dynamic")
ACCUMULATIONS = ("tokens", "micro_batches")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a GPT-2 is trained: every number that changes an update.

    Names and defaults of the loss scaler are the MindSpore course's. level: what runs in float16, see
    `reference.precision.cast_parameters`. accumulation: what an update is the mean over, all "tokens" that are scored
    in its micro-batches, or, as the course has it, the losses of the "micro_batches".
    Raises ConfigError, naming the field, for a value outside its range.
    """

    learning_rate: float = 2.5e-4
    schedule: str = "constant"
    warmup_steps: int = 0
    total_steps: int = 0
    final_learning_rate: float = 0.0
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    accumulate_step: int = 1
    accumulation: str = "tokens"
    max_grad_norm: float | None = 1.0
    level: str = "O0"
    loss_scaler: str = "none"
    scale_value: float = 2.0**10
    scale_factor: int = 2
    scale_window: int = 1000
    ignore_index: int = -100
    recompute: bool = False

    def __post_init__(self) -> None:
        choices = {"schedule": SCHEDULES, "optimizer": OPTIMIZERS, "level": LEVELS, "loss_scaler": LOSS_SCALERS}
        choices["accumulation"] = ACCUMULATIONS
        for field, known in choices.items():
            self._require(field, getattr(self, field) in known, f"one of {', '.join(known)}")
        for field in ("learning_rate", "final_learning_rate", "weight_decay"):
            self._require(field, self._number(field) and getattr(self, field) >= 0, "a number of at least 0")
        for field in ("beta1", "beta2"):
            self._require(field, self._number(field) and 0 <= getattr(self, field) < 1, "a number from 0 to below 1")
        self._require("epsilon", self._number("epsilon") and self.epsilon > 0, "a number above 0")
        for field, least in (("warmup_steps", 0), ("total_steps", 0), ("accumulate_step", 1), ("scale_window", 1)):
            value = getattr(self, field)
            self._require(field, _is_int(value) and value >= least, f"an integer of at least {least}")
        self._require(
            "total_steps",
            self.schedule == "constant" or self.total_steps > self.warmup_steps,
            f"more than warmup_steps = {self.warmup_steps} under schedule {self.schedule!r}",
        )
        self._require(
            "max_grad_norm",
            self.max_grad_norm is None or (self._number("max_grad_norm") and self.max_grad_norm > 0),
            "null (no clipping) or a number above 0",
        )
        self._require("scale_value", self._number("scale_value") and self.scale_value >= 1, "a number of at least 1")
        self._require("scale_factor", _is_int(self.scale_factor) and self.scale_factor > 1, "an integer above 1")
        self._require("ignore_index", _is_int(self.ignore_index) and self.ignore_index < 0, "a negative integer")
        self._require("recompute", isinstance(self.recompute, bool), "true or false")

    def _number(self, field: str) -> bool:
        return _is_number(getattr(self, field))

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"training field {field!r} must be {expected}, but is {getattr(self, field)!r}")


@dataclasses.dataclass(frozen=True)
class StepReport:
    """The result of one micro-batch. lr, grad_norm (before clipping) and scale are the values used for it."""

    loss: float
    """The mean loss of the micro-batch itself: neither scaled nor divided by accumulate_step."""
    finite: bool
    """Whether all gradients were finite; if not, the micro-batch left weights and moments unchanged."""
    updated: bool
    """Whether the optimizer made a step."""
    lr: float
    grad_norm: float
    """NaN unless the optimizer made a step."""
    scale: float


def runs_in_float16(name: str, level: str) -> bool:
    """Whether a parameter is used in float16 at a level of mixed precision.

    O0: none. O1: the affine maps (c_attn, c_fc, c_proj), that is most of the work; embeddings, head, LayerNorm and the
    residual stream stay in float32. O2: all but LayerNorm. O3: all.
    """
    is_map, is_norm = ".c_" in name, ".ln_" in f".{name}"
    return {"O0": False, "O1": is_map, "O2": not is_norm, "O3": True}[level]


def decays(name: str) -> bool:
    """Whether weight decay applies to a parameter: to weights of affine maps and embeddings, not to biases and norms.

    Source: GPT-1 paper, section 4.1: "on all non bias or gain weights".
    """
    return name.endswith("weight") and ".ln_" not in f".{name}"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# Axes of every parameter, by role. C: n_embd, H: heads, D: head size, I: MLP units, V: vocabulary, L: n_positions,
# K: labels. "3*H*D" is one axis that holds q, k and v, each H heads of D channels.
EMBEDDING_AXES = {"wte.weight": "V, C", "wpe.weight": "L, C"}
LAYER_AXES = {
    "ln_1.weight": "C",
    "ln_1.bias": "C",
    "attn.c_attn.weight": "C, 3*H*D",
    "attn.c_attn.bias": "3*H*D",
    "attn.c_proj.weight": "H*D, C",
    "attn.c_proj.bias": "C",
    "ln_2.weight": "C",
    "ln_2.bias": "C",
    "mlp.c_fc.weight": "C, I",
    "mlp.c_fc.bias": "I",
    "mlp.c_proj.weight": "I, C",
    "mlp.c_proj.bias": "C",
}
FINAL_AXES = {"ln_f.weight": "C", "ln_f.bias": "C"}
LM_HEAD_AXES = {"lm_head.weight": "V, C"}
CLASSIFIER_AXES = {"score.weight": "K, C"}


def parameter_axes(config: GPT2Config, head: str = "language_model") -> dict[str, str]:
    """Axes of every parameter that a checkpoint must hold, by name, e.g. {"wte.weight": "V, C", ...}.

    head is "language_model" or "sequence_classifier". A tied head has no parameter of its own.
    """
    axes = dict(EMBEDDING_AXES)
    for layer in range(config.n_layer):
        axes |= {f"h.{layer}.{name}": letters for name, letters in LAYER_AXES.items()}
    axes |= FINAL_AXES
    if head == "sequence_classifier":
        axes |= CLASSIFIER_AXES
    elif not config.tie_word_embeddings:
        axes |= LM_HEAD_AXES
    return axes


def keep_axes(config: GPT2Config) -> dict[str, str]:
    """Axes of every dropout mask, by the name of the stage that it masks, e.g. {"embeddings": "B, T, C", ...}.

    A mask is True where dropout keeps the value. Source: `dropout` in Hugging Face's modeling_gpt2.py.
    """
    axes = {"embeddings": "B, T, C"}
    for layer in range(config.n_layer):
        axes |= {
            f"h.{layer}.attn.attn_weights": "B, H, T, S",
            f"h.{layer}.attn.c_proj": "B, T, C",
            f"h.{layer}.mlp.c_proj": "B, T, C",
        }
    return axes


def axis_sizes(config: GPT2Config) -> dict[str, int]:
    """Size of each letter that `parameter_axes` uses."""
    return {
        "C": config.n_embd,
        "H": config.n_head,
        "D": config.head_size,
        "I": config.inner_size,
        "V": config.vocab_size,
        "L": config.n_positions,
        "K": config.num_labels,
    }


def parameter_shapes(config: GPT2Config, head: str = "language_model") -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by name, e.g. {"wte.weight": (50257, 768), ...}; weights are (in, out), as Conv1D's."""
    sizes = {**axis_sizes(config), "3*H*D": 3 * config.n_embd, "H*D": config.n_embd}
    return {
        name: tuple(sizes[axis] for axis in axes.split(", ")) for name, axes in parameter_axes(config, head).items()
    }


def nest(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"h.0.ln_1.weight": x} into {"h": [{"ln_1": {"weight": x}}]}: the form that the functions take."""
    tree: dict[str, Any] = {"h": []}
    for name, value in sorted(parameters.items(), key=lambda item: _layer(item[0])):
        *path, leaf = name.split(".")
        node: Any = tree
        for step in path:
            if isinstance(node, list):
                if int(step) == len(node):
                    node.append({})
                node = node[int(step)]
            else:
                node = node.setdefault(step, {})
        node[leaf] = value
    return tree


def _layer(name: str) -> int:
    return int(name.split(".")[1]) if name.startswith("h.") else -1


def map_tree(function: Callable[[str, Any], Any], tree: Any, name: str = "") -> Any:
    """Apply function(name, leaf) to every leaf of a nested tree of dicts and lists; the tree's form stays."""
    join = f"{name}." if name else ""
    if isinstance(tree, dict):
        return {key: map_tree(function, value, f"{join}{key}") for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_tree(function, value, f"{join}{i}") for i, value in enumerate(tree)]
    return function(name, tree)


def flatten(tree: Any) -> dict[str, Any]:
    """Undo `nest`: {"h": [{"ln_1": {"weight": x}}]} becomes {"h.0.ln_1.weight": x}."""
    leaves: dict[str, Any] = {}
    map_tree(leaves.__setitem__, tree)
    return leaves


def part(tree: Any, name: str) -> Any:
    """The branch of that name; None if there is no tree."""
    return None if tree is None else tree[name]


def affine(weight: Any, bias: Any) -> dict[str, Any]:
    """The branch of a tree that holds a weight and its bias."""
    return {"weight": weight, "bias": bias}
