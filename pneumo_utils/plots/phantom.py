"""The plates of the phantom atlas: grey pictures in a grid, with outlines of what is known to be there."""

import io
import json

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumo_utils import ROOT
from pneumo_utils.plots.style import BLUE, GREY, INK, ORANGE, SKY, WIDTH, canvas

__reads__ = ("book/records/phantom_realism.json", "book/records/phantom_pretraining.json")
AMBER = "#E69F00"  # Okabe and Ito's orange: on grey it stands out further than the darker one that bars are drawn in
ROOM = "#E4E4E4"  # a page of pure white would make the dark half of a film hard to see
GLAZE = 0.55  # of colour over grey, where a mask is laid over a picture


def _palette() -> Image.Image:
    """Greys, the colours of outlines, and amber glaze over every grey."""
    greys = np.linspace(0, 1, 64)[:, None] * np.ones(3)
    lines = [shade * np.array(to_rgb(colour)) for colour in (AMBER, SKY) for shade in (1, 0.75, 0.5, 0.25)]
    glazed = (1 - GLAZE) * np.linspace(0, 1, 24)[:, None] + GLAZE * np.array(to_rgb(AMBER))
    palette = Image.new("P", (1, 1))
    palette.putpalette((255 * np.vstack([greys, lines, glazed])).round().astype(np.uint8).tobytes())
    return palette


class Plate(Figure):
    """A figure of grey pictures, written with a palette: greys need no 16 million colours, and the page loads in a
    third of the time.
    """

    def savefig(self, fname, **keywords):
        """Save the figure as a PNG with a palette."""
        full = io.BytesIO()
        super().savefig(full, **keywords | {"format": "png", "facecolor": ROOM, "dpi": 104})
        Image.open(full).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE).save(
            fname, "PNG", optimize=True
        )


def mask_of(shots, name: str, row: int = 0) -> np.ndarray:
    """One image's mask of a finding or an organ; empty where nobody in the batch has it."""
    known = shots.masks.get(name)
    return np.zeros(shots.image.shape[1:], bool) if known is None else known[row].cpu().numpy()


