"""Multi-label evaluation: random splits, losses of stored predictions, the maximum under the null, label support."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss as of_sklearn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import random_split, subsample
from pneumo_utils.data.loaders import Flip
from pneumo_utils.data.readers import nih
from pneumo_utils.evaluation.baselines import labels_with_support
from pneumo_utils.evaluation.metrics import log_loss
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.evaluation.variance_components import max_under_null
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import layer_size_grid, layer_size_pairs
from pneumo_utils.phantom import writers
from pneumo_utils.plots.learning_curves import learning_curves
from pneumo_utils.plots.saliency import matrix_plot
from pneumo_utils.training.losses import categorical_cross_entropy, multi_label_cross_entropy
from pneumo_utils.training.metrics import CategoricalAccuracy


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return nih.read(
        writers.write_release("nih", 200, 32, 0, tmp_path_factory.mktemp("labels") / "nih"), say=None
    ).replace(classes=[*nih.FINDINGS, nih.NO_FINDING])


# images by chance


def test_random_split_uses_each_image_once(cohort):
    split = random_split(cohort, 0.1, 0.2, 3)
    images = len(cohort)
    assert split.table["split"].value_counts().to_dict() == {
        "train": images - round(0.1 * images) - round(0.2 * images),
        "valid": round(0.2 * images),
        "test": round(0.1 * images),
    }
    assert (split.table["split"] == random_split(cohort, 0.1, 0.2, 3).table["split"]).all() and (
        split.table["split"] != random_split(cohort, 0.1, 0.2, 4).table["split"]
    ).any()
    # nobody looks at patients
    assert split.table.index.equals(cohort.table.index) and (split.shared_patients()["patients"] > 0).all()


def test_subsample_keeps_the_parts_and_their_shares(cohort):
    whole = random_split(cohort, 0.1, 0.1, 0)
    some = subsample(whole, 100, 1)
    assert some.table["split"].value_counts().to_dict() == {"train": 80, "valid": 10, "test": 10}
    assert (whole.table["split"][some.table.index] == some.table["split"]).all()
    assert set(subsample(whole, 100, 2).table.index) != set(some.table.index)
    assert len(subsample(whole, len(whole), 5)) == len(whole)


def test_invalid_subsample_sizes_are_refused(cohort):
    whole = random_split(cohort, 0.1, 0.1, 0)
    with pytest.raises(
        StudyError, match=f"5,000 images cannot be drawn from the {len(cohort)} .* at most {len(cohort)}"
    ):
        subsample(whole, 5000, 0)
    with pytest.raises(StudyError, match="4 images are too few for a valid part, .* at least 10"):
        subsample(whole, 4, 0)
    with pytest.raises(StudyError, match="less than 1"):
        random_split(cohort, 0.6, 0.4, 0)


def test_vertical_and_horizontal_flips_differ():
    from fastai.torch_core import TensorImage

    images = TensorImage(torch.arange(32 * 9).reshape(32, 3, 3))
    torch.manual_seed(0)
    turned = Flip(-2).encodes(images)
    which = (turned != images).flatten(1).any(1)
    assert (
        4 < which.sum() < 28
        and torch.equal(turned[which], images[which].flip(-2))
        and not torch.equal(turned[which], images[which].flip(-1))
    )


def test_layer_size_grid_is_checked_against_the_data(cohort):
    net, whole = trunk("resnet50", weights="random", size="pocket", top=True), random_split(cohort, 0.1, 0.1, 0)
    assert layer_size_grid(net, whole, [0, 107], [50, 100]) == [(0, 50), (107, 50), (0, 100), (107, 100)]
    assert layer_size_pairs(net, whole, [2, 19], [100, 60]) == [(2, 100), (19, 60)]
    for ask, message in (
        (lambda: layer_size_grid(net, whole, [0, 108], [50]), "107 layers with weights .* choose at most 107"),
        (lambda: layer_size_grid(net, whole, [0], [50, 5000]), "5,000 images cannot be drawn"),
        (
            lambda: layer_size_grid(net, whole, [], [50]),
            "at least one number of layers and one of images; here are 0 and 1",
        ),
        (lambda: layer_size_pairs(net, whole, [2], [50, 60]), "in pairs; here are 1 and 2"),
    ):
        with pytest.raises(StudyError, match=message):
            ask()


# losses


def several(rows=40, labels=4, seed=0):
    random = np.random.default_rng(seed)
    truth = (random.random((rows, labels)) < 0.4).astype(int)
    return Predictions(
        [f"image {index}" for index in range(rows)],
        [""] * rows,
        truth,
        random.random((rows, labels)),
        list("abcd")[:labels],
        multilabel=True,
    )


def test_log_loss_of_predictions_equals_training_loss():
    logits = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    truth = torch.tensor(several().truth.astype(int))
    for loss, labels in ((multi_label_cross_entropy(), "each"), (categorical_cross_entropy(), "summed")):
        predictions = Predictions(
            [str(index) for index in range(40)],
            [""] * 40,
            truth.numpy(),
            loss.activation(logits).numpy(),
            list("abcd"),
            multilabel=True,
        )
        assert log_loss(predictions, labels).mean() == pytest.approx(float(loss(logits, truth)), rel=1e-5)


def test_log_loss_per_class_equals_scikit_learn():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 50)
    truth = random.integers(0, 3, 50)
    assert log_loss(
        Predictions([str(index) for index in range(50)], [""] * 50, truth, probabilities, list("abc"))
    ).mean() == pytest.approx(of_sklearn(truth, probabilities, labels=[0, 1, 2]))


def test_log_loss_is_clipped_as_in_keras():
    wrong = Predictions(["one"], [""], [[1, 0]], [[0.0, 0.0]], ["a", "b"], multilabel=True)
    assert log_loss(wrong)[0] == pytest.approx(-np.log(1e-7) / 2, rel=1e-6)
    with pytest.raises(StudyError, match="each"):
        log_loss(wrong, "all")


def test_softmax_accuracy_uses_the_first_label():
    class Learn:
        pred = torch.tensor([[0.1, 2.0, 1.0], [3.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
        yb = (torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 1]]),)

    metric = CategoricalAccuracy()
    metric.reset()
    metric.accumulate(Learn)
    assert float(metric.value) == pytest.approx(1 / 3)


# the best of many


def test_max_under_null_equals_normal_order_statistics():
    draws = np.random.default_rng(0).normal(5, 2, 4000)
    alone, many = (
        max_under_null({"a": draws}, {"a": 1}, resamples=20000),
        max_under_null({"a": draws}, {"a": 20}, resamples=20000),
    )
    assert alone[0] == pytest.approx(0, abs=0.1) and many[0] == pytest.approx(
        2 * 1.824, abs=0.1
    )  # the median of the highest of 20 standard normal numbers
    assert many[1] < many[0] < many[2]


@pytest.mark.parametrize("deviations", [{"100": 0.03}, {"100": 0.03, "300": 0.02, "1000": 0.01}])
def test_max_under_null_has_coverage_with_six_runs(deviations):
    """As in chapter 5's grid: all cells of a size equally good, and few repetitions of each size to tell its
    deviation.
    """
    random, held, above, tries = np.random.default_rng(0), 0, 0, 400
    for index in range(tries):
        maximum = max(random.normal(0, deviation, 20).max() for deviation in deviations.values())
        middle, low, high = max_under_null(
            {name: random.normal(0.9, deviation, 6) for name, deviation in deviations.items()},
            dict.fromkeys(deviations, 20),
            resamples=500,
            seed=index,
        )
        held, above = held + (low <= maximum <= high), above + (maximum > middle)
    assert 0.9 < held / tries < 0.99 and 0.3 < above / tries < 0.6


def test_max_under_null_of_unequal_deviations():
    random = np.random.default_rng(0)
    kinds = {"still": random.normal(0, 0.01, 50), "noisy": random.normal(0, 1, 50)}
    assert (
        max_under_null(kinds, {"still": 10, "noisy": 10})[0] > 20 * max_under_null(kinds, {"still": 10, "noisy": 0})[0]
    )
    with pytest.raises(StudyError, match="two draws or more, and of noisy there are 1"):
        max_under_null(kinds | {"noisy": [1.0]}, {"noisy": 3})


# labels that can be judged


def test_labels_with_support_need_positives_and_negatives(cohort):
    parts = [random_split(cohort, 0.3, 0.1, seed).part("test") for seed in (0, 1)]
    labels, counts = labels_with_support(parts, 4), [part.counts() for part in parts]
    assert nih.NO_FINDING in labels and labels == [
        name for name in cohort.classes if all(4 <= count[name] <= len(part) - 4 for count, part in zip(counts, parts))
    ]


def test_single_class_is_refused(cohort):
    healthy = cohort.where(cohort.table["labels"] == nih.NO_FINDING)
    with pytest.raises(StudyError, match=f"of {len(healthy)} test images {len(healthy)} are No Finding and 0 "):
        labels_with_support([healthy], 5)


# figures


def test_heat_map_alt_text_names_extremes(closed_figures):
    numbers = pd.DataFrame(
        np.arange(12.0).reshape(3, 4) - 4,
        index=pd.Index(["100", "200", "300"], name="s"),
        columns=pd.Index(["0", "2", "5", "19"], name="c"),
    )
    numbers.iloc[0, 0] = np.nan
    figure, alt = matrix_plot(numbers, "points", "{:+.0f}", centre=0, n_named=2)
    assert "3 rows by 4 columns" in alt and "300, 19 +7" in alt and "100, 2 -3" in alt and "nan" not in alt
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert "+7" in shown and "–" in shown
    with pytest.raises(StudyError, match="no number"):
        matrix_plot(numbers * np.nan, "points")


def test_large_heat_map_has_no_numbers(closed_figures):
    names = [f"label {index}" for index in range(14)]
    figure, _ = matrix_plot(
        pd.DataFrame(np.random.default_rng(0).random((14, 14)), index=names, columns=names), "share"
    )
    assert not figure.axes[0].texts and len(figure.axes[0].get_xticklabels()) == 14


def test_learning_curves_show_the_baseline(closed_figures):
    history = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [0.5, 0.3], "valid_loss": [0.6, 0.5], "valid_accuracy": [0.9, 0.91]}
    )
    figure, alt = learning_curves(
        {"one": history, "other": history}, ["accuracy", "loss"], {"one": {"accuracy": 0.92}}, "majority classifier"
    )
    assert alt.count("majority classifier 0.920") == 1
    _, plain = learning_curves(history, ["loss"], {"loss": 0.217})
    assert "constant answer 0.217" in plain
