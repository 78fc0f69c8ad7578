"""Whether a result agrees: the one rule, the noise floor that it measures, and the reference's results for a case."""

from parity.verdict.verdict import Reference, Verdict, judge

__all__ = ["Reference", "Verdict", "judge"]
