"""An interactive viewer of saliency maps over radiographs, as HTML that needs no network and works without scripts."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import ArrayLike
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, zoom

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha256_hex
from pneumo_utils.explain.randomisation import scale_to_max
from pneumo_utils.plots.phantom import describe_location
from pneumo_utils.plots.saliency import HEAT_COLOURS, describe_maps
from pneumo_utils.plots.style import SKY

__reads__ = ("pneumo_utils/plots/viewer.css", "pneumo_utils/plots/viewer.js")
VIEWER_FOLDER = Path(__file__).parent
GROUPS = ("model", "scenario", "layer", "method")
N_COLOURS = 64  # colours of a map: more than an eye can tell apart, and a palette of a few bytes
MIN_OUTLINE_SIDE = 256  # pixels along an edge of an outline, at least
START_OPACITY = 40  # percent at the beginning: the ribs are still visible


def map_viewer(
    cases: Mapping[str, np.ndarray],
    maps: Mapping[tuple[str, ...], ArrayLike],
    masks: ArrayLike | None = None,
    predictions: Mapping[tuple[str, ...], Sequence[str]] | None = None,
    groups: Sequence[str] = GROUPS,
    title: str = "Where the networks look",
) -> str:
    """Make a viewer of radiographs under saliency maps that the reader chooses, as a piece of HTML.

    Raise `StudyError` if images, maps and masks do not go together.

    cases: grey bytes (height, width) of one size, by name.
    maps: for each choice an array (cases, height, width), 0 or more. A choice has one word per group, such as
        ("VGG16", "1", "block5", "Grad-CAM"); not every combination has to be there.
    masks: the true lesions (cases, height, width).
    predictions: for each choice the network's prediction for each case, in words.
    groups: names of the groups of choices.
    title: name of the viewer for screen readers.
    """
    pictures, choices, mask_array = _check(cases, maps, masks, predictions, groups)
    images, case_data, views = _Images(), [], {}
    options = [
        ("radiograph", list(cases)),
        *((group, [*dict.fromkeys(words)]) for group, words in zip(groups, zip(*choices))),
    ]
    for index, (name, picture) in enumerate(zip(cases, pictures)):
        mask = None if mask_array is None or not mask_array[index].any() else mask_array[index]
        case_data.append(
            {
                "picture": images.add(Image.fromarray(picture)),
                "alt": f"Radiograph: {name}.",
                "mask": None if mask is None else images.add(_outline(mask)),
                "outline": "" if mask is None else f"Outlined in blue: the true lesion, {describe_location(mask)}.",
            }
        )
    for choice, heat in choices.items():
        chosen = [words.index(word) for (_, words), word in zip(options[1:], choice)]
        for index in range(len(pictures)):
            prediction = f" The answer: {predictions[choice][index]}." if predictions and choice in predictions else ""
            alt = f"{', '.join(choice)}: {_describe(heat[index], mask_array, index)}.{prediction}"
            views[",".join(map(str, (index, *chosen)))] = {"heat": images.add(_colour(heat[index])), "alt": alt}
    return _page(list(images.numbers), case_data, views, options, pictures[0].shape, title)


def _check(
    cases: Mapping, maps: Mapping, masks: ArrayLike | None, answers: Mapping | None, groups: Sequence[str]
) -> tuple[list[np.ndarray], dict[tuple[str, ...], np.ndarray], np.ndarray | None]:
    """Return images, maps scaled from 0 to 1, and masks as arrays; raise `StudyError` if they do not go together."""
    if not cases or not maps:
        raise StudyError(
            'A viewer needs pictures by name and maps by choice: {("VGG16", "1", "block5", "Grad-CAM"): maps, ...}.'
        )
    pictures = [np.asarray(picture) for picture in cases.values()]
    shape = pictures[0].shape
    if any(picture.dtype != np.uint8 or picture.ndim != 2 or picture.shape != shape for picture in pictures):
        raise StudyError("The pictures of a viewer are grey bytes of one size, as cohort.pixels(size) gives them.")
    if wrong := next((choice for choice in maps if not isinstance(choice, tuple) or len(choice) != len(groups)), None):
        raise StudyError(f"Maps are found by {', '.join(groups)}, a word each; {wrong!r} is not that.")
    choices = {choice: scale_to_max(heat) for choice, heat in maps.items()}
    masks = None if masks is None else np.asarray(masks, bool)
    for name, array in [*choices.items(), *([] if masks is None else [("masks", masks)])]:
        if len(array) != len(pictures) or (name == "masks" and array.shape[1:] != shape):
            raise StudyError(
                f"{name} has the shape {array.shape}; there are {len(pictures)} pictures of {shape}. Give one for each."
            )
    if unknown := set(answers or ()) - set(choices):
        raise StudyError(f"There is a prediction for {', '.join(map(str, unknown))} and no map.")
    return pictures, choices, masks


class _Images:
    """Collect images as data URIs, each of them once."""

    def __init__(self):
        self.numbers: dict[str, int] = {}

    def add(self, image: Image.Image) -> int:
        """Return the number of an image."""
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return self.numbers.setdefault(uri, len(self.numbers))


def _colour(heat: np.ndarray) -> Image.Image:
    """Colour a saliency map from 0 to 1."""
    image = Image.fromarray((heat * (N_COLOURS - 1)).round().astype(np.uint8))
    image.putpalette((255 * HEAT_COLOURS(np.linspace(0, 1, N_COLOURS))[:, :3]).round().astype(np.uint8).tobytes())
    return image


def _outline(mask: np.ndarray) -> Image.Image:
    """Draw a blue line with a black border around a mask, on a transparent image."""
    scale = -(-MIN_OUTLINE_SIDE // min(mask.shape))
    smooth = gaussian_filter(zoom(mask.astype(float), scale, order=0), scale / 2)
    inside = smooth > min(0.5, 0.5 * smooth.max())
    line = binary_dilation(inside) & ~inside
    border = binary_dilation(line, iterations=2)
    image = Image.fromarray(np.where(binary_dilation(line), 2, border).astype(np.uint8))
    image.putpalette([0, 0, 0, 0, 0, 0, *(round(255 * part) for part in to_rgb(SKY))])
    image.info["transparency"] = 0
    return image


def _describe(heat: np.ndarray, masks: np.ndarray | None, index: int) -> str:
    """Describe a map in words, with its share on the lesion if the mask has the same size."""
    mask = None if masks is None or masks[index].shape != heat.shape else masks[index]
    return describe_maps(heat, mask)


def _page(
    uris: list[str],
    cases: list[dict],
    views: dict,
    options: list[tuple[str, list[str]]],
    shape: tuple[int, int],
    title: str,
) -> str:
    """Write the HTML: the first case under the first map as images, and all else as data for the script."""
    first = next(iter(views))
    case, view, outlined = cases[0], views[first], next((case for case in cases if case["mask"] is not None), None)
    name = f"viewer-{sha256_hex(json.dumps([uris, cases, views, options, title]))[:10]}"
    shown = {case["picture"], view["heat"], *([outlined["mask"]] if outlined else [])}
    data = {
        "images": [None if number in shown else uri for number, uri in enumerate(uris)],
        "cases": cases,
        "views": views,
    }
    shades = ", ".join(map(to_hex, HEAT_COLOURS(np.linspace(0, 1, 9))))

    def image(kind: str, number: int, alt: str, attributes: str = "") -> str:
        return f'<img class="{kind}" src="{uris[number]}" data-image="{number}" alt="{escape(alt)}"{attributes}>'

    def radios(group: int, legend: str, words: list[str]) -> str:
        inputs = (
            f'<label><input type="radio" name="{name}-{group}" '
            f'value="{index}"{" checked" * (index == int(first.split(",")[group]))}> {escape(word)}</label>'
            for index, word in enumerate(words)
        )
        return f"<fieldset><legend>{escape(legend.capitalize())}</legend>{''.join(inputs)}</fieldset>"

    return "\n".join(
        [
            f'<div class="pneumo-viewer" id="{name}" role="group" aria-label="{escape(title)}">',
            f"<style>{_read('viewer.css')}</style>",
            f'<div class="shown"><div class="stage" style="aspect-ratio: {shape[1]} / {shape[0]}">',
            image("picture", case["picture"], case["alt"]),
            image("heat", view["heat"], view["alt"], f' style="opacity: {START_OPACITY / 100}"'),
            image("mask", outlined["mask"], outlined["outline"], " hidden") if outlined else "",
            f'</div><div class="scale"><span>no heat</span><i style="background: linear-gradient(to right, '
            f"{shades})\"></i><span>the map's maximum</span></div>",
            f'<p class="description" aria-live="polite">{escape(case["alt"])} {escape(view["alt"])}</p></div>',
            '<form class="controls" hidden>',
            *(radios(group, legend, words) for group, (legend, words) in enumerate(options)),
            f'<label class="wide">Opacity of the heat map<span><input type="range" min="0" max="100" step="5" '
            f'value="{START_OPACITY}">'
            f"<output>{START_OPACITY} %</output></span></label>",
            '<label class="wide"><input type="checkbox"> Outline the true lesion</label>' if outlined else "",
            "</form>",
            f"<noscript>This is one of {len(views)} maps; the others are shown where scripts may run.</noscript>",
            f'<script type="application/json" '
            f'class="data">{json.dumps(data, separators=(",", ":")).replace("<", chr(92) + "u003c")}</script>',
            f"<script>{_read('viewer.js').replace('VIEWER', name)}</script>",
            "</div>",
        ]
    )


def _read(file: str) -> str:
    return (VIEWER_FOLDER / file).read_text(encoding="utf-8")
