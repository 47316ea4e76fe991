"""Runs beside each other: a tidy table of what they found, and of the parameters in which they differ."""

from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, read_json
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.digest import data_of, identity
from pneumo_utils.study.parameters import settle
from pneumo_utils.study.standing import runs_of
from pneumo_utils.study.sweep import Planned

# in these, runs of one and the same chapter may differ; no number comes from records
OWN = {"parameters", "data", "records"}
SHOWN = ["result", "value", "low", "high", "baseline"]


@dataclass(frozen=True)
class Kept:
    """A run that is kept, as it is compared."""

    chapter: str
    folder: Path
    manifest: dict

    @property
    def name(self) -> str:
        """Return the name of the run's folder."""
        return self.folder.name

    @property
    def parameters(self) -> dict:
        """Return the parameters of the run."""
        return self.manifest["parameters"]

    @property
    def results(self) -> dict:
        """Read the results of the run."""
        return read_json(self.folder / "results.json")["results"]


def as_it_is(chapter: Chapter) -> list[Kept]:
    """The kept runs of a chapter as it is now, the oldest first; those of an earlier notebook or package answer
    another question.
    """
    return alike(chapter, identity(chapter, settle(chapter, {})))


def alike(chapter: Chapter, depends_on: dict) -> list[Kept]:
    """The kept runs that differ in parameters and data alone from one with this identity, the oldest first; of runs
    that differ in nothing but records the latest.
    """
    runs = [
        Kept(chapter.name, folder, manifest)
        for folder, manifest in reversed(runs_of(chapter))
        if _without_own(manifest["depends_on"]) == _without_own(depends_on)
    ]
    return list({digest_of([run.parameters, run.manifest["depends_on"]["data"]]): run for run in runs}.values())


def _without_own(depends_on: dict) -> dict:
    return {part: value for part, value in depends_on.items() if part not in OWN}


def planned(sweep: list[Planned]) -> list[Kept]:
    """The runs of a sweep; those that are missing are named with the command that makes them."""
    found, missing = [], []
    kept = {chapter: as_it_is(chapter) for chapter in dict.fromkeys(one.chapter for one in sweep)}
    for one in sweep:
        values = settle(one.chapter, one.given)
        data = data_of(one.chapter, values)
        run = next(
            (
                run
                for run in reversed(kept[one.chapter])
                if run.parameters == values and run.manifest["depends_on"]["data"] == data
            ),
            None,
        )
        found, missing = ([*found, run], missing) if run else (found, [*missing, one])
    if missing:
        raise StudyError(
            f"{len(missing)} of {len(sweep)} runs are not there, or the chapter has changed since. Make "
            f"them first:\n" + "\n".join(f"  {one.command}" for one in missing)
        )
    return found


def varied(runs: list[Kept]) -> list[str]:
    """The parameters in which runs of one chapter differ."""
    names = dict.fromkeys(name for run in runs for name in run.parameters)
    by_chapter = {run.chapter: [other.parameters for other in runs if other.chapter == run.chapter] for run in runs}
    return [
        name
        for name in names
        if any(len({repr(each.get(name)) for each in those}) > 1 for those in by_chapter.values())
    ]


def tidy(runs: list[Kept], only: str = ""):
    """A row a result of a run; where seeds differ, also a row for its mean over them, with Student's interval."""
    import pandas as pd

    names = varied(runs)
    rows = [
        {"chapter": run.chapter, "run": run.name}
        | {name: _cell(run.parameters.get(name)) for name in names}
        | {"result": result}
        | entry
        for run in runs
        for result, entry in run.results.items()
        if only.lower() in result.lower()
    ]
    if not rows:
        raise StudyError(
            f"No result of these runs has {only!r} in its name."
            if only
            else "There are no runs of the chapter as it is now; make one with `pneumo run`."
        )
    frame = pd.DataFrame(rows).reindex(columns=["chapter", "run", *names, *SHOWN])
    return pd.concat([frame, _over_seeds(frame, names)], ignore_index=True) if "seed" in names else frame


def _cell(value):
    return str(value) if isinstance(value, list) else value


def _over_seeds(frame, names: list[str]):
    import pandas as pd

    from pneumo_utils.evaluation.draws import mean_over

    rows, endless = [], float("inf")
    for keys, same in frame.groupby(
        by := ["chapter", *(name for name in names if name != "seed"), "result"], sort=False, dropna=False
    ):
        values = pd.to_numeric(same["value"], errors="coerce")
        if len(same) > 1 and values.notna().all():
            rows.append(
                dict(zip(by, keys))
                | {"run": f"mean of {len(same)} seeds"}
                | dict(zip(("value", "low", "high"), mean_over(values.to_numpy(), -endless, endless)))
            )
    return pd.DataFrame(rows).reindex(columns=frame.columns)
