"""What was found beside what is there, image by image: each label by itself, and boxes of any label together."""

from collections.abc import Callable, Iterator

import torch

from pneumo_utils.detection.scoring import Measure, mean_of
from pneumo_utils.detection.things import one_kind
from pneumo_utils.ground.errors import StudyError

ANY = "any"  # the label of boxes of which it is asked where they are, and not of what
MEAN = "mean"


def by_label(found: list[dict], true: list[dict], labels: list[str], measures: Callable[[list[dict], list[dict], str], list[Measure]],
             whatever: list[dict] | None = None) -> list[Measure]:
    """`measures(found, true, label)` for each label with its own boxes, their mean over labels, and with boxes of any label; without labels the last alone.

    `whatever` is what was found where no label was asked for; else it is all that was found.
    """
    whatever = found if whatever is None else whatever
    checked(found, true, len(labels))
    checked(whatever, true, 0)
    each = [measures(_only(found, kind), _only(true, kind), label) for kind, label in enumerate(labels)]
    return [*(one for held in each for one in held), *(mean_of(list(same), MEAN) for same in zip(*each)), *measures(one_kind(whatever), one_kind(true), ANY)]


def surer(found: list[dict], least: float) -> list[dict]:
    """The boxes whose score reaches a threshold."""
    return [{name: part[each["scores"] >= least] for name, part in each.items()} for each in found]


def checked(found: list[dict], true: list[dict], labels: int) -> None:
    if len(found) != len(true):
        raise StudyError(f"Found boxes of {len(found)} images do not go with the true ones of {len(true)}: give one of each an image, in one order.")
    for at, (said, there) in enumerate(zip(found, true)):
        if not len(said["boxes"]) == len(said["scores"]) == len(said["classes"]):
            raise StudyError(f"Image {at} has {len(said['boxes'])} found boxes, {len(said['scores'])} scores and {len(said['classes'])} classes: a box has one each.")
        if not (torch.isfinite(said["boxes"]).all() and torch.isfinite(said["scores"]).all()):
            raise StudyError(f"Image {at} has a found box or score that is no number.")
        kinds = torch.cat([said["classes"], there["classes"]])
        if labels and len(kinds) and not 0 <= kinds.min() <= kinds.max() < labels:
            raise StudyError(f"Image {at} has a box of class {int(kinds.max() if kinds.max() >= labels else kinds.min())}; with {labels} labels classes go "
                             f"from 0 to {labels - 1}.")


def surest_first(found: list[dict]) -> Iterator[dict]:
    """Each image's boxes by falling score."""
    for each in found:
        order = each["scores"].argsort(descending=True, stable=True)
        yield {name: part[order] for name, part in each.items()}


def _only(things: list[dict], kind: int) -> list[dict]:
    return [{name: part[each["classes"] == kind] for name, part in each.items()} for each in things]
