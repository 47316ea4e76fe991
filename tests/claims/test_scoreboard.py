"""The scoreboard: its verdicts for a small ledger, their links, when it is out of date, and its filters by keyboard."""

import json
import re
import shutil
from html import unescape
from typing import ClassVar

import matplotlib
import pytest
from chapter_runs import ROOT, shown
from example_rule import RULE
from saved_figures import legible

from notebooks.scoreboard_figures import give_answer, verdict_bars
from pneumo_utils.claims import verdict_html as page
from pneumo_utils.claims.ledger import PAPER_VERDICTS, Claim, Ledger, Paper, load_ledger
from pneumo_utils.claims.measured import Measured
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.claims.verdicts import rerun_verdicts, scoreboard, verdict_table
from pneumo_utils.study import pages, run_status
from pneumo_utils.study.chapters import Chapter, chapters, find_chapter
from pneumo_utils.study.make_record import record_chapter
from pneumo_utils.study.run import run

matplotlib.use("Agg")

SECTIONS = ("1. Data", "2. Results")


def claimed(name: str, says: str, paper: int = 1, where: str = SECTIONS[0], **more) -> Claim:
    return Claim(
        **{"id": name, "where": where, "says": says, "kind": "setting", "judge": "setting", "paper": paper} | more
    )


FIRST = (
    claimed("a", "batch <size>", value=16),
    claimed("b", "again", where=SECTIONS[1], value=16, judge="same_value", args={"as_in": "a"}),
    claimed("c", "once more", value=32, kind="count", judge="same_value", args={"as_in": "a"}),
)
SCORE = {"experiment": "depth", "variant": "deep", "metric": "accuracy"}
SECOND = (
    claimed("d", "deep beats shallow", 2, kind="ordering", judge="measured", rule=RULE),
    claimed("e", "accuracy", 2, kind="metric", judge="measured", value=0.79, printed="0.790", rule=SCORE),
)
LEDGER = Ledger(
    tuple(
        Paper(number, title, "A. Author", "author", "demo", SECTIONS, claims, ())
        for number, title, claims in ((1, "On <batches>", FIRST), (2, "On depth", SECOND))
    )
)
TITLES = {paper.paper: paper.title for paper in LEDGER.papers}


def source(gain: float, real: bool = False, noise: float = 0.01, **more) -> Measured:
    """A run in which the deep network is ahead by so much, give or take the noise."""
    deep = {seed: 0.8 + gain + step * noise for seed, step in enumerate((-1, 0, 1))}
    values = {("depth", "deep", "accuracy"): deep, ("depth", "shallow", "accuracy"): dict.fromkeys(range(3), 0.8)}
    fields = {
        "chapter": "02_demo",
        "real": real,
        "tier": "pocket",
        "data": "real children" if real else "phantom children",
        "weights": "pocket",
        "values": values,
        "sizes": dict.fromkeys(values, 100.0),
        "experiments": {"depth": {"unit": "seed", "section": "depth"}},
        "rules": {"d": rule_of(SECOND[0]).digest},
    }
    return Measured(**fields | more)


RUNS = [
    source(0.2, experiments={"depth": {"unit": "seed", "section": "one-by-one"}}),
    source(-0.2, real=True, record="children", finished="2026-01-01"),
]


@pytest.fixture
def board():
    return scoreboard(LEDGER, RUNS)


