"""The audit's arithmetic, compared with values by hand, scikit-learn, brute force and simulation."""

import gzip
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from notebooks import audit_figures as pictures
from notebooks import audit_tables
from pneumo_utils.claims import confusion_solver, public_counts, recompute
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.common.files import read_yaml
from pneumo_utils.detection.boxes import cell_coverage, corners_from_table, count_boxes_without_cell
from pneumo_utils.detection.grid_f1 import soft_f1
from pneumo_utils.detection.prior_baselines import (
    cross_validate_grids,
    prior_grid,
    score_grid_baselines,
    score_large_box_baseline,
)
from pneumo_utils.plots.tables import format_claim, html_table

# ---------------------------------------------------------------- feasible


def labels_of(tp, fn, fp, tn):
    return np.repeat([1, 1, 0, 0], [tp, fn, fp, tn]), np.repeat([1, 0, 1, 0], [tp, fn, fp, tn])


SCIKIT = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "mcc": sk.matthews_corrcoef,
    "specificity": lambda t, p: sk.recall_score(t, p, pos_label=0, zero_division=0),
    **{
        f"{name}{suffix}": (lambda t, p, score=score, how=how: score(t, p, zero_division=0, **how))
        for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score))
        for suffix, how in (
            ("", {}),
            ("_negative", {"pos_label": 0}),
            ("_macro", {"average": "macro"}),
            ("_weighted", {"average": "weighted"}),
        )
    },
}


@pytest.mark.parametrize("matrix", [(7, 2, 3, 5), (9, 0, 8, 0), (0, 9, 0, 8), (4, 5, 0, 8)])
@pytest.mark.parametrize("name", SCIKIT)
def test_metrics_equal_scikit_learn(name, matrix):
    assert confusion_solver.confusion_metric(name, *matrix) == pytest.approx(SCIKIT[name](*labels_of(*matrix)))


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="no metric is called 'auroc'"):
        confusion_solver.confusion_metric("auroc", 1, 1, 1, 1)


@pytest.mark.parametrize(
    "printed, low, high",
    [
        ("0.784", 0.7835, 0.7845),
        ("43.3%", 0.4325, 0.4335),
        ("1.00", 0.995, 1.005),
        (".2256", 0.22555, 0.22565),
        ("0%", -0.005, 0.005),
    ],
)
def test_rounded_number_has_half_a_unit_of_tolerance(printed, low, high):
    assert confusion_solver.rounding_interval(printed) == pytest.approx((low, high))


def test_truncated_number_has_one_unit_of_tolerance():
    low, high = confusion_solver.rounding_interval("0.842", truncated=True)
    assert low == 0.842 and 0.8429 < high < 0.843


def test_feasible_matrices_equal_brute_force():
    printed = {"accuracy": "0.69", "precision": "0.71", "f1": "0.72"}
    expected = []
    for tp, fp in product(range(24), range(20)):
        truth, predicted = labels_of(tp, 23 - tp, fp, 19 - fp)
        right = [abs(SCIKIT[name](truth, predicted) - float(text)) <= 0.005 for name, text in printed.items()]
        if all(right):
            expected.append((tp, 23 - tp, fp, 19 - fp))
    matrices = confusion_solver.feasible_matrices(23, 19, printed)
    assert expected and [tuple(row) for row in matrices.to_numpy()] == expected


def test_feasible_matrices_include_the_true_matrix():
    truth, predicted = labels_of(1977, 153, 449, 345)
    printed = {name: f"{SCIKIT[name](truth, predicted):.4f}" for name in ("accuracy", "precision", "recall", "f1")}
    matrices = confusion_solver.feasible_matrices(2130, 794, printed)
    assert (1977, 153, 449, 345) in [tuple(row) for row in matrices.to_numpy()]


def test_two_printed_forms_of_one_metric_must_both_hold():
    assert set(confusion_solver.feasible_matrices(100, 10, {"recall": "0.5"})["TP"]) == set(range(45, 56))
    assert set(confusion_solver.feasible_matrices(100, 10, {"recall": ["0.5", "50.0%"]})["TP"]) == {50}
    assert confusion_solver.feasible_matrices(100, 10, {"recall": ["0.5", "60.0%"]}).empty


