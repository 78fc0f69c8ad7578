"""The pytest plugin as others have it: installed from a wheel, called from a folder of theirs."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from parity.check import compiled_rules, rules

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "LICENSE", "reference", "ms_backend", "gpt2", "parity", "examples")
# Somebody's conftest.py: both forms of an option that could be taken for ours.
CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--backend", default="theirs", choices=["theirs", "other"])
    parser.addoption("--seed", action="store_true")
"""
OWN_TEST = """
def test_own(request):
    assert request.config.getoption("--backend") == "other"
"""
# A backend that cannot start, in the way of a driver that is missing.
DRIVERLESS = """
class EinsumBackend:
    def __init__(self, **options):
        raise RuntimeError("no driver:\\ninstall one")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the project and the example of a third backend are installed, not in editable mode."""
    copy, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target)]
    subprocess.run([*command, str(copy), str(copy / "examples" / "einsum_backend")], check=True, timeout=120)
    return target


class Shell:
    """Somebody's folder, and what they have installed there."""

    def __init__(self, folder: Path, installed: Path) -> None:
        self.folder, self.installed = folder, installed

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python; files in the folder `own`, if there is one, are found before those that are installed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GPT2_", "PYTEST_"))}
        places = os.pathsep.join([str(self.folder / "own"), str(self.installed)])
        environment = kept | {"PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"} | variables
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def pytest(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run pytest."""
        return self.python("-m", "pytest", *arguments, **variables)


@pytest.fixture
def shell(tmp_path: Path, installed: Path) -> Shell:
    return Shell(tmp_path, installed)


def test_the_wheel_registers_the_plugin(installed: Path) -> None:
    points = [point for dist in distributions(path=[str(installed)]) for point in dist.entry_points]
    assert [point.value for point in points if point.group == "pytest11"] == ["parity.plugin"]


def test_there_is_one_test_per_rule(shell: Shell) -> None:
    ran = shell.pytest("--pyargs", "parity", "--backend", "einsum", "--collect-only", "-q")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.findall(r"::test_rule\[(\S+)\]$", ran.stdout, flags=re.MULTILINE) == [*rules(), *compiled_rules()]


def test_the_suite_judges_a_third_backend(shell: Shell) -> None:
    chosen = "ops.conv1d] or ops.relu] or attention.attention] or engine."
    ran = shell.pytest("--pyargs", "parity", "-v", "--backend=einsum", "--examples=3", "--seed=1", "-k", chosen)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "parity: einsum on CPU, float32, eager; 3 cases per rule, seed 1; gpt2-parity " in ran.stdout
    assert dict(re.findall(r"test_rule\[(\S+)\] (\w+)", ran.stdout)) == {
        "ops.conv1d": "PASSED",
        "ops.relu": "SKIPPED",
        "attention.attention": "PASSED",
        "engine.logits": "PASSED",
        "engine.cached": "PASSED",
        "engine.classify": "PASSED",
        "compiled.engine.logits": "SKIPPED",
        "compiled.engine.cached": "SKIPPED",
        "compiled.engine.classify": "SKIPPED",
    }
    assert "backend 'einsum' does not offer what ops.relu needs" in ran.stdout


def test_a_bug_in_a_third_backend_is_explained(shell: Shell) -> None:
    right = (ROOT / "examples" / "einsum_backend" / "einsum_backend.py").read_text(encoding="utf-8")
    wrong = right.replace(" / np.array(attention_scale(config, layer), x.dtype)", "")
    assert wrong != right
    (shell.folder / "own").mkdir()
    (shell.folder / "own" / "einsum_backend.py").write_text(wrong, encoding="utf-8")
    ran = shell.pytest("--pyargs", "parity", "--backend", "einsum", "-k", "attention.attention] or ops.conv1d]")
    assert ran.returncode == 1
    assert "1 failed, 1 passed" in ran.stdout
    assert re.search(r"x this input's rounding noise: differs at \(.*\): .*, expected ", ran.stdout)
    assert re.search(r"^smallest case: B=1 T=[12] .*; seed \d+$", ran.stdout, flags=re.MULTILINE)
    assert "  reference/attention.py:" in ran.stdout  # the line to look at
    assert "This script reproduces it:" in ran.stdout
    assert "Traceback" not in ran.stdout
    assert "check_rule(" not in ran.stdout  # nor any other line of our own call stack


def test_a_backend_that_raises_is_a_failure_without_our_call_stack(shell: Shell) -> None:
    ran = shell.pytest("--pyargs", "parity", "--backend", "einsum", "--dtype", "bfloat16", "-k", "ops.conv1d")
    assert ran.returncode == 1
    assert "\nTypeError: invalid data type for einsum (" in ran.stdout
    assert "check_rule(" not in ran.stdout


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--backend=nonsense"], "unknown backend 'nonsense': choose one of einsum, "),
        (["--backend=numpy", "--device=Ascend"], "backend 'numpy' runs on device 'CPU' alone, not on 'Ascend'"),
        (["--backend=numpy", "--dtype=float64"], "unknown dtype 'float64': choose one of float32, float16, bfloat16"),
        (["--backend=numpy", "--mode=graph"], "backend 'numpy' has no mode 'graph'"),
        (["--backend=numpy", "--examples=0"], "--examples must be a whole number of at least 1, but is '0'"),
        (["--backend=numpy", "--seed=x"], "--seed must be a whole number of at least 0, but is 'x'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_is_missing_is_said_in_one_line(options: list[str], line: str, shell: Shell) -> None:
    ran = shell.pytest("--pyargs", "parity", *options)
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"ERROR: {line}")
    assert ran.stderr.strip().count("\n") == 0


def test_a_backend_that_does_not_start_is_said_in_one_line(shell: Shell) -> None:
    (shell.folder / "own").mkdir()
    (shell.folder / "own" / "einsum_backend.py").write_text(DRIVERLESS, encoding="utf-8")
    ran = shell.pytest("--pyargs", "parity", GPT2_BACKEND="einsum")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert ran.stderr == "ERROR: backend 'einsum' does not start: RuntimeError: no driver: install one\n\n"


def test_options_of_others_keep_their_names(shell: Shell) -> None:
    (shell.folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (shell.folder / "test_own.py").write_text(OWN_TEST, encoding="utf-8")
    theirs = shell.pytest("-q", "--backend=other", "--seed")
    assert theirs.returncode == 0, theirs.stdout + theirs.stderr
    assert "1 passed" in theirs.stdout
    ours = shell.pytest("--pyargs", "parity", "--examples=2", "-k", "ops.conv1d", GPT2_BACKEND="einsum", GPT2_SEED="5")
    assert ours.returncode == 0, ours.stdout + ours.stderr
    assert "parity: einsum on CPU, float32, eager; 2 cases per rule, seed 5; " in ours.stdout
    for name, variable in (("--backend", "GPT2_BACKEND"), ("--seed", "GPT2_SEED")):
        line = f"parity: {name} belongs to another plugin or conftest.py here: set the environment variable {variable}"
        assert line in ours.stdout
    assert "parity: --examples" not in ours.stdout


def test_help_shows_the_options_to_whoever_asks_for_the_suite(shell: Shell) -> None:
    ran = shell.pytest("--pyargs", "parity", "--help")
    assert ran.returncode == 0
    for option in ("--backend=BACKEND", "--device=DEVICE", "--dtype=DTYPE", "--mode=MODE", "--examples=", "--seed="):
        assert option in ran.stdout


def test_nobody_collects_the_suite_by_accident(shell: Shell) -> None:
    ran = shell.pytest("--collect-only", "-q", str(shell.installed))
    assert ran.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, ran.stdout + ran.stderr
    assert "test_rule" not in ran.stdout


def test_the_plugin_costs_nothing_where_it_is_not_used(shell: Shell) -> None:
    program = "import sys, parity.plugin; print(parity.plugin.__file__); print(*sys.modules)"
    ran = shell.python("-c", program)
    file, modules = ran.stdout.splitlines()
    assert Path(file).is_relative_to(shell.installed)
    imported = {name.partition(".")[0] for name in modules.split()}
    assert "parity" in imported
    assert not imported & {"gpt2", "reference", "ms_backend", "numpy", "hypothesis", "mindspore", "rich", "click"}
