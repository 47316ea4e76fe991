"""Read the synthetic COVID-19 radiographs (Zunair and Hamza) of two generators: G1 translates normal images and G2
pneumonia images.
"""

import sys
from pathlib import Path

from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers.base import CohortBuilder, incomplete_release, label_by_folder, wrong_release
from pneumo_utils.data.readers.file_tree import FileTree

TITLE = "Synthetic COVID-19 radiographs"
LAYOUT = "folders G1 and G2, or G_NC.zip and G_PC.zip"
LICENCE = "its repository names none, so ask its authors before more than study; cite their paper"
SOURCE = "https://github.com/hasibzunair/synthetic-covid-cxr-dataset/releases (G_NC.zip and G_PC.zip)"
FILES = {
    name: f"https://github.com/hasibzunair/synthetic-covid-cxr-dataset/releases/latest/download/{name}"
    for name in ("G_NC.zip", "G_PC.zip")
}
ADULT = False
PUBLISHED = {"images": 21295, "normal": 16537, "pneumonia": 4758}

CLASSES = {"g1": "normal", "g2": "pneumonia"}


def looks_like(tree: FileTree) -> bool:
    """Tell whether a folder looks like this release.

    tree: the files of the folder.
    """
    return any(part.lower() in CLASSES for name in tree.image_files() for part in name.split("/")[:-1])


def read(root: str | Path, say=print) -> Cohort:
    """Read the release with the labels normal (generator G1) and pneumonia (generator G2); every image is synthetic.

    root: the folder or archive of the release.
    say: prints the summary; None prints nothing.
    """
    tree = FileTree.open(root)
    if not looks_like(tree):
        raise wrong_release(sys.modules[__name__], tree)
    builder = CohortBuilder(TITLE, tree)
    table = label_by_folder(
        tree, builder, lambda folder: CLASSES.get(folder.lower()), "in neither G1 nor G2"
    ).sort_values("image", ignore_index=True)
    table = table.assign(generator=table["folder"].str.upper()).drop(columns="folder")
    for folder, label in CLASSES.items():
        if not (table["labels"] == label).any():
            raise incomplete_release(
                TITLE, tree.root, f"there is no image in {folder.upper()}", f"Fetch both archives: {SOURCE}."
            )
    builder.add_note('every image is synthetic: "normal" is generator G1, "pneumonia" generator G2')
    return builder.cohort(builder.keep_readable(table), "covid_gan", list(CLASSES.values()), say=say)
