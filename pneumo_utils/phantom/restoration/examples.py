"""Phantoms before and after, with the truth beside them: for looking at."""

import numpy as np

from pneumo_utils.phantom.restoration.pairs import TO_TEST_ON, draw
from pneumo_utils.phantom.restoration.quality import question
from pneumo_utils.phantom.restoration.treatment import Treatment

NAMES = {"lungs": "lungs", "bones": "no bones", "denoised": "denoised"}


def examples(treatments: list[Treatment], people: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of grey bytes by name: people that nothing was learned from, what each treatment makes of them, and what
    it ought to.
    """
    phantoms = draw("bones", people, treatments[0].size, TO_TEST_ON + seed)
    rows = {"before": phantoms.radiograph.numpy()}
    for each in treatments:
        given, wanted = question(each.target, phantoms, seed)
        if each.target == "denoised":
            rows["noisy"] = given
        rows[NAMES[each.target]] = each.of(given)
        if each.target == "lungs":
            wanted = given * (wanted > 0)
        if each.target != "denoised":
            rows[f"{NAMES[each.target]} in truth"] = wanted
    return rows
