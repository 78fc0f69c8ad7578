"""Laws of what feeds a model: windows, padded rows, pairs, orders, micro-batches, and dropout masks.

They judge the backend's pipeline, or NumPy's if it has none of its own, and make their rows from the seed of the case.
"""

import base64
import dataclasses
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from parity.cases.cases import DROPOUTS
from parity.laws.base import Array, Verdicts, law, must_hold, random_of, shared_module
from parity.verdict.trial import Trial
from parity.verdict.verdict import equal
from reference import data as numpy_pipeline
from reference.config import GPT2Config, flatten, parameter_shapes

IGNORED = -100
IDS = 9  # so few that the id of the pad also stands in texts
RUN = 64  # elements of a dropout mask, of which no two masks have the same in a row


def pipeline_of(trial: Trial) -> Any:
    """The module that makes the backend's rows and micro-batches."""
    settings = shared_module(trial, "gpt2.data.settings")
    name = getattr(trial.backend, "pipeline_name", trial.backend.name)
    return settings.get_pipeline(name if name in settings.PIPELINES else "numpy")


def _texts(random: np.random.Generator, count: int, longest: int, dtype: Any = np.int32) -> list[Array]:
    return [random.integers(0, IDS, random.integers(0, longest + 1)).astype(dtype) for _ in range(count)]


def _filled(rows: Sequence[Sequence[int]], length: int, pad: int) -> Array:
    """Rows cut, or filled up with pads, to that length."""
    return np.array([[*row[:length], *[pad] * (length - len(row))] for row in rows], np.int32).reshape(-1, length)


def _same(trial: Trial, found: Mapping[str, Array], expected: Mapping[str, Array]) -> Verdicts:
    """Verdicts on arrays by name."""
    for name, x in expected.items():
        yield dataclasses.replace(trial.identical(found[name], x), name=name)


def _columns(random: np.random.Generator, count: int) -> dict[str, Array]:
    """Rows that tell their number, in each array."""
    numbers = np.arange(count, dtype=np.int32)
    return {"ids": numbers[:, None] * IDS + random.integers(0, IDS, (count, 2), np.int32), "labels": numbers}


def _counts(trial: Trial) -> tuple[int, int]:
    """How many rows there are, and how many a micro-batch has."""
    batch_size = trial.case.sizes["B"] + trial.case.sizes["K"] % 2
    return batch_size + trial.case.sizes["N"] % 12, batch_size


@law("data")
def each_token_stands_in_one_window(trial: Trial) -> Verdicts:
    """Windows hold the tokens of a stream in order, each once; fewer than a window of them are left out, at its end.

    Proof: this is their definition. Each window begins where the one before it ends.
    """
    random, length, count = random_of(trial), trial.case.sizes["T"], trial.case.sizes["K"] - 1
    for left_over in range(length):
        dtype = (np.int32, np.int64)[left_over % 2]
        stream = random.integers(0, IDS, count * length + left_over).astype(dtype)
        expected = [stream[start : start + length] for start in range(0, count * length, length)]
        found = pipeline_of(trial).windows(stream, length)
        yield trial.identical(found, np.array(expected, dtype).reshape(count, length))


@law("data")
def rows_are_padded_at_their_end(trial: Trial) -> Verdicts:
    """A padded row holds the first tokens of its text, seen and with their labels; after them stand pads, unseen and
    unscored. A token of a text that has the id of a pad is no pad.

    Proof: this is their definition. What is a pad depends on the length of the text alone.
    """
    random, length = random_of(trial), trial.case.sizes["T"]
    for given, dtype in ((False, np.int64), (True, np.int32)):
        texts = _texts(random, trial.case.sizes["B"] + 1, 2 * length, dtype)
        labels = [np.where(random.random(len(text)) < 0.5, IGNORED, text) for text in texts] if given else texts
        pad = int(random.integers(IDS))
        rows = pipeline_of(trial).pad_rows(texts, length, pad, IGNORED, labels if given else None)
        expected = {
            "ids": _filled([text.tolist() for text in texts], length, pad),
            "attention_mask": _filled([[1] * len(text) for text in texts], length, 0),
            "labels": _filled([row.tolist() for row in labels], length, IGNORED),
        }
        yield from _same(trial, rows, expected)


