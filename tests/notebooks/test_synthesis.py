"""The page across the papers and its details: they run, share trainings, follow the decision table, and add up."""

from dataclasses import replace
from importlib import metadata
from itertools import product

import numpy as np
import pandas as pd
import pytest
from chapter_runs import ROOT, html_of, results_of, shown, tried_on_the_page
from scipy import stats
from settings import OF_THE_BOOK

from notebooks import synthesis_design as design
from notebooks import synthesis_effects, synthesis_figures
from pneumo_utils.claims.decision import (
    ALIKE,
    BETTER,
    CONTRADICTED,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_TESTED,
    SUPPORTED,
    Difference,
)
from pneumo_utils.claims.judging import Verdict
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.verdicts import short_verdict
from pneumo_utils.common.errors import ChapterFailed, MissingWeights, ParameterError, StudyError
from pneumo_utils.data.readers.labels import read_adults
from pneumo_utils.evaluation.comparison import (
    detectable_difference,
    paired_difference,
    required_images,
    simulated_power,
)
from pneumo_utils.evaluation.variance_components import component_shares, estimate_components, jackknife_ci
from pneumo_utils.models import weights
from pneumo_utils.phantom import writers
from pneumo_utils.plots.comparison import forest_plot
from pneumo_utils.plots.learning_curves import sample_size_curves
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.parameters import chapter_parameters
from pneumo_utils.study.run import run

CHAPTER = Chapter(ROOT / "notebooks" / "synthesis.ipynb")
DETAILS = Chapter(ROOT / "notebooks" / "further" / "synthesis_details.ipynb")
TINY = OF_THE_BOOK["synthesis"]
REFERENCE = design.reference_protocol(20, 0.001)


@pytest.fixture(scope="module")
def executed(execute, home):
    return execute(CHAPTER, TINY)


@pytest.fixture(scope="module")
def details(execute, home):
    return execute(DETAILS, TINY)


def test_differences_shares_and_verdicts_of_the_page(executed):
    results, notebook = executed
    found = results["results"]
    for effect in design.effects_of(20, 40):
        for score in ("AUROC of children", "balanced accuracy of children", "AUROC of adults"):
            entry = found[f"gain, {score}: {effect}"]
            assert entry["low"] <= entry["value"] <= entry["high"]
    sources = ("trunk", "protocol", "trunk and protocol together", "draw of the images", "rest")
    assert sum(found[f"share of the variance: {name}"]["value"] for name in sources) == pytest.approx(1)
    assert {"one change, children", "ways to train", "other patients", "from 20 images"} <= set(results["experiments"])
    box = shown(notebook, "begin")
    assert "once the notebook has run" not in box and "**What to do**" in box and "RuntimeWarning" not in str(notebook)
    assert f"{found['best, AUROC: 32 x 32 pixels']['value']:.3f}" in box  # the front page has it too
    figures = results["figures"]
    assert {"amounts", "protocols"} == set(figures)
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in figures.values())


def test_imagenet_network_stands_beside_the_trunks(executed):
    results, notebook = executed
    for cell in ("centre-table", "amounts-figure"):
        assert design.IMAGENET in html_of(notebook, cell)
    assert f"in the centre, AUROC of children: {design.IMAGENET}" in results["results"]
    assert "Than the best trunk of the papers" in shown(notebook, "begin")


def test_page_goes_on_where_the_package_is_missing(monkeypatch):
    """The cell that looks for the weights, as a reader without the package runs it."""

    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights.metadata, "distribution", not_installed)
    (cell,) = [cell for cell in CHAPTER.notebook()["cells"] if cell["id"] == "imagenet-code"]
    shown_here: list = []
    names = {"imagenet": True, "IMAGENET": design.IMAGENET, "design": design, "pu": design.pu}
    names |= {"MissingWeights": MissingWeights, "Markdown": str, "display": shown_here.append}
    exec("".join(cell["source"]), names)
    assert names["lite"] == [] and "pip install" in shown_here[0] and "left out" in shown_here[0]


