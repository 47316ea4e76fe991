"""The real book in a real browser, wide, narrow and dark."""

import functools
import http.server
import re
import threading
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from settings import of_the_book

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json
from pneumo_utils.study import book, own_data, records
from pneumo_utils.study.chapters import chapters, find_chapter, list_toc_pages
from pneumo_utils.study.run import Outcome, run
from pneumo_utils.study.run_status import chapter_status, chapters_to_run
from pneumo_utils.study.sweep import PlannedRun


@pytest.fixture(scope="session")
def html(tmp_path_factory):
    """The book as `make book` makes it: every chapter of the contents, from a real run in which little is made more
    than twice.
    """
    for chapter in chapters_to_run([]):
        run(chapter, of_the_book(chapter))
    return book.build_book(tmp_path_factory.mktemp("build")).parent


@pytest.fixture(scope="session")
def manifests(html):
    """The manifest of the run behind each chapter's page, by the chapter's name."""
    return {chapter.name: chapter_status(chapter).manifest for chapter in chapters()}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="session")
def site(html):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def look(browser, site):
    """Open a page of the book; whatever the browser complains of is collected."""
    contexts = []

    def open_page(name, width=1400, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on(
            "console",
            lambda m: page.complaints.append(f"console: {m.text}") if m.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: page.complaints.append(f"script: {error}"))
        page.on(
            "request",
            lambda r: (
                page.complaints.append(f"leaves the book: {r.url}")
                if not r.url.startswith((site, "data:", "blob:"))
                else None
            ),
        )
        page.on("response", lambda r: page.complaints.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.goto(f"{site}/{name}.html")
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()


WCAG = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa"]}
CONTRAST = {"type": "rule", "values": ["color-contrast"]}
SCROLLING = {"type": "rule", "values": ["scrollable-region-focusable"]}  # all else that is narrow is the theme's


HIDE_ALIKE = """() => {  // hides texts whose style two earlier texts show already; they keep their place
    const seen = {}
    for (const element of document.querySelectorAll("body *")) {
        if (element.childElementCount || !element.textContent.trim()) continue
        const path = [element.getAttribute("style") || "", element.disabled ? "disabled" : ""]
        for (let e = element; e; e = e.parentElement) path.push(e.tagName + "." + e.className)
        const style = path.join(" ")
        seen[style] = (seen[style] || 0) + 1
        if (seen[style] > 2) element.style.visibility = "hidden"
    }
}"""


def barriers(page, rules=WCAG, colours: bool = True) -> list[str]:
    """List what axe-core reports. Of long tables only 40 rows are checked: the others are made alike."""
    options = {"runOnly": rules, "resultTypes": ["violations"]}
    if not colours:
        options["rules"] = {"color-contrast": {"enabled": False}}
    if rules == CONTRAST:  # takes most of the time, and finds nothing new in texts of the same style
        page.evaluate(HIDE_ALIKE)
    violations = Axe().run(page, {"exclude": [["tbody tr:nth-child(n+41)"]]}, options).response["violations"]
    return [f"{rule['help']}: {node['html'][:200]}" for rule in violations for node in rule["nodes"]]


def set_scheme(page, scheme: str) -> None:
    """Ask for a colour scheme as an operating system would, and wait until the page has it."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'", timeout=10_000)


def set_width(page, width: int, settle: int = 0) -> None:
    """Resize the page and wait until it is drawn, and for some milliseconds more."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(f"new Promise(done => requestAnimationFrame(() => setTimeout(done, {settle})))")


@pytest.mark.browser
@pytest.mark.parametrize("name", list_toc_pages())
def test_every_page_is_complete_and_accessible(look, name):
    page = look(name)
    page.add_style_tag(content="* { transition: none !important }")  # or contrast is measured in mid-change
    assert page.locator("article.bd-article h1").count() == 1
    without = page.eval_on_selector_all("img", "images => images.filter(i => !i.alt || !i.alt.trim()).map(i => i.src)")
    assert without == [], "a picture has no words for who cannot see it"
    broken = page.eval_on_selector_all(
        "img", "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert broken == []
    levels = page.eval_on_selector_all("article.bd-article :is(h1,h2,h3,h4,h5,h6)", "hs => hs.map(h => +h.tagName[1])")
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:])), "headings skip a level"
    for scheme in ("dark", "light"):
        set_scheme(page, scheme)
        for width in (390, 1400):
            set_width(page, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert page.complaints == []  # before axe-core runs, which fetches style sheets again
    assert barriers(page, colours=False) == []
    set_width(page, 390, settle=1000)  # the theme makes scrollable tables reachable by keyboard only after a while
    narrow = WCAG if name == "book/intro" else SCROLLING
    assert barriers(page, narrow, colours=False) == []  # a phone has the colours of the wide page
    set_width(page, 1400)
    for scheme in ("light", "dark"):
        set_scheme(page, scheme)
        assert barriers(page, CONTRAST) == []


@pytest.mark.browser
def test_page_of_own_data_sets_runs_beside_the_book_and_the_records(browser, manifests):
    """Two runs of the book itself stand for those on a user's radiographs."""
    made = [
        (PlannedRun(chapter, {}, (), {}), Outcome(run_paths.runs_dir() / name / manifests[name]["digest"], {}, True))
        for name in ("02_gradcam_comparison", "04_mobilenetv2_three_class")
        for chapter in [find_chapter(name)]
    ]
    path = own_data.write_page(made)
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and barriers(page) == []
    assert [heading.split(":")[0] for heading in page.locator("h3").all_inner_texts()] == ["Paper 2", "Paper 4"]
    scores = page.locator("table").first.locator("tbody tr")
    assert scores.count() == 4 and "network" in scores.first.inner_text()
    your_cell, phantom_cell, record_cell = scores.first.locator("td").all_inner_texts()[1:]
    assert your_cell == phantom_cell != record_cell  # one and the same run; and the record on real children
    record = records.read_records("02_gradcam_comparison")["real-radiographs"].results["VGG16, scenario 1: auroc"]
    assert f"{record['value']:.3f}" in record_cell
    for _, outcome in made:
        assert str(outcome.folder / "notebook.ipynb") in page.content()
    page.close()


@pytest.mark.browser
def test_viewer_of_chapter_2_works_by_keyboard(look):
    page = look("notebooks/02_gradcam_comparison")
    description = page.locator(".pneumo-viewer .description")
    assert "VGG16, 1, last, Grad-CAM" in description.inner_text()
    page.get_by_role("radio", name="VGG16").focus()
    page.keyboard.press("ArrowRight")
    assert "ResNet50V2, 1, last, Grad-CAM" in description.inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert "ResNet50V2, 2, last, Grad-CAM" in description.inner_text() and page.complaints == []


@pytest.mark.browser
def test_comparison_page_works_by_keyboard(look):
    page = look("book/compare_runs")
    runs = records.read_records("01_surgical_finetuning")
    page.get_by_label("Chapter").focus()
    page.keyboard.type("Surgical")
    page.get_by_label("Another run").focus()
    page.keyboard.press("End")
    comparison = page.locator(".compared")
    name = [*runs][-1]
    assert (
        f"record {name}: {runs[name].words}" in comparison.inner_text()
        and "parameters differ" in comparison.inner_text()
    )
    assert comparison.locator("table").last.locator("tbody tr").count() > 20 and page.complaints == []
    page.get_by_label("Another run").select_option(label="the book's run")
    assert "one and the same run" in comparison.inner_text()


@pytest.mark.browser
def test_comparison_page_works_without_scripts(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/book/compare_runs.html")
    assert (
        page.locator("article details").count()
        == sum(len(records.read_records(chapter.name)) for chapter in chapters())
        and page.locator("form.compare-runs").is_hidden()
    )
    page.locator("article details summary").first.click()
    assert page.locator("article details table").first.is_visible()
    context.close()


@pytest.mark.browser
def test_search_finds_a_word(look):
    page = look("book/intro")
    page.goto(page.url.replace("book/intro.html", "search.html?q=recall"))
    page.wait_for_selector("#search-results li a")
    assert "glossary" in " ".join(page.eval_on_selector_all("#search-results li a", "links => links.map(a => a.href)"))
    assert page.complaints == []


@pytest.mark.browser
def test_dark_mode_button_switches_the_theme(look):
    page = look("book/intro")
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    for _ in range(3):  # auto, then light, then dark
        page.locator("button.theme-switch-button").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert page.evaluate("document.documentElement.dataset.theme") == "dark" and page.evaluate(background) != before


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 390])
def test_glossary_tooltip_shows_the_definition(look, width):
    page = look("notebooks/paper_audit", width)
    word = page.locator("article a[aria-description]", has_text="F1 score").first
    shown = "word => getComputedStyle(word, '::after').content.includes('harmonic mean')"
    assert not word.evaluate(shown)
    word.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")  # by the keyboard, as :focus-visible asks
    assert word.evaluate(shown) and page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("Escape")
    assert not word.evaluate(shown)
    page.keyboard.press("Tab")
    word.hover()
    assert word.evaluate(shown)
    page.emulate_media(media="print")
    assert not word.evaluate(shown) and page.complaints == []


