"""Folders that Hugging Face transformers loads: here they are the same model, with one note on what is left out."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gpt2
from gpt2.backends import Backend
from gpt2.generation.saved import read_saved
from gpt2.model.hf_folder import CONFIG
from reference.config import GPT2Config
from tests.gpt2.command import run
from tests.gpt2.small import SMALL, byte_folder, folder_of, model, parameters

Array = NDArray[Any]
IDS = np.array([[1, 2, 3]])


def noted(folder: Path, backend: Backend) -> tuple[gpt2.Model, list[str]]:
    """The model in a folder, and what loading it gives to note."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        loaded = gpt2.load(folder, backend)
    return loaded, [str(note.message) for note in notes]


HEADS = {
    "a value head": {"v_head.summary.weight": (1, 16), "v_head.summary.bias": (1,)},
    "double heads": {"multiple_choice_head.summary.weight": (1, 16), "multiple_choice_head.summary.bias": (1,)},
    "token classification": {"classifier.weight": (5, 16), "classifier.bias": (5,)},
    "question answering": {"qa_outputs.weight": (2, 16), "qa_outputs.bias": (2,)},
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_without_a_place_is_left_out_with_one_note(head: str, engine: Backend, tmp_path: Path) -> None:
    extra = {name: np.ones(shape, np.float32) for name, shape in HEADS[head].items()}
    loaded, notes = noted(folder_of(tmp_path / "folder", SMALL, parameters() | extra), engine)
    assert (loaded.logits(IDS) == model(engine).logits(IDS)).all()
    assert len(notes) == 1
    assert all(name in notes[0] for name in extra), notes
    assert run("info", tmp_path / "folder").err.count("\n") == 1


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("inner", ["", "transformer."])
def test_wrappers_in_names_mean_nothing(prefix: str, inner: str, tmp_path: Path) -> None:
    wrapped = {f"{prefix}{inner}{name}": x for name, x in parameters().items()}
    loaded, notes = noted(folder_of(tmp_path / "folder", SMALL, wrapped), gpt2.backends.get_backend("numpy"))
    assert notes == []
    assert all((loaded.parameters[name] == x).all() for name, x in parameters().items())


def test_two_tensors_that_differ_by_a_wrapper_are_refused(tmp_path: Path) -> None:
    twice = parameters() | {"module.ln_f.bias": parameters()["ln_f.bias"]}
    assert "ln_f.bias is there twice" in run("info", folder_of(tmp_path / "folder", SMALL, twice)).refusal


@pytest.mark.parametrize("extra", ["h.0.attn.c_attn.lora_A", "h.7.ln_1.weight", "wte.extra", "ln_f.scale"])
def test_what_the_body_has_no_place_for_is_refused(extra: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", SMALL, parameters() | {extra: np.ones(1, np.float32)})
    assert f"unexpected {extra}" in run("info", folder).refusal


def test_n_ctx_has_no_say() -> None:
    for n_ctx in (1, SMALL.n_positions + 1, None, "12"):
        assert GPT2Config.from_dict(SMALL.to_dict() | {"n_ctx": n_ctx}) == SMALL


# Options of generation in the folder.


def continued(folder: Path, *options: Any) -> tuple[list[int], str]:
    """The new ids after 1 2 3, and the notes."""
    ran = run("generate", folder, "--ids", "1 2 3", "--json", *options)
    assert ran.code == 0, ran
    return json.loads(ran.out)["new_ids"], ran.err


@pytest.fixture
def talker(tmp_path: Path) -> Path:
    """A folder to which a test adds options of generation."""
    return folder_of(tmp_path / "talker")


def say(folder: Path, file: str = "generation_config.json", **fields: Any) -> Path:
    path = folder / file
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | fields))
    return folder


@pytest.mark.parametrize("file", [CONFIG, "generation_config.json"])
@pytest.mark.parametrize("backend", ["numpy", "mindspore"])
def test_several_ids_may_end_a_text(file: str, backend: str, talker: Path) -> None:
    if backend == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    engine = ("--backend", backend, "--mode", "pynative" if backend == "mindspore" else "eager")
    whole, _ = continued(talker, *engine)
    never = next(i for i in range(SMALL.vocab_size) if i not in whole)
    say(talker, file, eos_token_id=[never, whole[2]])
    first = whole.index(whole[2])
    assert continued(talker, *engine)[0] == whole[: first + 1]
    assert continued(talker, *engine, "--stop-id", never)[0] == whole