def test_details_find_the_trainings_of_the_page_again(executed, details):
    results, notebook = details
    text = str(next(cell for cell in notebook.cells if cell["id"] == "data-read")["outputs"])
    assert text.count("all found again") == 3
    by_effect = {effect: f"gain by trunk, AUROC of children: {effect}" for effect in design.effects_of(20, 40)}
    for effect, name in by_effect.items():
        mean = np.mean([results["results"][f"{name}, {trunk}"]["value"] for trunk in ("ResNet18", "VGG16")])
        assert mean == pytest.approx(executed[0]["results"][f"gain, AUROC of children: {effect}"]["value"])
    assert {"balance", "by_trunk", "adults", "against"} == set(results["figures"])
    assert "once the notebook has run" not in shown(notebook, "begin") and "RuntimeWarning" not in str(notebook)


# the design


def test_protocols_equal_the_papers_and_chapters():
    """Rates of pocket networks are the chapters' own, but for the second phase of chapter 4, which has RMSprop."""
    ledger = load_ledger()
    chapter = {
        number: {name: parameter.default for name, parameter in chapter_parameters(find_chapter(number)).items()}
        for number in "1234"
    }
    plans = {name: protocol.plan for name, protocol in design.paper_protocols(REFERENCE, ledger, False).items()}
    assert plans["1 surgical"] == (("last block + head", 1.0, "adam", chapter["1"]["lr"]),)
    assert plans["2 threshold"] == (
        ("head", 0.5, "adam", chapter["2"]["lr"]),
        ("all", 0.5, "adam", chapter["2"]["lr"] * chapter["2"]["rate_factor"]),
    )
    assert plans["3 SGD"] == (
        ("head", 0.75, "sgd", chapter["3"]["lr"]),
        ("all but batch norm", 0.25, "sgd", chapter["3"]["tuning_lr"]),
    )
    first, second = plans["4 top layers"]
    assert first == ("head", pytest.approx(1 / 3), "adam", chapter["4"]["lr"])
    assert second[0] == f"top {chapter['4']['top_layers']} + head" and chapter["4"]["tuning_optimizer"] == "rmsprop"
    own = design.paper_protocols(REFERENCE, ledger, True)
    assert [rate for *_, rate in own["4 top layers"].plan] == [ledger.value("p4-rate"), ledger.value("p4-tuning-rate")]


@pytest.mark.parametrize("network, last", [("VGG16", "block5"), ("DenseNet201", "block4 + norm")])
def test_last_block_looks_at_neighbouring_pixels(network, last):
    settings = design.Settings("random", "pocket", 32, 64, 8, 1, 1, 0)
    net = design.build_network(settings, network, REFERENCE, 0)
    assert design.trained_blocks(net, "last block + head", 0) == f"{last} + head"


# verdicts


def test_intervals_of_a_stored_difference_are_those_of_its_draws():
    draws = [0.03, 0.05, 0.01, 0.06]
    gain = paired_difference(draws)
    stored = synthesis_effects.stored_difference(gain.value, gain.high, len(draws))
    for level in (0.9, 0.95):
        assert stored.interval(level) == pytest.approx(Difference.from_runs(draws).interval(level))
    verdict = synthesis_effects.judge(stored, BETTER, "auroc")
    assert (verdict.verdict, verdict.low) == (SUPPORTED, pytest.approx(gain.low))
    assert (
        synthesis_effects.judge(synthesis_effects.stored_difference(0.1, 0.2, 2), BETTER, "auroc").verdict == NOT_TESTED
    )


def test_difference_of_independent_means_has_welchs_interval():
    first, second = [0.1, 0.3, 0.2, 0.25], [0.0, 0.02, 0.05]
    both = synthesis_effects.subtract_independent(Difference.from_runs(first), Difference.from_runs(second))
    welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert both.interval() == pytest.approx((welch.low, welch.high))


