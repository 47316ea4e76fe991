"""The whole ledger: it is complete, every claim has a check, and mistakes in its files are refused."""

from dataclasses import replace

import pytest
import yaml

from pneumo_utils.claims.checks.registry import CHECKS
from pneumo_utils.claims.ledger import (
    CLAIM_KINDS,
    EVIDENCE_VERDICTS,
    LEDGER_FOLDER,
    PAPER_VERDICTS,
    Claim,
    LedgerError,
    load_ledger,
    merge_evidence,
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
from pneumo_utils.claims.verdicts import check_on_paper, check_rerun, scoreboard

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
    assert set(board["on paper"]) == set(PAPER_VERDICTS) and not set(PAPER_VERDICTS) & set(EVIDENCE_VERDICTS)
    assert board["id"].is_unique


METRIC = Claim(id="m", where="", says="", kind="metric", judge="measured", value=0.79, printed="0.79")
ORDER = replace(METRIC, kind="ordering", printed="", value=None)


@pytest.mark.parametrize(
    "evidence, verdict",
    [
        (None, "not tested here"),
        ({"value": 0.79, "low": 0.78, "high": 0.80, "data": "phantom", "tier": "paper"}, "not tested here"),
        ({"value": 0.79, "low": 0.78, "high": 0.80, "data": "real", "tier": "pocket"}, "not tested here"),
        ({"value": 0.79, "low": 0.78, "high": 0.80, "data": "real", "tier": "paper"}, "reproduced"),
        # 0.79 stands for .785 to .795
        ({"value": 0.80, "low": 0.794, "high": 0.81, "data": "real", "tier": "paper"}, "reproduced"),
        ({"value": 0.90, "low": 0.88, "high": 0.92, "data": "real", "tier": "paper"}, "not reproduced"),
    ],
)
def test_printed_metric_needs_a_run_of_its_own_kind(evidence, verdict):
    assert check_rerun(METRIC, {"m": evidence}).verdict == verdict


@pytest.mark.parametrize(
    "low, high, verdict",
    [(0.01, 0.05, "reproduced"), (-0.01, 0.05, "not reproduced"), (-0.05, -0.01, "not reproduced")],
)
def test_ordering_is_checked_by_a_paired_difference(low, high, verdict):
    evidence = {"value": (low + high) / 2, "low": low, "high": high, "data": "phantom", "tier": "pocket"}
    result = check_rerun(ORDER, {"m": evidence})
    assert result.verdict == verdict and "phantom" in result.because


def test_verdict_mentions_changed_settings():
    evidence = {
        "value": 0.1,
        "low": 0.05,
        "high": 0.15,
        "data": "phantom",
        "tier": "pocket, with seeds = 3, grid_layers = [0, 2]",
    }
    assert check_rerun(ORDER, {"m": evidence}).because.endswith("on phantom data at pocket settings, some changed.")
    assert "at pocket settings, some changed, which cannot judge" in check_rerun(METRIC, {"m": evidence}).because


def test_paper_settings_take_precedence_and_phantoms_stay_separate():
    numbers = {"value": 0.79, "low": 0.78, "high": 0.80}
    runs = [
        {"chapter": "demo", "real": real, "tier": tier, "claims": {"m": numbers | {"value": value}}}
        for value, (real, tier) in enumerate([(True, "paper"), (False, "pocket"), (True, "pocket")])
    ]
    result = merge_evidence(runs)
    assert result["real"]["m"] == {
        "value": 0,
        "low": 0.78,
        "high": 0.80,
        "data": "real",
        "tier": "paper",
        "chapter": "demo",
        "record": "",
        "section": "",
    }
    assert result["phantom"]["m"]["value"] == 1
    assert (check_rerun(METRIC, result["real"]).verdict, check_rerun(METRIC, result["phantom"]).verdict) == (
        "reproduced",
        "not tested here",
    )


def test_undefined_evidence_gives_no_verdict():
    evidence = {
        "m": {"value": "undefined", "low": "undefined", "high": "undefined"},
        "n": {"value": 0.1, "low": 0.05, "high": "undefined"},
    }
    assert merge_evidence([{"chapter": "demo", "real": False, "tier": "pocket", "claims": evidence}]) == {
        "phantom": {},
        "real": {},
    }


def test_missing_check_is_refused():
    with pytest.raises(LedgerError, match="no judge is called 'oracle'"):
        check_on_paper(replace(METRIC, judge="oracle"), LEDGER)
    with pytest.raises(LedgerError, match="no rerun judge"):
        check_rerun(replace(METRIC, rerun="oracle"), {})


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