PAPER_2 = {
    "VGG16, 1": (".71", ".62", ".84", ".60"),
    "VGG16, 2": (".82", ".76", ".87", ".78"),
    "ResNet, 1": (".73", ".64", ".84", ".64"),
    "ResNet, 2": (".74", ".66", ".82", ".66"),
    "DenseNet, 1": (".73", ".64", ".84", ".62"),
    "DenseNet, 2": (".75", ".67", ".84", ".67"),
}


@pytest.mark.parametrize("column", PAPER_2)
def test_paper_2_fits_only_as_macro_averages_with_precision_and_recall_swapped(column):
    table = confusion_solver.count_by_interpretation(
        390, 234, dict(zip(("accuracy", "precision", "recall", "f1"), PAPER_2[column]))
    )
    fits = table[table["matrices"] > 0]
    assert (fits["precision, recall and F1"] == "macro average").all() and (
        fits["precision and recall"] == "swapped"
    ).all()
    assert "rounded" in set(fits["digits"])


def test_paper_1_block_2_cannot_be_rounded_but_can_be_cut():
    both = {"accuracy": ".784", "precision": ".828", "recall": [".889", "88.9%"], "f1": ".857", "specificity": "50.5%"}
    assert confusion_solver.feasible_matrices(2130, 794, both).empty
    assert confusion_solver.feasible_matrices(2130, 794, both, truncated=True).to_numpy().tolist() == [
        [1894, 236, 393, 401]
    ]
    assert 1 < confusion_solver.nearest_matrix(2130, 794, both)["misses by"] < 2


@pytest.mark.parametrize("name", ["accuracy", "recall", "specificity", "precision", "f1", "balanced_accuracy", "mcc"])
def test_standard_errors_equal_simulation(name):
    matrix = np.array([1977, 153, 449, 345])
    drawn = np.random.default_rng(0).multinomial(matrix.sum(), matrix / matrix.sum(), size=20000)
    assert confusion_solver.metric_standard_error(name, matrix) == pytest.approx(
        confusion_solver.confusion_metric(name, *drawn.T).std(), rel=0.03
    )


def test_standard_error_of_accuracy_is_binomial():
    right, total = 1977 + 345, 2924
    assert confusion_solver.metric_standard_error("accuracy", (1977, 153, 449, 345)) == pytest.approx(
        np.sqrt(right / total * (1 - right / total) / total), rel=1e-6
    )


def test_implied_metrics_bracket_the_middle_matrix():
    table = confusion_solver.implied_metrics(
        {
            "one": confusion_solver.feasible_matrices(30, 20, {"accuracy": "0.8"}),
            "none": confusion_solver.feasible_matrices(30, 20, {"accuracy": "0.811"}),
        }
    )
    assert (
        set(table["column"]) == {"one"}
        and (table["low"] <= table["value"]).all()
        and (table["value"] <= table["high"]).all()
    )


# ---------------------------------------------------------------- batches


def keras_by_hand(truth, predicted, size):
    """Batch by batch, in plain Python."""
    recalls = []
    for start in range(0, len(truth) - size + 1, size):
        t, p = truth[start : start + size], predicted[start : start + size]
        hits = sum(a == b == 1 for a, b in zip(t, p))
        recalls.append(hits / sum(t) if sum(t) else 0)
    return sum(recalls) / len(recalls)


def test_batch_average_equals_a_loop():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 2, 101), rng.integers(0, 2, 101)
    assert recompute.batch_average(truth, predicted, 8)["recall"] == pytest.approx(
        keras_by_hand(truth.tolist(), predicted.tolist(), 8)
    )


