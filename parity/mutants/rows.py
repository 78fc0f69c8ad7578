"""Planted bugs between a file and its rows: formats, columns, held-out rows, weights, labels."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import CLASSIFIED, COLUMNS, DRAWN, HELD_OUT, KEPT, PACKED, WEIGHTED

OF_FILES = (
    Mutant(
        "columns in the order of the file",
        "The columns are sorted, and the names of the fields are not: input and output change places.",
        (
            Edit(
                "gpt2.data.records._values",
                "zip(fields, columns, strict=True)",
                "zip(fields, sorted(columns), strict=True)",
            ),
        ),
        (COLUMNS,),
    ),
    Mutant(
        "the heading as a sample",
        "The first line is read as data although it names the columns.",
        (
            Edit(
                "gpt2.data.records._of_table",
                "table[1:] if set(fields) & set(heading) else table",
                "table",
            ),
        ),
        (COLUMNS,),
    ),
    Mutant(
        "half a record",
        "A table is split at its line breaks and separators, whatever stands in quotes.",
        (Edit("gpt2.data.formats", '{"delimiter": ","}', '{"delimiter": ",", "quoting": csv.QUOTE_NONE}'),),
        (COLUMNS,),
    ),
    Mutant(
        "JSON known by its name alone",
        "Lines of JSON in a file with another ending are learnt with their braces and keys.",
        (Edit("gpt2.data.formats._looked_at", "named or OBJECT.match(text)", "named"),),
        (COLUMNS,),
    ),
)

OF_ROWS = (
    Mutant(
        "rows cut without their template",
        "The sample is not cut to fit, and padding cuts what is too long: at its end, where the output stands.",
        (
            Edit(
                "gpt2.data.rows._task_row",
                "sample if limit is None else sample.cut(limit, template.truncate)",
                "sample",
            ),
        ),
        (KEPT,),
    ),
    Mutant(
        "block_size ignored",
        "Rows are as long as the model's context, whatever is asked for.",
        (
            Edit(
                "gpt2.data.corpus.read_corpus",
                "n_positions if settings.block_size is None else settings.block_size",
                "n_positions",
            ),
        ),
        (KEPT,),
    ),
    Mutant(
        "held-out rows among the training rows",
        "Some rows are held out, and not taken away: the held-out loss praises what was learnt by heart.",
        (
            Edit(
                "gpt2.data.rows.split_rows",
                "return [row for i, row in enumerate(rows) if i not in taken]",
                "return rows",
            ),
        ),
        (HELD_OUT,),
    ),
    Mutant(
        "a row between training and held-out rows lost",
        "One bound is inclusive, the other exclusive.",
        (Edit("gpt2.data.rows.split_rows", "if i in taken]", "if i in taken and i - 1 in taken]"),),
        (HELD_OUT,),
    ),
    Mutant(
        "the beginning held out",
        "The first rows are taken where the last are asked for.",
        (
            Edit(
                "gpt2.data.rows.split_rows",
                "taken: Collection[int] = range(len(rows) - count, len(rows))",
                "taken: Collection[int] = range(count)",
            ),
        ),
        (HELD_OUT,),
    ),
    Mutant(
        "held-out rows drawn whatever their label",
        "Rows are drawn from all of them at random: a rare label may have none, or more than its share.",
        (
            Edit(
                "gpt2.data.rows.split_rows",
                "rows[i].labels.item() if rows[i].labels.ndim == 0 else rows[i].task",
                "rows[i].task",
            ),
        ),
        (DRAWN,),
    ),
    Mutant(
        "the same rows held out for every seed",
        "The generator of the split has a seed of its own.",
        (Edit("gpt2.data.rows.split_rows", "order(len(rows), seed, HELD_OUT_EPOCH)", "order(len(rows), 0, 0)"),),
        (DRAWN,),
    ),
    Mutant(
        "a stream held out twice",
        "Both parts of a stream hold the tokens around the split.",
        (
            Edit(
                "gpt2.data.rows.split_stream",
                "[Row(stream[first:], stream[first:])]",
                "[Row(stream[max(first - 2, 0) :], stream[max(first - 2, 0) :])]",
            ),
        ),
        (PACKED,),
    ),
    Mutant(
        "copies held out",
        "Rows are repeated before they are split: copies of one row land in both parts.",
        (
            Edit(
                "gpt2.data.corpus.read_corpus",
                "split_rows(rows, settings.held_out, settings.split, seed)",
                "split_rows(\n"
                "            weighted(path, rows, settings.weights, {row.task for row in rows}),\n"
                "            settings.held_out,\n"
                "            settings.split,\n"
                "            seed,\n"
                "        )",
            ),
            Edit(
                "gpt2.data.corpus.read_corpus",
                "training = weighted(path, training, settings.weights, {row.task for row in rows})",
                "weighted(path, training, {}, set())",
            ),
        ),
        (HELD_OUT, WEIGHTED),
    ),
    Mutant(
        "weights ignored",
        "The weights are read, checked against the tasks, and not used.",
        (Edit("gpt2.data.rows.weighted", "range(weights.get(row.task, 1))", "range(1)"),),
        (WEIGHTED,),
    ),
    Mutant(
        "a task without a weight left out",
        "The default of a missing weight is 0: to name one task drops the others.",
        (Edit("gpt2.data.rows.weighted", "weights.get(row.task, 1)", "weights.get(row.task, 0 if weights else 1)"),),
        (WEIGHTED,),
    ),
    Mutant(
        "texts not ended",
        "Samples are packed without a token between them: the model sees one text turn into another.",
        (Edit("gpt2.data.rows._plain_row", "np.array(ids + end, np.int32)", "np.array(ids, np.int32)"),),
        (PACKED,),
    ),
    Mutant(
        "an end before each text",
        "As a beginning-of-text token: the last text has no end, and an empty text is a row.",
        (Edit("gpt2.data.rows._plain_row", "np.array(ids + end, np.int32)", "np.array(end + ids, np.int32)"),),
        (PACKED,),
    ),
    Mutant(
        "labels of packed rows ignored",
        "Packed rows are scored whole, whatever the template says.",
        (Edit("gpt2.data.corpus._lay_out", '(("ids", ids), ("labels", labels))', '(("ids", ids), ("labels", ids))'),),
        (PACKED,),
    ),
    Mutant(
        "a classifier reads the end",
        "The text is cut at its beginning.",
        (Edit("gpt2.data.rows.classifier_ids", "*ids[:room]", "*ids[-room:]"),),
        (CLASSIFIED,),
    ),
    Mutant(
        "a long text without its [SEP]",
        "The row is cut after the special tokens are put around the text: GPT-2 classifies at the last token.",
        (
            Edit(
                "gpt2.data.rows.classifier_ids",
                "[*around[0], *ids[:room], *around[1]]",
                "[*around[0], *ids, *around[1]][:length]",
            ),
        ),
        (CLASSIFIED,),
    ),
    Mutant(
        "labels numbered as text",
        "Sorted as strings, label 10 comes before label 2.",
        (
            Edit(
                "gpt2.data.corpus._distinct",
                "sorted(distinct, key=lambda label: (int(label) if numbers else 0, label))",
                "sorted(distinct)",
            ),
        ),
        (CLASSIFIED,),
    ),
)

ROWS = (*OF_FILES, *OF_ROWS)
