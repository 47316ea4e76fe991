"""Chapter 1 and its further experiments: what they measure, the paper's settings, NIH's adults, and a killed run."""

import shlex
import subprocess
import sys

import numpy as np
import pytest
from chapter_runs import ROOT, as_words, html_of, on_the_page, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK, of_the_book
from torchvision import models

from notebooks import chapter_1, chapter_1_figures
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.rerun_footer import rerun_commands
from pneumo_utils.study.run import run

CHAPTER, FURTHER = find_chapter("1"), find_chapter("1f")
TINY = OF_THE_BOOK["1"] | {"epochs": 1, "crossed_draws": 0}


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, of_the_book(CHAPTER))


@pytest.fixture(scope="module")
def further(execute):
    return execute(FURTHER, of_the_book(FURTHER))


@pytest.fixture
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_answer_stands_at_the_top_with_numbers_of_the_run(executed):
    results, notebook = executed
    box = shown(notebook, "begin")
    fine_tuned = results["results"]["fine-tuned: auroc"]["value"]
    assert "once the notebook has run" not in box and "**What to do**" in box and f"{fine_tuned:.3f}" in box
    assert "surgical finetuning improves the prediction of pneumonia" in box


def test_figures_have_alt_text_and_both_tables_baselines(executed):
    results, notebook = executed
    assert {"batch", "lr_find", "top_losses", "worth", "draws", "maps"} == set(results["figures"])
    assert all(len(figure["alt"]) > 30 and figure["caption"] for figure in results["figures"].values())
    table = html_of(notebook, "protocol-table")
    assert all(name in table for name in ("majority", "32 x 32 pixels", "frame only", "paper 0.865"))
    assert set(results["experiments"]["five models"]["baselines"]) == {"majority", "32 x 32 pixels", "frame only"}


def test_all_that_rules_compare_is_measured(executed, further):
    experiments = executed[0]["experiments"] | further[0]["experiments"]
    rules = [rule for claim in load_ledger().claims if claim.paper == 1 and (rule := rule_of(claim))]
    assert set().union(*(rule.experiments for rule in rules)) <= set(experiments)
    assert set(executed[0]["quantities"]) == {"standard deviation over children drawn"}
    text = "".join(str(output) for cell in further[1].cells for output in cell.get("outputs", []))
    assert "because it trains on adults again" not in text and "RuntimeWarning" not in text


def test_further_experiments_use_the_trainings_of_the_chapter(executed, further):
    """The first network of adults, and the five models, of which the second draw is the last."""
    assert "all found again" in shown_text(further[1], "data-read")
    assert "10 found again" in shown_text(further[1], "draws") or "all found again" in shown_text(further[1], "draws")


def shown_text(notebook, cell_id: str) -> str:
    cell = next(cell for cell in notebook.cells if cell["id"] == cell_id)
    return "".join(output.get("text", "") for output in cell["outputs"])


