"""Plots of results: they show the given values, have an alternative text, and cut nothing off."""

from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from saved_figures import legible, saved, texts

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.metrics import confusion_matrix
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.evaluation.scores import compute_score
from pneumo_utils.evaluation.thresholds import reliability_table, selective_accuracy
from pneumo_utils.plots import classification, comparison, images, learning_curves
from pneumo_utils.plots.classification import confusion_matrices, reliability_diagram, selective_accuracy_curve
from pneumo_utils.plots.comparison import forest_plot, run_scores_table, strip_plot
from pneumo_utils.plots.saliency import sanity_check_plot
from pneumo_utils.plots.style import format_percent, join_parts, wrap_text

matplotlib.use("Agg")
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("closed_figures")]

LABELS = (
    "Atelectasis Cardiomegaly Consolidation Edema Effusion Emphysema Fibrosis Hernia Infiltration Mass Nodule "
    "Pleural_Thickening Pneumonia "
    "Pneumothorax No_Finding"
).split()
LONG = "DenseNet201 with augmentation and dropout, released after ten epochs of a schedule"
NAN = float("nan")


def row(model, metric, value, low=NAN, high=NAN, baseline=False):
    return {"model": model, "baseline": baseline, "metric": metric, "value": value, "low": low, "high": high, "why": ""}


def answers(count=300, seed=0):
    draw = np.random.default_rng(seed)
    true = draw.integers(0, 2, count)
    probabilities = 1 / (1 + np.exp(-2 * (2 * true - 1 + draw.normal(size=count))))
    return Predictions(np.arange(count), [""] * count, true, probabilities, ["NORMAL", "PNEUMONIA"])


# words


@pytest.mark.parametrize(
    "name, expected",
    [
        ("NORMAL", "NORMAL"),
        ("bacterial pneumonia", "bacterial\npneumonia"),
        ("Pleural_Thickening", "Pleural_\nThickening"),
        ("a run that went astray long ago", "a run that\nwent astra…"),
        ("incomprehensibilities", "incomprehe…"),
        ("fine-tuned", "fine-tuned"),
        ("", ""),
    ],
)
def test_wrap_text_breaks_at_words(name, expected):
    assert wrap_text(name, 11, letter_width=1) == expected


def test_join_parts_shortens_long_lists():
    assert join_parts("abc") == "a; b; c" and join_parts("abcdefghij", 3) == "a; b; c; and 7 more"


@pytest.mark.parametrize(
    "part, whole, expected",
    [(1, 1000, "<1 %"), (0, 1000, "0 %"), (999, 1000, ">99 %"), (1000, 1000, "100 %"), (1, 3, "33 %"), (0, 0, "none")],
)
def test_format_percent_rounds_to_0_or_100_only_when_exact(part, whole, expected):
    assert format_percent(part, whole) == expected


# sample grids


def test_sample_grid_shows_images_by_class():
    films = {
        "NORMAL": [np.full((32, 32), 40, np.uint8)] * 5,
        "PNEUMONIA": [np.full((32, 32), 200, np.uint8)],
        "nobody": [],
    }
    figure, alt = images.image_grid(films, {"NORMAL": ["3 years", "", LONG]})
    assert len(figure.axes) == 6 and [axes.images[0].get_array().mean() for axes in figure.axes] == [40] * 5 + [200]
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert all(box.width == pytest.approx(box.height) for box in boxes), "square"
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
    assert {"NORMAL", "PNEUMONIA", "nobody", "no image", "3 years"} <= set(texts(figure))
    assert (
        f'5 under "NORMAL", mean grey 40 of 255: 3 years, {LONG}; 1 under "PNEUMONIA", mean grey 200 of 255; 0 under '
        f'"nobody"' in alt
    )
    legible(figure)


