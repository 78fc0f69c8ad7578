"""Peers: backends that run in another interpreter, with another MindSpore or PyTorch, or on another machine.

    gpt2 peers install torch
    gpt2 check --backend torch

`subjects.py` says which there are; `environments.py` makes their environments from the lists in `pins/`. `process.py`
starts a process and asks it by the frames of `frames.py`, `backend.py` makes a backend of that. The files in `worker/`
run in the peer's process, which gets them over its pipe: nothing of ours is installed there. A crash, a hang or garbage
is an error of the request that it comes from, and so, for the judge, a counterexample; the next request starts anew.
"""

from gpt2.peers.process import PeerDiedError, PeerError
from gpt2.peers.subjects import get_peer

__all__ = ["PeerDiedError", "PeerError", "get_peer"]