def test_paper_3_prints_what_a_perfect_predictor_averages_over_batches():
    table = recompute.perfect_predictor_recall(recompute.labels_in_class_order(16537, 4758))
    printed = table.groupby("part")["batch average"].apply(lambda values: {f"{value:.4f}" for value in values})
    assert printed["train"] == {"0.2237"} and printed["validation"] == {"0.2256"}
    assert (table["on the whole"] == 1).all()


def test_one_matrix_cannot_have_paper_3s_accuracy_and_precision():
    assert confusion_solver.feasible_matrices(
        952, 3307, {"accuracy": ".9995", "precision": ".2256", "recall": ".2256"}
    ).empty


# ---------------------------------------------------------------- counting


def test_mobilenet_in_keras_layers():
    model = recompute.build_published_network("MobileNetV2", 3)
    layers = recompute.mobilenet_layers(model)
    assert len(layers) == 154  # as the TensorFlow tutorial prints that the paper follows
    assert len({layer.name for layer in layers}) == 154
    assert layers[-14].name == "block_15_project"
    by_hand = (
        (960 * 160 + 2 * 160)
        + (160 * 960 + 2 * 960)
        + (9 * 960 + 2 * 960)
        + (960 * 320 + 2 * 320)
        + (320 * 1280 + 2 * 1280)
        + (1280 * 3 + 3)
    )
    assert recompute.unfrozen_parameters(model, 14)["trainable"] == by_hand == 1_043_843
    assert (
        recompute.unfrozen_parameters(model, 14)["total"]
        == recompute.count_parameters(model)["keras_total"]
        == 2_261_827
    )


@pytest.mark.parametrize(
    "name, keras",
    [("VGG16", 138_357_544), ("DenseNet201", 20_242_984), ("MobileNetV2", 3_538_984), ("Xception", 22_910_480)],
)
def test_parameter_counts_equal_keras_applications(name, keras):
    assert recompute.count_parameters(recompute.build_published_network(name, 1000))["keras_total"] == keras


@pytest.mark.parametrize(
    "name, torch_parameters", [("ResNet18", 11_689_512), ("ResNet50", 25_557_032), ("ResNet50V2", 25_549_352)]
)
def test_parameter_counts_equal_torchvision(name, torch_parameters):
    assert (
        recompute.count_parameters(recompute.build_published_network(name, 1000))["torch_parameters"]
        == torch_parameters
    )


def test_region_filters_of_yolov2():
    assert recompute.region_filters(80) == 425 and recompute.region_filters(8) == 65


# ---------------------------------------------------------------- public tables

ENTRIES = [
    ("1_000.png", "No Finding", 1, "058Y", "PA"),
    ("1_001.png", "Mass|Nodule", 1, "058Y", "AP"),
    ("2_000.png", "Mass", 2, "012Y", "PA"),
    ("3_000.png", "No Finding", 3, "011M", "PA"),
]
BOX_ROWS = [
    ("1_001.png", "Nodule", 0, 0, 30, 30),
    ("1_001.png", "Mass", 64, 64, 128, 64),
    ("2_000.png", "Infiltrate", 0, 0, 1024, 1024),
]


@pytest.fixture(params=["new", "old"])
def tables(request, tmp_path):
    """Made-up tables in both of the published layouts."""
    old = request.param == "old"
    tail = "," if old else ""
    head = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View "
        "Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    rows = [
        f"{image},{labels},0,{patient},{age if old else int(age[:-1]) * (age[-1] == 'Y')},F,{view},2000,2500,0.1,0.1{tail}"  # noqa: E501
        for image, labels, patient, age, view in ENTRIES
    ]
    text = "\n".join([head + tail, *rows]) + "\n"
    boxes = (
        "\n".join(
            ["Image Index,Finding Label,Bbox [x,y,w,h],,,", *(",".join(map(str, row)) + tail * 3 for row in BOX_ROWS)]
        )
        + "\n"
    )
    if old:
        (tmp_path / "Data_Entry_2017.csv").write_text(text)
        (tmp_path / "BBox_List_2017.csv").write_text(boxes)
    else:
        (tmp_path / "Data_Entry_2017_v2020.csv.gz").write_bytes(gzip.compress(text.encode()))
        (tmp_path / "BBox_List_2017.csv.gz").write_bytes(gzip.compress(boxes.encode()))
    return tmp_path