def test_sample_grid_shows_colour():
    tinted = np.zeros((8, 8, 3), np.uint8) + np.array([200, 180, 190], np.uint8)
    figure, _ = images.image_grid(
        {"a child": [np.full((8, 8), 200, np.uint8), tinted]}, {"a child": ["as it is", "tint"]}
    )
    assert np.asarray(figure.axes[1].images[0].get_array()).shape == (8, 8, 3)
    red, _, blue = (np.asarray(channel).astype(int) for channel in saved(figure).convert("RGB").split())
    assert 0.1 < (red - blue == 10).mean() < 0.3, "the file has it in grey"
    with pytest.raises(StudyError, match="three colours in the last axis"):
        images.image_grid({"a child": [np.zeros((3, 8, 8), np.uint8)]})


@pytest.mark.parametrize(
    "films, message",
    [
        ({}, "no pictures"),
        ({"x": [np.zeros((4, 4))]}, "float64 of shape"),
        ({"x": [np.zeros((4, 4, 4), np.uint8)]}, "x is uint8 of shape"),
    ],
)
def test_sample_grid_refuses_invalid_images(films, message):
    with pytest.raises(StudyError, match=message):
        images.image_grid(films)


# class balance


def test_class_balance_bars_equal_image_counts():
    counts = pd.DataFrame({"train": [1341, 3875], "test": [234, 390]}, index=["NORMAL", "PNEUMONIA"])
    figure, alt = classification.class_balance(counts)
    assert sorted(bar.get_width() for bar in figure.axes[0].patches) == sorted(counts.to_numpy().ravel())
    assert {" 1,341 (26 %)", " 3,875 (74 %)", " 234 (38 %)", " 390 (62 %)"} <= set(texts(figure))
    assert len({bar.get_hatch() for bar in figure.axes[0].patches}) == 2, "told apart without colour"
    assert "train: NORMAL 1,341 (26 %), PNEUMONIA 3,875 (74 %); test: NORMAL 234 (38 %)" in alt
    legible(figure)


def test_class_balance_of_fifteen_labels_fits():
    counts = pd.DataFrame({"before": np.arange(15) ** 4, "after": 100_000}, index=[*LABELS[:-1], LONG])
    figure, alt = classification.class_balance(counts)
    assert len(figure.axes[0].patches) == 30 and legible(figure).height > 1500 and "Atelectasis 0 (0 %)" in alt
    legible(classification.class_balance(counts[["before"]] * 0)[0])


def test_class_balance_refuses_invalid_input():
    for counts in (
        pd.DataFrame({"train": []}),
        pd.DataFrame({part: [1] for part in "abcde"}),
        pd.DataFrame(index=["a"]),
    ):
        with pytest.raises(StudyError, match="in one to 4 parts"):
            classification.class_balance(counts)


# confusion matrices


def test_confusion_matrix_shows_counts_and_row_shares():
    names = ["normal", "bacterial", "viral"]
    matrix = pd.DataFrame([[985, 9, 146], [2, 987, 3], [84, 13, 779]], index=names, columns=names)
    figure, alt = confusion_matrices({"": matrix})
    texts_by_place = {(text.get_position()): text.get_text() for text in figure.axes[0].texts}
    cells = np.ndenumerate(matrix.to_numpy())
    assert texts_by_place == {
        (column, line): f"{count:,}\n{format_percent(count, matrix.iloc[line].sum())}"
        for (line, column), count in cells
    }
    assert figure.axes[0].images[0].get_array()[0, 2] == pytest.approx(146 / 1140)
    assert (
        alt == "Confusion matrix. 2,751 of 3,008 images right (91 %), "
        "most frequent error: 146 of normal predicted as viral."
    )
    legible(figure)


def test_confusion_matrices_of_five_models():
    held = confusion_matrix(answers())
    figure, alt = confusion_matrices({name: held for name in (LONG, "b", "c", "d", "e")})
    assert len(figure.axes) == 5 and sum(len(axes.texts) for axes in figure.axes) == 20
    assert [axes.get_ylabel() for axes in figure.axes] == ["actual", "", "actual", "", "actual"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "predicted", "predicted"]
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index]), (
        "names and titles keep off other panels"
    )
    assert alt.count("images right") == 5 and LONG in alt
    legible(figure)