def plate(pictures, titles=None, columns: int = 4, rows=None, outlines=None, size: float = 0):
    """Pictures in rows: words over each (`titles`), at the left of each row (`rows`), and masks to outline as
    {colour: mask}.
    """
    count = max(1, -(-len(pictures) // columns))
    titles, outlines, size = titles or [], outlines or [], size or (13 if columns < 4 else 12)
    label = 0.3 if rows else 0.0
    side = (WIDTH - label) / columns - 0.06
    figure, grid = canvas(
        count * (side + 0.08) + 0.27 * sum(any(titles[k * columns : (k + 1) * columns]) for k in range(count)) + 0.06,
        count,
        columns,
        squeeze=False,
        FigureClass=Plate,
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    for at, axes in enumerate(grid.flat):
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
        if at >= len(pictures):
            continue
        _picture(axes, pictures[at])
        if at < len(titles) and titles[at]:
            axes.set_title(titles[at], fontsize=size, fontweight="normal", pad=3)
        for colour, mask in (outlines[at] if at < len(outlines) and outlines[at] else {}).items():
            outline(axes, mask, colour, 1.6 if columns < 4 else 1.1)
        if rows and at % columns == 0:
            axes.set_ylabel(rows[at // columns], fontsize=size + 0.5, fontweight="bold", labelpad=3)
    return figure


def _picture(axes, picture):
    """Grey as it is for bytes, from the first to the 99th percentile for a map of a quantity, in colour where it has
    three channels.
    """
    picture = np.asarray(picture)
    low, high = (0, 255) if picture.dtype == np.uint8 else np.percentile(picture, (1, 99))
    axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")


def outline(axes, mask, colour=AMBER, width: float = 1.6):
    """A mask's border in a colour, cased in black so that it shows on any grey; an empty mask leaves nothing."""
    mask = np.asarray(mask, bool)
    if mask.any():
        soft = gaussian_filter(np.pad(mask, 1).astype(float), 0.8)  # else the border runs in steps from pixel to pixel
        if soft.max() <= 0.5:
            soft = soft / soft.max()
        for wide, ink in ((2 * width, "black"), (width, colour)):
            axes.contour(soft, [0.5], colors=[ink], linewidths=wide, extent=(-1, mask.shape[1], -1, mask.shape[0]))
        axes.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))


def tinted(picture, mask) -> np.ndarray:
    """A grey picture with a mask laid over it as an amber glaze."""
    grey = np.repeat(np.asarray(picture)[..., None] / 255, 3, -1)
    glaze = (1 - GLAZE) * grey + GLAZE * np.array(to_rgb(AMBER))
    return (255 * np.where(np.asarray(mask, bool)[..., None], glaze, grey)).round().astype(np.uint8)


def where(mask, frame: str = "the picture") -> str:
    """A mask's place and size in words."""
    mask = np.asarray(mask, bool)
    if not mask.any():
        return f"nowhere in {frame}"
    y, x = ((each + 0.5) / length for each, length in zip(np.nonzero(mask), mask.shape))
    high = "upper" if y.mean() < 0.4 else "lower" if y.mean() > 0.6 else "middle"
    shares = [(x < 0.44).mean(), ((x >= 0.44) & (x <= 0.56)).mean(), (x > 0.56).mean()]
    side = "left" if x.mean() < 0.42 else "right" if x.mean() > 0.58 else "centre"
    if min(shares[0], shares[2]) > 0.2 > shares[1]:
        side = "left and right"
    return f"{high} {side} of {frame}, {100 * mask.mean():.1f} % of it"


def beside(cases: list[dict]):
    """A row a case: the person without the finding, with it, and with its mask outlined."""
    pictures = [case[key] for case in cases for key in ("without", "with", "with")]
    outlines = [each for case in cases for each in (None, None, {AMBER: case["mask"]})]
    return plate(pictures, ["without", "with", "where it is"], 3, [case["name"] for case in cases], outlines)


def averages(means: dict[str, np.ndarray], least: str):
    """The mean picture of each class, and below it how it differs from that of `least`, on one scale of colours."""
    figure, grid = canvas(4.9, 2, len(means), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    gaps = {name: mean - means[least] for name, mean in means.items()}
    reach = max(1.0, *(np.abs(gap).max() for gap in gaps.values()))
    for at, (name, mean) in enumerate(means.items()):
        grid[0, at].imshow(mean, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        grid[0, at].set_title(name, fontsize=13)
        shown = grid[1, at].imshow(gaps[name], cmap="PuOr_r", vmin=-reach, vmax=reach, interpolation="nearest")
        grid[1, at].set_title(f"minus {least}", fontsize=12, fontweight="normal")
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    grid[1, list(means).index(least)].set_visible(False)
    bar = figure.colorbar(shown, ax=grid[1, :], location="bottom", shrink=0.6, aspect=25, pad=0.03)
    bar.set_label("brighter by, grey levels", fontsize=13)
    bar.outline.set_visible(False)
    return figure


def record(name: str) -> dict | None:
    """What was measured of phantoms and of real radiographs, where it was."""
    path = ROOT / "book" / "records" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def profile(kept: dict) -> pd.DataFrame:
    """How hard phantoms and real radiographs are: a row a task and features, the AUROC of each, and how far they lie
    apart.
    """
    real = kept.get("real", {}).get("difficulty", {})
    rows = [
        {"task": task, "features": features, "phantom": score[0], "real": real.get(features, {}).get(task, [np.nan])[0]}
        for features, tasks in kept["phantom"]["difficulty"].items()
        for task, score in tasks.items()
    ]
    frame = pd.DataFrame(rows).sort_values("task", kind="stable", ignore_index=True)
    return frame.assign(gap=frame["phantom"] - frame["real"])


def looks(kept: dict) -> pd.DataFrame:
    """What greys and edges there are in phantoms and in real radiographs, a row a number."""
    sides = {side: kept[side]["looks"] for side in ("phantom", "real") if "looks" in kept.get(side, {})}
    rows = {}
    for side, told in sides.items():
        for name, value in told.items():
            if name.startswith("edge pixels over "):  # one name for several thresholds
                above = name.removeprefix("edge pixels over ").split(" grey")[0].split(", ")
                for level, share in zip(above, value):
                    rows.setdefault(f"% of pixels on edges over {level} grey levels", {})[side] = 100 * share
            elif not isinstance(value, list):
                rows.setdefault(name, {})[side] = value
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(sides)).reset_index(names="grey and edges")


def realism(kept: dict):
    """Phantom beside real: how hard the causes are to tell, how grey is spread, and how much detail there is at each
    scale.
    """
    scores = profile(kept)
    task = "three causes, 1000" if "three causes, 1000" in set(scores["task"]) else scores["task"].iloc[0]
    scores = scores[scores["task"] == task].iloc[::-1]
    scores = scores.assign(
        features=[name.replace(" ", "\n", 1) if len(name) > 14 else name for name in scores["features"]]
    )
    figure, (hard, grey, detail) = canvas(10.2, 3, gridspec_kw={"height_ratios": (1.15, 1, 1)})
    figure.get_layout_engine().set(hspace=0.06)
    marks = {"phantom": (ORANGE, "o", "-"), "real": (BLUE, "s", "--")}
    both = scores.dropna()
    hard.hlines(both["features"], both["phantom"], both["real"], color=GREY, linewidth=3)
    hard.axvline(0.5, color=INK, linewidth=1.5, linestyle=":")
    for kind, (colour, mark, line) in marks.items():
        told = scores.dropna(subset=kind)
        hard.scatter(told[kind], told["features"], s=90, color=colour, marker=mark, zorder=3, label=kind)
        looks = kept.get(kind, {}).get("looks")
        if not looks:
            continue
        histogram, power = looks["histogram"], looks["log10 power by octave"]
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


def pretraining(kept: dict) -> pd.DataFrame:
    """What frozen features are worth on real children, with the spread over draws and seeds."""
    frame = pd.DataFrame(kept["rows"]).sort_values(
        ["task", "labels", "auroc mean"], ascending=[True, True, False], ignore_index=True
    )
    spread = [f"{mean:.3f} ± {std:.3f}" for mean, std in zip(frame["auroc mean"], frame["auroc std"])]
    return frame[["task", "labels", "features"]].assign(AUROC=spread)
