"""Planted bugs of training: optimizers, accumulation, clipping, mixed precision."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.gradients import LOSSES, OF_OPS, OF_THE_MODEL, RUNS

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
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "x / max(self.total_weight, 1) for name, x",
                "x.copy() for name, x",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "a mean of the micro-batches' means",
        "Each micro-batch counts the same, however few labels it scores: transformers did so until 2024.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                'np.float32(scored if self.accumulation == "tokens" else 1)',
                "np.float32(1)",
            ),
        ),
        RUNS,
    ),
    Mutant(
        "ignored labels counted",
        "Micro-batches are weighted by their tokens, not by those that are scored.",
        (Edit("reference.train.count_scored", "np.sum(labels != ignore_index)", "np.asarray(labels.size)"),),
        ("train.count_scored",),
    ),
    Mutant(
        "what a weight is divided by not reset",
        "From the second update on, the mean is over the labels of all updates so far.",
        (
            Edit(
                "reference.optim.Accumulator._reset",
                "self.micro_step[...], self.total_weight[...] = 0, 0",
                "self.micro_step[...] = 0",
            ),
        ),
        RUNS,
        beyond_laws="It shows from the second update on, which no law tests alone.",
    ),
    Mutant(
        "divided by accumulate_step twice",
        "The loss is divided, and then the sum of the gradients again.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "x / max(self.total_weight, 1) for name, x",
                "x / max(self.total_weight, 1) / self.accumulate_step for name, x",
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
                "                self.accumulated[name] += grad * weight\n",
                "                own = clip_by_global_norm(grads, self.max_grad_norm or 1e30)[0]\n"
                "                self.accumulated[name] += flatten(own)[name] * weight\n",
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
                "x / max(self.total_weight, 1) for name, x in self.accumulated.items()",
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
        (
            Edit(
                "reference.train.train_step",
                "accumulator(scaler.unscale(gradients), scored)",
                "accumulator(gradients, scored)",
            ),
        ),
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
        "a running mean in place of a sum",
        "Each micro-batch moves the mean towards its own gradient, by its share of the labels so far.",
        (
            Edit(
                "reference.optim.Accumulator.__call__",
                "self.accumulated[name] += grad * weight\n",
                "self.accumulated[name] += (grad - self.accumulated[name]) * (\n"
                "                    weight / max(self.total_weight + weight, 1)\n"
                "                )\n",
            ),
            Edit(
                "reference.optim.Accumulator.__call__",
                "x / max(self.total_weight, 1) for name, x",
                "x.copy() for name, x",
            ),
        ),
        RUNS,
        equivalent="m + (g - m) w / W is the mean of all so far, if m is that of all before.",
    ),
)

TRAINING: tuple[Mutant, ...] = (*LOSSES, *OF_OPS, *OF_THE_MODEL, *OPTIMIZERS, *STEPS, *EQUIVALENT)
