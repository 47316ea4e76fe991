"""The command line interface `pneumo`."""

import difflib
import sys
import time
from pathlib import Path

import click

from pneumo_utils.common.errors import StudyError

MADE = ("covid_gan", "curated_covid", "kermany", "medmnist", "nih", "rsna")
# copied from the phantom, whose import is slow; a test compares the two
SHORTCUTS = ("marker", "brightness", "size", "colour", "findings")
WRONG_EXIT = 3  # exit code of `data check` for a faulty release; 1 is an error, 2 a wrong command line
COLOURS = {"wrong": "red", "worth knowing": "yellow", "as it should be": "green"}


@click.group()
def data():
    """Make phantom data sets, and check or download real ones."""


@data.command("make", context_settings={"show_default": True})
@click.argument("release", type=click.Choice(MADE))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--images", default=1000, help="Number of images.")
@click.option("--size", default=256, help="Width and height of the images in pixels.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="The random seed.")
@click.option(
    "--shortcut",
    "shortcuts",
    multiple=True,
    type=click.Choice(SHORTCUTS),
    help="A sign of the class that is not in the lungs, or, in covid_gan, findings instead of fingerprints; may be "
    "repeated.",
)
def make_release(release, folder, images, size, seed, shortcuts):
    """Write phantom radiographs into DIR in the published layout of RELEASE."""
    from pneumo_utils.phantom.writers.writer import make as write_release

    write_release(release, images, size, seed, folder, shortcuts)
    click.secho(f"{release}: {images:,} phantom images in {folder}", fg="green")
    click.echo("  the true masks and the patients are in its folder truth, which no reader opens")


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="DIR", type=click.Path(path_type=Path), help="Another release: find images that are in both."
)
@click.option("--strict", is_flag=True, help="Count findings that are `worth knowing` as wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON and nothing else.")
@click.option("--html", "page", metavar="FILE", type=click.Path(path_type=Path), help="Write a report with images.")
@click.pass_context
def check(ctx, folder, against, strict, as_json, page):
    """Check which release is in DIR, and report what is wrong with it.

    The exit code is 0 if nothing is wrong, 3 if something is wrong, and 1 if DIR cannot be read.
    """
    import json

    from pneumo_utils.data.quality_report import check as check_release
    from pneumo_utils.data.quality_report import failed

    findings = check_release(folder, against)
    wrong = failed(findings, strict)
    if as_json:
        report = {"folder": str(folder), "failed": wrong, "findings": [finding.as_json() for finding in findings]}
        click.echo(json.dumps(report, indent=1, ensure_ascii=False))
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
    """Download the real RELEASE into DIR and check it; if that is impossible, explain how to download it by hand."""
    from pneumo_utils.data.readers.download import get as download

    download(release, folder, say=click.echo)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Training time of each trunk, at the speed measured first; by default 13, or 25 on a GPU.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Training steps instead of minutes; on one machine, the same steps and seed give the same weights.",
)
@click.option(
    "--images",
    type=click.IntRange(min=100),
    default=60_000,
    show_default=True,
    help="Number of generated training images.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed of the images and of the initial weights.",
)
@click.option(
    "--out",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for NAME.safetensors and its card, NAME.json; by default the one that the package reads.",
)
def pretrain(names, minutes, steps, images, seed, folder):
    """Pretrain the pocket weights of all trunks, or of those named, on images generated by formulas."""
    from pneumo_utils.common.errors import StudyError
    from pneumo_utils.common.run_paths import in_repository
    from pneumo_utils.models.registry import names as trunk_names
    from pneumo_utils.models.weights import POCKET
    from pneumo_utils.phantom.pretraining.train import pretrain as pretrain_trunk

    if not folder and not in_repository():
        raise StudyError("Name a folder for the weights with --out: the installed package keeps those it came with.")
    folder = folder or POCKET
    if minutes and steps:
        raise StudyError("--minutes and --steps both say how long to train: give one of them.")
    known = trunk_names()
    for name in names:
        if name not in known:
            similar = difflib.get_close_matches(name, known, 1)
            raise StudyError(
                f"There is no trunk {name!r}."
                + (f" Did you mean {similar[0]!r}?" if similar else "")
                + f" Known are {', '.join(known)}."
            )
    for name in names or known:
        card = pretrain_trunk(name, folder, steps, minutes, seed, images, say=click.echo)
        task, score = next(iter(card["scores"].items()))
        summary = f"{task} {score['score']:.3f} ({score['measure']}; chance {score['chance']:.3f})"
        click.secho(f"{name}: {summary}, {folder / name}.safetensors", fg="green")


