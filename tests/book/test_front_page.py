"""The numbers on the book's first page: each has a source in a run or a record."""

import re

import numpy as np

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.measured import Measured
from pneumo_utils.common.run_paths import ROOT
from pneumo_utils.study import pages, records
from pneumo_utils.study.chapters import find_chapter


def test_front_page_results_exist_in_records():
    for name, (_, *result_names) in pages.FRONT_PAGE_RESULTS.items():
        for record in records.read_records(name).values():
            assert set(result_names) <= record.results.keys(), name


def test_front_page_compares_networks_with_baselines():
    chapter, real = find_chapter("2"), records.read_records("02_gradcam_comparison")["real-radiographs"].results
    _, network, pixels = pages.FRONT_PAGE_RESULTS[chapter.name]
    table = pages.baseline_table(
        {chapter: {network: {"value": 0.5, "low": 0.25, "high": 0.75}}, find_chapter("speed"): {}}
    )
    *_, row = table.strip().splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (
        cells[0] == "[2](../notebooks/02_gradcam_comparison.ipynb)"
        and cells[2].startswith("0.500 (")
        and cells[3] == "-"
    )
    assert [float(cell.split()[0]) for cell in cells[4:]] == [
        round(real[name]["value"], 3) for name in (network, pixels)
    ]
    assert len(table.strip().splitlines()) == 3  # what has no networks of a paper has no row


def test_front_page_has_a_row_for_the_synthesis():
    real = records.read_records("synthesis")["real-radiographs"].results
    *_, row = pages.baseline_table({find_chapter("synthesis"): {}}).strip().splitlines()
    assert (
        row.startswith("| [across the papers](../notebooks/synthesis.ipynb) ")
        and f"{real['best, AUROC: 32 x 32 pixels']['value']:.3f} (" in row
    )


def test_each_paper_is_answered_on_the_data_of_its_run_and_of_its_record():
    unmeasured = Measured("", False, "pocket", "phantoms", "pocket", {})
    lines = pages.answers_table({find_chapter(name): (unmeasured, {}) for name in pages.ANSWERS}).splitlines()[2:]
    assert [int(name[:2]) for name in pages.ANSWERS] == [paper.paper for paper in load_ledger().papers]
    for line, (name, (_, asks, answered_by)) in zip(lines, pages.ANSWERS.items(), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        unknown = (
            "; ".join(f"{who} **-**" for who in answered_by) if isinstance(answered_by, dict) else "**Not measured**"
        )
        assert asks in cells[0] and cells[1] == unknown
        real = records.read_records(name).get("real-radiographs")
        if not real:
            assert cells[2] == "-"
        elif isinstance(answered_by, dict):
            assert all(f"{who} **{real.results[name]['value']:.3f} (" in cells[2] for who, name in answered_by.items())
        else:
            better, other = answered_by[0].split(" > ")
            gains = real.measured.paired(answered_by[1], better, other, answered_by[2])
            assert f": {np.mean(gains):+.3f} (" in cells[2]
    chapter, (*_, answered_by) = find_chapter("3"), pages.ANSWERS["03_xception_kfold"]
    real = Measured("", True, "pocket", "radiographs", "pocket", {})
    results = dict.fromkeys(answered_by.values(), {"value": 0.25, "low": 0.125, "high": 0.5})
    row = pages.answers_table({chapter: (real, results)}).splitlines()[2]
    assert row.endswith("| - | " + "; ".join(f"{who} **0.250 (0.12 to 0.50)**" for who in answered_by) + " |")


def test_first_page_can_be_bound_with_any_chapter():
    """The scoreboard is made for every book, and each other chapter may be left out."""
    assert set(re.findall(r"found\.(\w+)", (ROOT / "book" / "intro.md").read_text(encoding="utf-8"))) == {"scoreboard"}
