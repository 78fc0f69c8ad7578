"""Fine-tuning: run `gpt2.training.train` with the settings of a task, then evaluate the model on that task.

`train` does everything else: checkpoints, resuming, the same bits after an interruption.
"""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from gpt2.backends import Backend, get_backend
from gpt2.data.corpus import read_labelled, warn_of_one_label
from gpt2.data.records import BrokenLines, Record, read_records
from gpt2.data.settings import DataConfig
from gpt2.data.templates import TASKS, Template
from gpt2.errors import GPT2Error
from gpt2.evaluation import metrics
from gpt2.files import write_text, write_whole
from gpt2.finetune.classifier import Classifier
from gpt2.finetune.summarizer import GENERATION, Summarizer, lead, mean_length
from gpt2.json_input import read_json
from gpt2.model import hf_folder
from gpt2.model.model import Model, load
from gpt2.model.tensors import WEIGHTS
from gpt2.tokenizer import KINDS, load_tokenizer
from gpt2.training import recipe, run
from gpt2.training.plan import Plan

SUMMARIZE, CLASSIFY = "summarize", "classify"
TASK, EVALUATION, PART = "task.json", "evaluation.json", "evaluation.part.jsonl"
SCORES = ("rouge1", "rouge2", "rougeL")
BATCH_SIZE = 16  # samples per batch of the evaluation
VOCABULARY = 8192
MODEL = {"n_positions": 256, "n_embd": 192, "n_layer": 4, "n_head": 4}  # a new model
# accumulate_step, max_grad_norm and the warm-up are the course's, for both tasks.
TRAINING = {"schedule": "linear", "accumulate_step": 2, "max_grad_norm": 1.0, "weight_decay": 0.01}
NEW_RATE, PRETRAINED_RATE = 1e-3, 1e-4

Facts = dict[str, Any]
Count = Callable[[str, int, int], Any]


@dataclasses.dataclass(frozen=True)
class FinetuneResult:
    """The result of fine-tuning. evaluation: None if it was interrupted, or there were no samples."""

    result: run.TrainingResult
    evaluation: Facts | None
    interrupted: bool


def summarize(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    article: str | None = None,
    summary: str | None = None,
    tokenizer: str | None = None,
    skip_bad: bool | None = None,
    generation: Mapping[str, Any] | None = None,
    limit: int | None = None,
    batch: int = BATCH_SIZE,
    count: Count = lambda what, done, of: None,
    **options: Any,
) -> FinetuneResult:
    """Train a summariser on pairs; compare its ROUGE with that of the untrained model and of the article's beginning.

    data, test: JSON or tables. article, summary: fields, or columns by number from 1 (default: those of NLPCC 2017).
    Without test, the held-out share is used. tokenizer: as in the data settings (default: the model's, or a byte-pair
    encoding trained on data). generation: options of `Model.generate_all` that override the course's.
    limit: evaluate only the first samples; batch: samples per batch; count: a callback that gets the progress.
    options: those of `gpt2.training.train`. With resume, an interrupted evaluation is resumed too.
    Raises GPT2Error as `train` does.
    """
    metrics.rouge(["a"], ["a"])  # fail before training if the package is missing
    settings = _Settings(SUMMARIZE, Path(data), Path(output), options)
    settings.change(tokenizer=tokenizer, skip_bad=skip_bad or None)
    settings.lay_out(article, summary)
    return _run(
        settings,
        data,
        output,
        options,
        lambda engine, result: _judge_summaries(
            engine,
            result,
            None if test is None else Path(test),
            dict(GENERATION) | dict(generation or {}),
            limit,
            batch,
            count,
        ),
    )