@pytest.mark.browser
def test_folded_code_opens_by_keyboard(look):
    page = look("notebooks/02_gradcam_comparison", 390)
    fold = page.locator("details.above-input").first
    code = fold.locator("pre").first
    assert "Show" in fold.locator("summary").inner_text() and not code.is_visible()
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    assert code.is_visible() and page.evaluate("document.documentElement.scrollWidth") <= 390 and page.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["book/run_statistics", "notebooks/phantom_atlas"])  # many tables; notes in the margin
def test_printed_page_is_light_and_fits(look, name):
    page = look(name, 1400, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 680, "height": 900})  # A4 between its margins
    assert page.evaluate("getComputedStyle(document.querySelector('article td')).color") == "rgb(20, 24, 30)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    for hidden in ("details:not([open])", ".bd-sidebar-primary", ".bd-sidebar-secondary"):
        assert not page.locator(hidden).first.is_visible()


@pytest.mark.browser
def test_accessibility_check_finds_barriers(browser):
    """That the check above sees what it is there for."""
    page = browser.new_page()
    page.set_content(
        '<html lang="en"><title>x</title><p style="color: #aaa; background: #fff">Pale</p><p>Dark</p><a '
        'href="#"><i></i></a></html>'
    )
    assert len(barriers(page)) == 2 and len(barriers(page, colours=False)) == 1 == len(barriers(page, CONTRAST))
    page.close()


