"""Records of runs: their content, what they must not hold, when they make a page stale, and their verdicts."""

import json
import os
import re

import pytest
from chapter_runs import results_of

from pneumo_utils.claims.ledger import load_ledger, merge_evidence
from pneumo_utils.claims.verdicts import rerun_verdicts, verdict_table
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json
from pneumo_utils.study import pages, records
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.make_record import record_chapter
from pneumo_utils.study.run import run
from pneumo_utils.study.run_status import chapter_status, completed_manifest

PARAMETERS = """\
seed: int = 0  # [0, 100] seed of all that is random
draws: int = 2  # [2, 1000] draws
weights: str = "pocket"  # pocket, or the path of a file
data_root: str = ""  # {folder} with data; empty: none
max_steps: int = 0  # [0, 1000] batches, for a trial; 0: all
"""
WORK = (
    "def piece(n):\n    return n * seed\n\nvalue = run.cached_result('piece', piece, n=draws)\n"
    "run.result('f1', 0.5 + value / 100, 0.4, 0.9, baseline=0.3, note=f'weights {weights} and data "
    "{data_root}')\nrun.claim('p1-best-f1', 0.1, 0.05, 0.15)"
)
FINISH = "run.describe_inputs(data=f'{data_root or \"nothing\"}', weights=weights, real=bool(data_root))\nrun.finish()"


