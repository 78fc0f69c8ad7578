"""Fine-tuning wherever it is interrupted, on either backend, and the settings that it begins with."""

import itertools
import signal
from pathlib import Path

import pytest

from gpt2.backends import Batch
from gpt2.data.dropout_masks import draw_keep
from gpt2.evaluation import metrics
from gpt2.finetune import run as finetune_run
from gpt2.finetune.run import _Settings
from gpt2.model.hf_folder import read_parameters
from gpt2.training.metrics_file import read_metrics
from parity.verdict.training_band import Course, training_band
from reference.data import batches
from tests.gpt2.command import run
from tests.gpt2.conftest import usable
from tests.gpt2.finetune.runs import GENERATION, KINDS, MODEL, WEIGHTS, command, evaluation, lines_of, pairs, summarize


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_that_is_interrupted_ends_with_the_same_bits(kind: str, step: int, data: Path) -> None:
    KINDS[kind](data, "whole")
    stop = lambda progress: signal.raise_signal(signal.SIGINT) if progress.step == step else None  # noqa: E731
    stopped = KINDS[kind](data, "run", watch=stop)
    assert stopped.interrupted == stopped.result.interrupted == (step < 4)
    source = {"summarize": "pairs.jsonl", "classify": "texts.jsonl"}[kind]
    function, options = getattr(finetune_run, kind), {} if kind == "classify" else {"generation": GENERATION}
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
    assert (
        _Settings("summarize", data / "pairs.jsonl", data / "none", {"steps": 50}).sections["training"]["warmup_steps"]
        == 5
    )
    template = layout.layout_template()
    assert template is not None
    assert (template.text, template.truncate) == ("[CLS] {article} [SEP] {summarization} [SEP]", "article")
    assert (plan.recipe.model.eos_token_id, plan.recipe.model.pad_token_id) == (3, 0)
    rows = plan.corpus.training
    assert (rows["labels"][rows["attention_mask"] == 0] == -100).all()
    assert _Settings("summarize", data / "pairs.jsonl", data / "none", {}).sections["model"] == finetune_run.MODEL
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
    new = _Settings("summarize", data / "pairs.jsonl", data / "none", {})
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


def test_the_recipe_tiny_leaves_the_data_of_a_task_alone(data: Path) -> None:
    sections = _Settings("summarize", data / "pairs.jsonl", data / "none", {"config": "tiny"}).sections
    assert sections["data"] == {"layout": "padded"}
    assert sections["model"]["n_embd"] == 128


def test_json_lines_are_known_whatever_the_name_of_their_file(data: Path) -> None:
    """NLPCC 2017 hands out train_with_summ.txt, which holds a JSON object per line."""
    (data / "train_with_summ.txt").write_bytes((data / "pairs.jsonl").read_bytes())
    weights = []
    for file, output in (("pairs.jsonl", "one"), ("train_with_summ.txt", "two")):
        ran = run(*command(data, "summarize", file=file, output=output, limit=1))
        assert ran.code == 0, ran.err
        weights.append((data / output / WEIGHTS).read_bytes())
    assert weights[0] == weights[1]
