"""Planted bugs of trainers: the compiled step, its fast update, mixed precision, and runs that are resumed."""

from parity.mutants.base import Edit, Mutant

RESUMED = "laws.a_run_goes_on_where_it_was_left"
COURSES = ("training.language_model", "training.sequence_classifier")

TRAINERS = (
    Mutant(
        "the scaler's counter not saved",
        "A checkpoint holds the scale, but not how many finite micro-batches there were since it changed.",
        (
            Edit(
                "reference.optim.DynamicLossScaler._arrays",
                'return {"scale_value": self.scale_value, "counter": self.counter}',
                'return {"scale_value": self.scale_value}',
            ),
        ),
        (RESUMED,),
    ),
    Mutant(
        "evaluated without the mask",
        "The loss of a validation batch is computed by a function of its own, which forgets the attention mask.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyTrainer._forward",
                "**vars(batch))",
                '**(vars(batch) | {"attention_mask": None}))',
            ),
        ),
        ("laws.a_classifiers_trainer_has_its_loss", "laws.the_loss_reported_is_that_of_the_micro_batch"),
    ),
    Mutant(
        "the counter of micro-batches not saved",
        "A run resumed in the middle of an accumulation counts from 0.",
        (
            Edit(
                "reference.optim.Accumulator._arrays",
                '{"micro_step": self.micro_step, **(sums',
                "{**(sums",
            ),
        ),
        (RESUMED,),
    ),
    Mutant(
        "accumulated gradients not saved",
        "A run resumed in the middle of an accumulation loses what was summed up.",
        (
            Edit(
                "reference.optim.Accumulator._arrays",
                ', **_named("accumulated", self.accumulated)}',
                "}",
            ),
        ),
        (RESUMED,),
    ),
    Mutant(
        "the weight of what is accumulated not saved",
        "A run resumed in the middle of an accumulation divides its sum by the number of labels after the stop alone.",
        (
            Edit(
                "reference.optim.Accumulator._arrays",
                '{"total_weight": self.total_weight, **_named("accumulated", self.accumulated)}',
                '_named("accumulated", self.accumulated)',
            ),
        ),
        (RESUMED,),
    ),
    Mutant(
        "the step of the schedule not restored",
        "Moments are restored, the number of updates is not: warm-up and bias correction begin again.",
        (
            Edit(
                "reference.optim.AdamW.load_state",
                '{"step": self.step, **_named',
                "{**_named",
            ),
        ),
        (RESUMED,),
    ),
    Mutant(
        "a checkpoint that shares the moments' memory",
        "state() returns the arrays themselves: the run that goes on changes what was saved.",
        (
            Edit(
                "reference.optim.AdamW.state",
                '**_copies("m", self.m), **_copies("v", self.v)}',
                '**_named("m", self.m), **_named("v", self.v)}',
            ),
        ),
        (RESUMED,),
    ),
    Mutant(
        "1 - beta in float32",
        "1 - 0.999 in float32 is off by 1e-5: it shows where v begins at zero.",
        (
            Edit(
                "reference.optim._running_means",
                "(1 - beta2) * (grad * grad)",
                "np.float32(1 - np.float32(beta2)) * (grad * grad)",
            ),
        ),
        ("optim.adamw", "optim.adam_weight_decay", *COURSES),
    ),
    Mutant(
        "LayerNorm in float16 at O2",
        "Every parameter is cast, as at O3; at O2 LayerNorm's stay in float32.",
        (
            Edit(
                "reference.precision.cast_parameters",
                "runs_in_float16(name, level)",
                'runs_in_float16(name, "O3" if level == "O2" else level)',
            ),
        ),
        ("laws.a_level_rounds_the_weights_that_it_takes_in_float16", "train.loss_and_gradients"),
    ),
    Mutant(
        "O3 spares LayerNorm",
        "O3 casts what O2 casts.",
        (
            Edit(
                "reference.precision.cast_parameters",
                "runs_in_float16(name, level)",
                'runs_in_float16(name, "O2" if level == "O3" else level)',
            ),
        ),
        ("laws.a_level_rounds_the_weights_that_it_takes_in_float16", "train.loss_and_gradients"),
    ),
    Mutant(
        "an overflow empties the accumulation",
        "A skipped micro-batch clears the sum of those before it.",
        (
            Edit(
                "reference.train.train_step",
                "    scaler.adjust(finite)",
                "    if not finite:\n        accumulator._reset()\n    scaler.adjust(finite)",
            ),
        ),
        ("laws.an_overflow_leaves_everything_as_it_was",),
    ),
    Mutant(
        "an overflow counts as a micro-batch",
        "A skipped micro-batch moves the accumulation on, so that an update is a mean of too few.",
        (
            Edit(
                "reference.train.train_step",
                "    scaler.adjust(finite)",
                "    if not finite and accumulator.accumulate_step > 1:\n"
                "        accumulator.micro_step[...] = (accumulator.micro_step + 1) % accumulator.accumulate_step\n"
                "    scaler.adjust(finite)",
            ),
        ),
        ("laws.an_overflow_leaves_everything_as_it_was",),
    ),
    Mutant(
        "the loss asked for moves the accumulation",
        "loss() goes through the step and leaves its micro-batch counted.",
        (
            Edit(
                "gpt2.backends.numpy_backend.NumPyTrainer.loss",
                "        return float(self._forward(batch))",
                "        if self._accumulator.accumulate_step > 1:\n"
                "            self._accumulator.micro_step[...] = 0\n"
                "        return float(self._forward(batch))",
            ),
        ),
        ("laws.the_loss_reported_is_that_of_the_micro_batch",),
    ),
    Mutant(
        "MindSpore: the scaler's counter not saved",
        "A checkpoint holds the scale, but not how many finite micro-batches there were since it changed.",
        (
            Edit(
                "ms_backend.optim.DynamicLossScaler._arrays",
                'return {"scale_value": self.scale_value, "counter": self.counter}',
                'return {"scale_value": self.scale_value}',
            ),
        ),
        (RESUMED,),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: accumulated gradients not saved",
        "A run resumed in the middle of an accumulation loses what was summed up.",
        (
            Edit(
                "ms_backend.optim.Accumulator._arrays",
                ', **_named("accumulated", self.names, self.accumulated)}',
                "}",
            ),
        ),
        (RESUMED,),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: a mean of the micro-batches' means",
        "Each micro-batch counts the same, however few labels it scores.",
        (Edit("ms_backend.optim.Accumulator.construct", "if self.weighs_tokens else one", "if False else one"),),
        ("laws.accumulated_micro_batches_are_one_batch", COURSES[0]),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: the step of the schedule not restored",
        "Moments are restored, the number of updates is not: warm-up and bias correction begin again.",
        (
            Edit(
                "ms_backend.optim.AdamW._arrays",
                '{"step": self.step, **_named("m"',
                '{**_named("m"',
            ),
        ),
        (RESUMED,),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: 1 - beta as the operator has it",
        "AdamWeightDecay computes 1 - beta in float32; what it loses of the gradient's square is not made up for.",
        (
            Edit(
                "ms_backend.fast.adamw_fast",
                "    P.ApplyGradientDescent()(v, -_left_out(beta2), P.square(grad))\n",
                "",
            ),
        ),
        ("laws.the_first_step_of_adamw_has_the_length_of_the_rate",),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: the compiled step without a mask",
        "The mask of ones, which saves memory where there is none, replaces the mask that was given.",
        (
            Edit(
                "ms_backend.engine.trainer._tensors",
                'given.setdefault("attention_mask", all_tokens)',
                'given["attention_mask"] = all_tokens',
            ),
        ),
        COURSES[:1],
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: its own ignore_index",
        "The trainer does not hand on ignore_index: labels of -1 are taken for scored.",
        (
            Edit(
                "ms_backend.engine.trainer.MindSporeTrainer.__init__",
                'options: dict[str, Any] = {"ignore_index": settings.ignore_index}',
                "options: dict[str, Any] = {}",
            ),
        ),
        COURSES,
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: recomputed blocks count as the first",
        "The block that is computed again in the backward pass gets the index 0, and with it the first layer's scale.",
        (
            Edit(
                "ms_backend.fast.gpt2_fast",
                "ms.recompute(_block, x, layer, config, hidden, i, cached, slot, kept)",
                "ms.recompute(_block, x, layer, config, hidden, 0, cached, slot, kept)",
            ),
        ),
        ("fast.gpt2_fast", "fast.language_model_loss_fast"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: no dropout where blocks are recomputed",
        "The masks are not handed to the block that is computed again.",
        (
            Edit(
                "ms_backend.fast.gpt2_fast",
                "ms.recompute(_block, x, layer, config, hidden, i, cached, slot, kept)",
                "ms.recompute(_block, x, layer, config, hidden, i, cached, slot, None)",
            ),
        ),
        ("fast.gpt2_fast", "fast.language_model_loss_fast"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: turned weights restored unturned",
        "The compiled step holds (out, in) weights; those of a checkpoint are (in, out), and square ones fit unturned.",
        (
            Edit(
                "ms_backend.engine.trainer.MindSporeTrainer.load_state",
                "assign(parameter, to_tensor(self._turn(name, parameters[name].astype(np.float32))))",
                "x = parameters[name].astype(np.float32)\n"
                "                x = x if x.shape == parameter.shape else self._turn(name, x)\n"
                "                assign(parameter, to_tensor(x))",
            ),
        ),
        (RESUMED,),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: moments restored unturned",
        "The moments of turned weights are read as they were saved, where their shape fits.",
        (
            Edit(
                "ms_backend.engine.trainer.MindSporeTrainer.load_state",
                "turned = {name: self._turn(name, x) for name, x in state.items()}",
                "turned = {\n"
                "                name: x if x.shape == x.T.shape else self._turn(name, x)\n"
                "                for name, x in state.items()\n"
                "            }",
            ),
        ),
        (RESUMED,),
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: LayerNorm in float16 at O2",
        "Every parameter is cast, as at O3; at O2 LayerNorm's stay in float32.",
        (
            Edit(
                "ms_backend.precision.chosen_parameters",
                "runs_in_float16(name, level)",
                'runs_in_float16(name, "O3" if level == "O2" else level)',
            ),
        ),
        ("laws.a_level_rounds_the_weights_that_it_takes_in_float16", "train.loss_and_gradients"),
        engine="mindspore",
        mode="pynative",
    ),
    Mutant(
        "MindSpore: biases of the compiled step do not learn",
        "The fused sum of product and bias passes no gradient to the bias.",
        (
            Edit(
                "ms_backend.fast.linear",
                "rows = P.BiasAdd()(_product(rows, weight), bias)",
                "rows = P.BiasAdd()(_product(rows, weight), P.stop_gradient(bias))",
            ),
        ),
        COURSES[:1],
        engine="mindspore",
        mode="graph",
    ),
    Mutant(
        "MindSpore: the tied head's gradient stopped",
        "The compiled step reads the head before the cache is written, as a copy that passes no gradient.",
        (
            Edit(
                "ms_backend.fast.language_model_loss_fast",
                "    head = _head(params, config)\n",
                "    head = P.stop_gradient(_head(params, config))\n",
            ),
        ),
        COURSES[:1],
        engine="mindspore",
        mode="graph",
    ),
)
