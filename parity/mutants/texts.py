"""Planted bugs of texts: tokenizers and templates; and of dropout masks."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import (
    ADDED,
    BYTES,
    CUT,
    ENCODED,
    END_TOKEN,
    KEPT,
    LAID_OUT,
    LOADED,
    MASKS,
    OPEN,
    PIECES,
    SCORED,
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

TEXTS = (*OF_TOKENIZERS, *OF_TEMPLATES, *OF_MASKS)
