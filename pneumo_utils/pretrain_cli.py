"""`pneumo pretrain`: make pocket weights anew, by the recipe that made those that come with the package."""

import difflib
from pathlib import Path

import click


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
    from pneumo_utils.common.places import in_repository
    from pneumo_utils.models.catalogue import names as known
    from pneumo_utils.models.shipped import POCKET
    from pneumo_utils.phantom.pretraining.recipe import pretrain as run

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