def test_plain_papermill_accepts_a_seed(tmp_path, apart):
    """As the chapter's page gives the command, and with as little to do as here is time for."""
    _, notebook, _, *words = shlex.split(rerun_commands(CHAPTER)["other settings"][1])
    command = [sys.executable, "-m", "papermill", notebook, tmp_path / "out.ipynb", *words, "-p", "seed", "3"]
    done = subprocess.run([*command, *as_words(TINY)], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert results_of(apart / CHAPTER.name / "by-hand")["parameters"]["seed"] == 3


def test_paper_settings_run(tmp_path, monkeypatch, apart):
    """The full ResNet18 from a file in torchvision's layout, batches of four, adults read from DICOM: a few steps of
    each training.
    """
    adults = writers.write_release("rsna", 60, 256, 0, tmp_path / "adults")
    children = writers.write_release("kermany", 120, 256, 0, tmp_path / "children")
    assert list(adults.rglob("*.dcm"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(models.resnet18().state_dict(), tmp_path / "weights" / "resnet18.safetensors")
    fewer = {
        "draws": 2,
        "crossed_draws": 0,
        "source_epochs": 1,
        "epochs": 1,
        "adaptation_images": 20,
        "saliency_images": 20,
        "max_steps": 2,
    }
    results = results_of(run(CHAPTER, on_the_page(CHAPTER, "paper", rsna=adults, kermany=children) | fewer).folder)
    parameters = results["parameters"]
    assert (parameters["size"], parameters["image_size"], parameters["batch_size"]) == ("full", 224, 4)
    assert results["weights"] == "imagenet"


def test_nih_adults_are_balanced(tmp_path, apart):
    folder = writers.write_release("nih", 400, 48, 0, tmp_path / "adults")
    adults = chapter_1.read_adults(folder)
    balanced = chapter_1.balance(adults, seed=0)
    assert adults.table["age"].min() >= 18 and set(adults.counts().index) == {"normal", "pneumonia"}
    by = [balanced.table["view"], balanced.table["sex"], balanced.table["age"] // 10]
    counts = balanced.table.groupby([*by, balanced.table["labels"]]).size().unstack(fill_value=0)
    assert len(balanced) > 10 and (counts["normal"] == counts["pneumonia"]).all()
    settings = TINY | {"source_root": str(folder), "class_weights": "ratio"}
    results = results_of(run(CHAPTER, settings).folder)
    assert results["data"] == "phantom adults, phantom children" and results["real"] is False


def test_killed_trial_is_resumed(begun_again, tmp_path):
    releases = {
        name: writers.write_release(name, images, 48, 0, tmp_path / name)
        for name, images in (("rsna", 120), ("kermany", 160))
    }
    before, after, _ = begun_again(CHAPTER, tried_on_the_page(CHAPTER, **releases), "fine-tuned 1-*")
    assert before == after and len(after) == 1


@pytest.mark.parametrize("choice", ["at random", "stratified", "evenly", "by cause", "most in doubt"])
def test_children_are_drawn_once_and_the_rest_is_left(choice, cohort_of_children):
    doubt = np.linspace(0, 1, len(cohort_of_children))
    drawn, rest = chapter_1.draw_children(cohort_of_children, 20, 3, choice, doubt)
    again, _ = chapter_1.draw_children(cohort_of_children, 20, 3, choice, doubt)
    other, _ = chapter_1.draw_children(cohort_of_children, 20, 4, choice, doubt)
    names = [set(part.table["image"]) for part in (drawn, rest, again, other)]
    assert (
        len(drawn) == 20 and names[0] | names[1] == set(cohort_of_children.table["image"]) and not names[0] & names[1]
    )
    assert names[0] == names[2] != names[3] and drawn.counts().min() >= 2
    if choice == "evenly":
        assert drawn.counts().tolist() == [10, 10]


@pytest.fixture(scope="module")
def cohort_of_children(tmp_path_factory):
    from pneumo_utils.data.readers import kermany

    folder = writers.write_release("kermany", 120, 32, 0, tmp_path_factory.mktemp("children"))
    return kermany.read(folder, say=lambda _: None)


def test_maps_are_measured_by_outcome():
    """Two images, one right and one wrong, with all heat on the lungs of the first and none of the second."""
    names, truth = ["a", "b"], [1, 0]
    predictions = Predictions(names, names, truth, [[0.2, 0.8], [0.3, 0.7]], ["normal", "pneumonia"])
    lungs = np.zeros((2, 4, 4), bool)
    lungs[:, 2:, :2] = True  # a quarter of the picture, low down on the left
    maps = np.stack([lungs[0], ~lungs[1]]).astype(float)
    measures = chapter_1_figures.measure_maps([(predictions, maps)], {"lungs": lungs, "bones": ~lungs})
    assert measures["heat_on_lungs"]["right answers"] == [4.0] and measures["heat_on_lungs"]["wrong answers"] == [0.0]
    assert measures["one_sidedness"]["true positive"] == [1.0] and np.isnan(
        measures["one_sidedness"]["true negative"][0]
    )
    assert measures["heat_low_down"]["even map"] == [0.25] and measures["heat_low_down"]["true positive"] == [0.5]
    assert chapter_1_figures.errors_on_normal(predictions) == 1.0


def test_empty_plots_are_refused():
    with pytest.raises(StudyError, match="no saliency maps"):
        chapter_1_figures.outcome_maps({})
