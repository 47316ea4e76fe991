"""The same radiographs before and after each treatment, one under the other."""

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.phantom import plate
from pneumo_utils.plots.style import WIDTH
from pneumo_utils.plots.words import BOLD, folded, listed


def before_and_after(rows: dict[str, np.ndarray]):
    """Grey bytes (people, size, size) by name, as `treatments.examples` gives them: a row of pictures each, all of
    the same people.
    """
    shapes = {np.shape(pictures) for pictures in rows.values()}
    if (
        len(shapes) != 1
        or len(next(iter(shapes))) != 3
        or not all(np.asarray(pictures).dtype == np.uint8 for pictures in rows.values())
    ):
        raise StudyError(
            "Before and after are rows of grey bytes (people, size, size) of the same people, one row "
            "or more; these are "
            f"{listed(f'{name}: {np.asarray(each).dtype} of shape {np.shape(each)}' for name, each in rows.items()) or 'none'}."  # noqa: E501
        )
    people = len(next(iter(rows.values())))
    names = [folded(name, WIDTH / people - 0.3, letter=BOLD) for name in rows]
    figure = plate([picture for pictures in rows.values() for picture in pictures], columns=people, rows=names)
    (first, before), *others = rows.items()
    told = [
        f"{first}, mean grey {np.mean(before):.0f} of 255",
        *(
            f"{name}, mean grey {np.mean(each):.0f}, a pixel {np.abs(each - before.astype(float)).mean():.1f} from "
            f"{first} on average"
            for name, each in others
        ),
    ]
    return figure, f"Radiographs of {people} people, a row each: {listed(told, 15)}."
