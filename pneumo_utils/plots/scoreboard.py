"""The scoreboard as HTML: a plain table, and above it filters that a script of the book brings to life."""

from urllib.parse import quote

import pandas as pd
from IPython.display import HTML

from pneumo_utils.claims.ledger import ON_PAPER
from pneumo_utils.common.markup import plain
from pneumo_utils.plots.tables import claim

RERUN = ("reproduced", "not reproduced", "not tested")
COLUMNS = {
    "on paper": ("On paper", ON_PAPER),
    "phantom": ("On phantoms", RERUN),
    "real": ("On real radiographs", RERUN),
}


def page_of(paper: int) -> str:
    """The page that has a paper's claims in its order."""
    return f"book/paper_{paper}"


def scoreboard(board: pd.DataFrame, titles: dict[int, str]) -> HTML:
    """All claims with their verdicts, each a link to its evidence: the reason on the paper's page, or the section of
    the chapter that looked.
    """
    rows = board.to_dict("records")
    lines = [
        f'<tr {_filed(row)}><td data-is="Claim">{plain(claim(row["says"], row["printed"]))}</td><td '
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
    """Some claims of one paper with the reasons for their verdicts, each under its id as an anchor, for a page in
    the folder `book`.
    """
    lines = []
    for row in rows:
        looked = any(row[f"{kind} at"] for kind in ("phantom", "real"))
        reruns = (
            "".join(
                f"<div>{COLUMNS[kind][0]}: {rerun(row, kind, '../notebooks/')}</div>" for kind in ("phantom", "real")
            )
            if looked
            else verdict(row["real"])
        )
        lines.append(
            f'<tr id="{plain(row["id"])}"><td '
            f'data-is="Claim">{plain(claim(row["says"], row["printed"]))}<br><small>{plain(row["kind"])}</small></td>'
            f'<td data-is="On paper">{verdict(row["on paper"])}<p>{plain(row["because"])}</p></td>'
            f"<td "
            f'data-is="Rerun">{reruns}{"<p>" + plain(row["rerun because"]) + "</p>" if looked else ""}</td></tr>'
        )
    return f'<div class="pneumo-scoreboard reasons">\n{_table(["Claim", "On paper", "Rerun"], lines)}\n</div>'


def at_a_glance(rows: list[dict]) -> str:
    """Some claims of all papers with their verdicts, for a page in the folder `book`."""
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
    """A verdict of reruns on one kind of data, and the record that has the word."""
    record, folder = (row[f"{kind} at"] or {}).get("record"), "" if notebooks else "../book/"
    return looked_at(row, kind, notebooks) + (
        f' <small><a href="{folder}run_statistics.html#kept-records">record {plain(record)}</a></small>'
        if record
        else ""
    )


def looked_at(row: dict, kind: str, notebooks: str) -> str:
    """The same verdict as a link to where it was looked at."""
    at = row[f"{kind} at"]
    return (
        link(row[kind], f"{notebooks}{at['chapter']}.html" + (f"#{at['section']}" if at["section"] else ""))
        if at
        else verdict(row[kind])
    )


def verdict(word: str) -> str:
    """Format a verdict as an HTML span with its own class."""
    return f'<span class="verdict {plain(word).replace(" ", "-")}">{plain(word)}</span>'


def link(word: str, to: str) -> str:
    """Format a verdict as an HTML link."""
    return f'<a href="{quote(to, safe="/:#.?=&-")}">{verdict(word)}</a>'


def _cell(column: str, content: str) -> str:
    return f'<td data-is="{COLUMNS[column][0]}">{content}</td>'


def _table(head: list[str], lines: list[str]) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table>"


def _filed(row: dict) -> str:
    """What the filters look at."""
    return " ".join(f'data-{name.replace(" ", "-")}="{plain(row[name])}"' for name in ("paper", "kind", *COLUMNS))


def _filters(board: pd.DataFrame, titles: dict[int, str]) -> str:
    """Hidden until the script that reads them is there."""
    choices = {
        "paper": ("Paper", {str(paper): f"{paper}: {title}" for paper, title in titles.items()}),
        "kind": ("Kind", {kind: kind for kind in sorted(board["kind"].unique())}),
        **{column: (name, {word: word for word in verdicts}) for column, (name, verdicts) in COLUMNS.items()},
    }
    selects = "".join(
        f'<label>{name} <select name="{key.replace(" ", "-")}"><option value="">all</option>'
        + "".join(f'<option value="{value}">{plain(words)}</option>' for value, words in options.items())
        + "</select></label>"
        for key, (name, options) in choices.items()
    )
    return (
        f'<form class="filters" hidden autocomplete="off" aria-label="Which claims are shown">{selects}<button '
        f'type="reset">Show all</button>'
        f'<p role="status" aria-live="polite">{len(board)} of {len(board)} claims</p></form>'
    )
