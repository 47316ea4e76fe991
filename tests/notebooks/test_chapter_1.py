"""Chapter 1: it runs, its scores are stored, baselines are beside its models, and the paper's settings are complete."""

import pytest
from chapter_runs import ROOT, html_of
from settings import of_the_book

from notebooks import chapter_1_figures
from pneumo_utils.common.errors import StudyError
from pneumo_utils.study.chapters import Chapter

CHAPTER = Chapter(ROOT / "notebooks" / "01_surgical_finetuning.ipynb")


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, of_the_book(CHAPTER))


def test_chapter_keeps_scores_and_figures_with_alt_text(executed):
    results, _ = executed
    assert {"accuracy", "f1"} <= {name.split(": ")[1] for name in results["results"] if name.startswith("fine-tuned: ")}
    assert {"draws", "confusion", "gazes", "regions"} <= set(results["figures"])
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in results["figures"].values())


def test_five_models_are_measured_beside_their_baselines(executed):
    experiments = executed[0]["experiments"]
    assert {"majority", "32 x 32 pixels", "frame only"} == set(experiments["five models"]["baselines"])
    assert experiments["five models"]["section"] and experiments["saliency, block 4 open"]["unit"] == "draw"


def test_both_tables_have_baselines(executed):
    for cell in ("table-1-code", "table-2-code"):
        shown = html_of(executed[1], cell)
        assert all(name in shown for name in ("majority", "32 x 32 pixels", "frame only", "no adaptation")), cell


def test_empty_plots_are_refused():
    with pytest.raises(StudyError, match="no saliency maps"):
        chapter_1_figures.outcome_maps({})
