"""Write phantom radiographs and their ground truth to disk."""

import importlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pneumo_utils.common import run_paths
from pneumo_utils.common.code_digest import closure
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of
from pneumo_utils.data.pixel_cache import bar, home, room
from pneumo_utils.phantom.population import SHORTCUTS, Population
from pneumo_utils.phantom.writers import ground_truth

AT_ONCE = 64
JPEG_QUALITY = 92


class Desk:
    """A writer of one release: renders phantoms and saves files and their ground truth in a folder."""

    def __init__(self, folder: Path, images: int, size: int, seed: int, shortcuts: tuple[str, ...] = ()):
        self.folder, self.images, self.size, self.seed, self.shortcuts = folder, images, size, seed, shortcuts
        self.random = np.random.default_rng([seed, 20170914])
        self._people: list[pd.DataFrame] = []

    def population(self, kind: str, **more) -> Population:
        """Build a phantom population with the seed and shortcuts of this release."""
        return Population(kind, seed=self.seed, shortcuts=self.shortcuts, **more)

    def shoot(self, population, names: dict[int, str], doing: str):
        """(index, pixels, masks, boxes) of each phantom; the masks go to the truth under the image's name, and so
        does the person.
        """
        indices = list(names)
        self._people.append(population.table(indices).assign(image=list(names.values())))
        shown = iter(bar(range(len(indices)), doing))
        for at in range(0, len(indices), AT_ONCE):
            some = indices[at : at + AT_ONCE]
            shots = population.render(some, size=self.size)
            images = shots.image.cpu().numpy()
            masks = {name: mask.cpu().numpy() for name, mask in shots.masks.items()}
            for row, index in enumerate(some):
                next(shown, None)
                own = {name: mask[row] for name, mask in masks.items() if mask[row].any()}
                ground_truth.put(self.folder, names[index], own)
                yield index, images[row], own, [box[1:] for box in shots.boxes if box[0] == row]
        next(shown, None)

    def place(self, name: str) -> Path:
        """Return the path of a file of the release and create its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def bytes(self, name: str, data: bytes) -> None:
        """Write bytes to a file of the release."""
        self.place(name).write_bytes(data)

    def text(self, name: str, lines: list[str], end: str = "\n") -> None:
        """Write lines of text to a file of the release, in UTF-8."""
        self.bytes(name, ("\n".join(lines) + end).encode("utf-8"))

    def finish(self) -> None:
        """Write the table of all rendered people to the ground truth."""
        people = pd.concat(self._people).drop_duplicates("image")
        people.to_csv(self.place(f"{ground_truth.FOLDER}/people.csv"), index_label="index")


def jpeg(pixels: np.ndarray, colour: bool = False, quality: int = JPEG_QUALITY) -> bytes:
    """Encode an image as JPEG, in RGB if `colour`."""
    return _encoded(Image.fromarray(pixels).convert("RGB" if colour else "L"), format="JPEG", quality=quality)


def png(pixels: np.ndarray, mode: str = "L") -> bytes:
    """Encode an image as PNG in the given mode."""
    return _encoded(Image.fromarray(pixels).convert(mode), format="PNG")


def stretched(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize an image to the given width and height, without keeping its aspect ratio."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _encoded(image: Image.Image, **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()


def whole_patients(patient: pd.Series, shares: dict[str, float], rest: str, order=None) -> pd.Series:
    """The part of each image; patients are offered in `order`, and who no longer fits goes on to the next part. No
    part is empty.
    """
    left = patient.value_counts(sort=False)
    if len(left) <= len(shares):
        raise StudyError(
            f"{len(patient)} images are of {len(left)} patients only, too few for {len(shares) + 1} "
            f"parts: ask for more images."
        )
    left = left if order is None else left[order]
    part = pd.Series(rest, index=left.index)
    for at, (name, share) in enumerate(shares.items()):
        room, taken, spare = max(1, round(share * len(patient))), [], len(left) - (len(shares) - at)
        for who, images in left.items():
            if images <= room and len(taken) < spare:
                taken.append(who)
                room -= images
        taken = taken or [left.idxmin()]
        part[taken] = name
        left = left.drop(taken)
    return patient.map(part)


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
    with run_paths.lock(folder), room(str(folder)):
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
    drawn_by = closure({f"pneumo_utils.phantom.writers.{release}", "pneumo_utils.phantom.writers.writer"})
    code = digest_of({path: sha for path, sha in drawn_by.items() if path.split("/")[1] == "phantom"})[:8]
    folder = home().absolute() / "-".join([release, f"{images}x{size}", f"s{seed}", *sorted(shortcuts), code])
    with run_paths.lock(
        folder.with_name(f"{folder.name}.default")
    ):  # two chapters that start together: the second waits
        return folder if folder.exists() else make(release, images, size, seed, folder, shortcuts)
