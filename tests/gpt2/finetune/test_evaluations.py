"""What a fine-tuned model is judged by at the end of its run, and how that is gone on with."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2.backends import Backend, get_backend
from gpt2.evaluation import metrics
from gpt2.finetune import run as finetune_run
from gpt2.finetune.summarizer import Summarizer
from gpt2.model.hf_folder import CONFIG, read_config, read_labels, read_parameters
from gpt2.model.model import Model, load
from gpt2.training.initial_weights import initial_parameters
from parity.verdict.verdict import Reference
from reference.ops import log_softmax
from tests.gpt2.finetune.runs import (
    CONFIG_OF_RUN,
    GENERATION,
    MODEL,
    classify,
    evaluation,
    judged,
    lines_of,
    pairs,
    summarize,
    texts,
)


def test_the_scores_are_those_of_what_was_written(data: Path) -> None:
    outcome = summarize(data, "run")
    found, plan = evaluation(data / "run"), outcome.result.plan
    references = [example["reference"] for example in found["examples"]]
    assert references == [pairs(24)[i]["summarization"] for i in judged(data / "run")]
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
    last = {**CONFIG_OF_RUN, "data": {"held_out": 0.25, "split": "last"}}
    outcome = classify(data, "run", steps=40, config=last)
    found = evaluation(data / "run")
    right = [one["label"] for one in texts(24)[18:]]
    assert [example["label"] for example in found["examples"]] == right
    assert found["scores"]["most frequent label"] == {"accuracy": 100 * right.count("high") / len(right)}
    assert found["scores"]["model"] == {"accuracy": 100.0}
    assert outcome.result.validation_loss < math.log(2)


def test_both_labels_of_a_sorted_file_are_held_out(data: Path, engine: Backend) -> None:
    lines_of(data / "texts.jsonl", sorted(texts(24), key=lambda one: one["label"]))
    outcome = classify(data, "run", steps=1, backend=engine)
    assert Counter(example["label"] for example in evaluation(data / "run")["examples"]) == {"high": 4, "hot": 2}
    assert Counter(outcome.result.plan.corpus.held_out["labels"].tolist()) == {0: 4, 1: 2}


def test_samples_of_one_label_are_told_of(data: Path) -> None:
    one = lines_of(data / "one.jsonl", texts(24)[1:3])
    with pytest.warns(UserWarning, match=rf"^the held-out samples of {one} \(2\) all have one label, 'high': acc"):
        classify(data, "run", steps=1, test=one)
    config = {**CONFIG_OF_RUN, "data": {"held_out": 0.04}}
    with pytest.warns(UserWarning, match=r"^the held-out samples of .*texts.jsonl \(1\) all have one label, 'high'"):
        classify(data, "few", steps=1, config=config)


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