def test_confusion_matrix_of_fifteen_classes_shows_percentages():
    draw = np.random.default_rng(0)
    matrix = pd.DataFrame(draw.integers(0, 50, (15, 15)) + 400 * np.eye(15, dtype=int), index=LABELS, columns=LABELS)
    figure, alt = confusion_matrices({"ResNet50": matrix})
    expected = (100 * matrix.to_numpy() / matrix.to_numpy().sum(axis=1, keepdims=True)).round()
    assert sorted(int(text.get_text()) for text in figure.axes[0].texts) == sorted(expected[expected > 0].astype(int))
    assert figure.axes[0].get_xlabel() == "predicted, % of the actual class" and "of 11" in alt
    legible(figure)


def test_confusion_matrix_reports_absent_classes():
    names = ["not Pleural_Thickening", "Pleural_Thickening"]
    figure, alt = confusion_matrices({"m": pd.DataFrame([[0, 0], [12_345, 54_321]], index=names, columns=names)})
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "0", "12,345\n19 %", "54,321\n81 %"]
    assert alt.endswith("no image of not Pleural_Thickening.")
    legible(figure)


@pytest.mark.parametrize(
    "matrices, message",
    [
        ({}, "has to be one"),
        ({"m": pd.DataFrame([[1, 2]])}, "is square"),
        ({"a": pd.DataFrame([[1]], ["x"], ["x"]), "b": pd.DataFrame([[1]], ["y"], ["y"])}, "not of x and of y"),
        ({"a": pd.DataFrame([[1, 0], [0, 1]], ["x", "y"], ["y", "x"])}, "same order"),
    ],
)
def test_invalid_confusion_matrices_are_refused(matrices, message):
    with pytest.raises(StudyError, match=message):
        confusion_matrices(matrices)


# learning curves


def history(epochs=20, released=10):
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "train_loss": 0.7 * np.exp(-epoch / 8),
            "valid_loss": 0.3 + (epoch - 12.0) ** 2 / 400,
            "accuracy": 1 - 1 / (epoch + 1),
            "phase": np.where(epoch <= released, 1, 2),
        }
    )


def test_learning_curves_show_history_and_unfreezing():
    figure, alt = learning_curves.learning_curves(history())
    train, valid, line = figure.axes[0].lines
    assert (train.get_ydata() == history()["train_loss"]).all() and (valid.get_ydata() == history()["valid_loss"]).all()
    assert list(line.get_xdata()) == [10.5, 10.5] and learning_curves.phase_ends(history()) == [10]
    assert (train.get_linestyle(), train.get_marker()) != (valid.get_linestyle(), valid.get_marker())
    assert (
        "validation loss from 0.603 in epoch 1 to 0.460 in epoch 20, at its best 0.300 in epoch 12, layers unfrozen "
        "after epoch 10" in alt
    )
    assert {"training", "validation", "layers unfrozen", "epoch", "loss"} <= set(texts(figure))
    legible(figure)


def test_learning_curves_without_phases():
    figure, alt = learning_curves.learning_curves(history().drop(columns="phase"))
    assert len(figure.axes[0].lines) == 2 and "unfrozen" not in alt and "layers unfrozen" not in texts(figure)


def test_learning_curves_of_several_runs_share_a_scale():
    held = {name: history() for name in ("VGG16", "ResNet50V2 augmented", LONG)}
    figure, alt = learning_curves.learning_curves(held)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 3 and len({axes.get_ylim() for axes in shown}) == 1 and LONG in alt
    legible(figure)
    figure, alt = learning_curves.learning_curves(history(), ("loss", "accuracy"))
    assert figure.axes[0].get_ylim() != figure.axes[1].get_ylim()
    assert "validation accuracy from 0.500 in epoch 1 to 0.952 in epoch 20, at its best 0.952 in epoch 20" in alt
    legible(figure)


def test_learning_curves_stop_at_nan():
    diverged = history()
    diverged.loc[6:, ["train_loss", "valid_loss"]] = NAN
    figure, alt = learning_curves.learning_curves(
        {"astray": diverged, "never": history().assign(train_loss=NAN, valid_loss=NAN), "one": history(1)}
    )
    assert (
        "undefined in 14 epochs" in alt
        and "never: training loss undefined, validation loss undefined" in alt
        and "undefined" in texts(figure)
    )
    legible(figure)


