"""Chapter 2: six networks beside the paper and baselines, copies and dropout crossed, and maps put to five tests."""

import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
from chapter_runs import html_of, on_the_page, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK, of_the_book
from torchvision import models

from notebooks import chapter_2, chapter_2_figures
from pneumo_utils.claims.judging import differences
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.data.readers import kermany, nih
from pneumo_utils.models.create import trunk
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.measurements import read_scores, to_measured
from pneumo_utils.study.run import run

CHAPTER, FURTHER = find_chapter("2"), find_chapter("2f")
TINY = OF_THE_BOOK["2"]
SIX = [f"{model}, scenario {scenario}" for model in ("VGG16", "ResNet50V2", "DenseNet201") for scenario in (1, 2)]
CHAPTERS_OWN = {
    *("six networks", "six networks in evaluation mode", "curves", "maps", "augmentation and dropout crossed"),
}  # experiments; the further page has the others


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, TINY)


@pytest.fixture(scope="module")
def further(execute):
    return execute(FURTHER, of_the_book(FURTHER))


def test_both_pages_measure_all_that_rules_compare(executed, further):
    experiments = executed[0]["experiments"] | further[0]["experiments"]
    rules = [rule for claim in load_ledger().claims if claim.paper == 2 and (rule := rule_of(claim))]
    assert set().union(*(rule.experiments for rule in rules)) <= set(experiments)
    assert set(further[0]["quantities"]) == {"share of normal images with copies"}
    text = "".join(str(output) for cell in further[1].cells for output in cell.get("outputs", []))
    assert "Skipped in this run" not in text and "RuntimeWarning" not in text


def test_answer_stands_at_the_top_with_numbers_of_the_run(executed):
    results, notebook = executed
    box = shown(notebook, "begin")
    best = max(results["results"][f"{name}: auroc"]["value"] for name in SIX)
    assert "once the notebook has run" not in box and "**What to do**" in box and f"{best:.3f}" in box


def test_table_has_six_networks_beside_the_paper_and_baselines(executed):
    results, notebook = executed
    table = html_of(notebook, "six-table")
    assert all(name in table for name in (*SIX, "majority", "32 x 32 pixels", "frame only"))
    assert "paper 0.62" in table and "macro recall (paper: precision)" in table
    for name in SIX:
        for metric in ("accuracy", "precision_macro", "recall_macro", "f1_macro", "auroc"):
            assert 0 <= results["results"][f"{name}: {metric}"]["value"] <= 1
    crossed = html_of(notebook, "crossed-table")
    assert crossed.count("copies, without dropout") == 3


def test_rules_find_the_scores_that_they_compare(executed):
    measured = to_measured(executed[0], read_scores(run(CHAPTER, TINY).folder / "scores.csv"))
    compared = 0
    for claim in load_ledger().claims:
        if claim.paper != 2 or not claim.rule:
            continue
        if "variant" in claim.rule:
            assert measured.has(*(claim.rule[field] for field in ("experiment", "variant", "metric"))), claim.id
        elif (rule := rule_of(claim)).experiments and rule.experiments <= CHAPTERS_OWN:
            assert all(np.isfinite(found.value) for *_, found in differences(rule, measured)), claim.id
            compared += 1
    assert compared > 15


def test_figures_have_alt_text_and_captions(executed):
    figures = executed[0]["figures"]
    assert {"batch", "lr_find", "top_losses", "curves", "maps", "truth"} == set(figures)
    assert all(len(figure["alt"]) > 30 and figure["caption"] for figure in figures.values())


def test_trust_sentence_counts_the_table(executed):
    table = html_of(executed[1], "trust-table")
    assert table.count("<td>") == 3 * 5 and executed[0]["results"]["trusted"]["value"] == table.count(">yes<")


def test_curve_moments_choose_the_best_epoch_on_other_trainings():
    losses = {0: [3.0, 2.0, 1.0], 1: [3.0, 1.0, 2.0]}
    histories = [
        pd.DataFrame({"valid_loss": values, "trainable": ["head", "all", "all"]}) for values in losses.values()
    ]
    moments = chapter_2.curve_moments(histories, "valid_loss")
    assert moments["best epoch"][0] == 2.0 and np.isnan(moments["best epoch"][1])  # the second chose the second epoch
    assert moments["last frozen epoch"].tolist() == [3.0, 3.0] and moments["last epoch"].tolist() == [1.0, 2.0]
    assert [chapter_2.roughness(history) for history in histories] == [0.0, (3 - 1) / 2]


