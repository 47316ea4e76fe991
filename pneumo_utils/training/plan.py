"""What a cached prefix would take, said before it is taken."""

import math
from dataclasses import dataclass

import torch

WORTH = 0.25  # of the forward pass: less of it frozen, and a step is hardly shorter


@dataclass(frozen=True)
class Plan:
    """`refused` says why there can be no cache; it is empty where there can."""

    trunk: str
    cut: str = ""  # the first unit that is still computed at each step
    items: tuple[tuple[int, int], ...] = ()  # images and views of each kind of loader
    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    place: str = ""  # the folder on disk; empty: in memory
    begins: str = ""  # the cut whose kept features are gone on from; empty: from the images
    todo: int = 0  # images whose features are not kept yet
    share: float = 0.0  # of the forward pass's multiplications that lie before the cut; not counted where all is kept
    refused: str = ""

    @property
    def bytes(self) -> int:
        """Compute the size of the features in bytes."""
        return sum(images * views for images, views in self.items) * math.prod(self.shape) * self.dtype.itemsize

    @property
    def pays(self) -> bool:
        """Whether a step gets noticeably shorter; making the cache costs about one pass over the images, and one
        that is there costs nothing.
        """
        return not self.refused and (not self.todo or self.share >= WORTH)

    def __str__(self) -> str:
        if self.refused:
            return self.refused
        images = " + ".join(
            f"{number:,} images" + (f" x {views} views" if views > 1 else "") for number, views in self.items
        )
        each = " x ".join(map(str, self.shape))
        return (
            f"{self.trunk} before {self.cut}, computed once: {images}, {each} in "
            f"{str(self.dtype).removeprefix('torch.')}, {_size(self.bytes)} "
            f"{f'on disk in {self.place}' if self.place else 'in memory'}"
            f"{f', from what is kept before {self.begins}' if self.begins else ''}{'' if self.todo else ', found again'}"  # noqa: E501
        )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            break
        count /= 1024
    else:
        unit = "GiB"
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
