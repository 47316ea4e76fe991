"""The benchmark at full scale: all of it at toy size on the CPU, its resumption, and what may go wrong."""

import errno
import json
import sys

import pytest
import torch
from chapter_runs import ROOT

from pneumo_utils.study.chapters import Chapter

sys.path.insert(0, str(ROOT / "benchmarks"))

import full_scale  # noqa: E402
import full_scale_parts  # noqa: E402

TOY = ["phantoms", "speed-resnet18", "speed-grid"]


@pytest.fixture
def environment(monkeypatch):
    """Lets the benchmark set its variables, and restores them."""
    for name in ("PNEUMO_RUNS", "PNEUMO_DATA"):
        monkeypatch.setenv(name, "replaced")


def call(out, *words, only=TOY):
    return full_scale.main(["--device", "cpu", "--scale", "toy", "--out", str(out), *words, "--only", *only])


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The folder of a toy run of some parts."""
    out = tmp_path_factory.mktemp("toy") / "full_scale"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PNEUMO_RUNS", "PNEUMO_DATA"):
            patch.setenv(name, "replaced")
        assert call(out) == full_scale.DONE
    return out


def test_every_way_of_a_network_is_measured(toy):
    record = json.loads((toy / "full_scale.json").read_text())
    assert record["device"] == "CPU" and record["scale"] == "toy" and list(record["parts"]) == TOY
    for name, batch in (("speed-resnet18", 4), ("speed-grid", 1)):
        part = record["parts"][name]
        assert part["done"] and part["batch_size"] == part["papers_batch_size"] == batch and part["weights"] == "random"
        rates = {way["name"]: way["median"] for way in part["ways"]}
        assert len(rates) == 5 and min(rates.values()) > 0
        share = rates[full_scale_parts.OURS] / rates[full_scale_parts.ON_CARD]
        assert part["share_of_data_on_the_card"] == pytest.approx(share) and part["met"] == (share >= 1 / 1.5)
    assert [group["size"] for group in record["parts"]["phantoms"]["groups"]] == [32, 64]
    assert record["parts"]["phantoms"]["groups"][0]["largest difference to the CPU"] == 0


def test_parts_that_are_done_are_not_repeated(toy, environment, capsys):
    before = {path: path.stat().st_mtime_ns for path in toy.glob("*.json") if path.name != "full_scale.json"}
    assert call(toy) == full_scale.DONE
    assert capsys.readouterr().out.count("done before") == 3
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_speed_page_reads_the_record(toy):
    from notebooks.speed_figures import gpu_run_table, gpu_speed_table

    record = json.loads((toy / "full_scale.json").read_text())
    table = gpu_speed_table(record)
    assert len(table) == 10 and table["network"].nunique() == 2 and table["times our pipeline"].iloc[0] == 1
    record["parts"]["paper-1"] = {"chapter": "a", "weights": "random", "seconds": 90, "done": False, "cells": [3, 9]}
    record["parts"]["paper-2"] = {"chapter": "b", "weights": "random", "seconds": 9, "done": True, "cells": [9, 9]}
    assert gpu_run_table(record)["how far"].tolist() == ["cell 3 of 9", "to its end"]


def test_a_folder_of_other_settings_is_refused(toy, environment, capsys):
    settings = json.loads((toy / "settings.json").read_text())
    (toy / "settings.json").write_text(json.dumps(settings | {"device": "NVIDIA X"}))
    try:
        assert call(toy) == full_scale.WRONG
    finally:
        (toy / "settings.json").write_text(json.dumps(settings))
    assert "device: NVIDIA X, now CPU). Name another folder" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused(tmp_path, environment, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert call(tmp_path) == full_scale.WRONG and "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_explained(tmp_path, environment, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pneumo_utils.common.files.os.fsync", full)
    assert call(tmp_path / "out") == full_scale.WRONG and "No space left" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_it_would_do(tmp_path, capsys):
    assert full_scale.main(["--out", str(tmp_path / "out")]) == full_scale.NO_GPU
    output = capsys.readouterr().out
    assert "no GPU" in output and all(part.name in output for part in full_scale.all_parts())
    assert not (tmp_path / "out").exists()


def test_a_driver_that_fails_is_explained(tmp_path, monkeypatch, capsys):
    def failing(*_, **settings):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.ones", failing)
    assert full_scale.main(["--out", str(tmp_path / "out")]) == full_scale.WRONG
    assert "cannot compute: CUDA error: no kernel image is available. Look at" in capsys.readouterr().err


def measured_with_memory_for(images):
    def measure(name, place, px, batch, settings):
        if batch > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [{"name": name, "median": 1.0} for name in (full_scale_parts.OURS, full_scale_parts.ON_CARD)]

    return measure


def test_little_memory_makes_batches_smaller(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(full_scale_parts, "_measure_ways", measured_with_memory_for(5))
    place = full_scale.Place("cuda", "full", None, tmp_path)
    part = full_scale_parts.measure_network("vgg16", place, 60)
    assert part["batch_size"] == 4 and part["papers_batch_size"] == 16
    assert "does not hold 16 images a step; 8 are tried" in capsys.readouterr().out
    monkeypatch.setattr(full_scale_parts, "_measure_ways", measured_with_memory_for(0))
    with pytest.raises(full_scale_parts.StudyError, match="does not hold vgg16 with one image of 256 pixels"):
        full_scale_parts.measure_network("vgg16", place, 60)


@pytest.fixture
def notebook(small, tmp_path, monkeypatch):
    """Puts a small chapter into the place of a paper's, with settings as if of the paper."""

    finish = 'run.describe_inputs(data="none", weights="none")\nrun.finish()'

    def put(*cells):
        path = small(
            *cells,
            name="tiny",
            finish=finish,
            parameters='weights: str = "pocket"  # which\nmax_steps: int = 0  # [0, 9] steps',
        )
        (tmp_path / "tiny.yml").write_text("weights: imagenet\n")
        monkeypatch.setattr(full_scale_parts, "PAPERS", tmp_path)
        monkeypatch.setattr(full_scale_parts, "find_chapter", lambda number: Chapter(path))

    return put


