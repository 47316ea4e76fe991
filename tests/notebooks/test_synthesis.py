"""The chapter across the papers: it runs, its differences and shares are right, and invalid sizes are refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from chapter_runs import ROOT, results_of, shown, tried_on_the_page
from scipy import stats
from settings import OF_THE_BOOK

from notebooks import synthesis_effects
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.common.errors import ChapterFailed, ParameterError, StudyError
from pneumo_utils.data.readers import kermany
from pneumo_utils.data.readers.labels import read_adults
from pneumo_utils.evaluation.comparison import detectable_difference, required_images, simulated_power
from pneumo_utils.evaluation.variance_components import component_shares, estimate_components, jackknife_ci
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import set_trainable
from pneumo_utils.phantom import writers
from pneumo_utils.plots.comparison import differences_plot, forest_plot
from pneumo_utils.plots.learning_curves import sample_size_curves
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.parameters import chapter_parameters
from pneumo_utils.study.run import run
from pneumo_utils.training.learner import compute_features, fitting, learner
from pneumo_utils.training.optimizers import adam
from pneumo_utils.training.predict import predict

CHAPTER = Chapter(ROOT / "notebooks" / "synthesis.ipynb")
TINY = OF_THE_BOOK["synthesis"]


@pytest.fixture(scope="module")
def executed(execute, home):
    return execute(CHAPTER, TINY)


def test_every_effect_has_an_interval(executed):
    results = executed[0]["results"]
    for effect in (
        "last block over the head alone",
        "everything over the last block",
        "pre-trained over random weights",
        "augmented over as they are",
        "weighed over not weighed",
        "40 images over 20",
    ):
        for score_name in ("AUROC of children", "balanced accuracy of children", "AUROC of adults"):
            result = results[f"gain, {score_name}: {effect}"]
            assert result["low"] <= result["value"] <= result["high"]
        gains = [
            results[f"gain by trunk, AUROC of children: {effect}, {name}"]["value"] for name in ("ResNet18", "VGG16")
        ]
        assert np.mean(gains) == pytest.approx(
            results[f"gain, AUROC of children: {effect}"]["value"]
        )  # the mean of the trunks' means is the mean over draws of the mean trunk
    assert sum(
        results[f"share of the variance: {name}"]["value"]
        for name in ("trunk", "protocol", "trunk and protocol together", "draw of the images", "rest")
    ) == pytest.approx(1)


def test_tables_have_baselines(executed):
    results, notebook = executed
    assert all(
        f"images, AUROC, {what}: {number}" in results["results"]
        for number in (20, 30, 40)
        for what in ("mean of the trunks", "32 x 32 pixels", "networks over pixels")
    )
    assert results["results"]["in the centre, AUROC of children: majority"]["value"] == 0.5
    assert all(
        name in shown(notebook, "factors-scores")
        for name in ("ResNet18", "VGG16", "32 x 32 pixels", "frame only", "majority")
    )
    assert all(
        word in shown(notebook, "takeaways-code")
        for word in (
            "Fit a linear model first",
            "Which network",
            "pre-trained weights",
            "Augment",
            "threshold",
            "How large a test part",
            "phantoms, pocket networks",
        )
    )
    assert {
        "best, AUROC: the best of all, chosen on the other draws",
        "best, AUROC: chosen on the other draws, over pixels",
        "different winners",
        "shift, AUROC: adults over children, mean of the trunks",
    } <= results["results"].keys()
    assert (
        results["results"]["best, AUROC: the best of all by the mean of all draws"]["value"]
        >= results["results"]["best, AUROC: the best of all, chosen on the other draws"]["value"] - 0.2
    )
    assert not results["experiments"] and "RuntimeWarning" not in str(notebook)


def test_figures_have_alt_text(executed):
    figures = executed[0]["figures"]
    assert {
        "balance",
        "effects",
        "effects_by_trunk",
        "amounts",
        "shift",
        "protocols",
        "protocols_and_trunks",
        "against",
    } == set(figures)
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in figures.values())


def test_protocols_equal_the_papers_and_chapters(executed):
    """Rates of pocket networks are the chapters' own, but for chapter 4's second optimiser, RMSprop, in whose place
    stands Adam here; shares of the steps and numbers of layers are the papers'.
    """
    ledger, table = load_ledger(), shown(executed[1], "protocols-table")
    chapter = {
        number: {name: parameter.default for name, parameter in chapter_parameters(find_chapter(number)).items()}
        for number in "12345"
    }
    paper_2 = yaml.safe_load((ROOT / "notebooks" / "params" / "paper" / "02_gradcam_comparison.yml").read_text())
    assert (
        "last block + head, 1.00, adam 0.001" in table
        and chapter["1"]["lr"] == ledger.value("p1-learning-rate") == 0.001
    )
    assert (
        "head, 0.50, adam 0.001; all, 0.50, adam 0.0001" in table
        and chapter["2"]["lr"] == 0.001
        and chapter["2"]["rate_factor"] == 0.1
        and 2 * paper_2["threshold"] == paper_2["epochs"]
    )
    assert (
        "head, 0.75, sgd 0.001; all but batch norm, 0.25, sgd 0.001" in table
        and chapter["3"]["tuning_lr"] == 0.001
        and (chapter["3"]["momentum"], chapter["3"]["decay"], chapter["3"]["views"]) == (0.9, 1e-6, 2)
    )
    assert "head, 0.33, adam 0.003; top 14 + head, 0.67, adam 0.001" in table and (
        chapter["4"]["lr"],
        chapter["4"]["top_layers"],
    ) == (0.003, 14)
    assert (
        "final layers + head, 1.00, adam 0.001" in table
        and chapter["5"]["lr"] == 0.001
        and chapter["5"]["between"] == "softmax"
        and max(ledger.value("p5-open-layers")) == max(chapter["5"]["tested_layers"])
    )


def test_recorded_effects_use_result_names_of_the_records():
    """Every pair is on a record, a paired difference is handed through, and one of two means is at least as wide as
    either.
    """
    results = synthesis_effects.recorded_effects()
    for effect, chapter, measure, given, without in synthesis_effects.RECORDED_RESULTS:
        recorded = records.read_records(chapter).values()
        if "sites" in given:  # which only phantoms have
            recorded = [record for record in recorded if not record.real]
        assert not recorded or any({given, without} - {""} <= record.results.keys() for record in recorded), (
            effect,
            given,
            without,
        )
    assert (results["low"] <= results["difference"]).all() and (results["difference"] <= results["high"]).all()
    record = records.read_records(synthesis_effects.CHAPTER_2)["real-radiographs"]
    row = results[
        (results["chapter"] == synthesis_effects.CHAPTER_2)
        & (results["record"] == "real radiographs")
        & (results["measure"] == "AUROC, VGG16")
    ].iloc[0]
    assert (row["difference"], row["low"], row["high"]) == record.value("gain of scenario 2: VGG16, auroc") and row[
        "paired"
    ]
    record = records.read_records(synthesis_effects.CHAPTER_1)["real-radiographs"]
    (first, *one_reach), (second, *other_reach) = (
        record.value(f"initial weights, auroc: no adults{kind}") for kind in ("", ", random weights")
    )
    row = results[
        (results["chapter"] == synthesis_effects.CHAPTER_1)
        & (results["record"] == "real radiographs")
        & (results["effect"] == synthesis_effects.PRETRAINED)
    ].iloc[0]
    assert (
        row["difference"] == pytest.approx(first - second)
        and row["high"] - row["low"] >= max(np.ptp(one_reach), np.ptp(other_reach))
        and not row["paired"]
    )


def test_summary_without_records_is_empty(monkeypatch, tmp_path):
    monkeypatch.setenv("PNEUMO_RECORDS", str(tmp_path))
    assert synthesis_effects.recorded_effects().empty and "difference" in synthesis_effects.recorded_effects()


def test_run_and_record_differences_are_compared(closed_figures):
    differences = {"up": (0.2, 0.1, 0.3), "down": (-0.2, -0.3, -0.1), "none": (0.0, -0.1, 0.1)}
    pairs = {
        "both up": ("up", "up"),
        "both down": ("down", "down"),
        "against": ("up", "down"),
        "ours": ("down", "none"),
        "theirs": ("none", "up"),
        "neither": ("none", "none"),
    }
    ours, theirs = (
        {words: dict(zip(("value", "low", "high"), differences[pair[index]])) for words, pair in pairs.items()}
        for index in (0, 1)
    )
    record = replace(
        records.read_records(synthesis_effects.CHAPTER_2)["real-radiographs"],
        results=theirs | {"there alone": theirs["ours"]},
    )
    both = synthesis_effects.compare_with_record(
        ours, record, {words: words for words in [*pairs, "there alone"]}, "phantoms", "people"
    )
    assert list(both["comparison"]) == list(pairs)
    assert list(both["so"]) == [
        "a gain on both",
        "a loss on both",
        "opposite ways",
        "a loss on phantoms alone",
        "a gain on people alone",
        "clear on neither",
    ]
    row = both[both["comparison"] == "against"].iloc[0]
    assert (row["apart"], row["apart_low"], row["apart_high"]) == pytest.approx(
        (-0.4, -0.4 - 0.1 * 2**0.5, -0.4 + 0.1 * 2**0.5)
    )
    _, alt = differences_plot(both, "this run", "on record")
    assert "both up: this run 0.200 (0.10 to 0.30), on record 0.200 (0.10 to 0.30)" in alt
    with pytest.raises(StudyError, match="no difference that both have"):
        differences_plot(both.head(0), "this run", "on record")


def test_page_compares_real_images_and_phantoms(executed):
    """From the committed record, as far as it asked what this small run asks."""
    record, notebook = records.read_records("synthesis")["real-radiographs"], executed[1]
    table, taken = shown(notebook, "records-table"), shown(notebook, "takeaways-code")
    value, low, high = record.value("gain, AUROC of children: pre-trained over random weights")
    assert (
        record.real
        and f"{value:+.3f} ({low:+.3f} to {high:+.3f})" in table
        and f"Clear gains: pre-trained over random weights {value:+.3f}" in taken
    )
    assert (
        "On real radiographs, on record" in taken
        and "Does a phantom say what a radiograph says?" in taken
        and "rank correlation" in table
    )


# the decomposition


def test_variance_components_are_recovered():
    """A large design of known deviations; and what has no chance in it has no rest."""
    random = np.random.default_rng(0)
    made = {"rows": 3.0, "columns": 2.0, "rows x columns": 1.0, "draws": 0.5, "rest": 1.5}
    shape = {
        "rows": (40, 1, 1),
        "columns": (1, 40, 1),
        "rows x columns": (40, 40, 1),
        "draws": (1, 1, 40),
        "rest": (40, 40, 40),
    }
    scores = sum(
        deviation * (drawn - drawn.mean()) / drawn.std()
        for name, deviation in made.items()
        for drawn in [random.standard_normal(shape[name])]
    )
    for name, component in estimate_components(scores).items():
        assert component == pytest.approx(made[name] ** 2, rel=0.1), name
    assert sum(component_shares(scores).values()) == pytest.approx(1)
    exact = estimate_components(np.arange(4.0)[:, None, None] + np.arange(3.0)[None, :, None] + np.zeros((4, 3, 5)))
    assert exact == pytest.approx(
        {
            "rows": np.var(np.arange(4), ddof=1),
            "columns": np.var(np.arange(3), ddof=1),
            "rows x columns": 0,
            "draws": 0,
            "rest": 0,
        }
    )


def test_one_column_equals_one_way_anova():
    """Held against F by hand: its mean squares are those of a two-way table without repetition."""
    scores = np.random.default_rng(1).standard_normal((6, 8)) + np.arange(6)[:, None]
    rows = 8 * scores.mean(1).var(ddof=1)
    rest = ((scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()) ** 2).sum() / (5 * 7)
    results = estimate_components(scores[:, None, :])
    assert (
        results["rows"] == pytest.approx((rows - rest) / 8)
        and results["rest"] == pytest.approx(rest)
        and results["columns"] == results["rows x columns"] == 0
    )
    assert stats.f.sf(rows / rest, 5, 35) < 0.01


def test_jackknife_of_a_mean_equals_student():
    scores = np.random.default_rng(2).standard_normal((3, 2, 6))
    value, low, high = jackknife_ci(lambda sample: sample.mean(), scores)
    by_draw = scores.mean((0, 1))
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, 5, by_draw.mean(), stats.sem(by_draw))
    ) and value == pytest.approx(by_draw.mean())


def test_jackknife_interval_has_nominal_coverage():
    """The difference of two shares in small designs of a kind, against what a very large one of the kind has."""
    random, held = np.random.default_rng(3), 0
    row, column = np.array([-1, 0, 0, 1.0]), np.array([-1.5, 0, 1.5])
    true = (column.var(ddof=1) - row.var(ddof=1)) / (column.var(ddof=1) + row.var(ddof=1) + 1)
    for _ in range(300):
        scores = row[:, None, None] + column[None, :, None] + random.standard_normal((4, 3, 5))
        _, low, high = jackknife_ci(
            lambda sample: component_shares(sample)["columns"] - component_shares(sample)["rows"], scores
        )
        held += low <= true <= high
    assert 0.88 < held / 300 <= 1


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (1, 1, 5)])
def test_invalid_design_is_refused(shape):
    with pytest.raises(StudyError, match="two draws at least"):
        estimate_components(np.zeros(shape))


def test_two_runs_give_no_interval():
    assert np.isnan(jackknife_ci(lambda sample: sample.mean(), np.ones((2, 2, 2)))[1:]).all()


# how many test images


@pytest.mark.parametrize("difference, disagreeing", [(0.02, 0.1), (0.05, 0.2), (0.03, 0.06), (0.1, 0.5)])
def test_sample_size_gives_the_requested_power(difference, disagreeing):
    needed = required_images(difference, disagreeing)
    assert simulated_power(difference, disagreeing, needed, n_simulations=6000) == pytest.approx(0.8, abs=0.03)
    # and where there is none, as often as the level lets it
    assert simulated_power(0.0, disagreeing, needed, n_simulations=6000) < 0.07
    assert detectable_difference(needed, disagreeing) == pytest.approx(difference, rel=0.02)


def test_difference_larger_than_disagreement_is_refused():
    with pytest.raises(StudyError, match="cannot differ in accuracy"):
        required_images(0.2, 0.1)
    assert np.isnan(detectable_difference(3, 0.1))


# what it stands on


def test_predictions_from_cached_features_equal_the_full_network(tmp_path, home, one_thread):
    """In float32 to the last digits: loaders behind the validation part are gone on from, as the whole network
    would.
    """
    children = kermany.read(
        writers.write_release("kermany", 80, 32, 0, tmp_path / "children"), say=lambda _: None
    ).split(by="patient", test=0.3, valid=0.2, seed=0)
    net = set_trainable(
        with_head(body := trunk("resnet18", weights="pocket"), heads.linear(body.about.channels, 2, seed=0)),
        "conv5_x + head",
    )
    dls = children.dataloaders(32, 8, stats=net.about.stats)
    test_loader = children.part("test").loader(32, 16, stats=net.about.stats)
    dls.loaders.append(test_loader)
    compute_features(dls, net, precision="float32")
    learn = learner(dls, net, optimizer=adam(0.001), precision="float32", max_steps=3)
    with fitting(learn, cache="on"):
        learn.fit(1)
        kept, whole = predict(learn, learn.dls.loaders[2]), predict(learn, test_loader)
    assert kept.question == whole.question and not np.allclose(whole.probabilities, whole.probabilities[0])
    np.testing.assert_allclose(kept.probabilities, whole.probabilities, atol=1e-5)


def test_adults_of_both_releases_have_the_same_task(tmp_path):
    rsna, nih = (
        read_adults(writers.write_release(name, images, 32, 0, tmp_path / name))
        for name, images in (("rsna", 60), ("nih", 400))
    )
    assert rsna.classes == nih.classes == ["normal", "pneumonia"]
    assert all(cohort.counts().min() > 0 and not (cohort.table["age"] < 18).any() for cohort in (rsna, nih))
    with pytest.raises(StudyError):
        read_adults(writers.write_release("kermany", 40, 32, 0, tmp_path / "children"))


def test_sample_size_curves_need_two_sizes(closed_figures):
    rows = pd.DataFrame(
        [
            {"model": model, "baseline": model == "pixels", "images": images, "draw": 1, "value": value}
            for model in ("one", "other", "pixels")
            for images, value in ((25, 0.6), (100, 0.8))
        ]
    )
    _, alt = sample_size_curves(rows, "AUROC")
    assert "mean of the networks: 0.600 from 25, 0.800 from 100" in alt and "pixels" in alt
    with pytest.raises(StudyError, match="two of them"):
        sample_size_curves(rows[rows["images"] == 25], "AUROC")


def test_forest_plot_has_a_reference_line(closed_figures):
    figure, alt = forest_plot(
        pd.DataFrame(
            [
                {
                    "model": "a change",
                    "baseline": False,
                    "metric": "auroc of children",
                    "value": 0.1,
                    "low": 0.05,
                    "high": 0.15,
                }
            ]
        ),
        reference=0.0,
    )
    assert "dashed line at 0" in alt and list(figure.axes[0].lines[-1].get_xdata()) == [0, 0]


def test_trial_with_other_settings_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    folders = {
        name: writers.write_release(name, images, 48, 0, tmp_path / name)
        for name, images in (("rsna", 80), ("kermany", 160))
    }
    results = results_of(run(CHAPTER, tried_on_the_page(CHAPTER, **folders)).folder)
    assert results["parameters"]["rates"] == "paper" and "40 images over 20" in str(results["results"])


# bad input


@pytest.mark.parametrize(
    "given, message",
    [
        ({"trunks": ["resnet18", "resnet19"]}, "did you mean 'resnet18'"),
        ({"seeds": 1}, r"\[2, 1000\]"),
        ({"amounts": [5]}, r"\[10, 1000000\]"),
        ({"rates": "own"}, "pocket, paper"),
    ],
)
def test_invalid_settings_are_refused_before_running(given, message):
    with pytest.raises(ParameterError, match=message):
        run(CHAPTER, given)


@pytest.mark.parametrize(
    "amounts, message",
    [([5000], "5,000 training images are asked for and there are"), ([10], "name a number above 20 in `amounts`")],
)
def test_invalid_sample_sizes_are_refused(amounts, message, monkeypatch, tmp_path, home):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    with pytest.raises(ChapterFailed, match=message):
        run(CHAPTER, TINY | {"amounts": amounts})
