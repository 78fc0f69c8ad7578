"""Planted bugs of losses and of gradients, of single operations and of whole models."""

from parity.mutants.base import Edit, Mutant

RUNS = ("training.language_model", "training.sequence_classifier")
GRADIENTS = ("model.gpt2_vjp", "model.language_model_vjp")

LOSSES = (
    Mutant(
        "labels not shifted",
        "Each token is trained to predict itself: many fine-tuning scripts pass labels to a loss that does not shift, "
        "or shift them both in the caller and in the model.",
        (
            Edit(
                "reference.model.shift_labels",
                "np.concatenate((labels[:, 1:], np.full_like(labels[:, :1], ignore_index)), axis=1)",
                "labels",
            ),
        ),
        ("model.shift_labels",),
    ),
    Mutant(
        "labels shifted twice",
        "The data loader shifts, and so does GPT2LMHeadModel.",
        (
            Edit(
                "reference.model.shift_labels",
                "np.concatenate((labels[:, 1:], np.full_like(labels[:, :1], ignore_index)), axis=1)",
                "np.concatenate((labels[:, 2:], np.full_like(labels[:, :2], ignore_index)), axis=1)",
            ),
        ),
        ("model.shift_labels",),
        beyond_laws="Which token a position has to predict is a definition, not a symmetry.",
    ),
    Mutant(
        "ignored labels counted in the mean",
        "The sum over scored tokens is divided by the number of all tokens: the loss depends on the padding.",
        (
            Edit(
                "reference.ops._mean_surprise",
                "np.array(max(scored.sum(), 1), log_probabilities.dtype)",
                "np.array(scored.size, log_probabilities.dtype)",
            ),
        ),
        ("ops.cross_entropy",),
    ),
    Mutant(
        "ignored labels taken for the first token",
        "Pads have label 0 and are not ignored: the model learns to write token 0.",
        (
            Edit(
                "reference.ops.cross_entropy",
                "    scored = labels != ignore_index\n    wide",
                "    scored = labels == labels\n    wide",
            ),
        ),
        ("ops.cross_entropy",),
    ),
    Mutant(
        "ignored labels scored in the gradient",
        "The loss ignores them, the gradient does not.",
        (
            Edit(
                "reference.gradients.ops.cross_entropy_vjp",
                "    scored = labels != ignore_index\n    d_chosen",
                "    scored = labels == labels\n    d_chosen",
            ),
        ),
        ("ops.cross_entropy_vjp",),
    ),
    Mutant(
        "the loss summed up",
        "reduction='sum': the learning rate must change with the batch size.",
        (
            Edit(
                "reference.ops._mean_surprise",
                "np.sum(np.where(scored, log_probabilities, 0)) / count",
                "np.sum(np.where(scored, log_probabilities, 0))",
            ),
        ),
        ("ops.cross_entropy",),
    ),
    Mutant(
        "the gradient of a sum",
        "The loss is a mean, but its gradient is that of the sum.",
        (
            Edit(
                "reference.gradients.ops.cross_entropy_vjp",
                "-grad / np.array(max(scored.sum(), 1), logits.dtype)",
                "-grad",
            ),
        ),
        ("ops.cross_entropy_vjp",),
    ),
    Mutant(
        "one-hot forgotten",
        "Only the gradient of the log-sum-exp: softmax / n, without subtracting the label.",
        (
            Edit(
                "reference.gradients.ops.log_softmax_vjp",
                "    return grad - exp(log_softmax(x)) * np.sum(grad, axis=-1, keepdims=True)",
                "    return -np.exp(log_softmax(x)) * np.sum(grad, axis=-1, keepdims=True)",
            ),
        ),
        ("ops.log_softmax_vjp",),
    ),
)