def test_scoreboard_of_a_small_ledger_by_hand(board):
    assert board["id"].tolist() == list("abcde")
    assert board["on paper"].tolist() == ["unverifiable", "consistent", "inconsistent", "unverifiable", "unverifiable"]
    # a printed score is not judged on phantoms
    assert board["phantom"].tolist() == [*["not tested"] * 3, "supported", "not tested"]
    assert board["real"].tolist() == [*["not tested"] * 3, "contradicted", "not tested"]
    assert [found["chapter"] for found in board["phantom evidence"]] == ["", "", "", "02_demo", "02_demo"]
    assert [found["record"] for found in board["real evidence"]] == ["", "", "", "children", "children"]
    deciding = board["phantom evidence"][3]
    assert deciding["value"] == pytest.approx(0.2) and deciding["section"] == "one-by-one"
    assert deciding["survives"] is True and deciding["because"].startswith("Difference +0.2 (+0.175 to +0.225)")
    assert "ours 1 (0.9503 to 1) on phantom data at pocket settings" in board["phantom evidence"][4]["because"]
    assert board["margin"][3].startswith("0.02: two patients in a hundred") and board["asks"][3] == RULE["asks"]
    json.dumps(board.to_dict("records"), allow_nan=False)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_paper_settings_count_first_then_the_latest_record(order):
    """In any order of the runs, and with any width of their intervals."""
    sources = [
        source(0.0),
        source(0.2, record="long", finished="2026-01-02"),
        source(-0.2, record="longer", finished="2026-02-01"),
        source(0.3, noise=0.4, tier="paper"),
    ]

    def heard(*which):
        return rerun_verdicts(SECOND[0], [sources[index] for index in order if index in which])["phantom"]

    assert [verdict.record for verdict in heard(0)] == [""]
    assert [verdict.record for verdict in heard(0, 1, 2)] == ["longer", "long", ""]
    assert [verdict.verdict for verdict in heard(0, 1, 2, 3)] == [
        "inconclusive",
        "contradicted",
        "supported",
        "no difference that matters",
    ]


def test_the_papers_own_network_counts_before_a_later_record_of_another():
    other = "pocket, with architecture = efficientnet_lite0"
    runs = [
        source(0.2, record="own", finished="2026-01-01"),
        source(-0.2, record="other", tier=other, finished="2026-01-02"),
    ]
    assert [verdict.record for verdict in rerun_verdicts(SECOND[0], runs)["phantom"]] == ["own", "other"]


def test_a_run_that_tested_counts_before_one_that_did_not():
    found = rerun_verdicts(SECOND[0], [source(0.2), source(0, record="other", values={}, experiments={})])
    assert [verdict.verdict for verdict in found["phantom"]] == ["supported", "not tested"]
    assert found["real"][0].because == "No run has measured it."


def test_verdict_table_has_a_column_for_each_source():
    table = verdict_table(LEDGER, ["d", "e"], RUNS)
    assert table["this run, phantom data"][0].startswith("supported: +0.200 (+0.175 to +0.225); survives Holm's")
    assert table["record, children"][0].startswith("contradicted: -0.200 (")
    assert table["the rule"].tolist() == [RULE["asks"], ""] and table["matters from"].tolist() == ["0.02", ""]
    assert table["this run, phantom data"][1].startswith("not tested: a printed score needs real")


def test_every_verdict_links_to_its_evidence(board):
    html = page.scoreboard_html(board, TITLES).data
    assert "<size>" not in html and "<batches>" not in html
    html = unescape(html)
    rows = {name: row for name, row in zip(board["id"], re.findall(r"<tr data-.*?</tr>", html))}
    links = {name: re.findall(r'href="([^"]+)"', row) for name, row in rows.items()}
    assert links["a"] == ["../book/paper_1.html#a"] and "not tested" in rows["a"] and "batch <size>: 16" in rows["a"]
    assert links["d"] == [
        "../book/paper_2.html#d",
        "../notebooks/02_demo.html#one-by-one",
        "../notebooks/02_demo.html#depth",
        "../book/run_statistics.html#kept-records",
    ]
    assert links["e"] == [
        "../book/paper_2.html#e",
        "../notebooks/02_demo.html#one-by-one",
        "../notebooks/02_demo.html#depth",
        "../book/run_statistics.html#kept-records",
    ]
    assert "On <batches>" in html


def test_paper_page_lists_claims_in_order(board):
    text = pages.paper_page(LEDGER.papers[0], board[board["paper"] == 1].to_dict("records"))
    assert re.findall(r'^## .*|<tr id="\w+"', text, re.M) == [
        "## 1. Data",
        '<tr id="a"',
        '<tr id="c"',
        "## 2. Results",
        '<tr id="b"',
    ]
    assert "Of its 3 claims 1 are consistent, 1 are inconsistent, 1 are unverifiable on paper" in text
    assert "It is 32 here, and 16 in" in text
    other = pages.paper_page(LEDGER.papers[1], board[board["paper"] == 2].to_dict("records"))
    assert (
        'href="../notebooks/02_demo.html#depth"' in other
        and 'href="../book/run_statistics.html#kept-records"' in other
        and "Difference +0.2 (+0.175 to +0.225)" in unescape(other)
        and RULE["asks"] in unescape(other)
    )


