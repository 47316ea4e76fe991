"""Where a network looks: radiographs, their heat maps, and one laid over the other."""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.heat import of_its_most
from pneumo_utils.explain.scores import share
from pneumo_utils.plots.phantom import outline, where
from pneumo_utils.plots.style import INK, SKY, WIDTH, sheet
from pneumo_utils.plots.words import SMALLEST, folded, listed

HEAT = colormaps["inferno"]  # even steps of heat are even steps to the eye, in grey too
GLAZE = 0.75  # of colour over the picture where heat is greatest; where there is none, the picture stays as it is
LESION = "lesion"
MOST = 5  # columns in which words can still be read
# inches: row names at the left, between pictures, a line of a name, the colour bar with its words
LABEL, GAP, LINE, BAR = 0.3, 0.05, 0.2, 0.62


def heatmaps(pictures: dict[str, np.ndarray], heat, outlines=None):
    """A column a named picture (grey bytes) and the rows radiograph, heat map and overlay; `outlines` are masks of
    what is truly there.
    """
    heat, outlines = _checked(pictures, {"heat": heat}, outlines)["heat"], _masks(outlines)
    shown = list(pictures.values())
    rows = {
        "radiograph": shown,
        "heat map": [HEAT(each)[..., :3] for each in heat],
        "overlay": [overlay(*each) for each in zip(shown, heat)],
    }
    figure = _plate(list(pictures), rows, outlines, {"heat map": heat})
    told = [
        f"{name}: {in_words(each, mask)}" for name, each, mask in zip(pictures, heat, outlines or [None] * len(heat))
    ]
    return figure, f"Radiographs, heat maps and both laid over each other, a column a case. {listed(told)}."


def overlays(pictures: dict[str, np.ndarray], heats: dict, outlines=None, outlined: str = LESION):
    """A column a named picture and, under the radiographs, a row of overlays for each model, or whatever made the
    maps; `outlined` says of what.
    """
    heats, outlines = _checked(pictures, heats, outlines), _masks(outlines)
    shown = list(pictures.values())
    rows = {"radiograph": shown} | {name: [overlay(*each) for each in zip(shown, heat)] for name, heat in heats.items()}
    figure = _plate(list(pictures), rows, outlines, heats, outlined)
    told = [
        f"{model}, {name}: {in_words(each, mask, outlined)}"
        for model, heat in heats.items()
        for name, each, mask in zip(pictures, heat, outlines or [None] * len(heat))
    ]
    return figure, f"Radiographs, and under them the heat of {listed(heats)}. {listed(told, 15)}."


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A grey picture under a glaze of heat from 0 to 1, the denser the hotter."""
    strength = GLAZE * heat[..., None]
    return (1 - strength) * (np.asarray(picture, float) / 255)[..., None] + strength * HEAT(heat)[..., :3]


def in_words(heat: np.ndarray, mask: np.ndarray | None = None, outlined: str = LESION) -> str:
    """Where a map is hot, and how much of its heat lies on what is truly there."""
    if not heat.any():
        return "no heat anywhere"
    told = f"hotter than half of its maximum in the {where(heat > 0.5 * heat.max())}"
    if mask is None:
        return told
    if not mask.any():
        return f"{told}; no {outlined}"
    return (
        f"{told}; {100 * share(heat[None], mask[None])[0]:.0f} % of the heat on the {outlined}, which is "
        f"{100 * mask.mean():.1f} % of the picture"
    )


def _checked(pictures: dict, heats: dict, outlines) -> dict[str, np.ndarray]:
    if not pictures or not heats:
        raise StudyError(
            'There are no heat maps to show: give pictures by name, {"a child with pneumonia": '
            "picture, ...}, and a map for each."
        )
    if len(pictures) > MOST:
        raise StudyError(f"{len(pictures)} pictures beside each other are too small to be seen: choose at most {MOST}.")
    side = {np.shape(picture) for picture in pictures.values()}
    if any(np.asarray(picture).dtype != np.uint8 or np.ndim(picture) != 2 for picture in pictures.values()):
        raise StudyError("Pictures are grey bytes, as cohort.pixels(size) gives them.")
    found = {name: of_its_most(heat) for name, heat in heats.items()}
    for heat in [*found.values(), *([] if outlines is None else [np.asarray(outlines, bool)])]:
        if len(heat) != len(pictures) or side != {heat.shape[1:]}:
            raise StudyError(
                f"{len(pictures)} pictures of {sorted(side)} pixels do not go with maps or masks of "
                f"shape {heat.shape}: give one for "
                "each, all of one size."
            )
    return found


def _masks(outlines) -> list[np.ndarray]:
    return [] if outlines is None else list(np.asarray(outlines, bool))


def _plate(names: list[str], rows: dict[str, list], outlines: list, heats: dict, outlined: str = LESION):
    """Places in inches from the left and the top."""
    side = min(1.6, (WIDTH - LABEL - GAP * len(names)) / len(names))
    words = [folded(name, side, 3) for name in names]
    head = LINE * max(word.count("\n") + 1 for word in words) + 0.08
    left, height = (WIDTH + LABEL - (side + GAP) * len(names)) / 2, head + (side + GAP) * len(rows) + BAR
    figure = sheet(height)

    def box(x, y, wide, high):
        return figure.add_axes((x / WIDTH, 1 - (y + high) / height, wide / WIDTH, high / height))

    for column, word in enumerate(words):
        x = left + column * (side + GAP)
        figure.text(
            (x + side / 2) / WIDTH,
            1 - (head - 0.05) / height,
            word,
            ha="center",
            va="bottom",
            fontsize=SMALLEST,
            color=INK,
        )
        for row, (name, shown) in enumerate(rows.items()):
            y = head + row * (side + GAP)
            axes = box(x, y, side, side)
            axes.imshow(
                shown[column],
                cmap="gray",
                vmin=0,
                vmax=255 if shown[column].ndim == 2 else None,
                aspect="auto",
                interpolation="bilinear",
            )
            axes.set_axis_off()
            if outlines and name != "radiograph":
                outline(axes, outlines[column], SKY, 1.4)
            if name in heats and not heats[name][column].any():
                axes.text(
                    0.5,
                    0.5,
                    "no heat",
                    transform=axes.transAxes,
                    ha="center",
                    va="center",
                    fontsize=SMALLEST,
                    color="white",
                    path_effects=[withStroke(linewidth=3, foreground=INK)],
                )
            if column == 0:
                figure.text(
                    (left - 0.06) / WIDTH,
                    1 - (y + side / 2) / height,
                    folded(name, side, 2),
                    rotation=90,
                    ha="right",
                    va="center",
                    fontsize=SMALLEST,
                    color=INK,
                )
    place = box(0.4 if outlines else WIDTH / 2 - 1.4, height - BAR + 0.06, 2.8, 0.12)
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), cax=place, orientation="horizontal")
    bar.set_ticks([0, 0.5, 1], labels=["none", "half", "the map's most"], fontsize=SMALLEST)
    bar.outline.set_visible(False)
    if outlines:
        line = Line2D([], [], color=SKY, linewidth=2.4, path_effects=[withStroke(linewidth=4.5, foreground="black")])
        figure.legend([line], [f"the {outlined}"], loc="lower right", fontsize=SMALLEST, handlelength=1.4)
    return figure
