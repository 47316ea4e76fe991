"""The page that compares two runs: its content, its text without scripts, and no path of the machine."""

import json
import re

import pytest

from pneumo_utils.study import compare
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.make_record import record_chapter
from pneumo_utils.study.run import run
from pneumo_utils.study.run_status import chapter_status

SCORES = (
    "run.result('score', 0.5 + seed / 10, 0.45 + seed / 10, 0.55 + seed / 10)\nrun.result('same & loss', "
    "1/3, 0.0, 1.0)\nrun.result(f'own {seed}', seed)"
)
USES = "run.describe_inputs(data=f'images in {data_root}', weights='none')\nrun.finish()"


@pytest.mark.parametrize(
    "first, second, expected",
    [
        ([1, 0, 2], [3, 2.5, 4], True),
        ([3, 2.5, 4], [1, 0, 2], True),
        ([1, 0, 2], [3, 2, 4], False),
        ([1, 0, 9], [3, 2, 4], False),
        ([1, None, None], [3, 2, 4], False),
        ([1, 0, 2], ["undefined", "undefined", "undefined"], False),
    ],
)
def test_intervals_disjoint(first, second, expected):
    assert compare.intervals_disjoint(first, second) is expected


def test_comparison_page_lists_all_runs(small, tmp_path, monkeypatch, runs):
    monkeypatch.setenv("PNEUMO_RUNS", str(runs))
    monkeypatch.setenv("PNEUMO_RECORDS", str(tmp_path / "records"))
    data = tmp_path / "private" / "children"
    data.mkdir(parents=True)
    chapter = Chapter(small(SCORES, finish=USES))
    monkeypatch.setattr(compare, "find_chapter", lambda name: chapter)
    record_chapter(chapter, "long", {"seed": 3})
    kept = run(chapter, {"seed": 3, "data_root": str(data)})
    run(chapter, {})
    text = compare.comparison_page({"demo": chapter_status(chapter)})
    assert str(tmp_path) not in text and "private" not in text

    stored = json.loads(re.search(r'<script type="application/json" id="runs-to-compare">(.*?)</script>', text)[1])
    held = {run["name"]: run for run in stored["A small chapter"]}
    assert list(held) == [
        "the book's run",
        "record long",
        f"kept run {kept.folder.name}",
    ]  # the record's run is another of them only before it is recorded
    assert (
        held["record long"]["results"]["score"] == [0.8, 0.75, 0.85]
        and held[f"kept run {kept.folder.name}"]["parameters"]["data_root"] == "children"
    )

    plain = text[text.index("<details>") :]
    rows = [[*re.findall(r"<td>(.*?)</td>", row)] for row in re.findall(r"<tr>(.*?)</tr>", plain) if "<td>" in row]
    assert rows == [
        ["seed", "0", "3"],
        ["score", "0.5 (0.45 to 0.55)", "0.8 (0.75 to 0.85)", "apart"],
        ["same &#38; loss", "0.3333 (0 to 1)", "0.3333 (0 to 1)", ""],
    ]
    assert "2 results are in only one of the two runs" in plain
