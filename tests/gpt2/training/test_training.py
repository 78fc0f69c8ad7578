"""A run is killed, stopped, mistreated and moved, and ends with the weights of one that was left alone."""

import dataclasses
import itertools
import json
import math
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import gpt2
from gpt2.backends import Batch, NumPyBackend
from gpt2.data.corpus import Corpus, read_corpus
from gpt2.data.dropout_masks import draw_keep
from gpt2.errors import GPT2Error
from gpt2.interrupt import postponed_interrupt
from gpt2.model.hf_folder import read_config, read_parameters
from gpt2.training import recipe
from gpt2.training import run as training_run
from gpt2.training.checkpoint import latest_checkpoint, read_checkpoint, write_checkpoint
from gpt2.training.initial_weights import initial_parameters
from gpt2.training.metrics_file import read_metrics
from parity.verdict.training_band import Band, Course, training_band
from parity.verdict.verdict import Reference
from reference.config import nest
from reference.data import batches
from reference.model import language_model_loss
from tests.gpt2.command import Ran, run, run_outside
from tests.gpt2.conftest import usable
from tests.gpt2.small import ROOT, folder_of

STEPS, BATCH_SIZE, SEED = 6, 3, 5
MODEL = {
    "n_layer": 1,
    "n_embd": 16,
    "n_head": 2,
    "n_positions": 8,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "resid_pdrop": 0.1,
}
LEARNING = {
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "warmup_steps": 2,
    "accumulate_step": 2,
    "max_grad_norm": 0.5,
}
CONFIG: dict[str, Any] = {"model": MODEL, "training": LEARNING, "data": {}}
CONSTANT = CONFIG | {"training": LEARNING | {"schedule": "constant"}}
WEIGHTS = "model.safetensors"


def write_text(path: Path, characters: int = 700, seed: int = 0) -> Path:
    """A file of random words, each letter of the first few in it."""
    drawn = random.Random(seed)
    path.write_text("abcdefg \n" + "".join(drawn.choice("abcdefg \n") for _ in range(characters)))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """What a run here learns from."""
    return write_text(tmp_path / "text.txt")


def train(data: Path, output: Path, **changes: Any) -> training_run.TrainingResult:
    """The run that the tests here are about, or one that differs in this."""
    usual = {"config": CONFIG, "steps": STEPS, "batch_size": BATCH_SIZE, "seed": SEED, "save_every": 1, "eval_every": 2}
    return gpt2.train(data, output, **{"backend": "numpy", **usual, **changes})


def train_to(step: int) -> Callable[[training_run.TrainingProgress], None]:
    """What, put as watch, ends a run after that step as Ctrl-C does."""
    return lambda progress: signal.raise_signal(signal.SIGINT) if progress.step == step else None


