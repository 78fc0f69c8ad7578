"""The shards of a run, put together, are that run; anything else is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2.errors import GPT2Error
from parity.check import check_at_its_cost, compiled_rules, rules, select
from parity.report import merge_shards, print_results
from parity.report.shard import Shard
from tests.gpt2.command import run
from tests.parity.report.pieces import RULES, printed, validate, without_times
from tests.parity.report.reports import Scripted, Wrong

EXPECTED = {
    "schema": "gpt2-expected-failures/1",
    "failures": [
        {
            "function": function,
            "backend": "numpy",
            "device": "CPU",
            "dtype": "float32",
            "mode": "eager",
            "version": "0",
            "noise_ratio": None,
            "reason": "no kernel for erf",
            "measured": "2026-01-31",
        }
        for function in ("ops.gelu", "ops.relu")
    ],
}

QUICK: dict[str, Any] = {"check": check_at_its_cost}  # blame is not looked for


def judged(folder: Path, count: int = 3, **options: Any) -> list[Path]:
    """The files of all shards of a search on a backend that fails in every way."""
    paths = []
    for number in range(1, count + 1):
        shard = Shard.of(f"{number}/{count}", RULES, ["ops", "causality"])
        report = print_results(RULES, Wrong(), 2, 0, None, shard=shard, **QUICK | options)
        validate(json.loads(report.to_json()))
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(report.to_json())
    return paths


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of three shards."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "expected.json").write_text(json.dumps(EXPECTED))
    return judged(folder, expected=folder / "expected.json")


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_every_rule_is_in_one_shard_and_what_is_long_is_shared_out(count: int) -> None:
    every = rules() | compiled_rules()
    parts = [Shard.of(f"{number}/{count}", every).part(every) for number in range(1, count + 1)]
    assert sorted(name for part in parts for name in part) == sorted(every)
    for part in parts:
        assert list(part) == [name for name in every if name in part]
    for costs in ("trains", "generates"):
        counts = [sum(getattr(rule, costs) and not rule.compiled for rule in part.values()) for part in parts]
        assert sum(counts) > len(counts) / 2
        assert max(counts) - min(counts) <= 2, (costs, counts)


def test_the_shards_together_are_one_run(shards: list[Path]) -> None:
    expected = shards[0].parent / "expected.json"
    whole = print_results(RULES, Wrong(), 2, 0, None, expected=expected, **QUICK)
    for order in (shards, shards[::-1]):
        merged, names = merge_shards(order)
        assert names == ("ops", "causality")
        assert without_times(merged) == without_times(whole)
        assert printed(merged) == printed(whole)
        assert merged.exit_code == whole.exit_code == 1
    assert len(whole.failing) == 3
    assert {len(json.loads(path.read_text())["results"]) for path in shards} == {2}


def test_an_interrupted_shard_makes_an_interrupted_run(tmp_path: Path) -> None:
    merged, _ = merge_shards(judged(tmp_path, check=Scripted("ops.gelu")))
    assert (merged.exit_code, merged.interrupted) == (130, True)
    assert "ops.gelu" in merged.not_run
    assert merged.functions == list(RULES)


def changed(path: Path, folder: Path, change: Callable[[Any], Any]) -> Path:
    facts = json.loads(path.read_text())
    change(facts)
    made = folder / "changed.json"
    made.write_text(json.dumps(facts))
    return made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts: facts.update(seed=7), "made with seed 7"),
        (lambda facts: facts.update(examples=7), "made with examples 7"),
        (lambda facts: facts.update(backend="other"), "made with backend 'other'"),
        (lambda facts: facts["environment"].update(numpy="0.9"), "made with numpy '0.9'"),
        (lambda facts: facts["environment"].update(backend_version="0.9"), "made with backend_version '0.9'"),
        (lambda facts: facts["shard"].update(count=4), "made with number of shards 4"),
        (lambda facts: facts["shard"].update(number=1), "are both shard 1 of 3"),
        (lambda facts: facts["shard"].update(names=[]), "shares out other functions"),
        (lambda facts: facts["expected_failures"].pop(), "has other expected failures"),
        (lambda facts: facts["results"].pop(), "is in 0 of these files"),
        (lambda facts: facts["results"][0].update(cases="2"), r"'results': '\[0\]\.cases' must be an integer"),
        (lambda facts: facts.pop("shard"), "holds no report of a shard"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    shards: list[Path], tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(GPT2Error, match=said):
        merge_shards([shards[0], changed(shards[1], tmp_path, change), shards[2]])


def test_missing_shards_are_named(shards: list[Path]) -> None:
    assert run("report", "merge", shards[1]).refusal == "shards 1, 3 are missing, of 3: give the files of all"
    assert run("report", "merge", *shards[1:]).refusal == "shard 1 is missing, of 3: give the files of all"


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "1/2/3", "-1/3", "eins/zwei"])
def test_a_shard_is_a_part_of_how_many(text: str) -> None:
    assert "--shard is a part of how many" in run("check", "relu", "--backend", "numpy", "--shard", text).refusal


def test_more_shards_than_rules_are_refused() -> None:
    with pytest.raises(GPT2Error, match="there are only 6 rules to share out"):
        Shard.of("1/7", RULES)


def test_the_command_prints_what_one_run_prints(tmp_path: Path) -> None:
    names = ("relu", "leaky_relu")
    search = ("check", *names, "--backend", "numpy", "--examples", 1)
    count = len(select(names))
    paths = []
    for number in range(1, count + 1):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(run(*search, "--shard", f"{number}/{count}", "--json").result)
    page, junit = tmp_path / "report.html", tmp_path / "report.xml"
    assert run("report", "merge", *paths, "--html", page, "--junit", junit).result == run(*search).result
    assert junit.read_text().count("<testcase") == count > 1
    assert "leaky_" in page.read_text()
    facts = json.loads(run("report", "merge", *paths, "--json").result)
    validate(facts)
    assert len(facts["results"]) == count
