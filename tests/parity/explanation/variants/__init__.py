"""Mistakes of porters that are not among the planted bugs: other constants, other places, other ways to write them.

They measure how often an explanation names the right mistake, so they were written before there was one. In each file,
the right function has its own name (`attention`, `build`); what begins with that name has one mistake, or two that
occur together.
"""

import dataclasses
from pathlib import Path

# What a number means is said behind the name; a factor that depends on the sizes of the model is None.
FAMILIES = (
    "scores scaled",  # what the right scores are multiplied by
    "temperature",  # what goes into a softmax is divided by it: in attention, the same as scores scaled by its inverse
    "epsilon",  # the epsilon that is used
    "positions shifted",  # how many positions too far
    "mask shifted",  # how many keys too many are seen; negative: too few
    "masked scores too high",  # what a hidden score is set to, or what is added to it
    "labels shifted",  # how many positions further than the next token
    "bias missing",
    "bias doubled",
    "gain missing",
    "gain doubled",
    "divided by another count",
    "heads permuted",
    "q, k, v permuted",
    "split interleaved",
    "weight transposed",
    "another activation",
    "another constant in GELU",  # that constant
    "another number of heads",  # that number
)
# No planted bug and no family is like it: whatever name is given is wrong.
UNLISTED = "unlisted"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A wrong function `name` in `file`, judged as `function` of the mirror, or as a whole model by "engine.logits".

    family: one of FAMILIES, the name of a planted bug, or UNLISTED. nearest: the planted bug that is most like it, also
    a right answer, or "". Where two mistakes occur together, family is one and nearest the other.
    """

    name: str
    file: str
    function: str
    family: str
    number: float | None
    framework: str
    nearest: str = ""

    @property
    def place(self) -> str:
        """What `gpt2 check FUNCTION --with` takes."""
        return f"{Path(__file__).parent / self.file}:{self.name}"

    @property
    def right(self) -> str:
        """The place of the same function without a mistake."""
        short = "build" if self.function == "engine.logits" else self.function.partition(".")[2]
        return f"{Path(__file__).parent / self.file}:{short}"


def _numpy(name: str, function: str, family: str, number: float | None = None, nearest: str = "") -> Variant:
    return Variant(name, "numpy_variants.py", function, family, number, "numpy", nearest)


def _torch(name: str, function: str, family: str, number: float | None = None, nearest: str = "") -> Variant:
    return Variant(name, "torch_variants.py", function, family, number, "torch", nearest)


def _mindspore(name: str, function: str, family: str, number: float | None = None, nearest: str = "") -> Variant:
    return Variant(name, "mindspore_variants.py", function, family, number, "mindspore", nearest)


NORM, ATTENTION, MLP, BLOCK, MODEL = (
    "ops.layer_norm",
    "attention.attention",
    "model.mlp",
    "model.block",
    "engine.logits",
)
LOSS, QKV = "ops.cross_entropy", "attention.queries_keys_values"
OF_NUMPY = (
    _numpy("layer_norm_of_keras", NORM, "epsilon", 1e-3, "epsilon of 1e-7"),
    _numpy("layer_norm_gain_twice", NORM, "gain doubled", None),
    _numpy("layer_norm_over_tokens", NORM, "LayerNorm over all tokens"),
    _numpy(
        "gelu_new_short_root", "ops.gelu_new", "another constant in GELU", 0.79788, "two digits of 0.044715 swapped"
    ),
    _numpy("gelu_new_rounded_root", "ops.gelu_new", "another constant in GELU", 0.8, "two digits of 0.044715 swapped"),
    _numpy("softmax_base_two", "ops.softmax", "temperature", 1.4426950408889634),
    _numpy("attention_scores_for_exp2", "attention.attention_scores", "scores scaled", 1.4426950408889634),
    _numpy("causal_bias_two_too_few", "attention.causal_bias", "mask shifted", -2, "the mask hides the token itself"),
    _numpy("causal_bias_window", "attention.causal_bias", UNLISTED),
    _numpy("mask_scores_by_ten", "attention.mask_scores", "masked scores too high", -10, "masked scores of -4"),
    _numpy("split_heads_backwards", "attention.split_heads", "heads permuted"),
    _numpy(
        "merge_heads_in_turn",
        "attention.merge_heads",
        "split interleaved",
        nearest="channels dealt to the heads in turn",
    ),
    _numpy("queries_keys_values_rotated", QKV, "q, k, v permuted", nearest="queries and keys swapped"),
    _numpy("mlp_bias_twice", MLP, "bias doubled", nearest="the bias of every rank"),
    _numpy(
        "cross_entropy_mean_of_means", LOSS, "divided by another count", nearest="a mean of the micro-batches' means"
    ),
    _numpy("cross_entropy_in_bits", LOSS, UNLISTED),
    _numpy("shift_labels_backwards", "model.shift_labels", "labels shifted", -2, "labels not shifted"),
    _numpy("shift_labels_by_three", "model.shift_labels", "labels shifted", 2, "labels shifted twice"),
    _numpy("conv1d_vjp_mean_weight", "ops.conv1d_vjp", "divided by another count", nearest="the bias' gradient a mean"),
    _numpy(
        "cross_entropy_vjp_divided_twice",
        "ops.cross_entropy_vjp",
        "divided by another count",
        nearest="divided by accumulate_step twice",
    ),
)
OF_TORCH = (
    _torch("attention_scaled_by_width", ATTENTION, "scores scaled", None, "scores scaled by the root of C"),
    _torch("attention_scaled_by_heads", ATTENTION, "scores scaled", None, "scores scaled by the root of C"),
    _torch("attention_scaled_twice", ATTENTION, "scores scaled", None, "scores scaled by D"),
    _torch("attention_cooled", ATTENTION, "temperature", 0.9),
    _torch("attention_two_later_tokens", ATTENTION, "mask shifted", 2, "the mask shows the next token"),
    _torch("attention_masked_by_thousand", ATTENTION, "masked scores too high", -1e3, "masked scores of -1e4"),
    _torch("attention_window", ATTENTION, UNLISTED),
    _torch("attention_softmax_over_heads", ATTENTION, "softmax over the queries"),
    _torch("attention_masked_after_softmax", ATTENTION, UNLISTED),
    _torch("attention_heads_reversed", ATTENTION, "heads permuted"),
    _torch("attention_value_key_query", ATTENTION, "q, k, v permuted", nearest="queries and keys swapped"),
    _torch("attention_queries_in_turn", ATTENTION, "split interleaved", nearest="channels dealt to the heads in turn"),
    _torch("attention_linear_for_conv1d", ATTENTION, "weight transposed", nearest="c_proj transposed"),
    _torch("attention_queries_without_bias", ATTENTION, "bias missing", nearest="the bias dropped"),
    _torch("attention_one_head", ATTENTION, "another number of heads", 1),
    _torch("attention_keys_of_other_heads", ATTENTION, "heads permuted"),
    _torch("attention_by_width_without_bias", ATTENTION, "scores scaled", None, "the bias dropped"),
    _torch("mlp_relu", MLP, "another activation"),
    _torch("mlp_silu", MLP, "another activation", nearest="silu for gelu"),
    _torch("mlp_without_first_bias", MLP, "bias missing", nearest="the bias dropped"),
    _torch("block_attention_replaces_stream", BLOCK, "residual missing"),
    _torch("block_second_norm_behind_mlp", BLOCK, "post-LN"),
    _torch("block_second_epsilon_of_keras", BLOCK, "epsilon", 1e-3, "epsilon of 1e-7"),
    _torch("block_stream_added_twice", BLOCK, UNLISTED),
    _torch("build_positions_from_two", MODEL, "positions shifted", 2, "positions one too far"),
    _torch("build_sum_times_root", MODEL, "embeddings times the root of C"),
    _torch("build_dropout_of_embeddings", MODEL, "dropout left on"),
    _torch("build_first_layer_left_out", MODEL, "the last layer left out"),
    _torch("build_last_layer_for_all", MODEL, "the first layer's weights for all"),
    _torch("build_temperature_left_in", MODEL, "temperature", 0.8, "tied head scaled"),
    _torch("build_other_epsilon_at_the_end", MODEL, "epsilon", 1e-6, "ln_f keeps the default epsilon"),
    _torch("build_every_second_layer_unscaled", MODEL, "scores scaled", None, "scores not scaled"),
    _torch("build_last_gain_twice", MODEL, "gain doubled"),
    _torch("build_last_norm_without_bias", MODEL, "bias missing", nearest="LayerNorm's bias dropped"),
    _torch("layer_norm_of_bert", NORM, "epsilon", 1e-12, "epsilon of 1e-7"),
    _torch("layer_norm_annotated", NORM, "the unbiased variance", nearest="epsilon outside the root"),
    _torch("layer_norm_of_llama", NORM, "RMSNorm for LayerNorm", nearest="LayerNorm's bias dropped"),
    _torch("layer_norm_bias_twice", NORM, "bias doubled"),
    _torch(
        "gelu_new_short_constant", "ops.gelu_new", "another constant in GELU", 0.044, "two digits of 0.044715 swapped"
    ),
    _torch("gelu_by_tanh", "ops.gelu", "another activation", nearest="the tanh form for every gelu"),
    _torch("cross_entropy_over_all", LOSS, "divided by another count", nearest="ignored labels counted in the mean"),
    _torch("cross_entropy_smoothed", LOSS, UNLISTED),
)
OF_MINDSPORE = (
    _mindspore("attention_quarter_of_scale", ATTENTION, "scores scaled", None, "scores not scaled"),
    _mindspore("attention_scaled_by_eight", ATTENTION, "scores scaled"),
    _mindspore("attention_itself_hidden", ATTENTION, "mask shifted", -1, "the mask hides the token itself"),
    _mindspore("attention_three_too_few", ATTENTION, "mask shifted", -3, "the mask hides the token itself"),
    _mindspore("attention_thirty_taken", ATTENTION, "masked scores too high", -30, "-100 added to masked scores"),
    _mindspore("attention_query_value_key", ATTENTION, "q, k, v permuted", nearest="queries and keys swapped"),
    _mindspore("attention_projected_without_bias", ATTENTION, "bias missing", nearest="the bias dropped"),
    _mindspore("attention_values_transposed", ATTENTION, "weight transposed", nearest="c_proj transposed"),
    _mindspore("attention_heads_rolled", ATTENTION, "heads permuted"),
    _mindspore("attention_size_for_count", ATTENTION, "another number of heads"),
    _mindspore("attention_weights_dropped", ATTENTION, "dropout left on", nearest="MindSpore: dropout left on"),
    _mindspore("mlp_erf", MLP, "another activation", nearest="erf for tanh"),
    _mindspore("mlp_hard_swish", MLP, "another activation"),
    _mindspore("mlp_first_bias_twice", MLP, "bias doubled", nearest="the bias of every rank"),
    _mindspore("block_one_norm_for_both", BLOCK, "attention and MLP side by side", nearest="ln_1 for both norms"),
    _mindspore("block_second_gain_left_out", BLOCK, "gain missing", nearest="LayerNorm's gain dropped"),
    _mindspore("build_positions_by_counting", MODEL, "positions shifted", 1, "positions one too far"),
    _mindspore("build_positions_weighted", MODEL, "positions added twice"),
    _mindspore("layer_norm_of_llama_epsilon", NORM, "epsilon", 1e-6, "MindSpore: its own epsilon"),
    _mindspore("softmax_warm", "ops.softmax", "temperature", 1.1),
    _mindspore(
        "cross_entropy_divided_twice",
        LOSS,
        "divided by another count",
        nearest="divided by accumulate_step twice",
    ),
)
VARIANTS = (*OF_NUMPY, *OF_TORCH, *OF_MINDSPORE)
