"""Chapter 5, classifiers: it runs, constants are beside every score, and a killed run continues."""

import re
import shutil

import nbformat
import pytest
import yaml
from chapter_runs import ROOT, html_of, on_the_page, pieces_in, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK
from torchvision import models

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.common.errors import ParameterError, StudyError
from pneumo_utils.data.readers import nih
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.parameters import chapter_parameters, check_parameters, tier
from pneumo_utils.study.run import run

CHAPTER = Chapter(ROOT / "notebooks" / "05_nih_multilabel.ipynb")
PAPER = ROOT / "notebooks" / "params" / "paper" / "05_nih_multilabel.yml"
TINY = OF_THE_BOOK["5"]
SHORTEST = TINY | {"baseline_epochs": 1, "baseline_steps": 2, "survey_seeds": 0, "more_seeds": 0}
ORDERS = {
    "p5-baseline-outperforms",
    "p5-label-baselines-better",
    "p5-transfer-is-majority",
    "p5-large-enough",
    "p5-pretraining-compensates",
    "p5-multi-better",
    "p5-loss-improved",
    "p5-validation-varies",
    "p5-variation-by-labels",
    "p5-robust-in-c",
    "p5-within-majority",
    "p5-all-others-wrong",
    "p5-early-layers-matter",
}
METRICS = {
    "p5-single-loss",
    "p5-single-accuracy",
    "p5-multi-loss",
    "p5-multi-accuracy",
    "p5-gain-first",
    "p5-gain-second",
    "p5-all-no-finding-right",
}
LONG = ("transfer, first choice", "transfer, second choice")


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, TINY)


def test_accuracies_and_losses_have_constant_baselines(executed):
    floor = html_of(executed[1], "floors-table")
    for printed in ("0.538", "0.921", "0.217", "0.55", "0.92", "2.43", "0.24"):
        assert printed in floor, printed
    assert "0.916" in shown(executed[1], "floors-table")  # silence
    for reading in ("one label", "summed", "each label"):
        for what in ("accuracy", "loss"):
            result = executed[0]["results"][f"constant {what}: {reading}"]
            assert result["low"] <= result["value"] <= result["high"]


def test_table_has_all_classifiers_and_baselines(executed):
    systems = html_of(executed[1], "systems-table")
    for name in (
        "from nothing, one label",
        "from nothing, fifteen",
        *LONG,
        "nothing between, second choice",
        "majority",
        "32 x 32 pixels",
        "frame only",
    ):
        assert f"<td>{name}</td>" in systems, name
    assert all(
        printed in systems for printed in ("55%", "92%", "2.43", "0.24", "6.59%", "6.33%", "0.01")
    ) and "second choice c = 5, s = 60" in shown(executed[1], "systems-table")


def test_grid_is_compared_with_majority_and_maximum_under_null(executed):
    results, notebook = executed
    assert {"figure_5_over", "figure_5_likeliest", "figure_6", "figure_7"} <= set(results["figures"])
    assert "grid, gain over labels: the best of equal cells over their mean" in results[
        "results"
    ] and "the highest of 4 would lie" in shown(notebook, "chance-table")
    assert "100" in results["figures"]["figure_5_over"]["alt"] and "best of all 260" in shown(notebook, "chance-paper")
    assert "83 % of its errors" in shown(notebook, "grid-words")  # 6.59 of the 7.9 points that the majority leaves
    for c in (0, 2):
        assert {
            f"deviation of the gain over labels: c = {c}, other {kind}, s = {images}"
            for kind, images in (("images", 50), ("images", 100), ("starts", 50))
        } <= set(results["results"])


def test_feature_cache_does_not_change_results(executed):
    results = executed[0]["results"]
    assert results["prefix on and off, largest difference of probabilities"]["value"] < 1e-6
    by_c = [results[f"cells from a shared prefix, times as fast: c = {c}"]["value"] for c in (0, 2)]
    assert (
        min(by_c) <= results["cells from a shared prefix, times as fast: sampled cells together"]["value"] <= max(by_c)
    )
    assert re.search(
        "once for all 4 cells|nothing was computed for all of them together", shown(executed[1], "prefix-table")
    )  # where the book under test has trained them before


def test_intermediate_softmax_removes_image_information(executed):
    """Not only are its inputs small: what the trained network says of one image and of another is nearly the same."""
    results = executed[0]["results"]
    for name, softmax, nothing in (
        ("deviation over images of an input to the new layer", "softmax", "nothing"),
        ("spread of a probability over images", "softmax between", "nothing between"),
    ):
        assert 0 < results[f"{name}: {softmax}"]["value"] < 0.1 * results[f"{name}: {nothing}"]["value"]
    assert results["spread of a probability over images: majority"]["value"] < 1e-12


