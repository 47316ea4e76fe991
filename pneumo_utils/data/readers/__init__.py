"""Readers: one module per release, whose `read(root)` turns a folder or an archive into a `Cohort`."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers.file_tree import FileTree

# in the order in which a folder is compared with them
RELEASE_NAMES = ("medmnist", "rsna", "nih", "covid_gan", "curated_covid", "kermany")


def reader_module(name: str) -> ModuleType:
    """Import the reader of a release; raise `StudyError` if there is none.

    name: one of `RELEASE_NAMES`.
    """
    if name not in RELEASE_NAMES:
        raise StudyError(f"There is no release {name!r}: choose one of {', '.join(sorted(RELEASE_NAMES))}.")
    return importlib.import_module(f"pneumo_utils.data.readers.{name}")


def find_reader(root: str | Path) -> ModuleType:
    """Find the reader of the release in a folder; raise `StudyError` if no reader knows it.

    root: a folder, or the archive of a release.
    """
    tree = FileTree.open(root)
    if module := matching_reader(tree):
        return module
    layouts = "\n".join(f"  {name:14} {reader_module(name).LAYOUT}" for name in sorted(RELEASE_NAMES))
    raise StudyError(
        f"{root} is none of the releases that this book reads ({tree.describe()}). They are known by:\n{layouts}"
    )


def read_cohort(root: str | Path, say: Callable[[str], object] | None = print) -> Cohort:
    """Read a release from a folder or an archive; raise `StudyError` if no reader knows its layout.

    The book's page on the data lists the layouts. The cohort has the official split, if there is one. It may have
    patients on both sides; `cohort.split(by="patient", test=0.2, valid=0.15)` makes a split that has not.

    root: a folder with a data set in its published layout, or an archive of it.
    say: receives the summary of what was read; None for silence.

    >>> cohort = pu.read_cohort("phantom_children", say=None)
    >>> cohort.classes
    ['normal', 'pneumonia']
    """
    return find_reader(root).read(root, say=say)


def matching_reader(tree: FileTree) -> ModuleType | None:
    """Return the reader of the release in a folder, or None.

    tree: the files of the folder.
    """
    return next((module for name in RELEASE_NAMES if (module := reader_module(name)).looks_like(tree)), None)
