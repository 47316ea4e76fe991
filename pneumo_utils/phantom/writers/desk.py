"""Where a release is written: phantoms come in from one side, files and their truth go out at the other."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pneumo_utils.data.bar import bar
from pneumo_utils.phantom.population import Population
from pneumo_utils.phantom.writers import truth

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
                truth.put(self.folder, names[index], own)
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
        people.to_csv(self.place(f"{truth.FOLDER}/people.csv"), index_label="index")


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