def test_run_and_record_are_compared_by_the_decision_table():
    record = records.read_records("synthesis")["real-radiographs"]
    names = {"alike": "a", "apart": "b", "open": "c", "there alone": "d"}
    of_record = {"a": (0.1, 0.101), "b": (0.3, 0.31), "c": (0.0, 0.2), "d": (0.1, 0.2)}
    theirs = {name: {"value": value, "high": high} for name, (value, high) in of_record.items()}
    ours = {name: {"value": 0.1, "high": 0.101} for name in "abc"}
    found = synthesis_effects.compare_with_record(ours, replace(record, results=theirs), names, 4)
    assert [each.label for each in found] == ["alike", "apart", "open"]
    assert [each.alike.verdict for each in found] == [SUPPORTED, CONTRADICTED, INCONCLUSIVE]
    assert [each.record.verdict for each in found] == [SUPPORTED, SUPPORTED, INCONCLUSIVE]
    assert found[1].alike.value == pytest.approx(0.2)


@pytest.mark.parametrize(
    "word, says, never",
    [
        (SUPPORTED, "train a network", "linear model is fitted"),
        (CONTRADICTED, "fit a linear model", "train a network"),
        (EQUIVALENT, "less than what matters", "does not decide"),
        (INCONCLUSIVE, "does not decide", "is fitted"),
        (NOT_TESTED, "nothing is decided", "fit a linear model"),
    ],
)
def test_advice_follows_the_verdict(word, says, never):
    verdict = Verdict(word, "2 draws", value=0.1, low=0.0, high=0.2, detectable=0.1)
    advice = synthesis_figures.advise_on_network(verdict, "VGG16", 100)
    assert says in advice and never not in advice
    of_changes = synthesis_figures.advise_on_changes({"augment": verdict})
    assert ("open" in of_changes) == (word == INCONCLUSIVE) and ("help" in of_changes) == (word == SUPPORTED)


def test_no_effect_is_seldom_called_one():
    """As the rules of the papers' claims: at most one in twenty on null inputs."""
    random = np.random.default_rng(0)
    words = [
        synthesis_effects.judge(Difference.from_runs(random.normal(0, 0.03, 4)), relation, "auroc").verdict
        for relation, _ in product((BETTER, ALIKE), range(1000))
    ]
    assert np.mean([word in (SUPPORTED, CONTRADICTED) for word in words[:1000]]) < 0.065
    assert CONTRADICTED not in words[1000:] or words[1000:].count(CONTRADICTED) < 50


# records


def test_recorded_effects_use_result_names_of_the_records():
    """Every pair is on a record if its chapter has one, and a paired difference is handed through."""
    found = synthesis_effects.recorded_effects()
    for effect, chapter, _, given, without in synthesis_effects.RECORDED_RESULTS:
        recorded = records.read_records(chapter).values()
        if "sites" in given:  # which only phantoms have
            recorded = [record for record in recorded if not record.real]
        complete = [{given, without} - {""} <= record.results.keys() for record in recorded]
        assert not complete or any(complete), (effect, given, without)
    assert (found["low"] <= found["difference"]).all() and (found["difference"] <= found["high"]).all()
    record = records.read_records(synthesis_effects.CHAPTER_2)["real-radiographs"]
    in_chapter_2 = found[(found["chapter"] == synthesis_effects.CHAPTER_2) & (found["measure"] == "AUROC, VGG16")]
    row = in_chapter_2[in_chapter_2["record"] == "real radiographs"].iloc[0]
    expected = record.value("gain of scenario 2: VGG16, auroc")
    assert (row["difference"], row["low"], row["high"]) == expected and row["paired"]


def test_summary_without_records_is_empty(monkeypatch, tmp_path):
    monkeypatch.setenv("PNEUMO_RECORDS", str(tmp_path))
    assert synthesis_effects.recorded_effects().empty and "verdict" in synthesis_effects.recorded_effects()


def test_page_compares_real_images_and_phantoms(executed):
    """From the committed record, as far as it asked what this small run asks."""
    record, notebook = records.read_records("synthesis")["real-radiographs"], executed[1]
    name = "gain, AUROC of children: pre-trained over random weights"
    expected = short_verdict(
        synthesis_effects.judge(synthesis_effects.recorded_difference(record, name), BETTER, "auroc")
    )
    assert expected in html_of(notebook, "records-table") and expected.startswith("supported")
    assert "On real radiographs, in the record" in shown(notebook, "begin")


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


# data and settings


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
    for chapter in (CHAPTER, DETAILS):
        results = results_of(run(chapter, tried_on_the_page(chapter, **folders)).folder)
        assert "40 images over 20" in str(results["results"])


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
