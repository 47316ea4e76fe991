"""Scores compared with scikit-learn, with tables worked out by hand, and with simulations of known truth."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.baselines import fit_baselines, frame_only, grey_pixels, majority, table_columns
from pneumo_utils.evaluation.bootstrap import BootstrapCounts, ClassifierOutputs, bootstrap_weights, percentile_interval
from pneumo_utils.evaluation.comparison import compare_models, mcnemar
from pneumo_utils.evaluation.metrics import confusion_matrix, find_metric, metric_label
from pneumo_utils.evaluation.predictions import (
    Predictions,
    class_score_table,
    concat_predictions,
    format_score_table,
    score_table,
)
from pneumo_utils.evaluation.scores import Score, compute_score, compute_scores, format_ci, metric_values
from pneumo_utils.evaluation.thresholds import choose_threshold, reliability_table, selective_accuracy
from pneumo_utils.study.result_cache import canonical_form, load_result, store_result

pytestmark = pytest.mark.filterwarnings("error")  # an undefined metric says so and does not warn
BINARY = ["NORMAL", "PNEUMONIA"]


def made(count=60, classes=2, seed=0, skill=1.0, several=False, images_per_patient=1, digits=None, name="i"):
    """Predictions with some skill; `each` images a patient, probabilities cut so that many are tied."""
    draw = np.random.default_rng(seed)
    if several:
        truth = (draw.random((count, classes)) < 0.3).astype(int)
        probabilities = 1 / (1 + np.exp(-(skill * (2 * truth - 1) + draw.normal(size=truth.shape))))
    else:
        truth = draw.integers(0, classes, count)
        logits = draw.normal(size=(count, classes))
        logits[np.arange(count), truth] += skill
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if digits is not None:
        probabilities = np.floor(probabilities * 10**digits) / 10**digits
        probabilities = (
            probabilities
            if several
            else np.column_stack([probabilities[:, :-1], 1 - probabilities[:, :-1].sum(axis=1)])
        )
    names = BINARY if classes == 2 else [f"class {index}" for index in range(classes)]
    return Predictions(
        [f"{name}{index}" for index in range(count)],
        [f"p{index // images_per_patient}" for index in range(count)],
        truth,
        probabilities,
        names,
        several,
    )


def binary(truth, probabilities, **more):
    return Predictions(
        [f"i{index}" for index in range(len(truth))], [""] * len(truth), truth, probabilities, BINARY, **more
    )


def of_cells(tp, fn, fp, tn):
    return binary([1] * (tp + fn) + [0] * (fp + tn), [0.9] * tp + [0.1] * fn + [0.9] * fp + [0.1] * tn)


def seen(predictions, rows):
    return BootstrapCounts(ClassifierOutputs(predictions), np.asarray(rows, float))


# what scikit-learn gives


AVERAGED = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
DECIDED = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "mcc": sk.matthews_corrcoef,
    **{
        f"{name}_{how}": (lambda t, p, w, s=names, how=how: s(t, p, sample_weight=w, average=how, zero_division=0))
        for name, names in AVERAGED.items()
        for how in ("macro", "weighted")
    },
}


def specificity(true, predicted, sample_weight):
    return sk.recall_score(true, predicted, pos_label=False, sample_weight=sample_weight)


def plain(values):
    return values if values.__name__ == "<lambda>" else lambda t, p, w: values(t, p, sample_weight=w)


@pytest.mark.parametrize("digits", [None, 1], ids=["without ties", "with ties"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_metrics_of_every_resample_equal_scikit_learn(classes, digits):
    held = made(80, classes, digits=digits, images_per_patient=3)
    rows = np.concatenate([np.ones((1, 80)), *bootstrap_weights(held.groups, 10, seed=1)])
    block = seen(held, rows)
    predicted, probabilities = held.probabilities.argmax(axis=1), held.probabilities
    for name, expected in DECIDED.items():
        assert find_metric(name, held)(block) == pytest.approx(
            [plain(expected)(held.truth, predicted, row) for row in rows]
        ), name
    for index, class_name in enumerate(held.classes):
        true = held.truth == index
        for name, expected in {
            "auroc": sk.roc_auc_score,
            "auprc": sk.average_precision_score,
            "brier": sk.brier_score_loss,
        }.items():
            assert find_metric(f"{name} of {class_name}", held)(block) == pytest.approx(
                [expected(true, probabilities[:, index], sample_weight=row) for row in rows]
            ), name
        for name, expected in {"f1": sk.f1_score, "mcc": sk.matthews_corrcoef, "specificity": specificity}.items():
            positive = predicted == index
            assert find_metric(f"{name} of {class_name}", held)(block) == pytest.approx(
                [expected(true, positive, sample_weight=row) for row in rows]
            ), name
    if classes == 2:
        for name, expected in AVERAGED.items():
            assert find_metric(name, held)(block) == pytest.approx(
                [expected(held.truth, predicted, sample_weight=row) for row in rows]
            )
        assert (find_metric("auroc", held)(block) == find_metric("auroc of PNEUMONIA", held)(block)).all()
    else:
        for how in ("macro", "weighted"):
            mine = find_metric(f"auroc_{how}", held)(block)
            assert mine[0] == pytest.approx(sk.roc_auc_score(held.truth, probabilities, multi_class="ovr", average=how))
            drawn = [np.repeat(np.arange(80), row) for row in rows[1:].astype(int)]
            assert mine[1:] == pytest.approx(
                [
                    sk.roc_auc_score(held.truth[rows], probabilities[rows], multi_class="ovr", average=how)
                    for rows in drawn
                ]
            )
        assert (find_metric("auroc", held)(block) == find_metric("auroc_macro", held)(block)).all()
        assert find_metric("brier", held)(block)[0] == pytest.approx(
            ((probabilities - held.indicators) ** 2).sum(axis=1).mean()
        )


@pytest.mark.parametrize("digits", [None, 1], ids=["without ties", "with ties"])
def test_multilabel_averages_equal_scikit_learn(digits):
    held = made(90, 4, several=True, digits=digits, images_per_patient=2)
    rows = np.concatenate([np.ones((1, 90)), *bootstrap_weights(held.groups, 15, seed=2)])
    block, decisions = seen(held, rows), held.probabilities >= 0.5
    for how in ("macro", "weighted"):
        for name, expected in AVERAGED.items():
            assert find_metric(f"{name}_{how}", held)(block) == pytest.approx(
                [expected(held.truth, decisions, average=how, sample_weight=row) for row in rows]
            )
        for name, expected in {"auroc": sk.roc_auc_score, "auprc": sk.average_precision_score}.items():
            assert find_metric(f"{name}_{how}", held)(block) == pytest.approx(
                [expected(held.truth, held.probabilities, average=how, sample_weight=row) for row in rows]
            )
    assert find_metric("exact_match", held)(block) == pytest.approx(
        [sk.accuracy_score(held.truth, decisions, sample_weight=row) for row in rows]
    )
    assert find_metric("accuracy", held)(block)[0] == pytest.approx((held.truth == decisions).mean())
    assert find_metric("brier", held)(block)[0] == pytest.approx(((held.truth - held.probabilities) ** 2).mean())


def test_three_kinds_of_f1_differ():
    """Worked out by hand: TP 40, FN 10, FP 30, TN 20."""
    held = of_cells(40, 10, 30, 20)
    of_pneumonia, of_normal = 80 / 120, 40 / 80
    result = {
        score.metric: score.value
        for score in compute_scores(
            held,
            [
                "f1",
                "f1 of NORMAL",
                "f1_macro",
                "f1_weighted",
                "precision",
                "recall",
                "specificity",
                "balanced_accuracy",
                "mcc",
                "accuracy",
            ],
            resamples=2,
        )
    }
    assert result == pytest.approx(
        {
            "f1": of_pneumonia,
            "f1 of NORMAL": of_normal,
            "f1_macro": (of_pneumonia + of_normal) / 2,
            "f1_weighted": (of_pneumonia + of_normal) / 2,
            "precision": 4 / 7,
            "recall": 0.8,
            "specificity": 0.4,
            "balanced_accuracy": 0.6,
            "accuracy": 0.6,
            "mcc": (800 - 300) / np.sqrt(70 * 50 * 50 * 30),
        }
    )
    unequal = of_cells(60, 15, 15, 10)
    assert compute_score(unequal, "f1_weighted", resamples=2).value == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)


def test_calibration_error_equals_closed_form():
    """Ten images called 0.75 of which nine come true, ten called 0.25 of which one does: bins miss by .15 and .15."""
    held = binary([1] * 9 + [0] + [1] + [0] * 9, [0.75] * 10 + [0.25] * 10)
    assert compute_score(held, "calibration_error", resamples=10).value == pytest.approx(0.15)
    sure = binary([1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0])
    assert compute_score(sure, "calibration_error", resamples=10).value == 0
    # two at .95, both true; ten at .05, of which one is true
    lopsided = binary([1] * 3 + [0] * 9, [0.95] * 2 + [0.05] * 10)
    assert compute_score(lopsided, "calibration_error", resamples=10).value == pytest.approx(
        (2 * 0.05 + 10 * 0.05) / 12
    )


def test_calibration_error_of_three_classes_uses_the_top_class():
    probabilities = np.array([[0.62, 0.2, 0.18], [0.1, 0.68, 0.22], [0.3, 0.3, 0.4], [0.31, 0.31, 0.38]])
    held = Predictions(list("abcd"), [""] * 4, [0, 0, 2, 2], probabilities, ["x", "y", "z"])
    by_hand = (abs((0.62 - 1) + (0.68 - 0)) + abs(0.38 - 1) + abs(0.40 - 1)) / 4
    assert compute_score(held, "calibration_error", resamples=10).value == pytest.approx(by_hand)


def test_calibration_error_lies_in_its_interval():
    held = made(300, seed=3)
    score = compute_score(held, "calibration_error")
    assert 0 <= score.low < score.value < score.high < 0.3


# intervals


def test_bootstrap_resamples_whole_patients():
    held = made(31, images_per_patient=4)
    rows = np.concatenate(list(bootstrap_weights(held.groups, 500, seed=0)))
    first = np.unique(held.groups, return_index=True)[1]
    assert rows.shape == (500, 31) and (rows[:, first].sum(axis=1) == 8).all()
    assert (rows == rows[:, first][:, held.groups]).all()
    assert rows.mean() == pytest.approx(1, abs=0.05)
    again, other = (np.concatenate(list(bootstrap_weights(held.groups, 500, seed))) for seed in (0, 1))
    assert (rows == again).all() and not (rows == other).all()


def test_images_without_patient_are_resampled_singly():
    held = Predictions(["a", "b", "c", "d"], ["", "", "x", "x"], [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], BINARY)
    assert len(set(held.groups[:2])) == 2 and held.groups[2] == held.groups[3] and held.groups.max() == 2


def test_interval_has_nominal_coverage():
    """Normal scores a deviation apart: the true AUROC is known, and so is the accuracy of a cut half way."""
    truth = {"auroc": stats.norm.cdf(1 / np.sqrt(2)), "accuracy": stats.norm.cdf(0.5)}
    held = {name: 0 for name in truth}
    draw, runs = np.random.default_rng(0), 200
    for run in range(runs):
        true = np.repeat([0, 1], 60)
        drawn = binary(true, 1 / (1 + np.exp(-(draw.normal(size=120) + true - 0.5))))
        for score in compute_scores(drawn, list(truth), resamples=300, seed=run):
            held[score.metric] += score.low <= truth[score.metric] <= score.high
    assert all(0.90 * runs <= count <= 0.99 * runs for count in held.values()), held


def test_clustered_interval_has_nominal_coverage():
    draw, covered, runs = np.random.default_rng(0), {"patient": 0, "image": 0}, 150
    for run in range(runs):
        right = np.repeat(draw.random(40) < 0.7, 6)  # all six images of a patient right, or all wrong
        true = np.tile([0, 1], 120)
        probabilities = np.where(right == (true == 1), 0.9, 0.1)
        for kind, patients in {"patient": np.repeat(np.arange(40), 6).astype(str), "image": [""] * 240}.items():
            score = compute_score(
                Predictions(np.arange(240), patients, true, probabilities, BINARY), "accuracy", resamples=300, seed=run
            )
            covered[kind] += score.low <= 0.7 <= score.high
    assert covered["patient"] >= 0.88 * runs and covered["image"] <= 0.75 * runs, covered


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "auroc", "auprc", "mcc", "brier"])
def test_duplicated_images_narrow_only_the_unclustered_interval(name):
    once = made(100)
    many = once.where(np.repeat(np.arange(100), 5))
    forgotten = Predictions(np.arange(500), [""] * 500, many.truth, many.probabilities, BINARY)
    wide, same, narrow = (
        (score := compute_score(predictions, name)).high - score.low for predictions in (once, many, forgotten)
    )
    assert same == pytest.approx(wide) and narrow < 0.55 * wide


@pytest.mark.parametrize(
    "cells, name, count",
    [
        ((20, 0, 3, 17), "recall", 20),
        ((20, 0, 0, 17), "accuracy", 37),
        ((0, 9, 3, 17), "recall", 9),
        ((8, 2, 0, 30), "precision", 8),
        ((8, 2, 0, 30), "specificity", 30),
    ],
)
def test_proportion_of_0_or_1_gets_the_exact_binomial_interval(cells, name, count):
    score = compute_score(of_cells(*cells), name)
    exact = stats.binomtest(int(score.value) * count, count).proportion_ci(0.95, method="exact")
    assert (score.low, score.high) == pytest.approx((exact.low, exact.high))


def test_undefined_resamples_are_dropped():
    rare = binary([1, 1] + [0] * 28, [0.9, 0.4] + [0.5, 0.1] * 14)
    score = compute_score(rare, "auroc", resamples=500)
    assert 0 < score.low <= score.value <= score.high <= 1 and not score.why
    assert np.isnan(percentile_interval(np.array([np.nan] * 6 + [1.0] * 4))).all() and percentile_interval(
        np.array([1.0] * 6 + [np.nan] * 4)
    ) == (1, 1)


@pytest.mark.parametrize(
    "name", ["auroc", "auprc", "recall", "f1", "precision", "balanced_accuracy", "mcc", "f1_macro"]
)
def test_undefined_metric_reports_a_reason(name):
    score = compute_score(binary([0] * 10, np.linspace(0, 1, 10)), name, resamples=20)
    assert str(score) == "undefined" and np.isnan(score.value) and score.why == "undefined: no image is PNEUMONIA"
    assert str(compute_score(binary([1] * 10, np.linspace(0, 1, 10)), "specificity", resamples=20)) == "undefined"


def test_never_predicted_class_scores_zero_as_in_scikit_learn():
    held = of_cells(0, 10, 0, 30)
    assert [score.value for score in compute_scores(held, ["precision", "f1", "mcc", "recall"], resamples=5)] == [
        0,
        0,
        0,
        0,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        assert compute_score(held, "f1_macro", resamples=5).value == pytest.approx(
            sk.f1_score(held.truth, [0] * 40, average="macro")
        )


def test_selective_accuracy_keeps_the_most_confident_images():
    predictions = binary([1, 0, 1, 0], [0.9, 0.2, 0.4, 0.6])  # sure by .9, .8, .6 and .6; the last two wrong
    rows = selective_accuracy(predictions, (0.25, 0.5, 0.75, 1))
    assert rows["images"].tolist() == [1, 2, 3, 4] and rows["accuracy"].tolist() == pytest.approx([1, 1, 2 / 3, 0.5])
    low, high = stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert rows[["low", "high"]].iloc[-1].tolist() == pytest.approx([low, high])


def test_selective_accuracy_at_full_coverage_equals_accuracy():
    predictions = made(200, classes=3, digits=1)
    assert selective_accuracy(predictions)["accuracy"].iloc[-1] == pytest.approx(
        compute_score(predictions, "accuracy", resamples=2).value
    )
    shuffled = predictions.where(np.random.default_rng(1).permutation(200))
    assert selective_accuracy(predictions)["accuracy"].tolist() == pytest.approx(
        selective_accuracy(shuffled)["accuracy"].tolist()
    )
    constant = binary([1, 1, 1, 0], [0.7] * 4)
    assert selective_accuracy(constant)["accuracy"].unique().tolist() == pytest.approx([0.75])


@pytest.mark.parametrize(
    "predictions, shares, message",
    [(made(), (0, 0.5), "above 0"), (made(), (1.2,), "above 0"), (made(several=True), (0.5,), "one class")],
)
def test_invalid_coverage_is_refused(predictions, shares, message):
    with pytest.raises(StudyError, match=message):
        selective_accuracy(predictions, shares)


def test_metric_values_of_several_predictions():
    predictions = [made(seed=seed) for seed in range(3)]
    assert metric_values(predictions, "balanced_accuracy").tolist() == [
        sk.balanced_accuracy_score(run.truth, run.probabilities[:, 1] > 0.5) for run in predictions
    ]


def test_format_ci_rounds_for_display():
    assert str(Score("accuracy", 0.8123, 0.789, 0.834)) == "0.812 (0.79 to 0.83)"
    assert str(Score("brier", 0.0312, 0.0271, 0.0349)) == "0.031 (0.027 to 0.035)"
    assert (
        str(Score("auroc", np.nan, np.nan, np.nan)) == "undefined"
        and str(Score("auroc", 0.5, np.nan, np.nan)) == "0.500 (undefined)"
    )
    assert [
        metric_label(name)
        for name in ("f1_macro", "auroc", "recall of virus", "balanced_accuracy", "mcc", "exact_match")
    ] == ["F1 (macro)", "AUROC", "Recall of virus", "Balanced accuracy", "MCC", "Exact match"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("acuracy", "did you mean 'accuracy'"),
        ("f1_makro", "did you mean 'f1_macro'"),
        ("f1_macro of NORMAL", "No metric"),
        ("recall of virus", "no class 'virus'"),
        ("exact_match", "No metric"),
        ("", "No metric"),
    ],
)
def test_unknown_metric_suggests_the_nearest_name(name, message):
    with pytest.raises(StudyError, match=message):
        compute_score(made(), name)


@pytest.mark.parametrize("several", [False, True])
def test_f1_of_many_classes_without_average_is_refused(several):
    with pytest.raises(StudyError, match='f1_macro, f1_weighted, or "f1 of class 2"'):
        compute_score(made(classes=3, several=several), "f1")


# predictions


@pytest.mark.parametrize("suffix", ["csv", "npz"])
@pytest.mark.parametrize("several", [False, True])
def test_saved_predictions_are_bitwise_equal(tmp_path, suffix, several):
    held = made(40, 3, several=several, images_per_patient=2)
    held.save(tmp_path / f"p.{suffix}")
    again = Predictions.load(tmp_path / f"p.{suffix}")
    assert (
        again.digest == held.digest
        and (again.probabilities == held.probabilities).all()
        and (again.truth == held.truth).all()
    )
    assert [path.name for path in tmp_path.iterdir()] == [f"p.{suffix}"]


def test_saved_text_columns_stay_text(tmp_path):
    held = Predictions(
        ["NA", "1.0", "nan", 'é,"x"'], ["", "007", "None", "1e3"], [0, 1, 1, 0], [0.1, 0.2, 1.0, 1 / 3], ["NA", "1"]
    )
    for name in ("p.csv", "p.npz"):
        held.save(tmp_path / name)
        assert Predictions.load(tmp_path / name).digest == held.digest


def test_predictions_can_be_cached_and_digested(tmp_path):
    held = made(20, 3)
    store_result(tmp_path / "piece", held.arrays())
    assert Predictions(**load_result(tmp_path / "piece")[0]).digest == held.digest
    assert canonical_form(held, set()) == held.digest != made(20, 3, seed=1).digest


def test_question_does_not_depend_on_probabilities():
    held = made(20)
    other = Predictions(held.images, held.patients, held.truth, held.probabilities[:, ::-1], BINARY)
    assert other.digest != held.digest and other.question == held.question
    assert Predictions(held.images, [""] * 20, held.truth, held.probabilities, BINARY).question != held.question


def test_one_probability_column_is_the_positive_class():
    for probabilities in ([0.2, 0.9], [[0.2], [0.9]]):
        assert binary([0, 1], probabilities).probabilities == pytest.approx(np.array([[0.8, 0.2], [0.1, 0.9]]))


def test_concat_joins_folds():
    whole = made(30)
    assert concat_predictions([whole.where(np.arange(30) < 12), whole.where(np.arange(12, 30))]).digest == whole.digest
    with pytest.raises(StudyError, match="same classes"):
        concat_predictions([whole, made(5, 3)])


def test_absent_labels_can_be_dropped():
    held = made(30, 4, several=True)
    bare = Predictions(
        held.images, held.patients, held.truth * [1, 1, 0, 1], held.probabilities, held.classes, multilabel=True
    )
    assert compute_score(bare, "auroc", resamples=5).why == "undefined: no image is class 2"
    there = bare.select_labels(["class 0", "class 1", "class 3"])
    assert compute_score(there, "auroc", resamples=5).value == pytest.approx(
        sk.roc_auc_score(there.truth, there.probabilities, average="macro")
    )
    with pytest.raises(StudyError, match="no class 'class 9'"):
        bare.select_labels(["class 9"])
    with pytest.raises(StudyError, match="sum to one"):
        made(5, 3).select_labels(["class 1"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"probabilities": [[0.5, 0.5], [np.nan, np.nan]]}, "1 of 2 images.*first is b: nan, nan.*training diverged"),
        ({"probabilities": [[2.0, -1.0], [0.5, 0.5]]}, "first is a: 2, -1. Logits need a softmax"),
        ({"probabilities": [[0.5, 0.6], [0.5, 0.5]]}, "no probabilities"),
        ({"probabilities": [[0.5, 0.5]]}, r"probabilities of shape \(2, 2\), not \(1, 2\)"),
        ({"truth": [0, 2]}, "class numbers from 0 to 1"),
        ({"truth": [0, 0.5]}, "class numbers from 0 to 1"),
        ({"truth": [0]}, r"truth of shape \(2,\)"),
        ({"patients": ["x"]}, "patients of shape"),
        ({"images": [], "patients": [], "truth": [], "probabilities": np.zeros((0, 2))}, "no images"),
        ({"classes": ["x", "x"]}, "different names"),
        ({"classes": ["x"], "probabilities": [[1.0], [1.0]], "truth": [0, 0]}, "two or more"),
        ({"multilabel": True, "truth": [[0, 1], [2, 0]]}, "0 or 1 for every label"),
    ],
)
def test_invalid_predictions_are_refused(change, message):
    good = {
        "images": ["a", "b"],
        "patients": ["", ""],
        "truth": [0, 1],
        "probabilities": [[0.5, 0.5], [0.2, 0.8]],
        "classes": BINARY,
    }
    Predictions(**good)
    with pytest.raises(StudyError, match=message):
        Predictions(**(good | change))


@pytest.mark.parametrize(
    "name, content",
    [
        ("p.npz", b"PK\x03\x04 cut off"),
        ("p.npz", b""),
        ("p.csv", b"image,patient\na,b\n"),
        ("p.csv", b""),
        ("p.csv", b"image,patient,truth,p(x),p(y)\na,,z,0.5,0.5\n"),
        ("p.csv", b"\xff\xfe\x00"),
    ],
)
def test_damaged_prediction_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=f"{name} cannot be read as predictions"):
        Predictions.load(tmp_path / name)


def test_pickled_predictions_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", **(made(1).arrays() | {"images": np.array([{}], dtype=object)}))
    with pytest.raises(StudyError, match="cannot be read"):
        Predictions.load(tmp_path / "p.npz")
    with pytest.raises(StudyError, match="absent.npz cannot be read"):
        Predictions.load(tmp_path / "absent.npz")
    with pytest.raises(StudyError, match=".csv or .npz"):
        made(5).save(tmp_path / "p.pkl")


# thresholds


@pytest.mark.parametrize("by", ["youden", "f1", ("recall", 0.9), ("specificity", 0.8)])
@pytest.mark.parametrize("digits", [None, 1])
def test_chosen_threshold_maximises_the_metric(by, digits):
    valid = made(60, seed=4, digits=digits)
    probabilities, true = valid.probabilities[:, 1], valid.truth

    def worth(cut):
        decisions = probabilities >= cut
        recall, specificity = decisions[true == 1].mean(), 1 - decisions[true == 0].mean()
        if by == "youden":
            return recall + specificity
        if by == "f1":
            return sk.f1_score(true, decisions)
        kept, other = (recall, specificity) if by[0] == "recall" else (specificity, recall)
        return other if kept >= by[1] else -1

    chosen = choose_threshold(valid, by)
    assert worth(chosen.values[0]) == pytest.approx(max(worth(cut) for cut in np.unique(probabilities)))
    assert not np.isin(chosen.values[0], probabilities), (
        "half way between two probabilities, so that rounding decides nothing"
    )


def test_threshold_is_refused_on_images_it_was_chosen_on():
    valid, test = made(50, seed=1, name="valid "), made(80, seed=2)
    chosen = choose_threshold(valid, ("recall", 0.95))
    recall = compute_score(test, "recall", chosen, resamples=10).value
    assert recall == pytest.approx((test.probabilities[test.truth == 1, 1] >= chosen.values[0]).mean())
    assert recall > compute_score(test, "recall", resamples=10).value
    with pytest.raises(StudyError, match="chosen on 50 of the 50 images"):
        compute_score(valid, "recall", chosen)
    with pytest.raises(StudyError, match="chosen on 1 of the 80 images"):
        choose_threshold(concat_predictions([valid, test.where([3])])).decide(test)
    with pytest.raises(StudyError, match="cannot decide on"):
        chosen.decide(made(20, 3))
    assert choose_threshold(valid).digest != choose_threshold(valid, "f1").digest


def test_thresholds_are_chosen_per_label():
    valid, test = made(200, 3, several=True, name="v"), made(200, 3, several=True, seed=9)
    chosen = choose_threshold(valid, "f1")
    assert len(set(chosen.values)) == 3
    assert (chosen.decide(test) == (test.probabilities >= np.array(chosen.values))).all()
    assert (
        compute_score(test, "f1_macro", chosen, resamples=5).value != compute_score(test, "f1_macro", resamples=5).value
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: choose_threshold(made(), "best"), 'chosen by "youden"'),
        (lambda: choose_threshold(made(), ("recall", 1.5)), "not by"),
        (lambda: choose_threshold(made(classes=3)), "the most probable is taken"),
        (lambda: choose_threshold(binary([0, 0], [0.1, 0.2])), "none of the 2 validation images"),
        (lambda: choose_threshold(binary([1, 1], [0.1, 0.2])), "all of the 2 validation images"),
    ],
)
def test_invalid_threshold_requests_are_refused(make, message):
    with pytest.raises(StudyError, match=message):
        make()


# comparing


def test_mcnemar_by_hand():
    """Eight images right only in the first and two only in the second: twice the chance of two or fewer heads in
    ten.
    """
    true = [1] * 30
    first = binary(true + [0], [0.9] * 28 + [0.1] * 2 + [0.1])
    second = binary(true + [0], [0.9] * 20 + [0.1] * 8 + [0.9] * 2 + [0.1])
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second) == (8, 2) and result.p == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert (
        result.says.startswith("8 images are right only in the first and 2 only in the second")
        and "p = 0.109" in result.says
    )
    assert mcnemar(first, first).p == 1


def test_comparison_says_better_only_when_the_interval_excludes_zero():
    good, twin = made(400, skill=2.0), made(400, skill=2.0)
    poor = Predictions(good.images, good.patients, good.truth, made(400, skill=0.5).probabilities, BINARY)
    comparison = compare_models(good, poor, "auroc")
    assert (
        comparison.better
        and comparison.says.startswith(f"better by {comparison.value:.3f} (")
        and comparison.claim == (comparison.value, comparison.low, comparison.high)
    )
    areas = [sk.roc_auc_score(predictions.truth, predictions.probabilities[:, 1]) for predictions in (good, poor)]
    assert comparison.value == pytest.approx(areas[0] - areas[1])
    back = compare_models(poor, good, "auroc")
    assert back.worse and not back.better and back.says == comparison.says.replace("better", "worse")
    same = compare_models(good, twin, "auroc")
    assert same.claim == (0, 0, 0) and same.says == "not clearly different (+0.000, from +0.000 to +0.000)"
    assert format_ci(-0.0001, -0.0002, 0.0001) == "0.000 (0.000 to 0.000)"  # no zero has a sign
    less = compare_models(good, poor, "brier")
    assert less.better and less.value == pytest.approx(
        compute_score(poor, "brier", resamples=2).value - compute_score(good, "brier", resamples=2).value
    )


def test_paired_comparison_is_sharper_than_overlapping_intervals():
    """Both models stumble over the same hard images, so that their difference is surer than either score."""
    base = made(500, skill=1.5, seed=5)
    probabilities = base.probabilities.copy()
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != base.truth)[:12]
    probabilities[wrong] = probabilities[wrong][:, ::-1]
    helped = Predictions(base.images, base.patients, base.truth, probabilities, BINARY)
    first, second = compute_score(helped, "accuracy"), compute_score(base, "accuracy")
    assert first.low < second.high and compare_models(helped, base, "accuracy").better


def test_paired_bootstrap_has_the_theoretical_spread():
    base = made(600, skill=1.0, seed=1)
    other = Predictions(base.images, base.patients, base.truth, made(600, skill=1.6, seed=1).probabilities, BINARY)
    right = [predictions.probabilities.argmax(axis=1) == predictions.truth for predictions in (other, base)]
    error = np.std(right[0].astype(int) - right[1].astype(int)) / np.sqrt(600)
    comparison = compare_models(other, base, "accuracy")
    assert (comparison.high - comparison.low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_comparison_over_runs_uses_student_and_wilcoxon():
    first, second = [0.80, 0.84, 0.79, 0.86, 0.83], [0.78, 0.80, 0.80, 0.81, 0.80]
    comparison = compare_models(first, second, "auroc")
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (comparison.low, comparison.high) == pytest.approx(
        (expected.low, expected.high)
    ) and comparison.p == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert compare_models(first, second, "brier").value == pytest.approx(-comparison.value)
    assert comparison.interval_basis == "5 draws"


def test_overlapping_folds_use_nadeau_and_bengio():
    first, second = [0.80, 0.84, 0.79, 0.86, 0.83], [0.78, 0.80, 0.80, 0.81, 0.80]
    gains = np.subtract(first, second)
    reach = stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * gains.var(ddof=1))
    comparison = compare_models(first, second, "auroc", overlap=1 / 4)
    assert (comparison.low, comparison.high) == pytest.approx(
        (gains.mean() - reach, gains.mean() + reach)
    ) and comparison.interval_basis == "5 folds"
    assert (
        compare_models(first, second, "auroc").high - compare_models(first, second, "auroc").low
        < comparison.high - comparison.low
    )


def test_seeds_are_compared_in_pairs():
    pairs = [(made(80, skill=2.0, seed=seed), made(80, skill=0.5, seed=seed)) for seed in range(4)]
    pairs = [
        (good, Predictions(good.images, good.patients, good.truth, poor.probabilities, BINARY)) for good, poor in pairs
    ]
    comparison = compare_models(*zip(*pairs), "auroc")
    areas = [
        [sk.roc_auc_score(predictions.truth, predictions.probabilities[:, 1]) for predictions in pair] for pair in pairs
    ]
    assert comparison.value == pytest.approx(-np.diff(areas).mean()) and comparison.better
    level = compare_models([0.5, 0.6], [0.5, 0.6], "auroc")
    assert level.p == 1 and not level.better and not level.worse


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda p: p.where(np.arange(60) < 50), "50 images are in both, 10 only in the first, 0 only in the second"),
        (lambda p: p.where(np.arange(60)[::-1]), "in another order"),
        (
            lambda p: Predictions(p.images, p.patients, 1 - p.truth, p.probabilities, BINARY),
            "different labels.*first i0",
        ),
        (lambda p: Predictions(p.images, p.patients, p.truth, p.probabilities, ["a", "b"]), "different classes"),
        (lambda p: made(classes=3), "different classes"),
    ],
)
def test_comparison_of_different_images_is_refused(other, message):
    base = made()
    second = other(base)
    for compare in (
        lambda: compare_models(base, second, "accuracy"),
        lambda: mcnemar(base, second),
        lambda: compare_models([base] * 2, [second] * 2, "accuracy"),
    ):
        with pytest.raises(StudyError, match=message):
            compare()


@pytest.mark.parametrize("first, second", [([0.5], [0.4]), ([0.5, 0.6], [0.4]), (0.5, 0.4), ([0.5, 0.6], made())])
def test_unpaired_predictions_are_refused(first, second):
    with pytest.raises(StudyError, match="pair|compared"):
        compare_models(first, second, "auroc")


def test_undefined_metric_is_not_better():
    alone = binary([0] * 10, np.linspace(0, 1, 10))
    comparison = compare_models(alone, alone, "auroc", resamples=20)
    assert comparison.says == "not to be compared: undefined" and not comparison.better and not comparison.worse


# tables, matrices and reliability


def test_score_table_has_rows_for_baselines():
    model, trivial = (
        made(80, skill=2),
        Predictions(made(80).images, made(80).patients, made(80, skill=2).truth, np.tile([0.6, 0.4], (80, 1)), BINARY),
    )
    tidy = score_table({"ResNet": model}, {"majority": trivial}, ["accuracy", "auroc", "f1_macro"], resamples=200)
    assert tidy.columns.tolist() == ["model", "baseline", "metric", "value", "low", "high", "why"] and len(tidy) == 6
    assert tidy.set_index(["model", "metric"])["value"]["majority", "auroc"] == 0.5 and tidy.groupby("model")[
        "baseline"
    ].first().to_dict() == {"ResNet": False, "majority": True}
    wide = format_score_table(tidy)
    assert wide.columns.tolist() == ["model", "Accuracy", "AUROC", "F1 (macro)"] and wide["model"].tolist() == [
        "ResNet",
        "majority",
    ]
    assert (
        wide.loc[0, "AUROC"] == str(compute_score(model, "auroc", resamples=200))
        and wide.loc[1, "AUROC"] == "0.500 (0.500 to 0.500)"
    )
    with pytest.raises(StudyError, match="both called 'x'"):
        score_table({"x": model}, {"x": trivial}, ["accuracy"])
    with pytest.raises(StudyError, match="threshold for 'y'"):
        score_table({"x": model}, {}, ["accuracy"], {"y": choose_threshold(made(name="v"))})


def test_score_table_by_class_names_undefined_scores():
    held = made(40, 3)
    held = Predictions(held.images, held.patients, held.truth % 2, held.probabilities, held.classes)
    tidy = class_score_table(held, ("recall", "auroc"), resamples=50)
    assert tidy["images"].tolist() == np.repeat(held.indicators.sum(axis=0), 2).tolist()
    assert tidy["value"][0] == pytest.approx(
        sk.recall_score(held.truth, held.probabilities.argmax(axis=1), labels=[0], average=None)[0]
    )
    wide = format_score_table(tidy)
    assert wide.columns.tolist() == ["class", "images", "Recall", "AUROC"] and wide["class"].tolist() == held.classes
    assert wide.loc[2, "AUROC"] == "undefined" and tidy["why"].iloc[-1] == "undefined: no image is class 2"


def test_confusion_matrices_equal_scikit_learn():
    held = made(70, 3)
    assert (
        confusion_matrix(held).to_numpy() == sk.confusion_matrix(held.truth, held.probabilities.argmax(axis=1))
    ).all()
    matrix = confusion_matrix(held, class_name="class 1")
    assert matrix.columns.tolist() == ["not class 1", "class 1"]
    assert (matrix.to_numpy() == sk.confusion_matrix(held.truth == 1, held.probabilities.argmax(axis=1) == 1)).all()
    labels = made(70, 3, several=True)
    assert (
        confusion_matrix(labels, class_name="class 2").to_numpy()
        == sk.multilabel_confusion_matrix(labels.truth, labels.probabilities >= 0.5)[2]
    ).all()
    with pytest.raises(StudyError, match="confusion matrix of its own"):
        confusion_matrix(labels)
    with pytest.raises(StudyError, match="no class 'class 7'"):
        confusion_matrix(held, class_name="class 7")


def test_reliability_table_agrees_with_calibration_error():
    held = made(200)
    bins = reliability_table(held)
    assert bins["images"].sum() == 200 and len(bins) == 10
    full = bins.dropna()
    error = (full["images"] * (full["predicted"] - full["observed"]).abs()).sum() / 200
    assert error == pytest.approx(compute_score(held, "calibration_error", resamples=5).value)
    row = full.iloc[0]
    wilson = stats.binomtest(round(row["observed"] * row["images"]), int(row["images"])).proportion_ci(method="wilson")
    assert (row["low"], row["high"]) == pytest.approx((wilson.low, wilson.high))
    assert reliability_table(made(50, 3))["images"][:3].sum() == 0, (
        "the likeliest of three classes has a third at least"
    )
    assert reliability_table(made(50, 3), class_name="class 1")["images"].sum() == 50
    with pytest.raises(StudyError):
        reliability_table(made(50, 3, several=True), class_name="class 9")


# baselines


class Drawn:
    """As much of a cohort as a baseline asks for: grey pictures whose brightness, or whose frame, tells the class."""

    def __init__(self, truth, frame=0.0, inside=0.0, seed=0, classes=tuple(BINARY), several=False):
        self.truth, self.classes, self.multilabel = np.asarray(truth), list(classes), several
        ill = (self.truth.any(axis=1) if several else self.truth > 0).astype(float)[:, None, None]
        border = np.ones((32, 32))
        border[3:-3, 3:-3] = 0
        grey = (
            120
            + 20 * np.random.default_rng(seed).normal(size=(len(ill), 32, 32))
            + ill * (frame * border + inside * (1 - border))
        )
        self.grey = grey.clip(0, 255).astype(np.uint8)
        self.table = pd.DataFrame({"image": [f"{seed}-{index}" for index in range(len(ill))], "patient": ""})

    def __len__(self):
        return len(self.truth)

    def pixels(self, size):
        assert size == 32
        return self.grey

    def targets(self):
        return self.truth

    def indicators(self):
        return self.truth if self.multilabel else np.eye(len(self.classes), dtype=np.uint8)[self.truth]


def test_majority_baseline_predicts_training_shares():
    predictions = majority(Drawn([0] * 3 + [1] * 7), Drawn([0, 1, 0, 1], seed=1))
    assert (
        (predictions.probabilities == [0.3, 0.7]).all()
        and predictions.truth.tolist() == [0, 1, 0, 1]
        and predictions.images[0] == "1-0"
    )
    assert (
        compute_score(predictions, "accuracy", resamples=5).value == 0.5
        and compute_score(predictions, "auroc", resamples=5).value == 0.5
    )


def test_grey_pixel_baseline_is_a_logistic_regression():
    train, test = Drawn([0, 1] * 40, inside=3.0), Drawn([0, 1] * 30, inside=3.0, seed=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    expected = model.fit(train.grey.reshape(80, -1).astype(np.float32), train.truth).predict_proba(
        test.grey.reshape(60, -1).astype(np.float32)
    )
    predictions = grey_pixels(train, test)
    assert (
        predictions.probabilities == pytest.approx(expected)
        and compute_score(predictions, "auroc", resamples=5).value > 0.9
    )


def test_frame_baseline_uses_border_pixels_only():
    tells, silent = (
        frame_only(Drawn([0, 1] * 40, **where), Drawn([0, 1] * 60, seed=1, **where))
        for where in ({"frame": 8.0}, {"inside": 8.0})
    )
    assert (
        compute_score(tells, "auroc", resamples=5).value > 0.95
        and abs(compute_score(silent, "auroc", resamples=5).value - 0.5) < 0.15
    )


def test_multilabel_baselines_are_one_vs_rest():
    draw = np.random.default_rng(0)
    truth = (draw.random((60, 3)) < [0.3, 0.5, 0.0]).astype(np.uint8)
    held = fit_baselines(
        Drawn(truth, inside=9.0, classes="abc", several=True),
        Drawn(truth, inside=9.0, seed=1, classes="abc", several=True),
    )
    assert list(held) == ["majority", "32 x 32 pixels", "frame only"]
    assert held["majority"].probabilities == pytest.approx(np.tile(truth.mean(axis=0), (60, 1)))
    assert (held["32 x 32 pixels"].probabilities[:, 2] == 0).all(), (
        "a label that nobody had in training is never expected"
    )
    assert compute_score(held["32 x 32 pixels"], "auroc of a", resamples=5).value > 0.6


def test_baselines_never_predict_absent_classes():
    three = ["a", "b", "c"]
    predictions = grey_pixels(
        Drawn([0, 1] * 20, inside=5, classes=three), Drawn([0, 1, 2] * 10, inside=5, seed=1, classes=three)
    )
    assert (predictions.probabilities[:, 2] == 0).all() and predictions.probabilities[:, :2].sum(
        axis=1
    ) == pytest.approx(1)
    alone = grey_pixels(Drawn([1] * 5), Drawn([0, 1], seed=1))
    assert (alone.probabilities == [0, 1]).all()


def test_baselines_refuse_mismatched_cohorts():
    with pytest.raises(StudyError, match="cannot be tested on"):
        majority(Drawn([0, 1]), Drawn([0, 1], classes=["a", "b"]))
    with pytest.raises(StudyError, match="there are 2 and 0"):
        grey_pixels(Drawn([0, 1]), Drawn(np.zeros(0, int)))


def test_columns_of_the_table_are_a_baseline():
    """Here the view decides on the class, and the age, of which some is unknown, says nothing."""
    train, test = Drawn([0, 1] * 40), Drawn([0, 1] * 30, seed=1)
    for each in (train, test):
        view = np.where(np.asarray(each.truth) == 1, "AP", "PA")
        age = np.where(np.arange(len(each.truth)) % 7 == 0, np.nan, np.arange(len(each.truth)) // 2 % 5)
        each.table = each.table.assign(view=view, age=age)
    assert compute_score(table_columns(train, test, ["view"]), "auroc", resamples=5).value == 1.0
    assert compute_score(table_columns(train, test, ["age"]), "auroc", resamples=5).value == pytest.approx(0.5, abs=0.1)
