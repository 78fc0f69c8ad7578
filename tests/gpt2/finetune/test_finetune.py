"""`gpt2 finetune`, `gpt2 summarize`, `gpt2 classify`: what comes of a run, wherever it is interrupted, and bad data."""

import itertools
import json
import math
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from gpt2.backends import Batch, get_backend
from gpt2.data.corpus import read_corpus
from gpt2.data.dropout_masks import draw_keep
from gpt2.data.rows import classifier_ids
from gpt2.data.settings import DataConfig
from gpt2.errors import GPT2Error
from gpt2.evaluation import metrics
from gpt2.finetune import run as finetune_run
from gpt2.finetune.run import FinetuneResult, _Settings
from gpt2.finetune.summarizer import Summarizer, lead, mean_length
from gpt2.model.hf_folder import CONFIG, read_config, read_labels, read_parameters
from gpt2.model.model import Model, load
from gpt2.tokenizer import load_tokenizer, train_tokenizer
from gpt2.training.initial_weights import initial_parameters
from gpt2.training.metrics_file import read_metrics
from parity.verdict.training_band import Course, training_band
from parity.verdict.verdict import Reference
from reference.data import batches
from reference.ops import log_softmax
from tests.gpt2.command import run
from tests.gpt2.conftest import usable

MODEL = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 24, "embd_pdrop": 0.1}
CONFIG_OF_RUN: dict[str, Any] = {"model": MODEL, "training": {"learning_rate": 2e-2}, "data": {"held_out": 0.25}}
WORDS = ["天", "地", "人", "山", "水", "火"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "sea", "##side", "。", ","]
GENERATION = {"max_new_tokens": 4, "num_beams": 2, "no_repeat_ngram_size": 0}
WEIGHTS = "model.safetensors"


