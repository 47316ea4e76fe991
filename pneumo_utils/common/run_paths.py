"""Paths of runs and of the built book.

Runs are kept in the folder PNEUMO_RUNS. By default this is `runs/` in the repository, or in the current folder if only
the package is installed.
"""

import os
import re
from pathlib import Path

from filelock import FileLock

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, sha256_hex

CURRENT_RUN_VARIABLE = "PNEUMO_RUN"  # environment variable that the runner sets for a kernel: the folder of its run


def in_repository(root: Path = ROOT) -> bool:
    """Tell whether the package runs from a clone of the repository, with the chapters and the book.

    root: the folder that contains the package.
    """
    return (root / "_toc.yml").is_file()


def repository_dir(root: Path = ROOT) -> Path:
    """Return the folder of the repository; raise `StudyError` if only the package is installed.

    root: the folder that contains the package.
    """
    if not in_repository(root):
        raise StudyError(
            f"There is no _toc.yml in {root}: the chapters, their records and the book are in the repository, and only "
            "the package is installed here. Clone the repository, install the package from the clone with "
            "`pip install --editable .`, and run the command again."
        )
    return root


def notebook_page(name: str) -> str:
    """Return the page of a notebook in the book, as a path without suffix.

    Further experiments on a paper have a number with an f. What goes beyond another page has its name and "_checks" or
    "_details", or "_plates" for pictures.

    name: the name of the notebook, such as "01_surgical_finetuning", "01f_further_experiments" or "synthesis_details".
    """
    return f"notebooks/further/{name}" if re.match(r"\d+f_|.*_(checks|details|plates)$", name) else f"notebooks/{name}"


def runs_dir() -> Path:
    """Return the folder of all runs; by default it also holds the data that the package makes."""
    return Path(os.environ.get("PNEUMO_RUNS") or (ROOT if in_repository() else Path.cwd()) / "runs")


def book_folder(name: str) -> str:
    """Return the path of the folder `book` from the page of a notebook, as links need it.

    name: the name of the notebook.
    """
    return "../" * notebook_page(name).count("/") + "book"


def kept_dir(chapter: str) -> Path:
    """Return the folder of a chapter's cached results; further experiments and details share their chapter's.

    chapter: the name of the chapter.
    """
    return runs_dir() / "kept" / re.sub(r"^(\d+)f?_.*|_(?:checks|details)$", r"\1", chapter)


def build_dir() -> Path:
    """Return the folder of the built book: PNEUMO_BUILD, or `_build/` in the repository."""
    return Path(os.environ.get("PNEUMO_BUILD") or repository_dir() / "_build")


def current_run_dir(chapter: str) -> Path:
    """Return the folder of the run of this process; in Jupyter or plain papermill, `by-hand` of the chapter.

    chapter: the name of the chapter.
    """
    return Path(os.environ.get(CURRENT_RUN_VARIABLE) or runs_dir() / chapter / "by-hand")


def path_lock(path: Path) -> FileLock:
    """Return a lock for a path, so that only one process writes there; it is released if the process is killed.

    path: the file or folder that is written.
    """
    folder = runs_dir() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{sha256_hex(str(path.resolve()))[:16]}.lock")
