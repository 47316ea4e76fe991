"""Every draw, seed or fold as a dot: what hides behind a mean."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.metrics import label
from pneumo_utils.plots.style import BLUE, GREY, INK, ORANGE, canvas
from pneumo_utils.plots.words import BOLD, SMALLEST, folded, listed

ROW = 0.44  # inches


def dots(models: dict[str, dict], baselines=()) -> pd.DataFrame:
    """The table that `every_draw` takes, from scores by model, by metric and then a number a draw; `baselines` are
    the models to be grey.
    """
    rows = [
        (model, model in baselines, metric, draw, value)
        for model, metrics in models.items()
        for metric, values in metrics.items()
        for draw, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows, columns=["model", "baseline", "metric", "draw", "value"])


def every_draw(scores: pd.DataFrame, metrics: list[str]):
    """A panel a metric, a row a model, a dot a draw and a bar at their mean; columns model, baseline, metric, draw,
    value.
    """
    if scores.empty or not set(metrics) <= set(scores["metric"]):
        raise StudyError(
            f"Draws of {', '.join(metrics)} cannot be drawn from a table of "
            f"{', '.join(scores['metric'].unique()) or 'nothing'}."
        )
    models = scores[["model", "baseline"]].drop_duplicates().reset_index(drop=True)
    figure, panels = canvas(len(metrics) * (len(models) * ROW + 0.75) + 0.1, len(metrics), squeeze=False)
    told = []
    for axes, name in zip(panels.flat, metrics):
        part = scores[scores["metric"] == name]
        for at, row in models.iterrows():
            values = part.loc[part["model"] == row["model"], "value"]
            colour = GREY if row["baseline"] else BLUE
            axes.scatter(values, np.full(len(values), at), s=55, color=colour, alpha=0.55, linewidth=0, zorder=2)
            axes.vlines(
                values.mean(), at - 0.3, at + 0.3, color=INK if row["baseline"] else ORANGE, linewidth=3, zorder=3
            )
            told.append(
                f"{label(name)}, {row['model']}: {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}"
            )
        axes.set_yticks(models.index, [folded(model, 2.3) for model in models["model"]], fontsize=SMALLEST)
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.set_title(folded(label(name), 3.4, 1, BOLD), fontsize=14)
        axes.grid(axis="y", color="#E8E8E8")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=SMALLEST)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    return figure, f"Every draw as a dot, the mean as a bar. {listed(told, 24)}."
