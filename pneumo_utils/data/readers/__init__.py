"""Readers: one module per release, whose `read(root)` turns a folder or an archive into a `Cohort`."""

import importlib
from pathlib import Path
from types import ModuleType

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.readers.file_tree import Tree

# in the order in which a folder is compared with them
NAMES = ("medmnist", "rsna", "nih", "covid_gan", "curated_covid", "kermany")


def release(name: str) -> ModuleType:
    """Import the reader of a release; raise `StudyError` if there is none.

    name: one of `RELEASE_NAMES`.
    """
    if name not in NAMES:
        raise StudyError(f"There is no release {name!r}: choose one of {', '.join(sorted(NAMES))}.")
    return importlib.import_module(f"pneumo_utils.data.readers.{name}")


def recognise(root: str | Path) -> ModuleType:
    """Find the reader of the release in a folder; raise `StudyError` if no reader knows it.

    root: a folder, or the archive of a release.
    """
    tree = Tree.open(root)
    if module := whose(tree):
        return module
    layouts = "\n".join(f"  {name:14} {release(name).LAYOUT}" for name in sorted(NAMES))
    raise StudyError(
        f"{root} is none of the releases that this book reads ({tree.describe()}). They are known by:\n{layouts}"
    )


def whose(tree: Tree) -> ModuleType | None:
    """Return the reader of the release in a folder, or None.

    tree: the files of the folder.
    """
    return next((module for name in NAMES if (module := release(name)).looks_like(tree)), None)
