"""Training runs: settings, steps, checkpoints and metrics."""
