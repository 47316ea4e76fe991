"""Damaged files of every kind end in a message or a finding, or change nothing; `make fuzz` runs many more."""

from collections import defaultdict

import pytest
from fuzzing import LAYOUTS, Worker, names

CASES = defaultdict(list)
for name in names(300, seed=1):
    CASES[name.split(":")[0]].append(name)


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_is_reported_or_harmless(worker, layout):
    outcomes = {name: worker.run(name) for name in CASES[layout]}
    failures = [f"{name}: {outcome.text}" for name, outcome in outcomes.items() if outcome.end == "failure"]
    assert not failures, "\n\n".join(failures)