@law("data")
def a_pair_is_cut_in_its_article_alone(trial: Trial) -> Verdicts:
    """A pair is [CLS] article [SEP] summary [SEP], less as many of the article's last tokens as must be, and then pads,
    unseen and unscored. The summary and the [SEP] after it are scored, or all tokens.

    Proof: this is its definition. To take one token after the other from the article, until the pair fits, takes no
    more than must be.
    """
    random, sizes = random_of(trial), trial.case.sizes
    cls, sep, pad = IDS, IDS + 1, int(random.integers(IDS))
    articles, summaries = (_texts(random, sizes["B"], sizes["T"]) for _ in range(2))
    length = max(map(len, summaries)) + 3 + sizes["K"]
    for score in ("output", "all"):
        rows, scored = [], []
        for article, summary in zip(articles, summaries, strict=True):
            kept, answer = article.tolist(), [*summary.tolist(), sep]
            while len(kept) + len(answer) + 2 > length:
                kept.pop()
            before = [cls, *kept, sep]
            rows.append(before + answer)
            scored.append((before if score == "all" else [IGNORED] * len(before)) + answer)
        found = pipeline_of(trial).merge_rows(articles, summaries, length, cls, sep, pad, IGNORED, score)
        expected = {
            "ids": _filled(rows, length, pad),
            "attention_mask": _filled([[1] * len(row) for row in rows], length, 0),
            "labels": _filled(scored, length, IGNORED),
        }
        yield from _same(trial, found, expected)


@law("data")
def every_epoch_has_an_order_of_its_own(trial: Trial) -> Verdicts:
    """The order of an epoch is a permutation of the rows. Another epoch or another seed has another order, also an
    epoch that is as much later as its seed is smaller; none is the order of the file.

    Proof: of 64 rows there are more than 10^89 orders, so two that are drawn independently are not the same.
    """
    random, order = random_of(trial), pipeline_of(trial).order
    for count in (trial.case.sizes["N"], 64):
        seed, epoch = map(int, random.integers(0, 1000, 2))
        drawn = [order(count, seed + i, epoch + j).tolist() for i in range(3) for j in range(3)]
        yield equal([sorted(rows) for rows in drawn], [list(range(count))] * len(drawn))
    yield equal(len({*map(tuple, drawn), tuple(range(64))}), len(drawn) + 1)


@law("data")
def an_epoch_takes_each_row_at_most_once(trial: Trial) -> Verdicts:
    """Micro-batches take the rows in the order of the epoch, all arrays the same rows, and all have the same size; rows
    that do not fill a micro-batch are left out. The next epoch has an order of its own.

    Proof: this is their definition. The order names each row once.
    """
    count, batch_size = _counts(trial)
    seed, arrays = trial.case.seed, _columns(random_of(trial), count)
    pipeline = pipeline_of(trial)
    found = pipeline.batches(arrays, batch_size, seed)
    for epoch in range(2):
        rows = pipeline.order(count, seed, epoch).tolist()
        yield equal(sorted(set(rows)), sorted(rows))
        for start in range(0, count - batch_size + 1, batch_size):
            taken = rows[start : start + batch_size]
            expected = {name: np.array([x[row] for row in taken]) for name, x in arrays.items()}
            yield from _same(trial, next(found), expected)


@law("data")
def batches_go_on_where_they_stopped(trial: Trial) -> Verdicts:
    """Micro-batches from number n on are the same whether the first n are read or not.

    Proof: the seed and its number decide what a micro-batch holds.
    """
    count, batch_size = _counts(trial)
    random, per_epoch = random_of(trial), count // batch_size
    arrays, first = _columns(random, count), int(random.integers(0, 2 * per_epoch + 1))
    read = first + per_epoch + 1  # as far as into the next epoch
    batches = pipeline_of(trial).batches
    whole = list(itertools.islice(batches(arrays, batch_size, 0), read))[first:]
    for one, other in zip(batches(arrays, batch_size, 0, first), whole, strict=False):
        yield from _same(trial, one, other)