@pytest.fixture
def kept(tmp_path, monkeypatch, runs):
    """Where records go in these tests, and the folder that runs stand in."""
    monkeypatch.setenv("PNEUMO_RUNS", str(runs))
    monkeypatch.setenv("PNEUMO_RECORDS", str(tmp_path / "records"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "records"


@pytest.fixture
def chapter(small):
    return lambda *middle, name="demo", finish=FINISH: Chapter(
        small(*middle or (WORK,), name=name, parameters=PARAMETERS, finish=finish)
    )


def test_record_command_runs_and_writes(chapter, kept, pneumo, runs):
    made = pneumo("record", chapter().path, "long", "-p", "draws", 7, "-p", "seed", 3)
    assert made.returncode == 0, made.stderr
    assert "records/demo/long.json" in made.stdout and "Commit this file" in made.stdout
    (folder,) = (path.parent for path in (runs / "demo").glob("*/manifest.json"))
    manifest, record = completed_manifest(folder), json.loads((kept / "demo" / "long.json").read_text())
    for key in ("device", "seconds", "peak_memory_mb", "finished", "git", "digest", "parameters"):
        assert record[key] == manifest[key], key
    assert record["versions"] == manifest["depends_on"]["versions"]
    assert record["results"]["f1"]["value"] == pytest.approx(0.5 + 7 * 3 / 100)
    assert record["claims"] == {"p1-best-f1": {"value": 0.1, "low": 0.05, "high": 0.15}}
    before = (kept / "demo" / "long.json").read_bytes()
    assert (
        "from the run that was there"
        in pneumo("record", chapter().path, "long", "-p", "draws", 7, "-p", "seed", 3).stdout
    )
    assert (kept / "demo" / "long.json").read_bytes() == before  # though the record itself is new to the chapter


SURVEY = """
from pneumo_utils.evaluation.comparison import paired_difference
run.mean_results("depth", {"shallow": [0.2, 0.4, 0.6], "deep": [0.5 + seed / 100] * 3}, "of a well")
run.mean_results("loss", {"all": [2.0, 4.0]}, max_value=float("inf"))
better, unclear = paired_difference([0.2, 0.3, 0.4]), paired_difference([0.1, 0.3], [0.4, 0.2])
display(run.judge({"p1-best-f1": better, "p1-worst": unclear}))
display(run.paper_claims(["p1-best-f1", "p1-worst", "p4-test-accuracy", "p5-yolo-images-predicted"]))
"""


def test_page_shows_surveys_and_verdicts_of_records(chapter, kept):
    made = chapter(SURVEY, "run.compare_with_records('depth', 'breadth')")
    assert set(results_of(run(made, {}).folder)["claims"]) == {"p1-best-f1", "p1-worst"}
    record_chapter(made, "deeper-well", {"seed": 9})
    folder = run(made, {}).folder
    results = results_of(folder)["results"]
    assert (
        results["depth: shallow"]["value"] == pytest.approx(0.4)
        and results["depth: shallow"]["low"] == 0
        and "of a well, mean of 3 draws" in results["depth: shallow"]["note"]
    )
    assert results["loss: all"]["high"] > 1
    page = (folder / "notebook.ipynb").read_text()
    assert "on record, deeper well" in page and "0.590" in page  # 0.5 + 9 / 100
    assert "**Breadth**" in page and "on no record" in page
    assert "+0.300 (" in page and ">yes<" in page and ">no<" in page
    assert all(
        f"<td>{text}</td>" in page
        for text in (
            "what is done with block 4 in the best model: unfreeze",
            "the worst model is the one with dropout",
            "test accuracy: 91.4%",
            "test images with any predicted box: 24",
        )
    )


def test_chapter_reads_its_records(chapter, kept):
    record_chapter(chapter(), "long", {"draws": 7, "seed": 3})
    record = records.read_records("demo")["long"]
    assert record.value("f1") == (pytest.approx(0.71), 0.4, 0.9)
    assert (
        record.words == f"nothing · settings: by hand · weights: pocket · {record.seconds:.0f} s on {record.device} · "
        f"{record.finished[:10]}"
    )
    with pytest.raises(StudyError, match="no result 'ff1'; did you mean 'f1'"):
        record.value("ff1")
    shows = chapter(
        "[long] = run.recorded.values()\nrun.result('again', *long.value('f1'))\nrun.claim('p1-worst', "
        "1.0, 0.5, 1.5)\n"
        "first, second = run.evidence()\nrun.result('spoke', f\"{[*first['claims']]} {second['record']} "
        "{[*second['claims']]}\")"
    )
    results = results_of(run(shows, {}).folder)["results"]
    assert results["again"] == {"value": pytest.approx(0.71), "low": 0.4, "high": 0.9}
    assert results["spoke"] == {"value": "['p1-worst'] long ['p1-best-f1']"}


def test_records_hold_no_local_path(chapter, kept, tmp_path):
    data = tmp_path / "private" / "kermany_224"
    (data / "train").mkdir(parents=True)
    for name in ("a.png", "train/b.png"):
        (data / name).write_bytes(b"grey")
    weights = tmp_path / "private" / "mine.safetensors"
    weights.write_bytes(b"numbers")
    given = {"data_root": os.path.relpath(data) + "/", "weights": str(weights)}
    path, _ = record_chapter(chapter(), "real-children", given)
    text = path.read_text()
    assert str(tmp_path) not in text and "private" not in text and not re.search(r'[" ]/\w', text)
    record = records.read_record(path)
    assert record.data == record.parameters["data_root"] == "kermany_224"
    assert record.weights == record.parameters["weights"] == "mine.safetensors"
    assert record.results["f1"]["note"] == "weights mine.safetensors and data kermany_224"
    assert {name: folder["files"] for name, folder in record.folders.items()} == {"data_root": 2, "weights": 1}
    before = record.folders["data_root"]["digest"]
    (data / "c.png").write_bytes(b"more")
    path, _ = record_chapter(chapter(), "real-children", given)
    assert (
        records.read_record(path).folders["data_root"]["digest"] != before
        and records.read_record(path).folders["data_root"]["files"] == 3
    )


def test_path_in_a_text_is_refused(chapter, kept):
    speaks = chapter("run.result('found', 1, note='read from /srv/hospital/private/list.csv')")
    with pytest.raises(StudyError, match="/srv/hospital/private/list.csv.*a record is committed"):
        record_chapter(speaks, "long", {})
    assert not list(kept.rglob("*.json"))
    web = chapter("run.result('found', 1, note='see https://example.org/a/b, and/or 3/4/5')")
    assert record_chapter(web, "long", {})[0].exists()


@pytest.mark.parametrize("name", ["Long", "long run", "../long", "long.json", "", "-long", "long_run"])
def test_record_name_must_be_a_plain_word(chapter, kept, name):
    with pytest.raises(StudyError, match="lower-case letters, digits and hyphens"):
        record_chapter(chapter(), name, {})


def test_trial_run_is_not_recorded(chapter, kept, pneumo, runs):
    done = pneumo("record", chapter().path, "long", "-p", "max_steps", 3)
    assert done.returncode == 1 and "max_steps = 3" in done.stderr and "a trial is no record" in done.stderr
    assert not runs.exists() and not kept.exists()


def test_unwritable_folder_is_reported_before_the_run(chapter, kept, runs):
    kept.write_text("in the way")
    with pytest.raises(StudyError, match="Records cannot be written .* PNEUMO_RECORDS"):
        record_chapter(chapter(), "long", {})
    assert not (runs / "demo").exists()


def test_new_record_makes_only_its_page_stale(chapter, kept, runs, capsys):
    first, second = chapter(), chapter(name="other")
    for item in (first, second):
        run(item, {"seed": 1})
    pieces = {path.name for path in (runs / "kept").rglob("piece-*")}
    record_chapter(first, "long", {"seed": 1})  # found, not run again
    assert len(list((runs / "demo").glob("*/manifest.json"))) == 1
    status = chapter_status(first, {"seed": 1})
    assert (status.state, status.why) == ("stale", ["the record long is new"]) and chapter_status(
        second, {"seed": 1}
    ).state == "up to date"
    capsys.readouterr()
    assert not run(first, {"seed": 1}).from_cache and "piece: found again" in capsys.readouterr().out
    assert {path.name for path in (runs / "kept").rglob("piece-*")} == pieces
    path = kept / "demo" / "long.json"
    path.write_text(path.read_text().replace("0.9", "0.8"))
    assert chapter_status(first, {"seed": 1}).why == ["the record long has changed"]
    path.unlink()
    assert chapter_status(first, {"seed": 1}).state == "up to date"  # the first run stands again


@pytest.mark.parametrize(
    "harm, says",
    [
        (lambda text: text[:200], "damaged"),
        (lambda text: "[]", "does not hold what a record holds"),
        (lambda text: text.replace('"weights"', '"weigths"', 1), "does not hold what a record holds"),
        (lambda text: text.replace('"real": false', '"real": "no"'), "real cannot be what stands there"),
        (lambda text: text.replace('"name": "long"', '"name": "short"'), "calls itself demo/short"),
        (lambda text: text.replace('"low": 0.05,', ""), "claims lack a value or an interval: p1-best-f1"),
        (
            lambda text: text.replace('"results": {', '"results": {"empty": {},'),
            "results lack a value or an interval: empty",
        ),
    ],
)
def test_damaged_record_is_refused(chapter, kept, harm, says):
    path, _ = record_chapter(chapter(), "long", {})
    path.write_text(harm(path.read_text()))
    with pytest.raises(StudyError, match=re.escape(says)) as error:
        records.read_records("demo")
    assert (
        "records/demo/long.json" in str(error.value)
        and "git checkout" in str(error.value)
        and "pneumo record demo long" in str(error.value)
    )


def test_run_statistics_list_records(chapter, kept):
    assert "None has been kept yet." in pages.statistics_page([], [])
    record_chapter(chapter(), "long", {"draws": 7})
    manifest = run(chapter(), {}).manifest
    text = pages.statistics_page([manifest], list(records.read_records("demo").values()))
    (row,) = (
        line
        for line in text.splitlines()
        if line.startswith(f"| [{manifest['title']}](../notebooks/demo.ipynb) | long | nothing |")
    )
    record = records.read_records("demo")["long"]
    assert record.device in row and record.finished[:10] in row


def ran(low, high, real=False, tier="pocket", **more):
    return {
        "chapter": "demo",
        "real": real,
        "tier": tier,
        "claims": {"p1-best-f1": {"value": (low + high) / 2, "low": low, "high": high}},
    } | more


FRESH, LONG, REAL = (
    ran(-0.1, 0.3),
    ran(0.05, 0.15, record="long", finished="2026-01-02"),
    ran(-0.2, -0.1, real=True, record="children", finished="2026-01-03"),
)
CLAIM = load_ledger()["p1-best-f1"]  # an ordering


def test_phantom_and_real_evidence_have_separate_verdicts():
    verdicts = rerun_verdicts(CLAIM, merge_evidence([FRESH, REAL]))
    assert (verdicts["phantom"], verdicts["real"]) == ("not reproduced", "not reproduced")
    assert (
        "does not show: difference +0.1" in verdicts["because"]
        and "the other way round: difference -0.15" in verdicts["because"]
    )
    assert verdicts["because"].endswith("on real data at pocket settings. Kept record: children.")
    assert rerun_verdicts(CLAIM, merge_evidence([])) == {
        "phantom": "not tested",
        "real": "not tested",
        "because": "No run has reported on it.",
    }


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_evidence_precedence_paper_settings_record_run(order):
    runs = [FRESH, LONG, ran(0.01, 0.02, record="longer", finished="2026-02-01"), ran(-0.3, -0.2, tier="paper")]

    def heard(*which):
        return merge_evidence([runs[index] for index in order if index in which])["phantom"]["p1-best-f1"]

    assert heard(0)["record"] == "" and heard(0, 1)["record"] == "long" and heard(0, 1, 2)["record"] == "longer"
    assert heard(0, 1, 2, 3)["high"] == -0.2


def test_verdict_table_covers_runs_and_records():
    ledger = load_ledger()
    table = verdict_table(ledger, ["p1-best-f1", "p1-best-f1-score", "p1-best-f1"], merge_evidence([FRESH, LONG, REAL]))
    assert list(table) == ["claim", "printed", "on paper", "phantom", "real", "because"]
    assert table["claim"].tolist() == [CLAIM.says, ledger["p1-best-f1-score"].says, CLAIM.says]
    assert table["phantom"].tolist() == ["reproduced", "not tested", "reproduced"]
    assert table["real"].tolist() == ["not reproduced", "not tested", "not reproduced"]
    assert table["printed"][1] == "0.868" and table["on paper"][1] == "consistent"
    assert table["because"][0] == rerun_verdicts(CLAIM, merge_evidence([FRESH, LONG, REAL]))["because"]
    assert "Kept record: long." in table["because"][0] and "Kept record: children." in table["because"][0]


def test_committed_records_are_complete():
    for place in (records.ROOT / "book" / "records").iterdir():
        if place.is_dir():
            assert (records.ROOT / "notebooks" / f"{place.name}.ipynb").exists() and records.read_records(place.name), (
                place
            )


def test_chapter_shows_records_and_verdicts(chapter, kept, pneumo):
    work = (
        WORK,
        "shown = run.show_records()",
        "verdicts = run.verdicts(['p1-best-f1'])",
        "run.save_table('shown', [shown.data, verdicts.data])",
    )
    shown, verdicts = read_json(run(chapter(*work), {}).folder / "shown.json")
    assert "`pneumo record demo NAME -p ...` makes one" in shown and 'id="tab-verdicts"' in verdicts
    assert pneumo("record", chapter(*work).path, "long", "-p", "draws", 7).returncode == 0
    shown, _ = read_json(run(chapter(*work), {}).folder / "shown.json")
    record, data, weights, settings, made = re.findall("<td>(.*?)</td>", shown)
    assert (
        (record, data, weights) == ("long", "nothing", "pocket")
        and settings == "by hand"
        and re.match("in .* on .*CPU", made)
    )
