"""What is said of one recorded call, judged on its own recorded inputs: nothing is inherited from calls before it."""

import dataclasses

from parity.recorded.recording import Call
from parity.verdict.verdict import Verdict


@dataclasses.dataclass(frozen=True)
class CallJudgement:
    """The judgement on one call.

    function: the reference's, "ops.conv1d", or a plain tensor operation, "tensor.add"; "" if none is known. verdicts:
    one for each of the call's results that was judged. reason: why the call was not judged; "" if it was.
    by_statistics: whether only the dump's statistics of the results could be compared, which proves little.
    """

    call: Call
    function: str = ""
    verdicts: tuple[Verdict, ...] = ()
    reason: str = ""
    by_statistics: bool = False

    @property
    def is_judged(self) -> bool:
        """Whether anything was compared."""
        return bool(self.verdicts)

    @property
    def agrees(self) -> bool:
        """Whether all that was compared agrees."""
        return all(verdict.agrees for verdict in self.verdicts)

    @property
    def worst(self) -> Verdict | None:
        """The verdict that is nearest to its limit or farthest beyond it; None if the call was not judged."""
        return max(self.verdicts, key=lambda verdict: verdict.severity, default=None)
