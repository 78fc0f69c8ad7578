"""The judge: do two implementations of GPT-2 agree? It knows shapes and rounding, and no GPT-2 maths of its own."""