def test_a_model_of_several_ends_can_be_saved(talker: Path, tmp_path: Path) -> None:
    gpt2.load(say(talker, CONFIG, eos_token_id=[3, 4])).save(tmp_path / "again")
    assert gpt2.load(tmp_path / "again").end_ids == (3, 4)
    gpt2.load(say(talker, eos_token_id=[5, 6])).save(tmp_path / "once more")
    assert gpt2.load(tmp_path / "once more").end_ids == (5, 6)


PROMPT = ("--ids", "1 2 3", "--json")
# Fields of the file, and the options of the command line that do the same.
ALIKE: list[tuple[dict[str, Any], list[Any]]] = [
    ({"max_new_tokens": 4}, ["--max-new-tokens", 4]),
    ({"max_length": 7}, ["--max-new-tokens", 4]),
    ({"max_length": 7, "max_new_tokens": 5}, ["--max-new-tokens", 5]),
    ({"do_sample": True}, ["--temperature", 1, "--top-k", 50]),
    ({"do_sample": True, "temperature": 2.0, "top_k": 0, "top_p": 0.9}, ["--temperature", 2, "--top-p", 0.9]),
    ({"do_sample": True, "top_k": 3, "min_p": 0.1}, ["--temperature", 1, "--top-k", 3, "--min-p", 0.1]),
    ({"do_sample": True, "top_k": 0, "typical_p": 0.3}, ["--temperature", 1, "--typical-p", 0.3]),
    ({"do_sample": False, "temperature": 2.0, "top_k": 3, "typical_p": 0.3}, []),
    ({"repetition_penalty": 3.0}, ["--repetition-penalty", 3]),
    ({"no_repeat_ngram_size": 1}, ["--no-repeat-ngram-size", 1]),
    ({"num_beams": 3, "length_penalty": 2.0}, ["--num-beams", 3, "--length-penalty", 2]),
    ({"num_beams": 3, "early_stopping": True}, ["--num-beams", 3, "--early-stopping", "yes"]),
    ({"num_beams": 2, "num_return_sequences": 2}, ["--num-beams", 2, "--n", 2]),
    ({"length_penalty": 2.0, "early_stopping": True}, []),
    ({"bad_words_ids": [[9], [21]]}, ["--bad-ids", 9, "--bad-ids", 21]),
    ({"do_sample": False, "temperature": None, "top_k": 50}, []),
]


@pytest.mark.parametrize(("fields", "options"), ALIKE, ids=repr)
def test_the_folder_says_what_the_command_line_says(fields: dict[str, Any], options: list[Any], talker: Path) -> None:
    expected = run("generate", talker, "--ids", "1 2 3", "--json", *options)
    ran = run("generate", say(talker, **fields), "--ids", "1 2 3", "--json")
    assert json.loads(ran.out) == json.loads(expected.out)
    notes = ran.err.splitlines()
    assert len(notes) == bool(options)
    assert all(note.startswith("gpt2: note: taken from generation_config.json: ") for note in notes)


@pytest.mark.parametrize(
    ("of_config", "of_generation", "first"), [(4, None, 4), (None, 5, 5), (4, 5, 5)], ids=["config", "newer", "both"]
)
def test_an_empty_prompt_begins_where_texts_begin(
    of_config: int | None, of_generation: int | None, first: int, talker: Path
) -> None:
    say(talker, CONFIG, bos_token_id=of_config)
    say(talker, bos_token_id=of_generation)
    expected = run("generate", talker, "--ids", first, "--json").result
    assert run("generate", talker, "", "--json").result == expected
    assert run("generate", talker, "-", "--json", stdin="").result == expected
    assert run("generate", talker, "--ids", " ", "--json").result == expected


def test_what_is_no_id_begins_no_text(talker: Path) -> None:
    say(talker, CONFIG, bos_token_id=31)
    assert "bos_token_id: 31 is outside the vocabulary" in run("generate", talker, "").refusal
    say(talker, CONFIG, bos_token_id=None)
    assert "the prompt is empty, and no bos_token_id" in run("generate", talker, "").refusal


