"""The course-style attention of examples/ports with planted bugs: what the judge says of each, on either framework.

`python -m tests.parity.ports.course torch FOLDER EXAMPLES [NAME ...]` prints it as JSON, a line for each bug, for an
environment that has PyTorch; the file without a bug is named "".
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from parity.check import check_rule, rules
from parity.diagnosis.diagnose import diagnose
from parity.ports.port import get_port

EXAMPLES = Path(__file__).parents[3] / "examples" / "ports"
FILES = {"torch": EXAMPLES / "torch_attention.py", "mindspore": EXAMPLES / "mindspore_attention.py"}


# Changes of the files: "torch" and, where it is another there, "mindspore" are [old, new]. "named": a part of the line
# that is to be named, where that is not the changed one.
BUGS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("course_bugs.json").read_text(encoding="utf-8"))


def planted(bug: dict[str, Any] | None, framework: str, folder: Path) -> tuple[Path, range]:
    """The file with the bug, and the numbers of the lines of which one is to be named."""
    text = FILES[framework].read_text(encoding="utf-8")
    file = folder / f"{re.sub(r'[^a-z0-9]+', '_', bug['name'].lower() if bug else 'right')}_{framework}.py"
    lines = range(0)
    if bug is not None:
        old, new = bug.get(framework, bug["torch"])
        assert text.count(old) == 1, bug["name"]
        changed = text.replace(old, new)
        at = changed.index(bug["named"], changed.rindex("(self, x):")) if "named" in bug else text.index(old)
        first, text = changed[:at].count("\n") + 1, changed
        lines = range(first, first + (1 if "named" in bug else 1 + new.count("\n")))
    file.write_text(text, encoding="utf-8")
    return file, lines


def said(bug: dict[str, Any] | None, framework: str, folder: Path, examples: int) -> dict[str, Any]:
    """What the judge says of the file with that bug, or of the right one."""
    file, lines = planted(bug, framework, folder)
    backend = get_port(f"{file}:attention;framework={framework};as=course")
    result = check_rule(rules()["attention.attention"], backend, examples, closest=0)
    diagnose(rules()["attention.attention"], result, backend, 5)
    named = [int(number) for number in re.findall(rf"{file.name}:(\d+): ", result.blame)]
    return {
        "name": bug["name"] if bug else "",
        "agrees": result.agrees,
        "cases": result.cases,
        "lines": list(lines),
        "named": named,
        "blame": result.blame,
        "explanation": result.to_dict()["explanation"],
    }


if __name__ == "__main__":
    framework, folder, examples = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    names = sys.argv[4:] or ["", *(bug["name"] for bug in BUGS)]
    for bug in (None, *BUGS):
        if (bug["name"] if bug else "") in names:
            print(json.dumps(said(bug, framework, folder, min(examples, 25) if bug else examples)), flush=True)
