"""The viewer of saliency maps: its text, and its use by keyboard, by mouse, and without scripts."""

import base64
import io
import json
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.image import AxesImage
from PIL import Image
from saved_figures import legible, texts

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.saliency import HEAT_COLOURS, blend_map, describe_maps, overlay_plot, saliency_plot
from pneumo_utils.plots.viewer import map_viewer

matplotlib.use("Agg")
pytestmark = pytest.mark.usefixtures("closed_figures")

SIDE = 32
GREY = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
PICTURES = dict(zip(("normal", "bacterial pneumonia", "viral <pneumonia>"), GREY))
HOT = np.zeros((3, SIDE, SIDE))
HOT[0, 2:8, 2:8], HOT[1, 20:30, 20:30] = 3, 5  # the third is empty
MASKS = np.zeros((3, SIDE, SIDE), bool)
MASKS[1, 20:30, 25:30] = MASKS[2, 4:12, 4:12] = True
CHOICES = [
    ("VGG16", "1", "block5", "Grad-CAM"),
    ("VGG16", "1", "block4", "Grad-CAM"),
    ("VGG16", "2", "block5", "Grad-CAM"),
    ("ResNet50V2", "1", "norm", "Grad-CAM"),
    ("ResNet50V2", "2", "norm", "Grad-CAM"),
]
MAPS = {choice: np.roll(HOT, index, 2) for index, choice in enumerate(CHOICES)}
ANSWERS = {CHOICES[0]: ["normal, 0.9", "pneumonia, 0.8", "normal, 0.6"]}


def drawn(figure) -> list[np.ndarray]:
    return [
        np.asarray(image.get_array())
        for image in figure.findobj(AxesImage)
        if np.asarray(image.get_array()).shape[:2] == (SIDE, SIDE)
    ]


def test_saliency_plot_shows_image_map_and_overlay():
    figure, alt = saliency_plot(PICTURES, HOT, MASKS)
    shown = drawn(figure)
    assert len(shown) == 9 and {
        "radiograph",
        "heat map",
        "overlay",
        "no heat",
        "the lesion",
        "the map's maximum",
    } <= set(texts(figure))
    np.testing.assert_array_equal(shown[0], GREY[0])
    np.testing.assert_allclose(shown[1][3, 3], HEAT_COLOURS(1.0)[:3])
    np.testing.assert_allclose(shown[1][20, 20], HEAT_COLOURS(0.0)[:3])
    # where there is no heat the picture stays as it is
    np.testing.assert_allclose(shown[2][20, 20], GREY[0][20, 20] / 255)
    assert (
        "bacterial pneumonia: hotter than half of its maximum in the lower right of the picture, 9.8 % of it; 50 % "
        "of the heat on the lesion" in alt
    )
    assert "normal: hotter than half of its maximum in the upper left of the picture, 3.5 % of it; no lesion" in alt
    assert "viral <pneumonia>: no heat anywhere" in alt
    legible(figure)


def test_overlay_plot_has_one_row_per_model():
    figure, alt = overlay_plot(PICTURES, {"VGG16 with augmentation and a long name": HOT, "DenseNet201": HOT[::-1]})
    shown = drawn(figure)
    assert len(shown) == 9 and "the lesion" not in texts(figure)
    np.testing.assert_allclose(shown[1], blend_map(GREY[0], HOT[0] / 3))
    np.testing.assert_allclose(shown[2], GREY[0][..., None].repeat(3, 2) / 255)  # DenseNet201 has no heat here
    assert "DenseNet201, normal: no heat anywhere" in alt
    legible(figure)


def test_heat_colours_are_perceptually_even():
    colours = HEAT_COLOURS(np.linspace(0, 1, 65))[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(np.maximum(linear @ [0.2126, 0.7152, 0.0722], 0.008856)) - 16
    steps = np.diff(lightness[lightness > 8.5])  # darker still, lightness is another formula
    assert len(steps) > 50 and (steps > 0).all() and steps.std() < 0.15 * steps.mean()


@pytest.mark.parametrize(
    "given, message",
    [
        (({}, HOT), "no heat maps"),
        ((dict.fromkeys("abcdef", GREY[0]), HOT), "at most 5"),
        ((PICTURES, HOT[:2]), "give one for each"),
        ((PICTURES, -HOT), "below 0"),
        ((PICTURES, HOT[:, :4]), "give one for each"),
        (({"a": GREY[0] / 255}, HOT[:1]), "grey bytes"),
        ((PICTURES, HOT, MASKS[:1]), "give one for each"),
        ((PICTURES, HOT[0]), "is no heat map"),
    ],
)
def test_saliency_plot_refuses_invalid_input(given, message):
    with pytest.raises(StudyError, match=message):
        saliency_plot(*given)


def data(html: str) -> dict:
    return json.loads(re.search(r'class="data">(.*?)</script>', html, re.S)[1])


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))