def test_counts_of_a_small_table(tables):
    counts = public_counts.nih_counts(str(tables))
    assert (counts["images"], counts["patients"], counts["no_finding"], counts["images_under_18"]) == (4, 3, 2, 2)
    assert counts["labels"] == {"Mass": 2, "No Finding": 2, "Nodule": 1} and counts["single_label"] == {
        "Mass": 1,
        "No Finding": 2,
        "Nodule": 0,
    }
    assert counts["labels_per_image"] == {0: 2, 1: 1, 2: 1} and counts["images_per_patient"] == {1: 2, 2: 1}
    assert counts["together"] == {"Mass|Nodule": 1} and counts["views"] == {"AP": 1, "PA": 3}
    assert (counts["boxes"], counts["boxed_images"], counts["boxed_patients"]) == (3, 2, 2)
    assert (
        counts["boxes_without_a_cell"] == counts["nodules_without_a_cell"] == 1
        and counts["boxed_images_without_a_cell"] == 0
    )


def test_shipped_counts_equal_the_tables(tables, tmp_path, monkeypatch):
    shipped = (tmp_path / "nih.yml", tmp_path / "nih_boxes.csv")
    monkeypatch.setattr(public_counts, "COUNTS_FILE", shipped[0])
    monkeypatch.setattr(public_counts, "BOXES_FILE", shipped[1])
    public_counts.main(str(tables))
    written = read_yaml(shipped[0])["nih"]
    assert {key: written[key] for key in written if key not in ("source", "cite")} == public_counts.nih_counts(
        str(tables)
    )
    pd.testing.assert_frame_equal(public_counts.nih_boxes(), public_counts.nih_boxes(str(tables)), check_dtype=False)
    assert ".png" not in shipped[1].read_text()


def test_missing_tables_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="Data_Entry_2017"):
        public_counts.nih_counts(str(tmp_path))


def test_shipped_counts_are_consistent():
    counts, boxes = public_counts.nih_counts(), public_counts.nih_boxes()
    assert (
        sum(counts["labels_per_image"].values())
        == counts["images"]
        == sum(k * n for k, n in counts["images_per_patient"].items())
    )
    assert sum(counts["images_per_patient"].values()) == counts["patients"]
    assert sum(counts["single_label"].values()) == counts["labels_per_image"][0] + counts["labels_per_image"][1]
    assert (
        sum(k * n for k, n in counts["labels_per_image"].items())
        == sum(counts["labels"].values()) - counts["no_finding"]
    )
    assert (len(boxes), boxes["image"].nunique(), boxes["patient"].nunique()) == (
        counts["boxes"],
        counts["boxed_images"],
        counts["boxed_patients"],
    )
    assert boxes["label"].value_counts().to_dict() == counts["box_labels"]
    assert {
        name: pytest.approx(counts[name], abs=1e-6) for name in recompute.label_baselines(counts)
    } == recompute.label_baselines(counts)


def test_facts_by_name():
    assert public_counts.get_count("nih.images") == 112120 and public_counts.get_count("nih.labels.Pneumonia") == 1431
    assert "Wang" in public_counts.count_source("nih.images")


# ---------------------------------------------------------------- baselines


def test_label_baselines_by_hand():
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0]])  # No Finding, Mass, Nodule
    counts = {
        "images": 4,
        "labels": {"No Finding": 2, "Mass": 2, "Nodule": 1},
        "single_label": {"No Finding": 2, "Mass": 1, "Nodule": 0},
    }
    result = recompute.label_baselines(counts)
    assert result["answering_nothing_accuracy"] == pytest.approx((truth == 0).mean())
    assert result["answering_no_finding_accuracy"] == pytest.approx((truth == [1, 0, 0]).mean())
    shares = np.broadcast_to(truth.mean(axis=0), truth.shape)
    assert result["constant_binary_cross_entropy"] == pytest.approx(
        np.mean([sk.log_loss(t, p, labels=[0, 1]) for t, p in zip(truth.T, shares.T)])
    )
    assert result["constant_cross_entropy_of_one_label_images"] == pytest.approx(
        -(2 * np.log(2 / 3) + np.log(1 / 3)) / 3
    )
    assert result["constant_cross_entropy_summed_over_labels"] == pytest.approx(
        -(truth * np.log(truth.sum(axis=0) / 5)).sum() / 4
    )


