"""Format claims and their verdicts as HTML: the scoreboard with its filters, and tables for pages of the book."""

from urllib.parse import quote

import pandas as pd
from IPython.display import HTML

from pneumo_utils.claims.ledger import PAPER_VERDICTS
from pneumo_utils.common.markup import escape_markup
from pneumo_utils.plots.tables import format_claim

RERUN_VERDICTS = ("reproduced", "not reproduced", "not tested")
VERDICT_COLUMNS = {  # by column of the scoreboard's table: title and possible verdicts
    "on paper": ("On paper", PAPER_VERDICTS),
    "phantom": ("On phantoms", RERUN_VERDICTS),
    "real": ("On real radiographs", RERUN_VERDICTS),
}


def paper_page_path(paper: int) -> str:
    """Return the path of a paper's page, without ending.

    paper: the number of the paper.
    """
    return f"book/paper_{paper}"


def scoreboard_html(board: pd.DataFrame, titles: dict[int, str]) -> HTML:
    """Format the scoreboard: all claims with their verdicts, and filters above them.

    A verdict links to its evidence: the reason on the paper's page, or the section of the chapter that tested it. The
    filters stay hidden until the book's script activates them.

    board: the table of claims and verdicts.
    titles: the title of each paper, by its number.
    """
    rows = board.to_dict("records")
    lines = [
        f"<tr {_filter_attributes(row)}>"
        f'<td data-is="Claim">{escape_markup(format_claim(row["says"], row["printed"]))}</td>'
        f"<td "
        f'data-is="Paper">{escape_markup(row["paper"])}, {escape_markup(row["kind"])}</td>'
        + _cell("on paper", verdict_link(row["on paper"], f"../{paper_page_path(row['paper'])}.html#{row['id']}"))
        + "".join(_cell(kind, rerun_verdict(row, kind, "")) for kind in ("phantom", "real"))
        + "</tr>"
        for row in rows
    ]
    return HTML(
        "\n".join(
            [
                '<div class="pneumo-scoreboard">',
                _filters(board, titles),
                _table(["Claim", "Paper", *(name for name, _ in VERDICT_COLUMNS.values())], lines),
                "</div>",
            ]
        )
    )


def paper_claims_html(rows: list[dict]) -> str:
    """Format claims of one paper with the reasons for their verdicts; each row has the claim's id as its anchor.

    The links fit a page in the folder `book`.

    rows: rows of the scoreboard's table.
    """
    lines = []
    for row in rows:
        tested = any(row[f"{kind} at"] for kind in ("phantom", "real"))
        reruns = (
            "".join(
                f"<div>{VERDICT_COLUMNS[kind][0]}: {rerun_verdict(row, kind, '../notebooks/')}</div>"
                for kind in ("phantom", "real")
            )
            if tested
            else verdict_html(row["real"])
        )
        lines.append(
            f'<tr id="{escape_markup(row["id"])}"><td '
            f'data-is="Claim">{escape_markup(format_claim(row["says"], row["printed"]))}<br>'
            f"<small>{escape_markup(row['kind'])}</small></td>"
            f'<td data-is="On paper">{verdict_html(row["on paper"])}<p>{escape_markup(row["because"])}</p></td>'
            f"<td "
            f'data-is="Rerun">{reruns}'
            f"{'<p>' + escape_markup(row['rerun because']) + '</p>' if tested else ''}</td></tr>"
        )
    return f'<div class="pneumo-scoreboard reasons">\n{_table(["Claim", "On paper", "Rerun"], lines)}\n</div>'


