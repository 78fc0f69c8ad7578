"""Files that run in a peer's process: they are sent to it, and nothing here imports them.

They need Python 3.9 and what their environment has; of ours, they know frames.py alone.
"""
