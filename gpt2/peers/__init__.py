"""Peers: backends that run in another interpreter, with another MindSpore or PyTorch, or on another machine."""
