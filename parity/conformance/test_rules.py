"""One test per rule: a comparison with the reference, or a law."""

import time

import pytest

from parity.check import Rule, SearchResult, check_at_its_cost, compiled_rules, rules
from parity.diagnosis.diagnose import diagnose
from parity.explanation.explain import name_the_bug
from parity.explanation.words import explained
from parity.plugin import SESSION, Session

RULES = rules() | compiled_rules()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_rule(rule: Rule, pytestconfig: pytest.Config) -> None:
    session = pytestconfig.stash[SESSION]
    begun = time.monotonic()
    with session.failures.limited():
        result = check_at_its_cost(rule, session.backend, session.examples, session.seed)
        text = "" if result.agrees else explain(rule, result, session)
    if not result.offered:
        pytest.skip(f"backend {session.backend.name!r} does not offer what {rule.name} needs")
    if not result.agrees:
        session.failures.spent += time.monotonic() - begun
        pytest.fail(text, pytrace=False)  # the text names the fault; our own call stack would only hide it


def explain(rule: Rule, result: SearchResult, session: Session) -> str:
    """The failure in words: the difference, the smallest case and, if possible, its origin and a script."""
    try:
        diagnose(rule, result, session.backend, session.examples, session.seed)
    except Exception as error:  # third-party code, which may offer no stages
        result.blame = f"its origin is not known: {type(error).__name__}: {error}"
    text = result.to_dict()["explanation"]
    if result.failing_case is not None:
        text += f"\nsmallest case: {result.failing_case.describe()}"
    if result.blame:
        text += f"\n\n{result.blame}"
    name_the_bug(rule, result, session.backend, session.examples, session.seed)
    if result.explained is not None:
        text += "\n\n" + "\n".join(explained(result.explained))
    if result.script:
        text += f"\n\nThis script reproduces it:\n\n{result.script}"
    return text
