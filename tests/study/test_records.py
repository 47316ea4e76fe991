"""Records of runs: their content, what they must not hold, when they make a page stale, and their verdicts."""

import json
import os
import re
import subprocess

import numpy as np
import pytest
from chapter_runs import results_of

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.study import pages, records
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.make_record import record_chapter, record_settings
from pneumo_utils.study.measurements import load_predictions, save_predictions
from pneumo_utils.study.run import run
from pneumo_utils.study.run_status import chapter_status, completed_manifest, read_run

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
    "{data_root}')\nrun.scores('depth', {'deep': [0.5, 0.6, 0.7], 'shallow': [0.4] * 3}, 'f1', n=20)"
    "\nrun.quantity('heat', 0.1, [0.05, 0.1, 0.15], n=9)"
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
    assert record["quantities"]["heat"] == {"value": 0.1, "resamples": [0.05, 0.1, 0.15], "section": "", "n": 9}
    assert (kept / "demo" / "long.csv").read_text().splitlines()[:2] == [
        "experiment,variant,draw,seed,fold,metric,value,n",
        "depth,deep,0,3,,f1,0.5,20",
    ]
    assert record["rules"]["p1-title"] == rule_of(load_ledger()["p1-title"]).digest
    before = (kept / "demo" / "long.json").read_bytes()
    assert (
        "from the run that was there"
        in pneumo("record", chapter().path, "long", "-p", "draws", 7, "-p", "seed", 3).stdout
    )
    assert (kept / "demo" / "long.json").read_bytes() == before  # though the record itself is new to the chapter


SURVEY = """
run.mean_results("depth", {"shallow": [0.2, 0.4, 0.6], "deep": [0.5 + seed / 100] * 3}, "of a well")
run.mean_results("loss", {"all": [2.0, 4.0]}, max_value=float("inf"))
display(run.paper_claims(["p1-best-f1", "p1-worst", "p4-test-accuracy", "p5-yolo-images-predicted"]))
"""


def test_page_shows_surveys_of_records(chapter, kept):
    made = chapter(SURVEY, "run.compare_with_records('depth', 'breadth')")
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
        "[long] = run.recorded.values()\nrun.result('again', *long.value('f1'))\n"
        "run.result('spoke', f\"{long.measured.record}: {long.measured.values['depth', 'deep', 'f1']}\")"
    )
    results = results_of(run(shows, {}).folder)["results"]
    assert results["again"] == {"value": pytest.approx(0.71), "low": 0.4, "high": 0.9}
    assert results["spoke"] == {"value": "long: {0: 0.5, 1: 0.6, 2: 0.7}"}


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
        (lambda text: text.replace('"resamples"', '"again"'), "quantities lack a value or resamples: heat"),
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


def test_record_without_its_scores_or_of_an_older_format_is_refused(chapter, kept):
    path, _ = record_chapter(chapter(), "long", {})
    scores = path.with_suffix(".csv").read_text()
    for harm in (
        scores.replace("metric", "score"),
        scores.replace("0.5", "half"),
        scores + "width,deep,0,,,f1,0.5,20\n",
    ):
        path.with_suffix(".csv").write_text(harm)
        with pytest.raises(StudyError, match="records/demo/long"):
            records.read_records("demo")
    path.with_suffix(".csv").unlink()
    with pytest.raises(StudyError, match="table of scores"):
        records.read_records("demo")
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(StudyError, match="older format.*Make it again with `pneumo record demo long`"):
        records.read_records("demo")


def test_run_of_an_older_format_is_refused(chapter, kept):
    folder = run(chapter(), {}).folder
    (folder / "results.json").write_text((folder / "results.json").read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(StudyError, match="older version.*Make it again with `pneumo run demo`"):
        read_run(folder)


def test_record_of_the_book_has_settings_that_were_committed_before(chapter, kept, monkeypatch, tmp_path):
    """In a repository; without one, or with a folder of one's own, nothing is fixed."""
    made = chapter()
    settings = made.path.parent / "params" / "records" / "demo" / "long.yml"
    settings.parent.mkdir(parents=True)
    settings.write_text("draws: 7\n")
    path, _ = record_chapter(made, "long", {"seed": 2})
    assert read_json(path)["parameters"]["draws"] == 7 and read_json(path)["parameters"]["seed"] == 2

    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
            cwd=made.path.parent,
            check=True,
            capture_output=True,
        )

    git("init")
    with pytest.raises(StudyError, match="commit .*long.yml first"):
        record_settings(made, "long", {}, fixed=True)
    git("add", "params")
    git("commit", "-m", "settings")
    assert record_settings(made, "long", {"data_root": str(tmp_path)}, fixed=True) == {"draws": 7}
    with pytest.raises(StudyError, match="seed cannot be changed with the command"):
        record_settings(made, "long", {"seed": 3}, fixed=True)
    settings.write_text("draws: 8\n")
    with pytest.raises(StudyError, match="commit .*long.yml first"):
        record_settings(made, "long", {}, fixed=True)
    with pytest.raises(StudyError, match="write them to .*other.yml"):
        record_settings(made, "other", {}, fixed=True)


def test_every_committed_record_has_committed_settings():
    for place in (records.ROOT / "book" / "records").iterdir():
        if place.is_dir():
            chapter = find_chapter(place.name)
            for record in records.read_records(place.name).values():
                fixed = record_settings(chapter, record.name, {}, fixed=False)
                assert {name: record.parameters[name] for name in fixed} == fixed, (place.name, record.name)


def test_predictions_of_an_experiment_are_saved_and_loaded(tmp_path):
    random = np.random.default_rng(0)

    def predicted(images):
        return Predictions(
            [f"{i}.png" for i in range(images)],
            [""] * images,
            random.integers(0, 2, images),
            random.random(images),
            ["no", "yes"],
        )

    predictions = {("deep", 0): predicted(5), ("shallow", 0): predicted(5), ("deep, wide / long", 1): predicted(7)}
    path = tmp_path / "predictions" / "depth.npz"
    save_predictions(path, predictions)
    save_predictions(path, {("late", 2): (late := predicted(4))})
    loaded = load_predictions(path)
    assert {name: each.digest for name, each in loaded.items()} == {
        name: each.digest for name, each in (predictions | {("late", 2): late}).items()
    }
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StudyError, match="Make the run again"):
        load_predictions(path)


def test_committed_records_are_complete():
    for place in (records.ROOT / "book" / "records").iterdir():
        if place.is_dir():
            assert find_chapter(place.name).path.exists() and records.read_records(place.name), place


def test_chapter_shows_records_and_verdicts(chapter, kept, pneumo):
    work = (
        WORK,
        "shown = run.show_records()",
        "verdicts = run.verdicts(['p1-best-f1'])",
        "run.save_table('shown', [shown.data, verdicts.data])",
    )
    shown, verdicts = read_json(run(chapter(*work), {}).folder / "shown.json")
    assert "`pneumo record demo NAME` makes one" in shown and 'id="tab-verdicts"' in verdicts
    assert pneumo("record", chapter(*work).path, "long", "-p", "draws", 7).returncode == 0
    shown, _ = read_json(run(chapter(*work), {}).folder / "shown.json")
    record, data, weights, settings, made = re.findall("<td>(.*?)</td>", shown)
    assert (
        (record, data, weights) == ("long", "nothing", "pocket")
        and settings == "by hand"
        and re.match("in .* on .*CPU", made)
    )
