"""Planted bugs: common mistakes in ports of GPT-2, each alone in a copy of the sources."""

from parity.mutants.all import MUTANTS, mutant

__all__ = ["MUTANTS", "mutant"]
