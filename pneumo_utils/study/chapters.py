"""The chapters: the notebooks of the table of contents, found by number, by name, or by a part of a name."""

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils import ROOT
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_yaml
from pneumo_utils.common.run_paths import repository

LABEL = re.compile(r"(?m)^\(([\w-]+)\)=$")


@dataclass(frozen=True)
class Chapter:
    """A chapter of the book, by the path of its notebook."""

    path: Path

    @property
    def name(self) -> str:
        """Return the file name of the notebook without its suffix."""
        return self.path.stem

    @property
    def number(self) -> str:
        """ "1" for 01_surgical_finetuning, "5b" for the second notebook of a chapter; nothing for an appendix."""
        first = self.name.split("_")[0]
        return first.lstrip("0") if first[:1].isdigit() else ""

    @property
    def short(self) -> str:
        """The number, or the last word of an appendix: what the numbers and labels of its figures and tables begin
        with.
        """
        return self.number or self.name.split("_")[-1]

    def notebook(self) -> dict:
        """The source notebook, as JSON; nbformat is left out because importing it takes longer than all else here."""
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

    def section_of(self, source: str) -> str:
        """The label of the section in which the cell with this source stands, for links to it."""
        label = ""
        for cell in self.notebook()["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code" and text.strip() == source.strip():
                return label
            if cell["cell_type"] == "markdown" and (labels := LABEL.findall(text)):
                label = labels[-1]
        return ""

    def labels(self) -> set[str]:
        """What links to its sections are called."""
        return {
            label
            for cell in self.notebook()["cells"]
            if cell["cell_type"] == "markdown"
            for label in LABEL.findall("".join(cell["source"]))
        }

    @property
    def title(self) -> str:
        """Return the first top-level heading, or the name if there is none."""
        for cell in self.notebook()["cells"]:
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
        return self.name


def contents(root: Path = ROOT) -> list[str]:
    """Every page of the table of contents, in order, as it is written there."""
    return named(read_yaml(repository(root) / "_toc.yml"))


def named(toc: dict) -> list[str]:
    """The pages that a table of contents names."""
    pages = [toc["root"]]

    def collect(node):
        for entry in node.get("chapters", []) + node.get("sections", []):
            pages.append(entry["file"])
            collect(entry)
        for part in node.get("parts", []):
            collect(part)

    collect(toc)
    return pages


def chapters(root: Path = ROOT) -> list[Chapter]:
    """List the chapters in the order of the table of contents."""
    return [Chapter(root / f"{page}.ipynb") for page in contents(root) if page.startswith("notebooks/")]


def find(asked: str, root: Path = ROOT) -> Chapter:
    """The one chapter that a number, a name or a part of a name means; a path to a notebook means that notebook."""
    if asked.endswith(".ipynb") and Path(asked).is_file():
        return Chapter(Path(asked).absolute())
    known = chapters(root)
    word = Path(asked).stem if asked.endswith(".ipynb") else asked
    for same in (
        lambda c: c.name == word,
        lambda c: c.number == word.lstrip("0") != "",
        lambda c: word.lower() in c.name.lower(),
    ):
        hits = [chapter for chapter in known if same(chapter)]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise StudyError(f"{asked!r} may be any of {', '.join(c.name for c in hits)}: say more of the name.")
    near = difflib.get_close_matches(word, [c.name for c in known], n=1, cutoff=0.4)
    raise StudyError(
        f"There is no chapter {asked!r}."
        + (f" Did you mean {near[0]}?" if near else "")
        + f" The chapters are {', '.join(c.name for c in known)}."
    )
