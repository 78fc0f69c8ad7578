"""Test cases: the shapes that docstrings promise, and inputs that expose wrong implementations."""
