"""Expected failures: an entry that fits excuses a failure, one that no longer fits is a failure itself."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from gpt2.backends import NumPyBackend
from gpt2.errors import GPT2Error
from parity.check import select
from parity.report import print_results
from parity.report.expected import (
    EXPECTED,
    EXPIRED,
    MOVED,
    NOT_JUDGED,
    OTHER_RUN,
    PASSES,
    SCHEMA,
    ExpectedFailure,
    apply,
    load,
)
from parity.report.finding import Finding
from tests.parity.report.reports import Wrong, entry, failure, finding

ROOT = Path(__file__).parents[3]
HERE = {"backend": "numpy", "device": "CPU", "dtype": "float32", "mode": "eager", "version": np.__version__}


def became(expected: ExpectedFailure, *found: Finding) -> str:
    """The status of one entry in a run that found this."""
    (outcome,) = apply([expected], found, HERE)
    assert outcome.message
    return outcome.status


@pytest.mark.parametrize(
    ("measured", "found", "status"),
    [
        (30.0, 30.0, EXPECTED),
        (30.0, 60.0, EXPECTED),
        (30.0, 15.0, EXPECTED),
        (30.0, 60.1, MOVED),
        (30.0, 14.9, MOVED),
        (None, None, EXPECTED),
        (30.0, None, MOVED),
        (None, 30.0, MOVED),
    ],
)
def test_a_figure_may_move_by_a_factor_of_two(measured: float | None, found: float | None, status: str) -> None:
    assert became(entry("ops.gelu", noise_ratio=measured), failure("ops.gelu", noise_ratio=found)) == status


def test_an_unexpected_pass_is_told() -> None:
    assert became(entry("ops.gelu"), finding("ops.gelu")) == PASSES


@pytest.mark.parametrize("field", ["backend", "device", "dtype", "mode"])
def test_an_entry_of_another_run_says_nothing(field: str) -> None:
    other = msgspec.structs.replace(entry("ops.gelu"), **{field: "another"})
    assert became(other, failure("ops.gelu")) == OTHER_RUN


def test_an_entry_of_another_version_has_expired() -> None:
    (outcome,) = apply([entry("ops.gelu", version="0.9")], [failure("ops.gelu")], HERE)
    assert outcome.status == EXPIRED
    assert "measure again" in outcome.message


@pytest.mark.parametrize(
    "found",
    [[], [finding("ops.gelu", offered=False)], [finding("ops.gelu", severities=())]],
    ids=["not asked for", "not offered", "untried"],
)
def test_what_was_not_judged_neither_fails_nor_passes(found: list[Finding]) -> None:
    assert became(entry("ops.gelu"), *found) == NOT_JUDGED


# In a run.


def written(path: Path, *entries: Any) -> Path:
    facts = [msgspec.to_builtins(each) if isinstance(each, ExpectedFailure) else each for each in entries]
    path.write_text(json.dumps({"schema": SCHEMA, "failures": facts}))
    return path


def test_a_measured_failure_can_be_expected_and_then_the_run_passes(tmp_path: Path) -> None:
    rules = select(["ops.layer_norm", "ops.gelu", "ops.relu"])
    unexpected = print_results(rules, Wrong(), 3, 0, None)
    assert unexpected.exit_code == 1
    ratio = {found.function: found.noise_ratio for found in unexpected.findings}
    known = [entry(name, noise_ratio=ratio[name]) for name in ("ops.layer_norm", "ops.gelu")]
    console = Console(file=io.StringIO(), width=200)
    made = print_results(rules, Wrong(), 3, 0, console, expected=written(tmp_path / "expected.json", *known))
    assert made.exit_code == 0
    assert made.headline == "1 of 3 functions agrees, 2 fail as expected"
    assert isinstance(console.file, io.StringIO)
    assert "ops.gelu: fails as expected: erf is missing (measured 2026-01-31)" in console.file.getvalue()
    assert made.to_dict()["agrees"]


@pytest.mark.parametrize(
    "stale",
    [entry("ops.relu"), entry("ops.layer_norm", noise_ratio=1e-9), entry("ops.layer_norm", version="0.9")],
    ids=["unexpected pass", "moved", "expired"],
)
def test_an_entry_that_does_not_fit_excuses_nothing(tmp_path: Path, stale: ExpectedFailure) -> None:
    rules = select([stale.function])
    assert print_results(rules, Wrong(), 3, 0, None, expected=written(tmp_path / "expected.json", stale)).exit_code == 1


def test_an_entry_for_another_device_harms_nobody(tmp_path: Path) -> None:
    expected = written(tmp_path / "expected.json", entry("ops.relu", device="Ascend"))
    assert print_results(select(["ops.relu"]), NumPyBackend(), 3, 0, None, expected=expected).exit_code == 0


# The file.


def test_the_example_in_the_documentation_can_be_loaded(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    examples = [block.partition("```")[0] for block in text.split("```json\n")[1:]]
    (example,) = [block for block in examples if SCHEMA in block]
    (tmp_path / "expected.json").write_text(example, encoding="utf-8")
    assert len(load(tmp_path / "expected.json")) == 2


FIELDS = ExpectedFailure.__struct_fields__
WHOLE = msgspec.to_builtins(entry("ops.gelu"))


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    partial = {name: value for name, value in WHOLE.items() if name != field}
    path = written(tmp_path / "expected.json", WHOLE | {"device": "GPU"}, partial)
    with pytest.raises(GPT2Error, match=rf"expected\.json: 'failures\[1\]' has no field '{field}': it has "):
        load(path)


@pytest.mark.parametrize("value", [3, "", " ", None, ["x"], True])
@pytest.mark.parametrize("field", [name for name in FIELDS if name != "noise_ratio"])
def test_a_field_of_the_wrong_type_is_named(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(GPT2Error, match=rf"'failures\[0\]\.{field}' must be a "):
        load(written(tmp_path / "expected.json", WHOLE | {field: value}))


@pytest.mark.parametrize("value", ["30", 0, -1, True, [30], float("nan"), float("inf"), 10**400])
def test_a_figure_must_be_a_figure(tmp_path: Path, value: Any) -> None:
    with pytest.raises(GPT2Error, match=r"'failures\[0\]\.noise_ratio' must be a number"):
        load(written(tmp_path / "expected.json", WHOLE | {"noise_ratio": value}))


@pytest.mark.parametrize("value", ["yesterday", "2026-02-30", "31.01.2026"])
def test_a_date_must_be_a_date(tmp_path: Path, value: str) -> None:
    with pytest.raises(
        GPT2Error, match=rf"'failures\[0\]\.measured' must be a date such as 2026-01-31, but is '{value}'"
    ):
        load(written(tmp_path / "expected.json", WHOLE | {"measured": value}))


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"'failures\[0\]' has an unknown field 'severity': the fields are function, d"):
        load(written(tmp_path / "expected.json", WHOLE | {"severity": 3}))
    with pytest.raises(GPT2Error, match=r"'failures\[0\]' has an unknown field 'devise': is 'device' meant\?"):
        load(written(tmp_path / "expected.json", WHOLE | {"devise": "CPU"}))


def test_two_entries_for_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"'failures\[1\]' says the same as 'failures\[0\]'"):
        load(written(tmp_path / "expected.json", WHOLE, WHOLE | {"noise_ratio": 5.0}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema": "gpt2-expected-failures/2", "failures": []}',
        f'{{"schema": "{SCHEMA}"}}',
        f'{{"schema": "{SCHEMA}", "failures": [3]}}',
        "[" * 100_000,
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "expected.json").write_text(text)
    with pytest.raises(GPT2Error, match=r"expected\.json") as refusal:
        load(tmp_path / "expected.json")
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_text_and_absent_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(GPT2Error, match="not valid JSON"):
        load(tmp_path / "expected.json")
    with pytest.raises(GPT2Error, match="cannot read"):
        load(tmp_path / "absent.json")