def claims_overview_html(rows: list[dict]) -> str:
    """Format claims of several papers with their verdicts.

    The links fit a page in the folder `book`.

    rows: rows of the scoreboard's table.
    """
    lines = [
        f'<tr><td data-is="Claim">{escape_markup(row["says"])} '
        f"<small>(paper {escape_markup(row['paper'])})</small></td>"
        + _cell("on paper", verdict_link(row["on paper"], f"../{paper_page_path(row['paper'])}.html#{row['id']}"))
        + "".join(_cell(kind, rerun_verdict_link(row, kind, "../notebooks/")) for kind in ("phantom", "real"))
        + "</tr>"
        for row in rows
    ]
    return (
        f"<div "
        f'class="pneumo-scoreboard">\n{_table(["The papers say", *(name for name, _ in VERDICT_COLUMNS.values())], lines)}\n</div>'  # noqa: E501
    )


def rerun_verdict(row: dict, kind: str, notebook_folder: str) -> str:
    """Format the verdict of reruns, with links to the chapter that tested the claim and to the record, if there is one.

    row: a row of the scoreboard's table.
    kind: the kind of data, "phantom" or "real".
    notebook_folder: the folder of the notebooks, relative to the page; empty for a page in that folder.
    """
    record, folder = (row[f"{kind} at"] or {}).get("record"), "" if notebook_folder else "../book/"
    return rerun_verdict_link(row, kind, notebook_folder) + (
        f' <small><a href="{folder}run_statistics.html#kept-records">record {escape_markup(record)}</a></small>'
        if record
        else ""
    )


def rerun_verdict_link(row: dict, kind: str, notebook_folder: str) -> str:
    """Format the verdict of reruns as a link to the section that tested the claim, or as text if none did.

    row: a row of the scoreboard's table.
    kind: the kind of data, "phantom" or "real".
    notebook_folder: the folder of the notebooks, relative to the page; empty for a page in that folder.
    """
    source = row[f"{kind} at"]
    if not source:
        return verdict_html(row[kind])
    anchor = f"#{source['section']}" if source["section"] else ""
    return verdict_link(row[kind], f"{notebook_folder}{source['chapter']}.html{anchor}")


def verdict_html(text: str) -> str:
    """Format a verdict as an HTML span with a class of its own.

    text: the verdict.
    """
    return f'<span class="verdict {escape_markup(text).replace(" ", "-")}">{escape_markup(text)}</span>'


def verdict_link(text: str, url: str) -> str:
    """Format a verdict as an HTML link.

    text: the verdict.
    url: the target, relative to the page.
    """
    return f'<a href="{quote(url, safe="/:#.?=&-")}">{verdict_html(text)}</a>'


def _cell(column: str, content: str) -> str:
    return f'<td data-is="{VERDICT_COLUMNS[column][0]}">{content}</td>'


def _table(head: list[str], lines: list[str]) -> str:
    """Format an HTML table from the column titles and the rows' HTML."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table>"


def _filter_attributes(row: dict) -> str:
    """Format the attributes of a row that the filters compare."""
    return " ".join(
        f'data-{name.replace(" ", "-")}="{escape_markup(row[name])}"' for name in ("paper", "kind", *VERDICT_COLUMNS)
    )


def _filters(board: pd.DataFrame, titles: dict[int, str]) -> str:
    """Format the form of filters; it is hidden until the book's script activates it."""
    choices = {
        "paper": ("Paper", {str(paper): f"{paper}: {title}" for paper, title in titles.items()}),
        "kind": ("Kind", {kind: kind for kind in sorted(board["kind"].unique())}),
        **{column: (name, {word: word for word in verdicts}) for column, (name, verdicts) in VERDICT_COLUMNS.items()},
    }
    selects = "".join(
        f'<label>{name} <select name="{key.replace(" ", "-")}"><option value="">all</option>'
        + "".join(f'<option value="{value}">{escape_markup(text)}</option>' for value, text in options.items())
        + "</select></label>"
        for key, (name, options) in choices.items()
    )
    return (
        f'<form class="filters" hidden autocomplete="off" aria-label="Which claims are shown">{selects}<button '
        f'type="reset">Show all</button>'
        f'<p role="status" aria-live="polite">{len(board)} of {len(board)} claims</p></form>'
    )
