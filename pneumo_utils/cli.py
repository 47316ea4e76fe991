"""The command `pneumo`."""

import difflib
import sys
import time
from pathlib import Path

import click

from pneumo_utils.common.errors import StudyError

MADE = ("covid_gan", "curated_covid", "kermany", "medmnist", "nih", "rsna")
# as the phantom names them; it is imported only where something is drawn
SHORTCUTS = ("marker", "brightness", "size", "colour", "findings")
WRONG_EXIT = 3  # of `data check`; 1 is for what could not be checked, 2 for a command that is not one
COLOURS = {"wrong": "red", "worth knowing": "yellow", "as it should be": "green"}


@click.group()
def data():
    """Make, check and get the data sets."""


@data.command("make", context_settings={"show_default": True})
@click.argument("release", type=click.Choice(MADE))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--images", default=1000, help="How many images.")
@click.option("--size", default=256, help="Their side in pixels.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="The seed of all that is random.")
@click.option(
    "--shortcut",
    "shortcuts",
    multiple=True,
    type=click.Choice(SHORTCUTS),
    help="A give-away of the class that is not in the lungs, or, in covid_gan, findings in the place of "
    "fingerprints; may be given again.",
)
def make_release(release, folder, images, size, seed, shortcuts):
    """Write phantom radiographs into DIR in the published layout of RELEASE."""
    from pneumo_utils.phantom.writers.writer import make as write

    write(release, images, size, seed, folder, shortcuts)
    click.secho(f"{release}: {images:,} phantom images in {folder}", fg="green")
    click.echo("  the true masks and who is who are in its folder truth, which no reader looks into")


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="DIR", type=click.Path(path_type=Path), help="Another release: which pictures are in both?"
)
@click.option("--strict", is_flag=True, help="Let what is worth knowing count as wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON and nothing else.")
@click.option("--html", "page", metavar="FILE", type=click.Path(path_type=Path), help="Write a report with pictures.")
@click.pass_context
def check(ctx, folder, against, strict, as_json, page):
    """Say what release lies in DIR and what is wrong with it.

    The exit code is 0 where nothing is wrong, 3 where something is, and 1 where DIR cannot be read at all.
    """
    import json

    from pneumo_utils.data.quality_report import check as look
    from pneumo_utils.data.quality_report import failed

    findings = look(folder, against)
    wrong = failed(findings, strict)
    if as_json:
        found = {"folder": str(folder), "failed": wrong, "findings": [finding.as_json() for finding in findings]}
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            level = click.style(f"  {finding.level:15}", fg=COLOURS[finding.level])
            click.echo(f"{level}  {finding.about:10}  {finding.text}")
    if page:
        from pneumo_utils.data.quality_report import write_report

        write_report(page, folder, findings)
        click.echo(f"  the report with pictures is {page}", err=as_json)
    ctx.exit(WRONG_EXIT if wrong else 0)


@data.command()
@click.argument("release", type=click.Choice(MADE))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def get(release, folder):
    """Fetch the real RELEASE into DIR where there is a network, and check it; else say how to get it by hand."""
    from pneumo_utils.data.readers.download import get as fetch

    fetch(release, folder, say=click.echo)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="How long each trunk learns, at the pace measured first: 13 if not said, 25 on a GPU.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="So many steps instead: the same steps and seed give the same weights on one machine.",
)
@click.option(
    "--images",
    type=click.IntRange(min=100),
    default=60_000,
    show_default=True,
    help="Drawn images in the bank that the steps draw from.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the drawings and of the weights' start.",
)
@click.option(
    "--out",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for NAME.safetensors and its card, NAME.json: if not said, where the package looks for them.",
)
def pretrain(names, minutes, steps, images, seed, folder):
    """Pre-train pocket trunks (all, or those named) on images drawn by formula."""
    from pneumo_utils.common.errors import StudyError
    from pneumo_utils.common.run_paths import in_repository
    from pneumo_utils.models.registry import names as known
    from pneumo_utils.models.weights import POCKET
    from pneumo_utils.phantom.pretraining.train import pretrain as run

    if not folder and not in_repository():
        raise StudyError("Name a folder for the weights with --out: the installed package keeps those it came with.")
    folder = folder or POCKET
    if minutes and steps:
        raise StudyError("--minutes and --steps both say how long to train: give one of them.")
    for name in names:
        if name not in known():
            near = difflib.get_close_matches(name, known(), 1)
            raise StudyError(
                f"There is no trunk {name!r}." + (f" Did you mean {near[0]!r}?" if near else "") + f" "
                f"Known "
                f"are {', '.join(known())}."
            )
    for name in names or known():
        card = run(name, folder, steps, minutes, seed, images, say=click.echo)
        asked, found = next(iter(card["scores"].items()))
        told = f"{asked} {found['score']:.3f} ({found['measure']}; chance {found['chance']:.3f})"
        click.secho(f"{name}: {told}, {folder / name}.safetensors", fg="green")


