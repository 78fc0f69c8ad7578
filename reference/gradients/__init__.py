"""The gradients of the reference, derived by hand: for each function of ops.py, attention.py and model.py that has one.

Each file belongs to the file of the same name: there `softmax`, here `softmax_vjp`. MindSpore differentiates its own
functions, so it has no such files; the judge compares the two gradients under the name "ops.softmax_vjp".
"""
