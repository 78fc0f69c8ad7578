"""A model with BERT's vocabulary goes on with its prompt and ends where its texts end."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import gpt2
from gpt2.backends import Backend, get_backend
from gpt2.data.rows import classifier_ids
from gpt2.data.templates import Template
from gpt2.evaluation.generation_tasks import Prompt, prompt_ids
from gpt2.evaluation.likelihood import continuation
from gpt2.lesson.payload import build
from gpt2.tokenizer import bert_tokenizer, decode, end_id
from reference.config import GPT2Config
from tests.gpt2.command import run
from tests.gpt2.small import parameters

TEXTS = ["这是很久之前的事情了", "今天NBA天气好，去公园。"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set("".join(TEXTS)) - set("NBA")), "nba"]
PROMPT, REST = "这是很久", "之前的事情了"
MODEL = {"n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 16}
STILL = {"embd_pdrop": 0, "attn_pdrop": 0, "resid_pdrop": 0}


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocab.txt of the characters that occur, and one word."""
    path = tmp_path_factory.mktemp("data") / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chinese(vocab: Path) -> Tokenizer:
    return bert_tokenizer(vocab)


def trained(folder: Path, vocab: Path, backend: Backend) -> gpt2.Model:
    """A model that knows the texts by heart."""
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 4), encoding="utf-8")
    config = {
        "model": MODEL | STILL,
        "training": {"learning_rate": 2e-2, "schedule": "constant"},
        "data": {"tokenizer": str(vocab), "held_out": 0},
    }
    gpt2.train(data, folder / "run", config=config, steps=20, batch_size=4, backend=backend.name, mode=backend.mode)
    return gpt2.load(folder / "run", backend)


def test_a_trained_model_goes_on_with_a_prompt_and_stops(vocab: Path, engine: Backend, tmp_path: Path) -> None:
    model = trained(tmp_path, vocab, engine)
    tokens = (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert tokens == tuple(map(PIECES.index, ("[CLS]", "[SEP]", "[PAD]")))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPT}\n今天NBA\n", encoding="utf-8")
    options = ("--max-new-tokens", 12, "--backend", engine.name, "--mode", engine.mode)
    assert run("generate", model.folder, PROMPT, *options).result == f"{PROMPT}{REST}\n"
    said, other = json.loads(run("generate", model.folder, "--prompts", prompts, *options, "--json").result)[
        "continuations"
    ]
    assert said["prompt_ids"] == [PIECES.index(piece) for piece in ("[CLS]", *PROMPT)]
    assert said["new_ids"] == [PIECES.index(piece) for piece in (*REST, "[SEP]")]
    assert (said["text"], said["finish_reason"]) == (PROMPT + REST, "stop")
    assert other["text"] == "今天nba天气好，去公园。"


def test_every_prompt_begins_with_cls_and_stays_open(chinese: Tokenizer) -> None:
    config = GPT2Config(vocab_size=len(PIECES), **MODEL)
    model = gpt2.Model(config, parameters(config), get_backend("numpy"), chinese)
    expected = [PIECES.index(piece) for piece in ("[CLS]", *PROMPT)]
    assert model.encode(PROMPT).tolist() == [expected]
    assert model.encode("").tolist() == [expected[:1]]
    assert prompt_ids(model, Prompt("", PROMPT[:2], [PROMPT[2:]], [""]), 1) == expected
    span = continuation(model, PROMPT[:2], PROMPT[2:])
    assert (span.ids.tolist(), span.first) == (expected, 3)
    lesson = build(model, model.encode(PROMPT), breaks=False)
    assert lesson["prompt"]["text"] == PROMPT
    assert lesson["model"]["tokens"] is None  # the page could not put [CLS] before what is typed there


def test_no_spaces_are_printed_between_chinese_characters(chinese: Tokenizer) -> None:
    assert decode(chinese, chinese.encode("今天NBA NBA，去").ids) == "[CLS]今天nba nba，去[SEP]"


def test_what_is_classified_stands_between_cls_and_sep(chinese: Tokenizer) -> None:
    ids, _ = classifier_ids(chinese, PROMPT, 16)
    assert ids.tolist() == chinese.encode(PROMPT).ids


def test_a_sample_of_a_template_begins_and_ends_as_a_text(chinese: Tokenizer) -> None:
    record = {"input": "今天", "output": "去公园"}
    sample = Template("{input}，{output}").lay_out(record, chinese, [end_id(chinese) or 0])
    assert sample.ids.tolist() == chinese.encode("今天，去公园").ids
    own = Template("[CLS]{input}[SEP]{output}[SEP]").lay_out(record, chinese, [end_id(chinese) or 0])
    assert decode(chinese, own.ids.tolist()) == "[CLS]今天[SEP]去公园[SEP]"
