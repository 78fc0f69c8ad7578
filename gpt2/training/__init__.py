"""Training runs: their settings, their steps, their checkpoints, and what they leave to be read."""
