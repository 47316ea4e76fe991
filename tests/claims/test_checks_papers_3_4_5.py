"""The checks of papers 3, 4 and 5 on numbers worked out by hand, and the verdicts that the audit relies on."""

import pytest

from pneumo_utils.claims.checks import arithmetic, baselines, printed_confusion, sizes
from pneumo_utils.claims.checks.registry import CHECKS
from pneumo_utils.claims.ledger import Claim, Ledger, Paper, load_ledger
from pneumo_utils.claims.verdicts import check_on_paper


def ledger_of(**values) -> Ledger:
    """A ledger of claims that hold these values; a text such as "0.12" is a printed number and keeps its decimals."""
    claims = [
        Claim(
            id=name,
            where="text",
            says=name,
            kind="count",
            judge="setting",
            value=float(v) if isinstance(v, str) else v,
            printed=v if isinstance(v, str) else "",
        )
        for name, v in values.items()
    ]
    return Ledger((Paper(9, "a paper", "someone", "key", "chapter", ("text",), tuple(claims), ()),))


def judged(judge, ledger, on, **args):
    return CHECKS[judge](ledger[on], ledger, **args)


@pytest.fixture(scope="module")
def ledger():
    return load_ledger()


# arithmetic of rounded numbers


def test_truncated_number_is_distinguished_from_a_wrong_one():
    book = ledger_of(cut="77.6", wrong="22.4", part=16537, rest=4758, whole=21295)
    cut, wrong = (
        judged("share_of", book, "cut", part="part", whole="whole"),
        judged("share_of", book, "wrong", part="rest", whole="whole"),
    )
    assert cut.verdict == wrong.verdict == "inconsistent"
    assert "dropped" in cut.because and "dropped" not in wrong.because


def test_f1_allows_for_rounded_inputs():
    # 2 x 17.27 x 21.32 / 38.59 = 19.0825, but 17.275 and 21.325 give 19.0875, which prints as 19.09
    book = ledger_of(p="17.27", r="21.32", f="19.09", far="19.10")
    assert judged("f1_of", book, "f", precision="p", recall="r").verdict == "consistent"
    assert judged("f1_of", book, "far", precision="p", recall="r").verdict == "inconsistent"


def test_standard_deviation_bounds_of_rounded_values():
    low, high = arithmetic.std_range([1.0, 1.0], 0.5)
    assert (low, high) == (0, 0.5)  # both may be the same, or 0.5 and 1.5
    low, high = arithmetic.std_range([0.0, 4.0], 0.5)
    assert low == pytest.approx(1.5) and high == pytest.approx(2.5)


@pytest.mark.parametrize("printed, verdict", [("1.12", "consistent"), ("1.29", "consistent"), ("1.20", "inconsistent")])
def test_standard_deviation_with_n_or_n_minus_1(printed, verdict):
    # 1, 2, 3, 4: the squares sum to 5, over 4 is 1.118 squared, over 3 is 1.291 squared
    assert judged("std_of", ledger_of(s=printed, a=1, b=2, c=3, d=4), "s", of=["a", "b", "c", "d"]).verdict == verdict


# averages over batches


def test_few_errors_bound_recall_and_precision():
    assert sizes.lowest_possible_score("recall", 100, 10) == 0.9  # all ten missed
    assert sizes.lowest_possible_score("precision", 100, 25) == 0.8  # all 25 called positive


def test_perfect_model_scores_the_share_of_batches_with_positives():
    parts = sizes.perfect_predictor_batches(16537, 4758, 5, 16, 32)
    assert (parts["validation"]["with positives"], parts["validation"]["batches"]) == (30, 133)
    assert (parts["train"]["with positives"], parts["train"]["batches"]) == (238, 1064)


def test_few_images_allow_only_some_accuracies():
    book = ledger_of(half="0.500", odd="0.512", images=50, folds=5)
    assert judged("possible_fold_accuracy", book, "half", images="images", folds="folds").verdict == "consistent"
    assert (
        judged("possible_fold_accuracy", book, "odd", images="images", folds="folds").verdict == "inconsistent"
    )  # tenths only


# a printed confusion matrix

TABLE = {"aa": 80, "ab": 10, "ac": 10, "ba": 1, "bb": 48, "bc": 1, "ca": 5, "cb": 5, "cc": 40}
CELLS = [["aa", "ab", "ac"], ["ba", "bb", "bc"], ["ca", "cb", "cc"]]
NAMES = ["normal", "bacterial", "viral"]


def table(**more):
    return ledger_of(**TABLE, **more)


def test_accuracy_from_a_confusion_table():
    assert judged("matrix_accuracy", table(right="84.0"), "right", cells=CELLS).verdict == "consistent"  # 168 of 200


def test_chi_squared_by_hand():
    assert printed_confusion.rows_chi_squared([60, 40], [50, 50]) == pytest.approx(4)  # 100/50 + 100/50
    assert printed_confusion.best_row_naming([100, 50, 51], [25, 50, 25.5]) == (1, 0, 2)


