"""Where runs are kept, `runs/` in the checkout or the folder that PNEUMO_RUNS names, and where the book is bound."""

import hashlib
import os
from pathlib import Path

from filelock import FileLock

from pneumo_utils import ROOT

CURRENT = "PNEUMO_RUN"  # set for a kernel by the runner: the folder of the run it belongs to


def runs() -> Path:
    """Return the folder of the runs."""
    return Path(os.environ.get("PNEUMO_RUNS") or ROOT / "runs")


def build() -> Path:
    """Where the book is bound: `_build/` in the checkout, or the folder that PNEUMO_BUILD names."""
    return Path(os.environ.get("PNEUMO_BUILD") or ROOT / "_build")


def current(chapter: str) -> Path:
    """The folder of the run that goes on in this process; by hand, in Jupyter or plain papermill, one a chapter."""
    return Path(os.environ.get(CURRENT) or runs() / chapter / "by-hand")


def lock(place: Path) -> FileLock:
    """The lock of whatever is made at a place; it goes with the process that holds it, even one that is killed."""
    folder = runs() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:16]}.lock")