@pytest.mark.parametrize(
    "held, quantities, message",
    [
        (pd.DataFrame({"epoch": []}), ("loss",), "no epochs"),
        ({}, ("loss",), "no epochs"),
        (history(), ("auroc",), "no 'auroc'; it has epoch, train_loss"),
    ],
)
def test_empty_learning_curves_are_refused(held, quantities, message):
    with pytest.raises(StudyError, match=message):
        learning_curves.learning_curves(held, quantities)


# forests


SCORES = pd.DataFrame(
    [
        row("last block", "auroc", 0.953, 0.931, 0.972),
        row("pixels", "auroc", 0.935, 0.91, 0.96, True),
        row("majority", "auroc", 0.5, 0.5, 0.5, True),
        row("last block", "brier", 0.08, 0.06, 0.10),
        row("pixels", "brier", 0.10, 0.08, 0.12, True),
        row("majority", "brier", 0.2, 0.19, 0.21, True),
    ]
)


def test_forest_plot_shows_intervals_and_best_baseline():
    figure, alt = forest_plot(SCORES)
    area, loss = figure.axes[:2]
    dots = [
        tuple(collection.get_offsets()[0]) for collection in area.collections if isinstance(collection, PathCollection)
    ]
    assert dots == [(0.953, 0), (0.935, 1), (0.5, 2)]
    assert [list(axes.lines[0].get_xdata()) for axes in (area, loss)] == [[0.935] * 2, [0.10] * 2], (
        "of losses the lowest is the best"
    )
    assert {"0.953", "0.935", "0.500", "model", "baseline", "AUROC", "Brier score"} <= set(texts(figure))
    assert (
        "last block 0.953 (0.93 to 0.97), pixels (baseline) 0.935 (0.91 to 0.96)" in alt
        and "dashed line at pixels" in alt
    )
    assert list(forest_plot(SCORES, ["auroc"], reference="majority")[0].axes[0].lines[0].get_xdata()) == [0.5, 0.5]
    legible(figure)


def test_forest_plot_keeps_rows_of_undefined_scores():
    nasty = pd.DataFrame(
        [
            row(LONG, "f1 of Pleural_Thickening", 0.3, 0.1, 0.5),
            row("b", "f1 of Pleural_Thickening", NAN),
            row("c", "recall of Hernia", NAN),
        ]
    )
    figure, alt = forest_plot(nasty)
    assert (
        texts(figure).count("undefined") == 2
        and f"{LONG} 0.300 (0.10 to 0.50), b undefined" in alt
        and "Recall of Hernia: c undefined" in alt
    )
    legible(figure)
    legible(forest_plot(pd.DataFrame([row(name, "auroc", 0.7, 0.6, 0.8) for name in LABELS]))[0])


@pytest.mark.parametrize(
    "table, more, message",
    [
        (SCORES, {"metrics": ["mcc"]}, "forest plot of mcc"),
        (SCORES[:0], {}, "no metric"),
        (SCORES, {"reference": "x"}, "no row 'x'"),
    ],
)
def test_forest_plot_refuses_invalid_input(table, more, message):
    with pytest.raises(StudyError, match=message):
        forest_plot(table, **more)


# reliability


def test_reliability_diagram_shows_bins_and_counts():
    held, other = answers(), answers(seed=1)
    bins = reliability_table(held)
    figure, alt = reliability_diagram({"ResNet18": bins, LONG: reliability_table(other)}, "PNEUMONIA")
    full = bins[bins["images"] > 0]
    dots = figure.axes[0].lines[1]
    assert dots.get_ydata() == pytest.approx(full["observed"]) and dots.get_xdata() == pytest.approx(
        full["predicted"], abs=0.011
    )
    assert [bar.get_height() for bar in figure.axes[1].patches[:10]] == bins["images"].tolist() and len(
        figure.axes[1].patches
    ) == 20
    assert (
        f"ResNet18: 300 images, calibration error {compute_score(held, 'calibration_error', resamples=2).value:.3f}"
        in alt
    )
    assert len({line.get_marker() for line in figure.axes[0].lines[1:]}) == 2
    legible(figure)


