"""All chapters on papers: every parameter is used, and the paper's settings are complete and its own."""

import re

import pytest
import yaml
from chapter_runs import ROOT

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.study.chapters import chapters, find_chapter
from pneumo_utils.study.parameters import chapter_parameters, check_parameters, tier

PAPERS = {chapter.name: chapter for chapter in chapters() if chapter.number}
PAPER_3 = {
    "batch_size": "p3-train-batch",
    "epochs": "p3-epochs",
    "tuning_epochs": "p3-finetune-epochs",
    "lr": "p3-sgd-rate",
    "units": "p3-dense",
    "tuning_lr": "p3-sgd-finetune-rate",
    "momentum": "p3-momentum",
    "decay": "p3-decay",
    "patience": "p3-patience",
    "min_delta": "p3-min-delta",
    "folds": "p3-folds",
    "image_size": "p3-image-size",
}  # of the chapter and of its further page
IN_LEDGER = {  # parameters that a paper prints, by its claims
    "01_surgical_finetuning": {
        "batch_size": "p1-minibatch",
        "lr": "p1-learning-rate",
        "source_epochs": "p1-epochs",
        "epochs": "p1-finetuning-epochs",
        "adaptation_images": "p1-finetuning-images",
        "dropout": "p1-dropout-rate",
    },
    "01f_further_experiments": {},
    "02_gradcam_comparison": {
        "image_size": "p2-image-side",
        "batch_size": "p2-batch",
        "threshold": "p2-threshold",
        "rate_step": "p2-rate-step",
        "units": "p2-top-units",
    },
    "02f_further_experiments": {},
    "03_xception_kfold": PAPER_3,
    "03f_further_experiments": PAPER_3,
    "04_mobilenetv2_three_class": {
        "epochs": "p4-head-epochs",
        "tuning_epochs": "p4-tuning-epochs",
        "lr": "p4-rate",
        "tuning_lr": "p4-tuning-rate",
        "batch_size": "p4-batch",
        "top_layers": "p4-open-layers",
    },
    "04f_further_experiments": {},
    "05_nih_multilabel_detector": {
        "search_sizes": "p5-sizes",
        "search_epochs": "p5-grid-epochs",
        "steps": "p5-grid-steps",
        "long_epochs": "p5-long-epochs",
        "grid_epochs": "p5-epochs",
        "grid_lr": "p5-rate",
        "grid_batch_size": "p5-batch",
        "grid_steps": "p5-steps",
        "yolo_batch_size": "p5-yolo-batch",
    },
    "05f_labels": {"steps": "p5-grid-steps", "long_epochs": "p5-long-epochs"},
    "05f_boxes": {"grid_epochs": "p5-epochs", "grid_lr": "p5-rate", "grid_batch_size": "p5-batch"},
}


def of_the_paper(name: str) -> dict:
    return yaml.safe_load((ROOT / "notebooks" / "params" / "paper" / f"{name}.yml").read_text())


@pytest.mark.parametrize("name", PAPERS)
def test_every_parameter_is_read(name):
    _, *sources = ["".join(cell["source"]) for cell in PAPERS[name].notebook()["cells"] if cell["cell_type"] == "code"]
    below = "\n".join(sources)
    assert not [
        parameter for parameter in chapter_parameters(PAPERS[name]) if not re.search(rf"\b{parameter}\b", below)
    ]


@pytest.mark.parametrize("name", PAPERS)
def test_paper_settings_are_complete(name):
    known, given, ledger = chapter_parameters(PAPERS[name]), of_the_paper(name), load_ledger()
    check_parameters(known, given)
    assert not {
        parameter_name
        for parameter_name in known
        if parameter_name not in given
        and not known[parameter_name].path_kind
        and not parameter_name.startswith("phantom_")
    }
    assert (
        tier(PAPERS[name], {parameter_name: parameter.default for parameter_name, parameter in known.items()} | given)
        == "paper"
    )
    assert given["weights"] == "imagenet" and given["max_steps"] == 0
    assert {parameter_name: given[parameter_name] for parameter_name in IN_LEDGER[name]} == {
        parameter_name: ledger.value(claim) for parameter_name, claim in IN_LEDGER[name].items()
    }


def test_paper_with_two_further_pages_names_them():
    assert [find_chapter(number).name for number in ("5", "05", "5fl", "5fb", "1f")] == [
        "05_nih_multilabel_detector",
        "05_nih_multilabel_detector",
        "05f_labels",
        "05f_boxes",
        "01f_further_experiments",
    ]