def pairs(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Articles whose summary is their first two words."""
    random = np.random.default_rng(seed)
    articles = ["".join(random.choice(WORDS, 9)) for _ in range(count)]
    return [{"article": article, "summarization": article[:2]} for article in articles]


def texts(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts whose label says which of two words they begin with; two of three have the same."""
    random = np.random.default_rng(seed)
    labels = [("天", "high") if i % 3 else ("火", "hot") for i in range(count)]
    return [
        {"text": first + "".join(random.choice(WORDS[1:5], random.integers(1, 6))), "label": label}
        for first, label in labels
    ]


def lines_of(path: Path, records: list[Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with what the tests here learn from."""
    lines_of(tmp_path / "pairs.jsonl", pairs(24))
    lines_of(tmp_path / "texts.jsonl", texts(24))
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "settings.json").write_text(json.dumps(CONFIG_OF_RUN), encoding="utf-8")
    return tmp_path


def summarize(data: Path, output: str, **changes: Any) -> FinetuneResult:
    """The run that the tests here are about, or one that differs in this."""
    usual = {
        "config": CONFIG_OF_RUN,
        "tokenizer": str(data / "vocab.txt"),
        "generation": GENERATION,
        "steps": 4,
        "batch_size": 3,
        "seed": 5,
        "save_every": 1,
        "eval_every": 2,
        "backend": "numpy",
    }
    return finetune_run.summarize(data / "pairs.jsonl", data / output, **{**usual, **changes})


def classify(data: Path, output: str, **changes: Any) -> FinetuneResult:
    """A classifier trained likewise."""
    usual = {
        "config": CONFIG_OF_RUN,
        "tokenizer": str(data / "vocab.txt"),
        "steps": 4,
        "batch_size": 3,
        "seed": 5,
        "save_every": 1,
        "eval_every": 2,
        "backend": "numpy",
    }
    return finetune_run.classify(data / "texts.jsonl", data / output, **{**usual, **changes})


KINDS: dict[str, Callable[..., FinetuneResult]] = {"summarize": summarize, "classify": classify}


def evaluation(folder: Path) -> dict[str, Any]:
    """What was found at the end of a run."""
    return json.loads((folder / finetune_run.EVALUATION).read_text(encoding="utf-8"))


def command(data: Path, kind: str, *more: Any, file: str = "", output: str = "run", **options: Any) -> list[Any]:
    """The words of `gpt2 finetune` for a short run."""
    given = {
        "data": data / (file or {"summarize": "pairs.jsonl", "classify": "texts.jsonl"}[kind]),
        "output": data / output,
        "config": data / "settings.json",
        "tokenizer": data / "vocab.txt",
        "steps": 2,
        "batch-size": 3,
        "backend": "numpy",
        **options,
    }
    words = [word for name, value in given.items() if value is not None for word in ("--" + name, value)]
    return ["finetune", kind, *words, *more, *(["--max-new-tokens", 4] if kind == "summarize" else [])]


# The run.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_that_is_interrupted_ends_with_the_same_bits(kind: str, step: int, data: Path) -> None:
    KINDS[kind](data, "whole")
    stop = lambda progress: signal.raise_signal(signal.SIGINT) if progress.step == step else None  # noqa: E731
    stopped = KINDS[kind](data, "run", watch=stop)
    assert stopped.interrupted == stopped.result.interrupted == (step < 4)
    source = {"summarize": "pairs.jsonl", "classify": "texts.jsonl"}[kind]
    function, options = getattr(run, kind), {} if kind == "classify" else {"generation": GENERATION}
    gone_on = function(data / source, data / "run", resume=True, eval_every=2, backend="numpy", **options)
    assert not gone_on.interrupted
    assert (data / "run" / WEIGHTS).read_bytes() == (data / "whole" / WEIGHTS).read_bytes()
    assert evaluation(data / "run") == evaluation(data / "whole") == gone_on.evaluation
    noted = [
        [{n: x for n, x in line.items() if n != "seconds"} for line in read_metrics(data / name / "metrics.jsonl")]
        for name in ("run", "whole")
    ]
    assert noted[0] == noted[1]


@pytest.mark.parametrize("kind", KINDS)
def test_both_backends_stay_in_the_band(kind: str, data: Path) -> None:
    backend = usable("mindspore pynative")
    plan = KINDS[kind](data, "numpy", steps=2).result.plan
    KINDS[kind](data, "mindspore", steps=2, backend=backend)
    made, config = plan.recipe, plan.recipe.model
    rows = itertools.islice(batches(plan.corpus.training, made.batch_size, made.seed), 4)
    drawn = [Batch(**row, keep=draw_keep(config, *row["ids"].shape, made.seed, i)) for i, row in enumerate(rows)]
    band = training_band(Course(config, dict(plan.parameters()), made.training, drawn), backend.accuracy)
    for name in ("numpy", "mindspore"):
        for parameter, x in read_parameters(data / name, config).items():
            verdict = band.reference(parameter).judge(x)
            assert verdict.agrees, f"{name}, {parameter}: {verdict.explain()}"
        assert evaluation(data / name)["samples"] == 6


def test_the_settings_of_the_course_are_the_defaults(data: Path) -> None:
    plan = summarize(data, "run", config={"model": MODEL}, steps=1).result.plan
    learning, layout = plan.recipe.training, plan.recipe.data
    assert (learning.accumulate_step, learning.max_grad_norm, learning.schedule) == (2, 1.0, "linear")
    assert {name: getattr(plan.recipe.model, name) for name in MODEL} == MODEL
    assert _Settings("summarize", data / "none", {"steps": 50}).sections["training"]["warmup_steps"] == 5
    template = layout.layout_template()
    assert template is not None
    assert (template.text, template.truncate) == ("[CLS] {article} [SEP] {summarization} [SEP]", "article")
    assert (plan.recipe.model.eos_token_id, plan.recipe.model.pad_token_id) == (3, 0)
    rows = plan.corpus.training
    assert (rows["labels"][rows["attention_mask"] == 0] == -100).all()
    assert _Settings("summarize", data / "none", {}).sections["model"] == finetune_run.MODEL
    assert metrics.rouge(["天地"], ["天地"])["rouge2"] == 100


def test_a_file_of_settings_goes_before_the_course(data: Path) -> None:
    changed = {"model": MODEL, "training": {"accumulate_step": 1, "warmup_steps": 0}, "data": {"template": "tldr"}}
    lines_of(data / "pairs.jsonl", [{"article": one["article"], "summary": one["summarization"]} for one in pairs(24)])
    plan = summarize(data, "run", config=changed, tokenizer="characters", steps=1).result.plan
    assert (plan.recipe.training.accumulate_step, plan.recipe.training.max_grad_norm) == (1, 1.0)
    assert finetune_run.read_task(data / "run")["template"] == "{article}\nTL;DR: {summary}"


def test_a_tokenizer_without_cls_gets_tldr_and_none_at_all_learns_byte_pairs(data: Path, speaker: Path) -> None:
    lines_of(data / "pairs.jsonl", [{"article": "a sea", "summarization": "sea"}] * 24)
    known = summarize(data, "known", model=speaker, tokenizer=None, config=None, steps=1)
    assert finetune_run.read_task(known.result.folder)["template"] == "{article}\nTL;DR: {summarization}"
    new = _Settings("summarize", data / "none", {})
    new.change(tokenizer=None)
    new.lay_out(None, None)
    assert new.sections["data"]["tokenizer"] == "bpe"
    assert new.sections["model"]["vocab_size"] == finetune_run.VOCABULARY
    assert new.sections["data"]["template"] == "[CLS] {article} [SEP] {summarization} [SEP]"


def test_a_tokenizer_that_is_trained_has_the_tokens_of_the_template(data: Path) -> None:
    plan = summarize(data, "run", tokenizer="characters", steps=1).result.plan
    tokenizer, row = plan.corpus.tokenizer, plan.corpus.training["ids"][0].tolist()
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    assert (row[0], row.count(last)) == (first, 2)
    assert set(tokenizer.get_vocab()) == {
        *"".join(map("".join, (each.values() for each in pairs(24)))),
        " ",
        "[CLS]",
        "[SEP]",
        "<|endoftext|>",
    }


# The judgement.


def test_the_scores_are_those_of_what_was_written(data: Path) -> None:
    outcome = summarize(data, "run")
    found, plan = evaluation(data / "run"), outcome.result.plan
    references = [example["reference"] for example in found["examples"]]
    assert references == [one["summarization"] for one in pairs(24)[18:]]
    assert list(found["scores"]) == ["model", "untrained", "lead"]
    for name, scores in found["scores"].items():
        expected = metrics.rouge([example[name] for example in found["examples"]], references)
        assert scores == {each: expected[each] for each in finetune_run.SCORES}
    assert found["scores"]["lead"] == dict.fromkeys(finetune_run.SCORES, 100.0)
    first = Model(
        plan.recipe.model, initial_parameters(plan.recipe.model, 5), get_backend("numpy"), plan.corpus.tokenizer
    )
    template = plan.recipe.data.layout_template()
    assert template is not None
    summarizer = Summarizer(first, template, 24, GENERATION)
    prompts = [summarizer.prompt(record.values)[0] for record in plan.corpus.held_out_records]
    assert summarizer.write(prompts) == [example["untrained"] for example in found["examples"]]
    assert summarizer.text([5, 11, 12, 6, 3]) == "天seaside地"  # [SEP] and the spaces between word pieces are left out


def test_an_evaluation_that_is_interrupted_goes_on_where_it_was(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summarize(data, "whole", batch=2)
    asked = []
    write = Summarizer.write

    def counted(self: Summarizer, prompts: Any) -> list[str]:
        asked.append(len(prompts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return write(self, prompts)

    monkeypatch.setattr(Summarizer, "write", counted)
    stopped = summarize(data, "run", batch=2)
    assert (stopped.interrupted, stopped.result.interrupted, stopped.evaluation) == (True, False, None)
    gone_on = summarize(data, "run", batch=2, resume=True)
    assert asked == [2, 2, 2, 2, 2, 2, 2]  # the one that was interrupted, and no other, is asked for twice
    assert gone_on.evaluation == whole.evaluation
    assert not (data / "run" / finetune_run.PART).exists()
    summarize(data, "run", batch=2, resume=True)
    assert len(asked) == 7
    other = summarize(data, "run", resume=True, generation={**GENERATION, "max_new_tokens": 3})
    assert other.evaluation is not None
    assert len(asked) == 9


def test_the_end_of_a_text_is_read_as_if_it_had_not_been_cut_short_on_disk(data: Path) -> None:
    """The last line of answers is only half written: it is asked for again."""
    whole = summarize(data, "run", batch=2).evaluation
    assert whole is not None
    (data / "run" / finetune_run.EVALUATION).unlink()
    answers = [example["model"] for example in whole["examples"][:2]]
    lines = [{"of": whole["of"]}, {"who": "model", "answers": answers}, {"who": "model", "answers": answers}]
    text = "\n".join(map(json.dumps, lines))
    (data / "run" / finetune_run.PART).write_text(text[:-4], encoding="utf-8")
    assert summarize(data, "run", batch=2, resume=True).evaluation == whole


def test_a_classifier_learns_and_is_judged_beside_the_most_frequent_label(data: Path) -> None:
    outcome = classify(data, "run", steps=40)
    found = evaluation(data / "run")
    right = [one["label"] for one in texts(24)[18:]]
    assert [example["label"] for example in found["examples"]] == right
    assert found["scores"]["most frequent label"] == {"accuracy": 100 * right.count("high") / len(right)}
    assert found["scores"]["model"] == {"accuracy": 100.0}
    assert outcome.result.validation_loss < math.log(2)


def test_the_loss_of_held_out_rows_is_the_mean_of_all_labels_whatever_the_batch(data: Path) -> None:
    outcome = classify(data, "run", batch_size=4, steps=1, eval_every=1)  # 6 rows, so the second batch is filled up
    plan, model = outcome.result.plan, load(data / "run", "numpy", dtype="float64")
    rows = plan.corpus.held_out
    scores = model.classify(rows["ids"], rows["attention_mask"])
    losses = -log_softmax(scores)[np.arange(6), rows["labels"]]
    noise = Reference(
        np.array(losses.mean()),
        [np.array(losses[order].mean(dtype=np.float32), np.float64) for order in (np.arange(6), np.arange(6)[::-1])],
    )
    assert noise.judge(np.array(outcome.result.validation_loss)).agrees


def test_a_language_model_gets_a_head_and_a_classifier_keeps_its_own(data: Path) -> None:
    language = summarize(data, "language").result.folder
    plan = classify(data, "run", model=language, config=None, tokenizer=None, steps=1).result.plan
    first = plan.parameters()
    body = read_parameters(language, read_config(language))
    assert first.keys() - body.keys() == {"score.weight"}
    assert all(np.array_equal(first[name], x) for name, x in body.items())
    assert first["score.weight"].shape == (2, 16)
    assert len(np.unique(first["score.weight"])) == 32
    lines_of(data / "texts.jsonl", [{"text": one["text"], "label": "hot"} for one in texts(24)])
    again = classify(data, "again", model=data / "run", config=None, tokenizer=None, steps=1).result.plan
    assert again.corpus.labels == ("high", "hot")
    kept = read_parameters(data / "run", read_config(data / "run"))
    assert np.array_equal(again.parameters()["score.weight"], kept["score.weight"])


def test_a_classifier_folder_names_its_labels_as_transformers_does(data: Path) -> None:
    folder = classify(data, "run").result.folder
    fields = json.loads((folder / CONFIG).read_text())
    assert fields["architectures"] == ["GPT2ForSequenceClassification"]
    assert (fields["id2label"], fields["label2id"]) == ({"0": "high", "1": "hot"}, {"high": 0, "hot": 1})
    assert (fields["pad_token_id"], read_labels(folder)) == (0, ("high", "hot"))
    end = classify(
        data, "bytes", tokenizer="bytes", config={"model": {**MODEL, "n_positions": 40}}, steps=1
    ).result.plan
    assert end.recipe.model.pad_token_id == end.corpus.tokenizer.token_to_id("<|endoftext|>")


# The commands.


def test_the_commands_train_use_and_tell(data: Path) -> None:
    facts = json.loads(run(*command(data, "summarize", "--json")).result)
    assert (facts["step"], facts["interrupted"], facts["evaluation"]["samples"]) == (2, False, 6)
    assert "lead" in run(*command(data, "summarize", "--resume")).result
    used = ["summarize", data / "run", "--backend", "numpy", "--max-new-tokens", 4]
    article = pairs(1)[0]["article"]
    alone = run(*used, article).result
    assert "[" not in alone
    assert run(*used, "-", stdin=article).result == alone
    assert json.loads(run(*used, article, "--json").result)["summaries"] == [alone.strip()]
    (data / "articles.txt").write_text(f"{article}\n\n{article}\n", encoding="utf-8")
    assert run(*used, "--file", data / "articles.txt").result == alone * 2
    of_file = run(*used, "--file", data / "pairs.jsonl").result.split("\n")[:-1]
    assert of_file[18:] == [example["model"] for example in evaluation(data / "run")["examples"]]


def test_a_long_article_is_cut_at_its_end_and_a_note_says_so(data: Path) -> None:
    summarize(data, "run", steps=1)
    used = ["summarize", data / "run", "--backend", "numpy", "--max-new-tokens", 4]
    room = 24 - 4 + 1 - 2  # the last new token is never read; [CLS] and [SEP] stay
    cut, fits = run(*used, "天" * (room - 1) + "地山水"), run(*used, "天" * (room - 1) + "地")
    assert (cut.code, cut.out) == (0, fits.result)
    assert cut.err == "gpt2: note: the text: the article is too long for the model, and was cut at its end\n"
    refusal = run("summarize", data / "run", "天", "--max-new-tokens", 25).refusal
    assert refusal == "the text: 25 new tokens leave no room for an article in 24: ask for fewer"


def test_a_saved_copy_of_a_classifier_keeps_the_names_of_its_labels(data: Path) -> None:
    folder = classify(data, "run", steps=1).result.folder
    load(folder, "numpy").save(data / "copy")
    assert read_labels(data / "copy") == read_labels(folder) == ("high", "hot")


def test_classify_says_how_probable_each_label_is(data: Path) -> None:
    facts = json.loads(run(*command(data, "classify", "--json", steps=40)).result)
    assert facts["evaluation"]["scores"]["model"] == {"accuracy": 100.0}
    assert "perplexity" not in facts
    used = ["classify", data / "run", "--backend", "numpy"]
    found = json.loads(run(*used, "天地", "--json").result)["labels"][0]
    assert found["label"] == "high"
    lines = run(*used, "天地").result.splitlines()
    assert lines == [f"{label}\t{chance:.4f}" for label, chance in found["probabilities"].items()]
    both = run(*used, "--file", data / "texts.jsonl", "--batch-size", 5).result.splitlines()
    assert [line.split("\t")[0] for line in both] == [one["label"] for one in texts(24)]
    assert "was cut at its end" in run(*used, "天" * 30).err


def test_a_folder_of_the_other_kind_is_refused(data: Path) -> None:
    summarize(data, "run", steps=1)
    classify(data, "labels", steps=1)
    assert run("classify", data / "run", "天").refusal.endswith("use `gpt2 summarize`, or another folder")
    assert run("summarize", data / "labels", "天").refusal.endswith("use `gpt2 classify`, or another folder")
    for kind, folder in (("classify", "run"), ("summarize", "labels")):
        assert "holds a run of another kind" in run(*command(data, kind, "--resume", output=folder)).refusal
    assert run("summarize", data / "run").refusal == "give either a TEXT or --file"
    assert run("summarize", data / "run", " ").refusal == "the text is empty: give some words"
    for name in ("run", "labels"):
        (data / name / finetune_run.TASK).unlink()
    assert "no classification head" in run("classify", data / "run", "天").refusal


def test_an_interrupted_command_says_what_to_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Summarizer, "write", Mock(side_effect=KeyboardInterrupt))  # a worker of pytest has no Ctrl-C
        ran = run(*command(data, "summarize"))
    assert (ran.code, ran.err) == (130, "gpt2: interrupted in the evaluation: --resume continues from there\n")
    assert run(*command(data, "summarize", "--resume")).result


# Bad data.

BAD_PAIRS: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"article": ', "line 2 is not valid JSON"),
    "no article": ('{"article": " ", "summarization": "天"}'.encode(), "line 2 has nothing in 'article'"),
    "a long summary": (
        json.dumps({"article": "天", "summarization": "天" * 22}).encode(),
        "line 2: the sample has 26 tokens, with 25 of them outside the field 'article', but",
    ),
    "another encoding": ('{"article": "天", "summarization": "地"}'.encode("gbk"), "line 2 holds the byte 0xcc"),
    "no such field": (b'{"article": "a", "title": "b"}', "line 2 has no field 'summarization'"),
}
BAD_TEXTS: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"text": ', "line 2 is not valid JSON"),
    "no text": (b'{"text": "", "label": "hot"}', "line 2 has nothing in 'text'"),
    "no label": (b'{"text": "a"}', "line 2 has no field 'label'"),
    "an empty label": (b'{"text": "a", "label": ""}', "line 2 has nothing in 'label'"),
    "another encoding": ('{"text": "天", "label": "hot"}'.encode("gbk"), "line 2 holds the byte 0xcc"),
    "no token": (b'{"text": "\\u200b", "label": "hot"}', "line 2: the text holds no token"),
}
BAD = [("summarize", *each) for each in BAD_PAIRS.values()] + [("classify", *each) for each in BAD_TEXTS.values()]


@pytest.mark.parametrize(("kind", "line", "message"), BAD, ids=[*BAD_PAIRS, *BAD_TEXTS])
def test_bad_data_is_named_by_its_line_or_left_out_and_counted(
    kind: str, line: bytes, message: str, data: Path
) -> None:
    source = {"summarize": "pairs.jsonl", "classify": "texts.jsonl"}[kind]
    good = (data / source).read_bytes().splitlines(keepends=True)
    (data / "bad.jsonl").write_bytes(b"".join([good[0], line, b"\n", *good[1:]]))
    assert message in run(*command(data, kind, file="bad.jsonl")).refusal
    assert not (data / "run").exists()
    for name in ("bad.jsonl", source):
        ran = run(*command(data, kind, "--skip-bad", file=name, output=f"of {name}"))
        assert ran.code == 0, ran
    bits = [(data / f"of {name}" / WEIGHTS).read_bytes() for name in ("bad.jsonl", source)]
    assert bits[0] == bits[1]
    assert evaluation(data / "of bad.jsonl")["samples"] == 6
    if message != BAD_PAIRS["a long summary"][1]:  # that one can be asked for, and compared with
        test = ["--test", data / "bad.jsonl"]
        assert message in run(*command(data, kind, *test, output="strict")).refusal
        assert run(*command(data, kind, "--skip-bad", *test, output="tested")).code == 0
        assert (evaluation(data / "tested")["samples"], evaluation(data / "tested")["skipped"]) == (24, 1)


def test_an_unknown_column_and_labels_that_cannot_be_are_refused(data: Path) -> None:
    (data / "a.tsv").write_text("天地\t天\n" * 8, encoding="utf-8")
    assert "has no column 'article'" in run(*command(data, "summarize", file="a.tsv")).refusal
    assert "has no column 'label'" in run(*command(data, "classify", "--text", 1, file="a.tsv")).refusal
    options = ["--text", 1, "--label", 2]
    assert "has one label only, '天'" in run(*command(data, "classify", *options, file="a.tsv")).refusal
    lines_of(data / "test.jsonl", [{"text": "天", "label": "cold"}])
    message = run(*command(data, "classify", "--test", data / "test.jsonl")).refusal
    assert message.endswith("line 1: the classifier has no label 'cold', only 'high', 'hot'")


def test_columns_by_number_serve_both(data: Path) -> None:
    rows = [f"{one['article']}\t{one['summarization']}\t{i % 2}" for i, one in enumerate(pairs(24))]
    (data / "a.tsv").write_text("\n".join(rows), encoding="utf-8")
    facts = run(*command(data, "summarize", "--article", 1, "--summary", 2, "--json", file="a.tsv")).result
    assert json.loads(facts)["evaluation"]["scores"]["lead"]["rougeL"] == 100
    facts = run(*command(data, "classify", "--text", 1, "--label", 3, "--json", file="a.tsv", output="labels")).result
    assert json.loads(facts)["evaluation"]["labels"] == ["0", "1"]


# Its parts.


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [("一种New方法。好", 3, "一种New"), ("one, two three", 2, "one, two"), ("a", 5, "a"), ("。", 1, "")],
)
def test_the_lead_is_counted_as_rouge_counts(text: str, count: int, expected: str) -> None:
    assert lead(text, count) == expected


def test_lengths_are_those_that_rouge_sees() -> None:
    assert mean_length(["一种方法", "New way", "。"]) == 2
    assert mean_length(["。"]) == 1


def test_labels_are_in_order_and_numbers_by_their_size(tmp_path: Path) -> None:
    settings, own = DataConfig(label="label", held_out=0), train_tokenizer("characters", ["ab"])
    file = lines_of(tmp_path / "a.jsonl", [{"text": "ab", "label": label} for label in (10, 9, "1")])
    corpus = read_corpus(file, settings, 8, own)
    assert corpus.labels == ("1", "9", "10")
    assert corpus.training["labels"].tolist() == [2, 1, 0]
    assert corpus.training["attention_mask"].sum(axis=1).tolist() == [2, 2, 2]
    file = lines_of(tmp_path / "b.jsonl", [{"text": "ab", "label": label} for label in ("b", "a", "b")])
    assert read_corpus(file, settings, 8, own).labels == ("a", "b")


def test_both_pipelines_give_labels_alike(data: Path) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: there is one pipeline only")
    one, other = (classify(data, name, pipeline=name).result.folder for name in ("numpy", "mindspore"))
    assert (one / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("length", "cut"), [(3, True), (4, False), (9, False)])
def test_the_text_alone_is_cut(length: int, cut: bool, data: Path) -> None:
    tokenizer = load_tokenizer(data / "vocab.txt")
    assert tokenizer is not None
    ids, was_cut = classifier_ids(tokenizer, "天地", length)
    assert ids.tolist() == [2, 5, 6, 3][: length - 1] + [3] * (length < 4) if cut else [2, 5, 6, 3]
    assert was_cut == cut


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "text"}, "data field 'label' must be another field than 'field'"),
        ({"label": "l", "template": "tldr"}, "data field 'template' must be left out where there are labels"),
        ({"label": "l", "layout": "packed"}, "data field 'layout' must be null or 'padded' where there are labels"),
        ({"label": 1}, "data field 'label' must be a string"),
    ],
)
def test_settings_of_labels_that_contradict_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GPT2Error, match=re.escape(message)):
        DataConfig(**changes)


def test_a_folder_carries_its_word_pieces_along(data: Path) -> None:
    folder = summarize(data, "run", steps=1).result.folder
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_bytes((data / "vocab.txt").read_bytes())
    load(folder, "numpy").save(data / "copy")
    assert (data / "copy" / "vocab.txt").is_file()


@pytest.mark.parametrize("names", [{"1": "a", "2": "b"}, {"0": "a", "1": "a"}, {"0": 1, "1": "b"}])
def test_labels_that_are_not_numbered_from_0_are_refused(names: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"id2label": names}))
    with pytest.raises(GPT2Error, match="id2label must name each label by its number"):
        read_labels(tmp_path)
