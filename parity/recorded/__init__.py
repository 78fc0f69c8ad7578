"""Runs that were recorded on another machine: read what was dumped, and judge it by the reference."""
