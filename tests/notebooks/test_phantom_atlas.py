"""The atlas of phantoms and its plates run at a small size, also where findings are absent."""

import nbformat
import numpy as np
import pytest
from chapter_runs import ROOT, results_of, shown
from saved_figures import saved

from notebooks import atlas_figures
from pneumo_utils.phantom.population import Population
from pneumo_utils.plots import phantom as figures
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.run import run

RECORD = {
    side: {
        "difficulty": {"grey pixels 32": {"two classes, 100": [score, 0.7], "three causes, 1000": [score - 0.1, 0.6]}},
        "looks": {
            "histogram": [0.0625] * 16,
            "log10 power by octave": [7.0, 6.5, 6.0, 5.2, 4.1, 3.3, 2.8],
            "mean of means": 120.0,
            "edge pixels over 4, 8 grey levels a pixel": [0.4, 0.2],
        },
    }
    for side, score in (("phantom", 0.85), ("real", 0.9))
}


SMALL = {"image_size": 64, "people": 4, "averaged": 60}
SHOWN = {
    "phantom_atlas": "steps masks silhouette causes severity sites classes realism",
    "phantom_atlas_plates": "filled pleura volume round ages sheet_children sheet_adults sheet_nih sheet_covid",
}


@pytest.mark.parametrize("name", SHOWN)
def test_page_runs_at_a_small_size(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    folder = run(find_chapter(name), SMALL).folder
    results, notebook = results_of(folder), nbformat.read(folder / "notebook.ipynb", 4)
    assert set(SHOWN[name].split()) == set(results["figures"])
    for figure in results["figures"].values():
        assert (folder / figure["file"]).stat().st_size > 2000 and len(figure["alt"]) > 40 and figure["caption"]
    assert results["weights"] == "none" and not results["real"]
    warnings = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not warnings, "a warning would stand on the page"
    box = shown(notebook, "begin")
    assert "once the notebook has run" not in box and "**What to do**" in box
    if name == "phantom_atlas":
        found = {key: entry["value"] for key, entry in results["results"].items()}
        assert 0 < found["straight_through_heart"] < found["straight_through_lungs"] < 1
        assert f"{100 * found['pneumonia_share']:.0f} % of the default children" in box
        assert f"{found['difficulty_gap']:.3f} on average" in box and "Do not train on phantoms" in box


def test_plainest_case_is_the_one_that_changes_most():
    adults = Population("adults", 0)
    force = {"site": 0, "view": "PA"}
    case = atlas_figures.plainest_case(adults, "Effusion", range(4), 48, 0.8, **force)
    alone = [atlas_figures.plainest_case(adults, "Effusion", [person], 48, 0.8, **force) for person in range(4)]
    size = [abs((each["with"].astype(float) - each["without"]) * each["mask"]).sum() for each in alone]
    assert (case["with"] == alone[int(np.argmax(size))]["with"]).all() and case["change"] > 0


def test_pages_without_records_say_how_to_make_them():
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas_figures, "display", lambda *shown: texts.extend(each.data for each in shown))
        assert atlas_figures.show_realism(None, None) == atlas_figures.show_pretraining(None, None) == {}
    assert all("python benchmarks/phantom" in text for text in texts) and len(texts) == 2


def test_absent_finding_has_an_empty_mask():
    shots = Population("adults", 0).render([0, 1], size=48, force={"findings": []})
    absent = figures.mask_of(shots, "Hernia", 1)
    assert absent.shape == (48, 48) and not absent.any() and figures.describe_location(absent).startswith("nowhere")
    film = shots.image[0].numpy()
    plain, lined = (
        np.asarray(saved(figures.image_plate([film], ["film"], 1, outlines=item)).convert("RGB"))
        for item in (None, [{figures.AMBER: absent}])
    )
    assert np.array_equal(plain, lined)
    saved(figures.finding_comparison([{"name": "Hernia", "without": film, "with": film, "mask": absent}]))


@pytest.mark.parametrize(
    "mask, says",
    [
        ((slice(2, 10), slice(2, 10)), "upper left"),
        ((slice(40, 46), slice(36, 46)), "lower right"),
        ((slice(20, 28), slice(20, 28)), "middle centre"),
    ],
)
def test_position_in_words(mask, says):
    field = np.zeros((48, 48), bool)
    field[mask] = True
    assert figures.describe_location(field).startswith(says)
    assert figures.describe_location(field | field[:, ::-1]).startswith(
        says if "centre" in says else f"{says.split()[0]} left and right"
    )


@pytest.mark.parametrize(
    "mask", [np.ones((48, 48), bool), np.eye(48, dtype=bool) & (np.arange(48) == 20)], ids=["all", "one pixel"]
)
def test_outline_of_any_mask(mask):
    film = np.full((48, 48), 90, np.uint8)
    picture = np.asarray(
        saved(figures.image_plate([film], None, 1, outlines=[{figures.AMBER: mask}])).convert("RGB")
    ).astype(int)
    assert (picture[..., 0] - picture[..., 2] > 100).any(), "amber on grey"


def test_plate_accepts_constant_maps_and_partial_rows():
    picture = saved(
        figures.image_plate([np.zeros((48, 48)), np.ones((48, 48), np.uint8)] * 3, ["a"] * 6, 4, ["one", "two"])
    )
    assert picture.mode == "P" and picture.width > 500


def test_realism_table_equals_the_record(monkeypatch):
    scores = figures.difficulty_table(RECORD)
    assert scores["gap"].round(3).tolist() == [-0.05, -0.05] and len(scores) == 2
    assert saved(figures.realism_plot(RECORD)).height > 1000
    assert figures.grey_and_edge_statistics(RECORD)["real"].tolist() == [120.0, 40.0, 20.0]
    alone = figures.difficulty_table({"phantom": RECORD["phantom"]})
    assert alone["real"].isna().all()
    saved(figures.realism_plot({"phantom": RECORD["phantom"]}))
    monkeypatch.setattr(figures, "ROOT", ROOT / "nowhere")
    assert figures.load_phantom_record("phantom_realism") is None
