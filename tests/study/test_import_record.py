"""Importing a run from elsewhere: complete and matching runs are accepted, others refused with a reason."""

import json
import shutil

import pytest

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, sha256_hex
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.make_record import import_record
from pneumo_utils.study.parameters import chapter_parameters
from pneumo_utils.study.run import run

AUDIT = "".join(
    next(
        cell for cell in find_chapter("audit").notebook()["cells"] if "parameters" in cell["metadata"].get("tags", [])
    )["source"]
)
FINISH = (
    "run.describe_inputs(data=f'tables in {nih_tables}', weights='none')\nrun.result('rows', 7.0, 5.0, 9.0, "
    "baseline=6.0, "
    "note=f'of {nih_tables}')\n"
    "run.scores('depth', {'deep': [0.5, 0.6]}, 'f1')\nrun.finish()"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of a chapter of that name and those parameters, made where its data lay."""
    from chapter_runs import write_notebook

    place = tmp_path_factory.mktemp("elsewhere")
    data = place / "private" / "tables"
    data.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_RUNS", str(place / "runs"))
        folder = run(
            Chapter(write_notebook(place / "paper_audit.ipynb", parameters=AUDIT, finish=FINISH)),
            {"nih_tables": str(data), "seed": 3},
        ).folder
    data.rmdir()  # it does not lie here
    return folder


@pytest.fixture
def brought(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RECORDS", str(tmp_path / "records"))
    return shutil.copytree(made, tmp_path / "brought")


def change(folder, alter, sign=True):
    """Alter what the manifest and the results say; `sign` brings all digests into line, as a run that had found it
    so would have.
    """
    manifest, results = (json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "results"))
    alter(manifest, results)
    (folder / "results.json").write_text(json.dumps(results))
    if sign:
        manifest["depends_on"]["parameters"] = manifest["parameters"]
        manifest["digest"] = json_digest(manifest["depends_on"])[:12]
        manifest["files"]["results.json"] = sha256_hex((folder / "results.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_imported_run_becomes_a_record_without_paths(brought, pneumo, tmp_path, monkeypatch):
    for name in ("figures", "notebook.ipynb"):  # may stay where they are
        shutil.rmtree(brought / name, ignore_errors=True)
        (brought / name).unlink(missing_ok=True) if not (brought / name).is_dir() else None
    done = pneumo("record", "add", brought, "from-afar")
    assert done.returncode == 0 and "paper_audit: imported as from-afar" in done.stdout, done.stderr
    text = (tmp_path / "records" / "paper_audit" / "from-afar.json").read_text()
    record = records.read_records("paper_audit")["from-afar"]
    assert (
        record.parameters["nih_tables"] == "tables"
        and record.data == "tables in tables"
        and record.results["rows"]["note"] == "of tables"
    )
    assert record.value("rows") == (7.0, 5.0, 9.0) and record.measured.values["depth", "deep", "f1"] == {0: 0.5, 1: 0.6}
    assert "private" not in text and str(tmp_path.parent) not in text
    assert record.folders == {
        "nih_tables": {
            "digest": json.loads((brought / "manifest.json").read_text())["depends_on"]["data"]["nih_tables"]
        }
    }
    with pytest.raises(StudyError, match="a record 'from-afar' of paper_audit already"):
        import_record(brought, "from-afar")


def both(**changes):
    return lambda manifest, results: (manifest.update(changes), results.update(changes))


def a_trial(manifest, results):
    values = {name: parameter.default for name, parameter in chapter_parameters(find_chapter("1")).items()} | {
        "max_steps": 2
    }
    both(chapter="01_surgical_finetuning", parameters=values)(manifest, results)


@pytest.mark.parametrize(
    "alter, says",
    [
        (both(chapter="06_no_such_chapter"), "There is no chapter '06_no_such_chapter'"),
        (both(chapter="audit"), "no chapter here is called so; paper_audit comes nearest"),
        (a_trial, "max_steps = 2 makes a trial of a few steps, and a trial is no record"),
        (
            lambda m, r: (m["parameters"].pop("seed"), r["parameters"].pop("seed")),
            "another version of paper_audit.*seed.*Run it again",
        ),
        (lambda m, r: (m["parameters"].update(bootstrap=5), r["parameters"].update(bootstrap=5)), "bootstrap lies in"),
        (lambda m, r: r["parameters"].update(seed=4), "manifest.json and results.json differ in parameters"),
        (lambda m, r: r.update(real=True), "manifest.json and results.json differ in real"),
        (lambda m, r: r.update(format=1), "an older version and has no table of scores"),
        (
            lambda m, r: r["results"]["rows"].update(note="see /srv/hospital/private/list.csv"),
            "A path of this machine, /srv/hospital/private/list.csv",
        ),
        (
            lambda m, r: r["results"]["rows"].update(note="data:image/png;base64," + "iVBOR" * 100),
            "a record holds no picture: rows",
        ),
        (lambda m, r: r["results"].update(empty={}), "results lack a value"),
        (lambda m, r: m.pop("device"), "no manifest that `pneumo run` wrote"),
    ],
)
def test_unsuitable_runs_are_refused(brought, tmp_path, alter, says):
    change(brought, alter)
    with pytest.raises(StudyError, match=says):
        import_record(brought, "from-afar")
    assert not list((tmp_path / "records").rglob("*.json"))


@pytest.mark.parametrize(
    "harm, says",
    [
        (
            lambda folder: change(folder, lambda m, r: r["results"]["rows"].update(value=99), sign=False),
            "results.json is not the file that its manifest tells of",
        ),
        (lambda folder: (folder / "notebook.ipynb").write_text("{}"), "notebook.ipynb is not the file"),
        (
            lambda folder: change(folder, lambda m, r: m["depends_on"]["versions"].update(torch="0"), sign=False),
            "does not have the digest of what it lists",
        ),
        (lambda folder: (folder / "manifest.json").unlink(), "is not the folder of a run: manifest.json"),
        (lambda folder: (folder / "results.json").unlink(), "is not the folder of a run: results.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "no manifest that `pneumo run` wrote"),
        (lambda folder: shutil.rmtree(folder), "is not the folder of a run"),
    ],
)
def test_manifest_that_does_not_match_its_files_is_refused(brought, tmp_path, harm, says):
    harm(brought)
    with pytest.raises(StudyError, match=says):
        import_record(brought, "from-afar")
    assert not list((tmp_path / "records").rglob("*.json"))


def test_record_name_is_a_plain_word(brought):
    with pytest.raises(StudyError, match="lower-case letters"):
        import_record(brought, "From afar")
