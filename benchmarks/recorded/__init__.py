"""Dumps by the real msprobe, correct ones and such with a planted bug, and what `gpt2 judge` finds in them.

In an environment with PyTorch and transformers, and in one with MindSpore: `pip install mindstudio-probe`.
"""
