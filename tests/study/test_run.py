"""Running a chapter: what is stored, what is found again, what makes a run stale, and what survives a kill."""

import json
import os
import signal
import sys
import time
import types

import nbformat
import pytest
from chapter_runs import ROOT

from pneumo_utils.common import code_digest
from pneumo_utils.common.code_digest import declared_reads, digest_dependencies, imported_modules
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest
from pneumo_utils.study import run_context, run_status
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.parameters import resolve_parameters
from pneumo_utils.study.result_cache import canonical_form
from pneumo_utils.study.run import run
from pneumo_utils.study.run_status import (
    chapter_status,
    completed_manifest,
    is_manifest,
    list_changes,
    run_dependencies,
)


@pytest.fixture
def here(monkeypatch, runs, tmp_path):
    monkeypatch.setenv("PNEUMO_RUNS", str(runs))
    monkeypatch.chdir(tmp_path)


def test_run_writes_one_folder(small, pneumo, runs):
    notebook = small(
        "import matplotlib.pyplot as plt\nfigure, axis = plt.subplots()\naxis.plot([0, 1])\nrun.figure(figure, "
        "'line', alt='a line that rises')"
    )
    done = pneumo("run", notebook, "-p", "seed", 21)
    assert done.returncode == 0, done.stderr
    (folder,) = (runs / "demo").glob("*")
    manifest, results = (json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "results"))
    assert results["results"]["seed doubled"] == {"value": 42}
    assert manifest["seed"] == 21 and manifest["parameters"]["lr"] == 0.1
    assert (folder / "figures" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert "the work" in (folder / "log.txt").read_text().lower()
    (output,) = [
        o
        for cell in nbformat.read(folder / "notebook.ipynb", 4).cells
        for o in cell.get("outputs", [])
        if "image/png" in o.get("data", {})
    ]
    assert output.metadata["image/png"]["alt"] == "a line that rises"
    for key in ("digest", "depends_on", "device", "cells", "peak_memory_mb", "git", "finished", "seconds"):
        assert manifest[key] not in (None, "", [], {}), key
    assert set(manifest["depends_on"]) == {"notebook", "package", "parameters", "data", "versions", "records"}
    assert not [path for path in runs.rglob("*") if ".attempt" in path.name or ".failed" in path.name]


def test_finished_run_is_reused_until_something_changes(small, here, tmp_path, runs):
    marker = tmp_path / "executed"
    chapter = Chapter(small(f"open({str(marker)!r}, 'a').write('x')"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.png").write_bytes(b"one")
    given = {"data_root": str(data)}

    assert not run(chapter, given).from_cache
    assert run(chapter, given).from_cache
    assert marker.read_text() == "x"
    assert chapter_status(chapter, given).state == "up to date"
    assert chapter_status(chapter, given | {"seed": 5}).why == ["seed: 0 then, 5 now"]

    (data / "a.png").write_bytes(b"another")
    assert chapter_status(chapter, given).why == ["the data of data_root have changed"]
    (data / "a.png").write_bytes(b"one")

    small(f"open({str(marker)!r}, 'a').write('x')\n# a comment")
    status = chapter_status(chapter, given)
    assert status.state == "stale" and status.why[0] == "the notebook has changed"


def test_changed_package_makes_a_run_stale(small, here, monkeypatch):
    chapter = Chapter(small())
    run(chapter, {})
    before = run_status.digest_dependencies
    monkeypatch.setattr(
        run_status,
        "digest_dependencies",
        lambda names: before(names) | {"pneumo_utils/study/result_cache.py": "edited"},
    )
    assert chapter_status(chapter).why == ["pneumo_utils/study/result_cache.py has changed"]


def test_damaged_result_is_not_reused(small, here):
    chapter = Chapter(small())
    folder = run(chapter, {}).folder
    results = folder / "results.json"
    results.write_text(results.read_text().replace("0.1", "0.9"))
    assert completed_manifest(folder) is None
    assert not run(chapter, {}).from_cache and completed_manifest(folder)


def test_out_option_sets_the_folder(small, pneumo, tmp_path):
    notebook, out = small(), tmp_path / "mine"
    assert pneumo("run", notebook, "--out", out).returncode == 0
    assert (out / "results.json").exists() and (out / "manifest.json").exists()
    assert "up to date" in pneumo("run", notebook, "--out", out).stdout
    assert pneumo("run", notebook, "--out", out, "-p", "seed", 3).returncode == 0
    assert json.loads((out / "results.json").read_text())["parameters"]["seed"] == 3


def test_out_option_replaces_runs_only(small, here, tmp_path):
    """Neither the folder nor one of its neighbours is touched when anything in it is not ours."""
    chapter, out = Chapter(small()), tmp_path / "mine"

    def refused(match):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(StudyError, match=match):
            run(chapter, {"seed": 5}, out=out)
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path in before}

    out.mkdir()
    (out / "manifest.json").write_text('{"my": "package"}')
    refused("mine holds other things than a run")
    (out / "manifest.json").unlink()
    for end in ("attempt", "old", "failed"):
        beside = tmp_path / f"mine.{end}"
        beside.mkdir()
        (beside / "thesis.txt").write_text("years of work")
        refused(f"mine.{end} holds other things than a run")
        (beside / "thesis.txt").unlink()
    (tmp_path / "mine.old").rmdir()
    (tmp_path / "mine.old").symlink_to(tmp_path)
    refused("mine.old is not a folder")
    (tmp_path / "mine.old").unlink()

    folder = run(chapter, {"seed": 4}, out=out).folder
    (folder / "notes.txt").write_text("mine")
    refused("mine also holds notes.txt, which no run made")
    (folder / "notes.txt").unlink()
    (tmp_path / "mine").rename(tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / "mine")
    assert not run(chapter, {"seed": 5}, out=out).from_cache
    assert sorted(path.name for path in tmp_path.glob("mine*")) == ["mine"]


@pytest.mark.parametrize("content", ["[]", "3", '{"files": 3}', '{"files": {}, "digest": "DIGEST"}', "{}", "NaN"])
def test_invalid_manifest_is_not_a_run(small, here, runs, content):
    chapter = Chapter(small())
    folder = runs / "demo" / json_digest(run_dependencies(chapter, resolve_parameters(chapter, {})))[:12]
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(content.replace("DIGEST", folder.name))
    assert completed_manifest(folder) is None and chapter_status(chapter).state == "never run"


@pytest.mark.parametrize("content, reason", [(b"", "it says no reason"), (b"\xff stopped", "\ufffd stopped")])
def test_unreadable_failure_reason_is_handled(small, here, runs, content, reason):
    chapter = Chapter(small())
    failed = runs / "demo" / f"{json_digest(run_dependencies(chapter, resolve_parameters(chapter, {})))[:12]}.failed"
    failed.mkdir(parents=True)
    (failed / "error.txt").write_bytes(content)
    assert (chapter_status(chapter).state, chapter_status(chapter).why) == ("failed", [reason])


def test_manifest_cannot_name_files_outside_its_folder(small, here, runs):
    chapter = Chapter(small())
    folder = run(chapter, {}).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert is_manifest(manifest)
    for name in ("../outside", "/etc/hostname"):
        assert not is_manifest(manifest | {"files": manifest["files"] | {name: "0"}})
    assert not is_manifest(manifest | {"depends_on": {}}) and not is_manifest(manifest | {"files": {}})


@pytest.mark.parametrize("place", ["/proc/none/run", "FILE/run"])
def test_unwritable_runs_folder_is_reported(small, here, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    place = place.replace("FILE", str(tmp_path / "file"))
    with pytest.raises(StudyError, match="cannot be written"):
        run(Chapter(small()), {}, out=place)
    monkeypatch.setenv("PNEUMO_RUNS", place)
    with pytest.raises(StudyError, match="cannot be written"):
        run(Chapter(small()), {})


def test_cell_output_is_streamed(small, pneumo):
    process = pneumo("run", small("import time\nprint('first words', flush=True)\ntime.sleep(60)"), start=True)
    try:
        for line in process.stdout:
            if "first words" in line:
                break
        assert process.poll() is None  # the cell is still asleep
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


PIECES = """
def piece(n):
    open({marks!r}, 'a').write(f'{{n}} ')
    time.sleep(0.4)
    return n * seed

import time
values = [run.cached_result(f'piece-{{n}}', piece, n=n) for n in range(6)]
run.result('values', sum(values))
"""


def test_killed_run_repeats_at_most_one_result(small, pneumo, runs, tmp_path):
    marks = tmp_path / "marks"
    notebook = small(PIECES.format(marks=str(marks)))
    process = pneumo("run", notebook, "-p", "seed", 2, start=True)
    while not marks.exists() or len(marks.read_text().split()) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close(), process.stderr.close()
    assert not list(runs.glob("demo/*/manifest.json"))  # nothing that looks whole
    time.sleep(2.5)  # the kernel notices that its parent is gone, and goes
    begun = marks.read_text().split()

    done = pneumo("run", notebook, "-p", "seed", 2)
    assert done.returncode == 0, done.stderr
    results = json.loads(next(runs.glob("demo/*/results.json")).read_text())
    assert results["results"]["values"]["value"] == 2 * sum(range(6))
    again = marks.read_text().split()[len(begun) :]
    assert begun + [n for n in again if n not in begun] == [str(n) for n in range(6)]
    assert len(set(begun) & set(again)) <= 1


def test_parallel_runs_are_independent(small, pneumo, runs, tmp_path):
    marks = tmp_path / "marks"
    notebook = small(PIECES.format(marks=str(marks)))
    same = [pneumo("run", notebook, start=True) for _ in range(2)]
    other = pneumo("run", notebook, "-p", "seed", 3, start=True)
    outputs = [process.communicate(timeout=200) for process in (*same, other)]
    assert [process.returncode for process in (*same, other)] == [0, 0, 0], outputs
    assert sorted("up to date" in out for out, _ in outputs[:2]) == [False, True]  # one ran, one waited and found it
    assert sorted(marks.read_text().split()) == sorted([str(n) for n in range(6)] * 2)
    values = {json.loads(p.read_text())["results"]["values"]["value"] for p in runs.glob("demo/*/results.json")}
    assert values == {0, 45}


def test_dependency_digest_follows_imports_and_read_files():
    result = digest_dependencies({"pneumo_utils.claims"})
    assert {"pneumo_utils/__init__.py", "pneumo_utils/claims/ledger.py", "pneumo_utils/common/files.py"} <= set(result)
    assert any(path.startswith("pneumo_utils/claims/papers/") for path in result)
    assert "pneumo_utils/cli.py" not in result
    assert imported_modules("def f():\n    from pneumo_utils.claims import ledger\n%matplotlib inline") == {
        "pneumo_utils.claims",
        "pneumo_utils.claims.ledger",
    }
    assert declared_reads("__reads__ = ('a', 'b')") == ("a", "b") and declared_reads("x = 1") == ()


@pytest.fixture
def other_root(tmp_path, monkeypatch):
    """A repository of its own, in which modules beside the notebooks can be edited."""
    root = tmp_path / "root"
    (root / "notebooks").mkdir(parents=True)
    (root / "pneumo_utils").symlink_to(ROOT / "pneumo_utils")
    monkeypatch.setattr(code_digest, "ROOT", root)
    for function in (code_digest.module_file, code_digest._imported):
        function.cache_clear()
    yield root
    for function in (code_digest.module_file, code_digest._imported):
        function.cache_clear()


def test_a_change_beside_the_notebooks_makes_a_run_stale(small, other_root):
    folder = other_root / "notebooks"
    (folder / "__init__.py").write_text("")
    imports = "from notebooks.own_counts import count\nfrom pneumo_utils.common import markup"
    (folder / "own_tables.py").write_text(imports)
    (folder / "own_counts.py").write_text("__reads__ = ('notebooks/own.csv',)\n\n\ndef count():\n    return 1")
    (folder / "own.csv").write_text("1")
    (folder / "another.py").write_text("")
    chapter = Chapter(small("from notebooks import own_tables"))

    def dependencies():
        return run_dependencies(chapter, resolve_parameters(chapter, {}))

    before = dependencies()
    assert {path for path in before["package"] if path.startswith("notebooks/")} == {
        f"notebooks/{name}" for name in ("__init__.py", "own_tables.py", "own_counts.py", "own.csv")
    }
    assert "pneumo_utils/common/markup.py" in before["package"]
    (folder / "another.py").write_text("edited = True")
    assert list_changes(before, dependencies()) == []
    for name in ("own_tables.py", "own_counts.py", "own.csv"):
        (folder / name).write_text((folder / name).read_text() + " ")
        assert list_changes(before, after := dependencies()) == [f"notebooks/{name} has changed"]
        before = after


def test_a_kept_result_depends_on_modules_beside_the_notebooks(other_root):
    modules = set()
    module = types.ModuleType("notebooks.own_tables")
    exec("def count():\n    return 1", module.__dict__)
    for value in (module, module.count):
        canonical_form(value, modules)
    assert modules == {"notebooks.own_tables"}


def test_cells_import_what_lies_beside_the_notebooks(monkeypatch, runs):
    monkeypatch.setenv("PNEUMO_RUNS", str(runs))
    monkeypatch.setattr(run_context, "read_kernel_parameters", lambda: ({}, {}))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(ROOT)])
    for _ in range(2):  # a cell may be run again
        run_context.begin("demo")
        assert sys.path[0] == str(ROOT) and sys.path.count(str(ROOT)) == 1


def test_stale_reasons_are_readable():
    old = {
        "notebook": "a",
        "package": {"p.py": "1"},
        "parameters": {"seed": 0},
        "data": {},
        "versions": {"torch": "1"},
        "records": {"long": "1", "real": "1"},
    }
    new = {
        "notebook": "a",
        "package": {"p.py": "2"},
        "parameters": {"seed": 1},
        "data": {},
        "versions": {"torch": "2"},
        "records": {"long": "2", "new": "1"},
    }
    assert list_changes(old, new) == [
        "p.py has changed",
        "seed: 0 then, 1 now",
        "torch 1 then, 2 now",
        "the record long has changed",
        "the record new is new",
        "the record real has gone",
    ]
    assert list_changes(old, old) == []


def test_importing_the_runner_is_quick():
    """The command answers at once because torch, pandas and papermill are imported only where they are needed."""
    code = (
        "import sys, pneumo_utils.study.run, pneumo_utils.cli; print(sorted({'torch', 'pandas', 'papermill', "
        "'fastai', 'matplotlib'} & set(sys.modules)))"
    )
    import subprocess
    import sys

    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ).stdout.strip()
        == "[]"
    )
