"""Chapter 4: six accuracies beside the paper, choices changed one at a time, copies in training, and names of rows."""

import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from chapter_runs import html_of, on_the_page, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK, of_the_book
from torchvision import models

import pneumo_utils as pu
from notebooks import audit_tables, chapter_4, chapter_4_figures
from notebooks.chapter_4 import CLASSES, PHASES
from pneumo_utils.claims.judging import differences
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.claims.special_rules import as_array
from pneumo_utils.data.duplicates import perceptual_hash
from pneumo_utils.models.freezing import is_batch_norm
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.measurements import read_scores, to_measured
from pneumo_utils.study.run import run

CHAPTER, FURTHER = find_chapter("4"), find_chapter("4f")
TINY = OF_THE_BOOK["4"]
SETTINGS = chapter_4.Settings(
    *("random", "pocket", "weights", 32, 8, 1, 1e-2, "top 14 + head", 1, 1e-2, "rmsprop", 0.2, "inference", 0)
)


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, TINY)


@pytest.fixture(scope="module")
def further(execute):
    return execute(FURTHER, of_the_book(FURTHER))


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    folder = writers.write_release("kermany", 60, 32, 0, tmp_path_factory.mktemp("kermany"))
    return chapter_4.read_pool(folder)


def all_outputs(notebook):
    return "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))


def from_counts(counts) -> pu.Predictions:
    """Return predictions whose confusion matrix is given."""
    truth, answer = (np.repeat(np.indices(np.shape(counts))[axis].ravel(), np.ravel(counts)) for axis in (0, 1))
    return pu.Predictions(np.arange(len(truth)), [""] * len(truth), truth, np.eye(len(CLASSES))[answer], CLASSES)


def test_both_pages_measure_all_that_rules_compare(executed, further):
    own, others = executed[0]["experiments"], further[0]["experiments"]
    rules = [rule for claim in load_ledger().claims if claim.paper == 4 and (rule := rule_of(claim))]
    assert set().union(*(rule.experiments for rule in rules)) <= own.keys() | others.keys()
    assert set(executed[0]["quantities"]) == {"share of curated images in the children's set"}
    for results, notebook in (executed, further):
        text = all_outputs(notebook)
        assert "Skipped in this run" not in text and "RuntimeWarning" not in text
        assert all(each.get("low", -np.inf) <= each["value"] for each in results["results"].values() if "low" in each)


@pytest.mark.parametrize("page", ["chapter", "further page"])
def test_rules_find_the_scores_that_they_compare(page, executed, further):
    chapter, settings, results = (
        (CHAPTER, TINY, executed[0]) if page == "chapter" else (FURTHER, of_the_book(FURTHER), further[0])
    )
    measured = to_measured(results, read_scores(run(chapter, settings).folder / "scores.csv"))
    compared = 0
    for claim in load_ledger().claims:
        rule = rule_of(claim) if claim.paper == 4 else None
        if claim.paper == 4 and claim.rule and not rule and claim.rule["experiment"] == "two phases":
            if page == "chapter":
                assert measured.has(*(claim.rule[field] for field in ("experiment", "variant", "metric"))), claim.id
        elif rule and rule.experiments <= results["experiments"].keys() and (page == "chapter" or rule.experiments):
            if page == "further page" and rule.experiments == {"two phases"}:
                continue  # the chapter has all of its scores
            assert all(np.isfinite(found.value) for *_, found in differences(rule, measured)), claim.id
            compared += 1
    assert compared >= 6


def test_answer_stands_at_the_top_with_numbers_of_the_run(executed, further):
    results, notebook = executed
    box = shown(notebook, "begin")
    assert "once the notebook has run" not in box and "**What to do**" in box
    assert f"{results['results'][f'{PHASES[-1]}: accuracy']['value']:.3f}" in box
    assert "52.7 as printed" in box and "*bacterial, normal, viral*" in box
    assert "**What to do**" in shown(further[1], "begin")


