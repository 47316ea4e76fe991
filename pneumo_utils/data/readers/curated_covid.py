"""Read the curated COVID-19 radiographs (Sait et al.): four class folders, without patients and without a split."""

import re
import sys
from pathlib import Path

from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers.base import CohortBuilder, incomplete_release, label_by_folder, wrong_release
from pneumo_utils.data.readers.file_tree import FileTree

TITLE = "Curated COVID-19 chest radiographs"
LAYOUT = "folders COVID-19, Normal, Pneumonia-Bacterial and Pneumonia-Viral"
LICENCE = (
    "the one that Mendeley Data shows beside 9xkhgts2s6; the images come from fifteen public sets, whose own "
    "terms go on"
)
SOURCE = (
    "https://data.mendeley.com/datasets/9xkhgts2s6/4, or kaggle datasets download "
    "unaissait/curated-chest-xray-image-dataset-for-covid19"
)
KAGGLE = "unaissait/curated-chest-xray-image-dataset-for-covid19"
ADULT = False
PUBLISHED = {"images": 9208, "covid": 1281, "normal": 3270, "bacterial": 3001, "viral": 1656}

CLASSES = {"normal": "normal", "pneumoniabacterial": "bacterial", "pneumoniaviral": "viral", "covid19": "covid"}


def normalise_folder_name(folder: str) -> str:
    """Reduce a folder name to lower-case letters and digits.

    folder: the name.
    """
    return re.sub(r"[^a-z0-9]", "", folder.lower())


def looks_like(tree: FileTree) -> bool:
    """Tell whether a folder looks like this release.

    tree: the files of the folder.
    """
    folders = {normalise_folder_name(part) for name in tree.image_files() for part in name.split("/")[:-1]}
    return len(folders & CLASSES.keys()) >= 2


def read(root: str | Path, say=print) -> Cohort:
    """Read the release with the labels normal, bacterial, viral and covid.

    root: the folder or archive of the release.
    say: prints the summary; None prints nothing.
    """
    tree = FileTree.open(root)
    if not looks_like(tree):
        raise wrong_release(sys.modules[__name__], tree)
    builder = CohortBuilder(TITLE, tree)
    table = label_by_folder(
        tree,
        builder,
        lambda folder: CLASSES.get(normalise_folder_name(folder)),
        "in a folder of no class that is known",
    )
    table = table.assign(view="PA").drop(columns="folder")
    for label in CLASSES.values():
        if not (table["labels"] == label).any():
            raise incomplete_release(TITLE, tree.root, f"no image of the class {label}", f"Fetch it again: {SOURCE}.")
    return builder.cohort(builder.keep_readable(table), "curated_covid", list(CLASSES.values()), say=say)