def test_everything_that_rules_compare_is_measured(executed):
    results, notebook = executed
    ledger, experiments = load_ledger(), results["experiments"]
    rules = {name: rule_of(ledger[name]) for name in ORDERS}
    assert set().union(*(rule.experiments for rule in rules.values())) | {"one change"} == set(experiments)
    assert all(ledger[name].rule["experiment"] in experiments for name in METRICS)
    assert all(each["overlap"] == pytest.approx(0.1 / 0.8) for name, each in experiments.items() if name != "grid")
    assert experiments["classifiers"]["passes"] == 5 and experiments["classifiers"]["training_images"] == 192
    assert experiments["classifiers"]["baselines"] == ["majority", "32 x 32 pixels", "frame only"]
    rows = re.findall("<tr>(.*?)</tr>", html_of(notebook, "verdicts-table"), re.DOTALL)
    of_this_run = [re.findall("<td.*?>(.*?)</td>", row, re.DOTALL)[3] for row in rows]
    assert len(rows) == len(ORDERS | METRICS) and "no run has measured it" not in " ".join(of_this_run)


def test_chosen_cell_is_reported_with_epochs_and_loss(executed):
    results = executed[0]["results"]
    for name in LONG:
        assert results[f"loss over that of the constant: {name}"]["value"] > 0 and {
            f"gain over labels after the epochs of the grid: {name}",
            f"fall of the training loss in the last fifth of the epochs: {name}",
        } <= set(results)
    assert shown(executed[1], "long-settled").count("times that of the constant") == 2


def test_figures_have_alt_text_and_numbers_have_intervals(executed):
    figures = executed[0]["figures"]
    assert {"together", "samples", "official", "figure_3", "figure_4", "rankings", "reliability", "augmented"} <= set(
        figures
    )
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in figures.values())
    for name, result in executed[0]["results"].items():
        if isinstance(result.get("low"), float) and isinstance(result["value"], float):
            assert result["low"] <= result["value"] <= result["high"], name
    everything = "".join(str(output) for cell in executed[1].cells for output in cell.get("outputs", []))
    assert "RuntimeWarning" not in everything and "UserWarning" not in everything


def test_results_of_each_survey_are_kept(executed):
    kept = {name.split(": ")[0] for name in executed[0]["results"]}
    assert {
        "one change, mean AUROC",
        "one change, accuracy over labels",
        "split, mean AUROC, network",
        "longer, mean AUROC",
        "threshold youden",
        "calibration error",
    } <= kept
    names = " ".join(executed[0]["results"])
    assert all(
        word in names
        for word in (
            "loss weighed",
            "moving statistics",
            "a rate a block",
            "augmented as in the paper",
            "everything learns",
            "by official",
        )
    )
    assert "view AP" in shown(executed[1], "people-code") and "sex F" in shown(executed[1], "people-code")


def test_paper_settings_are_complete():
    _, *sources = ["".join(cell["source"]) for cell in CHAPTER.notebook()["cells"] if cell["cell_type"] == "code"]
    below, known, given, ledger = (
        "\n".join(sources),
        chapter_parameters(CHAPTER),
        yaml.safe_load(PAPER.read_text()),
        load_ledger(),
    )
    assert not [name for name in known if name not in below]
    check_parameters(known, given)
    assert set(known) - set(given) == {"data_root", "phantom_images"}
    assert tier(CHAPTER, {name: value.default for name, value in known.items()} | given) == "paper"
    first, last = ledger.value("p5-open-layers")
    assert (
        given["grid_layers"] == list(range(first, last + 1))
        and len(given["grid_layers"]) * len(given["grid_sizes"]) == 260
    )
    assert list(map(list, zip(given["tested_layers"], given["tested_sizes"]))) == ledger.value("p5-tested-combinations")
    assert {name: given[name] for name in ("grid_sizes", "grid_epochs", "steps", "long_epochs")} == {
        name: ledger.value(claim)
        for name, claim in (
            ("grid_sizes", "p5-sizes"),
            ("grid_epochs", "p5-grid-epochs"),
            ("steps", "p5-grid-steps"),
            ("long_epochs", "p5-long-epochs"),
        )
    }
    assert 100 * (1 - given["test_share"] - given["valid_share"]) == pytest.approx(ledger.value("p5-train-share"))


