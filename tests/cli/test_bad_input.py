"""Wrong input ends with one message that says what to do and exit code not 0; finished work is kept."""

import json
import resource
import signal
import time

import pytest


def ends(done, *says):
    assert done.returncode != 0
    for words in says:
        assert words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 25  # one screen


def test_unknown_chapter(pneumo):
    ends(pneumo("run", "papr_audit"), "There is no chapter 'papr_audit'", "did you mean 'paper_audit'?")


def test_misspelt_parameter_and_wrong_type(small, pneumo, runs):
    notebook = small()
    ends(pneumo("run", notebook, "-p", "sede", 3), "did you mean 'seed'?", "Nothing was run")
    ends(pneumo("run", notebook, "-p", "seed", "three"), "seed takes a whole number, not 'three'")
    assert not (runs / "demo").exists()


def test_params_file_that_is_not_yaml(small, pneumo, tmp_path):
    (tmp_path / "p.yml").write_text("seed: [1")
    ends(pneumo("run", small(), "-f", tmp_path / "p.yml"), "is not YAML")


def test_params_file_with_an_unknown_name(small, pneumo, tmp_path):
    (tmp_path / "p.yml").write_text("sede: 1")
    ends(pneumo("run", small(), "-f", tmp_path / "p.yml"), "did you mean 'seed'?")


def test_output_folder_that_cannot_be_written(small, pneumo, tmp_path):
    (tmp_path / "file").write_text("in the way")
    ends(
        pneumo("run", small(), "--out", tmp_path / "file" / "run"),
        "cannot be written",
        "Choose another folder with --out",
    )


def test_output_folder_that_holds_other_things(small, pneumo, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    ends(pneumo("run", small(), "--out", tmp_path / "mine"), "holds other things than a run")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_notebook_that_is_not_json(pneumo, tmp_path):
    (tmp_path / "torn.ipynb").write_text('{"cells": [')
    ends(pneumo("run", tmp_path / "torn.ipynb"), "torn.ipynb is not a notebook", "git checkout")


def test_notebook_without_a_parameters_cell(small, pneumo):
    ends(pneumo("run", small(tags=()), "-p", "seed", 1), "has no cell tagged `parameters`")


def test_notebook_that_is_not_python(small, pneumo):
    ends(pneumo("run", small("this is: not python")), "invalid syntax")


def test_no_kernel(small, pneumo):
    notebook = small()
    notebook.write_text(notebook.read_text().replace('"name": "python3"', '"name": "no-such-kernel"'))
    ends(pneumo("run", notebook), "there is no Jupyter kernel called 'no-such-kernel'", "ipykernel install")


def test_a_cell_that_fails_is_named_and_its_notebook_kept(small, pneumo, runs):
    done = pneumo("run", small("a = 1\nb = 0\na / b\nc = 2"))
    ends(
        done,
        "in cell 4 of 5 (The work)",
        "ZeroDivisionError: division by zero",
        ">   3 a / b",
        "half-executed notebook",
    )
    (failed,) = (runs / "demo").glob("*.failed")
    assert {"notebook.ipynb", "log.txt", "error.txt"} <= {path.name for path in failed.iterdir()}
    assert not (failed / "results.json").exists() and not (failed / "manifest.json").exists()
    json.loads((failed / "notebook.ipynb").read_text())


def test_results_are_not_taken_from_a_run_that_fails_after_them(small, pneumo, runs):
    ends(
        pneumo(
            "run",
            small(finish="run.describe_inputs(data='none', weights='none')\nrun.finish()\nraise RuntimeError('late')"),
        ),
        "RuntimeError: late",
    )
    assert not list(runs.rglob("results.json"))


def test_a_run_without_results_is_not_finished(small, pneumo):
    ends(pneumo("run", small(finish="pass")), "without run.finish()")


def test_killed_kernel(small, pneumo, runs):
    done = pneumo("run", small("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    ends(done, "in cell 4 of 5", "the kernel was killed", "memory ran out")
    assert list((runs / "demo").glob("*.failed"))


def test_endless_cell(small, pneumo):
    began = time.time()
    ends(
        pneumo("run", small("while True:\n    pass"), "--cell-limit", 2),
        "in cell 4 of 5",
        "longer than it may",
        "--cell-limit",
    )
    assert time.time() - began < 60


def test_interrupt(small, pneumo, runs):
    kept = "def piece():\n    return 1\nrun.cached_result('piece', piece)"
    # what a shell starts in the background is deaf to it
    listening = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = pneumo(
        "run",
        small(kept, "import time\nprint('asleep', flush=True)\ntime.sleep(100)"),
        start=True,
        preexec_fn=listening,
    )
    for line in process.stdout:
        if "asleep" in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in stderr and "Traceback" not in stderr
    assert list((runs / "kept" / "demo").glob("piece-*")) and list((runs / "demo").glob("*.failed"))


def test_full_disk(small, pneumo, tmp_path):
    """A limit on the size of files stands in for a full disk: the write that would pass it fails half-way."""
    notebook, out = small("run.result('size', len('x' * seed))", "print('x' * seed * 20_000)"), tmp_path / "out"
    assert pneumo("run", notebook, "-p", "seed", 1, "--out", out).returncode == 0
    before = (out / "results.json").read_bytes(), (out / "notebook.ipynb").read_bytes()
    small_files = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))}
    ends(pneumo("run", notebook, "-p", "seed", 50, "--out", out, **small_files), "no room left", "Free some space")
    assert ((out / "results.json").read_bytes(), (out / "notebook.ipynb").read_bytes()) == before


@pytest.mark.parametrize("words", [["run"], ["parameters"], ["run", "audit", "-p", "seed"], ["no-such-command"]])
def test_a_command_that_is_incomplete(pneumo, words):
    done = pneumo(*words)
    assert done.returncode == 2 and "Error" in done.stderr
