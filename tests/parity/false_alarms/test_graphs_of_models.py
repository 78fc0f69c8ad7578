"""No false alarm on MindSpore's graphs: models and their parts."""

from tests.parity.false_alarms.silence import EVERY, SMALL, expect_silence_of_graphs, on_every, shapes

OWN = [function for function in EVERY if function.split(".")[0] not in SMALL]


@on_every(*OWN)
def test_no_false_alarm_in_float32(function: str) -> None:
    expect_silence_of_graphs(function, "float32")


@on_every(*(function for function in OWN if shapes(function, "float16")))
def test_no_false_alarm_in_float16(function: str) -> None:
    expect_silence_of_graphs(function, "float16")
