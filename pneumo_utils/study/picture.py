"""A figure as a file: with a palette of its own, which takes half of the room, or as a photograph where a palette
would show as bands.
"""

import io

import numpy as np

PNG, JPEG = "image/png", "image/jpeg"
ENDINGS = {PNG: "png", JPEG: "jpg"}
BAND = 8  # of 255: by so much a smooth shade may be off before an eye sees a step
BANDED = 0.002  # of a figure's pixels: letters and lines alone have fewer


def encoded(figure) -> tuple[str, bytes]:
    """The kind of file and its bytes."""
    from PIL import Image

    drawn, data = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=144, bbox_inches="tight")
    with Image.open(drawn) as opened:
        picture = opened.convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    off = abs(np.asarray(few.convert("RGB"), dtype=int) - np.asarray(picture)).max(axis=2)
    if (off > BAND).mean() > BANDED:
        # letters blur where colours are kept coarser than shades
        picture.save(data, "JPEG", quality=88, subsampling=0, optimize=True)
        return JPEG, data.getvalue()
    few.save(data, "PNG", optimize=True)
    return PNG, data.getvalue()


def kind_of(output: dict) -> str:
    """Which picture an output of a notebook holds; an empty text where it holds none."""
    return next((kind for kind in ENDINGS if kind in output.get("data", {})), "")
