"""How the twin is run: devices, compiled graphs, whole models, decoding and training."""

import os
import tempfile

# MindSpore reads these when it is imported, which the files of this folder do.
os.environ.setdefault("GLOG_v", "4")  # quiets MindSpore's own log; what matters comes back as an exception
os.environ.setdefault("MS_OM_PATH", tempfile.gettempdir())  # where it writes a graph that did not compile