def test_swapped_row_names_are_detected():
    fits, swapped = table(n=50, b=25, v=25), table(n=25, b=50, v=25)
    assert judged("rows_follow_mix", fits, "n", cells=CELLS, names=NAMES, mix=["n", "b", "v"]).verdict == "consistent"
    result = judged("rows_follow_mix", swapped, "n", cells=CELLS, names=NAMES, mix=["n", "b", "v"])
    assert result.verdict == "inconsistent" and "100 bacterial, 50 normal" in result.because


def test_false_positives_and_negatives_swap_with_the_names():
    result = judged(
        "more_false_alarms",
        table(n=25, b=50, v=25),
        "n",
        cells=CELLS,
        names=NAMES,
        mix=["n", "b", "v"],
        healthy="normal",
    )
    assert result.verdict == "consistent"  # 10 + 10 against 1 + 5
    assert "20 normal" in result.because and "6 pneumonias" in result.because and "they are 2 and 15" in result.because


def test_most_confused_pair_and_hardest_class():
    book = table(n=50, b=25, v=25)
    mix = {"cells": CELLS, "names": NAMES, "mix": ["n", "b", "v"]}
    assert judged("most_confused", book, "n", **mix, pair=["viral", "normal"]).verdict == "consistent"  # 10 + 5
    assert judged("most_confused", book, "n", **mix, pair=["viral", "bacterial"]).verdict == "inconsistent"  # 1 + 5
    assert judged("hardest_class", book, "n", cells=CELLS, names=NAMES, hardest="viral").verdict == "consistent"


def test_test_set_of_whole_batches():
    book = table(short=21, images=1000, batch=50)
    result = judged("test_set_size", book, "short", cells=CELLS, images="images", batch="batch")
    assert result.verdict == "inconsistent" and "200 = 4 x 50" in result.because  # 21 % of 1,000 would be 210


# formulas and constant answers


def test_sign_of_a_sigmoid():
    book = ledger_of(z=1)
    assert judged("sigmoid_rises", book, "z", sign=-1).verdict == "consistent"
    assert judged("sigmoid_rises", book, "z", sign=1).verdict == "inconsistent"


def test_softmax_by_hand():
    assert arithmetic.softmax([0, 0]) == [0.5, 0.5]
    assert judged("logits_definition", ledger_of(z=1), "z", transform="none", outputs=[0, 1]).verdict == "consistent"


def test_filters_of_yolo():
    assert (
        judged("filters_before_region_layer", ledger_of(f=65, classes=8), "f", classes="classes").verdict
        == "consistent"
    )


def test_larger_boxes_are_easier_for_every_baseline():
    assert (
        100 * baselines.box_baseline_scores()["everywhere"]["f1"]
        < 15
        < 29
        < min(baselines.large_box_baseline_scores()["f1"])
    )


# the ledgers


@pytest.mark.parametrize(
    "claim, verdict, words",
    [
        ("p3-f1-val-precision", "inconsistent", "30 / 133 = 0.22556"),
        ("p3-f1-train-recall", "inconsistent", "238 / 1,064 = 0.22368"),
        ("p3-std-precision", "inconsistent", "0.0021"),
        ("p3-std-accuracy", "consistent", "0.001184"),
        ("p3-lightweight", "inconsistent", "22,910,480"),
        ("p4-trainable", "consistent", "block_15_project"),
        ("p4-total", "consistent", "2,261,827"),
        ("p4-test-accuracy", "inconsistent", "2,751"),
        ("p4-images", "consistent", "9,208"),
        ("p4-rows", "inconsistent", "0.84"),
        ("p4-more-false-positives", "consistent", "5 and 22"),
        ("p4-test-share", "inconsistent", "94 x 32"),
        ("p4-training-error-higher", "inconsistent", "3.8"),
        ("p5-boxed-images", "inconsistent", "880"),
        ("p5-multi-better", "inconsistent", "53.8"),
        ("p5-sigmoid", "inconsistent", "falls"),
        ("p5-filters-after", "consistent", "65"),
        ("p5-f1", "consistent", "19.0825"),
        ("p5-yolo-epochs", "inconsistent", "70"),
        ("p5-yolo-ots-f1", "unverifiable", "14.6"),
        ("p5-f1-learned", "inconsistent", "33.8"),
        ("p5-half-a-cell", "unverifiable", "46 of 984"),
    ],
)
def test_verdicts_of_the_audit(ledger, claim, verdict, words):
    result = check_on_paper(ledger[claim], ledger)
    assert result.verdict == verdict
    assert words in result.because


def test_every_claim_has_a_short_reason(ledger):
    for claim in ledger.claims:
        if claim.paper in (3, 4, 5):
            because = check_on_paper(claim, ledger).because
            assert because.endswith(".") and ".." not in because and len(because) < 420, (claim.id, because)