@pytest.mark.browser
def test_mathematics_renders_offline(look):
    page = look("book/glossary")
    page.wait_for_selector("mjx-container")
    assert page.complaints == []


@pytest.mark.browser
def test_downloads_hold_the_executed_notebook(look, html, manifests):
    for chapter in chapters():
        page = look(chapter.page)
        line = page.locator(".what-was-run").inner_text().translate({0x2018: "'", 0x2019: "'"})  # as it is set in type
        manifest = manifests[chapter.name]
        assert manifest["tier"].startswith("pocket")
        for fact in (
            f"{manifest['tier']} settings",
            manifest["data"],
            f"weights: {manifest['weights']}",
            manifest["device"],
        ):
            assert fact in line
        link = page.locator(
            "a[href$='.ipynb'][download], .dropdown-download-buttons a[href$='.ipynb']"
        ).first.get_attribute("href")
        assert ((html / chapter.page).parent / link).resolve().is_file()
        assert page.locator("pre", has_text="# Parameters").count() == 0  # what papermill injected is not shown


def test_pages_and_downloads_hold_no_local_paths(html):
    home = str(Path(book.ROOT))
    for path in [*html.rglob("*.html"), *html.rglob("*.ipynb")]:
        assert home not in path.read_text(encoding="utf-8"), path


def test_pages_are_small(html):
    for name in list_toc_pages():
        page = html / f"{name}.html"
        pictures = sum(
            (page.parent / source).stat().st_size
            for source in set(re.findall(r'src="(\.\./_images/[^"]+)"', page.read_text(encoding="utf-8")))
        )
        assert page.stat().st_size + pictures < 2_000_000, name


def test_run_statistics_equal_the_manifests(html, manifests):
    text = (html / "book" / "run_statistics.html").read_text(encoding="utf-8")
    assert all(manifest["digest"] in text for manifest in manifests.values())


def test_parameters_page_lists_every_parameter(html):
    text = (html / "book" / "parameters.html").read_text(encoding="utf-8")
    for chapter in chapters():
        from pneumo_utils.study.parameters import chapter_parameters

        assert all(f">{name}</span>" in text for name in chapter_parameters(chapter))


def test_scoreboard_links_resolve(html):
    board = read_json(chapter_status(find_chapter("scoreboard")).folder / "board.json")
    assert [row["id"] for row in board] == [claim.id for claim in load_ledger().claims]
    places = {}
    for name in ["notebooks/scoreboard", *(f"book/paper_{paper.paper}" for paper in load_ledger().papers)]:
        page = html / f"{name}.html"
        for link in re.findall(r'<a href="([^"]+)"><span class="verdict', page.read_text(encoding="utf-8")):
            file, _, place = link.partition("#")
            target = (page.parent / file).resolve()
            if target not in places:
                places[target] = set(re.findall(r'id="([^"]+)"', target.read_text(encoding="utf-8")))
            assert not place or place in places[target], (name, link)
    looked = [row[f"{kind} evidence"] for row in board for kind in ("phantom", "real")]
    measured = [place for place in looked if place["chapter"]]
    assert len(measured) > 100 and all(place["section"] for place in measured)