def test_page_shows_verdicts_that_differ_beside_the_one_that_counts():
    sources = [source(0.2), source(0.0, noise=0.001, record="long", finished="2026-01-02")]
    board = scoreboard(LEDGER, sources)
    assert board["phantom"][3] == "no difference that matters"
    html = unescape(pages.paper_page(LEDGER.papers[1], board[board["paper"] == 2].to_dict("records")))
    assert "The run behind the page has another verdict: supported: +0.200" in html
    assert "another run has another verdict" in page.scoreboard_html(board, TITLES).data


@pytest.mark.usefixtures("closed_figures")
def test_verdict_bars_count_each_paper(board):
    figure, alt = verdict_bars(board)
    assert (
        "All claims, on paper: paper 1: 1 consistent, 1 inconsistent, 1 unverifiable; paper 2: 0 consistent, 0 "
        "inconsistent, 2 unverifiable" in alt
    )
    assert (
        "Comparative claims, on phantoms: paper 2: 1 supported, 0 contradicted, 0 no difference that matters, 0 "
        "inconclusive, 0 not tested" in alt
    )
    assert alt.endswith(
        "paper 2: 0 supported, 1 contradicted, 0 no difference that matters, 0 inconclusive, 0 not tested"
    )
    widths = [[bar.get_width() for bars in axes.containers for bar in bars] for axes in figure.axes]
    assert widths == [[1, 0, 1, 0, 1, 2], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    legible(figure)


def test_answer_counts_verdicts_and_what_survives(board):
    class Box:
        results: ClassVar = {"share decided": {"value": 1.0}}

        def answer(self, sentences, *_):
            self.sentences = sentences

    give_answer(box := Box(), board)
    assert box.sentences == [
        "Of 5 claims 1 are consistent, 1 are inconsistent, 3 are unverifiable on paper.",
        "On phantoms, 1 of 1 comparative claims were tested: 1 supported, 0 contradicted, 0 no difference that "
        "matters, 0 inconclusive. 1 of the 1 supported or contradicted ones survive Holm's correction for their "
        "number.",
        "On real radiographs, 1 of 1 comparative claims were tested: 0 supported, 1 contradicted, 0 no difference "
        "that matters, 0 inconclusive. 1 of the 1 supported or contradicted ones survive Holm's correction for their "
        "number.",
        "Claims that are supported or contradicted on both kinds of data: 1. Of these 0 have the same verdict on both.",
        "At this scale 100 % of the comparative claims are decided, on either kind of data.",
    ]


def test_scoreboard_runs_after_the_chapters():
    assert [chapter.name for chapter in chapters() if run_status.is_summary(chapter)] == ["scoreboard"]
    assert [chapter.name for chapter in run_status.chapters_to_run([find_chapter("audit")])] == [
        "paper_audit",
        "scoreboard",
    ]
    every = run_status.chapters_to_run([])
    assert every[-1].name == "scoreboard" and {chapter.name for chapter in every} == {
        chapter.name for chapter in chapters()
    }


def test_scoreboard_is_stale_when_evidence_changes(small, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(runs))
    monkeypatch.setenv("PNEUMO_RECORDS", str(tmp_path / "records"))
    monkeypatch.chdir(tmp_path)
    demo, other = (
        Chapter(small("run.scores('depth', {'deep': [0.1, 0.2]}, 'f1')")),
        Chapter(small("x = 1", name="other")),
    )
    sums = Chapter(small("from pneumo_utils.study.run_status import collect_evidence", name="sums"))
    monkeypatch.setattr(run_status, "chapters", lambda: [sums, demo, other])
    run(demo, {})
    run(sums, {})
    assert run_status.collect_evidence().keys() == {"demo"} and run_status.chapter_status(sums).state == "up to date"

    shutil.rmtree(runs / "demo")
    run(demo, {})  # at another time, with the same to say
    assert run_status.chapter_status(sums).state == "up to date"

    run(other, {})
    assert run_status.chapter_status(sums).why == ["what other has measured has changed"]
    record_chapter(demo, "long", {})
    assert run_status.chapter_status(sums).why == [
        "what demo has measured has changed",
        "what other has measured has changed",
    ]
    measured = run_status.collect_evidence()["demo"]
    assert [each.record for each in measured] == ["", "long"]
    assert [each.values for each in measured] == [{("depth", "deep", "f1"): {0: 0.1, 1: 0.2}}] * 2
    assert "results" not in run_status.run_dependencies(other, {})


def test_section_of_a_cell_is_the_nearest_label_above(tmp_path):
    cells = [
        ("markdown", "# Title"),
        ("code", "first()"),
        ("markdown", "(one)=\n## One\n\n(two)=\n### Two"),
        ("code", "second()\n"),
        ("markdown", "### Three"),
        ("code", "third()"),
    ]
    path = tmp_path / "demo.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": kind, "source": [source]} for kind, source in cells]}))
    assert [Chapter(path).section_label(source) for source in ("first()", "second()", "third()", "by_hand()")] == [
        "",
        "two",
        "two",
        "",
    ]


