"""Hold what a run has measured: scores by experiment and variant, named quantities, and facts that rules ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

UNITS = ("draw", "seed", "fold")  # what may be repeated; two variants are paired by it
SCORE_COLUMNS = ("experiment", "variant", *UNITS, "metric", "value", "n")

Key = tuple[str, str, str]  # experiment, variant, metric


@dataclass(frozen=True)
class Measured:
    """The measurements of one run or record, and where they come from."""

    chapter: str
    real: bool  # whether the data are radiographs of real patients
    tier: str  # the settings: "pocket", "paper", "by hand", or the pocket settings with what differs
    data: str  # the data in words
    weights: str  # the initial weights: pocket, imagenet, random or the name of a file
    values: dict[Key, dict[int, float]]  # by repetition: the score
    sizes: dict[Key, float] = field(default_factory=dict)  # how many images a score is of, on average
    experiments: dict[str, dict] = field(default_factory=dict)  # facts: unit, overlap, baselines, passes, section ...
    quantities: dict[str, dict] = field(default_factory=dict)  # value, resamples, n, section
    rules: dict[str, str] = field(default_factory=dict)  # by claim: the digest of its rule when the run was made
    record: str = ""  # the name of the record; empty for a run
    finished: str = ""

    @property
    def content(self) -> list:
        """Return all that verdicts and their pages depend on, as values that JSON can hold."""
        scores = [[*key, sorted(by_unit.items())] for key, by_unit in sorted(self.values.items())]
        origin = [self.chapter, self.real, self.tier, self.data, self.weights, self.record, self.rules]
        return [origin, scores, self.experiments, self.quantities]

    @property
    def kind(self) -> str:
        """Return the kind of data, "real" or "phantom"."""
        return "real" if self.real else "phantom"

    def variants(self, experiment: str) -> list[str]:
        """List the variants of an experiment, in the order in which they were measured.

        experiment: the name of the experiment.
        """
        return list(dict.fromkeys(variant for name, variant, _ in self.values if name == experiment))

    def has(self, experiment: str, variant: str, metric: str) -> bool:
        """Check whether a score was measured.

        experiment, variant, metric: the names of the score.
        """
        return (experiment, variant, metric) in self.values

    def overlap(self, experiment: str) -> float:
        """Return the number of test images over that of training images; 0 if repetitions are independent.

        experiment: the name of the experiment.
        """
        return self.experiments[experiment].get("overlap", 0.0)

    def paired(self, experiment: str, first: str | float, second: str | float, metric: str) -> np.ndarray:
        """Return the differences between two variants, one for each repetition that both have.

        experiment: the name of the experiment.
        first, second: names of variants; one of them may be a fixed number.
        metric: the name of the metric.
        """
        columns = [
            operand if isinstance(operand, float) else self.values[experiment, operand, metric]
            for operand in (first, second)
        ]
        shared = set.intersection(*(set(column) for column in columns if isinstance(column, dict)))
        one, other = (
            np.array([column if isinstance(column, float) else column[unit] for unit in sorted(shared)], dtype=float)
            for column in columns
        )
        return one - other


def collect_scores(rows: Iterable[dict], experiments: dict[str, dict]) -> tuple[dict, dict]:
    """Sort the rows of a table of scores by experiment, variant and metric: their values, and how many images.

    Rows that differ only in columns other than the experiment's unit are averaged. Undefined scores are left out.

    rows: rows with the columns of `SCORE_COLUMNS`.
    experiments: the facts of each experiment, which name its unit.
    """
    found, sizes = defaultdict(lambda: defaultdict(list)), defaultdict(list)
    for row in rows:
        value = float(row["value"])
        if np.isfinite(value):
            key = row["experiment"], row["variant"], row["metric"]
            found[key][int(row[experiments[row["experiment"]]["unit"]])].append(value)
            sizes[key].append(float(row.get("n") or "nan"))
    return (
        {key: {unit: float(np.mean(repeated)) for unit, repeated in by_unit.items()} for key, by_unit in found.items()},
        {key: float(np.mean(counts)) for key, counts in sizes.items()},
    )
