"""The steps of the lesson, in order, and what each shows. Their texts are in the folder `words`."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Shown:
    """A function of the mirror, and the stage that it computes ("": none)."""

    name: str
    stage: str = ""


@dataclasses.dataclass(frozen=True)
class Step:
    """One step. view: how its first tensor is drawn. {layer} and {activation} in names are filled in later."""

    id: str
    view: str
    tensors: tuple[str, ...] = ()
    functions: tuple[Shown, ...] = ()


VIEWS = ("heads", "matrix", "tokens", "bars", "curve", "none")
LAYER = "h.{layer}."
ATTN = LAYER + "attn."

STEPS = (
    Step("tokens", "tokens"),
    Step(
        "embeddings",
        "matrix",
        ("embeddings", "wte", "wpe"),
        (Shown("model.embed", "embeddings"), Shown("ops.embedding", "wte"), Shown("ops.dropout")),
    ),
    Step("ln_1", "matrix", (LAYER + "ln_1",), (Shown("ops.layer_norm", LAYER + "ln_1"),)),
    Step(
        "qkv",
        "matrix",
        (ATTN + "qkv",),
        (
            Shown("attention.queries_keys_values", ATTN + "qkv"),
            Shown("ops.conv1d", ATTN + "qkv"),
            Shown("ops.matmul"),
        ),
    ),
    Step("split_heads", "heads", (ATTN + "q", ATTN + "k", ATTN + "v"), (Shown("attention.split_heads", ATTN + "q"),)),
    Step(
        "scores",
        "heads",
        (ATTN + "scores",),
        (Shown("attention.attention_scores", ATTN + "scores"), Shown("attention.attention_scale")),
    ),
    Step(
        "causal_mask",
        "heads",
        (ATTN + "masked_scores",),
        (
            Shown("attention.mask_scores", ATTN + "masked_scores"),
            Shown("attention.causal_bias"),
            Shown("attention.visible_keys"),
            Shown("attention.mask_value"),
            Shown("attention.mask_scores_by_addition"),
        ),
    ),
    Step(
        "softmax",
        "heads",
        (ATTN + "attn_weights",),
        (Shown("ops.softmax", ATTN + "attn_weights"), Shown("attention.attention_weights", ATTN + "attn_weights")),
    ),
    Step("weighting", "heads", (ATTN + "attn_output", ATTN + "v"), (Shown("attention.attention", ATTN + "c_proj"),)),
    Step("merge_heads", "matrix", (ATTN + "merged",), (Shown("attention.merge_heads", ATTN + "merged"),)),
    Step("projection", "matrix", (ATTN + "c_proj",), (Shown("ops.conv1d", ATTN + "c_proj"),)),
    Step("residual", "matrix", (LAYER + "attn_residual",), (Shown("model.block", LAYER + "attn_residual"),)),
    Step("ln_2", "matrix", (LAYER + "ln_2",), (Shown("ops.layer_norm", LAYER + "ln_2"),)),
    Step(
        "mlp",
        "matrix",
        (LAYER + "mlp.{activation}", LAYER + "mlp.c_fc", LAYER + "mlp.c_proj"),
        (
            Shown("model.mlp", LAYER + "mlp.c_proj"),
            Shown("ops.gelu_new"),
            Shown("ops.gelu"),
            Shown("ops.relu"),
            Shown("ops.silu"),
        ),
    ),
    Step("residual_2", "matrix", (LAYER + "mlp_residual",), (Shown("model.block", LAYER + "mlp_residual"),)),
    Step("layers", "matrix", (LAYER + "mlp_residual", "embeddings"), (Shown("model.gpt2", "ln_f"),)),
    Step("final_norm", "matrix", ("ln_f",), (Shown("ops.layer_norm", "ln_f"),)),
    Step(
        "logits",
        "matrix",
        ("logits",),
        (Shown("ops.unembedding", "logits"), Shown("model.language_model", "logits")),
    ),
    Step("next_token", "bars", ("logits",), (Shown("generate.greedy"), Shown("generate.sample"))),
    Step(
        "loss",
        "bars",
        ("loss.surprise", "loss.probabilities"),
        (
            Shown("model.language_model_loss", "loss"),
            Shown("model.shift_labels"),
            Shown("ops.cross_entropy", "loss"),
            Shown("ops.log_softmax"),
        ),
    ),
    Step(
        "gradients",
        "matrix",
        ("gradients.logits", "gradients.norms", "gradients.descent"),
        (
            Shown("train.loss_and_gradients", "gradients"),
            Shown("model.language_model_loss_vjp", "gradients"),
            Shown("ops.cross_entropy_vjp"),
            Shown("ops.layer_norm_vjp"),
            Shown("attention.attention_vjp"),
        ),
    ),
    Step(
        "task",
        "matrix",
        ("task.next", "task.scored"),
        (
            Shown("model.sequence_classifier"),
            Shown("model.last_tokens"),
            Shown("model.sequence_classifier_loss"),
        ),
    ),
    Step(
        "mixed_precision",
        "curve",
        ("precision.largest_score", "precision.weights", "precision.lost_gradients"),
        (Shown("precision.cast_parameters"), Shown("optim.DynamicLossScaler"), Shown("train.train_step")),
    ),
    Step(
        "accumulation",
        "matrix",
        ("accumulation.gradients", "accumulation.difference"),
        (Shown("optim.Accumulator"),),
    ),
)

# The planted bugs that the reader can switch on: the judge's name of the bug, the step where it shows, and a law that
# finds it without a second implementation. (The comparison of the function with the bug finds it too.)
BREAKS = (
    ("positions one too far", "embeddings", "laws.positions_count_from_the_end_of_the_past"),
    ("epsilon outside the root", "ln_1", "laws.layer_norm_normalises"),
    ("queries and keys swapped", "qkv", "laws.the_bias_of_the_keys_is_forgotten"),
    ("heads cut but not moved", "split_heads", "laws.heads_are_neighbouring_channels"),
    ("scores not scaled", "scores", "laws.scores_are_divided_by_the_root_of_the_head_size"),
    ("the mask shows the next token", "causal_mask", "laws.causality"),
    ("softmax over the queries", "softmax", "laws.the_first_token_sees_itself_alone"),
    ("c_proj transposed", "projection", "laws.a_head_minds_its_own_channels"),
    ("residual of the normed input", "residual", "laws.a_block_forgets_a_shift_of_all_channels"),
    ("erf for tanh", "mlp", "laws.activations_have_known_values"),
    ("ln_f dropped", "final_norm", "laws.final_states_have_mean_0"),
)
