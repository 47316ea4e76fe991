"""The pages on trunks and on speed: they run, and their figures take real and odd records."""

import math

import pandas as pd
import pytest
from chapter_runs import ROOT, shown
from settings import OF_THE_BOOK

from notebooks import speed_figures, trunks_figures
from pneumo_utils.study.chapters import Chapter

SMALL = {name: OF_THE_BOOK[name] for name in ("trunks", "speed")}


@pytest.fixture(scope="module")
def executed(execute):
    """Both pages, run once at a small size: results and notebook by name."""
    return {name: execute(Chapter(ROOT / "notebooks" / f"{name}.ipynb"), small) for name, small in SMALL.items()}


@pytest.mark.parametrize("name", SMALL)
def test_page_figures_have_alt_text_and_no_warnings(executed, name):
    results, notebook = executed[name]
    assert results["figures"], "a page without a picture"
    for figure in results["figures"].values():
        assert len(figure["alt"]) > 40 and figure["caption"]
    warnings = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    assert not warnings, "a warning, or what is left of a progress bar, would stand on the page"


@pytest.mark.parametrize("name", SMALL)
def test_page_is_stored_without_outputs(name):
    cells = Chapter(ROOT / "notebooks" / f"{name}.ipynb").notebook()["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_speed_page_counts_trainable_parts(executed):
    results = executed["speed"][0]["results"]
    assert results["changed_when_frozen_here"]["value"] == 0 < results["changed_by_fastai_freeze"]["value"]
    assert results["kept_and_plain_apart"]["value"] <= 1e-5


def test_trunks_page_compares_every_card_with_chance(executed):
    results = executed["trunks"][0]["results"]
    sources = {name: result for name, result in results.items() if name.startswith("source_")}
    assert len(sources) == 8 and all(source["value"] > source["baseline"] for source in sources.values())
    assert 0 < results["pocket_megabytes"]["value"] < 15
    box, record = shown(executed["trunks"][1], "trunks-02"), trunks_figures.load_trunk_record()
    assert "**What to do**" in box and "once the notebook has run" not in box
    for (place, way), part in trunks_figures.gain_table(record).groupby(["on", "way"]):
        assert f"pocket_gain: {place}, {way}" in results
        assert f"on {place}, {way}? *" in box and f"of {len(part)} trunks" in box


GROUP = {
    "title": "heads",
    "aims": [["kept", "plain", 41.3], ["kept", "slow", 197], ["slow", "plain", 0.2]],
    "ways": [
        {"name": "plain", "median": 10.0, "least": 9.0, "most": 11.0, "ratio": 1.0},
        {"name": "kept", "median": 400.0, "least": 300.0, "most": 500.0, "ratio": 41.3},
        {"name": "slow", "median": 2.0, "least": 2.0, "most": 2.0, "ratio": 0.21},
    ],
}


def test_ratio_plot_positions():
    figure, alt = speed_figures.speed_ratio_plot([GROUP, GROUP])
    dots = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots == 2 * [1.0, 41.3, 0.21]
    assert "kept: 41 x" in alt and "slow: 0.21 x" in alt
    low, high = figure.axes[0].get_xlim()
    assert low < 0.21 and high > 41.3


def test_speed_page_answers_at_its_top(executed):
    results, notebook = executed["speed"]
    box = shown(notebook, "speed-02")
    assert "**What to do**" in box and "x for *cached prefix, once made*" in box and "cache its features" in box
    kept = {name for name, result in results["results"].items() if "kept benchmark" in result.get("note", "")}
    assert len(kept) == 10 and set(results["figures"]) == {"ratios", "stages"}


def test_sentences_on_freezing_follow_the_counts():
    said = speed_figures.describe_freezing({"a": (3, 9), "b": (0, 9)})
    assert said.startswith("A frozen trunk stays as it is with *b*. *a* changes 3 of 9 tensors.")
    assert "with none of the ways" in speed_figures.describe_freezing({"a": (3, 9)})
    same = pd.DataFrame({"moved by": [0.1, 0.02], "apart by": [0.0, 0.0]})
    assert "2 trunks are equal to the last bit" in speed_figures.describe_difference(same, 4)
    apart = speed_figures.describe_difference(same.assign(**{"apart by": [0.0, 3e-7]}), 4)
    assert "at most 3.0e-07 apart" in apart and "by 2.0e-02 or more" in apart


def test_speed_target_is_met_at_its_ratio():
    targets = speed_figures.speed_targets({"groups": [GROUP, GROUP | {"aims": []}]})
    # 41.3 / 0.21 = 196.7
    assert list(targets["measured"]) == ["41.3", "197", "0.21"] and list(targets["met"]) == ["yes", "no", "yes"]


def test_stages_of_a_step_add_up_to_its_bar():
    figure, alt = speed_figures.step_time_plot(
        [{"way": "a", "images": 1.0, "forward": 3.0}, {"way": "b", "images": 0.0, "forward": 2.0}]
    )
    widths = [bar.get_width() for bars in figure.axes[0].containers for bar in bars]
    assert math.isclose(sum(widths), 200.0) and "a, 4.0 ms: images 25 %, forward 75 %" in alt


def test_gain_table_equals_the_record():
    row = {"on": "phantom children", "way": "frozen", "trunk": "resnet18"}
    kept = {
        "means": [
            {**row, "weights": "pocket", "auroc": [0.93, 0.92, 0.94]},
            {**row, "weights": "random", "auroc": [0.83, 0.8, 0.86]},
            {**row, "trunk": "grey pixels at 32 x 32", "weights": "none", "auroc": [0.9, 0.89, 0.91]},
        ],
        "differences": [{**row, "auroc": [0.1, 0.06, 0.14]}],
    }
    found = trunks_figures.gain_table(kept)
    assert found[["pocket", "random", "gain", "low", "high"]].iloc[0].tolist() == [0.93, 0.83, 0.1, 0.06, 0.14]
    assert trunks_figures.simple_feature_table(kept)["features"].tolist() == ["grey pixels at 32 x 32"]
    figure, alt = trunks_figures.gain_plot(found)
    assert "resnet18: +0.100 (+0.060 to +0.140)" in alt and figure.axes[0].get_title(loc="left") == "phantom children"


def test_committed_records_are_complete():
    """What the pages show of earlier measurements is there, and holds what it says."""
    kept = trunks_figures.load_trunk_record()
    frozen = trunks_figures.gain_table(kept)
    assert len(frozen[frozen["way"] == "frozen"]["trunk"].unique()) == 8 and kept["settings"]["seeds"] == 10
    rows = speed_figures.speed_table(speed_figures.load_speed_record())
    assert (rows.groupby("group")["times the first"].first() == 1).all() and len(rows["group"].unique()) == 6
