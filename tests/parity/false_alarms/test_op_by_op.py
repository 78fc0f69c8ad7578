"""No false alarm on MindSpore, op by op."""

import pytest

from tests.parity.false_alarms.silence import EVERY, MORE, expect_silence, learns, on_every


@on_every()
def test_no_false_alarm_in_float32(function: str) -> None:
    expect_silence(function, "mindspore", "float32", "pynative", (4 if learns(function) else 20) * MORE)


@on_every()
def test_no_false_alarm_in_float16(function: str) -> None:
    expect_silence(function, "mindspore", "float16", "pynative", (4 if learns(function) else 15) * MORE)


@on_every(*(function for function in EVERY if not learns(function)))
@pytest.mark.filterwarnings("ignore:MindSpore has no bfloat16 kernels")
def test_no_false_alarm_in_bfloat16(function: str) -> None:
    expect_silence(function, "mindspore", "bfloat16", "pynative", 6 * MORE)
