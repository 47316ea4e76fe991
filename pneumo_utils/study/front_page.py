"""What the book's first page says was found: some claims with their verdicts, and each chapter's network beside what
needs none.
"""

from pneumo_utils.evaluation.scoring import in_words
from pneumo_utils.plots.scoreboard import at_a_glance
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.markdown import table

HEADLINES = (
    "p1-block-4-best",
    "p1-sensitive-to-100",
    "p2-vgg-better",
    "p2-vgg-lungs",
    "p3-more-epochs-much-better",
    "p3-pretraining-generalizes",
    "p4-tuning-helps",
    "p4-struggles-with-viral",
    "p5-multi-better",
    "p5-transfer-is-majority",
    "p5-f1-learned",
)  # what each paper is remembered for
REAL = "real-radiographs"  # the record of a chapter that has one
MEASURED = {  # by chapter: what is measured, the paper's network, and the best of what needs none; names of results
    "01_surgical_finetuning": ("AUROC, pneumonia", "fine-tuned: auroc", "32 x 32 pixels: auroc"),
    "02_gradcam_comparison": ("AUROC, pneumonia", "VGG16, scenario 1: auroc", "32 x 32 pixels: auroc"),
    "03_xception_kfold": (
        "AUROC, one generator or the other",
        "generators, Xception, fine-tuned: auroc",
        "generators, fine detail, linear: auroc",
    ),
    "04_mobilenetv2_three_class": ("accuracy, three classes", "top layers open: accuracy", "32 x 32 pixels: accuracy"),
    "05_nih_multilabel": ("mean AUROC of labels", "mean AUROC: from nothing, fifteen", "mean AUROC: 32 x 32 pixels"),
    "05b_nih_detector": (
        "F1 of areas",
        "area F1, confidence: grid network",
        "area F1, confidence: location prior, thresholded",
    ),
    "synthesis": (
        "AUROC, pneumonia, few images",
        "best, AUROC: the best of all, chosen on the other draws",
        "best, AUROC: 32 x 32 pixels",
    ),
}


def headlines(board: list[dict]) -> str:
    """The claims that each paper is remembered for, as the scoreboard's run left them."""
    by_id = {row["id"]: row for row in board}
    return "```{raw} html\n" + at_a_glance([by_id[name] for name in HEADLINES]) + "\n```"


def beside_no_network(shown: dict[Chapter, dict]) -> str:
    """A row a chapter: its network and what needs none, in the run of this book and in its record on real
    radiographs; `shown` is results by chapter.
    """
    rows = []
    for chapter, results in shown.items():
        if chapter.name not in MEASURED:
            continue
        what, *asked = MEASURED[chapter.name]
        real = records.of(chapter.name).get(REAL)
        rows.append(
            [
                f"[{chapter.number or 'across'}](../notebooks/{chapter.name}.ipynb)",
                what,
                *(_told(results, name) for name in asked),
                *(_told(real.results if real else {}, name) for name in asked),
            ]
        )
    return table(
        ["chapter", "measure", "phantoms: the network", "no network", "real radiographs: the network", "no network"],
        rows,
    )


def _told(results: dict, name: str) -> str:
    entry = results.get(name)
    if entry is None or isinstance(entry["value"], str):
        return "-"
    return in_words(entry["value"], entry.get("low", entry["value"]), entry.get("high", entry["value"]))
