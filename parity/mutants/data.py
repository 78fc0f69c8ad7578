"""Planted bugs of what feeds a model: the pipelines, in NumPy and in MindSpore, and converted checkpoints."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import CONVERTED, EPOCHS, PAIRS, PIPELINE, RESUMED, ROWS, SHUFFLED, WINDOWS

ROWS_OF_AN_EPOCH = "rows = order(count, seed, epoch)[: per_epoch * batch_size].reshape(per_epoch, batch_size)"

OF_WINDOWS = (
    Mutant(
        "the first token in no window",
        "Labels are shifted by cutting the stream from its second token on, though the loss shifts them itself.",
        (Edit("reference.data.windows", "return stream[: len(stream) //", "return stream[1:][: (len(stream) - 1) //"),),
        (WINDOWS,),
    ),
    Mutant(
        "the last full window lost",
        "nanoGPT needs a token after each window for its labels; with labels inside the window it is lost for nothing.",
        (
            Edit(
                "reference.data.windows", "len(stream) // length * length", "max(len(stream) - 1, 0) // length * length"
            ),
        ),
        (WINDOWS,),
    ),
    Mutant(
        "the remainder filled up from the beginning",
        "np.resize makes the rows: it repeats the stream where it should leave the remainder out.",
        (
            Edit(
                "reference.data.windows",
                "stream[: len(stream) // length * length].reshape(-1, length)",
                "np.resize(stream, (-(-len(stream) // length), length))",
            ),
        ),
        (WINDOWS,),
    ),
    Mutant(
        "windows that overlap by a token",
        "Each window begins with the last token of the one before it, as its context; the loss counts it twice.",
        (
            Edit(
                "reference.data.windows",
                "stream[: len(stream) // length * length].reshape(-1, length)",
                "np.array([stream[i : i + length] for i in range(0, len(stream) - length + 1, max(length - 1, 1))], "
                "stream.dtype).reshape(-1, length)",
            ),
        ),
        (WINDOWS,),
    ),
)

OF_PADDED_ROWS = (
    Mutant(
        "long rows lose their beginning",
        "A prompt is cut at its beginning; so is a training row, which then no longer begins as texts do.",
        (
            Edit("reference.data.pad_rows", "kept = row[:length]", "kept = row[-length:]"),
            Edit("reference.data.pad_rows", "labels[i][:length]", "labels[i][-length:]"),
        ),
        (ROWS,),
    ),
    Mutant(
        "ids cut at one end, labels at the other",
        "Only one of the two cuts was corrected.",
        (Edit("reference.data.pad_rows", "labels[i][:length]", "labels[i][-length:]"),),
        (ROWS,),
    ),
    Mutant(
        "pads scored",
        "Labels are a copy of the padded ids, as in the MindSpore course: the model learns to write pads.",
        (
            Edit(
                "reference.data.pad_rows", "np.full(shape, ignore_index, np.int32)", "np.full(shape, pad_id, np.int32)"
            ),
        ),
        (ROWS,),
    ),
    Mutant(
        "pads attended",
        "The course's rows have no attention_mask, so a mask of ones is added to please the model.",
        (Edit("reference.data.pad_rows", "np.zeros(shape, np.int32)", "np.ones(shape, np.int32)"),),
        (ROWS,),
    ),
    Mutant(
        "labels shifted by the data too",
        "The data moves the labels one to the left, and so does the loss: a token is asked for the one after the next.",
        (
            Edit(
                "reference.data.pad_rows",
                "targets[i, : len(kept)] = kept if labels is None else labels[i][:length]",
                "targets[i, : max(len(kept) - 1, 0)] = (kept if labels is None else labels[i][:length])[1:]",
            ),
        ),
        (ROWS,),
    ),
    Mutant(
        "every pad id hidden",
        "attention_mask is ids != pad_id. GPT-2 pads with the end-of-text token, which also stands in texts.",
        (Edit("reference.data.pad_rows", ": len(kept)] = 1", ": len(kept)] = kept != pad_id"),),
        (ROWS,),
    ),
    Mutant(
        "every pad id unscored",
        "DataCollatorForLanguageModeling of transformers: where the pad is the end of text, nothing teaches to stop.",
        (
            Edit(
                "reference.data.pad_rows",
                "kept if labels is None else labels[i][:length]",
                "np.where(kept == pad_id, ignore_index, kept if labels is None else labels[i][:length])",
            ),
        ),
        (ROWS,),
    ),
    Mutant(
        "labels of padded rows ignored",
        "The ids are taken as labels whatever is given: the input is scored like the output.",
        (Edit("reference.data.pad_rows", "kept if labels is None else labels[i][:length]", "kept"),),
        (ROWS,),
    ),
)

OF_PAIRS = (
    Mutant(
        "the end of a summary unscored",
        "The slice of labels ends before the last [SEP]: the model never learns to stop.",
        (
            Edit(
                "reference.data.merge_and_pad",
                "labels[first : len(tokens)] = tokens[first:]",
                "labels[first : len(tokens) - 1] = tokens[first:-1]",
            ),
        ),
        (PAIRS,),
    ),
    Mutant(
        "the article cut by one too many",
        "Room is kept for an end-of-text token that the layout does not have.",
        (Edit("reference.data.merge_and_pad", "len(summary) - 3\n", "len(summary) - 4\n"),),
        (PAIRS,),
    ),
    Mutant(
        "the last [SEP] falls off the edge",
        "One of three special tokens is not counted, and a slice hides that the row is too long.",
        (
            Edit("reference.data.merge_and_pad", "len(summary) - 3\n", "len(summary) - 2\n"),
            Edit("reference.data.merge_and_pad", "*summary, sep_id]\n", "*summary, sep_id][:max_seq_len]\n"),
        ),
        (PAIRS,),
    ),
    Mutant(
        "the article loses its beginning",
        "The cut keeps the end of the article, as for prompts; news says what matters first.",
        (Edit("reference.data.merge_and_pad", "article[:room]", "article[max(len(article) - room, 0) :]"),),
        (PAIRS,),
    ),
    Mutant(
        "the [SEP] between the two scored",
        "Labels begin at the separator, not after it: the model is asked where the cut article ends.",
        (
            Edit(
                "reference.data.merge_and_pad",
                "len(tokens) - len(summary) - 1\n",
                "len(tokens) - len(summary) - 2\n",
            ),
        ),
        (PAIRS,),
    ),
    Mutant(
        "the article scored as well",
        "score is accepted, checked and not used.",
        (Edit("reference.data.merge_and_pad", '0 if score == "all" else len(tokens) - len(summary) - 1', "0"),),
        (PAIRS,),
    ),
    Mutant(
        "pads of pairs attended",
        "The course's merge_and_pad has no mask; the one that was added is all ones.",
        (Edit("reference.data.merge_and_pad", "np.zeros(max_seq_len, np.int32)", "np.ones(max_seq_len, np.int32)"),),
        (PAIRS,),
    ),
)

OF_ORDERS = (
    Mutant(
        "the same order in every epoch",
        "A generator is seeded anew for each epoch, with the same seed.",
        (Edit("reference.data.order", "counter=epoch << 192", "counter=0"),),
        (SHUFFLED,),
    ),
    Mutant(
        "the seed of the order ignored",
        "The seed reaches dropout and sampling, and not the data: runs with other seeds repeat half of the first.",
        (Edit("reference.data.order", "seed | STREAM << 64", "STREAM << 64"),),
        (SHUFFLED,),
    ),
    Mutant(
        "rows in the order of the file",
        "shuffle=True is forgotten: a file sorted by task is learnt task by task.",
        (Edit("reference.data.order", 'np.argsort(numbers.random_raw(count), kind="stable")', "np.arange(count)"),),
        (SHUFFLED,),
    ),
    Mutant(
        "rows drawn with replacement",
        "As nanoGPT draws its windows: within an epoch a third of the rows is never seen, others several times.",
        (
            Edit(
                "reference.data.order",
                'np.argsort(numbers.random_raw(count), kind="stable")',
                "(numbers.random_raw(count) % np.uint64(count)).astype(np.int64)",
            ),
        ),
        (SHUFFLED, EPOCHS),
    ),
    Mutant(
        "the epoch added to the seed",
        "PyTorch's DistributedSampler does so: epoch 1 of seed 0 has the order of epoch 0 of seed 1.",
        (
            Edit(
                "reference.data.order",
                "key=seed | STREAM << 64, counter=epoch << 192",
                "key=(seed + epoch) % 2**64 | STREAM << 64",
            ),
        ),
        (SHUFFLED,),
    ),
)

OF_BATCHES = (
    Mutant(
        "every epoch skips what the first one skipped",
        "The number of batches to skip after a resumption is not set back to 0.",
        (Edit("reference.data._batches", "        skipped = 0\n", ""),),
        (RESUMED,),
    ),
    Mutant(
        "a resumed epoch starts over",
        "The epoch is restored, the place in it is not: rows are seen twice.",
        (Edit("reference.data._batches", "divmod(first, per_epoch)", "(first // per_epoch, 0)"),),
        (RESUMED,),
    ),
    Mutant(
        "a resumed run starts in the first epoch",
        "The place in the epoch is restored, the number of the epoch is not.",
        (Edit("reference.data._batches", "divmod(first, per_epoch)", "(0, first % per_epoch)"),),
        (RESUMED,),
    ),
    Mutant(
        "the rest of an epoch as a smaller batch",
        "drop_remainder is left out: a batch of another size compiles a graph anew and weighs its rows more.",
        (
            Edit(
                "reference.data._batches",
                ROWS_OF_AN_EPOCH,
                "rows = np.array_split(order(count, seed, epoch), range(batch_size, count, batch_size))",
            ),
        ),
        (EPOCHS,),
    ),
    Mutant(
        "the same rows left out of every epoch",
        "The remainder is cut off before shuffling: some rows are never learnt from.",
        (
            Edit(
                "reference.data._batches",
                "order(count, seed, epoch)[: per_epoch * batch_size]",
                "order(per_epoch * batch_size, seed, epoch)",
            ),
        ),
        (EPOCHS,),
    ),
    Mutant(
        "labels not shuffled with their ids",
        "Each array is put in an order by itself.",
        (
            Edit(
                "reference.data._batches",
                "{name: x[chosen] for name, x in arrays.items()}",
                '{name: x[np.sort(chosen) if name == "labels" else chosen] for name, x in arrays.items()}',
            ),
        ),
        (EPOCHS,),
    ),
)


def _of_mindspore(name: str, story: str, where: tuple[str, ...], *edits: Edit) -> Mutant:
    return Mutant(f"MindSpore: {name}", story, edits, where, engine="mindspore", mode="pynative")


OF_THE_MINDSPORE_PIPELINE = (
    _of_mindspore(
        "drop_remainder left out",
        "It is False unless it is set: the rest of an epoch comes as a smaller batch.",
        (EPOCHS,),
        Edit("ms_backend.data._batches", "drop_remainder=True, ", ""),
    ),
    _of_mindspore(
        "the sampler shuffles again",
        "SubsetRandomSampler looks like the sampler for a shuffled subset: it shuffles what has an order already.",
        (PIPELINE, ROWS),
        Edit("ms_backend.data._pipeline", "ds.SubsetSampler(", "ds.SubsetRandomSampler("),
    ),
    _of_mindspore(
        "as many rows skipped as batches",
        "The sampler counts rows, the checkpoint micro-batches.",
        (RESUMED,),
        Edit("ms_backend.data._batches", "[skipped * batch_size :]", "[skipped:]"),
    ),
    _of_mindspore(
        "each epoch as the first",
        "One pipeline is made before the loop and repeated, so that its order is drawn once.",
        (EPOCHS, PIPELINE),
        Edit("ms_backend.data._batches", "order(count, seed, epoch)", "order(count, seed, start)"),
    ),
    _of_mindspore(
        "every epoch skips what the first skipped",
        "The number of batches to skip is not set back to 0.",
        (RESUMED,),
        Edit("ms_backend.data._batches", "        skipped = 0\n", ""),
    ),
    _of_mindspore(
        "the last window lost",
        "As in NumPy: a token after each window is asked for, which nothing uses.",
        (WINDOWS, PIPELINE),
        Edit("ms_backend.data.windows", "len(stream) // length * length", "max(len(stream) - 1, 0) // length * length"),
    ),
    _of_mindspore(
        "pads attended in rows",
        "pad_end_op pads every column with the same value, which is not 0.",
        (ROWS, PIPELINE),
        Edit(
            "ms_backend.data.pad_rows",
            "np.pad(np.ones_like(tokens), (0, pads))",
            "np.pad(np.ones_like(tokens), (0, pads), constant_values=1)",
        ),
    ),
    _of_mindspore(
        "pads scored in rows",
        "Labels are padded like ids, as in the course.",
        (ROWS, PIPELINE),
        Edit("ms_backend.data.pad_rows", "constant_values=ignore_index", "constant_values=pad_id"),
    ),
    _of_mindspore(
        "long rows lose their beginning in the map",
        "The ids are cut at the wrong end, their labels at the right one.",
        (ROWS, PIPELINE),
        Edit("ms_backend.data.pad_rows", "np.asarray(row[:length], np.int32)", "np.asarray(row[-length:], np.int32)"),
    ),
    _of_mindspore(
        "ids in 64 bits",
        "The cast is left out: NumPy's integers have 64 bits, and MindSpore compiles a graph for each dtype.",
        (ROWS, PIPELINE),
        Edit("ms_backend.data.pad_rows", "tokens = np.asarray(row[:length], np.int32)", "tokens = row[:length]"),
    ),
    _of_mindspore(
        "what is not scored is labelled 0",
        "zeros_like stands where full_like should: the model learns to write token 0 after every token of the article.",
        (PAIRS, PIPELINE),
        Edit("ms_backend.data.merge_and_pad", "np.full_like(given, ignore_index)", "np.zeros_like(given)"),
    ),
    _of_mindspore(
        "the first pad attended",
        "The mask ends one token too late.",
        (PAIRS, PIPELINE),
        Edit(
            "ms_backend.data.merge_and_pad",
            "[max_seq_len - pads, pads])",
            "[max_seq_len - max(pads - 1, 0), max(pads - 1, 0)])",
        ),
    ),
)

OF_CONVERT = (
    Mutant(
        "a head of the embedding's shape taken for tied",
        "A head of another model has the same shape: only equal numbers are tied.",
        (
            Edit(
                "gpt2.model.convert._config",
                'np.array_equal(head, parameters["wte.weight"])',
                'head.shape == parameters["wte.weight"].shape',
            ),
        ),
        (CONVERTED,),
    ),
    Mutant(
        "a square matrix not turned",
        "Matrices are turned where their shape does not fit; that of attn.c_proj fits either way.",
        (
            Edit(
                "gpt2.model.convert._rename",
                "if LINEAR.fullmatch(name) else x",
                "if LINEAR.fullmatch(name) and x.shape[0] != x.shape[1] else x",
            ),
        ),
        (CONVERTED,),
    ),
    Mutant(
        "c_proj of the attention left out of the list",
        "nanoGPT's list of matrices to turn has four names; three of them are enough to load a model.",
        (Edit("gpt2.model.convert", r"attn\.c_proj|", ""),),
        (CONVERTED,),
    ),
    Mutant(
        "biases dropped",
        "nanoGPT's default is bias=False, so all biases are set to zero.",
        (
            Edit(
                "gpt2.model.convert.convert",
                'if name.endswith(".bias") and name not in parameters:',
                'if name.endswith(".bias") and "ln_" not in name:',
            ),
        ),
        (CONVERTED,),
    ),
    Mutant(
        "as many heads as GPT-2",
        "No tensor says how many heads there are; the number in the file is not read.",
        (Edit("gpt2.model.convert.convert", 'n_head or fields.get("n_head")', "n_head or 12"),),
        (CONVERTED,),
    ),
    Mutant(
        "base64 tensors in Fortran's order",
        "The numbers are the same, in another place.",
        (Edit("gpt2.model.convert.decode_tensor", ".reshape(tensor.shape)", '.reshape(tensor.shape, order="F")'),),
        (CONVERTED,),
    ),
)

DATA = (
    *OF_WINDOWS,
    *OF_PADDED_ROWS,
    *OF_PAIRS,
    *OF_ORDERS,
    *OF_BATCHES,
    *OF_THE_MINDSPORE_PIPELINE,
    *OF_CONVERT,
)
