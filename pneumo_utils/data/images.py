"""Where the pixels of a cohort are: a path an image, and the name, size and date by which its content is known."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pneumo_utils.common.files import digest_of


@dataclass(frozen=True)
class Images:
    """The image files of a cohort: their paths and the stamps that identify their content."""

    paths: tuple[str, ...]
    stamps: tuple[tuple[str, int, int], ...]  # name within the release, bytes, date in nanoseconds

    @cached_property
    def digest(self) -> str:
        """The same wherever the release lies."""
        return digest_of(self.stamps)[:16]

    def __len__(self) -> int:
        return len(self.paths)

    def __add__(self, other: "Images") -> "Images":
        return Images(self.paths + other.paths, self.stamps + other.stamps)

    def path(self, row: int) -> Path:
        """Return the path of the image in a row."""
        return Path(self.paths[row])