class Face(click.Group):
    """A command group that prints an error that the user can correct as one message, without a traceback."""

    def invoke(self, ctx):
        """Run a command; turn a StudyError into a message and exit code 1, and Ctrl-C into exit code 130.

        ctx: the context of click.
        """
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
    """Rerun five papers on pneumonia in chest radiographs, and build the book."""


main.add_command(data)
main.add_command(pretrain)


set_word = click.option(
    "-p",
    "--parameter",
    "words",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the chapter; may be repeated.",
)
set_file = click.option(
    "-f", "--file", "params", type=click.Path(path_type=Path), help="A YAML file of parameters; -p overrides it."
)
cell_limit = click.option(
    "--cell-limit", type=click.IntRange(min=1), default=3600, help="Seconds that one cell may take."
)


def _overrides(chapter, words, params) -> dict:
    """Read the parameters that the user set, with -p and in a file."""
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
    help="Set a parameter; may be repeated. `0..4` and `0,1,2` are several values, with one run each.",
)


def _plan(chapters, words, params):
    """Plan the runs of a sweep over chapters and parameter values."""
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.sweep import plan

    return plan([find(chapter) for chapter in chapters], words, params)


@main.command(context_settings={"show_default": True})
@click.argument("chapters", nargs=-1, required=True, metavar="CHAPTER...")
@several_words
@set_file
@click.option("--out", type=click.Path(path_type=Path), help="Write the run to this folder instead of one under runs/.")
@cell_limit
def run(chapters, words, params, out, cell_limit):
    """Run CHAPTER: a number, a name, or a part of a name. A run that is up to date is not repeated.

    Several chapters, or several values of a parameter, are a sweep: every combination is a run. The runs use all cores
    in parallel, and `pneumo compare` compares their results.
    """
    from pneumo_utils.study.kernel import clock
    from pneumo_utils.study.parallel import run_each

    planned = _plan(chapters, words, params)
    for count, (planned_run, outcome) in enumerate(run_each(planned, out, cell_limit, click.echo), 1):
        state = "up to date, nothing to do" if outcome.found_again else f"done in {clock(outcome.manifest['seconds'])}"
        position = f"{count}/{len(planned)} " if len(planned) > 1 else ""
        click.secho(f"{position}{planned_run.words}: {state}", fg="green")
        click.echo(f"  {outcome.folder}")


@main.command(context_settings={"show_default": True})
@click.argument("chapters", nargs=-1, required=True, metavar="CHAPTER...")
@several_words
@set_file
@click.option("--only", default="", metavar="TEXT", help="Show only results with this text in their name.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table as CSV instead of showing it.")
def compare(chapters, words, params, only, out):
    """Compare the results of runs: those of CHAPTER as it is now, or with -p and -f those of a sweep.

    The table has one row for each result of each run, with its confidence interval and the parameters in which the runs
    differ. For several seeds it also has the mean with Student's confidence interval.
    """
    from pneumo_utils.common.files import write
    from pneumo_utils.study import compare
    from pneumo_utils.study.chapters import find

    runs = (
        compare.planned(_plan(chapters, words, params))
        if words or params
        else [run for chapter in chapters for run in compare.as_it_is(find(chapter))]
    )
    table = compare.tidy(runs, only)
    if out:
        write(out, table.to_csv(index=False))
        click.echo(f"{len(table)} rows of {len(runs)} runs are in {out}")
    else:
        click.echo(table.to_string(index=False, na_rep="", float_format="{:.4g}".format))


class Records(click.Group):
    """A command group whose default subcommand is `make`, so that `record CHAPTER NAME` is enough."""

    def parse_args(self, ctx, args):
        """Insert `make` unless the first argument is a subcommand or --help.

        ctx: the context of click.
        args: the arguments behind `record`.
        """
        return super().parse_args(ctx, args if not args or args[0] in {*self.commands, "--help"} else ["make", *args])