def test_six_accuracies_have_paper_values_and_baselines(executed):
    results, notebook = executed
    tables = html_of(notebook, "protocol-table")
    assert all(printed in tables for printed in ("0.812", "0.823", "0.831", "0.962", "0.915", "0.914"))
    assert all(name in tables for name in (*PHASES, "majority", "32 x 32 pixels", "frame only"))
    for phase in PHASES:
        for part in ("training", "validation", "test"):
            assert 0 <= results["results"][f"{part} accuracy: {phase}"]["value"] <= 1


def test_copies_stay_in_one_part_if_split_by_group(executed):
    results = executed[0]["results"]
    assert results["curated_from_children"]["low"] < 0.35 < results["curated_from_children"]["high"]
    assert results["test images with a copy in training: split by image"]["value"] > 0.1
    for what in ("test images with a copy in training", "test images whose patient is in training"):
        assert results[f"{what}: split by group"]["value"] == 0


def test_figures_have_alt_text_and_captions(executed, further):
    figures = executed[0]["figures"]
    assert {"copies", "batch", "lr_find", "top_losses", "curves", "confusion", "leak", "without_copies", "misread"} == (
        set(figures)
    )
    assert set(further[0]["figures"]) == {"balance", "reliability", "abstaining"}
    for figure in (figures | further[0]["figures"]).values():
        assert len(figure["alt"]) > 30 and figure["caption"]


def test_class_order_mistake_is_made_and_found(executed):
    results = executed[0]["results"]
    right, wrong = (results[f"misread: chi-squared {end}"]["value"] for end in ("of the sorted names", "as misread"))
    assert right < wrong
    table = html_of(executed[1], "order-table")
    assert "52.72" in table and "0.84" in table and "(printed)" in table


def test_further_page_counts_and_keeps_its_results(further):
    results, notebook = further
    counted = html_of(notebook, "parameter-table")
    assert counted.count("1,043,843") >= 2 and counted.count("2,261,827") == 2 and "2,227,715" in counted
    assert "COVID-19 as viral" in shown(notebook, "covid")
    names = set(results["results"])
    assert {  # read by the page across the papers
        "longer, accuracy: as above",
        "longer, accuracy: from random weights",
        "longer, accuracy: with augmentation",
        "longer, accuracy: pre-trained, 0.25 of the images",
    } <= names
    assert {"copies, slope: full width, re-encoded", f"calibration error: {PHASES[0]}"} <= names
    assert "trunks, accuracy, top layers open: darknet19" in names


