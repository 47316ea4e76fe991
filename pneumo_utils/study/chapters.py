"""List the chapters in the table of contents, and find one by its number, its name or a part of its name."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, read_yaml
from pneumo_utils.common.run_paths import notebook_page, repository_dir
from pneumo_utils.common.suggest import did_you_mean

FURTHER = "further"  # the folder of further experiments, beside the chapters
LABEL_PATTERN = re.compile(r"(?m)^\(([\w-]+)\)=$")  # a MyST label, `(label)=`, on a line of its own


@dataclass(frozen=True)
class Chapter:
    """A chapter of the book, given by its notebook."""

    path: Path  # of the notebook

    @property
    def name(self) -> str:
        """Return the file name of the notebook without its suffix."""
        return self.path.stem

    @property
    def number(self) -> str:
        """Return the number, "1" for 01_surgical_finetuning; "" for an appendix.

        The page of further experiments on paper 1, 01f_further_experiments, has the number "1f". A paper with two such
        pages adds their initials: 05f_labels has the number "5fl".
        """
        first, _, rest = self.name.partition("_")
        if not first[:1].isdigit():
            return ""
        return first.lstrip("0") + (rest[:1] if first.endswith("f") and rest != "further_experiments" else "")

    @property
    def notebooks_dir(self) -> Path:
        """Return the folder of all notebooks and their parameter files; `further` is a folder in it."""
        return self.path.parent.parent if self.path.parent.name == FURTHER else self.path.parent

    @property
    def page(self) -> str:
        """Return the path of the chapter's page in the book, without suffix."""
        return notebook_page(self.name)

    @property
    def label_prefix(self) -> str:
        """Return the prefix of the labels of its figures and tables: its number, or the last word of its name."""
        return self.number or self.name.split("_")[-1]

    def notebook(self) -> dict:
        """Read the notebook and return the content of its JSON file; raise a StudyError if it is damaged.

        This does not use nbformat, because importing nbformat takes longer than everything else in this module.
        """
        try:
            notebook = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(notebook["cells"], list):
                raise TypeError("its cells are no list")
            return notebook
        except OSError as error:
            raise StudyError(f"{self.path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{self.path} is not a notebook: {error}. Restore it, for instance with `git checkout "
                f"-- {self.path.name}`."
            ) from error

    def section_label(self, source: str) -> str:
        """Return the label of the section that contains a code cell, or an empty text if there is none.

        source: the source of the cell.
        """
        label = ""
        for cell in self.notebook()["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code" and text.strip() == source.strip():
                return label
            if cell["cell_type"] == "markdown" and (labels := LABEL_PATTERN.findall(text)):
                label = labels[-1]
        return ""

    def labels(self) -> set[str]:
        """Return the labels of the chapter's sections."""
        return {
            label
            for cell in self.notebook()["cells"]
            if cell["cell_type"] == "markdown"
            for label in LABEL_PATTERN.findall("".join(cell["source"]))
        }

    @property
    def title(self) -> str:
        """Return the first top-level heading, or the chapter's name if there is none."""
        for cell in self.notebook()["cells"]:
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
        return self.name


def list_toc_pages(root: Path = ROOT) -> list[str]:
    """List the pages in the table of contents, in order, as paths without suffix.

    root: the folder of the repository.
    """
    return parse_toc(read_yaml(repository_dir(root) / "_toc.yml"))


def parse_toc(toc: dict) -> list[str]:
    """List the pages that a table of contents names, in order.

    toc: the content of `_toc.yml`.
    """
    pages = [toc["root"]]

    def collect_pages(node):
        for entry in node.get("chapters", []) + node.get("sections", []):
            pages.append(entry["file"])
            collect_pages(entry)
        for part in node.get("parts", []):
            collect_pages(part)

    collect_pages(toc)
    return pages


def chapters(root: Path = ROOT) -> list[Chapter]:
    """List the chapters in the order of the table of contents.

    root: the folder of the repository.
    """
    return [Chapter(root / f"{page}.ipynb") for page in list_toc_pages(root) if page.startswith("notebooks/")]


def find_chapter(query: str, root: Path = ROOT) -> Chapter:
    """Find the chapter with a number, a name or a part of a name; raise a StudyError if there is not exactly one.

    query: the number, name or part of a name, or the path of a notebook. Of a page and its further page, a part of both
        names means the page.
    root: the folder of the repository.
    """
    if query.endswith(".ipynb") and Path(query).is_file():
        return Chapter(Path(query).absolute())
    known = chapters(root)
    word = Path(query).stem if query.endswith(".ipynb") else query
    for is_match in (
        lambda chapter: chapter.name == word,
        lambda chapter: chapter.number == word.lstrip("0") != "",
        lambda chapter: word.lower() in chapter.name.lower() and chapter.path.parent.name != FURTHER,
        lambda chapter: word.lower() in chapter.name.lower(),
    ):
        matches = [chapter for chapter in known if is_match(chapter)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StudyError(f"{query!r} may be any of {', '.join(c.name for c in matches)}: say more of the name.")
    names = [chapter.name for chapter in known]
    raise StudyError(
        f"There is no chapter {query!r}{did_you_mean(word, names, 0.4)} The chapters are {', '.join(names)}."
    )