class Face(click.Group):
    """Ends every error that a user can mend with its message alone and exit code 1."""

    def invoke(self, ctx):
        """Run a command and turn its errors into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except StudyError as error:
            click.secho("pneumo: ", fg="red", nl=False, err=True)
            click.echo(str(error), err=True)
            ctx.exit(130 if isinstance(error.__cause__, KeyboardInterrupt) else 1)
        except KeyboardInterrupt:
            click.echo("pneumo: interrupted; what was finished before is kept.", err=True)
            ctx.exit(130)


@click.group(cls=Face)
def main():
    """Rerun five papers on pneumonia in chest radiographs, and bind the book."""


main.add_command(data)
main.add_command(pretrain)


set_word = click.option(
    "-p",
    "--parameter",
    "words",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the chapter; may be given again.",
)
set_file = click.option(
    "-f", "--file", "params", type=click.Path(path_type=Path), help="A YAML file of parameters; -p wins over it."
)
cell_limit = click.option(
    "--cell-limit", type=click.IntRange(min=1), default=3600, help="Seconds that one cell may take."
)


def _given(chapter, words, params) -> dict:
    from pneumo_utils.study import parameters

    return (parameters.from_file(params) if params else {}) | parameters.from_words(
        parameters.of_chapter(chapter), words
    )


several_words = click.option(
    "-p",
    "--parameter",
    "words",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter; may be given again. `0..4` and `0,1,2` are several values, and a run each.",
)


def _planned(chapters, words, params):
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.sweep import plan

    return plan([find(chapter) for chapter in chapters], words, params)


@main.command(context_settings={"show_default": True})
@click.argument("chapters", nargs=-1, required=True, metavar="CHAPTER...")
@several_words
@set_file
@click.option("--out", type=click.Path(path_type=Path), help="Put the run into this folder instead of under runs/.")
@cell_limit
def run(chapters, words, params, out, cell_limit):
    """Run CHAPTER: a number, a name, or a part of a name. A run that is up to date is found again.

    Several chapters, or several values of a parameter, are a sweep: every combination is a run, as many at once as
    there are cores for, and `pneumo compare` lays them beside each other.
    """
    from pneumo_utils.study.kernel import clock
    from pneumo_utils.study.parallel import run_each

    planned = _planned(chapters, words, params)
    for at, (one, outcome) in enumerate(run_each(planned, out, cell_limit, click.echo), 1):
        state = "up to date, nothing to do" if outcome.found_again else f"done in {clock(outcome.manifest['seconds'])}"
        click.secho((f"{at}/{len(planned)} " if len(planned) > 1 else "") + f"{one.words}: {state}", fg="green")
        click.echo(f"  {outcome.folder}")


@main.command(context_settings={"show_default": True})
@click.argument("chapters", nargs=-1, required=True, metavar="CHAPTER...")
@several_words
@set_file
@click.option("--only", default="", metavar="TEXT", help="Only results that have this in their name.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table as CSV instead of showing it.")
def compare(chapters, words, params, only, out):
    """Lay runs beside each other: those of CHAPTER as it is now, or with -p and -f those of a sweep.

    A row a result, with its interval and the parameters in which the runs differ; over several seeds also the mean with
    Student's interval.
    """
    from pneumo_utils.common.files import write
    from pneumo_utils.study import compare
    from pneumo_utils.study.chapters import find

    runs = (
        compare.planned(_planned(chapters, words, params))
        if words or params
        else [run for each in chapters for run in compare.as_it_is(find(each))]
    )
    table = compare.tidy(runs, only)
    if out:
        write(out, table.to_csv(index=False))
        click.echo(f"{len(table)} rows of {len(runs)} runs are in {out}")
    else:
        click.echo(table.to_string(index=False, na_rep="", float_format="{:.4g}".format))


class Records(click.Group):
    """`record CHAPTER NAME` needs no further word."""

    def parse_args(self, ctx, args):
        """Insert `make` unless the first argument is a subcommand or --help."""
        return super().parse_args(ctx, args if not args or args[0] in {*self.commands, "--help"} else ["make", *args])


@main.group(cls=Records)
def record():
    """Write what a run found where it can be committed: `record CHAPTER NAME`, or `record add FOLDER NAME` for a run
    made elsewhere.
    """


@record.command("make", context_settings={"show_default": True})
@click.argument("chapter")
@click.argument("name")
@set_word
@set_file
@cell_limit
def make_record(chapter, name, words, params, cell_limit):
    """Run CHAPTER, or find its run, and write what it found under NAME where it can be committed: no image, no path."""
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.make_record import record as record_chapter

    found = find(chapter)
    path, outcome = record_chapter(found, name, _given(found, words, params), cell_limit=cell_limit)
    click.secho(
        f"{found.name}: recorded as {name}" + (", from the run that was there" if outcome.found_again else ""),
        fg="green",
    )
    _say_record(path)


@record.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("name")
def add(folder, name):
    """Check FOLDER, a run that was made elsewhere, against its manifest, and write what it found under NAME."""
    from pneumo_utils.study.make_record import add as add_run

    path = add_run(folder, name)
    click.secho(f"{path.parent.name}: brought in as {name}", fg="green")
    _say_record(path)


def _say_record(path):
    import os

    from pneumo_utils.study.records import read

    click.echo(
        f"  {read(path).words}\n  {os.path.relpath(path)}\n  Commit this file; the chapter shows it when it "
        f"is run again."
    )


@main.command(context_settings={"show_default": True})
@click.argument("chapters", nargs=-1, required=True, metavar="CHAPTER...")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="labs", help="The folder to write into."
)
def lab(chapters, out):
    """Write CHAPTER as a notebook for students, with room for answers in the place of the solutions, and one for
    their teacher, with the solutions as cells.
    """
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.exercises import write_lab

    for chapter in chapters:
        for path in write_lab(find(chapter), out):
            click.echo(path)


@main.command()
@click.argument("chapter")
def parameters(chapter):
    """List the parameters of CHAPTER."""
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.parameters import of_chapter

    found = find(chapter)
    rows = [("name", "type", "default", "takes", "what it is")]
    rows += [(p.name, p.type, repr(p.default), p.allowed, p.says) for p in of_chapter(found).values()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    click.echo(f"{found.name}: {found.title}\n")
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip())


@main.command()
def status():
    """Say which chapters are up to date, and which are stale and why."""
    from pneumo_utils.study import records
    from pneumo_utils.study.chapters import chapters
    from pneumo_utils.study.kernel import clock
    from pneumo_utils.study.run_status import standing

    colours = {"up to date": "green", "failed": "red", "stale": "yellow", "never run": "yellow"}
    for chapter in chapters():
        at = standing(chapter)
        ran = (
            f"  {at.manifest['finished'][:10]}, {clock(at.manifest['seconds'])}, {at.manifest['device']}"
            if at.manifest
            else ""
        )
        click.echo(f"{chapter.name}: " + click.style(at.state, fg=colours[at.state]) + ran)
        for reason in at.why[:8]:
            click.echo(f"    {reason}")
        if len(at.why) > 8:
            click.echo(f"    and {len(at.why) - 8} more")
        for name, kept in records.of(chapter.name).items():
            click.echo(f"    record {name}: {kept.words}")


@main.command()
@click.option(
    "--chapters",
    "asked",
    default="",
    metavar="1,2,...",
    help="Run only these, and what sums them up. The rest are bound as they were run last.",
)
@cell_limit
def book(asked, cell_limit):
    """Run the chapters that are not up to date, as many at once as there are cores for, and bind the book into
    _build/html.
    """
    from pneumo_utils.study import book as binder
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.kernel import clock
    from pneumo_utils.study.parallel import run_each
    from pneumo_utils.study.run_status import to_run
    from pneumo_utils.study.sweep import plan

    began = time.time()
    planned, made = plan(to_run([find(each) for each in asked.split(",") if each]), []), 0
    for one, outcome in run_each(planned, cell_limit=cell_limit, say=click.echo):
        if not outcome.found_again:
            made += 1
            click.echo(f"{one.words}: done in {clock(outcome.manifest['seconds'])}")
    if not made:
        click.echo(f"all {len(planned)} chapters are up to date")
    page = binder.bind(say=click.echo)
    click.secho(f"The book is bound ({clock(time.time() - began)}). Open {page}", fg="green")


if __name__ == "__main__":
    sys.exit(main())
