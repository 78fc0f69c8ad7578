"""What a dump without numbers still tells: the statistics of calls whose results follow from those of the arguments."""

from parity.recorded.judgement import CallJudgement
from parity.recorded.operators import Bound
from parity.recorded.recording import Call


def judge(call: Call, bound: Bound | str, function: str) -> CallJudgement:
    """The judgement on a call of which only statistics were recorded."""
    return CallJudgement(
        call, function, reason="the dump holds statistics alone, from which its result does not follow"
    )
