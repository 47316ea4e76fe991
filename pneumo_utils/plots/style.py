"""One style for all plots, and text that fits."""

import re
from collections.abc import Iterable

import matplotlib.pyplot as plt
import seaborn as sns

# Okabe and Ito's palette; grey marks baselines and reference lines
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
    """Set the style of all following plots; every plotting function calls this first."""
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
    """Create a figure of the page's width with its axes, in the book's style.

    height: height in inches.
    rows: rows of axes.
    columns: columns of axes.
    keywords: further arguments of `matplotlib.pyplot.subplots`.

    Return the figure, and its axes as `subplots` returns them.
    """
    use()
    return plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **keywords)


def sheet(height: float, **keywords):
    """Create a figure of the page's width without axes, for axes that are placed in inches.

    height: height in inches.
    keywords: further arguments of `matplotlib.pyplot.subplots`.
    """
    figure, axes = canvas(height, **keywords)
    figure.set_layout_engine("none")
    axes.remove()
    return figure


SMALLEST = 13  # points: eleven pixels on a phone
LETTER, BOLD = 0.102, 0.117  # inches: average width of a letter of that size, regular and bold


def folded(name: object, width: float, lines: int = 2, letter: float = LETTER) -> str:
    """Wrap a text to a width, and cut it with an ellipsis if it needs too many lines.

    text: the text. It is broken at spaces, and long words after hyphens, underscores and slashes.
    width: maximum width of a line in inches.
    max_lines: maximum number of lines.
    letter_width: average width of a letter in inches.
    """
    max_letters, wrapped = max(2, int(width / letter)), [""]
    pieces: list[str] = []
    for word in re.split(r"(?<= )", str(name)):
        pieces += re.split(r"(?<=[_/-])", word) if len(word.rstrip()) > max_letters else [word]
    for piece in pieces:
        if wrapped[-1] and len((wrapped[-1] + piece).rstrip()) > max_letters:
            wrapped.append("")
        wrapped[-1] += piece
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], "".join(wrapped[lines - 1 :])]
    return "\n".join(
        line.rstrip() if len(line.rstrip()) <= max_letters else line[: max_letters - 1].rstrip() + "…"
        for line in wrapped
    )


def breadth(texts: Iterable[str]) -> float:
    """Estimate the width of the longest line in inches.

    texts: texts of one or more lines.
    """
    return LETTER * max((len(line) for text in texts for line in text.split("\n")), default=0)


def listed(parts: Iterable[str], at_most: int = 8) -> str:
    """Join the parts of an alt text with semicolons; parts beyond a maximum are only counted.

    parts: the parts.
    max_parts: the number of parts that are written out.
    """
    parts = list(parts)
    return "; ".join(parts[:at_most]) + (f"; and {len(parts) - at_most} more" if len(parts) > at_most else "")


def share(part: float, whole: float) -> str:
    """Format a share as a percentage; a small share is "<1 %" and not 0 %, a large one ">99 %" and not 100 %.

    part: the numerator.
    whole: the denominator; where it is 0 the result is "none".
    """
    if not whole:
        return "none"
    percent = 100 * part / whole
    return "<1 %" if 0 < percent < 0.5 else ">99 %" if 99.5 <= percent < 100 else f"{percent:.0f} %"
