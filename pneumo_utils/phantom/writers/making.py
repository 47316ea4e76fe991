"""Make a release in a folder, or find the one that a chapter needs by default."""

import importlib
import os
import shutil
from pathlib import Path

from pneumo_utils.common import places
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of
from pneumo_utils.common.sources import closure
from pneumo_utils.data.home import home, room
from pneumo_utils.phantom.population import SHORTCUTS
from pneumo_utils.phantom.writers.desk import Desk

NAMES = ("covid_gan", "curated_covid", "kermany", "medmnist", "nih", "rsna")
FEWEST, SMALLEST, LARGEST = 40, 16, 2048


def make(release: str, images: int, size: int, seed: int, folder: str | Path, shortcuts: tuple[str, ...] = ()) -> Path:
    """Write so many phantom images of so many pixels into a new folder; it is there whole or not at all.

    `shortcuts` are give-aways of the class that have nothing to do with lungs, asked for by name: a marker, brightness,
    size, colour. In covid_gan, which is nothing but a give-away, findings can be asked for instead.
    """
    if release not in NAMES:
        raise StudyError(f"There is no release {release!r} to make: choose one of {', '.join(NAMES)}.")
    if unknown := sorted(set(shortcuts) - set(SHORTCUTS)):
        raise StudyError(f"There is no shortcut {unknown[0]!r}: choose among {', '.join(SHORTCUTS)}.")
    if "findings" in shortcuts and release != "covid_gan":
        raise StudyError(
            f"Findings are what {release} shows already: only covid_gan, whose folders are two "
            f"generators, can be asked for them."
        )
    if images < FEWEST:
        raise StudyError(
            f"{images} images are too few to hold every class and part of {release}: ask for {FEWEST} or more."
        )
    if not SMALLEST <= size <= LARGEST:
        raise StudyError(f"A phantom cannot be {size} pixels wide: choose {SMALLEST} to {LARGEST}.")
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} is there already and not empty. Name a new folder, or remove this one first.")
    beside = folder.with_name(f".{folder.name}.making")
    with places.lock(folder), room(str(folder)):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            desk = Desk(beside, images, size, seed, tuple(shortcuts))
            importlib.import_module(f"pneumo_utils.phantom.writers.{release}").write(desk)
            desk.finish()
            if folder.exists():
                folder.rmdir()
            os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def default(release: str, images: int, size: int, seed: int = 0, shortcuts: tuple[str, ...] = ()) -> Path:
    """The folder of a phantom release, made on first use and found again; a phantom that has changed since is
    another one.
    """
    if release not in NAMES:
        raise StudyError(f"There is no release {release!r} to make: choose one of {', '.join(NAMES)}.")
    drawn_by = closure({f"pneumo_utils.phantom.writers.{release}", "pneumo_utils.phantom.writers.desk"})
    code = digest_of({path: sha for path, sha in drawn_by.items() if path.split("/")[1] == "phantom"})[:8]
    folder = home().absolute() / "-".join([release, f"{images}x{size}", f"s{seed}", *sorted(shortcuts), code])
    with places.lock(folder.with_name(f"{folder.name}.default")):  # two chapters that start together: the second waits
        return folder if folder.exists() else make(release, images, size, seed, folder, shortcuts)
