"""No false alarm on NumPy."""

import pytest

from tests.parity.false_alarms.silence import MORE, expect_silence, on_every


@on_every()
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_no_false_alarm(function: str, dtype: str) -> None:
    expect_silence(function, "numpy", dtype, "eager", 20 * MORE)
