"""The further experiments of paper 3: a planted grid, five folds, one change at a time, batch averages, arithmetic."""

import re
import shutil

import nbformat
import numpy as np
import pytest
from chapter_runs import as_words, html_of, on_the_page, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import of_the_book

from pneumo_utils.claims.judging import differences
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.models.registry import ARCHITECTURES
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.measurements import read_scores, to_measured
from pneumo_utils.study.run import run

FURTHER = find_chapter("3f")
SETTINGS = of_the_book(FURTHER)
OF_THE_CHAPTER = {"generated then real", "table 1"}  # experiments that the chapter measures


@pytest.fixture(scope="module")
def further(execute):
    return execute(FURTHER, SETTINGS)


def test_rules_find_the_scores_that_they_compare(further):
    measured = to_measured(further[0], read_scores(run(FURTHER, SETTINGS).folder / "scores.csv"))
    rules = {claim.id: rule for claim in load_ledger().claims if claim.paper == 3 and (rule := rule_of(claim))}
    rules = {name: rule for name, rule in rules.items() if not rule.experiments & OF_THE_CHAPTER}
    assert len(rules) == 13
    small = rules.pop("p3-folds-more-realistic")  # a test has too few images for studies that share none
    for name, rule in rules.items():
        assert all(np.isfinite(found.value) for *_, found in differences(rule, measured)), name
    experiments = further[0]["experiments"]
    assert {"majority", "32 x 32 pixels", "frame only"} == set(experiments["one change at a time"]["baselines"])
    for name in ("one change at a time", "curves of folds"):
        assert experiments[name]["overlap"] == pytest.approx(0.5 / 0.85)  # 15 % of the training images choose the epoch
    assert small.experiments <= set(experiments)
    assert experiments["curves of folds"]["unit"] == "fold" and experiments["small studies"]["unit"] == "draw"
    text = "".join(str(output) for cell in further[1].cells for output in cell.get("outputs", []))
    assert "Skipped in this run" not in text and "RuntimeWarning" not in text


def test_table_of_the_grid_has_network_small_models_and_baselines(further):
    table = html_of(further[1], "learned-table")
    names = ["Xception, fine-tuned", "Xception, trunk frozen", "majority", "32 x 32 pixels", "frame only"]
    names += [f"{kind}, linear" for kind in ("image statistics", "borders", "fine detail", "coarse shapes")]
    assert all(table.count(f"<td>{name}</td>") == 2 for name in names)
    results = {name: result["value"] for name, result in further[0]["results"].items()}
    assert results["generators, fine detail, linear: auroc"] > 0.9 > results["findings, fine detail, linear: auroc"]


def test_batch_averaged_metrics_differ_from_exact_ones(further):
    results = {name: result["value"] for name, result in further[0]["results"].items()}
    assert f"{results['published counts, never wrong, validation, in class order: recall']:.4f}" == "0.2256"
    assert f"{results['published counts, never wrong, training, in class order: recall']:.4f}" == "0.2237"
    assert results["published counts, never wrong, validation, shuffled: recall"] == pytest.approx(1, abs=0.01)
    for metric in ("recall", "precision"):
        assert results[f"live, in class order: {metric}, of all answers"] == pytest.approx(
            results[f"live, shuffled: {metric}, of all answers"]
        )


def test_feature_cache_does_not_change_results(further):
    difference, moved = (further[0]["results"][f"prefix_{name}"]["value"] for name in ("difference", "moved"))
    assert difference < 1e-6 < 1e-4 < moved


def test_arithmetic_agrees_with_the_audit(further):
    table = html_of(further[1], "audit")
    assert "238 of 1,064 batches" in table and "30 of 133 batches" in table and "0.00118" in table
    assert further[0]["results"]["printed numbers that agree"]["value"] == table.count("<td>yes</td>")


def test_figures_have_alt_text(further):
    figures = further[0]["figures"]
    assert {"pictures", "learned_generators", "learned_findings"} == set(figures)
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in figures.values())


def test_results_of_each_section_are_kept(further):
    results = further[0]["results"]
    for name in (
        "tried on generators, AUROC: as above",
        "tried on generators, loss: from scratch",
        "tried on generators, training over test accuracy: Adam, twice the epochs",
        "tried on generators, AUROC: MobileNetV2",
        "repeated, AUROC: findings, deviation over folds within one",
        "learned from generators, asked about findings: auroc",
        "learned from generators, asked about generators: auroc",
        "learned from findings, asked about children: auroc",
        "mixed, children and generators: auroc",
        "mixed, children and findings: auroc",
        "interval holds: Nadeau and Bengio",
        "deviation of repeats",
        "curves_apart",
        "generators, shown fine: auroc",
    ):
        assert name in results
    for name, result in results.items():
        if result.get("low") is not None:
            assert result["low"] <= result["value"] <= result["high"], name


def test_corrected_interval_is_wider(further):
    usual, corrected = map(float, re.findall(r"<td>(\d\.\d+)</td>", html_of(further[1], "enough-table")))
    assert corrected / usual == pytest.approx(((1 / 3 + 1 / 2) / (1 / 3)) ** 0.5, abs=0.02)


def test_too_many_folds_are_refused(pneumo):
    few = pneumo("run", FURTHER.path, *as_words(SETTINGS | {"folds": 30}))
    message = "Of generators one class has 22 images here, too few for 30 folds of a third of them"
    assert few.returncode != 0 and message in few.stderr + few.stdout


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full Xception from a file as its publisher has it, and folders that look real: one step of each phase."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    published = ARCHITECTURES["xception"].published.build(1000).state_dict()
    save_file(published, tmp_path / "weights" / "xception.safetensors")
    generated = writers.write_release("covid_gan", 60, 32, 0, tmp_path / "covid_gan")
    children = writers.write_release("kermany", 80, 32, 0, tmp_path / "kermany")
    for root in (generated, children):
        shutil.rmtree(root / "truth")  # as a real release: no image of anyone on the page
    fewer = {"image_size": 32, "folds": 3, "few_children": 10, "few_draws": 2, "studies": 4}
    fewer |= {"max_steps": 1, "survey_folds": 0}  # at 256 pixels two cores take minutes
    folder = run(FURTHER, on_the_page(FURTHER, "paper", covid_gan=generated, kermany=children) | fewer).folder
    results = results_of(folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    assert "cross-validation, generators" in results["experiments"] and "pictures" not in results["figures"]
    assert not [name for name in results["results"] if name.startswith("findings")]
    notebook = nbformat.read(folder / "notebook.ipynb", 4)
    assert "On the release, Xception reaches" in shown(notebook, "learned-table")


def test_trial_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    generated = writers.write_release("covid_gan", 60, 32, 0, tmp_path / "covid_gan")
    children = writers.write_release("kermany", 80, 32, 0, tmp_path / "kermany")
    trial = tried_on_the_page(FURTHER, covid_gan=generated, kermany=children)
    assert "cross-validation, generators" in results_of(run(FURTHER, trial).folder)["experiments"]
