"""Several columns side by side: each is judged as it is alone, a dead one is a cell, and a stopped run goes on."""

import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpt2.backends import NumPyBackend
from gpt2.commands.matrix import default_columns, engine_named
from gpt2.errors import GPT2Error
from gpt2.peers.process import PeerDiedError
from parity.check import check_at_its_cost
from parity.report import print_results
from parity.report.matrix import NOT_RUN, OF_BOTH, OF_THE_VERSION, STOPPED, UNKNOWN, Matrix, judge_matrix
from parity.report.matrix_page import matrix_page
from parity.report.record import AGREES, DIFFERS, IDENTICAL, NOT_OFFERED
from parity.report.run import judge
from tests.gpt2.command import run
from tests.parity.report.pieces import RULES, Page, validate, without_times
from tests.parity.report.reports import HOSTILE, Scripted, Wrong

NAMES = tuple(RULES)
MINDSPORE = {"mindspore": "2.10.0", "mindspore@2.9.0": "2.9.0", "mindspore:float16": "2.10.0"}


class Named(Wrong):
    """A backend that fails in every way, under the name of another; `right`: the functions in which it does not."""

    right: tuple[str, ...] = ()

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        return (
            NumPyBackend.call(self, function, arguments)
            if function in self.right
            else super().call(function, arguments)
        )


def make(name: str, device: str | None = None, dtype: str | None = None, mode: str | None = None) -> Any:
    """The backends of these tests."""
    if name == "no start":
        raise GPT2Error("no start ended by signal 6") from PeerDiedError("no start ended by signal 6")
    if name == "numpy":
        return NumPyBackend(dtype=dtype or "float32")
    made = Named(dtype=dtype or "float32")
    made.right = ("ops.softmax",) if name == "mindspore" else ()
    made.name, made.version = name, MINDSPORE.get(name, HOSTILE)
    return made


def judged(*columns: str, functions: tuple[str, ...] = NAMES, examples: int = 2, **options: Any) -> Matrix:
    engines = {column: engine_named(column) for column in columns}
    options = {"processes": 1, "say": lambda line: None, "make": make} | options
    return judge_matrix(engines, functions, examples, 0, **options)


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """Columns of every kind; blame is looked for in one of them, as it takes long."""

    def check(rule: Any, backend: Any, examples: int, seed: int) -> Any:
        looked_into = backend.name == "mindspore"
        return judge(rule, backend, examples, seed) if looked_into else check_at_its_cost(rule, backend, examples, seed)

    return judged("numpy", "numpy:float16", "no start", "mindspore", "mindspore@2.9.0", check=check)


def test_a_column_finds_what_a_run_of_its_own_finds(matrix: Matrix) -> None:
    found = matrix.columns[1].report
    assert found is not None
    assert without_times(found) == without_times(print_results(RULES, NumPyBackend(dtype="float16"), 2, 0, None))


def test_a_cell_is_what_a_column_says_of_these_rules(matrix: Matrix) -> None:
    right, _, dead, _, wrong = matrix.columns
    ops = matrix.files["ops"]
    assert matrix.files == {"ops": ["ops.relu", "ops.softmax", "ops.gelu", "ops.layer_norm"], **matrix.files}
    assert right.cell(ops).verdict == AGREES
    assert (right.cell(ops).judged, right.cell(ops).differing) == (4, 0)
    assert (wrong.cell(ops).verdict, wrong.cell(ops).judged, wrong.cell(ops).differing) == (DIFFERS, 4, 3)
    assert wrong.cell(["ops.relu"]).verdict == IDENTICAL
    assert wrong.cell(["generate.sample"]).verdict == NOT_OFFERED
    assert dead.cell(ops).verdict == STOPPED
    found = wrong.finding("ops.layer_norm")
    assert found is not None
    assert wrong.cell(ops).worst == wrong.cell(["ops.layer_norm"]).worst == found.noise_ratio


