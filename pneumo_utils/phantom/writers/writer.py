"""Write phantom radiographs and their ground truth to disk."""

import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pneumo_utils.common import run_paths
from pneumo_utils.common.code_digest import digest_dependencies
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, write_folder
from pneumo_utils.data.pixel_cache import data_dir, explain_data_write_errors, progress_bar
from pneumo_utils.phantom.population import SHORTCUTS, Population
from pneumo_utils.phantom.writers import ground_truth

RENDER_BATCH_SIZE = 64  # images rendered in one batch
JPEG_QUALITY = 92


class ReleaseWriter:
    """The writer of one release. It renders phantoms and saves files and their ground truth.

    folder: folder of the release.
    images: how many images.
    size: pixels of a side.
    seed: seed of the phantoms.
    shortcuts: signs of the class that have nothing to do with the lungs.
    """

    def __init__(self, folder: Path, images: int, size: int, seed: int, shortcuts: tuple[str, ...] = ()):
        self.folder, self.images, self.size, self.seed, self.shortcuts = folder, images, size, seed, shortcuts
        self.random = np.random.default_rng([seed, 20170914])
        self._people: list[pd.DataFrame] = []

    def population(self, kind: str, **options: Any) -> Population:
        """Build a phantom population with the seed and shortcuts of this release.

        kind: kind of population.
        options: further arguments of `Population`.
        """
        return Population(kind, seed=self.seed, shortcuts=self.shortcuts, **options)

    def render_images(
        self, population: Population, names: dict[int, str], label: str
    ) -> Iterator[tuple[int, np.ndarray, dict[str, np.ndarray], list[tuple]]]:
        """Render phantoms, and save their masks and their rows of the table.

        population: the population.
        names: number of the image -> its name in the release.
        label: text of the progress bar.

        Yields the number of the image, pixels (uint8), non-empty masks, and boxes (finding, x, y, width, height).
        """
        indices = list(names)
        self._people.append(population.table(indices).assign(image=list(names.values())))
        progress = iter(progress_bar(range(len(indices)), label))
        for start in range(0, len(indices), RENDER_BATCH_SIZE):
            batch = indices[start : start + RENDER_BATCH_SIZE]
            shots = population.render(batch, size=self.size)
            images = shots.image.cpu().numpy()
            masks = {name: mask.cpu().numpy() for name, mask in shots.masks.items()}
            for row, index in enumerate(batch):
                next(progress, None)
                own = {name: mask[row] for name, mask in masks.items() if mask[row].any()}
                ground_truth.save_masks(self.folder, names[index], own)
                yield index, images[row], own, [box[1:] for box in shots.boxes if box[0] == row]
        next(progress, None)

    def place(self, name: str) -> Path:
        """Return the path of a file of the release, and create its folder.

        name: path of the file within the release.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def bytes(self, name: str, data: bytes) -> None:
        """Write bytes to a file of the release.

        name: path of the file within the release.
        data: its content.
        """
        self.place(name).write_bytes(data)

    def text(self, name: str, lines: list[str], end: str = "\n") -> None:
        """Write lines of text to a file of the release, in UTF-8.

        name: path of the file within the release.
        lines: lines without line ends.
        end: what follows the last line.
        """
        self.bytes(name, ("\n".join(lines) + end).encode("utf-8"))

    def finish(self) -> None:
        """Write the table of all rendered images to the ground truth."""
        people = pd.concat(self._people).drop_duplicates("image")
        people.to_csv(self.place(f"{ground_truth.TRUTH_FOLDER}/people.csv"), index_label="index")


def jpeg(pixels: np.ndarray, colour: bool = False, quality: int = JPEG_QUALITY) -> bytes:
    """Encode an image as JPEG.

    pixels: uint8 array (rows, columns).
    colour: whether the file has three channels.
    quality: JPEG quality, up to 95.
    """
    return _encode(Image.fromarray(pixels).convert("RGB" if colour else "L"), format="JPEG", quality=quality)


def png(pixels: np.ndarray, mode: str = "L") -> bytes:
    """Encode an image as PNG.

    pixels: uint8 array (rows, columns) or (rows, columns, 3).
    mode: mode of Pillow, such as "L" or "RGBA".
    """
    return _encode(Image.fromarray(pixels).convert(mode), format="PNG")


def resize_image(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize an image without keeping its aspect ratio.

    pixels: uint8 array (rows, columns).
    width, height: new size.
    """
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _encode(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def split_by_patient(
    patients: pd.Series, fractions: dict[str, float], remainder: str, order: pd.Index | None = None
) -> pd.Series:
    """Split images by patient, so that no patient is in two parts, and no part is empty.

    Patients are assigned in `order`. A patient who does not fit into a part is left for the next part.

    patients: patient of each image.
    fractions: part -> fraction of the images.
    remainder: name of the part for all other images.
    order: patients in the order of assignment; None for the order of their first image.

    Returns the part of each image. Raises StudyError if there are too few patients.
    """
    counts = patients.value_counts(sort=False)
    if len(counts) <= len(fractions):
        raise StudyError(
            f"{len(patients)} images come from only {len(counts)} patients, too few for {len(fractions) + 1} "
            f"parts: ask for more images."
        )
    counts = counts if order is None else counts[order]
    part = pd.Series(remainder, index=counts.index)
    for index, (name, share) in enumerate(fractions.items()):
        room, chosen, max_patients = max(1, round(share * len(patients))), [], len(counts) - (len(fractions) - index)
        for person, images in counts.items():
            if images <= room and len(chosen) < max_patients:
                chosen.append(person)
                room -= images
        chosen = chosen or [counts.idxmin()]
        part[chosen] = name
        counts = counts.drop(chosen)
    return patients.map(part)


PHANTOM_RELEASES = ("covid_gan", "curated_covid", "kermany", "medmnist", "nih", "rsna")
MIN_IMAGES, MIN_SIZE, MAX_SIZE = 40, 16, 2048


def write_release(
    release: str, images: int, size: int, seed: int, folder: str | Path, shortcuts: tuple[str, ...] = ()
) -> Path:
    """Write a phantom release into a new folder. The folder appears only when it is complete.

    release: "covid_gan", "curated_covid", "kermany", "medmnist", "nih" or "rsna": the data set whose layout is written.
    images: how many images.
    size: pixels of a side.
    seed: seed of the phantoms.
    folder: folder to create.
    shortcuts: signs of the class that have nothing to do with the lungs: marker, brightness, size or colour. For
        covid_gan, "findings" does the reverse: the classes differ in their lungs instead of in a shortcut.

    Returns the folder. Raises StudyError for arguments that cannot be met, and if the folder exists and is not empty.

    >>> pu.write_release("medmnist", images=40, size=28, seed=0, folder="phantom_small").name
    'phantom_small'
    """
    if release not in PHANTOM_RELEASES:
        raise StudyError(f"There is no release {release!r} to make: choose one of {', '.join(PHANTOM_RELEASES)}.")
    if unknown := sorted(set(shortcuts) - set(SHORTCUTS)):
        raise StudyError(f"There is no shortcut {unknown[0]!r}: choose among {', '.join(SHORTCUTS)}.")
    if "findings" in shortcuts and release != "covid_gan":
        raise StudyError(
            f'The shortcut "findings" works only with covid_gan, whose classes are two generators: the classes of '
            f"{release} differ in their findings anyway."
        )
    if images < MIN_IMAGES:
        raise StudyError(
            f"{images} images are too few for every class and split of {release}: ask for {MIN_IMAGES} or more."
        )
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise StudyError(f"A phantom cannot be {size} pixels wide: choose {MIN_SIZE} to {MAX_SIZE}.")
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} exists already and is not empty. Name a new folder, or remove this one first.")
    with (
        run_paths.path_lock(folder),
        explain_data_write_errors(str(folder)),
        write_folder(folder) as temporary,
    ):
        writer = ReleaseWriter(temporary, images, size, seed, tuple(shortcuts))
        importlib.import_module(f"pneumo_utils.phantom.writers.{release}").write(writer)
        writer.finish()
    return folder