def test_viewer_embeds_every_image_once():
    html = map_viewer(PICTURES, MAPS | {("VGG16", "2", "block4", "Grad-CAM"): MAPS[CHOICES[0]]}, MASKS, ANSWERS)
    uris = re.findall(r"data:image/png;base64,[A-Za-z0-9+/=]+", html)
    assert (
        len(uris) == len(set(uris)) == 3 + 2 + 2 * 4 + 2 + 1
    )  # pictures, outlines, maps of two cases moved by 0 to 4 (one of them given twice), empty
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html.replace("data:image/png", ""))
    assert "<pneumonia>" not in html and html.count("<script") == 2
    assert map_viewer(PICTURES, MAPS) == map_viewer(PICTURES, MAPS) and map_viewer(
        PICTURES, MAPS, title="b"
    ) != map_viewer(PICTURES, MAPS)


def test_viewer_images_equal_the_input():
    html = map_viewer(PICTURES, MAPS, MASKS)
    still = dict(re.findall(r'<img class="(\w+)" src="([^"]+)"', html))
    np.testing.assert_array_equal(pixels(still["picture"])[..., 0], GREY[0])
    np.testing.assert_allclose(pixels(still["heat"])[..., :3] / 255, HEAT_COLOURS(HOT[0] / 3)[..., :3], atol=0.01)
    line = pixels(still["mask"])[..., 3] > 0
    finer = len(line) // SIDE
    assert (
        not line[22 * finer : 28 * finer, 26 * finer + 2 : 29 * finer - 2].any()
        and not line[: 18 * finer].any()
        and line[25 * finer].any()
    )
    assert data(html)["images"].count(None) == 3
    small = map_viewer(PICTURES, {CHOICES[0]: HOT[:, ::8, ::8]}, MASKS)  # as Grad-CAM made it
    assert len(small) < len(map_viewer(PICTURES, MAPS, MASKS)) and "on the lesion" not in small


@pytest.mark.parametrize(
    "given, message",
    [
        (({}, MAPS), "needs pictures"),
        ((PICTURES, {}), "needs pictures"),
        ((PICTURES, {("VGG16", "1"): HOT}), "a word each"),
        ((PICTURES, {CHOICES[0]: HOT[:2]}), "3 pictures"),
        ((PICTURES, MAPS, MASKS[:, :9]), "masks has the shape"),
        ((PICTURES, {CHOICES[0]: HOT - 1}), "below 0"),
        ((PICTURES, MAPS, None, {("no",): []}), "no map"),
    ],
)
def test_viewer_refuses_invalid_input(given, message):
    with pytest.raises(StudyError, match=message):
        map_viewer(*given)


@pytest.fixture
def opened(browser, tmp_path):
    """The viewer in a page from disk, as a cell of the book stands in its theme; whatever the browser complains of
    is collected.
    """
    contexts = []

    def open_page(html=None, width=1000, theme="light", scripts=True):
        page_html = (
            f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta '
            f'charset="utf-8"><title>Viewer</title></head><body style="margin: 0">'
            f'<article class="bd-content"><div '
            f'class="cell_output">{html or map_viewer(PICTURES, MAPS, MASKS, ANSWERS)}</div></article></body></html>'
        )
        (tmp_path / "page.html").write_text(page_html, encoding="utf-8")
        contexts.append(
            context := browser.new_context(
                viewport={"width": width, "height": 900}, java_script_enabled=scripts, color_scheme=theme
            )
        )
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request", lambda r: page.complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None
        )
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def heat_alt(page) -> str:
    return page.locator("img.heat").get_attribute("alt")


@pytest.mark.browser
def test_viewer_choice_updates_image_text_and_announcement(opened):
    page = opened()
    before = page.locator("img.heat").get_attribute("src")
    assert heat_alt(page).startswith("VGG16, 1, block5, Grad-CAM: hotter") and heat_alt(page).endswith(
        "The answer: normal, 0.9."
    )
    page.get_by_label("ResNet50V2").check()
    after = page.locator("img.heat").get_attribute("src")
    assert after != before and heat_alt(page).startswith("ResNet50V2, 1, norm, Grad-CAM: ")
    np.testing.assert_allclose(
        pixels(after)[..., :3] / 255, HEAT_COLOURS(np.roll(HOT[0], 3, 1) / 3)[..., :3], atol=0.01
    )
    page.get_by_label("viral <pneumonia>").check()
    assert page.locator("img.picture").get_attribute(
        "alt"
    ) == "Radiograph: viral <pneumonia>." and "no heat anywhere" in heat_alt(page)
    np.testing.assert_array_equal(pixels(page.locator("img.picture").get_attribute("src"))[..., 0], GREY[2])
    text = page.locator("[aria-live=polite]").inner_text()
    assert text == f"Radiograph: viral <pneumonia>. {heat_alt(page)}"
    assert page.complaints == []