@main.group(cls=Records)
def record():
    """Write the results of a run to a file that can be committed: `record CHAPTER NAME`, or `record add FOLDER NAME`
    for a run from another machine.
    """


@record.command("make", context_settings={"show_default": True})
@click.argument("chapter")
@click.argument("name")
@set_word
@set_file
@cell_limit
def make_record(chapter, name, words, params, cell_limit):
    """Run CHAPTER, or reuse its run, and write the results to the record NAME, without images and paths."""
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.make_record import record as record_chapter

    notebook = find(chapter)
    path, outcome = record_chapter(notebook, name, _overrides(notebook, words, params), cell_limit=cell_limit)
    click.secho(
        f"{notebook.name}: recorded as {name}" + (", from the run that was there" if outcome.found_again else ""),
        fg="green",
    )
    _print_record(path)


@record.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("name")
def add(folder, name):
    """Check FOLDER, a run from another machine, against its manifest, and write its results to the record NAME."""
    from pneumo_utils.study.make_record import add as add_run

    path = add_run(folder, name)
    click.secho(f"{path.parent.name}: imported as {name}", fg="green")
    _print_record(path)


def _print_record(path):
    import os

    from pneumo_utils.study.records import read

    click.echo(f"  {read(path).words}")
    click.echo(f"  {os.path.relpath(path)}")
    click.echo("  Commit this file; the chapter shows it when it is run again.")


@main.command(context_settings={"show_default": True})
@click.argument("chapters", nargs=-1, required=True, metavar="CHAPTER...")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="labs", help="The folder to write into."
)
def lab(chapters, out):
    """Write CHAPTER as a notebook for students, with empty cells instead of the solutions, and one for teachers, with
    the solutions as cells.
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

    notebook = find(chapter)
    rows = [("name", "type", "default", "takes", "what it is")]
    rows += [(p.name, p.type, repr(p.default), p.allowed, p.says) for p in of_chapter(notebook).values()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    click.echo(f"{notebook.name}: {notebook.title}\n")
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip())


@main.command()
def status():
    """Show which chapters are up to date, and which are stale and why."""
    from pneumo_utils.study import records
    from pneumo_utils.study.chapters import chapters
    from pneumo_utils.study.kernel import clock
    from pneumo_utils.study.run_status import standing

    colours = {"up to date": "green", "failed": "red", "stale": "yellow", "never run": "yellow"}
    for chapter in chapters():
        current = standing(chapter)
        manifest = current.manifest
        details = (
            f"  {manifest['finished'][:10]}, {clock(manifest['seconds'])}, {manifest['device']}" if manifest else ""
        )
        click.echo(f"{chapter.name}: " + click.style(current.state, fg=colours[current.state]) + details)
        for reason in current.why[:8]:
            click.echo(f"    {reason}")
        if len(current.why) > 8:
            click.echo(f"    and {len(current.why) - 8} more")
        for name, chapter_record in records.of(chapter.name).items():
            click.echo(f"    record {name}: {chapter_record.words}")


@main.command()
@click.option(
    "--chapters",
    "asked",
    default="",
    metavar="1,2,...",
    help="Run only these chapters and the summaries. The other pages show their last run.",
)
@cell_limit
def book(asked, cell_limit):
    """Run the chapters that are not up to date, in parallel on all cores, and build the book in _build/html."""
    from pneumo_utils.study.book import bind
    from pneumo_utils.study.chapters import find
    from pneumo_utils.study.kernel import clock
    from pneumo_utils.study.parallel import run_each
    from pneumo_utils.study.run_status import to_run
    from pneumo_utils.study.sweep import plan

    start, n_made = time.time(), 0
    planned = plan(to_run([find(query) for query in asked.split(",") if query]), [])
    for planned_run, outcome in run_each(planned, cell_limit=cell_limit, say=click.echo):
        if not outcome.found_again:
            n_made += 1
            click.echo(f"{planned_run.words}: done in {clock(outcome.manifest['seconds'])}")
    if not n_made:
        click.echo(f"all {len(planned)} chapters are up to date")
    page = bind(say=click.echo)
    click.secho(f"The book is built ({clock(time.time() - start)}). Open {page}", fg="green")


if __name__ == "__main__":
    sys.exit(main())