def cached_release(release: str, images: int, size: int, seed: int = 0, shortcuts: tuple[str, ...] = ()) -> Path:
    """Return the folder of a phantom release, and write the release if it does not exist yet.

    If the code that draws the phantoms changes, another folder is used.

    release: one of `PHANTOM_RELEASES`.
    images: how many images.
    size: pixels of a side.
    seed: seed of the phantoms.
    shortcuts: as in `write_release`.

    >>> folder = pu.cached_release("medmnist", images=40, size=28)
    >>> folder == pu.cached_release("medmnist", images=40, size=28)
    True
    """
    if release not in PHANTOM_RELEASES:
        raise StudyError(f"There is no release {release!r} to make: choose one of {', '.join(PHANTOM_RELEASES)}.")
    folder = data_dir().absolute() / _cached_name(release, f"{images}x{size}", f"s{seed}", *sorted(shortcuts))
    # if two chapters start at the same time, the second waits for the first
    with run_paths.path_lock(folder.with_name(f"{folder.name}.default")):
        return folder if folder.exists() else write_release(release, images, size, seed, folder, shortcuts)


def _cached_name(release: str, *settings: str) -> str:
    """Return the name of the folder of a phantom release: its settings, and a digest of the code that draws it."""
    sources = digest_dependencies({f"pneumo_utils.phantom.writers.{release}", "pneumo_utils.phantom.writers.writer"})
    code = json_digest({path: sha for path, sha in sources.items() if path.split("/")[1] == "phantom"})[:8]
    return "-".join([release, *settings, code])


def release_arguments(folder: Path) -> tuple | None:
    """Return the arguments with which `cached_release` draws the same phantoms, or None for another folder.

    folder: a folder of data.
    """
    match = re.fullmatch(r"(\w+)-(\d+)x(\d+)-s(\d+)((?:-\w+)*)-\w+", folder.name)
    if not match or match[1] not in PHANTOM_RELEASES:
        return None
    release, images, size, seed, rest = match.groups()
    shortcuts = rest.split("-")[1:]
    if folder.name != _cached_name(release, f"{images}x{size}", f"s{seed}", *shortcuts):
        return None
    return release, int(images), int(size), int(seed), tuple(shortcuts)