def classify(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    text: str | None = None,
    label: str | None = None,
    tokenizer: str | None = None,
    skip_bad: bool | None = None,
    limit: int | None = None,
    batch: int = BATCH_SIZE,
    count: Count = lambda what, done, of: None,
    **options: Any,
) -> FinetuneResult:
    """Train a classifier on labelled texts; compare its accuracy with that of the most frequent label.

    text, label: fields or columns; the other arguments are those of `summarize`. config.json holds the labels, in
    order, as id2label. If model is a language model, it gets a classification head initialised from the seed.
    """
    settings = _Settings(CLASSIFY, Path(data), Path(output), options)
    settings.change(tokenizer=tokenizer, skip_bad=skip_bad or None, field=text, label=label)
    return _run(
        settings,
        data,
        output,
        options,
        lambda engine, result: _judge_labels(engine, result, None if test is None else Path(test), limit, batch, count),
    )


class _Settings:
    """The settings of a run by section: those given override those of the resumed run, or the defaults of the task."""

    def __init__(self, task: str, data: Path, output: Path, options: Facts) -> None:
        before = run.settings_before(output) if options.get("resume") else None
        given = recipe.sections_for(options.get("config"), data, options.get("format"), options.get("encoding"))
        self.given, self.begun, self.model = given, before is not None, options.get("model")
        base = _defaults(task, self.model, options.get("steps")) if before is None else before["config"]
        if before is not None and bool(base["data"].get("label")) != (task == CLASSIFY):
            raise GPT2Error(f"{output} holds a run of another kind: resume it with the command that began it")
        if "template" in given["data"]:
            base["data"] = {name: x for name, x in base["data"].items() if name not in ("output", "truncate")}
        self.sections = {
            "model": given["model"] or base["model"],
            "training": base["training"] | given["training"],
            "data": base["data"] | given["data"],
        }

    def change(self, **data: Any) -> None:
        """Override data settings; None changes nothing."""
        self.sections["data"] |= {name: value for name, value in data.items() if value is not None}
        if not self.begun and self.model is None and not self.sections["data"].get("tokenizer"):
            self.sections["data"]["tokenizer"] = "bpe"
            self.sections["model"] = {"vocab_size": VOCABULARY} | self.sections["model"]

    def lay_out(self, article: str | None, summary: str | None) -> None:
        """Set the template of a summary with these fields, unless a template is set and no field is named."""
        data = self.sections["data"]
        if article is None and summary is None and data.get("template"):
            return
        known = TASKS[SUMMARIZE].template
        fields = (article or data.get("truncate") or known.truncate, summary or data.get("output") or known.output)
        data |= _layout(*fields, self._tokenizer())

    def _tokenizer(self) -> Tokenizer | None:
        """The tokenizer, if it exists already."""
        chosen = self.sections["data"].get("tokenizer")
        if chosen:
            return None if chosen in KINDS else load_tokenizer(Path(chosen))
        return None if self.model is None else load_tokenizer(hf_folder.find_folder(self.model))


