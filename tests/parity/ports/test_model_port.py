"""Whole models of somebody's own: their submodules show stages, and each bug is blamed on one of them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from benchmarks.peers.client import peer_python
from gpt2.backends import Backend, NumPyBackend
from gpt2.backends.stage_places import common_name, stages_at
from parity.cases.cases import resized
from parity.cases.supports import Supports
from parity.check import agrees, check_rule, draw, draw_for, rules, select
from parity.diagnosis.blame import blame, first_wrong, is_random, recorded_too_late
from parity.diagnosis.diagnose import diagnose, wrong_gradient
from parity.ports.port import get_port
from parity.verdict.trial import Trial
from reference.config import GPT2Config
from tests.gpt2.command import run
from tests.gpt2.small import ROOT, parameters
from tests.parity.ports import hugging_face
from tests.peers.conftest import absent

DEEP = settings().max_examples > 100
SHAPES = "laws.results_have_the_promised_shape_and_dtype"
MINDSPORE = ROOT / "examples" / "ports" / "mindspore_gpt2.py"
CONFIG = GPT2Config(vocab_size=11, n_positions=8, n_embd=6, n_layer=2, n_head=2, n_inner=24)
IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
# Bugs of the example in MindSpore, with the stage where each shows first.
MINDSPORE_BUGS = {
    "ops.sqrt(variance + 1e-5)": ("(ops.sqrt(variance) + 1e-3)", "ln_1"),
    "math.sqrt(heads[3])": ("heads[3]", "attn.merged"),
    "k.shape[2] - tokens, dtype": ("k.shape[2] - tokens + 1, dtype", "attn.merged"),
    'approximate="tanh"': ('approximate="none"', "mlp.gelu_new"),
    "x = x + attended": ("x = self.ln_1(x) + attended", "attn_residual"),
    "return x + self.mlp(self.ln_2(x))": ("return self.mlp(self.ln_2(x))", "mlp_residual"),
    "self.mlp(self.ln_2(x))": ("self.mlp(self.ln_1(x))", "mlp.c_fc"),  # ln_1 is called twice
    "known + ids.shape[1]))": ("known + ids.shape[1]))[::-1]", "ln_1"),  # outside of wpe
}
NUMPY_BUILD = """
from reference import model
from reference.config import nest


def build(config, parameters):
    return lambda ids: model.language_model(nest(parameters), ids, config)[0]


def raising(config, parameters):
    def scores(input_ids):
        if input_ids.shape[0] == 3:
            raise KeyError("three")
        return build(config, parameters)(input_ids)

    return scores


def unbuilt(config, parameters):
    if config.n_layer == 1:
        try:
            return parameters["h.0.attn.query"]
        finally:
            parameters.clear()
    return build(config, parameters)


def refusing(config, parameters):
    raise ValueError("no weights")


def flat(config, parameters):
    def scores(input_ids):
        found = build(config, parameters)(input_ids)
        return found[0]

    return scores


def failing(config, parameters):
    def scores(input_ids):
        raise KeyError("no such layer")

    return scores
