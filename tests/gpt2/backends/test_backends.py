"""Backends by name: registered by an entry point, found, started, and said to be missing in one line."""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gpt2.backends import NumPyBackend, backend_names, get_backend
from gpt2.errors import GPT2Error
from tests.gpt2.command import run
from tests.gpt2.small import ROOT, model

EXAMPLE = ROOT / "examples" / "einsum_backend"
PAGES = ("third_backend.md", "zh-CN/third_backend.md")
Register = Callable[..., None]

# A backend that tells how it was made.
WITNESS = """
    from gpt2.backends import NumPyBackend

    class Witness(NumPyBackend):
        def __init__(self, *arguments, **options):
            super().__init__()
            self.made_with = arguments, options

    def strict(device="CPU", **others):
        raise ValueError(f"no device {device!r} here: plug one in")
"""


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Install a distribution whose entry points are given by name, with a module of that source."""
    monkeypatch.delenv("GPT2_BACKEND", raising=False)

    def install(source: str | Path = WITNESS, **entry_points: str) -> None:
        metadata = tmp_path / "others-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{name} = {target}\n" for name, target in entry_points.items()]
        (metadata / "entry_points.txt").write_text("[gpt2.backends]\n" + "".join(lines), encoding="utf-8")
        if isinstance(source, Path):
            monkeypatch.syspath_prepend(source)
        else:
            (tmp_path / "others_backend.py").write_text(textwrap.dedent(source), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for module in ("others_backend", "einsum_backend"):
        sys.modules.pop(module, None)


@pytest.fixture
def einsum(register: Register) -> None:
    """The example, registered as its pyproject.toml says."""
    name, target = re.search(r'gpt2\.backends"\]\n(\w+) = "(\S+)"', read(EXAMPLE / "pyproject.toml")).groups()
    register(EXAMPLE, **{name: target})


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_backend_of_another_package_is_found(register: Register) -> None:
    register(witness="others_backend:Witness")
    assert "witness" in backend_names()
    assert set(backend_names()) >= {"numpy", "mindspore", "witness"}
    assert backend_names() == sorted(backend_names())
    assert get_backend("witness").made_with == ((), {})


def test_only_the_options_that_are_given_reach_a_backend(register: Register) -> None:
    register(witness="others_backend:Witness")
    made = get_backend("witness", device="TPU", mode="fast")
    assert made.made_with == ((), {"device": "TPU", "mode": "fast"})
    assert get_backend("witness", dtype="float16").made_with == ((), {"dtype": "float16"})


def test_an_argument_behind_a_colon_comes_first(register: Register) -> None:
    register(witness="others_backend:Witness")
    made = get_backend("witness:no past: 3", dtype="float16")
    assert made.made_with == (("no past: 3",), {"dtype": "float16"})


def test_the_environment_chooses_where_no_name_is_given(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register(witness="others_backend:Witness")
    assert type(get_backend()) is NumPyBackend
    monkeypatch.setenv("GPT2_BACKEND", "witness:x")
    assert get_backend().made_with == (("x",), {})
    assert type(get_backend("numpy")) is NumPyBackend


def test_an_unknown_name_is_answered_with_those_that_are_known(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(witness="others_backend:Witness")
    with pytest.raises(GPT2Error, match=r"^unknown backend 'nonsense': choose one of .*numpy.*witness"):
        get_backend("nonsense")
    monkeypatch.setenv("GPT2_BACKEND", "nonsense")
    with pytest.raises(GPT2Error, match=r"^unknown backend 'nonsense' in the environment variable GPT2_BACKEND: "):
        get_backend()


@pytest.mark.parametrize("target", ["others_backend:Absent", "absent_module:Backend"])
def test_a_backend_that_cannot_be_imported_names_its_entry_point(register: Register, target: str) -> None:
    register(broken=target)
    with pytest.raises(GPT2Error, match=rf"^backend 'broken' is registered, but {target} cannot be imported: "):
        get_backend("broken")


def test_what_a_backend_refuses_is_an_error_for_people(register: Register) -> None:
    register(strict="others_backend:strict")
    with pytest.raises(GPT2Error, match=r"^no device 'Abacus' here: plug one in$"):
        get_backend("strict", device="Abacus")


def test_the_command_takes_every_name_that_is_registered(register: Register) -> None:
    register(witness="others_backend:Witness")
    ran = run("check", "relu", "--backend", "witness", "--examples", "2", "--json")
    assert ran.code == 0, ran
    assert json.loads(ran.out)["backend"] == "numpy"  # what it calls itself


@pytest.mark.usefixtures("einsum")
def test_the_command_judges_the_third_backend() -> None:
    ran = run("check", "conv1d", "attention.attention", "relu", "--backend=einsum", "--examples=3", "--json")
    assert ran.code == 0, ran
    results = json.loads(ran.out)["results"]
    offered = {result["function"]: result.get("offered", True) for result in results}
    assert offered == {"ops.conv1d": True, "attention.attention": True, "ops.relu": False}


@pytest.mark.usefixtures("einsum")
def test_the_third_backend_runs_whole_models() -> None:
    own, numpy = model(get_backend("einsum")), model()
    ids = np.arange(1, 9)[None]
    assert own.backend.name == "einsum"
    np.testing.assert_array_equal(own.logits(ids).argmax(axis=-1), numpy.logits(ids).argmax(axis=-1))
    np.testing.assert_array_equal(own.generate(ids, 8), numpy.generate(ids, 8))


def test_the_example_is_about_30_lines() -> None:
    lines = [line for line in read(EXAMPLE / "einsum_backend.py").splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith(('"""', "import", "from"))]
    assert len(code) <= 33


@pytest.mark.parametrize("page", PAGES)
def test_the_page_shows_the_example_as_it_is(page: str) -> None:
    text = read(ROOT / "docs" / page)
    assert re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0] == read(EXAMPLE / "einsum_backend.py")
    assert re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)[0] == read(EXAMPLE / "pyproject.toml")


@pytest.mark.usefixtures("einsum")
def test_the_verdicts_on_the_page_are_those_of_the_command() -> None:
    text = read(ROOT / "docs" / PAGES[0])
    command = re.search(r"^\$ gpt2 (check .* --backend einsum)$", text, flags=re.MULTILINE)
    shown = dict(re.findall(r"^│ (\S+) .*│ (agrees|not offered) +│$", text, flags=re.MULTILINE))
    results = json.loads(run(*command[1].split(), "--examples=3", "--json").out)["results"]
    assert shown == {result["function"]: "agrees" if result["offered"] else "not offered" for result in results}
    assert all(result["agrees"] for result in results)


def test_both_languages_show_the_same() -> None:
    english, chinese = (re.findall(r"```\w+\n(.*?)```", read(ROOT / "docs" / page), flags=re.DOTALL) for page in PAGES)
    assert english == chinese
