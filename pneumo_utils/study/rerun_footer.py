"""Compose the last section of a chapter's page: commands that run it again, from its parameters and
`notebooks/params/`.
"""

import shlex
from functools import cache
from pathlib import Path

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, read_yaml
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.pages import markdown_table
from pneumo_utils.study.parameters import chapter_parameters, check_parameters, read_parameters_file

SEEDS = "0..4"  # the seeds of the commands that repeat a chapter


@cache
def _rerun_settings() -> dict:
    """Read, by chapter name, the parameters worth trying and the data releases of the chapter's data parameters."""
    return read_yaml(ROOT / "notebooks" / "params" / "rerun.yml")


def suggested_values(chapter: Chapter) -> dict:
    """Return the most important parameters of a chapter, each with a value to try.

    Raises `ParameterError` if `notebooks/params/rerun.yml` has an unknown parameter or a value that is not allowed.

    chapter: the chapter.
    """
    values = _rerun_settings().get(chapter.name, {}).get("try", {})
    check_parameters(chapter_parameters(chapter), values)
    return values


def data_parameters(chapter: Chapter) -> dict[str, tuple[list[str], bool]]:
    """Return the parameters that take a folder of radiographs: the releases that fit, and whether one is needed.

    chapter: the chapter.
    """
    settings = _rerun_settings().get(chapter.name, {})
    return {
        name: (releases if isinstance(releases, list) else [releases], name not in settings.get("optional", []))
        for name, releases in settings.get("data", {}).items()
    }


def rerun_commands(chapter: Chapter) -> dict[str, list[str]]:
    """Compose the commands that run a chapter, by purpose: "here", "other settings", "seeds" and "real data".

    Folders of data are written as `path/to/...`. Raises `StudyError` if `notebooks/params/rerun.yml` names data for a
    parameter that is not a path.

    chapter: the chapter.
    """
    short_name, known = chapter.number or chapter.name, chapter_parameters(chapter)
    run, settings = f"pneumo run {short_name}", _options(suggested_values(chapter))
    papermill = f"papermill {_below_root(chapter.path)} out.ipynb"
    lines = {"here": [run, papermill]}
    if settings:
        lines["other settings"] = [f"{run} {settings}", f"{papermill} {settings}"]
    if "seed" in known:
        lines["seeds"] = [f"pneumo {command} {short_name} -p seed {SEEDS}" for command in ("run", "compare")]
    releases = {name: names[0] for name, (names, _) in data_parameters(chapter).items()}
    if wrong := sorted(releases.keys() - {name for name in known if known[name].path_kind}):
        raise StudyError(
            f"notebooks/params/rerun.yml gives {chapter.name} data by {', '.join(wrong)}, which is no folder or "
            f"file among its parameters."
        )
    if releases:
        data = _options({name: f"path/to/{release}" for name, release in releases.items()})
        files = [path for tier in ("trial", "paper") if (path := _settings_file(chapter, tier)).exists()]
        lines["real data"] = [f"{run} -f {_below_root(path)} {data}" for path in files] or [f"{run} {data}"]
    return lines


def rerun_section(chapter: Chapter) -> str:
    """Compose the section "Run this chapter", in Markdown.

    chapter: the chapter.
    """
    lines, book = rerun_commands(chapter), run_paths.book_folder(chapter.name)
    text = [
        "## Run this chapter",
        "",
        "These commands compute this page again and need no download. `papermill` alone computes the same as `pneumo` "
        f"but does not store the run for later use. []({book}/rerun.md) explains more.",
        "",
        _block(lines["here"]),
    ]
    if "other settings" in lines:
        words = f"These are the most important parameters; []({book}/parameters.md) lists all of them."
        text += _folded("Other settings", [words, "", _settings_table(chapter), _block(lines["other settings"])])
    if "seeds" in lines:
        words = (
            "How much do the results depend on the random seed? Run the chapter with several seeds and write all "
            f"results as one table. []({book}/compare_runs.md) compares any two runs."
        )
        text += _folded("Several seeds", [words, "", _block(lines["seeds"])])
    if "real data" in lines:
        steps = (
            "First a trial with two steps of every training, then the paper's own settings, which need ImageNet "
            "weights and, in practice, a GPU."
            if len(lines["real data"]) > 1
            else "Only the folder changes."
        )
        words = f"[]({book}/data.md) says where to get them. {steps}"
        text += _folded("Real data", [words, "", _block(lines["real data"])])
    return "\n".join(text)


def _folded(title: str, text: list[str]) -> list[str]:
    """Put Markdown below a title that opens it."""
    return [f"::::{{dropdown}} {title}", *text, "::::", ""]


def _settings_table(chapter: Chapter) -> str:
    """Format a table of the most important parameters: default, value to try, and the paper's setting."""
    known, file = chapter_parameters(chapter), _settings_file(chapter, "paper")
    paper = read_parameters_file(file) if file.exists() else {}
    rows = [
        [f"`{name}`", known[name].default, value, *([paper[name]] if paper else []), known[name].says]
        for name, value in suggested_values(chapter).items()
    ]
    return markdown_table(["parameter", "here", "to try", *(["paper"] if paper else []), "what it is"], rows)


def _settings_file(chapter: Chapter, tier: str) -> Path:
    """Return the path of a chapter's parameter file.

    tier: "trial" or "paper".
    """
    return chapter.notebooks_dir / "params" / tier / f"{chapter.name}.yml"


def _below_root(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _options(values: dict) -> str:
    """Format parameters as options `-p name value` of a shell command."""
    return shlex.join(word for name, value in values.items() for word in ("-p", name, str(value)))


def _block(lines: list[str]) -> str:
    return "\n".join(["```sh", *lines, "```", ""])
