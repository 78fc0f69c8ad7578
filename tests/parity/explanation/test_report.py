"""An explanation in the report: on the terminal, on the page, as JSON and as JUnit."""

import dataclasses
import json

from parity.explanation.words import LANGUAGES, WORDS, explained
from parity.mutants.all import mutant
from parity.mutants.mistake import Change, Explanation, Mistake
from parity.on_trial.exercise import exercises, get_exercise, get_twin
from parity.report import junit
from parity.report.finding import Finding
from parity.report.html import page
from parity.report.record import Report
from parity.report.run import judge
from parity.report.run import print_results as run_report
from tests.parity.explanation.test_explain import edited
from tests.parity.report.pieces import RULES, printed, validate

MISTAKE = Mistake(
    "<b>bold</b>", "a story", 7, 3, (Change("ops.relu", "old\nlines", "new"),), tuple("abcdef"), "attn.q", "2 ± 0.1"
)


def made(explanation: Explanation | None) -> Report:
    """A report of a failure that is explained so."""
    backend = edited(*mutant("RMSNorm for LayerNorm").edits)
    report = Report.about(backend, 4, 0, ["ops.layer_norm"])
    finding = Finding("ops.layer_norm", 1, False, True, 9.0, 9.0, "a case", "differs", "blamed", "", (None,), 0.5)
    report.findings.append(Finding(**{**_fields(finding), "explained": explanation}))
    return report


def _fields(finding: Finding) -> dict[str, object]:
    return {name: getattr(finding, name) for name in finding.__struct_fields__}


def test_every_form_of_the_report_has_it() -> None:
    explanation = Explanation((MISTAKE,), 9, 2)
    report = made(explanation)
    facts = json.loads(report.to_json())
    validate(facts)
    assert facts["explanations"]["ops.layer_norm"] == json.loads(json.dumps(dataclasses.asdict(explanation)))
    assert "explained" not in facts["results"][0]
    for text in (printed(report), junit.document(report).replace("&lt;", "<").replace("&gt;", ">")):
        assert "attn.q alone is explained by a known mistake: <b>bold</b>" in text
        assert "just as well: a; b; c; d; + 2" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in page(report)
    assert "<b>bold</b>" not in page(report)


def test_a_failure_that_nobody_explained_says_nothing() -> None:
    report = made(None)
    facts = json.loads(report.to_json())
    validate(facts)
    assert facts["explanations"] == {}
    assert "explain" not in printed(report)


def test_both_languages_say_the_same() -> None:
    one, other = (explained(Explanation((MISTAKE,), 9, 2), language) for language in LANGUAGES)
    assert len(one) == len(other)
    assert one != other
    assert all(len(forms) == len(LANGUAGES) for forms in WORDS.values())
    assert [len(explained(Explanation((), 9), language)) for language in LANGUAGES] == [1, 1]


def test_a_run_of_the_judge_explains_its_failures() -> None:
    backend = edited(*mutant("RMSNorm for LayerNorm").edits)
    result = judge(RULES["ops.layer_norm"], backend, 4, 0)
    assert result.explained is not None
    assert [each.name for each in result.explained.mistakes] == ["RMSNorm for LayerNorm"]
    report = run_report({"ops.relu": RULES["ops.relu"]}, backend, 2, 0, None)
    assert json.loads(report.to_json())["explanations"] == {}


def test_an_exercise_is_not_given_away() -> None:
    bug = mutant("RMSNorm for LayerNorm")
    number = str(exercises().index(bug) + 1)
    named, hidden = (
        judge(RULES["ops.layer_norm"], backend, 3, 0).explained
        for backend in (get_twin(bug.name), get_exercise(number))
    )
    assert named is not None
    assert named.mistakes[0].name == bug.name
    assert hidden is None
