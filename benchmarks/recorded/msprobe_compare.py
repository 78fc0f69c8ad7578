"""Run msprobe's own compare, the dump of each bug against that of the correct model, to compare.csv beside the two.

`python -m benchmarks.recorded.msprobe_compare FOLDER MODEL ...`, where msprobe and the framework of these models are
installed. It runs `msprobe compare -tp dump/step0 -gp golden/step0`, in one process, as importing takes seconds.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from msprobe.msprobe import main as msprobe

from benchmarks.recorded.plain import read_cases


def compare(place: Path) -> None:
    """Compare the two dumps of a case. Raises StopIteration if msprobe wrote no table."""
    with tempfile.TemporaryDirectory() as output:
        paths = ["-tp", str(place / "dump" / "step0"), "-gp", str(place / "golden" / "step0"), "-o", output]
        sys.argv = ["msprobe", "compare", *paths]
        msprobe()
        shutil.move(next(Path(output).glob("*.csv")), place / "compare.csv")


def main(folder: Path, models: tuple[str, ...]) -> None:
    """Compare all that has two dumps and was not compared yet."""
    for place, _ in read_cases(folder, models):
        if (place / "golden").exists() and not (place / "compare.csv").exists():
            compare(place)
            print(place.name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
