"""The whole ledger: it is complete, every claim has a check, and mistakes in its files are refused."""

from dataclasses import replace

import pytest
import yaml

from pneumo_utils.claims.checks.registry import CHECKS
from pneumo_utils.claims.decision import COMPARISON_VERDICTS
from pneumo_utils.claims.ledger import (
    CLAIM_KINDS,
    LEDGER_FOLDER,
    PAPER_VERDICTS,
    Claim,
    LedgerError,
    load_ledger,
    read_paper,
)
from pneumo_utils.claims.numeral_coverage import (
    NUMERAL_PATTERN,
    accounted_numerals,
    compare_with_ledger,
    inventory_path,
    list_numerals,
    strip_references,
)
from pneumo_utils.claims.verdicts import check_on_paper, scoreboard

LEDGER = load_ledger()


@pytest.fixture(scope="module")
def board():
    return scoreboard(LEDGER)


def test_ledger_has_five_papers_and_over_200_claims():
    assert [paper.paper for paper in LEDGER.papers] == [1, 2, 3, 4, 5]
    assert len(LEDGER.claims) > 300
    assert {claim.kind for claim in LEDGER.claims} == set(CLAIM_KINDS)


@pytest.mark.parametrize("claim", LEDGER.claims, ids=lambda c: c.id)
def test_every_claim_has_a_check_and_a_reason(claim):
    result = check_on_paper(claim, LEDGER)
    assert result.verdict in PAPER_VERDICTS
    assert (
        len(result.because) > 15
        and result.because[0].isupper() | result.because[0].isdigit() | (result.because[0] in "(|'\"p")
        and result.because.rstrip().endswith((".", "?"))
    )


@pytest.mark.parametrize("paper", LEDGER.papers, ids=lambda p: p.chapter)
def test_every_numeral_of_the_text_is_accounted_for(paper):
    inventory = yaml.safe_load(inventory_path(paper.chapter.lstrip("0")).read_text())
    assert sum(map(len, inventory["sections"].values())) > 50
    assert compare_with_ledger(paper, inventory) == {}


@pytest.mark.parametrize("paper", LEDGER.papers, ids=lambda p: p.chapter)
def test_excluded_numerals_are_few_and_have_reasons(paper):
    assert all(exclusion["why"] for exclusion in paper.excluded)
    numerals = sum(len(exclusion["numerals"]) for exclusion in paper.excluded)
    assert numerals <= 0.15 * sum(sum(counts.values()) for counts in accounted_numerals(paper).values())


def test_printed_numbers_equal_the_values():
    for claim in LEDGER.claims:
        if (
            claim.printed
            and isinstance(claim.value, (int, float))
            and claim.printed.rstrip("%").replace(",", "").replace(".", "").replace("-", "").isdigit()
        ):
            assert float(claim.printed.rstrip("%").replace(",", "")) == pytest.approx(claim.value), claim.id


def test_verdicts_without_runs_are_not_tested(board):
    assert set(board["phantom"]) == set(board["real"]) == {"not tested"}  # no evidence was given


def test_paper_and_rerun_verdicts_are_separate(board):
    assert set(board["on paper"]) == set(PAPER_VERDICTS) and not set(PAPER_VERDICTS) & set(COMPARISON_VERDICTS)
    assert board["id"].is_unique


METRIC = Claim(id="m", where="", says="", kind="metric", judge="measured", value=0.79, printed="0.79")


def test_missing_check_is_refused():
    with pytest.raises(LedgerError, match="no judge is called 'oracle'"):
        check_on_paper(replace(METRIC, judge="oracle"), LEDGER)


def test_every_check_is_used():
    """A judge that no entry asks for is dead code."""
    assert {claim.judge for claim in LEDGER.claims} == set(CHECKS)


@pytest.mark.parametrize(
    "slip, says",
    [
        ({"kind": "metrc"}, "none of"),
        ({"where": "Nowhere"}, "not among the paper's sections"),
        ({"valeu": 3}, "unknown field"),
    ],
)
def test_invalid_entries_are_refused(tmp_path, slip, says):
    entry = {"id": "x", "where": "Front matter", "says": "s", "kind": "count", "judge": "setting"} | slip
    file = tmp_path / "1_x.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "paper": 1,
                "title": "t",
                "authors": "a",
                "cite": "c",
                "chapter": "1_x",
                "sections": ["Front matter"],
                "claims": [entry],
            }
        )
    )
    with pytest.raises(LedgerError, match=says):
        read_paper(file)


@pytest.mark.parametrize(
    "sections, says",
    [
        ({"rules": {"y": {"asks": "?"}}}, "rules or reasons for claims that are not there: y"),
        ({"rules": {"x": {"asks": "?"}}, "untested": {"no doctor": ["x"]}}, "both a rule and a reason"),
    ],
)
def test_rules_belong_to_one_claim_each(tmp_path, sections, says):
    entry = {"id": "x", "where": "Front matter", "says": "s", "kind": "ordering", "judge": "setting"}
    paper = {"paper": 1, "title": "t", "authors": "a", "cite": "c", "chapter": "1_x", "sections": ["Front matter"]}
    file = tmp_path / "1_x.yml"
    file.write_text(yaml.safe_dump(paper | {"claims": [entry]} | sections))
    with pytest.raises(LedgerError, match=says):
        read_paper(file)


def test_list_numerals_of_a_text():
    assert NUMERAL_PATTERN.findall("29,352 of 1,043,843; .2256 and 0.2256; 1e-3, (2,5000) 15064 %77.6 5-fold") == [
        "29,352",
        "1,043,843",
        ".2256",
        "0.2256",
        "1e-3",
        "2",
        "5000",
        "15064",
        "77.6",
        "5",
    ]


def test_inventory_skips_page_numbers_and_references():
    text = "A Title\n# 1. Data\nWe used ResNet18 [3], see Figure 2: 100 images.\n# References\n1. Somebody, 1999.\n"
    numerals = list_numerals(text, ("Front matter", "1. Data"))
    assert numerals["sections"] == {"Front matter": [], "1. Data": ["100"]}
    assert sum(numerals["furniture"].values()) == 3  # the model's name, the citation, the figure
    assert "1999" not in strip_references(text)
    with pytest.raises(ValueError, match="no line '2. Model'"):
        list_numerals(text, ("Front matter", "2. Model"))


def test_ledger_files_are_named_for_their_chapters():
    assert [path.stem for path in sorted(LEDGER_FOLDER.glob("[0-9]_*.yml"))] == [
        f"{paper.chapter.lstrip('0')}" for paper in LEDGER.papers
    ]