def test_copies_of_a_share_are_nested_and_alike(children, monkeypatch, tmp_path):
    monkeypatch.setenv("PNEUMO_DATA", str(tmp_path))
    both = chapter_4.reencode(children, 32)
    plain = chapter_4.split_pool(both, "image", 0.4, 0.1, 0)
    n_test = len(plain.part("test"))
    added = {}
    for kind in ("identical", "re-encoded"):
        for share in (0.0, 0.25, 0.5):
            leaked = chapter_4.add_copies(plain, share, kind, 3)
            assert leaked.part("test").table.equals(plain.part("test").table)
            extra = leaked.part("train").table["image"].str.removeprefix("copy of ")
            added[kind, share] = set(extra) & set(plain.part("test").table["image"])
            assert len(leaked.part("train")) - len(plain.part("train")) == round(share * n_test)
        assert set() == added[kind, 0.0] < added[kind, 0.25] < added[kind, 0.5]
    assert added["identical", 0.5] == added["re-encoded", 0.5]
    original, again = (
        np.asarray(cohort.pixels(32)[:])
        for cohort in (both, both.replace(table=both.table.set_axis(both.table.index + len(both.images) // 2)))
    )
    assert (original != again).any() and np.abs(original.astype(int) - again).mean() < 6
    apart = (perceptual_hash(original) != perceptual_hash(again)).sum(axis=1)
    others = (perceptual_hash(original) != perceptual_hash(np.roll(again, 1, axis=0))).sum(axis=1)
    assert np.median(apart) < 24 < np.median(others)
    everything = chapter_4.add_copies(plain, 1.0, "identical", 0)
    assert chapter_4.is_right(pu.Predictions(**chapter_4.nearest_image(everything))).all()


def test_effects_of_copies_are_those_that_were_built_in():
    order, shares = np.random.default_rng(5).permutation(200), (0.0, 0.1, 0.2, 0.4, 0.6)
    right = {}
    for share in shares:  # half are right, and a copy makes an image right
        hits = np.zeros(200, bool)
        hits[order[::2]] = True
        hits[order[: round(share * 200)]] = True
        right[share] = hits
    found = chapter_4.leak_effects(right, 5)
    assert found == pytest.approx({"slope": 0.5, "copied": 0.5, "others": 0.0})
    nothing = chapter_4.leak_effects({share: right[0.0] for share in shares}, 5)
    assert nothing == pytest.approx({"slope": 0, "copied": 0, "others": 0}, abs=1e-12)


def test_accuracy_without_copies_undoes_the_mixture():
    share, of_copies, clean = np.array([0.0, 0.3, 0.6]), 96.2, np.array([91.4, 80.0, 70.0])
    mixed = share * of_copies + (1 - share) * clean
    assert [
        float(chapter_4.without_copies(accuracy, part, of_copies=of_copies)) for accuracy, part in zip(mixed, share)
    ] == pytest.approx(clean.tolist())
    assert chapter_4.without_copies(91.4, 0.4, slope=10.0) == pytest.approx(91.4 - 4)
    curves = chapter_4_figures.without_copies_curves(91.4, 96.2, {"network": (0.1, 0.0, 0.2)})
    shares, values, low, high = curves["measured: network"]
    assert values[0] == low[0] == high[0] == 91.4 and low[-1] == pytest.approx(91.4 - 12) and high[-1] == 91.4


def test_naming_is_found_from_the_confusions():
    ours = np.array([[80, 4, 16], [2, 90, 8], [5, 35, 60]])
    order = [1, 2, 0]  # row 0 is bacterial, row 1 viral, row 2 normal
    renamed = ours[np.ix_(order, order)]
    name = "bacterial, viral, normal"
    for errors_only in (False, True):
        losses = chapter_4.naming_losses(renamed, from_counts(ours), errors_only)
        assert len(losses) == 6 and min(losses, key=losses.get) == name
    shares = (ours + 1) / (ours + 1).sum(axis=1, keepdims=True)
    by_hand = -sum(ours[i, j] * np.log(shares[i, j]) for i in range(3) for j in range(3)) / ours.sum()
    losses = chapter_4.naming_losses(renamed, from_counts(ours))
    assert losses[name] == pytest.approx(by_hand)
    same = chapter_4.naming_losses(ours, from_counts(np.full((3, 3), 7)))
    assert max(same.values()) == pytest.approx(min(same.values()))  # confusions without a pattern name nothing


def test_mistakes_of_the_printed_matrix():
    printed = pd.DataFrame(audit_tables.paper_4_matrix(load_ledger()), index=CLASSES, columns=CLASSES)
    found = chapter_4.error_kinds(printed)
    assert found["false positives"] == pytest.approx((9 + 146) / 3008)
    assert found["viral and bacterial"] == pytest.approx((3 + 13) / 3008)


def test_right_names_fit_random_splits_up_to_chance_and_stratified_ones_by_construction(children):
    values = chapter_4_figures.random_chi_squared(children, 0.2, 0.1, 300, 0)
    expected = 2 * (1 - 0.2)  # two degrees of freedom, drawn without replacement
    assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(300)
    stratified = chapter_4.split_pool(children, "stratified", 0.2, 0.1, 0).part("test").counts().to_numpy()
    assert np.abs(stratified - len(children) * 0.2 * children.counts() / len(children)).max() <= 1.5


@pytest.mark.parametrize("mode, moves", [("inference", set()), ("open", {"open"}), ("batches", {"open", "frozen"})])
def test_batch_norm_modes_move_the_statistics_that_they_should(children, mode, moves):
    from dataclasses import replace

    settings = replace(SETTINGS, batch_norm=mode, epochs=0)
    cohort = chapter_4.split_pool(children, "stratified", 0.3, 0.1, 0)
    start = chapter_4.build_network(settings, chapter_4.NETWORK, 1).state_dict()
    trained = chapter_4.train(settings, cohort, 1, keep_weights=True)["weights"]
    net = pu.set_trainable(chapter_4.build_network(settings, chapter_4.NETWORK, 1), settings.opened)
    moved = set()
    for path, module in net.named_modules():
        if is_batch_norm(module):
            where = "open" if module.weight.requires_grad else "frozen"
            if not np.array_equal(trained[f"{path}.running_mean"], start[f"{path}.running_mean"].numpy()):
                moved.add(where)
            if where == "open":
                assert not np.array_equal(trained[f"{path}.weight"], start[f"{path}.weight"].numpy())
    assert moved == moves


def test_predictions_from_kept_features_are_those_of_the_network(children):
    cohort = chapter_4.split_pool(children, "stratified", 0.3, 0.1, 0)
    found = chapter_4.train(SETTINGS, cohort, 2, keep_weights=True)
    net = chapter_4.build_network(SETTINGS, chapter_4.NETWORK, 2)
    net.load_state_dict({name: torch.as_tensor(value) for name, value in found["weights"].items()})
    how = {"stats": net.about.stats}
    learn = pu.learner(cohort.dataloaders(32, 8, **how), net)
    for name, part in {"test": cohort.part("test"), "known": cohort.part("train").sample(18, 2)}.items():
        plain = pu.predict(learn, part.loader(32, 64, **how))
        kept = pu.Predictions(**found[name][-1])
        assert kept.question == plain.question
        np.testing.assert_allclose(kept.probabilities, plain.probabilities, atol=1e-5)
    assert found["moved"][0] == 0 < found["moved"][1] and found["history"]["phase"].tolist() == [1, 2]


def test_second_phase_has_rmsprop_and_phases_without_epochs_are_left_out():
    from dataclasses import replace

    first, second = chapter_4.plan_phases(SETTINGS)
    assert first.optimizer.kind is torch.optim.Adam and second.optimizer.kind is torch.optim.RMSprop
    (only,) = chapter_4.plan_phases(replace(SETTINGS, tuning_epochs=0))
    assert only.trainable == "head"


def test_children_alone_with_imagenet_weights(tmp_path, monkeypatch):
    """Split by group, without a curated set, with the second network, and without a picture of anyone."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    children = writers.write_release("kermany", 100, 64, 0, tmp_path / "children")
    shutil.rmtree(children / "truth")
    fewer = {"split": "group", "imagenet_seeds": 2, "imagenet_image_size": 64, "max_steps": 1, "epochs": 1}
    folder = run(CHAPTER, TINY | fewer | {"data_root": str(children)}).folder
    results = results_of(folder)
    assert results["data"] == "real children alone" and not results["quantities"]
    assert not {"copies", "batch", "top_losses"} & set(results["figures"])
    names = set(results["results"])
    assert "curated_from_children" not in names
    assert {"EfficientNet-Lite0, top layers open: accuracy", "copies, slope: EfficientNet-Lite0, re-encoded"} <= names


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full MobileNetV2 from a file as torchvision has it, on folders that count as people's, one step a phase."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(models.mobilenet_v2().state_dict(), tmp_path / "weights" / "mobilenetv2.safetensors")
    children, curated = (
        writers.write_release(name, images, 64, 0, tmp_path / name)
        for name, images in (("kermany", 80), ("curated_covid", 100))
    )
    for folder in (children, curated):
        shutil.rmtree(folder / "truth")
    fewer = {"seeds": 2, "ablation_seeds": 2, "leak_seeds": 2, "max_steps": 1, "epochs": 1, "tuning_epochs": 1}
    fewer |= {"image_size": 64}  # at 160 pixels one core takes minutes
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", kermany=children, curated_covid=curated) | fewer).folder
    results = results_of(folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    (apart,) = results["quantities"].values()
    assert min(as_array(apart["resamples"])) > 0.05  # these were written with copies
    assert "not shown" in shown(nbformat.read(folder / "notebook.ipynb", 4), "training-loaders")


def test_trial_of_the_page_runs(tmp_path, monkeypatch):
    """With other settings from the page, and without images of COVID-19."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    releases_of = {
        name: writers.write_release(name, images, 32, 0, tmp_path / name)
        for name, images in (("kermany", 100), ("curated_covid", 150))
    }
    results = results_of(run(CHAPTER, tried_on_the_page(CHAPTER, **releases_of) | {"covid": "out"}).folder)
    assert results["parameters"]["covid"] == "out" and results["experiments"]