OF_OPS = (
    Mutant(
        "the bias' gradient a mean",
        "The weight's gradient is summed over the batch, the bias' gradient averaged.",
        (Edit("reference.gradients.ops._sum_rows", "return x.sum(axis=0)", "return x.mean(axis=0)"),),
        ("ops.conv1d_vjp",),
    ),
    Mutant(
        "LayerNorm's mean left out of its gradient",
        "dx as if the mean were a constant.",
        (
            Edit(
                "reference.gradients.ops.layer_norm_vjp",
                "(g - shift - n * scale) / deviation",
                "(g - n * scale) / deviation",
            ),
        ),
        ("ops.layer_norm_vjp",),
    ),
    Mutant(
        "LayerNorm's variance left out of its gradient",
        "dx as if the standard deviation were a constant: a detached statistic.",
        (
            Edit(
                "reference.gradients.ops.layer_norm_vjp",
                "(g - shift - n * scale) / deviation",
                "(g - shift) / deviation",
            ),
        ),
        ("ops.layer_norm_vjp",),
    ),
    Mutant(
        "the gain left out of LayerNorm's gradient",
        "Right for the fresh model, whose gains are one.",
        (Edit("reference.gradients.ops.layer_norm_vjp", "    g = grad * weight\n", "    g = grad\n"),),
        ("ops.layer_norm_vjp",),
    ),
    Mutant(
        "the gain's gradient without the norm",
        "The sum of grad * x in place of grad * normed x.",
        (
            Edit(
                "reference.gradients.ops.layer_norm_vjp", "(grad * n).sum(axis=leading)", "(grad * x).sum(axis=leading)"
            ),
        ),
        ("ops.layer_norm_vjp",),
    ),
    Mutant(
        "the gradient of erf's GELU",
        "The forward pass uses tanh, a fused backward kernel uses erf.",
        (
            Edit(
                "reference.gradients.ops.gelu_new_vjp",
                "    return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)",
                "    return gelu_vjp(grad, x)",
            ),
        ),
        ("ops.gelu_new_vjp",),
        beyond_laws="The two slopes differ by a thousandth, less than the tangent law can detect.",
    ),
    Mutant(
        "the cube's slope without its 3",
        "The derivative of x^3 is taken as x^2.",
        (Edit("reference.gradients.ops.gelu_new_vjp", "(1 + 3 * 0.044715 * x * x)", "(1 + 0.044715 * x * x)"),),
        ("ops.gelu_new_vjp",),
    ),
    Mutant(
        "relu passes gradients at and below zero",
        "A wrong mask: >= on the wrong side.",
        (
            Edit(
                "reference.gradients.ops.relu_vjp",
                "np.where(x > 0, grad, np.zeros_like(grad))",
                "np.where(x <= 0, np.zeros_like(grad) + grad / 64, grad)",
            ),
        ),
        ("ops.relu_vjp",),
        beyond_laws="The tangent law leaves relu out, because of its kink.",
    ),
    Mutant(
        "softmax's gradient without the sum",
        "y * g: the diagonal of the Jacobian alone.",
        (
            Edit(
                "reference.gradients.ops.softmax_vjp",
                "y * (grad - np.sum(grad * y, axis=-1, keepdims=True))",
                "y * grad",
            ),
        ),
        ("ops.softmax_vjp",),
    ),
    Mutant(
        "a repeated token's gradient overwritten",
        "d_weight[ids] = grad: if a token occurs twice, only the last one counts. MindSpore's scatter and NumPy's "
        "fancy assignment both do this.",
        (Edit("reference.gradients.ops.embedding_vjp", "np.add.at(d_weight, ids, grad)", "d_weight[ids] = grad"),),
        ("ops.embedding_vjp",),
    ),
    Mutant(
        "dropout does not rescale",
        "x * keep: at training time the values are smaller than when dropout is off.",
        (
            Edit(
                "reference.ops._thin_out",
                "np.where(keep, x / (1 - rate), np.zeros_like(x))",
                "np.where(keep, x, np.zeros_like(x))",
            ),
        ),
        ("ops.dropout",),
    ),
    Mutant(
        "dropout keeps what it should drop",
        "The mask means drop in one function and keep in the other.",
        (
            Edit(
                "reference.ops._thin_out",
                "np.where(keep, x / (1 - rate), np.zeros_like(x))",
                "np.where(keep, np.zeros_like(x), x / (1 - rate))",
            ),
        ),
        ("ops.dropout",),
    ),
)

OF_THE_MODEL = (
    Mutant(
        "the mask not applied in the backward pass",
        "Gradients flow to scores that were hidden.",
        (
            Edit(
                "reference.gradients.attention.mask_scores_vjp", "np.where(visible, grad, np.zeros_like(grad))", "grad"
            ),
        ),
        ("attention.mask_scores_vjp",),
        beyond_laws="A hidden key has weight 0, so its score has gradient 0; a query that sees no key means nothing.",
    ),
    Mutant(
        "the scale left out of the scores' gradient",
        "Queries and keys learn sqrt(D) times too fast.",
        (
            Edit(
                "reference.gradients.attention.attention_scores_vjp",
                "    scaled = grad / np.array(scale, grad.dtype)\n",
                "    scaled = grad\n",
            ),
        ),
        ("attention.attention_scores_vjp",),
    ),
    Mutant(
        "the weights' dropout forgotten in the backward pass",
        "Dropped attention weights still get a gradient.",
        (
            Edit(
                "reference.gradients.attention.attention_vjp",
                'd_weights = dropout(d_kept, part(keep, "attn_weights"), config.attn_pdrop)',
                "d_weights = d_kept",
            ),
        ),
        ("attention.attention_vjp",),
        beyond_laws="The laws of gradients run without dropout masks.",
    ),
    Mutant(
        "the residual's gradient dropped",
        "Only the gradient through the MLP is returned.",
        (Edit("reference.gradients.model.block_vjp", 'd_y = observe("rounding", grad + d_branch)', "d_y = d_branch"),),
        ("model.block_vjp",),
    ),
    Mutant(
        "the gradient of wpe is zero",
        "MindNLP 0.5.1 on CPU: its .to(device) detaches the positions, and 39 of 40 gradients are right.",
        (
            Edit(
                "reference.gradients.model.gpt2_vjp",
                '"wpe": {"weight": d_wpe}',
                '"wpe": {"weight": np.zeros_like(d_wpe)}',
            ),
        ),
        GRADIENTS,
    ),
    Mutant(
        "the head's share of a tied gradient lost",
        "The tied weight is copied into the head, and the copy's gradient is discarded.",
        (
            Edit(
                "reference.gradients.model.language_model_vjp",
                'observe("rounding", shared + d_head)',
                "shared if config.tie_word_embeddings else d_head",
            ),
        ),
        ("model.language_model_vjp",),
    ),
    Mutant(
        "the embedding's share of a tied gradient lost",
        "The other half of the sum is lost: the dict's later entry replaces the earlier one.",
        (Edit("reference.gradients.model.language_model_vjp", 'observe("rounding", shared + d_head)', "d_head"),),
        ("model.language_model_vjp",),
    ),
    Mutant(
        "the first layer's gradient for all",
        "One gradient buffer is reused for all layers.",
        (
            Edit(
                "reference.gradients.model.gpt2_vjp",
                "d_layers.insert(0, d_layer)",
                "d_layers = [d_layer] * (config.n_layer - i)",
            ),
        ),
        GRADIENTS,
    ),
)
