"""Where runs are kept: `runs/` in the repository, or in the current folder where only the package is installed, or the
folder that PNEUMO_RUNS names; and where the book is bound.
"""

import hashlib
import os
from pathlib import Path

from filelock import FileLock

from pneumo_utils import ROOT
from pneumo_utils.common.errors import StudyError

CURRENT = "PNEUMO_RUN"  # set for a kernel by the runner: the folder of the run it belongs to


def in_repository(root: Path = ROOT) -> bool:
    """Tell whether the package runs from the repository, with the chapters and the book beside it."""
    return (root / "_toc.yml").is_file()


def repository(root: Path = ROOT) -> Path:
    """Return the repository's folder, or end with what to do where there is only the package."""
    if not in_repository(root):
        raise StudyError(
            f"There is no _toc.yml in {root}: the chapters, their records and the book are in the repository, and only "
            "the package is installed here. Clone the repository, install the package from the clone with "
            "`pip install --editable .`, and run the command again."
        )
    return root


def runs() -> Path:
    """Return the folder of all runs and, unless PNEUMO_DATA names another, of the data that the package makes."""
    return Path(os.environ.get("PNEUMO_RUNS") or (ROOT if in_repository() else Path.cwd()) / "runs")


def build() -> Path:
    """Return where the book is bound: `_build/` in the checkout, or the folder that PNEUMO_BUILD names."""
    return Path(os.environ.get("PNEUMO_BUILD") or repository() / "_build")


def current(chapter: str) -> Path:
    """The folder of the run that goes on in this process; by hand, in Jupyter or plain papermill, one a chapter."""
    return Path(os.environ.get(CURRENT) or runs() / chapter / "by-hand")


def lock(place: Path) -> FileLock:
    """The lock of whatever is made at a place; it goes with the process that holds it, even one that is killed."""
    folder = runs() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:16]}.lock")