def test_a_papers_notebook_that_is_cut_off_goes_on_in_the_next_call(
    notebook, tmp_path, environment, monkeypatch, capsys
):
    flag = tmp_path / "go"
    notebook(
        f"import time\nfrom pathlib import Path\nwhile not Path({str(flag)!r}).exists():\n    time.sleep(0.1)",
        "run.result('weights are', weights)\nrun.result('steps', max_steps)",
    )
    with monkeypatch.context() as short:
        short.setattr(full_scale, "PART_SECONDS", 61)  # a part is begun with 60 and more
        short.setattr(full_scale_parts, "STOPPING", 57)
        assert call(tmp_path / "out", only=["paper-1"]) == full_scale.LEFT
    first = json.loads((tmp_path / "out" / "paper-1.json").read_text())
    assert not first["done"] and "Not done yet: paper-1" in capsys.readouterr().out
    flag.touch()
    assert call(tmp_path / "out", only=["paper-1"]) == full_scale.DONE
    part = json.loads((tmp_path / "out" / "paper-1.json").read_text())
    assert part["done"] and part["weights"] == "random" and part["cells"][0] == part["cells"][1] > 1
    assert part["results"]["steps"] == {"value": 1} and part["results"]["weights are"] == {"value": "random"}
    assert part["seconds"] > first["seconds"]


def test_a_notebook_that_fails_says_why_and_holds_nothing_up(notebook, tmp_path, environment, capsys):
    notebook("raise ValueError('the lungs are upside down')")
    assert call(tmp_path / "out", only=["paper-1"]) == full_scale.DONE
    assert "error" in json.loads((tmp_path / "out" / "paper-1.json").read_text())
    assert "the lungs are upside down" in capsys.readouterr().out


def record_of(*done):
    return {name: {"done": True, "date": "2026-01-01"} for name in done}


def test_the_books_record_is_not_replaced_by_one_that_lacks_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(full_scale, "RECORD", record := tmp_path / "record.json")
    place = full_scale.Place("cuda", "full", None, tmp_path)

    def write(*done):
        for name, result in record_of(*done).items():
            (tmp_path / f"{name}.json").write_text(json.dumps(result))
        full_scale.write_record(place, {})
        return set(json.loads(record.read_text())["parts"])

    assert write("phantoms") == {"phantoms"} and write("speed-grid") == {"phantoms", "speed-grid"}
    (tmp_path / "phantoms.json").unlink()
    assert write("paper-1") == {"phantoms", "speed-grid"}
    assert "is kept: it has parts that are not done here (phantoms)" in capsys.readouterr().out


def test_a_missing_folder_of_weights_is_refused(tmp_path, environment, capsys):
    assert call(tmp_path / "out", "--weights", str(tmp_path / "absent")) == full_scale.WRONG
    assert "absent with weights. Name one with --weights" in capsys.readouterr().err


def test_official_weights_are_taken_only_where_all_are_there(tmp_path):
    text = '"trunk(\\"resnet18\\") trunk(\\"vgg16\\")"'
    place = full_scale.Place("cpu", "toy", tmp_path, tmp_path)
    assert not full_scale_parts.has_official_weights(text, place)
    for name in ("resnet18", "vgg16"):
        assert not full_scale_parts.has_official_weights(text, place)
        (tmp_path / full_scale_parts.ARCHITECTURES[name].published.source.file).touch()
    assert full_scale_parts.has_official_weights(text, place)


def test_needed_packages_leave_out_those_that_are_there(tmp_path):
    everything = full_scale.needed_packages(None)
    names = {line.split("==")[0].split(">")[0] for line in everything}
    assert {"fastai", "papermill", "ipykernel", "torch", "pydicom"} <= names and "jupyter-book" not in names
    there = tmp_path / "packages.txt"
    there.write_text("torch==2.11.0+cu130\ntorchvision==0.26.0\npandas==1.0\n")
    fewer = full_scale.needed_packages(there)
    assert not [line for line in fewer if line.startswith(("torch==", "torchvision=="))]
    assert [line for line in fewer if line.startswith("pandas==")]  # that version is too old
