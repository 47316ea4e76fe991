"""`viewer(cases, maps)`: radiographs under heat maps that a reader chooses, as a piece of HTML that needs no network
and is a picture without scripts.
"""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, zoom

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha
from pneumo_utils.explain.randomisation import of_its_most
from pneumo_utils.plots.phantom import where
from pneumo_utils.plots.saliency import HEAT, describe_maps
from pneumo_utils.plots.style import SKY

__reads__ = ("pneumo_utils/plots/viewer.css", "pneumo_utils/plots/viewer.js")
HERE = Path(__file__).parent
GROUPS = ("model", "scenario", "layer", "method")
SHADES = 64  # of heat: more than an eye tells apart, and a palette of a few bytes
FINE = 256  # pixels along an edge of an outline, at least
OPACITY = 40  # percent, to begin with: the ribs still show


def viewer(
    cases: dict[str, np.ndarray],
    maps: dict[tuple[str, ...], np.ndarray],
    masks=None,
    answers: dict[tuple[str, ...], Sequence[str]] | None = None,
    groups: Sequence[str] = GROUPS,
    title: str = "Where the networks look",
) -> str:
    """`cases` are grey pictures by name; `maps` has an array (cases, height, width) for each choice, a word a group:
    ("VGG16", "1", "block5", "Grad-CAM").

    Not every choice has to be there. `masks` are the true lesions, `answers` what each network says of each case. To be
    shown as IPython's HTML.
    """
    pictures, choices, masks = _checked(cases, maps, masks, answers, groups)
    images, told, views = _Images(), [], {}
    options = [
        ("radiograph", list(cases)),
        *((group, [*dict.fromkeys(part)]) for group, part in zip(groups, zip(*choices))),
    ]
    for at, (name, picture) in enumerate(zip(cases, pictures)):
        there = masks is not None and masks[at].any()
        told.append(
            {
                "picture": images.add(Image.fromarray(picture)),
                "alt": f"Radiograph: {name}.",
                "mask": images.add(_outline(masks[at])) if there else None,
                "outline": f"Outlined in blue: the true lesion, {where(masks[at])}." if there else "",
            }
        )
    for choice, heat in choices.items():
        chosen = [words.index(word) for (_, words), word in zip(options[1:], choice)]
        for at in range(len(pictures)):
            said = f" The answer: {answers[choice][at]}." if answers and choice in answers else ""
            alt = f"{', '.join(choice)}: {_heat_in_words(heat[at], masks, at)}.{said}"
            views[",".join(map(str, (at, *chosen)))] = {"heat": images.add(_coloured(heat[at])), "alt": alt}
    return _page(list(images.places), told, views, options, pictures[0].shape, title)


def _checked(cases, maps, masks, answers, groups):
    if not cases or not maps:
        raise StudyError(
            'A viewer needs pictures by name and maps by choice: {("VGG16", "1", "block5", "Grad-CAM"): maps, ...}.'
        )
    pictures = [np.asarray(each) for each in cases.values()]
    if any(each.dtype != np.uint8 or each.ndim != 2 or each.shape != pictures[0].shape for each in pictures):
        raise StudyError("The pictures of a viewer are grey bytes of one size, as cohort.pixels(size) gives them.")
    if wrong := next((choice for choice in maps if not isinstance(choice, tuple) or len(choice) != len(groups)), None):
        raise StudyError(f"Maps are found by {', '.join(groups)}, a word each; {wrong!r} is not that.")
    choices = {choice: of_its_most(heat) for choice, heat in maps.items()}
    masks = None if masks is None else np.asarray(masks, bool)
    for what, each in [*choices.items(), *([] if masks is None else [("masks", masks)])]:
        if len(each) != len(pictures) or (what == "masks" and each.shape[1:] != pictures[0].shape):
            raise StudyError(
                f"{what} has the shape {each.shape}; there are {len(pictures)} pictures of "
                f"{pictures[0].shape}. Give one for each."
            )
    if unknown := set(answers or ()) - set(choices):
        raise StudyError(f"There is an answer for {', '.join(map(str, unknown))} and no map.")
    return pictures, choices, masks


class _Images:
    """Pictures as data URIs, each of them once."""

    def __init__(self):
        self.places: dict[str, int] = {}

    def add(self, image: Image.Image) -> int:
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return self.places.setdefault(uri, len(self.places))


