"""Benchmarks of speed and learning, beside other implementations in the same run."""
