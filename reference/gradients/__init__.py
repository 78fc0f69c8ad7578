"""The gradients of the reference, derived by hand: of every function of ops.py, attention.py and model.py that has one.

Each file mirrors the file of its name: there `softmax`, here `softmax_vjp`. MindSpore differentiates by itself, so its
files have no such twins; the judge compares what both find, and names the pair by the function, "ops.softmax_vjp".
"""
