"""Label figures and tables, and resolve references to them, also where a run did not show what is referred to."""

import ast
import re
from collections import Counter

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.plots.comparison import survey_table_name
from pneumo_utils.study.chapters import Chapter

REFERENCE = re.compile(r"\{numref\}`(?:[^`<]*<)?(?P<label>(?P<kind>fig|tab)-(?P<chapter>[^-`>]+)-(?P<name>[^`>]+))>?`")
TABLE_ID = re.compile(r'(?<=<table )([^>]*\bid=")tab-([\w-]+)(?=")')
# methods of a run that name their table themselves, with that name
METHOD_TABLES = {"run.paper_claims": "claims", "run.show_records": "records", "run.verdicts": "verdicts"}
KINDS = {"fig": "figure", "tab": "table"}


def reference_label(kind: str, chapter: Chapter, name: str) -> str:
    """Build the label of a figure or table, unique in the book.

    kind: "fig" or "tab".
    chapter: the chapter that shows it.
    name: its name in the chapter.
    """
    return f"{kind}-{chapter.label_prefix}-{name}"


def add_table_labels(output: dict, chapter: Chapter) -> None:
    """Replace the names of the tables in a cell's output by their labels in the book, in place.

    output: an output, as notebook JSON.
    chapter: the chapter of the cell.
    """
    data = output.get("data", {})
    if "text/html" in data:
        data["text/html"] = TABLE_ID.sub(
            lambda match: match[1] + reference_label("tab", chapter, match[2]), "".join(data["text/html"])
        )


def page_labels(page: dict, chapter: Chapter) -> set[str]:
    """Collect the labels of all figures and tables on a page.

    Raises `StudyError` if a label occurs twice.

    page: an executed notebook, as JSON, with labelled tables.
    chapter: its chapter, for the error message.
    """
    shown = [cell["metadata"].get("mystnb", {}).get("figure", {}).get("name", "") for cell in page["cells"]]
    shown += [
        "tab-" + name
        for cell in page["cells"]
        for output in cell.get("outputs", [])
        for _, name in TABLE_ID.findall(output.get("data", {}).get("text/html", ""))
    ]
    counts = Counter(filter(None, shown))
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise StudyError(
            f"{chapter.name} shows two figures or tables of one name, {repeated[0]}: give each a name of its own."
        )
    return set(counts)


def resolve_references(text: str, where: str, shown_labels: set[str], chapters: list[Chapter]) -> str:
    """Replace references to figures and tables that the book's runs did not show by plain words.

    Raises `StudyError` if no chapter can show what is referred to.

    text: the prose, in Markdown.
    where: the file or cell of the text, for the error message.
    shown_labels: the labels of all figures and tables in the book.
    chapters: all chapters, also those that the book leaves out.
    """

    def resolve(match: re.Match) -> str:
        if match["label"] in shown_labels:
            return match[0]
        patterns = [
            reference_label(match["kind"], chapter, name)
            for chapter in chapters
            if chapter.label_prefix == match["chapter"]
            for name in name_patterns(chapter, match["kind"])
        ]
        if not any(re.fullmatch(pattern, match["label"]) for pattern in patterns):
            raise StudyError(
                f"{where} refers to {match['label']}, and there is no {KINDS[match['kind']]} of that "
                f"name{did_you_mean(match['label'], shown_labels)}"
            )
        return f"*a {KINDS[match['kind']]} left out of this run*"

    return REFERENCE.sub(resolve, text)


def unlink_chapters(text: str, left_out: list[Chapter]) -> str:
    """Replace links to chapters that the book leaves out by their text, or by the chapter's title if they have none.

    text: the prose, in Markdown.
    left_out: the chapters that are not in the book.
    """
    for chapter in left_out:
        targets = "|".join([rf"(?:[\w.]+/)*{re.escape(chapter.name)}\.ipynb", *map(re.escape, chapter.labels())])
        title = f"*{chapter.title}*"
        text = re.sub(rf"\[([^\]]*)\]\((?:{targets})\)", lambda match, title=title: match[1] or title, text)
    return text


def name_patterns(chapter: Chapter, kind: str) -> set[str]:
    """Collect patterns of the names of all figures or tables that a chapter's code can show, also under conditions.

    chapter: the chapter, whose source notebook is read.
    kind: "fig" for figures, "tab" for tables.
    """
    code = [ast.parse("".join(cell["source"])) for cell in chapter.notebook()["cells"] if cell["cell_type"] == "code"]
    calls = [node for tree in code for node in ast.walk(tree) if isinstance(node, ast.Call)]
    patterns = set()
    for call in calls:
        function, keywords = ast.unparse(call.func), {keyword.arg: keyword.value for keyword in call.keywords}
        if function in METHOD_TABLES:
            if kind == "tab":
                patterns.add(METHOD_TABLES[function])
        elif function == "run.compare_with_records":
            if kind == "tab":
                patterns |= {pattern for argument in call.args for pattern in _survey_patterns(argument, code)}
        elif (
            function == "run.figure"
            if kind == "fig"
            else {"name", "caption"} <= keywords.keys() and function != "run.figure"
        ):
            patterns |= _name_patterns(keywords.get("name") or call.args[1], code)
    return patterns


def _survey_patterns(survey: ast.expr, code: list[ast.Module]) -> set[str]:
    """Return patterns of the table names of a survey; if its name is computed, of every f-string in the code."""
    if isinstance(survey, ast.Constant):
        return {survey_table_name(survey.value)}
    texts = [
        node
        for tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant)
    ]
    return {
        "-?".join(
            re.escape(survey_table_name(part.value)) if isinstance(part, ast.Constant) else r"[\w-]+"
            for part in text.values
        )
        for text in texts
    }


def _name_patterns(name: ast.expr, code: list[ast.Module]) -> set[str]:
    """Return patterns of a name that is a constant, an f-string or a variable."""
    if isinstance(name, ast.Constant):
        return {re.escape(name.value)}
    if isinstance(name, ast.JoinedStr):
        return {"".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"[\w-]+" for part in name.values)}
    # a variable may hold any text of the code
    return {
        re.escape(node.value)
        for tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
