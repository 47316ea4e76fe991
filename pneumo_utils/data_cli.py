"""`pneumo data`: make a phantom release, check one, get a real one."""

from pathlib import Path

import click

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
def make(release, folder, images, size, seed, shortcuts):
    """Write phantom radiographs into DIR in the published layout of RELEASE."""
    from pneumo_utils.phantom.writers.making import make as write

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

    from pneumo_utils.data.check import check as look
    from pneumo_utils.data.check import failed

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
        from pneumo_utils.data.report import write_report

        write_report(page, folder, findings)
        click.echo(f"  the report with pictures is {page}", err=as_json)
    ctx.exit(WRONG_EXIT if wrong else 0)


@data.command()
@click.argument("release", type=click.Choice(MADE))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def get(release, folder):
    """Fetch the real RELEASE into DIR where there is a network, and check it; else say how to get it by hand."""
    from pneumo_utils.data.readers.get import get as fetch

    fetch(release, folder, say=click.echo)
