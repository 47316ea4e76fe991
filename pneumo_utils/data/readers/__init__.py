"""One module a release: `read(root)` turns a folder on disk, or the archive it came in, into a Cohort.

`recognise(root)` finds the module that a folder is for; the order of NAMES is the order in which they are asked.
"""

import importlib
from pathlib import Path
from types import ModuleType

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.readers.file_tree import Tree

NAMES = ("medmnist", "rsna", "nih", "covid_gan", "curated_covid", "kermany")


def release(name: str) -> ModuleType:
    """Import the module of a release; raise `StudyError` if there is none with this name."""
    if name not in NAMES:
        raise StudyError(f"There is no release {name!r}: choose one of {', '.join(sorted(NAMES))}.")
    return importlib.import_module(f"pneumo_utils.data.readers.{name}")


def recognise(root: str | Path) -> ModuleType:
    """The module whose release lies in a folder."""
    tree = Tree.open(root)
    if found := whose(tree):
        return found
    layouts = "\n".join(f"  {name:14} {release(name).LAYOUT}" for name in sorted(NAMES))
    raise StudyError(
        f"{root} is none of the releases that this book reads ({tree.told()}). They are known by:\n{layouts}"
    )


def whose(tree: Tree) -> ModuleType | None:
    """Return the module of the release that a folder holds, or None."""
    return next((module for name in NAMES if (module := release(name)).looks_like(tree)), None)