def test_a_backend_that_does_not_start_is_a_column_and_not_the_end(matrix: Matrix) -> None:
    assert matrix.columns[2].error == "no start ended by signal 6"
    assert matrix.headline == "2 of 5 columns differ from the reference, 1 ended early"
    assert matrix.exit_code == 1
    assert judged("numpy", "no start", functions=("relu",)).exit_code == 1
    assert judged("numpy", functions=("relu",)).exit_code == 0
    assert judged("wrong", functions=("generate.sample",)).exit_code == 3


def test_a_fault_of_another_version_is_told_from_ours(matrix: Matrix) -> None:
    here, there = matrix.columns[3:]
    told = {finding.function: matrix.whose(there, finding)[0] for finding in there.failing}
    assert told == {"ops.softmax": OF_THE_VERSION, "ops.gelu": OF_BOTH, "ops.layer_norm": OF_BOTH}
    assert {matrix.whose(here, finding) for finding in here.failing} == {("", "")}
    assert matrix.to_dict()["columns"][4]["this_version_alone"] == ["ops.softmax"]
    apart = judged("mindspore:float16", "mindspore@2.9.0", functions=("ops.softmax",), check=check_at_its_cost)
    kind, words = apart.whose(apart.columns[1], apart.columns[1].failing[0])
    assert (kind, "No column mindspore in float32" in words) == (UNKNOWN, True)


def test_a_backend_that_fails_outside_of_a_case_ends_its_column() -> None:
    def broken(rule: Any, backend: Any, examples: int, seed: int) -> Any:
        if backend.name == "wrong" and rule.name == "ops.gelu":
            raise RuntimeError("the device is gone")
        return Scripted()(rule, backend, examples, seed)

    found = judged("wrong", "numpy", check=broken)
    assert "the device is gone" in found.columns[0].error
    assert found.columns[0].cell(["ops.relu"]).verdict == AGREES
    assert found.columns[0].cell(["ops.gelu"]).verdict == STOPPED
    assert (found.columns[1].cell(NAMES).verdict, found.exit_code) == (AGREES, 1)


