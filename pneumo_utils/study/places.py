"""Where runs are kept: `runs/` in the checkout, or the folder that PNEUMO_RUNS names."""

import os
from pathlib import Path

from pneumo_utils import ROOT

CURRENT = "PNEUMO_RUN"  # set for a kernel by the runner: the folder of the run it belongs to


def runs() -> Path:
    return Path(os.environ.get("PNEUMO_RUNS") or ROOT / "runs")


def current(chapter: str) -> Path:
    """The folder of the run that goes on in this process; by hand, in Jupyter or plain papermill, one a chapter."""
    return Path(os.environ.get(CURRENT) or runs() / chapter / "by-hand")
