"""What prose calls figures and tables by, and what becomes of a reference to one that a run did not show."""

import ast
import re

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.plots.comparison import survey_name
from pneumo_utils.study.chapters import Chapter

REFERENCE = re.compile(r"\{numref\}`(?:[^`<]*<)?(?P<label>(?P<kind>fig|tab)-(?P<chapter>[^-`>]+)-(?P<name>[^`>]+))>?`")
TABLE = re.compile(r'(?<=<table )([^>]*\bid=")tab-([\w-]+)(?=")')
# tables that a run names by itself
RUNS_OWN = {"run.paper_says": "claims", "run.show_records": "records", "run.verdicts": "verdicts"}
KINDS = {"fig": "figure", "tab": "table"}


def label(kind: str, chapter: Chapter, name: str) -> str:
    """Build the label of a figure or table from its kind, chapter and name."""
    return f"{kind}-{chapter.short}-{name}"


def labelled(output: dict, chapter: Chapter) -> None:
    """Give the tables of an output the labels that they have in the book; in the chapter they have only their names."""
    data = output.get("data", {})
    if "text/html" in data:
        data["text/html"] = TABLE.sub(
            lambda found: found[1] + label("tab", chapter, found[2]), "".join(data["text/html"])
        )


def labels(page: dict, chapter: Chapter) -> set[str]:
    """The labels of all figures and tables that a page shows."""
    told = [cell["metadata"].get("mystnb", {}).get("figure", {}).get("name", "") for cell in page["cells"]]
    told += [
        "tab-" + name
        for cell in page["cells"]
        for output in cell.get("outputs", [])
        for _, name in TABLE.findall(output.get("data", {}).get("text/html", ""))
    ]
    told = [each for each in told if each]
    if twice := sorted(each for each in set(told) if told.count(each) > 1):
        raise StudyError(
            f"{chapter.name} shows two figures or tables of one name, {twice[0]}: give each a name of its own."
        )
    return set(told)


def settled(text: str, where: str, shown: set[str], chapters: list[Chapter]) -> str:
    """Prose in which a reference to what this book's runs did not show is plain words; one to what no chapter ever
    shows is an error.
    """

    def settle(found):
        if found["label"] in shown:
            return found[0]
        known = [
            label(found["kind"], chapter, name)
            for chapter in chapters
            if chapter.short == found["chapter"]
            for name in names(chapter, found["kind"])
        ]
        if not any(re.fullmatch(each, found["label"]) for each in known):
            raise StudyError(
                f"{where} refers to {found['label']}, and there is no {KINDS[found['kind']]} of that "
                f"name{did_you_mean(found['label'], shown)}"
            )
        return f"*a {KINDS[found['kind']]} left out of this run*"

    return REFERENCE.sub(settle, text)


def linked(text: str, left_out: list[Chapter]) -> str:
    """Prose whose links into chapters that are left out are their words alone, or the chapter's title."""
    for chapter in left_out:
        targets = "|".join(
            map(re.escape, (f"../notebooks/{chapter.name}.ipynb", f"{chapter.name}.ipynb", *chapter.labels()))
        )
        title = f"*{chapter.title}*"
        text = re.sub(rf"\[([^\]]*)\]\((?:{targets})\)", lambda found, title=title: found[1] or title, text)
    return text


def names(chapter: Chapter, kind: str) -> set[str]:
    """Patterns of the names that a chapter's source gives its figures (`fig`) or its tables (`tab`), whether a run
    comes to show them or not.
    """
    code = [ast.parse("".join(cell["source"])) for cell in chapter.notebook()["cells"] if cell["cell_type"] == "code"]
    calls = [node for tree in code for node in ast.walk(tree) if isinstance(node, ast.Call)]
    told = set()
    for call in calls:
        function, keywords = ast.unparse(call.func), {word.arg: word.value for word in call.keywords}
        if function in RUNS_OWN:
            told |= {RUNS_OWN[function]} if kind == "tab" else set()
        elif function == "run.beside":
            told |= {name for each in call.args for name in _surveys(each, code)} if kind == "tab" else set()
        elif (
            function == "run.figure"
            if kind == "fig"
            else {"name", "caption"} <= keywords.keys() and function != "run.figure"
        ):
            told |= _patterns(keywords.get("name") or call.args[1], code)
    return told


def _surveys(told: ast.expr, code: list[ast.Module]) -> set[str]:
    """Names of the tables of surveys; where these are worked out, of any text with a gap in it."""
    if isinstance(told, ast.Constant):
        return {survey_name(told.value)}
    texts = [
        node
        for tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant)
    ]
    return {
        "-?".join(
            re.escape(survey_name(part.value)) if isinstance(part, ast.Constant) else r"[\w-]+" for part in text.values
        )
        for text in texts
    }


def _patterns(name: ast.expr, code: list[ast.Module]) -> set[str]:
    if isinstance(name, ast.Constant):
        return {re.escape(name.value)}
    if isinstance(name, ast.JoinedStr):
        return {"".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"[\w-]+" for part in name.values)}
    return {
        re.escape(node.value)
        for tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }  # a variable: any word that it may hold
