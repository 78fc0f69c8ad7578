"""Where in the user's code a recorded call was made: the lines of its call stack that are not a framework's."""

import re

from parity.recorded.recording import Call

FRAME = re.compile(
    r'File "?(?P<file>[^\n]*?)"?, line (?P<line>\d+), in (?P<function>[^,\n]*),?\s*(?P<code>.*)', re.DOTALL
)
FRAMEWORKS = ("torch", "torch_npu", "mindspore", "msprobe", "troubleshooter")
MODELS = ("transformers", "mindnlp", "mindformers", "accelerate", "vllm", "vllm_ascend")
# What stands below a package's folder, by which it is known wherever it is installed.
INSIDE = (
    r"nn|ops|common|graph|_?train|utils?|autograd|mint|rewrite|core|models|parallel|pytorch|mindspore|_\w+|functional"
)


def users_lines(call: Call) -> tuple[str, ...]:
    """The innermost line that is not a framework's; if that is a library of models', the innermost of the user's, too.

    A stack of a framework's lines alone gives its innermost one; a call without a stack gives none.
    """
    shown = [(frame["file"], _in_short(frame)) for frame in map(FRAME.match, call.stack) if frame is not None]
    outside = [(file, line) for file, line in shown if not _is_of(file, FRAMEWORKS)]
    own = [line for file, line in outside if not _is_of(file, MODELS)]
    if not outside:
        return tuple(line for _, line in shown[:1])
    return tuple(dict.fromkeys([outside[0][1], *own[:1]]))


def _is_of(file: str, packages: tuple[str, ...]) -> bool:
    path = file.replace("\\", "/")
    words = "|".join(packages)
    return bool(
        re.search(rf"/(site|dist)-packages/({words})(/|\.py$)", path)
        or re.search(rf"/({words})/({INSIDE})(/|\.py$)", path)
    )


def _in_short(frame: re.Match[str]) -> str:
    return f"{frame['file']}:{frame['line']}, in {frame['function']}: {' '.join(frame['code'].split())}".rstrip(": ")
