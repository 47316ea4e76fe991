"""Figures of phantoms: grey images in a grid, with outlines of known structures, and comparisons with real images."""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumo_utils.common.files import ROOT
from pneumo_utils.plots.style import BLUE, DARK, GREY, ORANGE, PAGE_WIDTH, SKY, new_figure

__reads__ = ("book/records/phantom_realism.json", "book/records/phantom_pretraining.json")
AMBER = "#E69F00"  # Okabe and Ito's orange; on grey it is more visible than the darker orange of the bars
BACKGROUND = "#E4E4E4"  # background; next to pure white, the dark half of an image is hard to see
MASK_OPACITY = 0.55  # opacity of a mask over an image


def _palette() -> Image.Image:
    """Return a palette of greys, of the colours of outlines, and of amber over greys."""
    greys = np.linspace(0, 1, 64)[:, None] * np.ones(3)
    lines = [shade * np.array(to_rgb(colour)) for colour in (AMBER, SKY) for shade in (1, 0.75, 0.5, 0.25)]
    glazed = (1 - MASK_OPACITY) * np.linspace(0, 1, 24)[:, None] + MASK_OPACITY * np.array(to_rgb(AMBER))
    palette = Image.new("P", (1, 1))
    palette.putpalette((255 * np.vstack([greys, lines, glazed])).round().astype(np.uint8).tobytes())
    return palette


class PaletteFigure(Figure):
    """A figure of grey images that is saved with a palette.

    Greys need few colours, and the file has a third of the size.
    """

    def savefig(self, fname: Any, **keywords: Any) -> None:
        """Save the figure as a PNG with a palette.

        fname: path or file object.
        keywords: further arguments of matplotlib's `savefig`.
        """
        full = io.BytesIO()
        super().savefig(full, **keywords | {"format": "png", "facecolor": BACKGROUND, "dpi": 104})
        Image.open(full).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE).save(
            fname, "PNG", optimize=True
        )


def mask_of(shots: Any, name: str, row: int = 0) -> np.ndarray:
    """Return one image's mask of a finding or an organ, empty if no image has it.

    shots: radiographs, as `Population.render` returns them.
    name: name of the mask.
    row: number of the image in the batch.
    """
    known = shots.masks.get(name)
    return np.zeros(shots.image.shape[1:], bool) if known is None else known[row].cpu().numpy()


