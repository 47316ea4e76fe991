"""The figures of chapter 5, and the tables that several of its results make up."""

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

import pneumo_utils as pu
from pneumo_utils.claims.decision import CONTRADICTED, EQUIVALENT, SUPPORTED
from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.comparison import prediction_interval
from pneumo_utils.evaluation.scores import format_ci
from pneumo_utils.plots.detection import IMAGE_GAP, labelled_grid
from pneumo_utils.plots.phantom import describe_location
from pneumo_utils.plots.saliency import HEAT_COLOURS, MAX_COLUMNS
from pneumo_utils.plots.style import (
    BLUE,
    GREEN,
    GREY,
    MIN_FONT_SIZE,
    ORANGE,
    PAGE_WIDTH,
    PURPLE,
    join_parts,
    new_figure,
)

STYLES = [(BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "D", "-."), (PURPLE, "v", ":"), (GREY, "^", "--")]

# classifiers


def own_task_rows(run, networks: dict, constants: dict, printed: dict, published: dict) -> list[dict]:
    """Return the rows of the table of accuracy and loss in each network's own task.

    networks, constants: by task, "accuracy" and "loss" of each split; a task may have no network.
    printed: by task and metric, the paper's number.
    published: by task and metric, what a constant scores on NIH's published tables.
    """
    rows = []
    for task, levels in constants.items():
        for metric in ("accuracy", "loss"):
            row = {"task": task, "": metric, "paper": printed[task, metric]}
            row["constant, all of NIH"] = f"{published[task, metric]:.3f}"
            if task in networks:
                ours = prediction_interval(networks[task][metric], 0, 1 if metric == "accuracy" else np.inf)
                run.result(f"{metric}: from nothing, {task}", *ours, note="over splits; where one more would fall")
                row["network here"] = format_ci(*ours)
            level = prediction_interval(levels[metric], 0, 1 if metric == "accuracy" else np.inf)
            run.result(f"constant {metric}: {task}", *level, note="over splits; where one more would fall")
            rows.append(row | {"constant here": format_ci(*level)})
    return rows


def score_rows(run, scores: dict[str, dict[str, np.ndarray]], names: dict[str, str], overlap: float, note: str):
    """Return the rows of a table of scores with 95 % intervals, and store each score as a result.

    scores: by system and metric, a number for each split or fold.
    names: by metric, the title of its column.
    """
    rows = []
    for system, by_metric in scores.items():
        row = {"": system}
        for metric, title in names.items():
            values = np.asarray(by_metric.get(metric, []), dtype=float)
            values = values[~np.isnan(values)]
            if len(values) > 1:
                interval = pu.mean_ci(values, 0, np.inf if "loss" in metric else 1, overlap)
                run.result(f"{title}: {system}", *interval, note=note)
                row[title] = format_ci(*interval)
        rows.append(row)
    return rows


