"""`gpt2 judge` on small dumps: what it prints, what it writes, what it refuses."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from gpt2.model.hf_folder import write_folder
from tests.gpt2.command import run
from tests.parity.recorded.made_runs import CONFIG, hugging_face_run, parameters_of, write_msprobe
from tests.parity.recorded.test_recorded_report import validated

PARAMETERS = parameters_of()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that was run, as a folder."""
    folder = tmp_path_factory.mktemp("recorded") / "model"
    write_folder(folder, CONFIG, PARAMETERS, [])
    return folder


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of a correct run."""
    folder = tmp_path_factory.mktemp("recorded") / "dump"
    write_msprobe(hugging_face_run(PARAMETERS), folder)
    return folder


@pytest.fixture(scope="module")
def wrong_dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of a run whose first MLP computes with a wrong GELU."""
    folder = tmp_path_factory.mktemp("recorded") / "wrong"
    write_msprobe(hugging_face_run(PARAMETERS, change={"h.0.mlp.gelu_new": lambda x: x * np.float32(1.01)}), folder)
    return folder


def facts(*arguments: Any) -> tuple[int, Any]:
    ran = run("judge", *arguments, "--json")
    assert ran.err == ""
    return ran.code, validated(json.loads(ran.out))


def test_a_correct_run_agrees_with_and_without_its_model(dump: Path, model: Path) -> None:
    said = run("judge", dump).result
    assert said.splitlines()[-1].startswith("All ")
    code, found = facts(dump, "--model", model)
    assert (code, found["agrees"], found["model"]) == (0, True, str(model))
    (each,) = found["runs"][0]["passes"]
    assert len(each["stages"]) > 20
    assert all(parameter["is_right"] for parameter in found["runs"][0]["parameters"])


def test_a_wrong_run_is_blamed_at_its_call(wrong_dump: Path, model: Path) -> None:
    name = "Module.transformer.h.0.mlp.act.NewGELUActivation.forward.0"
    ran = run("judge", wrong_dump)
    assert (ran.code, ran.err) == (1, "")
    assert f"What is wrong first: {name}" in ran.out
    assert "called at /home/me/my_gpt2.py:7" in ran.out
    code, found = facts(wrong_dump, "--model", model)
    assert code == 1
    assert found["runs"][0]["first_wrong"]["name"] == name
    assert "最先出错之处" in run("judge", wrong_dump, "--language", "zh").out


def test_two_runs_are_compared(dump: Path, wrong_dump: Path, model: Path) -> None:
    code, found = facts(dump, "--against", wrong_dump, "--model", model)
    assert code == 1
    (pair,) = found["against"]["pairs"]
    wrong = [call["stage"] for call in pair["calls"] if call["verdict"] and not call["verdict"]["agrees"]]
    assert wrong[0] == "h.0.mlp.act"
    assert facts(dump, "--against", dump)[0] == 0


def test_files_hold_the_same_report(wrong_dump: Path, tmp_path: Path) -> None:
    page, junit = tmp_path / "report.html", tmp_path / "report.xml"
    assert run("judge", wrong_dump, "--html", page, "--junit", junit, "--language", "zh").code == 1
    assert "NewGELUActivation" in page.read_text(encoding="utf-8")
    assert 'lang="zh-Hans"' in page.read_text(encoding="utf-8")
    assert int(ET.parse(junit).getroot().get("failures", "0")) > 0


def test_what_is_no_recording_is_refused_in_one_line(dump: Path, model: Path, tmp_path: Path) -> None:
    assert "does not exist" in run("judge", tmp_path / "nowhere").refusal
    assert run("judge", tmp_path).refusal
    assert "no model folder" in run("judge", dump, "--model", tmp_path / "nowhere").refusal
    assert run("judge", dump, "--operators", tmp_path / "nowhere.yaml").refusal
    assert run("judge", dump, "--language", "fr").code == 2


def test_another_model_is_refused(dump: Path, tmp_path: Path) -> None:
    assert "--model has 128 channels, but the recorded stages have" in run("judge", dump, "--model", "tiny").refusal


def test_a_file_that_is_missing_or_cut_off_is_told_and_the_rest_judged(tmp_path: Path) -> None:
    inside = write_msprobe(hugging_face_run(PARAMETERS), tmp_path / "dump")
    name = "Module.transformer.h.1.ln_2.LayerNorm.forward.0.output.0.npy"
    file = inside / "dump_tensor_data" / name
    file.write_bytes(file.read_bytes()[:-8])
    ran = run("judge", tmp_path / "dump")
    assert (ran.code, ran.err) == (2, "")
    assert f"{name} has " in ran.out
    file.unlink()
    ran = run("judge", tmp_path / "dump")
    assert (ran.code, ran.err) == (2, "")
    assert "is missing" in ran.out
    assert "but files of the recording cannot be read" in ran.out


def test_a_dump_of_statistics_says_how_little_that_proves(tmp_path: Path) -> None:
    inside = write_msprobe(hugging_face_run(PARAMETERS), tmp_path / "dump")
    for file in (inside / "dump_tensor_data").iterdir():
        file.unlink()
    (inside / "dump_tensor_data").rmdir()
    ran = run("judge", tmp_path / "dump")
    assert ran.err == ""
    assert "statistics" in ran.out


def test_several_steps_and_ranks_are_judged_each(tmp_path: Path) -> None:
    for step in (0, 1):
        for rank in (0, 1):
            parameters = {**PARAMETERS, "ln_f.bias": PARAMETERS["ln_f.bias"] + np.float32(step * rank)}
            write_msprobe(hugging_face_run(parameters), tmp_path / "dump", f"step{step}/rank{rank}")
    code, found = facts(tmp_path / "dump")
    assert code == 1
    assert [(each["step"], each["rank"], each["agrees"]) for each in found["runs"]] == [
        (0, 0, True),
        (0, 1, True),
        (1, 0, True),
        (1, 1, True),
    ]
    assert found["parting"] == "step 1: rank 1 and rank 0 have a different ln_f.bias"
