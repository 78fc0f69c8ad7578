"""The table of operators: which function of the reference a recorded call is, and what is expected of it."""

from parity.recorded.operators.table import Bound, Operators, load_operators

__all__ = ["Bound", "Operators", "load_operators"]
