"""What may be asked of `trunk`, and what to say where something else is."""

import difflib
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.catalogue import KINDS, Kind
from pneumo_utils.models.elsewhere import elsewhere, others

WEIGHTS = "random", "pocket", "imagenet"
SIZES = "full", "pocket"


def kind_of(name: str) -> Kind:
    """Return the kind of trunk with a name; raise `StudyError` if there is none."""
    if kind := KINDS.get(name) or elsewhere(name):
        return kind
    raise StudyError(
        f"There is no trunk {name!r}{_nearest(name, [*KINDS, *others()])}. "
        f"The papers' are {', '.join(KINDS)}; any network of timm or torchvision goes by its name there."
    )


def weights_of(asked: str | Path) -> str | Path:
    """Check the name or path of weights; raise `StudyError` if there are none."""
    if asked in WEIGHTS or Path(asked).is_file():
        return asked
    if Path(asked).name != str(asked) or Path(asked).suffix:
        raise StudyError(f"There is no file of weights at {asked}.")
    raise StudyError(
        f"There are no weights {str(asked)!r}{_nearest(str(asked), WEIGHTS)}. They are "
        f"{', '.join(WEIGHTS)}, or the path of a file."
    )


def size_of(asked: str | None, weights: str | Path, name: str, kind: Kind) -> str:
    """Return the size of a trunk, by default the one of its weights; raise `StudyError` if they do not fit."""
    size = asked or ("pocket" if weights == "pocket" else "full")
    if size not in SIZES:
        raise StudyError(f"There is no size {size!r}{_nearest(size, SIZES)}. A trunk is {' or '.join(SIZES)}.")
    if size == "pocket" and not kind.width:
        raise StudyError(f"{name} has no pocket size; {', '.join(KINDS)} have. Take size=full.")
    if (weights, size) in {("pocket", "full"), ("imagenet", "pocket")}:
        raise StudyError(
            f"{weights} weights do not fit {name} at {size} size: pocket weights are for size=pocket, "
            f"ImageNet's for size=full."
        )
    return size


def _nearest(name: str, known) -> str:
    near = difflib.get_close_matches(
        name.lower().replace("-", "").replace("_", ""), known, 1, 0.5
    ) or difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""
