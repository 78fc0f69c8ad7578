"""How the twin is run: devices, compiled graphs, whole models, decoding and training."""
