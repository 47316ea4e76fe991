"""The checks of papers 1 and 2 on small ledgers with results worked out by hand."""

import pytest

from pneumo_utils.claims.checks.registry import CHECKS
from pneumo_utils.claims.ledger import LEDGER_FOLDER, Claim, Ledger, LedgerError, Paper, read_paper
from pneumo_utils.claims.verdicts import check_on_paper


def ledger_of(*claims):
    return Ledger((Paper(1, "", "", "", "", ("here", "there"), claims, ()),))


def claim(name, value=None, printed="", judge="setting", where="here", **other):
    return Claim(name, where, f"the {name}", "metric", judge, value, printed, **other)


def verdict(entry, *others):
    return check_on_paper(entry, ledger_of(entry, *others))


def column(judge="one_confusion_matrix", **printed):
    """A column of scores on 10 positives and 10 negatives; the first is the one that is judged."""
    args = {"column": list(printed), "positives": 10, "negatives": 10}
    return [claim(name, float(text), text, judge, metric=name, args=args) for name, text in printed.items()]


# 8 of 10 positives and 9 of 10 negatives right: accuracy 17/20 = .85, precision 8/9 = .889, recall .8, F1 = 16/19 =
# .842.
GOOD = {"accuracy": "0.85", "precision": "0.889", "recall": "0.80", "f1": "0.842"}


def test_feasible_matrix_is_consistent():
    finding = verdict(*column(**GOOD))
    assert finding.verdict == "consistent"
    assert "TP 8, FN 2, FP 1, TN 9" in finding.because


def test_single_inconsistent_number_is_named():
    claims = column(**{**GOOD, "accuracy": "0.90"})
    verdicts = {entry.id: check_on_paper(entry, ledger_of(*claims)).verdict for entry in claims}
    # Recall and precision alone fix the matrix, and F1 goes with them: only the accuracy can be left out.
    assert verdicts == {
        "accuracy": "inconsistent",
        "precision": "consistent",
        "recall": "consistent",
        "f1": "consistent",
    }


def test_column_with_several_inconsistent_numbers():
    claims = column(accuracy="0.10", precision="0.889", recall="0.80", f1="0.10")
    assert {check_on_paper(entry, ledger_of(*claims)).verdict for entry in claims} == {"inconsistent"}


def test_swapped_macro_averages_are_recognised():
    # 10 of 10 positives and 5 of 10 negatives right. Macro precision (10/15 + 5/5) / 2 = .833, macro recall (1 + .5) /
    # 2 = .75,
    # macro F1 (20/25 + 10/15) / 2 = .733; precision and recall are printed under each other's name. With as many
    # negatives as positives
    # the mirror image (5 of 10 positives, 10 of 10 negatives) has the same averages.
    finding = verdict(*column(accuracy="0.750", precision="0.750", recall="0.833", f1="0.733"))
    assert finding.verdict == "inconsistent"
    assert (
        "Read as macro averages with precision and recall swapped, 2 matrices fit it, such as TP 10, FN 0, FP "
        "5, TN 5: 50 to 100 %" in finding.because
    )


def test_column_must_contain_the_judged_number():
    first, *others = column(**GOOD)
    with pytest.raises(LedgerError, match="does not hold it"):
        verdict(claim("stray", 0.5, "0.5", "one_confusion_matrix", args=first.args), first, *others)


def test_trailing_zeros_are_padding_only_if_declared():
    # One of three is 33.3 %: it is printed 33.30 % by a spreadsheet, while 33.33 % would be its second decimal.
    args = {"column": ["recall"], "positives": 3, "negatives": 1}
    for padded, expected in ((True, "consistent"), (False, "inconsistent")):
        entry = claim(
            "recall", 33.3, "33.30%", "one_confusion_matrix", metric="recall", args={**args, "padded": padded}
        )
        assert verdict(entry).verdict == expected
    whole = claim("digits", 2, judge="possible_percentages", args={"shares": {"recall": "three"}})
    assert verdict(whole, claim("recall", 33.3, "33.30%"), claim("three", 3)).verdict == "inconsistent"
    assert verdict(whole, claim("recall", 33.33, "33.33%"), claim("three", 3)).verdict == "consistent"


@pytest.mark.parametrize("printed, expected", [("0.842", "consistent"), ("0.60", "inconsistent")])
def test_f1_is_the_harmonic_mean(printed, expected):
    # 2 x .889 x .8 / 1.689 = .8422
    entry = claim("f1", float(printed), printed, "f1_of", args={"precision": "p", "recall": "r"})
    assert verdict(entry, claim("p", 0.889, "0.889"), claim("r", 0.8, "0.800")).verdict == expected


def test_wrong_formula_is_detected_on_the_matrix():
    # Twice (8/9 + 8/10) over 10 positives is .338, where the table has .842.
    claims = column(**GOOD)
    args = {**claims[0].args, "score": "f1", "formula": "twice precision plus recall by positives"}
    finding = verdict(claim("formula", judge="formula_gives", args=args), *claims)
    assert finding.verdict == "inconsistent" and "0.3378" in finding.because
    with pytest.raises(LedgerError, match="no formula is called"):
        verdict(claim("formula", judge="formula_gives", args={**args, "formula": "nonsense"}), *claims)