"""


def write(tmp_path: Path) -> Path:
    file = tmp_path / "numpy_model.py"
    file.write_text(NUMPY_BUILD, encoding="utf-8")
    return file


def test_a_plain_function_is_judged_by_its_scores(tmp_path: Path) -> None:
    ran = run(
        "check", "engine.logits", "laws.causality", "--with", f"{write(tmp_path)}:build", "--examples", 8, "--json"
    )
    assert ran.code == 0
    verdicts = {each["function"]: each["verdict"] for each in json.loads(ran.out)["results"]}
    assert verdicts.keys() == {"engine.logits", "laws.causality"}
    assert set(verdicts.values()) <= {"identical", "agrees"}


def test_only_rules_that_can_apply_are_shown(tmp_path: Path) -> None:
    backend = get_port(f"{write(tmp_path)}:build")
    chosen = select((), backend)
    assert {name.split(".")[0] for name in chosen} == {"engine", "model", "laws"}
    assert not any(rule.trains or rule.generates for rule in chosen.values())
    assert list(select(["ops.relu"], backend)) == ["ops.relu"]  # it is asked for, and not offered
    shown = run("check", "--with", f"{write(tmp_path)}:build", "--examples", 1).out
    assert "not offered by the backend" in shown
    assert "engine.cached" not in shown


def test_a_model_that_raises_is_told_with_the_line(tmp_path: Path) -> None:
    ran = run("check", "engine.logits", "--with", f"{write(tmp_path)}:raising", "--json")
    assert ran.code == 1
    assert "KeyError: 'three' (numpy_model.py:" in json.loads(ran.out)["results"][0]["explanation"]


@pytest.mark.parametrize(
    ("name", "error", "line", "why"),
    [
        ("unbuilt", "KeyError: 'h.0.attn.query' (numpy_model.py:{})", "return parameters[", "is raised here"),
        ("flat", "TypeError: the model returned scores of shape (", "return found[0]", "last"),
    ],
)
def test_what_is_raised_has_its_line_in_build_or_forward(
    name: str, error: str, line: str, why: str, tmp_path: Path
) -> None:
    """Of the very case that is shown: in others something else may go wrong."""
    result = check_rule(rules()["engine.logits"], backend := get_port(f"{write(tmp_path)}:{name}"), 8)
    diagnose(rules()["engine.logits"], result, backend, 2)
    number = 1 + next(i for i, text in enumerate(NUMPY_BUILD.split("\n")) if line in text)
    assert result.error.startswith(error.format(number))
    assert "model_port" not in result.error
    shown = next(text for text in result.blame.split("\n") if "numpy_model.py:" in text)
    assert shown.startswith(f"  numpy_model.py:{number}: {line}")
    assert why in result.blame


@pytest.mark.parametrize(
    ("command", "name", "said"),
    [
        ("generate", "build", "does not offer what this needs: a cache: the model takes no past_key_values"),
        ("blame", "failing", "KeyError: 'no such layer' (numpy_model.py:"),
        ("logits", "failing", "KeyError: 'no such layer' (numpy_model.py:"),
        ("blame", "refusing", "ValueError: no weights (numpy_model.py:"),
        ("logits", "refusing", "ValueError: no weights (numpy_model.py:"),
        ("generate", "refusing", "ValueError: no weights (numpy_model.py:"),
    ],
)
def test_what_a_port_raises_is_one_line(command: str, name: str, said: str, tmp_path: Path) -> None:
    ran = run(command, "tiny", "sort: cba", "--backend", f"port:{write(tmp_path)}:{name}")
    assert ran.code == 1
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_blame_of_a_model_without_stages_says_so(tmp_path: Path) -> None:
    ran = run("blame", "tiny", "sort: cba", "--with", f"{write(tmp_path)}:build")
    assert ran.code == 0
    assert "Every stage agrees" in ran.out  # the scores are one


def test_blame_without_a_backend_is_about_mindspore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never the reference against itself."""
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    monkeypatch.delenv("GPT2_BACKEND", raising=False)
    said = json.loads(run("blame", "tiny", "sort: cba", "--json").out)
    assert (said["backend"], said["dtype"], said["mode"]) == ("mindspore", "float32", "pynative")  # as its help says


@pytest.mark.parametrize(
    ("name", "words", "common"),
    [
        ("transformer.h.0.attn.c_attn", {}, "h.0.attn.c_attn"),
        ("model.blocks.3.ff.up", {"h": "blocks", "mlp": "ff", "c_fc": "up"}, "h.3.mlp.c_fc"),
        ("module.transformer.wte", {}, "wte"),
        ("encoder.layers.1.norm1", {"h": "encoder.layers", "ln_1": "norm1"}, "h.1.ln_1"),
    ],
)
def test_names_of_others_are_understood(name: str, words: dict[str, str], common: str) -> None:
    assert common_name(name, words) == common


def test_stages_stand_before_and_after_modules() -> None:
    assert stages_at("h.1.mlp.c_proj", CONFIG) == {"before": "h.1.mlp.gelu_new", "after": "h.1.mlp.c_proj"}
    assert stages_at("h.1", CONFIG) == {"after": "h.1.mlp_residual"}
    assert stages_at("h.1.mlp", CONFIG) == {}


