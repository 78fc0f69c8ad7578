"""Measurements of speed, each against somebody else's engine in the same run."""