def test_ctrl_c_ends_the_search_and_a_later_run_goes_on(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"

    class Stopping(Scripted):
        def __call__(self, rule: Any, backend: Any, examples: int, seed: int) -> Any:
            if backend.dtype == "float16" and rule.name == "ops.gelu":
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(rule, backend, examples, seed)

    stopped = judged("numpy", "numpy:float16", "wrong", check=Stopping(), resume=kept)
    assert (stopped.exit_code, stopped.interrupted) == (130, True)
    assert [column.cell(NAMES).verdict for column in stopped.columns] == [AGREES, NOT_RUN, NOT_RUN]
    assert stopped.columns[1].cell(["ops.softmax"]).verdict == AGREES
    assert "interrupted" in Page(matrix_page(stopped)).text
    validate(json.loads(stopped.to_json()))
    again = Scripted()
    resumed = judged("numpy", "numpy:float16", "wrong", check=again, resume=kept)
    assert again.judged == [*NAMES[2:], *NAMES]
    whole = judged("numpy", "numpy:float16", "wrong", check=Scripted())
    assert resumed.exit_code == 0
    for one, other in zip(resumed.columns, whole.columns, strict=True):
        assert one.report is not None
        assert other.report is not None
        assert without_times(one.report) == without_times(other.report)
    with pytest.raises(GPT2Error, match=r"column numpy was made with examples 2, this run has 3"):
        judged("numpy", check=Scripted(), resume=kept, examples=3)
    print_results(RULES, NumPyBackend(), 2, 0, None, check=Scripted(), resume=tmp_path / "other.json")
    with pytest.raises(GPT2Error, match="holds no results of a matrix"):
        judged("numpy", check=Scripted(), resume=tmp_path / "other.json")


def test_the_page_shows_every_cell_and_every_disagreement(matrix: Matrix) -> None:
    source = matrix_page(matrix)
    shown = Page(source)
    assert source == matrix_page(matrix)
    assert {tag for tag, _ in shown.tags} & {"script", "link", "img", "iframe", "object", "base"} == set()
    assert HOSTILE in Page(matrix_page(judged(HOSTILE, functions=("ops.relu",), check=Scripted()))).text
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    links = [(attributes["href"] or "")[1:] for tag, attributes in shown.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    failing = [finding for column in matrix.columns for finding in column.failing]
    assert sum(link.startswith("d") for link in links) == len(failing) == 5
    for part in (part for finding in failing for part in (finding.explanation, finding.blame, finding.script)):
        assert part in shown.text
    assert "differs in 3 of 4" in shown.text
    assert OF_THE_VERSION in shown.text
    assert matrix.columns[2].error in shown.text


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_every_shade(matrix: Matrix, scheme: int) -> None:
    """The contrast that WCAG 2 asks for at level AA: 4.5."""
    blocks = re.findall(r":root \{(.*?)\}", matrix_page(matrix), flags=re.DOTALL)
    colours = dict(re.findall(r"--(\w+): #(\w{6})", blocks[scheme] + blocks[scheme + 2]))

    def luminance(code: str) -> float:
        channels = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for shade in ("low", "near", "off", "far", "wild"):
        low, high = sorted(luminance(colours[name]) for name in ("ink", shade))
        assert (high + 0.05) / (low + 0.05) >= 4.5, shade


def test_json_is_what_the_schema_describes(matrix: Matrix) -> None:
    validate(json.loads(matrix.to_json()))


@pytest.mark.parametrize(
    ("column", "engine"),
    [
        ("numpy", ("numpy", None, "float32", None)),
        ("numpy:float16:plain", ("numpy", None, "float16", "plain")),
        ("mindspore:graph", ("mindspore", None, "float32", "graph")),
        ("mindspore@2.9.0", ("mindspore@2.9.0", None, "float32", "pynative")),
        ("mindspore@2.9.0:Ascend:bfloat16", ("mindspore@2.9.0", "Ascend", "bfloat16", "pynative")),
        ("torch:ssh host python3:gpu", ("torch:ssh host python3", "gpu", "float32", None)),
        ("twin:no past", ("twin:no past", None, "float32", None)),
        ("float16", ("float16", None, "float32", None)),
        ("numpy:float16:float16", ("numpy:float16", None, "float16", None)),
    ],
)
def test_a_column_says_what_to_judge(column: str, engine: tuple[str | None, ...]) -> None:
    assert engine_named(column) == engine


def test_columns_are_what_is_installed(tmp_path: Path) -> None:
    for name in ("torch", "mindspore@2.8.0", "other"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python").touch()
        (tmp_path / name / "gpt2-peer.json").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2_PEERS", str(tmp_path))
        patch.delenv("GPT2_PEER_PYTHON", raising=False)
        assert [name for name in default_columns() if name != "mindspore:graph" and name != "mindspore:pynative"] == [
            "numpy",
            "numpy:float16",
            "mindspore@2.8.0",
            "torch",
        ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("relu", "--matrix", "--backend", "numpy"), "--matrix has no --backend: name what to judge"),
        (("relu", "--column", "numpy", "--shard", "1/2"), "--matrix has no --shard"),
        (("relu", "--column", "numpy", "--column", "numpy"), "--column numpy is there twice"),
        (("relu", "--column", "nimpy"), "unknown backend 'nimpy'"),
        (("relu", "--column", "numpy:int8"), "backend 'numpy' takes no argument, but was given 'int8'"),
        (("relo", "--column", "numpy"), "no function, file or law 'relo'"),
    ],
)
def test_what_is_no_matrix_is_refused(arguments: tuple[str, ...], said: str) -> None:
    assert said in run("check", *arguments).refusal


def test_the_command_prints_and_writes_it(tmp_path: Path) -> None:
    page = tmp_path / "matrix.html"
    found = run("check", "relu", "--column", "numpy", "--column", "numpy:float16", "--examples", 1, "--html", page)
    assert found.code == 0
    assert re.search(r"numpy:float16 +│ .* identical", found.out)
    assert "All 2 columns agree." in found.out
    assert found.err == "gpt2: column 1 of 2: numpy\ngpt2: column 2 of 2: numpy:float16\n"
    assert "numpy:float16" in Page(page.read_text()).text
