"""Chapter 3: it runs, its table has baselines, both ways to compute the metric, its folds, and a resumed run."""

import re
import shutil

import nbformat
import pytest
from chapter_runs import ROOT, as_words, html_of, on_the_page, results_of, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.models.registry import ARCHITECTURES
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.run import run

CHAPTER = Chapter(ROOT / "notebooks" / "03_xception_kfold.ipynb")
EVERYTHING = OF_THE_BOOK["3"]
TINY = EVERYTHING | {"survey_folds": 0, "repeats": 1}
RULES = [claim.rule for claim in load_ledger().claims if claim.paper == 3 and claim.rule]
TO_BE_BUILT = {"generated then real"}


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, EVERYTHING)


def test_table_1_has_one_row_per_fold_beside_the_paper(executed):
    table = html_of(executed[1], "table-1-code")
    assert table.count("<table") == 2 and table.count(" / ") == 4 * 3 + 4 * 5 and "0.0006 / 0.0018" in table
    for metric in ("loss", "recall", "precision", "accuracy"):
        result = executed[0]["results"][f"table 1, validation {metric}"]
        assert result["low"] <= result["value"] <= result["high"]


def test_both_scenarios_have_baselines(executed):
    floor = html_of(executed[1], "table-1-floor")
    assert floor.count("<table") == 2
    assert all(
        floor.count(f"<td>{name}</td>") == 2
        for name in ("Xception, fine-tuned", "Xception, stored maps", "majority", "32 x 32 pixels", "frame only")
    )


def test_batch_averaged_metrics_differ_from_exact_ones(executed):
    results = {name: result["value"] for name, result in executed[0]["results"].items()}
    assert f"{results['published counts, never wrong, validation, in class order: recall']:.4f}" == "0.2256"
    assert f"{results['published counts, never wrong, training, in class order: recall']:.4f}" == "0.2237"
    assert results["published counts, never wrong, validation, shuffled: recall"] == pytest.approx(1, abs=0.01)
    for metric in ("recall", "precision"):
        assert results[f"live, in class order: {metric}, on the whole"] == pytest.approx(
            results[f"live, shuffled: {metric}, on the whole"]
        )


def test_feature_cache_does_not_change_results(executed):
    assert (
        executed[0]["results"]["prefix_difference"]["value"]
        < 1e-6
        < 1e-4
        < executed[0]["results"]["prefix_moved"]["value"]
    )


def test_rules_find_what_the_chapter_measures(executed):
    experiments = executed[0]["experiments"]
    assert {rule["experiment"] for rule in RULES} - TO_BE_BUILT <= set(experiments)
    assert {"majority", "32 x 32 pixels", "frame only"} == set(experiments["one change at a time"]["baselines"])
    assert experiments["one change at a time"]["overlap"] == experiments["table 1"]["overlap"] == 0.5
    assert experiments["curves of folds"]["unit"] == "fold" and experiments["small studies"]["unit"] == "draw"


def test_figures_have_alt_text(executed):
    figures = executed[0]["figures"]
    assert {"balance", "pictures", "curves", "probes_generators", "probes_findings"} <= set(figures)
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in figures.values())


def test_results_of_each_study_are_kept(executed):
    kept = " ".join(executed[0]["results"])
    assert all(
        f"tried on generators, {what}: {name}" in kept
        for what in ("AUROC", "validation loss", "training over validation accuracy")
        for name in ("as above", "from scratch", "Adam", "MobileNetV2", "twice the epochs")
    )
    assert all(
        name in kept
        for name in (
            "repeated, AUROC: findings",
            "learned from generators, asked about others",
            "borrowed, a few others, and all generators",
            "borrowed, a few others, and all findings",
            "interval holds: Nadeau and Bengio",
            "findings, fine detail, linear: auroc",
            "generators, shown fine: auroc",
        )
    )
    for name, result in executed[0]["results"].items():
        if result.get("low") is not None:
            assert result["low"] <= result["value"] <= result["high"], name


def test_corrected_interval_is_wider(executed):
    table = html_of(executed[1], "enough-table")
    usual, corrected = (float(text) for text in re.findall(r"<td>(\d\.\d+)</td>", table))
    assert corrected / usual == pytest.approx(((1 / 3 + 1 / 2) / (1 / 3)) ** 0.5, abs=0.02)


def test_too_many_folds_are_refused(pneumo):
    few = pneumo("run", CHAPTER.path, *as_words(TINY | {"folds": 30}))
    assert (
        few.returncode != 0
        and "Of generators one class has 22 images here, too few for 30 folds of a third of them"
        in few.stderr + few.stdout
    )


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full Xception from a file as its publisher has it, folders that look real: one step of each phase, in
    smaller pictures, for two cores take minutes at 256 pixels.
    """
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(
        ARCHITECTURES["xception"].published.build(1000).state_dict(), tmp_path / "weights" / "xception.safetensors"
    )
    generated, others = (
        writers.write_release(name, images, 32, 0, tmp_path / name)
        for name, images in (("covid_gan", 60), ("curated_covid", 100))
    )
    for root in (generated, others):
        shutil.rmtree(root / "truth")  # as a real release: no picture of anyone on the page
    fewer = {
        "max_steps": 1,
        "image_size": 32,
        "folds": 3,
        "borrowed": 10,
        "borrowed_draws": 2,
        "studies": 4,
        "survey_folds": 0,
    }
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", covid_gan=generated, curated_covid=others) | fewer).folder
    results = results_of(folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    assert "table 1" in results["experiments"] and not TO_BE_BUILT & set(results["experiments"])
    assert "pictures" not in results["figures"] and not [
        name for name in results["results"] if name.startswith("findings")
    ]
    notebook = nbformat.read(folder / "notebook.ipynb", 4)
    shown = html_of(notebook, "model-table")
    assert "xception.safetensors" in shown and f"{20_806_952 + 2049 * 1028 + 1029:,}" in shown


def test_killed_trial_is_resumed(begun_again, tmp_path):
    releases_of = {
        name: writers.write_release(name, images, 32, 0, tmp_path / name)
        for name, images in (("covid_gan", 60), ("curated_covid", 100))
    }
    _, after, done = begun_again(CHAPTER, tried_on_the_page(CHAPTER, **releases_of), "generators, fold *")
    assert len(after) == 3 and re.search(r"3 pieces: .* found again", done.stdout)
