"""Format claims and their verdicts as HTML: the scoreboard with its filters, and tables for pages of the book."""

from urllib.parse import quote

import pandas as pd
from IPython.display import HTML

from pneumo_utils.claims.ledger import ON_PAPER
from pneumo_utils.common.markup import plain
from pneumo_utils.plots.tables import claim

RERUN = ("reproduced", "not reproduced", "not tested")
COLUMNS = {  # by column of the scoreboard's table: title and possible verdicts
    "on paper": ("On paper", ON_PAPER),
    "phantom": ("On phantoms", RERUN),
    "real": ("On real radiographs", RERUN),
}


def page_of(paper: int) -> str:
    """Return the path of a paper's page, without ending.

    paper: the number of the paper.
    """
    return f"book/paper_{paper}"


def scoreboard(board: pd.DataFrame, titles: dict[int, str]) -> HTML:
    """Format the scoreboard: all claims with their verdicts, and filters above them.

    A verdict links to its evidence: the reason on the paper's page, or the section of the chapter that tested it. The
    filters stay hidden until the book's script activates them.

    board: the table of claims and verdicts.
    titles: the title of each paper, by its number.
    """
    rows = board.to_dict("records")
    lines = [
        f'<tr {_filter_attributes(row)}><td data-is="Claim">{plain(claim(row["says"], row["printed"]))}</td><td '
        f'data-is="Paper">{plain(row["paper"])}, {plain(row["kind"])}</td>'
        + _cell("on paper", link(row["on paper"], f"../{page_of(row['paper'])}.html#{row['id']}"))
        + "".join(_cell(kind, rerun(row, kind, "")) for kind in ("phantom", "real"))
        + "</tr>"
        for row in rows
    ]
    return HTML(
        "\n".join(
            [
                '<div class="pneumo-scoreboard">',
                _filters(board, titles),
                _table(["Claim", "Paper", *(name for name, _ in COLUMNS.values())], lines),
                "</div>",
            ]
        )
    )


def of_a_paper(rows: list[dict]) -> str:
    """Format claims of one paper with the reasons for their verdicts; each row has the claim's id as its anchor.

    The links fit a page in the folder `book`.

    rows: rows of the scoreboard's table.
    """
    lines = []
    for row in rows:
        tested = any(row[f"{kind} at"] for kind in ("phantom", "real"))
        reruns = (
            "".join(
                f"<div>{COLUMNS[kind][0]}: {rerun(row, kind, '../notebooks/')}</div>" for kind in ("phantom", "real")
            )
            if tested
            else verdict(row["real"])
        )
        lines.append(
            f'<tr id="{plain(row["id"])}"><td '
            f'data-is="Claim">{plain(claim(row["says"], row["printed"]))}<br><small>{plain(row["kind"])}</small></td>'
            f'<td data-is="On paper">{verdict(row["on paper"])}<p>{plain(row["because"])}</p></td>'
            f"<td "
            f'data-is="Rerun">{reruns}{"<p>" + plain(row["rerun because"]) + "</p>" if tested else ""}</td></tr>'
        )
    return f'<div class="pneumo-scoreboard reasons">\n{_table(["Claim", "On paper", "Rerun"], lines)}\n</div>'


def at_a_glance(rows: list[dict]) -> str:
    """Format claims of several papers with their verdicts.

    The links fit a page in the folder `book`.

    rows: rows of the scoreboard's table.
    """
    lines = [
        f'<tr><td data-is="Claim">{plain(row["says"])} <small>(paper {plain(row["paper"])})</small></td>'
        + _cell("on paper", link(row["on paper"], f"../{page_of(row['paper'])}.html#{row['id']}"))
        + "".join(_cell(kind, looked_at(row, kind, "../notebooks/")) for kind in ("phantom", "real"))
        + "</tr>"
        for row in rows
    ]
    return (
        f"<div "
        f'class="pneumo-scoreboard">\n{_table(["The papers say", *(name for name, _ in COLUMNS.values())], lines)}\n</div>'  # noqa: E501
    )


def rerun(row: dict, kind: str, notebooks: str) -> str:
    """Format the verdict of reruns, with links to the chapter that tested the claim and to the record, if there is one.

    row: a row of the scoreboard's table.
    kind: the kind of data, "phantom" or "real".
    notebook_folder: the folder of the notebooks, relative to the page; empty for a page in that folder.
    """
    record, folder = (row[f"{kind} at"] or {}).get("record"), "" if notebooks else "../book/"
    return looked_at(row, kind, notebooks) + (
        f' <small><a href="{folder}run_statistics.html#kept-records">record {plain(record)}</a></small>'
        if record
        else ""
    )


def looked_at(row: dict, kind: str, notebooks: str) -> str:
    """Format the verdict of reruns as a link to the section that tested the claim, or as text if none did.

    row: a row of the scoreboard's table.
    kind: the kind of data, "phantom" or "real".
    notebook_folder: the folder of the notebooks, relative to the page; empty for a page in that folder.
    """
    source = row[f"{kind} at"]
    if not source:
        return verdict(row[kind])
    anchor = f"#{source['section']}" if source["section"] else ""
    return link(row[kind], f"{notebooks}{source['chapter']}.html{anchor}")


def verdict(word: str) -> str:
    """Format a verdict as an HTML span with a class of its own.

    text: the verdict.
    """
    return f'<span class="verdict {plain(word).replace(" ", "-")}">{plain(word)}</span>'


def link(word: str, to: str) -> str:
    """Format a verdict as an HTML link.

    text: the verdict.
    url: the target, relative to the page.
    """
    return f'<a href="{quote(to, safe="/:#.?=&-")}">{verdict(word)}</a>'


def _cell(column: str, content: str) -> str:
    return f'<td data-is="{COLUMNS[column][0]}">{content}</td>'


def _table(head: list[str], lines: list[str]) -> str:
    """Format an HTML table from the column titles and the rows' HTML."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table>"


def _filter_attributes(row: dict) -> str:
    """Format the attributes of a row that the filters compare."""
    return " ".join(f'data-{name.replace(" ", "-")}="{plain(row[name])}"' for name in ("paper", "kind", *COLUMNS))


def _filters(board: pd.DataFrame, titles: dict[int, str]) -> str:
    """Format the form of filters; it is hidden until the book's script activates it."""
    choices = {
        "paper": ("Paper", {str(paper): f"{paper}: {title}" for paper, title in titles.items()}),
        "kind": ("Kind", {kind: kind for kind in sorted(board["kind"].unique())}),
        **{column: (name, {word: word for word in verdicts}) for column, (name, verdicts) in COLUMNS.items()},
    }
    selects = "".join(
        f'<label>{name} <select name="{key.replace(" ", "-")}"><option value="">all</option>'
        + "".join(f'<option value="{value}">{plain(text)}</option>' for value, text in options.items())
        + "</select></label>"
        for key, (name, options) in choices.items()
    )
    return (
        f'<form class="filters" hidden autocomplete="off" aria-label="Which claims are shown">{selects}<button '
        f'type="reset">Show all</button>'
        f'<p role="status" aria-live="polite">{len(board)} of {len(board)} claims</p></form>'
    )