def stand_in(tmp_path, monkeypatch):
    """The full ResNet50 in a file as torchvision has it, and a folder that counts as people's."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    save_file(models.resnet50().state_dict(), tmp_path / "weights" / "resnet50.safetensors")
    root = writers.write_release("nih", 60, 32, 0, tmp_path / "nih")
    shutil.rmtree(root / "truth")
    return root


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full ResNet50 with its thousand answers, a few real steps of each training; no picture of anyone."""
    root = stand_in(tmp_path, monkeypatch)
    fewer = {
        "grid_layers": [0],
        "grid_sizes": [60],
        "tested_layers": [19],
        "tested_sizes": [60],
        "redraws": 2,
        "plain_cells": 1,
        "seeds": 2,
        "survey_seeds": 0,
        "more_seeds": 2,
        "max_steps": 1,
        "image_size": 32,
        "batch_size": 4,  # at 224 pixels one core takes many minutes
        "test_share": 0.25,
        "valid_share": 0.1,
        "grid_epochs": 1,
        "long_epochs": 1,
        "baseline_epochs": 1,
    }
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", nih=root) | fewer).folder
    results, notebook = results_of(folder), nbformat.read(folder / "notebook.ipynb", 4)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    assert {
        f"longer, mean AUROC: {name}" for name in ("nothing between", "augmented as in the paper", "majority")
    } <= set(results["results"]) and "a new form at each step" in shown(notebook, "more-table")
    assert not {"samples", "augmented"} & set(results["figures"]) and "left out" in shown(notebook, "data-samples")
    assert "<td>1,000</td>" in html_of(notebook, "why-table")


def test_killed_trial_is_resumed_without_mixing_settings(begun_again, killed_at, runs, tmp_path):
    """On a folder without official lists, split by patient.

    Then with another c and another rate: what is the same is found again, and no cell of another rate.
    """
    root = writers.write_release("nih", 240, 32, 0, tmp_path / "nih")
    for name in ("train_val_list.txt", "test_list.txt"):
        (root / name).unlink()
    settings = tried_on_the_page(CHAPTER, nih=root)
    before, after, done = begun_again(CHAPTER, settings, "c 0, s 50-*")
    assert "found again" in done.stdout and before == after and len(after) == 1
    (manifest,) = runs.rglob("manifest.json")
    notebook, results = nbformat.read(manifest.parent / "notebook.ipynb", 4), results_of(manifest.parent)["results"]
    assert (
        "no official lists" in shown(notebook, "split-official")
        and "patients shared, split by official" not in results
        and results["patients shared, split by patient"]["value"] == 0
    )
    assert "Hernia" in shown(notebook, "split-judged")
    assert (
        results["without the softmax over with it, mean AUROC"]["value"] != 0
        and "mean AUROC: softmax between, first choice" in results
    )  # though the choices have none
    assert "passes over the" in shown(notebook, "baseline-floor")

    cells = "c ?, s 50-*"
    first = pieces_in(runs, cells)
    assert len(first) == 2
    both = killed_at(CHAPTER, settings | {"grid_layers": [0, 2, 5], "lr": 0.002}, cells, 5)
    assert first < both and len(both - first) == 3  # c = 0 and 2 again, at the other rate, and c = 5


def test_too_large_grid_size_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    with pytest.raises(StudyError, match="5,000 images cannot be drawn"):
        run(CHAPTER, SHORTEST | {"grid_sizes": [50, 5000]})
    assert not list((tmp_path / "runs").rglob("piece.json"))


def test_invalid_grid_is_refused():
    known = chapter_parameters(CHAPTER)
    for given, message in (
        ({"grid_layers": [-1]}, "lies in"),
        ({"grid_sizes": "100"}, "takes"),
        ({"between": "relu"}, "is one of softmax, nothing"),
        ({"split": "persons"}, "is one of"),
    ):
        with pytest.raises(ParameterError, match=message):
            check_parameters(known, given)


def relabelled(root, label):
    """A folder with other labels in its table."""
    table = root / "Data_Entry_2017_v2020.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text(
        "\n".join([head, *(",".join([row.split(",")[0], label, *row.split(",")[2:]]) for row in rows)]) + "\n"
    )
    return root


def test_single_class_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    root = relabelled(writers.write_release("nih", 150, 32, 0, tmp_path / "nih"), "No Finding")
    with pytest.raises(StudyError, match="of 15 test images 15 are No Finding and 0"):
        run(CHAPTER, SHORTEST | {"data_root": str(root)})


def test_unknown_label_is_refused(tmp_path):
    with pytest.raises(StudyError, match="Pneumonitis"):
        nih.read(relabelled(writers.write_release("nih", 60, 32, 0, tmp_path / "nih"), "Pneumonitis"))