def command(data: Path, output: Path, *more: Any, config: Any = CONFIG, **options: Any) -> list[Any]:
    """The words of `gpt2 train` for the same run; an option that is None is left out."""
    given = {"steps": STEPS, "batch-size": BATCH_SIZE, "seed": SEED, "save-every": 1, "eval-every": 2, **options}
    if config is not None:
        file = data.parent / "settings.json"
        file.write_text(config if isinstance(config, str) else json.dumps(config))
        given["config"] = file
    words = [("--" + name, value) for name, value in given.items() if value is not None]
    return ["train", "--data", data, "--output", output, *itertools.chain(*words), *more]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What a run noted, but for the time that it took."""
    return [
        {name: x for name, x in line.items() if name != "seconds"} for line in read_metrics(folder / "metrics.jsonl")
    ]


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs made the same weights, bit for bit, and noted the same."""
    return (one / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes() and metrics(one) == metrics(other)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints(folder: Path) -> list[str]:
    """The names in the folder of checkpoints."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


# Killed.

# Runs as forks of one process that has all modules loaded. Each counts the calls that Python makes, of functions and of
# what is written in C, and is killed at one of them.
KILLER = """
import json, os, random, signal, sys, traceback
from pathlib import Path

from gpt2.training import run
from tests.gpt2.training.test_training import train

data, folders, kills, backend = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
run.plot_curves = lambda *_: None  # the longest part, after which nothing is left to be done

def attempt(folder, last=0):
    # The number of calls of a run that came to its end, or the functions in which one was killed.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        calls = 0
        def count(frame, event, _):
            nonlocal calls
            calls += event in ("call", "c_call")
            if calls == last:
                names = []
                while frame is not None:
                    names.append(frame.f_code.co_name)
                    frame = frame.f_back
                os.write(writing, json.dumps(names).encode())
                os.kill(os.getpid(), signal.SIGKILL)
        try:
            sys.setprofile(count)
            train(data, folders / folder, resume=True, backend=backend)
            sys.setprofile(None)
            os.write(writing, json.dumps(calls).encode())
            os._exit(0)
        except BaseException:
            sys.setprofile(None)
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    with os.fdopen(reading) as answer:
        return json.load(answer)

drawn = random.Random(0)
total = attempt("whole")
places = []
for i in range(kills):
    last = drawn.randrange(total * i // kills, total * (i + 1) // kills) + 1
    if kills > 1 and i == kills - 1:
        last = total - 99  # in what comes after the last checkpoint
    places.append(attempt(str(i), last))
    attempt(str(i))
chain = 0
while kills > 1 and isinstance(attempt("chain", drawn.randrange(total // 2) + 1), list):
    chain += 1
print(json.dumps({"places": places, "chain": chain}))
"""


def kill(backend: str, kills: int, folder: Path) -> dict[str, Any]:
    """Kill runs in that folder, and go on with them. Returns where they were killed, and how often the last one was."""
    program = f"import os\nos.environ |= {{'OPENBLAS_NUM_THREADS': '1', 'TOKENIZERS_PARALLELISM': '0'}}\n{KILLER}"
    ran = run_outside(write_text(folder / "text.txt"), folder, kills, backend, program=program)
    assert (ran.code, ran.err) == (0, ""), ran.err
    return json.loads(ran.out.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(tmp_path: Path) -> None:
    killed = kill("numpy", 20, tmp_path)
    assert all(isinstance(place, list) for place in killed["places"])
    inside = set(itertools.chain(*killed["places"]))
    assert {"_open_run", "step", "write_snapshot", "write_weights"} <= inside
    assert killed["chain"] >= 1
    assert len(metrics(tmp_path / "whole")) == STEPS + STEPS // 2
    for name in (*map(str, range(20)), "chain"):
        assert same_run(tmp_path / name, tmp_path / "whole"), killed["places"][int(name)] if name != "chain" else name
        assert checkpoints(tmp_path / name) == checkpoints(tmp_path / "whole")


@pytest.fixture(scope="module")
def killed_on_mindspore(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder of runs on MindSpore in graph mode: `whole`, and one or more that were killed once."""
    usable("mindspore graph")
    folder = tmp_path_factory.mktemp("mindspore")
    return folder, kill("mindspore", max(1, settings().max_examples // 150), folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
def test_a_run_killed_on_mindspore_goes_on_to_the_same_end(killed_on_mindspore: tuple[Path, dict[str, Any]]) -> None:
    folder, killed = killed_on_mindspore
    for number, place in enumerate(killed["places"]):
        assert isinstance(place, list)
        assert same_run(folder / str(number), folder / "whole"), place


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(text: Path, tmp_path: Path) -> None:
    """With or without --resume: nothing would be lost."""
    train(text, tmp_path / "whole")
    for resume in (True, False):
        left = tmp_path / f"left {resume}"
        (left / "checkpoints" / ".step-00000000.safetensors.part").mkdir(parents=True)
        (left / "checkpoints" / ".step-00000000.safetensors.part" / ".tmpX").write_bytes(b"half")
        train(text, left, resume=resume)
        assert same_run(left, tmp_path / "whole")


def test_a_run_killed_after_its_first_checkpoint_knows_its_settings(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file but the checkpoint has been written, and none of the settings is given again."""
    train(text, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(run, "_write_beginning", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            train(text, tmp_path / "run")
    assert list(contents(tmp_path / "run")) == ["checkpoints/step-00000000.safetensors"]
    gpt2.train(text, tmp_path / "run", resume=True, eval_every=2, backend="numpy")
    assert same_run(tmp_path / "run", tmp_path / "whole")


# Moved from one backend to the other.


@pytest.fixture(scope="module")
def band(tmp_path_factory: pytest.TempPathFactory) -> Band:
    """What the weights of the run have to agree with, whatever backend makes them, put together from its pieces."""
    backend = usable("mindspore graph")
    sections = recipe.read_sections(CONFIG)
    data = recipe.data_settings(sections, None)
    corpus = read_corpus(write_text(tmp_path_factory.mktemp("band") / "text.txt"), data, MODEL["n_positions"])
    config = recipe.model_settings(sections["model"] | {"vocab_size": corpus.tokenizer.get_vocab_size()})
    rows = itertools.islice(batches(corpus.training, BATCH_SIZE, SEED), STEPS * LEARNING["accumulate_step"])
    course = Course(
        config,
        initial_parameters(config, SEED),
        recipe.training_settings(sections, STEPS),
        [Batch(**row, keep=draw_keep(config, *row["ids"].shape, SEED, i)) for i, row in enumerate(rows)],
    )
    made = training_band(course, backend.accuracy)
    # A run that meets NaN stops learning: the band would be as wide as all that there is to learn.
    assert all(np.isfinite(x).all() for outcome in (made.oracle, *made.orbit) for x in outcome.arrays.values())
    return made


def in_band(folder: Path, band: Band) -> Iterator[str]:
    """What the weights of a run say against it."""
    for name, x in read_parameters(folder, read_config(folder)).items():
        verdict = band.reference(name).judge(x)
        if not verdict.agrees:
            yield f"{name}: {verdict.explain()}"


def test_either_backend_alone_stays_in_the_band(
    killed_on_mindspore: tuple[Path, dict[str, Any]], band: Band, text: Path, tmp_path: Path
) -> None:
    train(text, tmp_path / "numpy")
    for folder in (tmp_path / "numpy", killed_on_mindspore[0] / "whole"):
        assert list(in_band(folder, band)) == []


def test_one_micro_batch_with_the_masks_of_another_leaves_the_band(
    band: Band, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = {6: 7}
    monkeypatch.setattr(run, "draw_keep", lambda *given: draw_keep(*given[:-1], swapped.get(given[-1], given[-1])))
    train(text, tmp_path / "run")
    assert list(in_band(tmp_path / "run", band)) != []


@pytest.mark.parametrize("order", [("numpy", "mindspore"), ("mindspore", "numpy")], ids="-".join)
def test_a_run_moves_from_one_backend_to_the_other(
    order: tuple[str, str], band: Band, text: Path, tmp_path: Path
) -> None:
    """At step 3 of 6."""
    first, second = order
    begun = train(text, tmp_path / "run", backend=first, watch=train_to(3))
    assert (begun.step, begun.interrupted) == (3, True)
    assert not train(text, tmp_path / "run", backend=second, resume=True).interrupted
    assert list(in_band(tmp_path / "run", band)) == []


# Stopped.


def interrupt_outside(arguments: list[Any], folder: Path, number: int) -> Ran:
    """The command in a process of its own, sent a signal once it has learnt something."""
    words = [sys.executable, "-m", "gpt2", *map(str, arguments)]
    process = subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    noted = folder / "metrics.jsonl"
    while process.poll() is None and not (noted.is_file() and noted.read_bytes().count(b"\n") >= 2):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_ends_the_run_with_a_checkpoint(number: int, text: Path, tmp_path: Path) -> None:
    steps = 300
    options = {"steps": steps, "save-every": steps, "eval-every": steps, "backend": "numpy"}
    ran = interrupt_outside(command(text, tmp_path / "run", **options), tmp_path / "run", number)
    path = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert path is not None
    reached = read_checkpoint(path).step
    assert 0 < reached < steps
    assert (ran.code, ran.err) == (130, f"gpt2: interrupted at step {reached}: --resume continues from there\n")
    assert not (tmp_path / "run" / WEIGHTS).exists()
    assert run(*command(text, tmp_path / "run", "--resume", **options)).result
    assert run(*command(text, tmp_path / "whole", **options)).result
    assert same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("micro_batches", range(2 * LEARNING["accumulate_step"] + 1))
def test_a_run_stopped_after_any_micro_batch_goes_on_to_the_same_end(
    micro_batches: int, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the first, and between two that make one update."""
    train(text, tmp_path / "whole")
    step, taken = training_run._Loop._micro_batch, 0

    def counted(loop: Any, rows: Any) -> Any:
        nonlocal taken
        taken += 1
        report = step(loop, rows)
        if taken == micro_batches:
            signal.raise_signal(signal.SIGINT)
        return report

    with monkeypatch.context() as patched:
        patched.setattr(training_run._Loop, "_micro_batch", counted)
        if micro_batches == 0:
            patched.setattr(training_run._Loop, "_rows", lambda _: signal.raise_signal(signal.SIGINT))
        stopped = train(text, tmp_path / "run")
    assert (stopped.step, stopped.interrupted) == (micro_batches // 2, True)
    result = train(text, tmp_path / "run", resume=True)
    assert dataclasses.replace(result, folder=tmp_path / "whole") == train(text, tmp_path / "whole", resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


def test_signals_are_noted_in_between_only_and_left_alone_in_threads() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with postponed_interrupt() as interrupt:
        assert not interrupt.asked
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.asked
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    seen = []

    def elsewhere() -> None:
        with postponed_interrupt() as interrupt:
            seen.append(interrupt.asked)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]


# Refused.


@pytest.fixture
def begun(text: Path, tmp_path: Path) -> Path:
    """A run that stands at step 3 of 6."""
    assert train(text, tmp_path / "run", watch=train_to(3)).step == 3
    return tmp_path / "run"


def other_settings(section: str, **changes: Any) -> dict[str, Any]:
    """The configuration of the run, changed."""
    return CONFIG | {section: CONFIG[section] | changes}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"config": other_settings("training", learning_rate=0.5)}, "learning_rate is 0.5 now, but was 0.01 when"),
        ({"config": other_settings("model", n_embd=8)}, "n_embd is 8 now, but was 16 when the run was begun"),
        ({"config": other_settings("model", attn_pdrop=0.2)}, "attn_pdrop is 0.2 now, but was 0.1 when"),
        ({"config": other_settings("data", held_out=0.2)}, "held_out is 0.2 now, but was 0.1 when"),
        ({"steps": STEPS + 1}, "total_steps is 7 now, but was 6 when the run was begun (with 6 steps): leave out"),
        ({"batch-size": BATCH_SIZE + 1}, "batch_size is 4 now, but was 3 when the run was begun"),
        ({"seed": SEED + 1}, "seed is 6 now, but was 5 when the run was begun"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:20],
)
def test_what_decides_the_weights_cannot_change(
    options: dict[str, Any], complaint: str, begun: Path, text: Path
) -> None:
    before = contents(begun)
    refusal = run(*command(text, begun, "--resume", **options)).refusal
    assert complaint in refusal
    assert contents(begun) == before


def test_a_run_of_a_version_without_a_setting_goes_on(begun: Path, text: Path) -> None:
    snapshot = read_checkpoint(latest_checkpoint(begun / training_run.CHECKPOINTS))
    del snapshot.facts["recipe"]["data"]["label"]
    write_checkpoint(begun / training_run.CHECKPOINTS, snapshot, keep=1)
    assert run(*command(text, begun, "--resume")).result
    assert latest_checkpoint(begun / training_run.CHECKPOINTS).name == f"step-{STEPS:08d}.safetensors"


def test_the_model_that_a_run_began_from_cannot_change(text: Path, tmp_path: Path) -> None:
    one, other = (train(text, tmp_path / name, seed=seed).folder for seed, name in enumerate(("one", "other")))
    options = {"model": one, "config": {"training": LEARNING}}
    train(text, tmp_path / "run", **options, watch=train_to(3))
    before = contents(tmp_path / "run")
    refusal = run(*command(text, tmp_path / "run", "--resume", **{**options, "model": other})).refusal
    assert refusal == f"model is {other} now, but was {one} when the run was begun: leave it out"
    assert contents(tmp_path / "run") == before


def test_changed_data_and_a_changed_tokenizer_are_refused(begun: Path, text: Path) -> None:
    before, whole = contents(begun), text.read_text()
    text.write_text(whole[:-1] + "a")
    assert "the data file has changed since the checkpoint" in run(*command(text, begun, "--resume")).refusal
    text.write_text(whole)
    assert contents(begun) == before
    file = begun / "tokenizer.json"
    file.write_text(file.read_text().replace('"a": 2', '"a": 3').replace('"b": 3', '"b": 2'))
    assert file.read_bytes() != before["tokenizer.json"]
    assert "the tokenizer has changed since the checkpoint" in run(*command(text, begun, "--resume")).refusal
    file.write_bytes(before["tokenizer.json"])
    assert run(*command(text, begun, "--resume")).result


def test_a_run_without_a_schedule_can_be_made_longer(text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "short", config=CONSTANT)
    train(text, tmp_path / "short", config=CONSTANT, steps=2 * STEPS, resume=True)
    train(text, tmp_path / "long", config=CONSTANT, steps=2 * STEPS)
    assert same_run(tmp_path / "short", tmp_path / "long")
    refusal = run(*command(text, tmp_path / "short", "--resume", config=CONSTANT)).refusal
    assert refusal == "the run has made 12 steps, more than 6: give more, or none"


def test_what_is_not_said_is_as_it_was(begun: Path, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "whole")
    assert run("train", "--data", text, "--output", begun, "--resume", "--eval-every", 2).result
    assert same_run(begun, tmp_path / "whole")


def test_a_folder_with_a_run_is_gone_on_with_by_request_only(begun: Path, text: Path) -> None:
    before = contents(begun)
    assert "holds a training run: give --resume to resume it" in run(*command(text, begun)).refusal
    assert contents(begun) == before


@pytest.mark.parametrize("name", ["notes.txt", "checkpoints/epoch-1.bin", "checkpoints/.step-0.safetensors.part.txt"])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["anew", "resume"])
def test_a_folder_that_holds_something_else_is_left_alone(
    name: str, more: list[str], text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    refusal = run(*command(text, tmp_path / "mine", *more)).refusal
    assert "mine exists and is not a folder of a training run: name another one" in refusal
    assert contents(tmp_path / "mine") == {name: b"mine"}


@pytest.mark.parametrize(
    ("folder", "complaint"),
    [
        ("text.txt", "exists and is not a folder of a training run"),
        ("text.txt/run", "cannot write "),
        ("n" * 300, "File name too long"),
    ],
    ids=["a file", "below a file", "a long name"],
)
def test_a_folder_that_cannot_be_is_refused(folder: str, complaint: str, text: Path, tmp_path: Path) -> None:
    assert complaint in run(*command(text, tmp_path / folder)).refusal
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json", "text.txt"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"config": '{"training": {"learning_rat": 1}}'}, "no setting 'learning_rat': expected one of"),
        ({"config": other_settings("model", n_layers=2)}, "no setting 'n_layers': is 'n_layer' meant?"),
        ({"config": "{"}, "settings.json is not valid JSON"),
        ({"config": other_settings("model", n_head=3)}, "config field 'n_head' must be a divisor of n_embd = 16"),
        ({"config": other_settings("model", vocab_size="many")}, "'vocab_size' must be an integer of at least 1"),
        ({"config": other_settings("model", n_positions=None)}, "'n_positions' must be an integer of at least 1"),
        ({"config": other_settings("model", vocab_size=4)}, "the tokenizer (characters) has 9 ids, but the model's"),
        ({"config": other_settings("data", block_size=9)}, "block_size 9 exceeds the model's context: expected at m"),
        ({"config": other_settings("training", beta1=1)}, "training field 'beta1' must be a number from 0 to below 1"),
        ({"batch-size": 1000}, "rows to train on, but a batch has 1000: give more text, or a smaller batch size"),
        ({"model": "nowhere/at/all"}, "no model folder 'nowhere/at/all'"),
        ({"backend": "nothing"}, "unknown backend 'nothing'"),
        ({"steps": 0}, "0 is not in the range x>=1"),
        ({"seed": -1}, "-1 is not in the range"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    options: dict[str, Any], complaint: str, text: Path, tmp_path: Path
) -> None:
    assert complaint in run(*command(text, tmp_path / "run", **options)).refusal
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["steps", "batch_size", "save_every", "keep", "eval_every", "eval_batches"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_numbers_are_checked_in_python_too(name: str, value: Any, text: Path, tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=f"^{name} must be an integer of at least 1, but is {value}$"):
        train(text, tmp_path / "run", **{name: value})


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5])
def test_a_seed_is_a_number_of_64_bits(seed: Any, text: Path, tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"^seed must be an integer from 0 to 2\*\*64 - 1, but is"):
        train(text, tmp_path / "run", seed=seed)


class Silent(NumPyBackend):
    """A backend that does not learn, as examples/einsum_backend says it."""

    name = "silent"
    trainer = None  # type: ignore[assignment]


def test_a_backend_that_cannot_train_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"^backend 'silent' does not train: choose another one"):
        train(text, tmp_path / "run", backend=Silent())
    with pytest.raises(GPT2Error, match=r"^weights are trained in float32, not in float16: "):
        train(text, tmp_path / "run", dtype="float16")
    assert not (tmp_path / "run").exists()


def test_missing_data_is_refused(tmp_path: Path) -> None:
    refusal = run("train", "--data", tmp_path / "none.txt", "--output", tmp_path / "run").refusal
    assert refusal == f"cannot read the data {tmp_path / 'none.txt'}: No such file or directory"
    assert not (tmp_path / "run").exists()


def test_a_model_goes_on_as_it_is(text: Path, tmp_path: Path) -> None:
    model = train(text, tmp_path / "model").folder
    refusal = run(*command(text, tmp_path / "run", model=model)).refusal
    assert "config field 'n_layer' is for new models, but training starts from an existing one" in refusal
    assert not (tmp_path / "run").exists()


def test_a_classifier_is_not_trained_as_a_language_model(text: Path, tmp_path: Path) -> None:
    model = train(text, tmp_path / "model").folder
    parameters = read_parameters(model, config := read_config(model))
    parameters["score.weight"] = np.ones((2, config.n_embd), np.float32)
    classifier = folder_of(tmp_path / "classifier", config, parameters)
    assert "holds a classifier" in run(*command(text, tmp_path / "run", model=classifier, config=None)).refusal


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_serves(begun: Path, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "whole")
    damaged = begun / "checkpoints" / "step-00000003.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    before = contents(begun)
    refusal = run(*command(text, begun, "--resume")).refusal
    assert f"{damaged} is damaged" in refusal
    assert refusal.endswith("remove it to resume from " + str(damaged).replace("3.safe", "2.safe"))
    assert contents(begun) == before
    damaged.unlink()
    assert run(*command(text, begun, "--resume")).result
    assert same_run(begun, tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_disk_that_is_full_in_the_middle_costs_nothing(begun: Path, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "whole")
    before = checkpoints(begun)
    size = (begun / "checkpoints" / before[-1]).stat().st_size
    program = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2}))\n"
    words = command(text, begun, "--resume")
    refusal = run_outside(*words, program=program + "from gpt2.commands.main import main\nmain()").refusal
    assert "step-00000004.safetensors" in refusal
    assert "File too large" in refusal
    assert checkpoints(begun) == before
    assert run(*words).result
    assert same_run(begun, tmp_path / "whole")


@pytest.mark.parametrize(
    "changes",
    [
        {"training": LEARNING | {"learning_rate": 1e10, "max_grad_norm": None}},
        {"training": LEARNING | {"level": "O2"}, "model": MODEL | {"initializer_range": 1e4}},
    ],
    ids=["too fast", "float16"],
)
def test_gradients_that_are_not_finite_end_the_run(changes: dict[str, Any], text: Path, tmp_path: Path) -> None:
    ran = run(*command(text, tmp_path / "run", config=CONFIG | changes, steps=100, **{"save-every": 100}))
    assert ran.refusal.startswith("the gradients of micro-batch ")
    assert "are not finite, at loss scale 1: lower learning_rate" in ran.refusal
    assert checkpoints(tmp_path / "run") == ["step-00000000.safetensors"]


def test_a_scale_that_never_shrinks_ends_the_run(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_SKIPPED", 20)
    scaled = {"level": "O2", "loss_scaler": "static", "scale_value": 2.0**40}
    refusal = run(*command(text, tmp_path / "run", config=other_settings("training", **scaled))).refusal
    assert "micro-batch 19 (step 1) are not finite, at loss scale 1.09951e+12" in refusal


# What comes of a run.


def test_a_run_leaves_a_model_that_generates(text: Path, tmp_path: Path) -> None:
    result = train(text, tmp_path / "run", config=None, steps=2, save_every=None, eval_every=None)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints",
        "config.json",
        "curves.png",
        "metrics.jsonl",
        WEIGHTS,
        "tokenizer.json",
    ]
    model = gpt2.load(tmp_path / "run", backend="numpy")
    assert (model.config.n_layer, model.config.vocab_size) == (4, 9)
    ids = model.generate(model.encode("abc"), 5)
    assert len(model.decode(ids[0])) == 8
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert result.folder == tmp_path / "run"


def test_the_command_and_python_say_the_same(text: Path, tmp_path: Path) -> None:
    result = train(text, tmp_path / "python")
    words = command(text, tmp_path / "command")
    assert json.loads(run(*words, "--json").result) == {
        "folder": str(tmp_path / "command"),
        "step": STEPS,
        "loss": result.loss,
        "validation_loss": result.validation_loss,
        "perplexity": math.exp(result.validation_loss),
        "interrupted": False,
    }
    assert same_run(tmp_path / "command", tmp_path / "python")
    shown = run(*words, "--resume").result
    assert f"{result.validation_loss:.4f}" in shown
    updates = [line for line in metrics(tmp_path / "python") if "loss" in line]
    assert [line["step"] for line in updates] == list(range(1, STEPS + 1))
    assert [line["micro_batch"] for line in updates] == list(range(2, 2 * STEPS + 1, 2))
    assert [line["lr"] for line in updates[:3]] == [
        0,
        float(np.float32(LEARNING["learning_rate"] / 2)),
        float(np.float32(LEARNING["learning_rate"])),
    ]
    assert {line["tokens"] for line in updates} == {2 * BATCH_SIZE * MODEL["n_positions"]}
    assert updates[-1]["loss"] == result.loss
    evaluations = [line for line in metrics(tmp_path / "python") if "validation_loss" in line]
    assert [line["step"] for line in evaluations] == [2, 4, 6]
    assert evaluations[-1]["validation_loss"] == result.validation_loss
    assert result.perplexity == evaluations[-1]["perplexity"]


def test_the_loss_of_an_update_is_the_mean_of_its_micro_batches(text: Path, tmp_path: Path) -> None:
    """Whether or not they make one update, as nothing is learnt."""
    still = {"learning_rate": 0.0, "schedule": "constant"}
    for name, accumulated in (("one", 1), ("two", 2)):
        config = CONFIG | {"training": still | {"accumulate_step": accumulated}}
        train(text, tmp_path / name, config=config, steps=4 // accumulated, eval_every=9)
    singles = [line["loss"] for line in metrics(tmp_path / "one") if "loss" in line]
    pairs = [line["loss"] for line in metrics(tmp_path / "two") if "loss" in line]
    assert pairs == [np.mean(singles[:2]), np.mean(singles[2:])]


def test_watch_hears_of_every_update(text: Path, tmp_path: Path) -> None:
    heard: list[training_run.TrainingProgress] = []
    train(text, tmp_path / "run", watch=heard.append)
    updates = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert [(each.step, each.loss, each.lr, each.scale) for each in heard] == [
        (line["step"], line["loss"], line["lr"], line["scale"]) for line in updates
    ]
    assert {each.steps for each in heard} == {STEPS}
    assert [math.isnan(each.validation_loss) for each in heard] == [True, True, *[False] * (STEPS - 2)]


@pytest.mark.parametrize("keep", [1, 2, 10])
def test_the_last_checkpoints_are_kept(keep: int, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "run", keep=keep, steps=5, save_every=2)
    assert checkpoints(tmp_path / "run") == [f"step-{n:08d}.safetensors" for n in (0, 2, 4, 5)[-keep:]]


def test_events_and_a_log_are_written_on_request(text: Path, tmp_path: Path) -> None:
    log = tmp_path / "run" / "train.log"
    train(text, tmp_path / "run", tensorboard=True, log=log)
    assert len(log.read_text().splitlines()) == len(metrics(tmp_path / "run"))
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_importing_the_door_does_not_import_what_draws() -> None:
    program = "import sys, gpt2\nprint(gpt2.train.__module__, 'matplotlib' in sys.modules)"
    assert run_outside(program=program).result == "gpt2.training.run False\n"


# Evaluation.


def samples_file(folder: Path) -> Path:
    """JSON lines with pieces of abcdeabcde...: longer ones than fit, and shorter ones than can be scored."""
    drawn = random.Random(1)
    lines = [
        {"text": "".join(itertools.islice(itertools.cycle("abcde"), drawn.randrange(5), drawn.randint(6, 17)))}
        for _ in range(60)
    ]
    path = folder / "samples.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def rows_of(data: Path, config: dict[str, Any]) -> Corpus:
    """What a run reads from a file."""
    return read_corpus(data, recipe.data_settings(recipe.read_sections(config), None), MODEL["n_positions"])


def mean_loss(folder: Path, rows: dict[str, Any], dtype: Any, together: int) -> float:
    """The loss of all tokens scored: of so many rows at once, each such loss counting for as many tokens as it has."""
    config = read_config(folder)
    params = nest({name: x.astype(dtype) for name, x in read_parameters(folder, config).items()})
    losses, counts = [], []
    for first in range(0, len(rows["ids"]), together):
        part = {name: x[first : first + together] for name, x in rows.items()}
        count = int((part["labels"][:, 1:] != -100).sum())
        if count:
            losses.append(language_model_loss(params, config=config, **part))
            counts.append(count)
    return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_validation_loss_is_that_of_every_token_whatever_the_batch(layout: str, text: Path, tmp_path: Path) -> None:
    data = text if layout == "packed" else samples_file(tmp_path)
    config = other_settings("data", held_out=0.3)
    model = train(data, tmp_path / "model", config=config).folder
    held_out = rows_of(data, config).held_out
    exact = mean_loss(model, held_out, np.float64, 1)
    members = [np.float32(mean_loss(model, held_out, np.float32, together)) for together in range(1, 9)]
    judge = Reference(np.float64(exact), [np.asarray(member) for member in members])
    still = {"training": {"learning_rate": 0.0}, "data": {"held_out": 0.3}}
    assert len(held_out["ids"]) % 4
    for batch_size in (1, 4, 7):
        result = train(data, tmp_path / f"by {batch_size}", config=still, model=model, steps=1, batch_size=batch_size)
        verdict = judge.judge(np.float32(result.validation_loss))
        assert verdict.agrees, verdict.explain()
        assert result.perplexity == math.exp(result.validation_loss)


def test_an_evaluation_has_the_batches_that_were_asked_for(text: Path, tmp_path: Path) -> None:
    config = other_settings("data", held_out=0.3)
    result = train(text, tmp_path / "run", config=config, eval_batches=2)
    held_out = {name: x[: 2 * BATCH_SIZE] for name, x in rows_of(text, config).held_out.items()}
    exact = mean_loss(result.folder, held_out, np.float64, 1)
    members = [np.asarray(np.float32(mean_loss(result.folder, held_out, np.float32, n))) for n in range(1, 7)]
    assert Reference(np.float64(exact), members).judge(np.float32(result.validation_loss)).agrees


def test_without_held_out_rows_there_is_no_evaluation(text: Path, tmp_path: Path) -> None:
    words = command(text, tmp_path / "run", "--json", config=other_settings("data", held_out=0))
    facts = json.loads(run(*words).result)
    assert (facts["validation_loss"], facts["perplexity"]) == (None, None)
    assert all("validation_loss" not in line for line in metrics(tmp_path / "run"))


# Other data, other models, other precisions.


def test_going_on_from_a_model_begins_where_it_ended(text: Path, tmp_path: Path) -> None:
    before = train(text, tmp_path / "model")
    still = {"training": {"learning_rate": 0.0}}
    after = train(text, tmp_path / "still", config=still, model=before.folder, steps=1)
    assert after.validation_loss == before.validation_loss
    assert (tmp_path / "still" / WEIGHTS).read_bytes() == (before.folder / WEIGHTS).read_bytes()
    learning = {"training": LEARNING, "resid_pdrop": 0.0}
    more = train(text, tmp_path / "more", config=learning, model=before.folder)
    assert (tmp_path / "more" / WEIGHTS).read_bytes() != (before.folder / WEIGHTS).read_bytes()
    assert read_config(more.folder) == dataclasses.replace(read_config(before.folder), resid_pdrop=0.0)


def test_a_run_from_a_model_goes_on_without_the_model(text: Path, tmp_path: Path, speaker: Path) -> None:
    """Its tokenizer, of vocab.json and merges.txt, becomes the run's own tokenizer.json."""
    options = {"model": speaker, "config": {"training": LEARNING}}
    train(text, tmp_path / "whole", **options)
    train(text, tmp_path / "run", **options, watch=train_to(3))
    gpt2.train(text, tmp_path / "run", resume=True, eval_every=2, backend="numpy")
    assert same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_run_goes_on_with_the_tokenizer_that_it_trained(tokenizer: str, text: Path, tmp_path: Path) -> None:
    config = {"model": MODEL | {"vocab_size": 260}, "training": LEARNING, "data": {"tokenizer": tokenizer}}
    train(text, tmp_path / "whole", config=config)
    train(text, tmp_path / "run", config=config, watch=train_to(3))
    train(text, tmp_path / "run", config=config, resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


def test_padded_samples_are_learnt(tmp_path: Path) -> None:
    data = samples_file(tmp_path)
    whole = train(data, tmp_path / "whole", steps=60, eval_every=10)
    first, *_, last = [line["validation_loss"] for line in metrics(tmp_path / "whole") if "validation_loss" in line]
    assert last < first
    assert whole.validation_loss == last
    train(data, tmp_path / "run", steps=60, eval_every=10, watch=train_to(7))
    train(data, tmp_path / "run", steps=60, eval_every=10, resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


def test_micro_batches_that_overflow_are_passed_over(text: Path, tmp_path: Path) -> None:
    scaled = {"level": "O2", "loss_scaler": "dynamic", "scale_value": 2.0**40, "schedule": "constant"}
    config = other_settings("training", **scaled)
    result = train(text, tmp_path / "whole", config=config)
    updates = [line for line in metrics(tmp_path / "whole") if "loss" in line]
    passed_over = updates[-1]["micro_batch"] - 2 * STEPS
    assert result.step == len(updates) == STEPS
    assert passed_over > 0
    assert updates[-1]["scale"] == 2.0 ** (40 - passed_over)
    train(text, tmp_path / "run", config=config, watch=train_to(1))
    train(text, tmp_path / "run", config=config, resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_pipelines_make_the_same_weights(layout: str, text: Path, tmp_path: Path) -> None:
    """More than an epoch, and a run that begins with the one and goes on with the other."""
    usable("mindspore pynative")
    data = text if layout == "packed" else samples_file(tmp_path)
    options = {"steps": 12, "batch_size": 10}
    for pipeline in ("numpy", "mindspore"):
        train(data, tmp_path / pipeline, pipeline=pipeline, **options)
    assert same_run(tmp_path / "mindspore", tmp_path / "numpy")
    train(data, tmp_path / "both", pipeline="mindspore", watch=train_to(5), **options)
    train(data, tmp_path / "both", pipeline="numpy", resume=True, **options)
    assert same_run(tmp_path / "both", tmp_path / "numpy")