def test_validation_part_is_drawn_anew_and_the_test_part_is_kept(tmp_path):
    children = kermany.read(writers.write_release("kermany", 60, 32, 0, tmp_path), say=lambda _: None)
    children = children.split(by="patient", test=0.5, valid=0.1, seed=0)
    parts = [chapter_2.redraw_validation(children, seed) for seed in (0, 1)]
    assert all((each.table["split"] == "test").equals(children.table["split"] == "test") for each in parts)
    assert not parts[0].table["split"].equals(parts[1].table["split"])
    assert all(not each.shared_patients()["patients"].any() for each in parts)
    copied = chapter_2.with_copies(parts[0])
    assert len(chapter_2.originals(copied)) == len(parts[0].part("train"))


def test_network_without_residual_connections_differs_in_them_alone():
    settings = chapter_2.Settings("random", "pocket", 32, 4, 1, 2, 1e-3, 1, 0.1, 16, 0)
    with_them, without = (
        chapter_2.build_network(settings, f"ResNet50V2{end}", 0).eval() for end in ("", " without residual connections")
    )
    assert set(with_them.state_dict()) == set(without.state_dict())
    import torch

    x = torch.rand(2, 3, 32, 32)
    stem = with_them.conv1(x)
    blocks = [next(m for m in net.modules() if type(m).__name__ == "PreActBottleneck") for net in (with_them, without)]
    shortcut = blocks[0](stem) - blocks[1](stem)
    preact = blocks[0].norm1(stem)
    assert torch.allclose(shortcut, blocks[0].downsample(preact), atol=1e-5)


def test_boxes_become_masks_and_hits_are_counted(tmp_path):
    adults = nih.read(writers.write_release("nih", 120, 64, 0, tmp_path), say=lambda _: None)
    boxed = adults.where(chapter_2.box_masks(adults, 16).any((1, 2)))
    masks = chapter_2.box_masks(boxed, 64)
    boxes = boxed.boxes[boxed.boxes["finding"] == "Pneumonia"]
    first = boxes[boxes["row"] == boxed.table.index[0]].iloc[0]
    centre = int(64 * (first.y + first.height / 2)), int(64 * (first.x + first.width / 2))
    assert masks.any((1, 2)).all() and masks[0][centre]
    assert abs(masks[0].sum() / 64**2 - first.width * first.height) < 0.05 or len(boxes) > len(boxed)


@pytest.mark.parametrize(
    "differences, answer", [([(1, 0.5, 2)], "yes"), ([(1, 0.5, 2), (0, -1, 1)], "open"), ([(-1, -2, -0.5)], "no")]
)
def test_answer_for_several_networks_needs_all_of_them(differences, answer):
    assert chapter_2_figures.answer_for_all(differences)[1] == answer


def test_hue_multiplication_copies_equal_their_originals(executed):
    """Copies that are equal to their originals leave nothing else to learn."""
    parameters = executed[0]["parameters"]
    children = kermany.read(
        writers.cached_release("kermany", parameters["phantom_children"], parameters["image_size"], parameters["seed"]),
        say=lambda _: None,
    )
    learned = children.part("train")
    copied = learned.with_copies({name: ["hue and saturation"] for name in learned.classes}).pixels(32)
    assert (copied[np.arange(len(learned))] == copied[np.arange(len(learned), 2 * len(learned))]).all()


def test_trial_with_other_settings_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    children = writers.write_release("kermany", 120, 48, 0, tmp_path / "children")
    adults = writers.write_release("nih", 400, 64, 0, tmp_path / "adults")
    folder = run(CHAPTER, tried_on_the_page(CHAPTER, kermany=children, nih=adults)).folder
    results = results_of(folder)
    assert results["parameters"]["split"] == "image" and results["data"] == "phantom children"
    assert {name.split(": ")[0] for name in results["results"]} >= {*SIX, "pointing game", "adults, AUROC"}
    table = html_of(nbformat.read(folder / "notebook.ipynb", 4), "adults-table")
    assert table.count("<tr>") == 3 + 3 and "centre of the picture" in table


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full trunks from files as their publishers have them, the release's own folders: one step of each phase."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(models.vgg16().state_dict(), tmp_path / "weights" / "vgg16.safetensors")
    save_file(models.densenet201().state_dict(), tmp_path / "weights" / "densenet201.safetensors")
    import timm

    save_file(
        timm.create_model("resnetv2_50", pretrained=False).state_dict(), tmp_path / "weights" / "resnet50v2.safetensors"
    )
    children = writers.write_release("kermany", 80, 64, 0, tmp_path / "children")
    shutil.rmtree(children / "truth")  # as a real release: no masks, and no picture of anyone on the page
    fewer = {"seeds": 2, "crossed": "none", "mapped": 20, "looked_at": 8, "max_steps": 1}
    fewer |= {
        "adults_root": "",
        "epochs": 2,
        "threshold": 1,
        "image_size": 64,
    }  # at 256 pixels two cores take ten minutes
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", kermany=children, nih=children) | fewer).folder
    results = results_of(folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    assert not {"batch", "maps", "truth"} & set(results["figures"])
    assert trunk("vgg16", weights="random", size="full").about.channels == 512
