"""The audit of the papers and its further page: what they show, and sentences that are right whatever comes out."""

import pandas as pd
import pytest
from chapter_runs import html_of, shown
from settings import OF_THE_BOOK

from notebooks import audit_answers, audit_tables
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.study.chapters import find_chapter


@pytest.fixture(scope="module")
def ledger():
    return load_ledger()


@pytest.fixture(scope="module")
def executed(execute):
    """Both pages: results and notebook by name."""
    return {name: execute(find_chapter(name), OF_THE_BOOK[name]) for name in ("paper_audit", "paper_audit_checks")}


def test_answer_stands_at_the_top(executed, ledger):
    results, notebook = executed["paper_audit"]
    box, values = shown(notebook, "begin"), {name: entry["value"] for name, entry in results["results"].items()}
    assert "**What to do**" in box and all(f"**Paper {paper}" in box for paper in range(1, 6))
    verdicts = [values[name] for name in ("consistent", "inconsistent", "unverifiable")]
    assert sum(verdicts) == values["claims"] == len(ledger.claims)
    assert f"Of {values['claims']} claims" in box and all(f"{count} (" in box for count in verdicts)
    assert "| this run |" not in box and "the paper says" not in box, "no table without results and claims"


def test_every_figure_and_table_of_the_audit_is_there(executed):
    results, notebook = executed["paper_audit"]
    assert set(results["figures"]) == {
        "block_order",
        "recall_and_specificity",
        "sorted_batches",
        "named_twice",
        "without_an_image",
    }
    assert all(len(figure["alt"]) > 60 and figure["caption"] for figure in results["figures"].values())
    assert html_of(notebook, "p2-readings").count("<tr>") == 8 and "0.22556" in html_of(notebook, "p3-folds")


def test_further_page_has_the_rest(executed):
    notebook = executed["paper_audit_checks"][1]
    text = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    names = "kinds formula fits weights harmonic classes grey spread origin parameters larger cells pitfalls"
    assert all(f'id="tab-{name}"' in text for name in names.split())
    assert html_of(notebook, "slips-code").count("<table") == 4
    assert "Block 2 has none that rounds to both" in shown(notebook, "p1-fits-code")
    assert "3,008" in shown(notebook, "p4-parameters-code") and "2.51" in shown(notebook, "p5-loss-code")


@pytest.mark.parametrize(
    "low, high, words", [(20, 22, "cannot tell"), (200, 220, "That is more than chance"), (1, 1, "no more than chance")]
)
def test_lead_is_compared_with_both_bounds_of_its_standard_error(low, high, words):
    metrics = pd.DataFrame({"accuracy": [0.7, 0.8], "balanced_accuracy": [0.6, 0.5]}, index=["a", "b"])
    said = audit_answers.order_of_blocks(metrics, {"low": low, "high": high, "se_least": 0.005, "se_most": 0.02}, 1000)
    assert words in said and said.startswith("By accuracy b is best") and said.endswith("balanced accuracy a is best.")


def test_counts_of_images_are_not_taken_for_counts_of_boxes(ledger):
    counts = audit_tables.paper_1_training_counts(ledger)
    assert "fit only if each *box* is counted" in audit_answers.boxes_as_images(counts)
    swapped = counts.assign(printed=counts["each image once"])
    assert audit_answers.boxes_as_images(swapped) == "The printed class counts fit each image once."
    neither = counts.assign(printed=0)
    assert audit_answers.boxes_as_images(neither) == "The printed class counts fit neither way of counting."


def test_names_of_rows_may_fit_as_printed():
    names = audit_tables.PAPER_4_CLASSES
    rows = [[18, 1, 1], [2, 30, 8], [4, 6, 30]]
    fits = audit_tables.row_namings(rows, [20, 40, 40], names)
    said = audit_answers.row_names(fits)
    assert said.startswith("The rows as named fit") and "turns round" not in said and "2 of the 6 namings fit:" in said
    none = audit_answers.row_names(audit_tables.row_namings(rows, [90, 5, 5], names))
    assert "The rows as named do not fit" in none and "0 of the 6 namings fit: none" in none


def test_readings_that_fit_are_counted(ledger):
    interpretations = audit_tables.paper_2_interpretations(ledger)
    columns = list(audit_tables.PAPER_2_COLUMNS.values())
    assert "1 of 8 readings: macro average, swapped." in audit_answers.matrices_of_paper_2(interpretations, columns)
    every = interpretations.assign(**dict.fromkeys(columns, 1))
    assert "6 of the 6 columns" in audit_answers.matrices_of_paper_2(every, columns)
    assert audit_answers.matrices_of_paper_2(every, columns).endswith("under 8 of 8 readings.")


def test_detector_above_all_priors_is_said_to_be():
    scores = pd.DataFrame({"predictor": ["a", "b"], "f1": [0.1, 0.2], "low": [0.05, 0.15], "high": [0.15, 0.25]})
    assert "0 have a higher one; for 0" in audit_answers.detector_against_priors(scores, 0.3)
    assert "1 has a higher one; for 0" in audit_answers.detector_against_priors(scores, 0.17)
