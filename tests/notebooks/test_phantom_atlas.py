"""The atlas of phantoms runs at a small size, also where findings are absent."""

import nbformat
import numpy as np
import pytest
from chapter_runs import ROOT, results_of
from saved_figures import saved

from pneumo_utils.phantom.population import Population
from pneumo_utils.plots import phantom as figures
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.run import run

ATLAS = Chapter(ROOT / "notebooks" / "phantom_atlas.ipynb")
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


def test_atlas_runs_at_a_small_size(monkeypatch, tmp_path):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    folder = run(ATLAS, {"image_size": 64, "people": 4, "averaged": 60}).folder
    results = results_of(folder)
    plates = (
        "steps masks filled pleura volume round silhouette causes severity ages sites sheet_children "
        "sheet_adults sheet_nih sheet_covid classes"
    )
    assert set(plates.split()) <= set(results["figures"])
    for figure in results["figures"].values():
        assert (folder / figure["file"]).stat().st_size > 2000 and len(figure["alt"]) > 40 and figure["caption"]
    assert (
        results["weights"] == "none"
        and not results["real"]
        and 0.5 < results["results"]["pneumonia_share"]["value"] < 0.9
    )
    assert (
        0
        < results["results"]["straight_through_heart"]["value"]
        < results["results"]["straight_through_lungs"]["value"]
    )
    cells = nbformat.read(folder / "notebook.ipynb", 4).cells
    warnings = [output for cell in cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert not warnings, "a warning would stand on the page"


def test_atlas_is_stored_without_outputs():
    cells = ATLAS.notebook()["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)
    for name in ("seed", "image_size", "people", "severity", "averaged"):
        assert any(name in source for source in code[1:]), name


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