def _coloured(heat: np.ndarray) -> Image.Image:
    """A map of heat from 0 to 1 in the book's colours for heat."""
    image = Image.fromarray((heat * (SHADES - 1)).round().astype(np.uint8))
    image.putpalette((255 * HEAT(np.linspace(0, 1, SHADES))[:, :3]).round().astype(np.uint8).tobytes())
    return image


def _outline(mask: np.ndarray) -> Image.Image:
    """A line around a mask, blue and cased in black, with nothing elsewhere."""
    finer = -(-FINE // min(mask.shape))
    soft = gaussian_filter(zoom(mask.astype(float), finer, order=0), finer / 2)
    within = soft > min(0.5, 0.5 * soft.max())
    line = binary_dilation(within) & ~within
    cased = binary_dilation(line, iterations=2)
    image = Image.fromarray(np.where(binary_dilation(line), 2, cased).astype(np.uint8))
    image.putpalette([0, 0, 0, 0, 0, 0, *(round(255 * part) for part in to_rgb(SKY))])
    image.info["transparency"] = 0
    return image


def _heat_in_words(heat: np.ndarray, masks, at: int) -> str:
    """With the share on the lesion, where the map is as large as its mask."""
    fits = masks is not None and masks[at].shape == heat.shape
    return describe_maps(heat, masks[at] if fits else None)


def _page(
    uris: list[str],
    told: list[dict],
    views: dict,
    options: list[tuple[str, list[str]]],
    shape: tuple[int, int],
    title: str,
) -> str:
    """The first case under the first map stands in the page as it is; all else is the script's."""
    first = next(iter(views))
    one, view, outlined = told[0], views[first], next((each for each in told if each["mask"] is not None), None)
    name = f"viewer-{sha(json.dumps([uris, told, views, options, title]))[:10]}"
    start = {one["picture"], view["heat"], *([outlined["mask"]] if outlined else [])}
    data = {"images": [None if at in start else uri for at, uri in enumerate(uris)], "cases": told, "views": views}
    shades = ", ".join(map(to_hex, HEAT(np.linspace(0, 1, 9))))

    def image(kind: str, at: int, alt: str, more: str = "") -> str:
        return f'<img class="{kind}" src="{uris[at]}" data-image="{at}" alt="{escape(alt)}"{more}>'

    def radios(group: int, legend: str, words: list[str]) -> str:
        inputs = (
            f'<label><input type="radio" name="{name}-{group}" '
            f'value="{at}"{" checked" * (at == int(first.split(",")[group]))}> {escape(word)}</label>'
            for at, word in enumerate(words)
        )
        return f"<fieldset><legend>{escape(legend.capitalize())}</legend>{''.join(inputs)}</fieldset>"

    return "\n".join(
        [
            f'<div class="pneumo-viewer" id="{name}" role="group" aria-label="{escape(title)}">',
            f"<style>{_beside('viewer.css')}</style>",
            f'<div class="shown"><div class="stage" style="aspect-ratio: {shape[1]} / {shape[0]}">',
            image("picture", one["picture"], one["alt"]),
            image("heat", view["heat"], view["alt"], f' style="opacity: {OPACITY / 100}"'),
            image("mask", outlined["mask"], outlined["outline"], " hidden") if outlined else "",
            f'</div><div class="scale"><span>no heat</span><i style="background: linear-gradient(to right, '
            f"{shades})\"></i><span>the map's most</span></div>",
            f'<p class="told" aria-live="polite">{escape(one["alt"])} {escape(view["alt"])}</p></div>',
            '<form class="controls" hidden>',
            *(radios(group, *each) for group, each in enumerate(options)),
            f'<label class="wide">Opacity of the heat map<span><input type="range" min="0" max="100" step="5" '
            f'value="{OPACITY}">'
            f"<output>{OPACITY} %</output></span></label>",
            '<label class="wide"><input type="checkbox"> Outline the true lesion</label>' if outlined else "",
            "</form>",
            f"<noscript>This is one of {len(views)} maps; the others are shown where scripts may run.</noscript>",
            f'<script type="application/json" '
            f'class="data">{json.dumps(data, separators=(",", ":")).replace("<", chr(92) + "u003c")}</script>',
            f"<script>{_beside('viewer.js').replace('VIEWER', name)}</script>",
            "</div>",
        ]
    )


def _beside(file: str) -> str:
    return (HERE / file).read_text(encoding="utf-8")
