"""Chapter 3: generators told apart beside a null test, folds whose scores chose nothing, and few images after many."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from chapter_runs import html_of, on_the_page, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK

from notebooks import chapter_3, chapter_3_figures
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.common.files import sha256_hex
from pneumo_utils.evaluation.scores import metric_values
from pneumo_utils.models.registry import ARCHITECTURES
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.run import run

CHAPTER = find_chapter("3")
TINY = OF_THE_BOOK["3"]
SETTINGS = chapter_3.Settings(*("pocket", "pocket", 32, 16, 16, 0, 2, 0.001, 1, 0.001, "sgd", 0.9, 1e-6, 2, 1e-3, 2, 0))
DEFAULT = chapter_3.PHANTOMS, chapter_3.TEST_SHARE, chapter_3.STEPS


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, TINY)


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    folder = writers.write_release("kermany", 200, 64, 0, tmp_path_factory.mktemp("children"))
    return chapter_3.read_children(folder, 0.4, 0)


def test_every_question_stands_beside_the_null_test_and_the_linear_models(executed):
    table = html_of(executed[1], "decisive-table")
    for question in (*chapter_3.PAIRS, "children", "two classes, asked about children"):
        assert question in table
        for model in ("Xception", *chapter_3_figures.PROBES):
            result = executed[0]["results"][f"told apart, {question}: {model}"]
            assert 0 <= result["low"] <= result["value"] <= result["high"] <= 1 and result["baseline"] == 0.5
    null = executed[0]["results"]["told apart, same generator: 32 x 32 pixels"]
    assert null["low"] < 0.5 < null["high"]


def test_generators_below_the_floor_do_not_count(execute, executed):
    """After two steps no generator shows what it was trained on."""
    results, notebook = execute(CHAPTER, TINY | {"quality_floor": 1.0})
    assert "Too few generators reach the quality floor" in shown(notebook, "begin")
    assert results["results"]["generators above the quality floor"]["value"] == 0
    assert "two classes" not in html_of(notebook, "decisive-table") and "children" in html_of(
        notebook, "decisive-table"
    )
    assert executed[0]["results"]["generators above the quality floor"]["value"] == len(chapter_3.GENERATORS)


def test_table_1_has_both_ways_to_compute_a_metric(executed):
    results, table = executed[0]["results"], html_of(executed[1], "folds-table")
    assert "0.0006 / 0.0018" in table and "here, 3" in table and "paper, 5" in table
    right, batches = (results[f"table 1, validation recall, {how}"]["value"] for how in ("right", "batches"))
    assert right != batches
    assert all(name in table for name in ("Xception, trunk frozen", "majority", "32 x 32 pixels", "frame only"))


def test_rules_find_the_scores_that_they_compare(executed):
    found = executed[0]["experiments"]
    assert {"told apart", "cross-validation", "table 1", "generated then real"} <= set(found)
    assert found["cross-validation"]["overlap"] == found["table 1"]["overlap"] == pytest.approx(0.5 / 0.85)
    scores = pd.read_csv(run(CHAPTER, TINY).folder / "scores.csv")
    variants = set(scores[scores["experiment"] == "generated then real"]["variant"])
    for claim in load_ledger().claims:
        if claim.paper == 3 and claim.rule and claim.rule["experiment"] == "generated then real":
            few = [side.strip() for compare in claim.rule["compare"] for side in compare.split(">") if "few" in side]
            assert set(few) <= variants


def test_answer_stands_at_the_top_and_figures_have_alt_text(executed):
    results, notebook = executed
    assert "once the notebook has run" not in shown(notebook, "begin") and "**What to do**" in shown(notebook, "begin")
    assert {"pictures", "batch", "lr_find", "told_apart", "curves", "shortage"} == set(results["figures"])
    assert all(len(figure["alt"]) > 30 and figure["caption"] for figure in results["figures"].values())


def test_generator_comes_nearer_to_its_images_and_is_reproducible(children):
    learned = children.part("train")
    pixels = np.asarray(learned.pixels(64))
    alike = []
    for steps in (2, 160):
        made = chapter_3.generate(chapter_3.train_generator(learned, 0, steps), 64, 0)
        alike.append(np.corrcoef(made.mean(0).ravel(), pixels.mean(0).ravel())[0, 1])
    assert alike[1] > alike[0] + 0.15
    again = chapter_3.train_generator(learned, 0, 2)
    other = chapter_3.train_generator(learned, 1, 2)
    first = chapter_3.train_generator(learned, 0, 2)
    assert (chapter_3.generate(first, 4, 0) == chapter_3.generate(again, 4, 0)).all()
    assert (chapter_3.generate(first, 4, 0) != chapter_3.generate(other, 4, 0)).any()


def test_shipped_generators_are_those_of_their_card():
    card = json.loads(chapter_3.SHIPPED.with_suffix(".json").read_text())
    assert card["sha256"] == sha256_hex(chapter_3.SHIPPED.read_bytes()) and chapter_3.SHIPPED.stat().st_size < 4e6
    generators = chapter_3.read_shipped()
    assert list(generators) == chapter_3.GENERATORS
    first = chapter_3.generate(generators["normal 1"], 3, 0)
    assert first.shape == (3, 64, 64) and np.ptp(first) > 100 and (first[0] != first[1]).any()
    assert chapter_3.is_shipped_for(*DEFAULT, 0)
    assert not chapter_3.is_shipped_for(*DEFAULT, 1)


def test_each_image_is_scored_once_and_chooses_no_epoch_there(children):
    folds = chapter_3.scored_folds(children, 4, 0.2, 0)
    scored = pd.concat([fold.part("test").table["image"] for fold in folds])
    assert sorted(scored) == sorted(children.table["image"])
    for fold in folds:
        sizes = fold.table["split"].value_counts()
        assert sizes["valid"] / (sizes["valid"] + sizes["train"]) == pytest.approx(0.2, abs=0.02)


def test_best_epoch_of_both_phases_is_kept(children):
    """Where the second phase makes everything worse, the weights of the first are kept."""
    kept = chapter_3.train(replace(SETTINGS, optimizer="adam", tuning_lr=0.05), children, 0, for_table=True)
    assert kept["history"]["valid_loss"].iloc[-1] > kept["history"]["valid_loss"].min()
    assert kept["best_epoch"] <= 2 and kept["history"]["phase"].tolist() == [1, 1, 2]
    assert np.allclose(kept["frozen"]["probabilities"], kept["test"]["probabilities"], atol=1e-5)


def test_frechet_distance_of_shifted_features_is_the_squared_shift():
    features = np.random.default_rng(0).normal(size=(500, 6))
    assert chapter_3.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert chapter_3.frechet_distance(features, features + 2) == pytest.approx(6 * 4, rel=1e-6)
    assert chapter_3.frechet_distance(features, 3 * features) == pytest.approx(
        4 * ((features.mean(0) ** 2).sum() + np.trace(np.cov(features, rowvar=False))), rel=1e-6
    )


def test_nearest_training_image_of_a_copy_is_its_original(children):
    learned = children.part("train")
    rows, far = chapter_3.nearest(learned, learned)
    assert (far < 0.5).all() and (rows == np.arange(len(learned))).mean() > 0.9


def test_curves_are_aligned_by_phase():
    history = pd.DataFrame({"phase": [1, 1, 2], "epoch": [1, 2, 3], "valid_loss": [3.0, 2.0, 1.0], "lr": 0.1})
    aligned = chapter_3_figures.align_phases(history, [("head", 3, 0.1), ("all", 2, 0.1)])
    assert aligned["valid_loss"].tolist() == [3, 2, 2, 1, 1] and aligned["phase"].tolist() == [1, 1, 1, 2, 2]


def test_table_1_averages_batches_as_keras_does():
    truth = np.repeat([0, 1], [48, 16])
    never_wrong = chapter_3.pu.Predictions(
        np.arange(64).astype(str), np.full(64, ""), truth, np.eye(2)[truth], chapter_3.CLASSES
    )
    found = chapter_3_figures.table_1([never_wrong])
    assert (
        found["batches"]["recall"] == [0.5] and found["right"]["recall"] == metric_values([never_wrong], "recall") == 1
    )


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full Xception from a file as its publisher has it, folders that look real: one step of each phase."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(
        ARCHITECTURES["xception"].published.build(1000).state_dict(), tmp_path / "weights" / "xception.safetensors"
    )
    release, real = (
        writers.write_release(name, images, 32, 0, tmp_path / name)
        for name, images in (("covid_gan", 60), ("kermany", 100))
    )
    for root in (release, real):
        shutil.rmtree(root / "truth")  # as a real release: no picture of anyone on the page
    fewer = {"max_steps": 1, "image_size": 32, "folds": 3, "gan_steps": 2, "n_images": 20, "release_images": 60}
    fewer |= {
        "real_seeds": 2,
        "pretrain_images": 60,
        "few_draws": 2,
        "all_real": False,
        "views": 1,
        "quality_floor": 1.0,
    }
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", covid_gan=release, kermany=real) | fewer).folder
    results = results_of(folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    assert not {"pictures", "batch"} & set(results["figures"]) and "table 1" in results["experiments"]


def test_killed_trial_is_resumed(begun_again, tmp_path):
    releases = {
        name: writers.write_release(name, images, 32, 0, tmp_path / name)
        for name, images in (("covid_gan", 60), ("kermany", 100))
    }
    _, after, done = begun_again(CHAPTER, tried_on_the_page(CHAPTER, **releases), "fold *")
    assert len(after) == 3 and re.search(r"3 pieces: .*found again", done.stdout)