def image_plate(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    columns: int = 4,
    rows: Sequence[str] | None = None,
    outlines: Sequence[dict[str, np.ndarray] | None] | None = None,
    size: float = 0,
) -> Figure:
    """Show images in a grid.

    images: arrays (height, width), or (height, width, 3) for colour.
    titles: text above each image.
    columns: images in a row.
    rows: text at the left of each row.
    outlines: for each image, colour -> mask to outline, or None.
    size: font size in points; 0 for a default.
    """
    count = max(1, -(-len(images) // columns))
    titles, outlines, size = titles or [], outlines or [], size or (13 if columns < 4 else 12)
    label_inches = 0.3 if rows else 0.0
    side_inches = (PAGE_WIDTH - label_inches) / columns - 0.06
    figure, grid = new_figure(
        count * (side_inches + 0.08)
        + 0.27 * sum(any(titles[k * columns : (k + 1) * columns]) for k in range(count))
        + 0.06,
        count,
        columns,
        squeeze=False,
        FigureClass=PaletteFigure,
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    for index, axes in enumerate(grid.flat):
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
        if index >= len(images):
            continue
        _show_image(axes, images[index])
        if index < len(titles) and titles[index]:
            axes.set_title(titles[index], fontsize=size, fontweight="normal", pad=3)
        for colour, mask in ((outlines[index] if index < len(outlines) else None) or {}).items():
            draw_outline(axes, mask, colour, 1.6 if columns < 4 else 1.1)
        if rows and index % columns == 0:
            axes.set_ylabel(rows[index // columns], fontsize=size + 0.5, fontweight="bold", labelpad=3)
    return figure


def _show_image(axes, picture):
    """Show bytes as they are, and other quantities from their 1st to their 99th percentile."""
    picture = np.asarray(picture)
    low, high = (0, 255) if picture.dtype == np.uint8 else np.percentile(picture, (1, 99))
    axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")


def draw_outline(axes: Axes, mask: np.ndarray, colour: str = AMBER, width: float = 1.6) -> None:
    """Draw the border of a mask, on a wider black line so that it is visible on any grey.

    axes: matplotlib axes that show the image.
    mask: bool array (height, width). An empty mask draws nothing.
    colour: colour of the line.
    width: width of the line in points.
    """
    mask = np.asarray(mask, bool)
    if mask.any():
        soft = gaussian_filter(np.pad(mask, 1).astype(float), 0.8)  # otherwise the border has steps from pixel to pixel
        if soft.max() <= 0.5:
            soft = soft / soft.max()
        for line_width, line_colour in ((2 * width, "black"), (width, colour)):
            axes.contour(
                soft, [0.5], colors=[line_colour], linewidths=line_width, extent=(-1, mask.shape[1], -1, mask.shape[0])
            )
        axes.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))


def overlay_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lay a mask over a grey image in transparent amber.

    image: grey values from 0 to 255 (height, width).
    mask: bool array (height, width).

    Returns a uint8 array (height, width, 3).
    """
    grey = np.repeat(np.asarray(image)[..., None] / 255, 3, -1)
    glaze = (1 - MASK_OPACITY) * grey + MASK_OPACITY * np.array(to_rgb(AMBER))
    return (255 * np.where(np.asarray(mask, bool)[..., None], glaze, grey)).round().astype(np.uint8)


def describe_location(mask: np.ndarray, frame: str = "the picture") -> str:
    """Describe position and size of a mask in words.

    mask: bool array (height, width).
    frame: what the image is called in the text.
    """
    mask = np.asarray(mask, bool)
    if not mask.any():
        return f"nowhere in {frame}"
    y, x = ((index + 0.5) / length for index, length in zip(np.nonzero(mask), mask.shape))
    high = "upper" if y.mean() < 0.4 else "lower" if y.mean() > 0.6 else "middle"
    shares = [(x < 0.44).mean(), ((x >= 0.44) & (x <= 0.56)).mean(), (x > 0.56).mean()]
    side = "left" if x.mean() < 0.42 else "right" if x.mean() > 0.58 else "centre"
    if min(shares[0], shares[2]) > 0.2 > shares[1]:
        side = "left and right"
    return f"{high} {side} of {frame}, {100 * mask.mean():.1f} % of it"


def finding_comparison(cases: list[dict]) -> Figure:
    """Show the same patients without a finding, with it, and with its mask outlined, one row per case.

    cases: dictionaries with "name", "without", "with" (images) and "mask".
    """
    pictures = [case[key] for case in cases for key in ("without", "with", "with")]
    outlines = [outline for case in cases for outline in (None, None, {AMBER: case["mask"]})]
    return image_plate(pictures, ["without", "with", "where it is"], 3, [case["name"] for case in cases], outlines)


def class_averages(means: dict[str, np.ndarray], reference: str) -> Figure:
    """Show the mean image of each class, and its difference from the mean image of one class.

    means: class -> mean image.
    reference: the class to compare with.
    """
    figure, grid = new_figure(4.9, 2, len(means), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    differences = {name: mean - means[reference] for name, mean in means.items()}
    limit = max(1.0, *(np.abs(gap).max() for gap in differences.values()))
    for column, (name, mean) in enumerate(means.items()):
        grid[0, column].imshow(mean, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        grid[0, column].set_title(name, fontsize=13)
        shown = grid[1, column].imshow(
            differences[name], cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        grid[1, column].set_title(f"minus {reference}", fontsize=12, fontweight="normal")
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    grid[1, list(means).index(reference)].set_visible(False)
    bar = figure.colorbar(shown, ax=grid[1, :], location="bottom", shrink=0.6, aspect=25, pad=0.03)
    bar.set_label("brighter by, grey levels", fontsize=13)
    bar.outline.set_visible(False)
    return figure


def load_phantom_record(name: str) -> dict | None:
    """Read a record of measurements of phantoms and of real radiographs, None if there is none.

    name: name of the record.
    """
    path = ROOT / "book" / "records" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def difficulty_table(record: dict) -> pd.DataFrame:
    """Make a table of the difficulty of phantoms and of real radiographs.

    record: content of the record phantom_realism.

    Returns one row per task and features: both AUROCs and their difference.
    """
    real = record.get("real", {}).get("difficulty", {})
    rows = [
        {"task": task, "features": features, "phantom": score[0], "real": real.get(features, {}).get(task, [np.nan])[0]}
        for features, tasks in record["phantom"]["difficulty"].items()
        for task, score in tasks.items()
    ]
    frame = pd.DataFrame(rows).sort_values("task", kind="stable", ignore_index=True)
    return frame.assign(gap=frame["phantom"] - frame["real"])


def grey_and_edge_statistics(record: dict) -> pd.DataFrame:
    """Make a table of statistics of grey values and edges, for phantoms and real radiographs.

    record: content of the record phantom_realism.
    """
    sources = {source: record[source]["looks"] for source in ("phantom", "real") if "looks" in record.get(source, {})}
    rows = {}
    for source, statistics in sources.items():
        for name, value in statistics.items():
            if name.startswith("edge pixels over "):  # one name for several thresholds
                thresholds = name.removeprefix("edge pixels over ").split(" grey")[0].split(", ")
                for level, share in zip(thresholds, value):
                    rows.setdefault(f"% of pixels on edges over {level} grey levels", {})[source] = 100 * share
            elif not isinstance(value, list):
                rows.setdefault(name, {})[source] = value
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(sources)).reset_index(names="grey and edges")


def realism_plot(record: dict) -> Figure:
    """Compare phantoms with real radiographs: difficulty of the causes, histogram of greys, power of details.

    record: content of the record phantom_realism.
    """
    scores = difficulty_table(record)
    task = "three causes, 1000" if "three causes, 1000" in set(scores["task"]) else scores["task"].iloc[0]
    scores = scores[scores["task"] == task].iloc[::-1]
    scores = scores.assign(
        features=[name.replace(" ", "\n", 1) if len(name) > 14 else name for name in scores["features"]]
    )
    figure, (hard, grey, detail) = new_figure(10.2, 3, gridspec_kw={"height_ratios": (1.15, 1, 1)})
    figure.get_layout_engine().set(hspace=0.06)
    styles = {"phantom": (ORANGE, "o", "-"), "real": (BLUE, "s", "--")}
    both = scores.dropna()
    hard.hlines(both["features"], both["phantom"], both["real"], color=GREY, linewidth=3)
    hard.axvline(0.5, color=DARK, linewidth=1.5, linestyle=":")
    for kind, (colour, mark, line) in styles.items():
        known = scores.dropna(subset=kind)
        hard.scatter(known[kind], known["features"], s=90, color=colour, marker=mark, zorder=3, label=kind)
        statistics = record.get(kind, {}).get("looks")
        if not statistics:
            continue
        histogram, power = statistics["histogram"], statistics["log10 power by octave"]
        edges = np.linspace(0, 256, len(histogram) + 1)
        grey.plot(
            (edges[:-1] + edges[1:]) / 2, 100 * np.array(histogram), line, color=colour, marker=mark, linewidth=2.5
        )
        detail.plot(np.arange(len(power)), power, line, color=colour, marker=mark, linewidth=2.5)
    hard.set(xlabel=f"AUROC, {task}{' labels' * task[-1].isdigit()}")
    hard.margins(y=0.14)
    hard.set_title("How hard")
    grey.set(xlabel="grey level, black to white", ylabel="% of pixels", ylim=(0, None))
    grey.set_title("How grey")
    detail.set(xlabel="band of detail, coarse to fine", ylabel="log10 of power")
    detail.set_title("How detailed")
    figure.legend(*hard.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def pretraining_table(record: dict) -> pd.DataFrame:
    """Make a table of the AUROC of frozen features on real children, with the deviation over draws and seeds.

    record: content of the record phantom_pretraining.
    """
    frame = pd.DataFrame(record["rows"]).sort_values(
        ["task", "labels", "auroc mean"], ascending=[True, True, False], ignore_index=True
    )
    spread = [f"{mean:.3f} ± {std:.3f}" for mean, std in zip(frame["auroc mean"], frame["auroc std"])]
    return frame[["task", "labels", "features"]].assign(AUROC=spread)
