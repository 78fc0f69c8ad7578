"""What the judge found, for people and for machines: a table, a page (HTML), JSON, JUnit, all from the same facts."""

from parity.report.run import print_results

__all__ = ["print_results"]