def label_plot(systems: dict[str, pd.DataFrame], shares: pd.Series) -> tuple[Figure, str]:
    """Plot AUROC and average precision of each label, beside what a constant answer has.

    systems: by name, a table with the columns auroc and auprc, a row for each label.
    shares: by label, its share of the test images, which is the average precision of a constant.
    """
    order = shares.sort_values().index
    figure, panels = new_figure(1.2 + 0.36 * len(order), 1, 2, sharey=True)
    described = []
    for axes, metric, title in zip(panels, ("auroc", "auprc"), ("AUROC", "average precision")):
        level = np.full(len(order), 0.5) if metric == "auroc" else shares[order]
        axes.scatter(level, range(len(order)), color=GREY, marker="|", s=220, linewidths=2.4, label="constant")
        for (name, table), (colour, mark, _) in zip(systems.items(), STYLES):
            values = table.loc[order, metric]
            axes.scatter(values, range(len(order)), color=colour, marker=mark, s=48, label=name)
            above = int((values.to_numpy() > np.asarray(level)).sum())
            described.append(f"{title} of {name}: mean {values.mean():.2f}, above the constant in {above} labels")
        axes.set(xlabel=title, xlim=(0, 1))
        axes.set_yticks(range(len(order)), [label.replace("_", " ") for label in order])
        axes.grid(axis="y", alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, f"{len(order)} labels, the commonest on top. {join_parts(described)}."


def null_of_the_paper(tenths: list[int], n_layers: int, chosen: list[int], seed: int, grids: int = 2000) -> list[dict]:
    """Simulate the paper's grid with networks that have learned nothing, by the likeliest label.

    Each network differs from the majority classifier in a share of the images, and is right in half of these.

    tenths: images of the validation parts.
    n_layers: numbers of open layers.
    chosen: the validation parts of the paper's two choices.
    """
    random, rows = np.random.default_rng(seed), []
    for share in (0.02, 0.05, 0.1):
        best = {
            images: (
                random.binomial(images, share / 2, (grids, n_layers))
                - random.binomial(images, share / 2, (grids, n_layers))
            ).max(axis=1)
            / images
            for images in tenths
        }
        columns = {f"best of {n_layers * len(tenths)}": np.max(list(best.values()), axis=0)}
        columns |= {f"best of {n_layers} on {images} images": best[images] for images in chosen}
        row = {"answers that differ from the majority's": f"{share:.0%}"}
        for name, values in columns.items():
            low, high = 100 * np.quantile(values, (0.025, 0.975))
            row[name] = f"{100 * values.mean():.1f} ({low:.1f} to {high:.1f})"
        rows.append(row)
    return rows


# detectors


def figure_2(picture: np.ndarray, target: dict, cells: np.ndarray) -> tuple[Figure, str]:
    """Plot an image, the grid of 16 x 16 cells over it with its boxes, and the target, as the paper's figure 2 does."""
    figure, panels = new_figure(3.0, 1, 3)
    for axes, title in zip(panels, ("image", "grid and true boxes", "target")):
        axes.set_title(title, fontsize=MIN_FONT_SIZE)
        axes.set_xticks([])
        axes.set_yticks([])
        if title == "target":
            axes.imshow(cells, cmap=HEAT_COLOURS, vmin=0, vmax=1, extent=(0, 16, 16, 0), interpolation="nearest")
        else:
            axes.imshow(picture, cmap="gray", extent=(0, 16, 16, 0))
        if title != "image":
            axes.hlines(range(17), 0, 16, color=GREY, linewidth=0.4)
            axes.vlines(range(17), 0, 16, color=GREY, linewidth=0.4)
            for left, top, right, bottom in 16 * np.asarray(target["boxes"], float):
                axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=ORANGE, linewidth=2)
    return figure, (
        f"A radiograph; the same under a grid of 16 by 16 cells with {len(target['boxes'])} true boxes; and the "
        f"target, in which {int(cells.sum())} cells of 256 are 1, {describe_location(cells, 'the grid')}."
        if cells.any()
        else "A radiograph, the grid over it, and a target without any cell."
    )


