"""GPT-2 in NumPy alone: the ground truth. Read ops.py, attention.py, model.py in this order."""
