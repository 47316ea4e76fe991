"""How good a treatment is on phantoms that it did not learn from, beside what needs no learning."""

import numpy as np
import pandas as pd
from fastai.torch_core import no_random
from scipy.ndimage import gaussian_filter, median_filter

from pneumo_utils.evaluation.people import mean_of_people
from pneumo_utils.phantom.restoration.greys import greys, unit
from pneumo_utils.phantom.restoration.pairs import NOISE, TO_TEST_ON, Phantoms, draw, pair
from pneumo_utils.phantom.restoration.treatment import Treatment

TESTED = 300  # images
BLURS = (0.5, 0.75, 1.0, 1.5, 2.0)  # deviations in pixels, of which the best is taken
QUIET = 1.0  # grey level: a smaller error shows on no screen


def scores(treatment: Treatment, learned_from: Phantoms, seed: int = 0) -> pd.DataFrame:
    """A row a treatment, in the columns of `evaluation.table`.

    The metric is `dice` of the mask of the lungs; `error_in_bones`, how many grey levels the place of bones is off; or
    `signal_to_noise` at its peak, in dB, where the noise has half of the strength that is learned at most.
    """
    target, tested = treatment.target, draw(treatment.target, TESTED, treatment.size, TO_TEST_ON + seed)
    given, wanted = question(target, tested, seed)
    if target == "lungs":
        mean = np.broadcast_to(learned_from.lungs.float().mean(0) > 0.5, given.shape)
        return _table(
            "dice", tested, {"learned": dice(treatment.masks(given), wanted > 0), "mean mask": dice(mean, wanted > 0)}
        )
    made = {
        "learned": treatment.of(given),
        "nothing": given,
        "median of 3 x 3": median_filter(given, (1, 3, 3)),
        "best blur": gaussian_filter(given, (0, *2 * (_blur(target, learned_from, seed),))),
    }
    if target == "bones":
        return _table(
            "error_in_bones", tested, {name: error(each, wanted, tested.bones.numpy()) for name, each in made.items()}
        )
    return _table("signal_to_noise", tested, {name: signal(each, wanted) for name, each in made.items()})


def question(target: str, phantoms: Phantoms, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What is given and what is wanted, as grey bytes."""
    with no_random(seed):
        given, wanted = pair(
            target, unit(phantoms.radiograph), unit(phantoms.boneless), phantoms.lungs[:, None].float(), NOISE[1] / 2
        )
    return greys(given), greys(wanted)


def dice(made: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of two masks an image: twice what they share over what they hold."""
    return 2 * (made & wanted).sum((1, 2)) / (made.sum((1, 2)) + wanted.sum((1, 2)))


def error(made: np.ndarray, wanted: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean absolute error of each image within its mask, in grey levels."""
    return (np.abs(made - wanted.astype(float)) * mask).sum((1, 2)) / mask.sum((1, 2))


def signal(made: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Peak signal to noise ratio of each image, in dB."""
    squared = ((made - wanted.astype(float)) ** 2).mean((1, 2))
    return 10 * np.log10(255**2 / np.maximum(squared, QUIET**2))


def _blur(target: str, phantoms: Phantoms, seed: int) -> float:
    """The blur that comes nearest to what is wanted of the people who were learned from."""
    given, wanted = question(target, phantoms, seed)
    where = phantoms.bones.numpy() if target == "bones" else np.ones_like(given)
    return min(BLURS, key=lambda each: error(gaussian_filter(given, (0, each, each)), wanted, where).mean())


def _table(metric: str, tested: Phantoms, values: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = [
        (name, name != "learned", metric, *mean_of_people(each, tested.patients), "") for name, each in values.items()
    ]
    return pd.DataFrame(rows, columns=["model", "baseline", "metric", "value", "low", "high", "why"])