class Partial(NumPyBackend):
    """NumPy, of whose stages only some are shown, or recorded too late."""

    def __init__(self, shown: tuple[str, ...] | None = None, too_late: bool = False, wrong: float = 1.0) -> None:
        super().__init__()
        self.name, self.shown, self.too_late, self.wrong = "partial", shown, too_late, wrong

    def model(self, config: GPT2Config, parameters: Any) -> Any:
        changed = {name: x * (self.wrong if "attn.c_proj.weight" in name else 1) for name, x in parameters.items()}
        model, backend = super().model(config, changed), self
        stages = model.stages

        def partly(*inputs: Any) -> dict[str, Any]:
            found = stages(*inputs)
            if backend.too_late and len(inputs) > 3 and inputs[3]:
                found |= inputs[3]
            return {name: x for name, x in found.items() if backend.shown is None or name.endswith(backend.shown)}

        model.stages = partly
        return model


def test_stages_that_are_not_shown_are_passed_over() -> None:
    shown = ("ln_1", "attn_residual", "logits")
    stages = blame(Partial(shown, wrong=1.5), CONFIG, parameters(CONFIG), IDS)
    assert {stage.name.rpartition(".")[2] for stage in stages} == set(shown)
    first = first_wrong(stages)
    assert first is not None
    assert (first.name, first.after) == ("h.0.attn_residual", "h.0.ln_1")
    assert "it went wrong between h.0.ln_1 and here" in first.explain()
    assert first_wrong(blame(Partial(shown), CONFIG, parameters(CONFIG), IDS)) is None


def test_stages_that_are_recorded_too_late_are_noticed() -> None:
    late = Partial(too_late=True, wrong=1.5)
    assert "exactly as it was given" in recorded_too_late(late, blame(late, CONFIG, parameters(CONFIG), IDS))
    for right in (Partial(), Partial(wrong=1.5)):
        assert recorded_too_late(right, blame(right, CONFIG, parameters(CONFIG), IDS)) == ""


def test_dropout_that_is_on_is_noticed() -> None:
    class Dropping(NumPyBackend):
        def model(self, config: GPT2Config, parameters: Any) -> Any:
            model = super().model(config, parameters)
            stages, random = model.stages, np.random.default_rng()
            model.stages = lambda *inputs: {name: x * random.random() for name, x in stages(*inputs).items()}
            return model

    assert is_random(Dropping(), CONFIG, parameters(CONFIG), IDS)
    assert not is_random(NumPyBackend(), CONFIG, parameters(CONFIG), IDS)


def test_a_wrong_gradient_of_a_right_model_is_followed_backwards() -> None:
    class WrongGradient(NumPyBackend):
        sources = None  # type: ignore[assignment]

        def call(self, function: str, arguments: Any) -> Any:
            found = super().call(function, arguments)
            if function == "model.language_model_loss_vjp":
                found["h"][0]["ln_2"]["weight"] = found["h"][0]["ln_2"]["weight"] * 2
                found["wte"]["weight"] = found["wte"]["weight"] * 2
            return found

    rule, backend = rules()["model.language_model_loss_vjp"], WrongGradient()
    cases = draw(rule, np.dtype(np.float32), 25)
    wrong = next(trial for case in cases if not agrees(rule, trial := Trial(case, backend)))
    fault = wrong_gradient(wrong)
    assert fault is not None
    assert fault.places[0] in ("h.0.ln_2.weight", "wte.weight")
    assert "backwards from the loss, this gradient is the first to differ" in fault.text
    assert wrong_gradient(Trial(wrong.case, NumPyBackend())) is None


def mindspore_port(folder: Path, old: str = "", new: str = "") -> Backend:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    text = MINDSPORE.read_text(encoding="utf-8")
    assert old in text
    file = folder / f"cells_{abs(hash(old))}.py"
    file.write_text(text.replace(old, new) if old else text, encoding="utf-8")
    return get_port(f"{file}:build;as=course")


