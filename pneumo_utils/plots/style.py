"""One style for all plots, and text that fits."""

import re
from collections.abc import Iterable

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

# Okabe and Ito's palette; grey marks baselines and reference lines
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY, DARK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#9A9A9A",
    "#222222",
)
LIGHT_GREY = "#C8C8C8"
PAGE_WIDTH = 5.6  # inches; shown at 560 pixels, or as wide as a phone


def set_style() -> None:
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
            "axes.edgecolor": DARK,
            "text.color": DARK,
            "axes.labelcolor": DARK,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
        },
    )


def new_figure(height: float, rows: int = 1, columns: int = 1, **keywords):
    """Create a figure of the page's width with its axes, in the book's style.

    height: height in inches.
    rows: rows of axes.
    columns: columns of axes.
    keywords: further arguments of `matplotlib.pyplot.subplots`.

    Return the figure, and its axes as `subplots` returns them.
    """
    set_style()
    return plt.subplots(rows, columns, figsize=(PAGE_WIDTH, height), layout="constrained", **keywords)


def blank_figure(height: float, **keywords):
    """Create a figure of the page's width without axes, for axes that are placed in inches.

    height: height in inches.
    keywords: further arguments of `matplotlib.pyplot.subplots`.
    """
    figure, axes = new_figure(height, **keywords)
    figure.set_layout_engine("none")
    axes.remove()
    return figure


MIN_FONT_SIZE = 13  # points: eleven pixels on a phone
LETTER_WIDTH, BOLD_LETTER_WIDTH = 0.102, 0.117  # inches: average width of a letter of that size, regular and bold


def write_on_image(axes: Axes, text: str, y: float = 0.5, va: str = "center") -> None:
    """Write white text with a dark edge in the middle of an image, readable on any grey.

    axes: the axes of the image.
    text: the text.
    y: the height, from 0 at the lower edge to 1.
    va: which part of the text is at that height: "center" or "bottom".
    """
    axes.text(
        0.5,
        y,
        text,
        transform=axes.transAxes,
        ha="center",
        va=va,
        fontsize=MIN_FONT_SIZE,
        color="white",
        path_effects=[withStroke(linewidth=3, foreground=DARK)],
    )


def wrap_text(text: object, width: float, max_lines: int = 2, letter_width: float = LETTER_WIDTH) -> str:
    """Wrap a text to a width, and cut it with an ellipsis if it needs too many lines.

    text: the text. It is broken at spaces, and long words after hyphens, underscores and slashes.
    width: maximum width of a line in inches.
    max_lines: maximum number of lines.
    letter_width: average width of a letter in inches.
    """
    max_letters, wrapped = max(2, int(width / letter_width)), [""]
    pieces: list[str] = []
    for word in re.split(r"(?<= )", str(text)):
        pieces += re.split(r"(?<=[_/-])", word) if len(word.rstrip()) > max_letters else [word]
    for piece in pieces:
        if wrapped[-1] and len((wrapped[-1] + piece).rstrip()) > max_letters:
            wrapped.append("")
        wrapped[-1] += piece
    if len(wrapped) > max_lines:
        wrapped = [*wrapped[: max_lines - 1], "".join(wrapped[max_lines - 1 :])]
    return "\n".join(
        line.rstrip() if len(line.rstrip()) <= max_letters else line[: max_letters - 1].rstrip() + "…"
        for line in wrapped
    )


def text_width(texts: Iterable[str]) -> float:
    """Estimate the width of the longest line in inches.

    texts: texts of one or more lines.
    """
    return LETTER_WIDTH * max((len(line) for text in texts for line in text.split("\n")), default=0)


def join_parts(parts: Iterable[str], max_parts: int = 8) -> str:
    """Join the parts of an alt text with semicolons; parts beyond a maximum are only counted.

    parts: the parts.
    max_parts: the number of parts that are written out.
    """
    parts = list(parts)
    return "; ".join(parts[:max_parts]) + (f"; and {len(parts) - max_parts} more" if len(parts) > max_parts else "")


def format_percent(part: float, whole: float) -> str:
    """Format a share as a percentage; a small share is "<1 %" and not 0 %, a large one ">99 %" and not 100 %.

    part: the numerator.
    whole: the denominator; where it is 0 the result is "none".
    """
    if not whole:
        return "none"
    percent = 100 * part / whole
    return "<1 %" if 0 < percent < 0.5 else ">99 %" if 99.5 <= percent < 100 else f"{percent:.0f} %"