@law("data")
def every_pipeline_makes_the_same_arrays(trial: Trial) -> Verdicts:
    """A pipeline makes the arrays that NumPy's makes: the same rows in the same order, in the same dtypes.

    Proof: ids, masks and labels are whole numbers, and nothing is rounded.
    """
    random, sizes = random_of(trial), trial.case.sizes
    count, batch_size = _counts(trial)
    length = sizes["T"]
    stream, texts = random.integers(0, IDS, 3 * length), _texts(random, count, 2 * length, np.int64)
    pairs = texts, [text[: sizes["K"]] for text in texts], length + sizes["K"] + 4, 1, 2, 0

    def arrays(pipeline: Any) -> Iterator[dict[str, Array]]:
        yield {"windows": pipeline.windows(stream, length), "order": pipeline.order(count, trial.case.seed, 1)}
        padded = pipeline.pad_rows(texts, length, 0)
        yield from (padded, pipeline.merge_rows(*pairs), pipeline.pad_rows([], length, 0))
        yield from itertools.islice(pipeline.batches(padded, batch_size, trial.case.seed), count // batch_size + 1)

    for one, other in zip(arrays(pipeline_of(trial)), arrays(numpy_pipeline), strict=True):
        yield from _same(trial, one, other)


@law("data")
def dropout_masks_are_drawn_one_by_one(trial: Trial) -> Verdicts:
    """No mask repeats a part of itself or of another: another layer, micro-batch, sequence or seed has other numbers.
    Each keeps a share of one minus the rate that is set for its place, and everything at rate 0.

    Proof: at rate 1/2, two runs of 64 elements that are drawn independently are the same once in 2^64 times. The share
    of n elements that are dropped misses the rate by more than 4 / sqrt(n) once in 10^13 times (Hoeffding).
    """
    masks = shared_module(trial, "gpt2.data.dropout_masks")
    seed, step = trial.case.seed, trial.case.sizes["N"]
    none: dict[str, Any] = dict.fromkeys(DROPOUTS, 0.0)
    half: dict[str, Any] = dict.fromkeys(DROPOUTS, 0.5)
    small = GPT2Config(n_layer=2, n_head=2, n_embd=16, **half)
    drawn = [flatten(masks.draw_keep(small, 2, 8, seed + i, step + j)) for i, j in ((0, 0), (0, 1), (1, 0))]
    runs = [_runs(mask) for named in drawn for mask in named.values()]
    yield equal(len(set(itertools.chain.from_iterable(runs))), sum(map(len, runs)))
    for field in DROPOUTS:
        kept = masks.draw_keep(dataclasses.replace(small, **(none | {field: 0.125})), 4, 8, seed, step)
        yield must_hold(trial, np.array(kept is not None))  # None: no rate is set
        for name, mask in flatten(kept).items():
            place = {"embeddings": "embd_pdrop", "attn_weights": "attn_pdrop"}.get(name.split(".")[-1], "resid_pdrop")
            dropped, rate = float(np.mean(~mask)), 0.125 if place == field else 0.0
            yield must_hold(trial, np.array(abs(dropped - rate) <= (4 / np.sqrt(mask.size) if rate else 0)))


def _runs(mask: Array) -> list[int]:
    """Every RUN elements in a row, as one number."""
    rows = np.lib.stride_tricks.sliding_window_view(mask.ravel(), RUN)
    return np.packbits(rows, axis=1).view(np.uint64)[:, 0].tolist()


# nanoGPT and minGPT use nn.Linear, whose weights are (out, in).
TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@law("convert")
def a_converted_state_is_the_same_model(trial: Trial) -> Verdicts:
    """Turn the four matrices of every layer round, as nn.Linear holds them, and convert the state: it is the model that
    it was, bit for bit, from safetensors and from JSON. A state without biases has biases of zero; a head is tied only
    if it holds the numbers of the embedding.

    Proof: a matrix turned round twice is itself, and x W + b is the same map either way.
    """
    convert, hf_folder = (shared_module(trial, f"gpt2.model.{name}") for name in ("convert", "hf_folder"))
    random, sizes = random_of(trial), trial.case.sizes
    heads, tied, biases = sizes["H"], bool(random.integers(2)), bool(random.integers(4))
    config = GPT2Config(
        vocab_size=sizes["V"],
        n_positions=sizes["L"],
        n_embd=sizes["C"],
        n_head=heads,
        n_layer=1 + trial.case.seed % 2,
        n_inner=sizes["I"],
        tie_word_embeddings=tied,
    )
    known = {
        name: (random.standard_normal(shape) * (biases or not name.endswith("bias"))).astype(np.float32)
        for name, shape in parameter_shapes(config).items()
    }
    state = {name: x.T if name.endswith(TURNED) else x for name, x in known.items() if biases or "bias" not in name}
    state |= {"lm_head.weight": known["wte.weight"]} if tied else {}
    with tempfile.TemporaryDirectory() as folder:
        for source in (Path(folder, "model.safetensors"), Path(folder, "model.json")):
            _save_state(source, state, heads)
            made = Path(folder, source.suffix[1:])
            convert.convert(source, made)
            found = hf_folder.read_config(made)
            parameters = hf_folder.read_parameters(made, found)
            sized = ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "inner_size", "tie_word_embeddings")
            yield equal([getattr(found, field) for field in sized], [getattr(config, field) for field in sized])
            yield equal(sorted(parameters), sorted(known))
            yield from _same(trial, parameters, known)


def _save_state(path: Path, state: dict[str, Array], heads: int) -> None:
    """A state as its project saves it: with a prefix as safetensors, or as JSON with numbers in base64."""
    config = {"n_head": heads}
    if path.suffix == ".safetensors":
        save_file({f"transformer.{name}": np.ascontiguousarray(x) for name, x in state.items()}, path)
        path.with_name("config.json").write_text(json.dumps(config), encoding="utf-8", newline="\n")
        return
    tensors = {
        name: {"shape": x.shape, "dtype": "torch.float32", "data": base64.b64encode(x.tobytes()).decode()}
        for name, x in state.items()
    }
    path.write_text(json.dumps({**tensors, "config": config}), encoding="utf-8", newline="\n")