def test_who_samples_without_a_word_on_top_k_has_fifty(tmp_path: Path) -> None:
    """As transformers does; the chances of the tokens tell."""
    folder = byte_folder(tmp_path / "speaker")
    fifty = run("generate", folder, *PROMPT, "--temperature", 1, "--top-k", 50).result
    assert fifty != run("generate", folder, *PROMPT, "--temperature", 1).result
    assert run("generate", say(folder, do_sample=True), *PROMPT).out == fifty


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"num_beams": 3}, ["--temperature", 1]),
        ({"do_sample": True, "top_k": 3}, ["--num-beams", 3]),
        ({"do_sample": True}, ["--temperature", 0]),
        ({"max_new_tokens": 4}, ["--max-new-tokens", 9]),
        ({"max_length": 7, "min_length": 5}, ["--max-new-tokens", 9, "--min-new-tokens", 0]),
        ({"max_length": 3}, ["--max-new-tokens", 9]),
        ({"repetition_penalty": 3.0}, ["--repetition-penalty", 1]),
        ({"bad_words_ids": [[9]]}, ["--bad-ids", 3]),
    ],
    ids=repr,
)
def test_the_command_line_goes_before_the_folder(fields: dict[str, Any], options: list[Any], talker: Path) -> None:
    expected = continued(talker, *options)
    assert continued(say(talker, **fields), *options) == expected


def test_a_config_of_old_holds_options_too(talker: Path) -> None:
    short = continued(talker)[0][:2]
    new, note = continued(say(talker, CONFIG, max_length=5))
    assert new == short
    assert note == "gpt2: note: taken from config.json: max_length = 5\n"
    assert len(continued(say(talker, max_new_tokens=4))[0]) == 4


def test_a_least_length_counts_the_prompt(talker: Path) -> None:
    ends = continued(talker)[0][0]
    say(talker, eos_token_id=ends)
    assert len(continued(talker)[0]) == 1
    assert len(continued(say(talker, min_length=7))[0]) >= 5
    saved = read_saved(talker)
    assert saved.after(3, saved.lengths(())) == {"min_new_tokens": 4}
    assert saved.after(9, saved.lengths(())) == {"min_new_tokens": 0}


def test_what_is_not_offered_is_named(talker: Path) -> None:
    _, note = continued(say(talker, epsilon_cutoff=0.9, penalty_alpha=0.6, diversity_penalty=0.0))
    assert "not offered here, and left out of generation_config.json: epsilon_cutoff, penalty_alpha\n" in note


def test_a_file_without_an_end_has_none_and_says_so(talker: Path) -> None:
    """As in transformers, where the config has no say beside generation_config.json."""
    whole, _ = continued(talker)
    say(talker, CONFIG, eos_token_id=whole[0])
    assert len(continued(talker)[0]) == 1
    new, note = continued(say(talker, pad_token_id=0))
    assert new == whole
    assert "no eos_token_id" in note


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eos_token_id": "x"}, "eos_token_id must be null, an integer or a list of integers, but is 'x'"),
        ({"eos_token_id": []}, "eos_token_id must be"),
        ({"pad_token_id": [1]}, "pad_token_id must be"),
        ({"num_beams": "many"}, "num_beams must be"),
        ({"max_length": -1}, "max_length must be"),
        ({"do_sample": True, "temperature": "hot"}, "temperature must be"),
        ({"do_sample": "false"}, "do_sample must be true or false, but is 'false'"),
        ({"max_length": 3}, "the prompt has 3 tokens"),
        ({"do_sample": True, "num_beams": 3}, "3 beams that sample"),
    ],
    ids=repr,
)
def test_a_bad_option_is_named_with_its_file(fields: dict[str, Any], said: str, talker: Path) -> None:
    ran = run("generate", say(talker, **fields), "--ids", "1 2 3")
    assert ran.code == 2
    assert said in ran.err
    assert "generation_config.json" in ran.err


@pytest.mark.parametrize("fields", [{}, {"do_sample": True, "num_beams": 2}], ids=repr)
def test_what_the_command_line_contradicts_itself_in_is_not_laid_to_a_file(
    fields: dict[str, Any], talker: Path
) -> None:
    ran = run("generate", say(talker, **fields), "--ids", "1 2 3", "--num-beams", 3, "--temperature", 1)
    assert ran.code == 2
    assert "beam search does not sample: give either num_beams above 1 or a temperature above 0" in ran.err
    assert "asks for" not in ran.err


def test_batches_of_prompts_take_the_same_options(tmp_path: Path) -> None:
    folder = byte_folder(tmp_path / "speaker")
    (tmp_path / "prompts.txt").write_text("abc\nxyz\n", encoding="utf-8")
    say(folder, max_length=8)
    ran = run("generate", folder, "--prompts", tmp_path / "prompts.txt", "--json")
    assert [len(one["new_ids"]) for one in json.loads(ran.out)["continuations"]] == [5, 5]
