"""Planted bugs between a file and its rows: tokenizers, templates, held-out rows, weights; and of dropout masks."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import (
    ADDED,
    BYTES,
    CLASSIFIED,
    COLUMNS,
    CUT,
    ENCODED,
    END_TOKEN,
    HELD_OUT,
    KEPT,
    LAID_OUT,
    LOADED,
    MASKS,
    OPEN,
    PACKED,
    PIECES,
    SCORED,
    WEIGHTED,
)

OF_TOKENIZERS = (
    Mutant(
        "the end of text written out",
        "OpenAI's vocab.json holds the token, but nothing says that it is special: it is split into seven pieces.",
        (
            Edit(
                "gpt2.tokenizer.folder.byte_pair_tokenizer",
                "beside.add(tokenizer, GPT2_SPECIAL)",
                "beside.add(tokenizer, {})",
            ),
        ),
        (END_TOKEN,),
    ),
    Mutant(
        "added tokens not read",
        "A loader that knows vocab.json and merges.txt alone: a token added later falls into ten pieces.",
        (
            Edit(
                "gpt2.tokenizer.folder.load_tokenizer",
                "Beside(folder) if alone else read_beside(folder)",
                "Beside(folder)",
            ),
        ),
        (ADDED,),
    ),
    Mutant(
        "older added tokens not read",
        "Folders from before added_tokens_decoder number added tokens in a file of their own.",
        (Edit("gpt2.tokenizer.beside.Beside.add", "self.added | present if", "present if"),),
        (ADDED,),
    ),
    Mutant(
        "a prompt closed by [SEP]",
        "The tokenizer's default for whole texts: a trained model answers [SEP] for ever.",
        (
            Edit(
                "gpt2.tokenizer.texts.encode_prompt",
                "surroundings(tokenizer)[0] + encode(tokenizer, text, add_special_tokens=False)",
                "encode(tokenizer, text)",
            ),
        ),
        (OPEN,),
    ),
    Mutant(
        "a prompt without [CLS]",
        "No special tokens at all: the text begins where no text began in training.",
        (Edit("gpt2.tokenizer.texts.encode_prompt", "surroundings(tokenizer)[0] + ", ""),),
        (OPEN,),
    ),
    Mutant(
        "a trained tokenizer without an end of text",
        "The trainer is not told of special tokens: samples have nothing to end with.",
        (
            Edit(
                "gpt2.tokenizer.training.train_tokenizer",
                "    tokenizer.add_special_tokens([END_OF_TEXT])\n    return",
                "    return",
            ),
        ),
        (END_TOKEN,),
    ),
    Mutant(
        "unknown characters dropped",
        'errors="ignore", for a console that could not print them: Chinese text becomes no text at all.',
        (
            Edit(
                "gpt2.tokenizer.texts.encode",
                "_encodings(tokenizer, text,",
                '_encodings(tokenizer, text.encode("ascii", "ignore").decode(),',
            ),
        ),
        (ENCODED,),
    ),
    Mutant(
        "a space before every text",
        "add_prefix_space is True in the library's default, and False in GPT-2.",
        (Edit("gpt2.tokenizer.training.of_bytes", "add_prefix_space=False", "add_prefix_space=True"),),
        (ENCODED,),
    ),
    Mutant(
        "text stripped before it is encoded",
        "A line break at the end, which ends a sample, is taken for a slip of the editor.",
        (Edit("gpt2.tokenizer.texts.encode", "_encodings(tokenizer, text,", "_encodings(tokenizer, text.strip(),"),),
        (ENCODED,),
    ),
    Mutant(
        "bytes numbered by their value",
        "GPT-2 numbers the printable bytes first: a space is 220, not 32.",
        (
            Edit(
                "gpt2.tokenizer.training.train_tokenizer",
                "alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())",
                "known = sorted(pre_tokenizers.ByteLevel.alphabet())\n"
                "    alphabet = [*known[188:221], *known[:94], *known[221:], *known[94:188]]",
            ),
        ),
        (BYTES,),
    ),
    Mutant(
        "the space lost where a text is cut",
        "str.split drops what it splits at.",
        (Edit("gpt2.tokenizer.texts._pieces", "start = found.start()", "start = found.end() + 1"),),
        (PIECES,),
    ),
    Mutant(
        "a text cut inside its words",
        "Cut after a fixed number of characters: a word in two pieces has other ids.",
        (
            Edit(
                "gpt2.tokenizer.texts._pieces",
                "found = BREAK.search(text, start + PIECE)",
                'found = re.compile("").search(text, start + PIECE)',
            ),
        ),
        (PIECES,),
    ),
    Mutant(
        "offsets within the piece",
        "A long text is encoded in pieces, and each counts its characters from 0.",
        (
            Edit(
                "gpt2.tokenizer.texts.encode_with_offsets",
                "(start + first, start + last)",
                "(first, last)",
            ),
        ),
        (PIECES,),
    ),
    Mutant(
        "the truncation of a file kept",
        "A tokenizer.json saved after training truncates at the length of that training, without a word.",
        (Edit("gpt2.tokenizer.folder.load_tokenizer", "        tokenizer.no_truncation()\n", ""),),
        (LOADED,),
    ),
    Mutant(
        "the padding of a file kept",
        "A tokenizer.json can pad every text to a fixed length: the pads are taken for text.",
        (Edit("gpt2.tokenizer.folder.load_tokenizer", "        tokenizer.no_padding()\n", ""),),
        (LOADED,),
    ),
)

OF_TEMPLATES = (
    Mutant(
        "the fields of a template swapped",
        "The values are taken in turn, not by name, and a template need not have the order of the file.",
        (
            Edit(
                "gpt2.data.templates.Template.lay_out",
                "texts = [part.fill(record) for part in group]",
                "turned = dict(zip(record, [*record.values()][::-1], strict=True))\n"
                "            texts = [part.fill(turned) for part in group]",
            ),
        ),
        (LAID_OUT,),
    ),
    Mutant(
        "the end token of a sample forgotten",
        "The output is the last token of its row: a model trained so writes on and on.",
        (Edit("gpt2.data.templates.Template.lay_out", "() if closed else tuple(end)", "()"),),
        (LAID_OUT, SCORED),
    ),
    Mutant(
        "an end after a [SEP]",
        "The end token follows every sample, also one that its template closes.",
        (Edit("gpt2.data.templates.Template.lay_out", "() if closed else tuple(end)", "tuple(end)"),),
        (LAID_OUT,),
    ),
    Mutant(
        "the end unscored",
        "Only the output is scored: nothing teaches the model to stop.",
        (Edit("gpt2.data.templates", 'SCORED = ("output", "end")', 'SCORED = ("output",)'),),
        (SCORED,),
    ),
    Mutant(
        "the input scored",
        "The mask of the prompt covers the task, and the input is learnt by heart.",
        (Edit("gpt2.data.templates", 'SCORED = ("output", "end")', 'SCORED = ("input", "output", "end")'),),
        (SCORED,),
    ),
    Mutant(
        "the space before the output unscored",
        "Prompt and output are split at the brace: a prompt then ends with a space, which no GPT-2 token does.",
        (
            Edit(
                "gpt2.data.templates._with_roles",
                'if parts and parts[-1].text.endswith(" "):',
                "if parts and not parts:",
            ),
        ),
        (SCORED,),
    ),
    Mutant(
        "a token across parts goes to the earlier",
        "The part in which a token begins: the space before a field is a part of its first token.",
        (Edit("gpt2.data.templates.Template.lay_out", "max(first, last - 1)", "first"),),
        (LAID_OUT,),
    ),
    Mutant(
        "long samples lose the beginning of a field",
        "The first tokens of the field are removed, where truncation='only_first' removes the last.",
        (Edit("gpt2.data.templates.Sample.cut", "places[-surplus:]", "places[:surplus]"),),
        (CUT,),
    ),
    Mutant(
        "long samples lose their output",
        "The row is cut at its end, wherever the answer stands.",
        (
            Edit(
                "gpt2.data.templates.Sample.cut",
                "kept = [i for i in range(len(self.ids)) if i not in out]",
                "kept = [*range(length)]",
            ),
        ),
        (CUT,),
    ),
    Mutant(
        "roles of the uncut sample",
        "The ids are cut in the middle, their roles at the end: other tokens are scored.",
        (
            Edit(
                "gpt2.data.templates.Sample.cut",
                "tuple(self.roles[i] for i in kept)",
                "self.roles[: len(kept)]",
            ),
        ),
        (CUT,),
    ),
    Mutant(
        "nothing cut by default",
        "The field that may be cut must be named: a template with an input has none.",
        (Edit("gpt2.data.templates.Template.__init__", 'INPUT if INPUT in self.fields[:-1] else ""', '""'),),
        (CUT, KEPT),
    ),
    Mutant(
        "the output in its prompt",
        "The prompt ends before the end of the sample, not before its output.",
        (Edit("gpt2.data.templates.Template.prompt", 'part.role != "output"', 'part.role != "end"'),),
        (LAID_OUT,),
    ),
    Mutant(
        "columns in the order of the file",
        "The columns are sorted, and the names of the fields are not: input and output change places.",
        (
            Edit(
                "gpt2.data.records._tsv_values",
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
                "gpt2.data.records.records_of",
                "lines if has_heading else itertools.chain([first], lines)",
                "itertools.chain([first], lines)",
            ),
        ),
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
        "The last rows are held out, and not taken away: the held-out loss praises what was learnt by heart.",
        (Edit("gpt2.data.rows.split_rows", "return rows[:first], rows[first:]", "return rows, rows[first:]"),),
        (HELD_OUT,),
    ),
    Mutant(
        "a row between training and held-out rows lost",
        "One bound is inclusive, the other exclusive.",
        (Edit("gpt2.data.rows.split_rows", "rows[first:]", "rows[first + 1 :]"),),
        (HELD_OUT,),
    ),
    Mutant(
        "the beginning held out",
        "The share that is trained on is taken for the share that is held out.",
        (
            Edit(
                "gpt2.data.rows.split_rows",
                "first = int(len(rows) * (1 - held_out))",
                "first = int(len(rows) * held_out)",
            ),
        ),
        (HELD_OUT,),
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
                "(split_stream if as_stream else split_rows)(rows, settings.held_out)",
                "(split_stream if as_stream else split_rows)(\n"
                "        weighted(path, rows, settings.weights, {row.task for row in rows}), settings.held_out\n"
                "    )",
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

OF_MASKS = (
    Mutant(
        "the same mask in every layer",
        "The name of the mask, which keeps the streams apart, is that of its place in the layer.",
        (
            Edit(
                "gpt2.data.dropout_masks._draw",
                "hashlib.sha256(name.encode())",
                'hashlib.sha256(name.split(".", 2)[-1].encode())',
            ),
        ),
        (MASKS,),
    ),
    Mutant(
        "the same masks for every micro-batch",
        "The generator is made anew for each micro-batch, from the seed alone.",
        (Edit("gpt2.data.dropout_masks._draw", "counter=step << 192", "counter=0"),),
        (MASKS,),
    ),
    Mutant(
        "the seed of dropout ignored",
        "Two runs with different seeds have the same masks.",
        (Edit("gpt2.data.dropout_masks._draw", "seed | stream << 64", "stream << 64"),),
        (MASKS,),
    ),
    Mutant(
        "masks of neighbouring micro-batches overlap",
        "The counter is moved by one block: the next micro-batch has the same numbers, four places on.",
        (Edit("gpt2.data.dropout_masks._draw", "step << 192", "step"),),
        (MASKS,),
    ),
    Mutant(
        "the rate of what is kept",
        "keep_prob for the dropout rate: MindSpore's nn.Dropout changed from the one to the other.",
        (Edit("gpt2.data.dropout_masks._draw", "(words >= np.uint16(", "(words < np.uint16("),),
        (MASKS,),
    ),
    Mutant(
        "one mask for all sequences",
        "The mask is drawn for one sequence and broadcast over the batch.",
        (
            Edit("gpt2.data.dropout_masks._draw", "size = math.prod(shape)", "size = math.prod(shape[1:])"),
            Edit(
                "gpt2.data.dropout_masks._draw", ".reshape(shape)", ".reshape(1, *shape[1:]).repeat(shape[0], axis=0)"
            ),
        ),
        (MASKS,),
    ),
    Mutant(
        "residual dropout in the attention",
        "The three rates are mostly equal, so that nobody sees which one is used where.",
        (Edit("gpt2.data.dropout_masks", '"attn_weights": "attn_pdrop"', '"attn_weights": "resid_pdrop"'),),
        (MASKS,),
    ),
)

TEXTS = (*OF_TOKENIZERS, *OF_TEMPLATES, *OF_ROWS, *OF_MASKS)
