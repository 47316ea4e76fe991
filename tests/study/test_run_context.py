"""Figures as files: lines stay exact and small, and smooth colour stays smooth."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from pneumo_utils.study.run_context import JPEG, PNG, encode_figure, image_media_type

pytestmark = pytest.mark.usefixtures("closed_figures")


def drawn(figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144, bbox_inches="tight")
    return np.asarray(Image.open(file).convert("RGB"), dtype=int)


def read(data) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


def heat(figure, axes):
    rows, columns = np.indices((64, 64)) / 63
    axes.imshow(np.stack([rows, columns, (rows + columns) / 2], axis=-1))


def test_line_plots_become_palette_png():
    figure, axes = plt.subplots()
    axes.plot([0, 1, 0], color="tab:blue")
    axes.bar([0, 1], [0.3, 0.6], color="tab:orange")
    kind, data = encode_figure(figure)
    assert kind == PNG and abs(read(data) - drawn(figure)).mean() < 0.1
    full = io.BytesIO()
    figure.savefig(full, format="png", dpi=144, bbox_inches="tight")
    assert len(data) < 0.7 * len(full.getvalue())


def test_smooth_images_become_jpeg():
    figure, axes = plt.subplots()
    heat(figure, axes)
    kind, data = encode_figure(figure)
    assert kind == JPEG
    off = abs(read(data) - drawn(figure)).max(axis=2)
    assert (off > 16).mean() < 0.01 and len(np.unique(read(data).reshape(-1, 3), axis=0)) > 1000


def test_grey_images_become_palette_png():
    figure, axes = plt.subplots()
    axes.imshow(np.tile(np.arange(256), (256, 1)), cmap="gray")
    kind, data = encode_figure(figure)
    assert kind == PNG and abs(read(data) - drawn(figure)).max(axis=2).mean() < 1


def test_image_media_type_of_an_output():
    assert (
        image_media_type({"data": {"image/jpeg": "", "text/plain": ""}}) == JPEG
        and image_media_type({"data": {"image/png": ""}}) == PNG
    )
    assert image_media_type({"data": {"text/html": ""}}) == image_media_type({"output_type": "stream"}) == ""
