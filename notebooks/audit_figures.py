"""Draw the figures of the audit, which recomputes what the papers' printed numbers imply."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from pneumo_utils.plots.style import BLUE, DARK, GREEN, GREY, ORANGE, new_figure
from pneumo_utils.plots.tables import html_table


def block_accuracies(implied: pd.DataFrame, constants: dict[str, float]):
    """Draw each model's accuracy and balanced accuracy with one standard error, and the baseline "always pneumonia".

    The best model of each metric is orange.

    implied: a row for each model and metric, with the columns `metric`, `column` (the model), `value` and
        `standard_error`.
    constants: the score of the baseline by metric.

    Returns the figure and its text alternative.
    """
    titles = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"}
    figure, rows = new_figure(6.8, rows=2)
    figure.get_layout_engine().set(hspace=0.12)
    for axes, (metric, title) in zip(rows, titles.items()):
        part = implied[implied["metric"] == metric].iloc[::-1]
        best = part["value"].to_numpy() == part["value"].max()
        axes.axvline(constants[metric], color=GREY, linestyle="--", linewidth=2)
        axes.text(constants[metric], len(part) - 0.35, " always pneumonia", color="#666666", fontsize=12, va="bottom")
        axes.hlines(
            part["column"],
            part["value"] - part["standard_error"],
            part["value"] + part["standard_error"],
            color=DARK,
            linewidth=2,
        )
        axes.scatter(part["value"], part["column"], s=90, color=np.where(best, ORANGE, BLUE), zorder=3)
        axes.set_title(title, pad=24)
        axes.set_ylim(-0.5, len(part) - 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, "Two rows of dots with standard errors. " + "; ".join(
        f"{metric.replace('_', ' ')}: "
        + ", ".join(f"{model} {value:.3f}" for model, value in part[["column", "value"]].to_numpy())
        for metric, part in implied[implied["metric"].isin(titles)].groupby("metric")
    )


def recall_and_specificity(implied: pd.DataFrame):
    """Draw the recall and the specificity that each column of paper 2 implies, joined by a line.

    implied: a row for each column of the paper and metric, with the columns `column`, `metric` and `value`.

    Returns the figure and its text alternative.
    """
    wide = (
        implied.pivot(index="column", columns="metric", values="value")
        .loc[implied["column"].drop_duplicates()]
        .iloc[::-1]
    )
    figure, axes = new_figure(4.4)
    axes.hlines(wide.index, wide["specificity"], wide["recall"], color=GREY, linewidth=3)
    axes.scatter(wide["specificity"], wide.index, s=100, color=ORANGE, zorder=3, label="normal images right")
    axes.scatter(wide["recall"], wide.index, s=100, color=BLUE, zorder=3, label="pneumonia right")
    axes.set(xlim=(0, 1.03), xlabel="share of the class")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, "Share of each class that is right. " + "; ".join(
        f"{name}: normal {row['specificity']:.2f}, pneumonia {row['recall']:.2f}" for name, row in wide[::-1].iterrows()
    )


def batch_recalls(batches: pd.DataFrame):
    """Draw the recall of each batch for a predictor without errors, and the mean over batches.

    batches: a row for each batch, in order, with the column `recall`.

    Returns the figure and its text alternative.
    """
    average = batches["recall"].mean()
    figure, axes = new_figure(3.8)
    axes.fill_between(
        np.arange(len(batches) + 1),
        np.append(batches["recall"], batches["recall"].iloc[-1]),
        step="post",
        color=BLUE,
        alpha=0.85,
    )
    axes.axhline(average, color=ORANGE, linewidth=2.5)
    axes.text(1, average + 0.03, f"mean over batches {average:.4f}", color=ORANGE, fontweight="bold")
    axes.axhline(1, color=GREEN, linewidth=2.5, linestyle="--")
    axes.text(1, 0.93, "recall on the whole: 1", color=GREEN, fontweight="bold", va="top")
    axes.set(
        xlim=(0, len(batches)), ylim=(0, 1.08), xlabel="batch, in the order of the files", ylabel="recall of the batch"
    )
    counts = {value: int((batches["recall"] == value).sum()) for value in (0, 1)}
    return figure, (
        f"Recall of each of {len(batches)} batches of a predictor that is never wrong: {counts[0]} batches without "
        f"pneumonia at 0, {counts[1]} at 1; their mean is {average:.4f}"
    )


def confusion_under_two_namings(counts: np.ndarray, names: list[str], renamed: list[str]):
    """Draw one confusion matrix under two assignments of class names to its rows and columns.

    counts: the matrix; rows are true classes, columns predictions.
    names: the class names as printed.
    renamed: the same names in the order that fits the stated class totals.

    Returns the figure and its text alternative.
    """
    figure, panels = new_figure(3.5, columns=2)
    for axes, title, order in zip(panels, ("As printed", "Names that fit"), (names, renamed)):
        positions = [order.index(name) for name in names]
        shown = counts[np.ix_(positions, positions)]
        errors = shown - np.diag(np.diag(shown))
        sns.heatmap(
            errors,
            annot=shown,
            fmt="d",
            cmap="Oranges",
            vmax=1.3 * errors.max(),
            cbar=False,
            square=True,
            linewidths=2,
            ax=axes,
            annot_kws={"fontsize": 13},
        )
        short = [name[:6] + ("." if len(name) > 6 else "") for name in names]
        axes.set_xticklabels(short, rotation=0, fontsize=11)
        axes.set_yticklabels(short, rotation=90, fontsize=11, va="center")
        axes.set_title(title)
        axes.set_xlabel("predicted")
    panels[0].set_ylabel("actual")
    most = [
        max((counts[i, j] + counts[j, i], f"{order[i]} and {order[j]}") for i in range(len(order)) for j in range(i))
        for order in (names, renamed)
    ]
    return figure, (
        f"The confusion matrix under two sets of names. As printed most errors, {most[0][0]}, are between "
        f"{most[0][1]}; under the names that fit the stated shares, between {most[1][1]}"
    )


def namings_table(namings: pd.DataFrame, **named: str):
    """Format the possible assignments of class names to a matrix's rows as a numbered table.

    namings: what `audit_tables.row_namings` returns.
    named: `name` and `caption` of the table.
    """
    return html_table(namings.assign(p=namings["p"].map(format_p_value)), **{"chi-squared": "{:.2f}"}, **named)


def format_p_value(p: float) -> str:
    """Format a p-value with three decimals, or as "< 0.001".

    p: the p-value.
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def baseline_f1_scores(scores: pd.DataFrame, printed: float):
    """Draw the F1 of baselines that never see an image, with confidence intervals, and a detector's F1 as a line.

    scores: a row for each baseline, with the columns `predictor`, `f1`, `low` and `high`, as shares.
    printed: the F1 that the paper prints for its detector, as a share.

    Returns the figure and its text alternative.
    """
    part = scores.sort_values("f1", ignore_index=True)
    figure, axes = new_figure(4.3)
    above = (part["f1"] > printed).to_numpy()
    axes.barh(part["predictor"], 100 * part["f1"], color=np.where(above, ORANGE, BLUE))
    axes.hlines(part["predictor"], 100 * part["low"], 100 * part["high"], color=DARK, linewidth=2)
    axes.axvline(100 * printed, color=DARK, linestyle="--", linewidth=2)
    axes.text(100 * printed + 0.5, -0.1, f"the paper: {100 * printed:.1f} %", fontsize=13, va="center")
    axes.set(xlabel="F1, %", xlim=(0, 118 * part["high"].max()), ylim=(-0.6, len(part) - 0.4))
    shown = ", ".join(f"{name} {100 * f1:.1f} %" for name, f1 in zip(scores["predictor"], scores["f1"]))
    return figure, f"F1 without an image: {shown}; the paper's detector {100 * printed:.1f} %"