@pytest.mark.parametrize("rule", ["engine.logits", "engine.cached", "model.language_model_loss_vjp", SHAPES])
def test_the_example_in_mindspore_is_right(rule: str, tmp_path: Path) -> None:
    result = check_rule(rules()[rule], mindspore_port(tmp_path), 300 if DEEP else 4)
    assert result.agrees, result.to_dict()
    assert result.cases >= 4


def test_a_gradient_that_mindspore_does_not_have_is_not_blamed_on_the_port(tmp_path: Path) -> None:
    rule, port = rules()["model.language_model_loss_vjp"], mindspore_port(tmp_path)
    case = draw_for(rule, port, 1)[0]
    one = resized(case, {"B": 1, "T": 1, "H": 1, "I": 4 * case.sizes["D"]})
    with pytest.raises(NotImplementedError, match=r"MindSpore's own gradient of ops\.matmul fails where the inner"):
        Trial(one, port).run()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ops.arange(known, known + ids.shape[1])", "ops.arange(ids.shape[1])"),
        ("k.shape[2] - tokens, dtype", "0, dtype"),
        ("ops.cat((past[1], v)", "ops.cat((past[0], v)"),
    ],
    ids=["positions start again", "the first keys alone", "keys for values"],
)
def test_a_bug_of_the_cache_in_mindspore_is_seen(old: str, new: str, tmp_path: Path) -> None:
    port = mindspore_port(tmp_path, old, new)
    for rule, right in (("engine.logits", True), ("engine.cached", False)):
        cases = draw(rules()[rule], np.dtype(np.float32), 6, supports=Supports.of(port))
        assert all(agrees(rules()[rule], Trial(case, port)) for case in cases) == right


@pytest.mark.parametrize("old", MINDSPORE_BUGS)
def test_a_bug_in_mindspore_is_blamed_on_its_module(old: str, tmp_path: Path) -> None:
    new, stage = MINDSPORE_BUGS[old]
    stages = blame(mindspore_port(tmp_path, old, new), CONFIG, parameters(CONFIG), IDS)
    first = first_wrong(stages)
    assert first is not None
    assert first.name.removeprefix("h.0.") == stage, first.explain()


@pytest.fixture(scope="module")
def transformers_said() -> dict[str, dict[str, Any]]:
    """What is said of the right model and of each bug, by name: of all, or of some."""
    if not peer_python().is_file():
        absent(f"no {peer_python()}: run `make peers` to judge transformers")
    some = ("eager", "sdpa", "generation sdpa", "dropout on", "positions start again")
    names = (*hugging_face.RIGHT, "functions", *hugging_face.BUGS, *hugging_face.CACHE_BUGS) if DEEP else some
    command = [str(peer_python()), "-m", "tests.parity.ports.hugging_face", "250" if DEEP else "1", *names]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return {each["name"]: each for each in map(json.loads, ran.stdout.splitlines())}


@pytest.mark.peer
class TestTransformers:
    """GPT-2 of transformers, as the example builds it."""

    def test_it_is_right(self, transformers_said: dict[str, dict[str, Any]]) -> None:
        judged = {name: each for name, each in transformers_said.items() if "objections" in each}
        assert {"eager", "sdpa", "generation sdpa"} <= judged.keys()
        for name, each in judged.items():
            assert each["objections"] == [], name
            assert each["cases"] >= (125 if DEEP else 1) * len(hugging_face.RIGHT.get(name, ["a function"]))

    def test_each_bug_is_blamed_on_its_module(self, transformers_said: dict[str, dict[str, Any]]) -> None:
        for name in transformers_said.keys() & hugging_face.BUGS.keys():
            said = transformers_said[name]
            assert not said["agrees"], name
            stage = said["blame"].partition(":")[0].removeprefix("h.0.")
            assert stage in said["right"], said["blame"]
            assert ("gives other numbers the second time" in said["blame"]) == (name == "dropout on")

    def test_a_bug_of_the_cache_is_seen_with_a_cache(self, transformers_said: dict[str, dict[str, Any]]) -> None:
        for name in transformers_said.keys() & hugging_face.CACHE_BUGS.keys():
            said = transformers_said[name]
            assert (said["agrees"], said["uncached"]) == (False, True), name
