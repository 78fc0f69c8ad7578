"""Read a recorded run, whichever tool recorded it."""

from pathlib import Path

from gpt2.errors import GPT2Error
from parity.recorded.msprobe import dump_folders, read_msprobe
from parity.recorded.recording import Recording


def read_recording(path: Path) -> Recording:
    """The recording in a folder or file; numbers are read when they are asked for, and nothing in it is executed.

    Raises GPT2Error, in one line, if there is none that is known here, or if it is damaged.
    """
    try:
        if not path.exists():
            raise GPT2Error(f"{path} does not exist: name the folder of a recorded run")
        if dump_folders(path):
            return read_msprobe(path)
    except (OSError, RuntimeError) as error:  # no permission, a loop of links
        raise GPT2Error(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    raise GPT2Error(f"{path} is no recorded run: name a folder of msprobe (with step0 in it)")
