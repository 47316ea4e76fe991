"""One style for all plots, and text that fits."""

import re

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


SMALLEST = 13  # points: eleven pixels on a phone
LETTER, BOLD = 0.102, 0.117  # inches that a letter of that size takes on average


def folded(name, width: float, lines: int = 2, letter: float = LETTER) -> str:
    """A name in lines of at most so many inches, broken at spaces, long words behind hyphens and underscores; the
    rest is an ellipsis.
    """
    most, told = max(2, int(width / letter)), [""]
    words = re.split(r"(?<= )", str(name))
    for part in (
        piece for word in words for piece in (re.split(r"(?<=[_/-])", word) if len(word.rstrip()) > most else [word])
    ):
        if told[-1] and len((told[-1] + part).rstrip()) > most:
            told.append("")
        told[-1] += part
    if len(told) > lines:
        told = [*told[: lines - 1], "".join(told[lines - 1 :])]
    return "\n".join(line.rstrip() if len(line.rstrip()) <= most else line[: most - 1].rstrip() + "…" for line in told)


def breadth(texts) -> float:
    """Inches that the longest line takes."""
    return LETTER * max((len(line) for text in texts for line in text.split("\n")), default=0)


def listed(parts, at_most: int = 8) -> str:
    """Parts of an alt text, of which the rest is counted where there are too many to be listened to."""
    parts = list(parts)
    return "; ".join(parts[:at_most]) + (f"; and {len(parts) - at_most} more" if len(parts) > at_most else "")


def share(part: float, whole: float) -> str:
    """A percentage: under 1 % is not 0 %, nor is over 99 % all."""
    if not whole:
        return "none"
    percent = 100 * part / whole
    return "<1 %" if 0 < percent < 0.5 else ">99 %" if 99.5 <= percent < 100 else f"{percent:.0f} %"
