"""Other projects' rules say what their sources say: here msprobe's two."""

import numpy as np
import pytest

from parity.on_trial.other_rules import OTHER_RULES

AXES = np.eye(4)
# A result, the reference's, and whether they agree for mindstudio-probe 26.2.0: when it compares dumps (what its
# `check_accuracy` said when it was run), and in its pre-check (as it reads: it only runs beside MindSpore and PyTorch).
SAID = {
    "equal": (AXES[0], AXES[0], True, True),
    "both 0": (np.zeros(4), np.zeros(4), True, True),
    "off by half of 0.001": (AXES[0] + 5e-4 * AXES[1], AXES[0], True, True),
    "off by more, in the same direction": (1.01 * AXES[0], AXES[0], True, False),
    "off by more than 1, in the same direction": (1e3 * AXES[0] + 2 * AXES[1], 1e3 * AXES[0], False, False),
    "cosine 0.95, far off": (AXES[0] + 0.32 * AXES[1], AXES[0], False, False),
    "cosine 0.95, of small numbers": (1e-3 * AXES[0] + 3.2e-4 * AXES[1], 1e-3 * AXES[0], True, False),
    "cosine 0, of small numbers": (1e-4 * AXES[0], 1e-4 * AXES[1], False, False),
    "0 for a small number": (np.zeros(4), 0.5 * AXES[0], True, False),
    "0 for a large number": (np.zeros(4), 2.0 * AXES[0], False, False),
    "one number, wrong": (np.array([5.0]), np.array([1.0]), True, False),
}


@pytest.mark.parametrize("case", SAID)
def test_msprobe_is_quoted_as_it_is(case: str) -> None:
    value, own, compared, checked = SAID[case]
    arrays = value, own, own, np.dtype(np.float32)
    assert OTHER_RULES["msprobe compare"](*arrays) == compared
    assert OTHER_RULES["msprobe pre-check"](*arrays) == checked
