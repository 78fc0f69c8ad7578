"""The judge's results as a table, an HTML page, JSON and JUnit XML, all made from the same facts."""

from parity.report.run import print_results, processes_for

__all__ = ["print_results", "processes_for"]