def test_expected_patient_overlap_equals_random_splits():
    histogram = {1: 60, 2: 30, 3: 10, 7: 5}
    patients = np.repeat(np.arange(105), np.repeat(list(histogram), list(histogram.values())))
    rng, shares = np.random.default_rng(0), []
    for _ in range(6000):
        order = rng.permutation(patients)
        train, test = order[: round(0.8 * len(order))], order[-round(0.1 * len(order)) :]
        shares.append(np.isin(test, train).mean())
    assert recompute.expected_patient_overlap(histogram) == pytest.approx(np.mean(shares), abs=0.006)


def box(x, y, w, h, image=1, patient=1, label="Mass"):
    return {"patient": patient, "image": image, "label": label, "x": x, "y": y, "w": w, "h": h}


def test_cell_coverage_equals_painted_pixels():
    boxes = pd.DataFrame([box(30, 100, 200, 90), box(0, 0, 40, 60), box(900, 1000, 124, 24)])
    for itertuple, grid in zip(boxes.itertuples(), cell_coverage(corners_from_table(boxes))):
        painted = np.zeros((1024, 1024))
        painted[itertuple.y : itertuple.y + itertuple.h, itertuple.x : itertuple.x + itertuple.w] = 1
        np.testing.assert_allclose(grid, painted.reshape(16, 64, 16, 64).mean(axis=(1, 3)))


def test_box_covering_less_than_half_of_each_cell_has_no_cell():
    boxes = pd.DataFrame([box(32, 32, 64, 64), box(0, 0, 64, 64)])
    assert count_boxes_without_cell(boxes).loc["Mass"].tolist() == [2, 1]


