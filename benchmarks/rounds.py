"""Ways to do one thing, timed in turn: what holds on a machine whose speed drifts is the ratio within one run."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass
class Way:
    """How one way did: images (or whatever it counts) a second in each round."""

    name: str
    rates: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    def record(self, first: "Way") -> dict:
        return {
            "name": self.name,
            "median": self.median,
            "least": min(self.rates),
            "most": max(self.rates),
            "ratio": ratio(self, first),
        }


def ratio(way: Way, first: Way) -> float:
    """The median over rounds of how much faster it was than the first in the same round."""
    return statistics.median(mine / its for mine, its in zip(way.rates, first.rates))


def measured(title: str, ways: dict[str, tuple[float, Callable]], rounds: int = 7) -> list[dict]:
    """Every way once a round, in turn: a name, how many images a call goes through, and the call."""
    found = {name: Way(name, []) for name in ways}
    for _ in range(rounds):
        for name, (count, work) in ways.items():
            began = time.perf_counter()
            work()
            found[name].rates.append(count / (time.perf_counter() - began))
    print(f"\n{title:56} {'a second':>9} {'least':>9} {'most':>9} {'ratio':>7}")
    first = next(iter(found.values()))
    rows = [way.record(first) for way in found.values()]
    for row in rows:
        print(
            f"{row['name']:56} {row['median']:9.1f} {row['least']:9.1f} {row['most']:9.1f} {row['ratio']:7.2f}",
            flush=True,
        )
    return rows


def machine() -> dict:
    """What rates are worth nothing without."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"date": date.today().isoformat(), "device": device, "torch": torch.__version__}


def group(title: str, ways: dict, rounds: int, aims: list[tuple[str, str, float]] = ()) -> dict:
    """Ways measured in turn; an aim is a way, another way, and how many times as fast as that it has to be."""
    return {"title": title, "aims": aims, "ways": measured(title, ways, rounds)}


def keep(found: dict, out: Path | None) -> None:
    """As a record, where a place is given for one."""
    if out:
        out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\n{out} is written")
