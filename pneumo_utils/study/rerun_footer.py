"""How a chapter's page ends: the commands that run it again, written from its parameters and from
`notebooks/params/`.
"""

import shlex
from functools import cache

from pneumo_utils import ROOT
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_yaml
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.pages import table
from pneumo_utils.study.parameters import check, from_file, of_chapter

SEEDS = "0..4"


@cache
def _declared() -> dict:
    return read_yaml(ROOT / "notebooks" / "params" / "rerun.yml")


def worth_trying(chapter: Chapter) -> dict:
    """The parameters that matter most, each with a value to try."""
    values = _declared().get(chapter.name, {}).get("try", {})
    check(of_chapter(chapter), values)
    return values


def commands(chapter: Chapter) -> dict[str, list[str]]:
    """The chapter's own commands by what they are for, with `path/to/...` where data lie."""
    called, known = chapter.number or chapter.name, of_chapter(chapter)
    start, tried = f"pneumo run {called}", _words(worth_trying(chapter))
    found = {"here": [start, f"papermill {_below_root(chapter.path)} out.ipynb"]}
    if tried:
        found["other settings"] = [f"{start} {tried}", f"papermill {_below_root(chapter.path)} out.ipynb {tried}"]
    if "seed" in known:
        found["seeds"] = [f"pneumo {word} {called} -p seed {SEEDS}" for word in ("run", "compare")]
    releases = _declared().get(chapter.name, {}).get("data", {})
    if strangers := sorted(releases.keys() - {name for name in known if known[name].path_to}):
        raise StudyError(
            f"notebooks/params/rerun.yml gives {chapter.name} data by {', '.join(strangers)}, which is no folder or "
            f"file among its parameters."
        )
    if releases:
        data = _words({name: f"path/to/{release}" for name, release in releases.items()})
        files = [path for tier in ("trial", "paper") if (path := _settings(chapter, tier)).exists()]
        found["real data"] = [f"{start} -f {_below_root(path)} {data}" for path in files] or [f"{start} {data}"]
    return found


def closing(chapter: Chapter) -> str:
    """The section itself, in Markdown."""
    said = commands(chapter)
    text = [
        "## Run this chapter",
        "",
        "With nothing downloaded, as this page was made; `papermill` alone does what `pneumo` does, and keeps no run "
        "to be found again. "
        "[](../book/rerun.md) has the rest.",
        "",
        _block(said["here"]),
    ]
    if "other settings" in said:
        text += [
            "These parameters matter most; [](../book/parameters.md) has all of them.",
            "",
            _settings_table(chapter),
            _block(said["other settings"]),
        ]
    if "seeds" in said:
        text += [
            "How much is luck? The same with several seeds, and all that they found as one table. "
            "[](../book/compare_runs.md) lays any two runs beside each other.",
            "",
            _block(said["seeds"]),
        ]
    if "real data" in said:
        first = (
            "first a trial, two steps of every training, then the paper's own settings, which need ImageNet "
            "weights and, in practice, a GPU."
            if len(said["real data"]) > 1
            else "the folder is all that changes."
        )
        text += [f"On real data ([](../book/data.md) says where to get them): {first}", "", _block(said["real data"])]
    return "\n".join(text)


def _settings_table(chapter: Chapter) -> str:
    known, paper = of_chapter(chapter), _settings(chapter, "paper")
    papers = from_file(paper) if paper.exists() else {}
    rows = [
        [f"`{name}`", known[name].default, value, *([papers[name]] if papers else []), known[name].says]
        for name, value in worth_trying(chapter).items()
    ]
    return table(["parameter", "here", "to try", *(["paper"] if papers else []), "what it is"], rows)


def _settings(chapter: Chapter, tier: str):
    return chapter.path.parent / "params" / tier / f"{chapter.name}.yml"


def _below_root(path) -> str:
    return path.relative_to(ROOT).as_posix()


def _words(values: dict) -> str:
    return shlex.join(word for name, value in values.items() for word in ("-p", name, str(value)))


def _block(lines: list[str]) -> str:
    return "\n".join(["```sh", *lines, "```", ""])
