"""Our own twin, its sources as they are, on the MindSpore of this environment, as the subject of a peer."""

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import types
import warnings

PACKAGES = ("reference", "ms_backend")
KINDS = {"Batch": types.SimpleNamespace}


def _find(root):
    """Let the packages be imported from the folder, and nothing else that is beside them."""
    for name in PACKAGES:
        place = os.path.join(root, name)
        spec = importlib.util.spec_from_file_location(
            name, os.path.join(place, "__init__.py"), submodule_search_locations=[place]
        )
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def _written(sources):
    """A new folder with these files, {path: text}: a graph compiler reads them where they are."""
    root = tempfile.mkdtemp(prefix="gpt2-peer-")
    for path, text in sources.items():
        file = os.path.join(root, *path.split("/"))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(text)
    return root


def make(root="", sources=None, **options):
    """The subject, from the sources in the folder `root`, or, on another machine, from the texts of their files.

    Raises ValueError for another version of MindSpore.
    """
    copied = _written(sources) if sources else ""
    try:
        backend = _backend(root or copied, **options)
    except BaseException:
        shutil.rmtree(copied, ignore_errors=True)
        raise
    backend.close = lambda: shutil.rmtree(copied, ignore_errors=True)
    return backend


def _backend(root, version="", **options):
    _find(root)
    importlib.import_module("ms_backend.engine")  # sets what MindSpore reads when it is imported
    mindspore = importlib.import_module("mindspore")
    if version and mindspore.__version__ != version:
        raise ValueError(f"this environment has MindSpore {mindspore.__version__}, not {version}")
    config = importlib.import_module("reference.config")
    KINDS.update(GPT2Config=config.GPT2Config, TrainingConfig=config.TrainingConfig)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        backend = importlib.import_module("ms_backend.engine.backend").MindSporeBackend(**options)
        backend.accuracy  # noqa: B018  (of a version that was not measured before it is measured now, which is said)
    backend.facts = {
        "notes": [str(each.message) for each in said if each.category is UserWarning],
        "device": backend.device,
        "dtype": backend.dtype,
        "mode": backend.mode,
        "versions": {"MindSpore": mindspore.__version__},
    }
    return backend
