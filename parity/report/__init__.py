"""The judge's results as a table, an HTML page, JSON and JUnit XML, all made from the same facts."""

from parity.report.merge import merge_shards
from parity.report.run import print_results, processes_for, require_outputs, write_files
from parity.report.shard import Shard
from parity.report.table import print_report

__all__ = [
    "Shard",
    "merge_shards",
    "print_report",
    "print_results",
    "processes_for",
    "require_outputs",
    "write_files",
]