def test_scoreboard_without_runs_shows_paper_verdicts(execute):
    results, notebook = execute(find_chapter("scoreboard"), {})
    values = {name: result["value"] for name, result in results["results"].items()}
    comparative = values.pop("comparative claims"), values.pop("comparative claims with a rule")
    assert comparative[0] > comparative[1] > 100
    assert values.pop("not tested on phantoms") == values.pop("not tested on real radiographs") == comparative[0]
    on_paper = [values.pop(f"{verdict} on paper") for verdict in PAPER_VERDICTS]
    assert values.pop("claims") == sum(on_paper) == len(load_ledger().claims)
    assert values == dict.fromkeys(values, 0)
    assert "No run has decided a claim" in shown(notebook, "begin")
    assert '<span class="verdict supported">' in shown(notebook, "picture")
    assert len(re.findall("<tr data-", shown(notebook, "claims"))) == len(load_ledger().claims)


@pytest.fixture
def opened(browser, board):
    """The scoreboard alone, with the book's own script and style."""
    contexts = []

    def open_page(scripts=True, width=1000):
        context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=scripts)
        contexts.append(context)
        tab = context.new_page()
        tab.complaints = []
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        static = ROOT / "book" / "_static"
        script, style = ((static / name).read_text() for name in ("scoreboard.js", "book.css"))
        tab.set_content(
            f"<!doctype html><style>{style}</style><script>{script}</script>{page.scoreboard_html(board, TITLES).data}"
        )
        return tab

    yield open_page
    for context in contexts:
        context.close()


ALL_SHOWN = "document.querySelector('[role=status]').textContent === '5 of 5 claims'"


def left(tab) -> list[str]:
    return [row.inner_text().split(":")[0] for row in tab.locator("tbody tr:visible td:first-child").all()]


@pytest.mark.browser
def test_scoreboard_filters_work_by_keyboard(opened):
    tab = opened()
    status = tab.get_by_role("status")
    assert status.inner_text() == "5 of 5 claims" and status.get_attribute("aria-live") == "polite"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.name") == "paper"
    tab.keyboard.press("ArrowDown")
    assert left(tab) == ["batch <size>", "again", "once more"] and status.inner_text() == "3 of 5 claims"
    for _ in range(2):
        tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowDown")  # on paper: consistent
    assert left(tab) == ["again"] and status.inner_text() == "1 of 5 claims"
    for _ in range(3):
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_function(ALL_SHOWN)
    assert (
        len(left(tab)) == 5
        and tab.get_by_role("combobox", name="Paper", exact=True).input_value() == ""
        and tab.complaints == []
    )


@pytest.mark.browser
def test_each_filter_applies_to_its_column(opened):
    tab = opened()
    for name, chosen, there in (
        ("Kind", "count", ["once more"]),
        ("On phantoms", "supported", ["deep beats shallow"]),
        ("On real radiographs", "supported", []),
        ("On real radiographs", "contradicted", ["deep beats shallow"]),
    ):
        tab.get_by_role("combobox", name=name, exact=True).select_option(chosen)
        assert left(tab) == there
        tab.get_by_role("button", name="Show all").click()
        tab.wait_for_function(ALL_SHOWN)


@pytest.mark.browser
def test_scoreboard_without_scripts_is_a_table_that_fits(opened):
    plain = opened(scripts=False)
    assert (
        len(left(plain)) == 5 and plain.locator("form").is_hidden() and plain.get_by_role("columnheader").count() == 5
    )
    phone = opened(width=390)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    tops = [cell.bounding_box()["y"] for cell in phone.locator("tbody tr:nth-child(4) td").all()]
    assert tops == sorted(set(tops))  # a card: one under the other