def test_reliability_diagram_with_one_bin():
    sure = Predictions(list("abc"), [""] * 3, [1, 1, 0], [0.97, 0.99, 0.98], ["n", "p"])
    figure, alt = reliability_diagram({"": reliability_table(sure)}, LONG)
    assert (
        "3 images, calibration error 0.313" in alt
        and "0.98 contributes most: 3 images with an observed frequency of 0.67" in alt
    )
    legible(figure)


@pytest.mark.parametrize(
    "draw, tabulate", [(reliability_diagram, reliability_table), (selective_accuracy_curve, selective_accuracy)]
)
@pytest.mark.parametrize("models", ["", "abcd"])
def test_plots_refuse_zero_and_four_models(draw, tabulate, models):
    with pytest.raises(StudyError, match="One to 3 models"):
        draw(dict.fromkeys(models, tabulate(answers())))


# silence


def test_selective_accuracy_curve_shows_coverage_and_majority():
    rows = selective_accuracy(answers())
    figure, alt = selective_accuracy_curve(
        {"ResNet18": rows, "pixels": selective_accuracy(answers(seed=1))}, majority_accuracy=0.6
    )
    lines = figure.axes[0].lines
    assert lines[0].get_ydata() == pytest.approx(rows["accuracy"]) and lines[0].get_xdata() == pytest.approx(
        rows["share"]
    )
    assert len(lines) == 3 and set(lines[2].get_ydata()) == {0.6} and lines[0].get_marker() != lines[1].get_marker()
    assert f"ResNet18: {rows['accuracy'].iloc[0]:.3f}" in alt and "on the 300 most confident" in alt
    legible(figure)


# weights drawn anew


def test_sanity_check_plot_has_one_line_per_model():
    rows = [
        (model, method, block, value)
        for model in ("VGG16", "ResNet50V2")
        for method in ("Grad-CAM", "saliency")
        for block, value in (("head", 0.6), ("stage4", 0.1))
    ]
    figure, alt = sanity_check_plot(pd.DataFrame(rows, columns=["model", "method", "block", "rank correlation"]))
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines[1:]] == [[1.0, 0.6, 0.1]] * 2 and len(
        figure.axes
    ) == 2
    assert "Grad-CAM, VGG16: 0.60 once head is random, 0.10 when all 2 blocks are" in alt
    legible(figure)


def test_sanity_check_plot_refuses_empty_input():
    with pytest.raises(StudyError, match="here are 0"):
        sanity_check_plot(pd.DataFrame(columns=["model", "method", "block", "rank correlation"]))


# paper beside ours


ROWS = pd.DataFrame(
    [
        ["Accuracy", "0.7941", 0.81, 0.77, 0.85],
        ["Recall", "0.99", 0.9, 0.86, 0.93],
        ["Normal right", "43.5%", 0.51, 0.44, 0.58],
        ["Not here", "0.5", NAN, NAN, NAN],
    ],
    columns=comparison.PAPER_COLUMNS,
)


def test_table_compares_paper_and_run():
    page = [
        [cell.text for cell in line]
        for line in ElementTree.fromstring(comparison.paper_comparison_table(ROWS).data).iter("tr")
    ]
    assert page == [
        [None, "paper", "this run", "the paper's number lies"],
        ["Accuracy", "0.7941", "0.810 (0.77 to 0.85)", "in our interval"],
        ["Recall", "0.99", "0.900 (0.86 to 0.93)", "above our interval"],
        ["Normal right", "43.5%", "0.510 (0.44 to 0.58)", "below our interval"],
        ["Not here", "0.5", "undefined", "beside no interval of ours"],
    ]


def cells(shown):
    return [[cell.text for cell in line] for line in ElementTree.fromstring(shown.data).iter("tr")]


def test_table_appends_further_columns():
    page = cells(comparison.paper_comparison_table(ROWS[:2].assign(**{"on record": ["0.800", np.nan]})))
    assert [line[-1] for line in page] == ["on record", "0.800", None]


