"""Read a recorded run, whichever tool recorded it."""

from pathlib import Path

from gpt2.errors import GPT2Error
from gpt2.recorder import INDEX
from parity.recorded import msprobe, troubleshooter
from parity.recorded.recorder_files import read_recorder
from parity.recorded.recording import Recording
from parity.recorded.stage_files import read_stage_files


def read_recording(path: Path) -> Recording:
    """The recording in a folder or file; numbers are read when they are asked for, and nothing in it is executed.

    Raises GPT2Error, in one line, if there is none that is known here, or if it is damaged.
    """
    try:
        if not path.exists():
            raise GPT2Error(f"{path} does not exist: name the folder of a recorded run")
        if path.suffix == ".npz" and path.is_file():
            return read_stage_files(path)
        if msprobe.dump_folders(path):
            return msprobe.read_msprobe(path)
        if path.name == INDEX or (path / INDEX).is_file():
            return read_recorder(path.parent if path.name == INDEX else path)
        if path.is_dir():
            if troubleshooter.dump_folders(path) or troubleshooter.is_saved(path):
                return troubleshooter.read_troubleshooter(path)
            if any(x.suffix == ".npy" for x in path.iterdir()):
                return read_stage_files(path)
    except (OSError, RuntimeError) as error:  # no permission, a loop of links
        raise GPT2Error(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    raise GPT2Error(
        f"{path} is no recorded run: name a folder of msprobe (it has step0 or dump.json in it), of troubleshooter, of "
        "gpt2.record, or of arrays named by stage, h.0.attn.q.npy"
    )