def test_constant_prediction():
    claims = column(accuracy="0.500", precision="0.500", recall="1.000", f1="0.667")
    assert (
        verdict(claim("constant", judge="always_predicts_pneumonia", args=claims[0].args), *claims).verdict
        == "consistent"
    )
    assert (
        verdict(
            claim("constant", judge="always_predicts_pneumonia", args=column(**GOOD)[0].args), *column(**GOOD)
        ).verdict
        == "unverifiable"
    )


def test_accuracy_lies_between_sensitivity_and_specificity():
    args = {"sensitivity": "sens", "specificity": "spec"}
    both = claim("sens", 98.19), claim("spec", 95.78)
    assert verdict(claim("acc", 94.43, judge="accuracy_between", args=args), *both).verdict == "inconsistent"
    assert verdict(claim("acc", 97.0, judge="accuracy_between", args=args), *both).verdict == "consistent"


@pytest.mark.parametrize("second, expected", [(0.86, "consistent"), (0.865, "unverifiable"), (0.87, "inconsistent")])
def test_largest_value_with_a_tie(second, expected):
    entry = claim("best", judge="largest_of", args={"winner": "a", "among": ["a", "b", "c"]})
    assert verdict(entry, claim("a", 0.865), claim("b", second), claim("c", 0.5)).verdict == expected


def test_ranking_with_a_reversal_and_with_a_tie():
    entry = claim("rank", judge="ranking_order", args={"best_first": ["a", "b", "c"]})
    a, b = claim("a", 3), claim("b", 2)
    assert verdict(entry, a, b, claim("c", 1)).verdict == "consistent"
    assert verdict(entry, a, b, claim("c", 2)).verdict == "unverifiable"
    assert verdict(entry, a, b, claim("c", 9)).verdict == "inconsistent"


@pytest.mark.parametrize("first, expected", [(0.81, "unverifiable"), (0.90, "consistent"), (0.80, "inconsistent")])
def test_lead_must_exceed_sampling_error(first, expected):
    # On 400 images the standard error at .80 is .02: a lead of .01 is nothing, one of .10 is (.10 / sqrt(.02^2 +
    # .015^2) = 4).
    entry = claim("lead", judge="significantly_higher", args={"first": "a", "second": "b", "images": 400})
    finding = verdict(entry, claim("a", first), claim("b", 0.80))
    assert finding.verdict == expected
    if first == 0.90:
        assert "40 of 400 images, 4.0 standard errors" in finding.because


def test_error_names_are_checked():
    slip = claim("slip", "false negative", judge="kind_of_error", args={"truth": "normal", "answer": "pneumonia"})
    assert verdict(slip).verdict == "inconsistent"
    right = claim("right", "false negative", judge="kind_of_error", args={"truth": "pneumonia", "answer": "normal"})
    assert verdict(right).verdict == "consistent"


def test_counts_with_augmented_copies_are_explained():
    # 6,012 images with 10 % copied are 6,613; the 9,555 rows of boxes with 10 % are 10,510.5.
    args = {"fact": "rsna.positive_images", "share": "share", "read_as": ["rsna.box_rows"]}
    finding = verdict(claim("n", 10510, judge="augmented_count", args=args), claim("share", 10))
    assert finding.verdict == "inconsistent" and "9,555 (rsna: box rows)" in finding.because
    assert verdict(claim("n", 6613, judge="augmented_count", args=args), claim("share", 10)).verdict == "consistent"


def test_good_model_must_beat_the_constant_baseline():
    args = {"accuracy": "a", "positives": 73, "negatives": 27}
    assert verdict(claim("well", judge="beats_majority", args=args), claim("a", 72, "72%")).verdict == "inconsistent"
    assert verdict(claim("well", judge="beats_majority", args=args), claim("a", 0.75, "0.75")).verdict == "consistent"


@pytest.mark.parametrize(
    "judge, args",
    [
        ("largest_of", {"winner": "nobody", "among": ["nobody", "a"]}),
        ("largest_of", {"winner": "rsna.nothing", "among": ["rsna.nothing", "a"]}),
        ("ranking_order", {"best_first": ["a", "nobody"]}),
        ("same_value", {"as_in": "nobody"}),
        ("no_exceptions", {"exceptions": "nowhere.images"}),
        ("direction_of_change", {"before": 1, "after": 2, "way": "sideways"}),
    ],
)
def test_unknown_names_are_refused(judge, args):
    with pytest.raises(LedgerError):
        verdict(claim("it", 1, judge=judge, args=args), claim("a", 1))


@pytest.mark.parametrize("name", ["1_surgical_finetuning", "2_gradcam_comparison"])
def test_every_entry_has_a_short_reason(name):
    paper = read_paper(LEDGER_FOLDER / f"{name}.yml")
    ledger = Ledger((paper,))
    for entry in paper.claims:
        assert entry.judge in CHECKS
        because = check_on_paper(entry, ledger).because
        assert because.endswith(".") and "nan" not in because.split(), entry.id