def test_surveys_table_compares_runs():
    here = {
        "opened: all": {"value": 0.9, "low": 0.8, "high": 0.95},
        "opened: head": {"value": 0.5, "low": None, "high": None},
        "other: all": {"value": 1.0},
    }
    record = {
        "opened: conv1": {"value": 0.25, "low": 0.2, "high": 0.3},
        "opened: all": {"value": "undefined", "low": "undefined", "high": "undefined"},
    }
    assert cells(
        comparison.survey_table(
            "opened", {"this run": here, "on record": record, "another": {"else: x": {"value": 1.0}}}
        )
    ) == [
        [None, "this run", "on record"],
        ["all", "0.900 (0.80 to 0.95)", "undefined"],
        ["head", "0.500", None],
        ["conv1", None, "0.250 (0.20 to 0.30)"],
    ]
    assert "on no record" in comparison.survey_table("opened", {"this run": {}}).data


def test_surveys_of_the_same_variants_become_columns():
    here = {
        "tried, F1: all": {"value": 0.9, "low": 0.8, "high": 0.95},
        "tried, loss: all": {"value": 0.5},
        "tried, loss: head": {"value": 0.25},
    }
    columns = {"F1": "tried, F1", "loss": "tried, loss"}
    assert cells(
        comparison.surveys_table(columns, {"this run": here, "on record": {}}, name="tried", caption="Tried")
    ) == [
        [None, "F1", "loss"],
        ["all", "0.900 (0.80 to 0.95)", "0.500"],
        ["head", None, "0.250"],
    ]
    assert cells(
        comparison.surveys_table(columns, {"this run": here, "on record": here}, name="tried", caption="Tried")
    )[0][:2] == [None, "run"]


def test_survey_caption_names_the_averaging():
    def caption(**runs):
        return (
            ElementTree.fromstring(
                comparison.survey_table(
                    "depth",
                    {title: {f"depth: {name}": entry for name, entry in run.items()} for title, run in runs.items()},
                ).data
            )
            .find("caption")
            .text.strip()
        )

    three, ten, bare = (
        {"value": 0.5, "low": 0.4, "high": 0.6, "note": "mean of 3 draws"},
        {"value": 0.5, "low": 0.4, "high": 0.6, "note": "mean of 10 draws"},
        {"value": 0.5},
    )
    assert (
        caption(here={"all": three, "head": three}, there={"all": ten})
        == "Depth. In brackets 95 % intervals. Here: mean of 3 draws; there: mean of 10 draws."
    )
    assert (
        caption(here={"all": three, "head": ten}, there={"all": bare}) == "Depth. In brackets 95 % intervals."
    )  # this run says two things of its numbers
    assert caption(here={"all": bare}) == "Depth."


def test_printed_number_has_a_rounding_interval():
    assert (
        comparison.interval_position("0.79", 0.794, 0.83) == "in our interval"
        and comparison.interval_position("0.790", 0.794, 0.83) == "below our interval"
    )


@pytest.mark.parametrize(
    "rows, message",
    [
        (ROWS[:0], "there are no rows"),
        (ROWS.drop(columns="low"), "low is missing"),
        (ROWS.assign(paper="n/a"), "'n/a' is no number"),
        (ROWS.assign(paper=0.5), "0.5 is no number as a paper prints it"),
    ],
)
def test_mismatched_tables_are_refused(rows, message):
    with pytest.raises(StudyError, match=message):
        comparison.paper_comparison_table(rows)


def test_strip_plot_has_one_dot_per_run():
    models = {
        "net": {"auroc": np.array([0.8, 0.9]), "accuracy": [0.7, 0.6]},
        "majority": {"auroc": [0.5], "accuracy": []},
    }
    table = run_scores_table(models, ["majority"])
    assert table.to_dict("list") == {
        "model": ["net"] * 4 + ["majority"],
        "baseline": [False] * 4 + [True],
        "metric": ["auroc"] * 2 + ["accuracy"] * 2 + ["auroc"],
        "draw": [1, 2, 1, 2, 1],
        "value": [0.8, 0.9, 0.7, 0.6, 0.5],
    }
    assert "net: 0.800 to 0.900, mean 0.850" in strip_plot(table, ["auroc"])[1]
    with pytest.raises(StudyError, match="Runs cannot be plotted by auroc from a table of nothing"):
        strip_plot(run_scores_table({}), ["auroc"])