def test_soft_f1_on_two_images_by_hand():
    grids = np.zeros((2, 16, 16), dtype=bool)
    grids[0, :2, :2] = True  # 4 cells; the other image has none
    predicted = np.full((2, 16, 16), 0.25)
    result = soft_f1(grids, predicted)
    precision, recall = (1 / 64 + 0) / 2, 0.25  # recall is defined on the first image only
    assert result["precision"] == pytest.approx(precision) and result["recall"] == pytest.approx(recall)
    assert result["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert result["mse"] == pytest.approx((4 * 0.75**2 + 252 * 0.25**2 + 256 * 0.25**2) / 512)


def test_cross_validated_prior_excludes_the_patient():
    rng = np.random.default_rng(0)
    grids, patients = rng.random((40, 16, 16)) < 0.3, np.repeat(np.arange(20), 2)
    predicted = cross_validate_grids(grids, patients, prior_grid)
    for patient in range(20):
        assert not np.isclose(predicted[patients == patient], grids.mean(axis=0)).all()
        changed = grids.copy()
        changed[patients == patient] = ~changed[patients == patient]
        again = cross_validate_grids(changed, patients, prior_grid)
        np.testing.assert_array_equal(predicted[patients == patient], again[patients == patient])


def test_paper_5s_detector_against_priors_on_the_public_boxes():
    table = score_grid_baselines(public_counts.nih_boxes(), n_resamples=200).set_index("predictor")
    assert table.loc["everywhere", "recall"] == 1 and table.loc["everywhere", "f1"] == pytest.approx(0.146, abs=0.001)
    assert (
        table.loc["prior", "f1"] < 0.1908 < table.loc["prior, rescaled", "f1"] < table.loc["prior, thresholded", "f1"]
    )
    assert (table["low"] < table["f1"]).all() and (table["f1"] < table["high"]).all()
    assert (score_large_box_baseline(public_counts.nih_boxes())["f1"] > 0.2471).all()


# ---------------------------------------------------------------- the audit page's tables


@pytest.fixture(scope="module")
def ledger():
    return load_ledger()


def test_block_2_is_the_only_column_of_paper_1_without_a_matrix(ledger):
    tenths = audit_tables.paper_1_matrix_counts(ledger)["I and II in tenths"]
    assert tenths.index[tenths == 0].tolist() == ["block 2"]


def test_block_4_leads_by_counted_images(ledger):
    matrices = audit_tables.paper_1_matrices(ledger)
    gap = audit_tables.accuracy_lead(ledger, matrices["block 4"], matrices["baseline"])
    assert (gap["low"], gap["high"]) == (11, 13) and gap["se_least"] < gap["se_most"]
    # two models that disagree on 12 images only, then two that never err together
    first, second = np.zeros(2924), np.zeros(2924)
    first[:2322], second[:2310] = 1, 1
    assert gap["se_least"] == pytest.approx((first - second).std() / np.sqrt(2924), rel=0.01)
    assert gap["se_most"] == pytest.approx((first - second[::-1]).std() / np.sqrt(2924), rel=0.01)


def test_chi_squared_of_row_orders_equals_scipy(ledger):
    table_of = audit_tables.paper_4_row_namings(ledger).set_index("rows are")
    rows, mix = audit_tables.paper_4_matrix(ledger).sum(axis=1), np.array([32.2, 38.3, 29.5])
    result = stats.chisquare(rows, rows.sum() * mix / mix.sum())
    assert table_of.loc["normal, bacterial, viral", ["chi-squared", "p"]].tolist() == pytest.approx(
        [result.statistic, result.pvalue]
    )
    assert table_of.index[0] == "bacterial, normal, viral"
    assert table_of.loc["bacterial, normal, viral", ["false positives", "false negatives"]].tolist() == [5, 22]


def test_three_class_matrix_has_six_row_orders():
    """Rows of 10, 20 and 30 under a mix of 1, 2 and 3: the order as given lies on it."""
    counts = np.array([[8, 1, 1], [2, 15, 3], [4, 6, 20]])
    ways = audit_tables.row_namings(counts, [1, 2, 3], ["well", "a", "b"])
    first = ways.iloc[0]
    assert (
        len(ways) == 6
        and first["rows are"] == "well, a, b"
        and first["chi-squared"] == pytest.approx(0)
        and first["p"] == pytest.approx(1)
    )
    assert (first["false positives"], first["false negatives"]) == (2, 6)
    turned = ways.set_index("rows are").loc["b, a, well"]
    assert turned["chi-squared"] == pytest.approx((10 - 30) ** 2 / 30 + (30 - 10) ** 2 / 10) and (
        turned["false positives"],
        turned["false negatives"],
    ) == (10, 4)


def test_row_orders_table_is_numbered_and_rounds_p():
    table = pictures.namings_table(
        audit_tables.row_namings(np.array([[8, 1, 1], [2, 15, 3], [4, 6, 20]]), [1, 2, 3], ["well", "a", "b"]),
        name="ways",
        caption="Six ways.",
    ).data
    assert (
        'id="tab-ways"' in table
        and table.count("<tr>") == 6
        and "<td>1.000</td>" in table
        and "<td>53.33</td>" in table
        and "<td>&lt; 0.001</td>" in table
    )
    assert [pictures.format_p_value(p) for p in (0.0, 0.0004, 0.001, 0.25)] == ["< 0.001", "< 0.001", "0.001", "0.250"]


def test_html_table_escapes_and_formats():
    html = html_table(
        pd.DataFrame({"a<b": [0.12345], "n": [1234], "list": [["x", "y"]], "none": [None]}), _="{:.2f}"
    ).data
    assert "a&lt;b" in html and "0.12<" in html and "1,234" in html and "x, y" in html and "None" not in html
    assert format_claim("images", 7) == "images: 7" and format_claim("it is best", None) == "it is best"
