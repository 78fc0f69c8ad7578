"""Planted bugs of training: gradients, losses, optimizers, accumulation, mixed precision."""

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

OPTIMIZERS = (
    Mutant(
        "no bias correction",
        "mindspore.nn.AdamWeightDecay, which the course uses as AdamW: the first steps are 3.2 times too long.",
        (
            Edit(
                "reference.optim.adamw",
                "    mean, mean_square = m / (1 - beta1 ** int(step)), v / (1 - beta2 ** int(step))\n",
                "    mean, mean_square = m, v\n",
            ),
        ),
        ("optim.adamw",),
    ),
    Mutant(
        "bias corrected for the next step",
        "The counter is read after it was incremented, or incremented twice.",
        (Edit("reference.optim.adamw", "m / (1 - beta1 ** int(step))", "m / (1 - beta1 ** (int(step) + 1))"),),
        ("optim.adamw",),
    ),
    Mutant(
        "decay in the gradient",
        "Adam with L2, nn.Adam(weight_decay=...): the decay is divided by the root of v like the rest.",
        (
            Edit(
                "reference.optim.adamw",
                "    m, v = _running_means(grad, m, v, beta1, beta2)\n    mean, mean_square",
                "    grad, weight_decay = grad + weight_decay * param, 0.0\n"
                "    m, v = _running_means(grad, m, v, beta1, beta2)\n    mean, mean_square",
            ),
        ),
        ("optim.adamw",),
    ),
    Mutant(
        "decay not multiplied by the rate",
        "From the paper's first version: the weights shrink independently of the schedule.",
        (Edit("reference.optim.adamw", "param * (1 - float(lr) * weight_decay)", "param * (1 - weight_decay)"),),
        ("optim.adamw",),
    ),
    Mutant(
        "decay on biases and norms",
        "There is only one parameter group.",
        (
            Edit(
                "reference.optim.AdamW.__call__",
                "settings.weight_decay if decays(name) else 0.0",
                "settings.weight_decay",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "epsilon inside Adam's root",
        "sqrt(v + eps): TensorFlow's epsilon hat, or a typing error.",
        (Edit("reference.optim.adamw", "(np.sqrt(mean_square) + epsilon)", "np.sqrt(mean_square + epsilon)"),),
        ("optim.adamw",),
    ),
    Mutant(
        "betas swapped",
        "beta2 is used for the mean, beta1 for the square.",
        (
            Edit(
                "reference.optim._running_means",
                "    m = beta1 * m + (1 - beta1) * grad\n    v = beta2 * v + (1 - beta2) * (grad * grad)\n",
                "    m = beta2 * m + (1 - beta2) * grad\n    v = beta1 * v + (1 - beta1) * (grad * grad)\n",
            ),
        ),
        ("optim.adamw", "optim.adam_weight_decay"),
    ),
    Mutant(
        "warm-up counted from one",
        "lr * (step + 1) / warmup: the warm-up of nanoGPT, not of this recipe.",
        (
            Edit(
                "reference.optim._warm_up", "int(step) / max(1, warmup_steps)", "(int(step) + 1) / max(1, warmup_steps)"
            ),
        ),
        ("optim.constant_schedule", "optim.linear_schedule", "optim.cosine_schedule"),
    ),
    Mutant(
        "decay of the rate begun too early",
        "The line to zero starts at step 0, during the warm-up.",
        (
            Edit(
                "reference.optim._remaining",
                "(total_steps - int(step)) / max(1, total_steps - warmup_steps)",
                "(total_steps - int(step)) / max(1, total_steps)",
            ),
        ),
        ("optim.linear_schedule", "optim.cosine_schedule"),
        beyond_laws="The laws know where a warm-up begins; how the rate falls after it is a convention.",
    ),
    Mutant(
        "clipping tensor by tensor",
        "Each gradient is clipped by its own norm: the direction changes.",
        (
            Edit(
                "reference.optim.clip_by_global_norm",
                "map_tree(lambda name, x: _scaled(x, coefficient), grads)",
                "map_tree(lambda name, x: x * min(1.0, max_grad_norm / (float(global_norm({name: x})) + 1e-6)), grads)",
            ),
        ),
        ("optim.clip_by_global_norm",),
    ),
    Mutant(
        "clipping stretches short gradients too",
        "max_grad_norm / norm without the minimum: every gradient gets that norm.",
        (
            Edit(
                "reference.optim.clip_by_global_norm",
                "min(1.0, max_grad_norm / (float(norm) + 1e-6))",
                "max_grad_norm / (float(norm) + 1e-6)",
            ),
        ),
        ("optim.clip_by_global_norm",),
    ),
)

STEPS = (
    Mutant(
        "clip never called",
        "The course's Accumulator takes a clip_norm and does not use it.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "        if self.max_grad_norm is None:\n",
                "        if self.max_grad_norm is None or True:\n",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "micro-batches summed up",
        "The division is missing; clipping hides it, if there is clipping.",
        (Edit("reference.optim.Accumulator.__call__", "x / self.accumulate_step for name, x", "x.copy() for name, x"),),
        RUNS,
    ),
    Mutant(
        "divided by accumulate_step twice",
        "The loss is divided, and then the sum of the gradients again.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "x / self.accumulate_step for name, x",
                "x / self.accumulate_step**2 for name, x",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "accumulated gradients not reset",
        "zero_grad is missing: each update also uses all earlier gradients.",
        (Edit("reference.optim.Accumulator._reset", "            x[...] = 0\n", "            x[...] = x\n"),),
        RUNS,
        beyond_laws="It shows from the second update on, which no law tests alone.",
    ),
    Mutant(
        "each micro-batch clipped",
        "Clipping inside the loop: the mean of clipped gradients is shorter, and points elsewhere.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "                self.accumulated[name] += grad\n",
                "                own = clip_by_global_norm(grads, self.max_grad_norm or 1e30)[0]\n"
                "                self.accumulated[name] += flatten(own)[name]\n",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "the last micro-batch alone",
        "The update uses the gradients of the last micro-batch, not the sum.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "x / self.accumulate_step for name, x in self.accumulated.items()",
                "x for name, x in flatten(grads).items()",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "the printed loss divided by accumulate_step",
        "The course prints it this way: twice as many micro-batches, half the loss.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyTrainer.step",
                "StepReport(float(loss),",
                "StepReport(float(loss) / self.settings.accumulate_step,",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "the scaled loss printed",
        "The loss is not unscaled before it is shown.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyTrainer.step",
                "StepReport(float(loss),",
                "StepReport(float(loss) * scale,",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "unscale forgotten",
        "Adam hides it, because it divides by the root of v; clipping does not.",
        (Edit("reference.train.train_step", "accumulator(scaler.unscale(gradients))", "accumulator(gradients)"),),
        RUNS,
    ),
    Mutant(
        "an overflowed step applied",
        "all_finite is computed, but its result is not used.",
        (Edit("reference.train.train_step", "    if finite:\n", "    if True:\n"),),
        ("laws.an_overflow_leaves_everything_as_it_was",),
    ),
    Mutant(
        "overflow looked for in the loss",
        "The loss is float32 and finite while the gradients overflow.",
        (
            Edit(
                "reference.train.train_step", "finite = bool(all_finite(gradients))", "finite = bool(np.isfinite(loss))"
            ),
        ),
        ("laws.an_overflow_leaves_everything_as_it_was",),
    ),
    Mutant(
        "overflow looked for in the first gradient",
        "The other gradients are not checked.",
        (
            Edit(
                "reference.optim.all_finite",
                "all(np.isfinite(x).all() for x in flatten(grads).values())",
                "all(np.isfinite(x).all() for x in list(flatten(grads).values())[:1])",
            ),
        ),
        ("laws.an_overflow_leaves_everything_as_it_was", "optim.all_finite"),
    ),
    Mutant(
        "the scale never grows back",
        "After one overflow at the start, the rest of the run has a scale that is too small.",
        (
            Edit(
                "reference.optim.DynamicLossScaler.adjust",
                "            self.scale_value[...] = larger\n",
                "            pass\n",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "the scale does not shrink",
        "From then on, every step overflows and is skipped.",
        (
            Edit(
                "reference.optim.DynamicLossScaler.adjust",
                "max(1, self.scale_value / self.scale_factor)",
                "self.scale_value",
            ),
        ),
        ("laws.an_overflow_leaves_everything_as_it_was",),
    ),
    Mutant(
        "an overflow does not restart the window",
        "The scale grows too soon after it has shrunk.",
        (
            Edit(
                "reference.optim.DynamicLossScaler.adjust",
                "            self.counter[...] = 0\n",
                "            self.counter[...] = self.counter\n",
            ),
        ),
        ("laws.an_overflow_leaves_everything_as_it_was",),
    ),
    Mutant(
        "the schedule counts micro-batches",
        "scheduler.step() in the loop over micro-batches: the rate falls accumulate_step times too fast.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "            self.micro_step += 1\n",
                "            self.micro_step += 1\n            self.optimizer.step += self.micro_step > 1\n",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "every level is O0",
        "auto_mixed_precision O1 does not change plain operators: code meant for float16 runs in float32.",
        (
            Edit(
                "reference.precision.cast_parameters",
                "if x.dtype == np.float32 and runs_in_float16(name, level) else x",
                "if False else x",
            ),
        ),
        ("laws.a_level_runs_in_float16_what_it_says",),
    ),
    Mutant(
        "a moment saved under the other's name",
        "The same name is written twice.",
        (
            Edit(
                "reference.optim.AdamW.state",
                '{"step": self.step.copy(), **_copies("m", self.m), **_copies("v", self.v)}',
                '{"step": self.step.copy(), **_copies("m", self.v), **_copies("v", self.v)}',
            ),
        ),
        ("laws.a_run_goes_on_where_it_was_left", *RUNS),
    ),
)

EQUIVALENT = (
    Mutant(
        "bias correction folded into the rate",
        "The efficient form at the end of Kingma and Ba's section 2, with epsilon scaled too: one pass less.",
        (
            Edit(
                "reference.optim.adamw",
                "    mean, mean_square = m / (1 - beta1 ** int(step)), v / (1 - beta2 ** int(step))\n"
                '    update = observe("rounding", mean / (np.sqrt(mean_square) + epsilon))\n',
                "    root = (1 - beta2 ** int(step)) ** 0.5\n"
                "    update = m / (np.sqrt(v) + epsilon * root) * (root / (1 - beta1 ** int(step)))\n",
            ),
        ),
        ("optim.adamw",),
        equivalent="m / c1 / (sqrt(v / c2) + e) = m sqrt(c2) / c1 / (sqrt(v) + e sqrt(c2)): fraction expanded by "
        "sqrt(c2).",
    ),
    Mutant(
        "each micro-batch's gradient divided before it is added",
        "loss / accumulate_step, as in PyTorch loops.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "self.accumulated[name] += grad\n",
                "self.accumulated[name] += grad / self.accumulate_step\n",
            ),
            Edit(
                "reference.optim.Accumulator.__call__", "x / self.accumulate_step for name, x", "x.copy() for name, x"
            ),
        ),
        RUNS,
        equivalent="A sum of quotients is the quotient of the sum.",
    ),
)

TRAINING: tuple[Mutant, ...] = (*LOSSES, *OF_OPS, *OF_THE_MODEL, *OPTIMIZERS, *STEPS, *EQUIVALENT)
