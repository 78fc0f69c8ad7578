"""Whether a result agrees: the one rule, the rounding noise that it measures, and what the reference says of a case."""

from parity.verdict.verdict import Reference, Verdict, judge

__all__ = ["Reference", "Verdict", "judge"]
