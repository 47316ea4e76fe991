"""One look for all figures: large letters for small screens, and colours that the colour-blind can tell apart."""

import matplotlib.pyplot as plt
import seaborn as sns

# Okabe and Ito's palette; grey for what is only there to compare with
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY, INK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#9A9A9A",
    "#222222",
)
PALE = "#C8C8C8"
WIDTH = 5.6  # inches; shown at 560 pixels, or as wide as a phone


def use() -> None:
    """Set the look; every plotting function calls this first."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=[BLUE, ORANGE, GREEN, PURPLE, SKY, GREY],
        rc={
            "font.size": 14,
            "axes.labelsize": 14,
            "axes.titlesize": 15,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "xtick.labelsize": 13,
            "ytick.labelsize": 13,
            "legend.fontsize": 13,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "text.color": INK,
            "axes.labelcolor": INK,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
        },
    )


def canvas(height: float, rows: int = 1, columns: int = 1, **keywords):
    """A figure as wide as a page, in the book's look."""
    use()
    return plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **keywords)


def sheet(height: float, **keywords):
    """The same without any axes, for pictures that are placed by the inch."""
    figure, empty = canvas(height, **keywords)
    figure.set_layout_engine("none")
    empty.remove()
    return figure