def vanishing_plot(
    trainings: dict[str, list[dict]], threshold: float, printed: float, pull_epochs: float
) -> tuple[Figure, str]:
    """Plot by epoch the images with a box, and the object and no-object terms of the loss, on test images.

    trainings: by variant, what `train_yolo` returned for each fold; thin lines are folds of the first variant.
    printed: the paper's share of images with a box.
    pull_epochs: the epochs for which boxes are pulled towards the anchors.
    """
    figure, panels = new_figure(5.4, 3, sharex=True)
    described = []
    for number, ((name, folds), (colour, _, line)) in enumerate(zip(trainings.items(), STYLES)):
        curves = {
            "images with a box": np.array([(each["best_scores"] > threshold).mean(axis=1) for each in folds]),
            "object term": np.array([each["terms"]["object"] for each in folds]),
            "no-object term": np.array([each["terms"]["no object"] for each in folds]),
        }
        for axes, (title, values) in zip(panels, curves.items()):
            epochs, mean = np.arange(1, values.shape[1] + 1), values.mean(axis=0)
            if not number:
                axes.plot(epochs, values.T, color=colour, alpha=0.3, linewidth=1)
            axes.plot(epochs, mean, line, color=colour, linewidth=2.6, label=name)
            axes.set_ylabel(title)
            described.append(
                f"{name}, {title}: {mean[0]:.2f}, at the lowest {mean.min():.2f}, at the end {mean[-1]:.2f}"
            )
    panels[0].axhline(printed, color=GREY, linestyle=":", linewidth=1.8, label="the paper, at the end")
    panels[0].set_ylim(-0.03, 1.03)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    panels[2].set_yscale("log")
    panels[2].set_xlabel("epoch")
    panels[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels:
        axes.axvspan(0.5, 0.5 + pull_epochs, color=GREY, alpha=0.12, linewidth=0)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, f"YOLOv2 by epoch. {join_parts(described, 12)}."


def at_lowest_of_others(values: np.ndarray) -> np.ndarray:
    """Return each fold's value at the epoch in which the mean of the other folds is lowest.

    Chosen by itself, a lowest epoch would be lower by chance alone.

    values: (folds, epochs).
    """
    epochs = [np.delete(values, fold, axis=0).mean(axis=0).argmin() for fold in range(len(values))]
    return values[np.arange(len(values)), epochs]


ADVICE = {
    SUPPORTED: " Here the network from nothing does rank labels better than a linear model on small images.",
    CONTRADICTED: " Here a linear model on small images ranks labels better than the network from nothing: use it.",
    EQUIVALENT: " Here a linear model on small images ranks labels as well as the network from nothing.",
}
BOX_ADVICE = {
    SUPPORTED: " The grid network points better than the prior.",
    CONTRADICTED: " The prior, which sees no image, points better than the grid network: do not use that network.",
    EQUIVALENT: " The prior, which sees no image, points as well as the grid network.",
}


def give_answer(run, sentences: list[str], results: dict, claims: list[str], labels, boxes) -> None:
    """Fill in the box below the title, with advice that follows from two verdicts.

    labels: the question whether the network from nothing ranks better than a linear model, as `run.ask` takes it.
    boxes: the question whether the grid network points better than the location prior.
    """
    advice = (
        "Put an accuracy over many rare labels beside that of a constant, and judge by AUROC and average precision of "
        "each label. Put a score of boxes beside that of a location prior, with both thresholds chosen on the same "
        "validation images."
    )
    advice += ADVICE.get(
        run.ask(*labels, of=run.evidence).verdict,
        " Whether the network from nothing beats a linear model on labels is open.",
    )
    advice += BOX_ADVICE.get(
        run.ask(*boxes, of=run.evidence).verdict, " Whether the grid network points better than the prior is open."
    )
    run.answer(sentences, results, claims, advice)


# grids of confidences


def confidence_plot(
    true: np.ndarray, systems: dict[str, np.ndarray], names: list[str] | None = None
) -> tuple[Figure, str]:
    """Plot grids of confidences above the true cells, one column per image and one row per system, as the paper does.

    Return the figure and its alt text. Raise `StudyError` if the shapes differ.

    true: true cells (images, 16, 16).
    systems: for each system the confidences (images, 16, 16).
    names: of the images; None numbers them.
    """
    truth = np.asarray(true, float)
    rows = {name: np.asarray(grids, float) for name, grids in systems.items()} | {"truth": truth}
    if not systems or any(grids.shape != truth.shape or grids.ndim != 3 for grids in rows.values()) or not len(truth):
        raise StudyError(
            "Grids of shape "
            + ", ".join(str(grids.shape) for grids in rows.values())
            + " cannot be shown above each other: all are (images, 16, 16)."
        )
    if len(truth) > MAX_COLUMNS:
        raise StudyError(f"{len(truth)} grids side by side are too small to be seen: choose at most {MAX_COLUMNS}.")
    titles = names or [f"image {index + 1}" for index in range(len(truth))]
    figure, add_axes, left, side, head = labelled_grid(titles, list(rows), 0.62)
    for row, grids in enumerate(rows.values()):
        for column, grid in enumerate(grids):
            axes = add_axes(left + column * (side + IMAGE_GAP), head + row * (side + IMAGE_GAP), side, side)
            axes.imshow(grid, cmap=HEAT_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    height = figure.get_size_inches()[1]
    bar = figure.colorbar(
        ScalarMappable(cmap=HEAT_COLOURS),
        cax=add_axes(PAGE_WIDTH / 2 - 1.4, height - 0.56, 2.8, 0.12),
        orientation="horizontal",
    )
    bar.set_ticks([0, 0.5, 1], labels=["0", "confidence 0.5", "1"], fontsize=MIN_FONT_SIZE)
    bar.outline.set_visible(False)
    described = [
        f"{name}, {title}: {_describe_grid(grid)}" for name, grids in rows.items() for title, grid in zip(titles, grids)
    ]
    return figure, f"Grids of 16 by 16 cells, and under them the true cells. {join_parts(described, 15)}."


def _describe_grid(grid: np.ndarray) -> str:
    """Describe a grid by its maximum, and by the number and the place of its cells of 0.5 or more."""
    positive = grid >= 0.5
    return f"at most {grid.max():.2f}, {positive.sum()} cells of 0.5 or more" + (
        f" in the {describe_location(positive, 'the grid')}" if positive.any() else ""
    )