@pytest.mark.browser
def test_scoreboard_filters_work_by_keyboard(look):
    page = look("notebooks/scoreboard")
    second = next(paper for paper in load_ledger().papers if paper.paper == 2)
    page.get_by_role("combobox", name="Paper", exact=True).focus()
    page.keyboard.press("2")
    assert page.get_by_role("status").inner_text() == f"{len(second.claims)} of {len(load_ledger().claims)} claims"
    assert page.locator(".pneumo-scoreboard tbody tr:visible").count() == len(second.claims) and page.complaints == []


def test_traceback_on_a_page_fails_the_book(tmp_path):
    toc = {"root": "book/intro", "parts": [{"chapters": [{"file": "book/rerun"}]}]}
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "intro.html").write_text("fine")
    with pytest.raises(StudyError, match="book/rerun is in the table of contents but was not built"):
        book.check_pages(tmp_path, toc)
    (tmp_path / "book" / "rerun.html").write_text("Traceback (most recent call last)")
    with pytest.raises(StudyError, match="holds a traceback"):
        book.check_pages(tmp_path, toc)


def test_image_without_alt_text_fails_the_book():
    with pytest.raises(StudyError, match="has no alt text"):
        book._figure_metadata({"width": 600}, find_chapter("speed"), 3)


def test_each_image_of_a_cell_has_its_own_alt_text():
    def picture(name):
        return {
            "output_type": "display_data",
            "data": {"image/png": "", "text/plain": name},
            "metadata": {"image/png": {"alt": name, "caption": name, "name": name, "width": 10}},
        }

    printed = {"output_type": "stream", "name": "stdout", "text": "said"}
    cell = {
        "cell_type": "code",
        "id": "a",
        "source": ["draw()"],
        "metadata": {"tags": ["hide-input"]},
        "outputs": [printed, picture("one"), picture("two"), printed, printed],
    }
    parts = book._split_by_figure(cell)
    assert [part["outputs"] for part in parts] == [[printed], [picture("one")], [picture("two")], [printed, printed]]
    assert [part["source"] for part in parts] == [["draw()"], *[["# more of what the cell above shows"]] * 3] and len(
        {part["id"] for part in parts}
    ) == 4
    assert (
        all("remove-input" in part["metadata"]["tags"] for part in parts[1:])
        and "remove-input" not in parts[0]["metadata"]["tags"]
    )
    assert len({id(part["metadata"]) for part in parts}) == 4  # where the words of each are put
    alone = cell | {"outputs": [picture("one")]}
    assert book._split_by_figure(alone) == [alone]


def test_warning_fails_the_book_and_keeps_the_old_one(html, monkeypatch):
    before = (html / "book" / "intro.html").read_bytes()
    prose = book._read_prose()
    prose[Path("book/intro.md")] += b"\n[](no_such_page.md)\n"
    monkeypatch.setattr(book, "_read_prose", lambda: prose)
    with pytest.raises(StudyError, match="no_such_page"):
        book.build_book(html.parent)
    assert (html / "book" / "intro.html").read_bytes() == before


def test_unchanged_book_is_not_rebuilt(html, monkeypatch):
    monkeypatch.setattr(book, "_run_jupyter_book", lambda *_: pytest.fail("built again"))
    messages = []
    assert book.build_book(html.parent, messages.append) == html / "index.html" and messages == ["no page has changed"]
    monkeypatch.setattr(book, "versions", lambda libraries: {"sphinx": "another"})
    with pytest.raises(pytest.fail.Exception, match="built again"):
        book.build_book(html.parent)


def test_table_of_contents_names_existing_pages():
    made = {
        "book/run_statistics",
        "book/parameters",
        "book/api",
        "book/compare_runs",
        *(f"book/paper_{paper.paper}" for paper in load_ledger().papers),
    }
    for name in list_toc_pages():
        assert name in made or any((book.ROOT / f"{name}{ending}").exists() for ending in (".md", ".ipynb")), name
    assert yaml.safe_load((book.ROOT / "_config.yml").read_text())["execute"]["execute_notebooks"] == "off"


def test_pages_link_to_the_repository_once_it_has_an_address(html):
    config = yaml.safe_load((book.ROOT / "_config.yml").read_text())
    off, on = (book.staged_config(config, f"https://{host}/book") for host in ("example.org", "github.com/someone"))
    assert not {"repository", "launch_buttons"} & off.keys() and off["html"] == config["html"]
    assert on["repository"]["url"] == "https://github.com/someone/book" and on["html"]["use_issues_button"]
    assert on["launch_buttons"].keys() == {"binderhub_url", "colab_url"}
    page = (html / "notebooks" / "scoreboard.html").read_text(encoding="utf-8")
    assert "mybinder.org" not in page and "colab.research" not in page
