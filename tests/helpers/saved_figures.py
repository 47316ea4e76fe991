"""Figures as a reader meets them: the words that show, and whether they can be read on a phone."""

import io

from matplotlib.text import Text
from PIL import Image

PHONE, ELEVEN = 340, 11  # pixels: a figure's width on a phone, and its smallest letters there


def saved(figure) -> Image.Image:
    """As a run keeps it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160, bbox_inches="tight")
    return Image.open(file)


def texts(figure) -> list[str]:
    """Every text that shows, ticks included."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def legible(figure) -> Image.Image:
    """Saved as a run keeps it: every letter is large enough on a phone, and inside the picture."""
    figure.canvas.draw()
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    pixels = PHONE / figure.get_size_inches()[0] / 72
    assert all(text.get_fontsize() * pixels >= ELEVEN - 0.1 for text in shown), min(
        (text.get_fontsize(), text.get_text()) for text in shown
    )
    picture = saved(figure).convert("L")
    assert picture.width <= 1.15 * 160 * figure.get_size_inches()[0], (
        "a text runs far out of the figure and makes all the rest small"
    )
    return picture