@pytest.mark.browser
def test_viewer_offers_existing_choices_only(opened):
    page = opened()
    assert (
        page.get_by_role("radio", name="norm", exact=True).count() == 0
        and page.get_by_label("Grad-CAM", exact=True).is_hidden()
    )  # one method is no choice
    page.get_by_label("block4").check()
    page.get_by_role("group", name="Scenario").get_by_label("2").check()  # where block4 was not looked at
    assert (
        heat_alt(page).startswith("VGG16, 2, block5")
        and page.get_by_label("block4").count() == 1
        and page.get_by_label("block4").is_hidden()
    )
    page.get_by_label("ResNet50V2").check()
    assert heat_alt(page).startswith("ResNet50V2, 2, norm")
    page.get_by_label("VGG16").check()
    assert heat_alt(page).startswith("VGG16, 2, block5") and page.complaints == []


@pytest.mark.browser
def test_viewer_works_by_keyboard(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "radio"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", (
        "the focus is not to be seen"
    )
    page.keyboard.press("ArrowDown")
    assert page.locator("img.picture").get_attribute("alt") == "Radiograph: bacterial pneumonia."
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "range":
            break
    page.keyboard.press("End")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('img.heat')).opacity") == "1"
        and page.locator("output").inner_text() == "100 %"
    )
    page.keyboard.press("Home")
    assert page.evaluate("getComputedStyle(document.querySelector('img.heat')).opacity") == "0"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert (
        page.locator("img.mask").is_visible()
        and "Outlined in blue: the true lesion, lower right" in page.locator(".description").inner_text()
    )
    assert page.complaints == []


@pytest.mark.browser
def test_viewer_outlines_the_lesion_of_the_case(opened):
    page = opened()
    page.get_by_label("Outline the true lesion").check()
    assert (
        page.locator("img.mask").is_hidden()
        and "There is no lesion to outline." in page.locator(".description").inner_text()
    )
    first = page.get_by_label("bacterial pneumonia").check() or page.locator("img.mask").get_attribute("src")
    page.get_by_label("viral <pneumonia>").check()
    assert page.locator("img.mask").is_visible() and page.locator("img.mask").get_attribute("src") != first
    assert "upper left" in page.locator("img.mask").get_attribute("alt")


@pytest.mark.browser
@pytest.mark.parametrize("width, theme", [(1000, "light"), (390, "dark")])
def test_viewer_fits_narrow_screens(opened, width, theme):
    page = opened(width=width, theme=theme)
    page.get_by_label("Outline the true lesion").check()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.eval_on_selector_all("img", "images => images.every(i => i.alt.trim() && i.complete && i.naturalWidth)")
    boxes = page.eval_on_selector_all(
        "img", "images => images.filter(i => !i.hidden).map(i => JSON.stringify(i.getBoundingClientRect()))"
    )
    assert len(set(boxes)) == 1, "the pictures do not lie on each other"
    style = page.evaluate(
        "(({color, backgroundColor}) => [color, "
        "backgroundColor])(getComputedStyle(document.querySelector('.pneumo-viewer')))"
    )
    ink, ground = (np.array([int(part) / 255 for part in re.findall(r"\d+", colour)]) for colour in style)
    light = [
        float(np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
        for colour in (ink, ground)
    ]
    assert (max(light) + 0.05) / (min(light) + 0.05) >= 7 and (light[0] > light[1]) == (theme == "dark")


@pytest.mark.browser
def test_two_viewers_are_independent(opened):
    page = opened(map_viewer(PICTURES, MAPS, title="First") + map_viewer(PICTURES, MAPS, MASKS, title="Second"))
    second = page.get_by_role("group", name="Second")
    second.get_by_label("ResNet50V2").check()
    assert second.locator("img.heat").get_attribute("alt").startswith("ResNet50V2")
    assert page.get_by_role("group", name="First").locator("img.heat").get_attribute("alt").startswith("VGG16")
    assert page.get_by_label("VGG16").first.is_checked() and page.complaints == []


@pytest.mark.browser
def test_viewer_without_scripts_is_an_image(opened):
    page = opened(scripts=False)
    assert (
        page.locator("img.picture").is_visible()
        and page.locator("img.heat").is_visible()
        and page.locator(".controls").is_hidden()
    )
    assert (
        page.locator(".description").inner_text().startswith("Radiograph: normal. VGG16, 1, block5, Grad-CAM: hotter")
    )
    assert page.locator("noscript").is_visible() and "one of 15 maps" in page.locator("noscript").inner_text()


def test_map_description_counts_heat_on_the_lesion():
    heat, mask = np.zeros((10, 10)), np.zeros((10, 10), bool)
    heat[0, :4] = 1
    mask[0, 3:8] = True
    assert describe_maps(heat, mask).endswith("25 % of the heat on the lesion, which is 5.0 % of the picture")