def _defaults(task: str, model: str | None, steps: int | None) -> recipe.Sections:
    steps = run.STEPS if steps is None else steps
    rate = NEW_RATE if model is None else PRETRAINED_RATE
    return {
        "model": dict(MODEL) if model is None else {},
        "training": TRAINING | {"learning_rate": rate, "warmup_steps": min(2000, steps // 10)},
        "data": {"layout": "padded"} | ({"label": "label"} if task == CLASSIFY else {}),
    }


def _layout(article: str, summary: str, tokenizer: Tokenizer | None) -> Facts:
    """The course's template, or TL;DR for a tokenizer without [CLS] and [SEP], such as GPT-2's."""
    bert = tokenizer is None or None not in (tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]"))
    known = TASKS[SUMMARIZE if bert else "tldr"].template
    names = {known.truncate: f"{{{article}}}", known.output: f"{{{summary}}}"}
    return {"template": known.text.format(**names), "output": summary, "truncate": article}


def _run(
    settings: _Settings,
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: Facts,
    judge: Callable[[Backend, run.TrainingResult], Facts | None],
) -> FinetuneResult:
    """Train, write task.json to the folder, and evaluate."""
    named = options.get("backend")
    engine = named
    if named is None or isinstance(named, str):
        engine = get_backend(named, options.get("device"), options.get("dtype"), options.get("mode"))
    assert engine is not None
    rest = {name: x for name, x in options.items() if name not in ("backend", "device", "dtype", "mode")}
    result = run.train(data, output, **rest | {"config": settings.sections}, backend=engine)
    _write(result.folder / TASK, _task(result.plan))
    if result.interrupted:
        return FinetuneResult(result, None, True)
    try:
        return FinetuneResult(result, judge(engine, result), False)
    except KeyboardInterrupt:
        return FinetuneResult(result, None, True)


def _task(plan: Plan) -> Facts:
    """How samples were laid out, for the commands that use the model."""
    data, length = plan.recipe.data, plan.corpus.facts["block_size"]
    template = data.layout_template()
    if template is None:
        return {"task": CLASSIFY, "field": data.field, "label": data.label, "block_size": length}
    names = {"template": template.text, "output": template.output, "truncate": template.truncate}
    return {"task": SUMMARIZE, **names, "block_size": length}


def read_task(folder: Path) -> Facts:
    """The contents of a folder's task.json; empty if there is none. Raises GPT2Error if it is damaged."""
    path = folder / TASK
    return read_json(path, Facts, "; recreate it with gpt2 finetune") if path.is_file() else {}


def _write(path: Path, facts: Facts) -> None:
    write_text(path, json.dumps(facts, ensure_ascii=False, indent=2) + "\n")


def untrained(plan: Plan, engine: Backend) -> Model:
    """The model of a run before its first step."""
    folder = plan.given["model"]
    first = dataclasses.replace(plan, start=None if folder is None else hf_folder.find_folder(folder))
    return Model(plan.recipe.model, dict(first.parameters()), engine, plan.corpus.tokenizer)


# Summaries.


def _judge_summaries(
    engine: Backend,
    result: run.TrainingResult,
    test: Path | None,
    generation: Facts,
    limit: int | None,
    batch: int,
    count: Count,
) -> Facts | None:
    """ROUGE of the model, of the untrained model, and of the article's beginning. None without samples."""
    plan, data = result.plan, result.plan.recipe.data
    template, broken = _template(data), BrokenLines(data.skip_bad)
    records = list(
        plan.corpus.held_out_records
        if test is None
        else read_records(test, template, broken, data.format, data.encoding)
    )[:limit]
    model = load(result.folder, engine)
    trained = Summarizer(model, template, plan.corpus.facts["block_size"], generation)
    prompts, judged = [], []
    for record in records:
        with broken.at(record.where):
            prompts.append(trained.prompt(record.values)[0])
            judged.append(record)
    if not judged:
        return None
    facts: Facts = {
        "task": SUMMARIZE,
        "data": str(test or "held-out share"),
        "samples": len(judged),
        "skipped": len(broken.messages),
        "generation": generation,
    }
    weights = hashlib.sha256((result.folder / WEIGHTS).read_bytes()).hexdigest()
    of = hashlib.sha256(json.dumps([facts, weights, prompts]).encode()).hexdigest()
    path = result.folder / EVALUATION
    done = read_json(path, Facts, "; remove it to evaluate again") if path.is_file() else {}
    if done.get("of") == of:
        return done
    facts["of"] = of
    kept = _Kept(result.folder / PART, of)
    answers = {"model": kept.answers("model", trained, prompts, batch, count)}
    first = dataclasses.replace(trained, model=untrained(plan, engine))
    answers["untrained"] = kept.answers("untrained", first, prompts, batch, count)
    references = [record.values[template.output] for record in judged]
    article = template.truncate or trained.article
    answers["lead"] = [lead(record.values[article], mean_length(references)) for record in judged]
    scores = {name: metrics.rouge(texts, references) for name, texts in answers.items()}
    facts["scores"] = {name: {score: found[score] for score in SCORES} for name, found in scores.items()}
    facts["examples"] = [
        {"where": record.where, "article": record.values[article], "reference": references[i]}
        | {name: texts[i] for name, texts in answers.items()}
        for i, record in enumerate(judged)
    ]
    _write(path, facts)
    kept.remove()
    return facts


def _template(data: DataConfig) -> Template:
    template = data.layout_template()
    assert template is not None
    return template


class _Kept:
    """Saves answers to disk batch by batch, so that an interrupted evaluation loses at most one batch."""

    def __init__(self, path: Path, of: str) -> None:
        self._path = path
        self._answers: dict[str, list[str]] = {}
        for line in self._lines(of):
            self._answers.setdefault(line["who"], []).extend(line["answers"])

    def _lines(self, of: str) -> list[Facts]:
        """The complete lines saved by the same evaluation; an incomplete last line is dropped."""
        raw = self._path.read_bytes() if self._path.is_file() else b""
        lines = raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines or json.loads(lines[0]) != {"of": of}:
            lines = [json.dumps({"of": of}).encode() + b"\n"]
        with write_whole(self._path) as part:
            part.write_bytes(b"".join(lines))
        return [json.loads(line) for line in lines[1:]]

    def answers(
        self, who: str, summarizer: Summarizer, prompts: Sequence[Sequence[int]], batch: int, count: Count
    ) -> list[str]:
        """The answer to each prompt; saved answers are not generated again."""
        saved = self._answers.setdefault(who, [])
        before = len(saved)
        with self._path.open("a", encoding="utf-8") as file:
            for answers in summarizer.write_all(prompts[before:], batch):
                saved += answers
                print(json.dumps({"who": who, "answers": answers}), file=file, flush=True)
                count(f"summaries, {who}", len(saved), len(prompts))
        return saved

    def remove(self) -> None:
        """Delete the file, as the evaluation is complete."""
        self._path.unlink()


# Labels.


def _judge_labels(
    engine: Backend, result: run.TrainingResult, test: Path | None, limit: int | None, batch: int, count: Count
) -> Facts | None:
    """Accuracy of the model, and of the most frequent training label, in percent. None without samples."""
    plan, data = result.plan, result.plan.recipe.data
    labels, broken = plan.corpus.labels, BrokenLines(data.skip_bad)
    classifier = Classifier(load(result.folder, engine), labels, plan.corpus.facts["block_size"])
    records: Sequence[Record] = plan.corpus.held_out_records
    if test is not None:
        records = read_labelled(test, data, labels, broken)
        warn_of_one_label(test, [record.values[data.label] for record in records])
    rows, judged = [], []
    for record in records[:limit]:
        with broken.at(record.where):
            rows.append(classifier.read(record.values[data.field])[0])
            judged.append(record)
    if not judged:
        return None
    chances = classifier.probabilities(rows, batch, lambda done: count("labels", done, len(rows)))
    often = labels[Counter(plan.corpus.training["labels"].tolist()).most_common(1)[0][0]]
    right = [record.values[data.label] for record in judged]
    predicted = [labels[i] for i in chances.argmax(axis=1)]
    facts = {
        "task": CLASSIFY,
        "data": str(test or "held-out share"),
        "samples": len(judged),
        "skipped": len(broken.messages),
        "labels": list(labels),
        "most_frequent": often,
        "scores": {
            "model": {"accuracy": _share(predicted, right)},
            "most frequent label": {"accuracy": _share([often] * len(right), right)},
        },
        "examples": [
            {
                "where": record.where,
                "text": record.values[data.field],
                "label": right[i],
                "predicted": predicted[i],
                "probability": float(chances[i].max()),
            }
            for i, record in enumerate(judged)
        ],
    }
    _write(result.folder / EVALUATION, facts)
    return facts


def _share(answers: Sequence[str], right: Sequence[str]) -> float:
    """Share of equal pairs, in percent."""
    return 100 * sum(map(str.__eq__, answers, right)) / len(right)
