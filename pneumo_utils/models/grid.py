"""A grid over how many final layers learn, and from how many images: what is asked of it is held against what there
is before the first cell is trained.
"""

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.drawn import drawn
from pneumo_utils.models.chain import Chain
from pneumo_utils.models.learns import learns


def grid(chain: Chain, cohort: Cohort, opened: list[int], sizes: list[int]) -> list[tuple[int, int]]:
    """All cells (c, s), size after size."""
    if not opened or not sizes:
        raise StudyError(
            f"A grid has one number of layers and one of images at least; here are {len(opened)} and {len(sizes)}."
        )
    return _there(chain, cohort, [(c, images) for images in dict.fromkeys(sizes) for c in dict.fromkeys(opened)])


def pairs(chain: Chain, cohort: Cohort, opened: list[int], sizes: list[int]) -> list[tuple[int, int]]:
    """Chosen cells, each number of layers with the number of images in its place."""
    if not opened or len(opened) != len(sizes):
        raise StudyError(
            f"Layers and images of chosen combinations go together in pairs; here are {len(opened)} and {len(sizes)}."
        )
    return _there(chain, cohort, list(zip(opened, sizes)))


def _there(chain: Chain, cohort: Cohort, cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    learns(chain, f"last {max(c for c, _ in cells)}")
    for images in {images for _, images in cells}:
        drawn(cohort, images, 0)
    return cells
