"""A run is killed anywhere, or moved to the other backend, and ends with the weights of one that was left alone."""

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import gpt2
from gpt2.backends import Batch
from gpt2.data.corpus import read_corpus
from gpt2.data.dropout_masks import draw_keep
from gpt2.model.hf_folder import read_config, read_parameters
from gpt2.training import plan as training_plan
from gpt2.training import recipe
from gpt2.training import run as training_run
from gpt2.training.initial_weights import initial_parameters
from parity.verdict.training_band import Band, Course, training_band
from reference.data import batches
from tests.gpt2.command import run_outside
from tests.gpt2.conftest import usable
from tests.gpt2.training.runs import (
    BATCH_SIZE,
    CONFIG,
    LEARNING,
    MODEL,
    SEED,
    STEPS,
    checkpoints,
    contents,
    metrics,
    same_run,
    train,
    train_to,
    write_text,
)

# Killed.


# Runs as forks of one process that has all modules loaded. Each counts the calls that Python makes, of functions and of
# what is written in C, and is killed at one of them.
KILLER = """
import json, os, random, signal, sys, traceback, warnings
from pathlib import Path

from gpt2.training import run
from tests.gpt2.training.runs import train

data, folders, kills, backend = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
warnings.filterwarnings("ignore", ".* was finished already")
run.plot_curves = lambda *_: None  # the longest part, after which nothing is left to be done

def attempt(folder, last=0, inside=None):
    # The number of calls of a run that came to its end, or the functions in which one was killed: at the call of that
    # number, or soon after it comes to be inside of a function.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        calls = 0
        def count(frame, event, _):
            nonlocal calls, last
            calls += event in ("call", "c_call")
            if not last and event == "call" and frame.f_code.co_name == inside:
                last = calls + 5
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

INSIDE = ("_open_run", "step", "write_checkpoint", "write_weights")
drawn = random.Random(0)
total = attempt("whole")
places = []
for i in range(kills):
    last = drawn.randrange(total * i // kills, total * (i + 1) // kills) + 1
    if kills > 1 and i == kills - 1:
        last = total - 99  # in what comes after the last checkpoint
    places.append(attempt(str(i), 0, INSIDE[i]) if kills > 1 and i < len(INSIDE) else attempt(str(i), last))
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
    assert {"_open_run", "step", "write_checkpoint", "write_weights"} <= inside
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


def test_a_run_killed_between_its_last_checkpoint_and_the_removal_of_the_oldest_removes_it(
    text: Path, tmp_path: Path
) -> None:
    train(text, tmp_path / "run", keep=3)
    train(text, tmp_path / "run", keep=2, resume=True)
    assert checkpoints(tmp_path / "run") == [f"step-{step:08d}.safetensors" for step in (STEPS - 1, STEPS)]


def test_a_run_killed_after_its_first_checkpoint_knows_its_settings(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file but the checkpoint has been written, and none of the settings is given again."""
    train(text, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(training_run, "write_beginning", lambda *_: 1 // 0)
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
    monkeypatch.setattr(
        training_plan, "draw_keep", lambda *given: draw_keep(*given[:-1], swapped.get(given[-1], given[-1]))
    )
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
