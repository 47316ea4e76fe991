"""Releases whose labels are the names of folders, at any depth: archives are unpacked one into another, and a folder
comes doubled.
"""

from collections.abc import Callable

import pandas as pd

from pneumo_utils.data.readers.reading import Reading
from pneumo_utils.data.readers.tree import Tree


def by_folder(tree: Tree, reading: Reading, label_of: Callable[[str], str | None], astray: str) -> pd.DataFrame:
    """A row a picture: image, path, its folder and the label of that; of a file that lies in a doubled folder too,
    the one less deep.
    """
    rows = []
    for name, path in tree.pictures().items():
        *folders, file = name.split("/")
        at = next((at for at in range(len(folders) - 1, -1, -1) if label_of(folders[at])), None)
        if at is None:
            reading.aside([name], astray)
        else:
            rows.append(
                {
                    "image": "/".join([*folders[at:], file]),
                    "path": path,
                    "folder": folders[at],
                    "labels": label_of(folders[at]),
                    "depth": at,
                }
            )
    table = pd.DataFrame(rows).sort_values(["depth", "image"], kind="stable")
    again = table.duplicated("image")
    reading.aside(table["image"][again], "the same file once more in a doubled folder")
    return table[~again].drop(columns="depth").reset_index(drop=True)
