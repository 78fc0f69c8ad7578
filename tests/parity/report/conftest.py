"""What a real search finds."""

import pytest

from parity.report import print_results
from parity.report.record import Report
from tests.parity.report.pieces import RULES
from tests.parity.report.reports import Wrong


@pytest.fixture(scope="session")
def wrong() -> Report:
    """What a real search finds on a backend that fails in every way."""
    return print_results(RULES, Wrong(), 5, 0, None)
