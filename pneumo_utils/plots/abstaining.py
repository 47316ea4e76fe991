"""Accuracy over the share of images that a model answers: what it is worth to know when to be silent."""

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.scoring import in_words as in_numbers
from pneumo_utils.plots.style import BLUE, GREEN, GREY, ORANGE, canvas
from pneumo_utils.plots.words import SMALLEST, listed

LOOKS = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."))


def abstaining(models: dict[str, pd.DataFrame], floor: float | None = None):
    """One to three models by name, each as `evaluation.answered` gives it; `floor` is the accuracy of the majority."""
    if not 0 < len(models) <= len(LOOKS) or any(rows.empty for rows in models.values()):
        raise StudyError(
            f"One to {len(LOOKS)} models fit this figure, each with a share or more; here are {len(models)}."
        )
    figure, axes = canvas(4.2)
    for (name, rows), (colour, mark, line) in zip(models.items(), LOOKS):
        axes.fill_between(rows["share"], rows["low"], rows["high"], color=colour, alpha=0.13, linewidth=0)
        axes.plot(
            rows["share"], rows["accuracy"], line, color=colour, marker=mark, markersize=7, linewidth=2, label=name
        )
    if floor is not None:
        axes.axhline(floor, color=GREY, linewidth=1.8, linestyle=":", label="majority")
    axes.set(xlabel="share of the images answered, surest first", ylabel="accuracy on these", xlim=(0, 1.03))
    axes.tick_params(labelsize=SMALLEST)
    figure.legend(loc="outside upper center", ncols=2)
    return (
        figure,
        f"Accuracy over the share of images answered. {listed([in_words(*each) for each in models.items()])}.",
    )


def in_words(name: str, rows: pd.DataFrame) -> str:
    """The fewest and the most that are answered."""
    few, all_of = rows.iloc[rows["share"].argmin()], rows.iloc[rows["share"].argmax()]
    return f"{name}: " + " and ".join(
        f"{in_numbers(row['accuracy'], row['low'], row['high'])} on the {row['images']:.0f} surest"
        for row in (few, all_of)
    )
