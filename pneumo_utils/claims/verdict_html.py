"""Format claims and their verdicts as HTML: the scoreboard with its filters, and tables for pages of the book."""

from urllib.parse import quote

import pandas as pd
from IPython.display import HTML

from pneumo_utils.claims.decision import COMPARISON_VERDICTS, DIFFERS, MATCHES
from pneumo_utils.claims.ledger import DATA_KINDS, PAPER_VERDICTS
from pneumo_utils.common.markup import escape_markup
from pneumo_utils.common.run_paths import notebook_page
from pneumo_utils.plots.tables import format_claim

RERUN_VERDICTS = (*COMPARISON_VERDICTS, MATCHES, DIFFERS)
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
    filters stay hidden until the book's script activates them. The table scrolls below them.

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
        + "".join(_cell(kind, rerun_verdict(row, kind)) for kind in ("phantom", "real"))
        + "</tr>"
        for row in rows
    ]
    return HTML(
        "\n".join(
            [
                '<div class="pneumo-scoreboard">',
                _filters(board, titles),
                '<div class="claims" role="region" aria-label="Claims and their verdicts" tabindex="0">',
                _table(["Claim", "Paper", *(name for name, _ in VERDICT_COLUMNS.values())], lines),
                "</div>",
                "</div>",
            ]
        )
    )


def paper_claims_html(rows: list[dict]) -> str:
    """Format claims of one paper with the reasons for their verdicts; each row has the claim's id as its anchor.

    The links fit a page in the folder `book`.

    rows: rows of the scoreboard's table.
    """
    lines = [
        f'<tr id="{escape_markup(row["id"])}"><td '
        f'data-is="Claim">{escape_markup(format_claim(row["says"], row["printed"]))}<br>'
        f"<small>{escape_markup(row['kind'])}</small></td>"
        f'<td data-is="On paper">{verdict_html(row["on paper"])}<p>{escape_markup(row["because"])}</p></td>'
        f'<td data-is="Rerun">{_reruns(row)}</td></tr>'
        for row in rows
    ]
    return f'<div class="pneumo-scoreboard reasons">\n{_table(["Claim", "On paper", "Rerun"], lines)}\n</div>'


def _reruns(row: dict) -> str:
    """Format a claim's rule, and for each kind of data the verdict, its reason, and other verdicts that differ."""
    text = ""
    if row["asks"]:
        text += (
            f"<p><em>{escape_markup(row['asks'])}</em> <small>Smallest difference that matters: "
            f"{escape_markup(row['margin'])}.</small></p>"
        )
    if not any(row[f"{kind} evidence"]["chapter"] for kind in DATA_KINDS):
        return text + verdict_html(row["real"]) + f"<p>{escape_markup(row['real evidence']['because'])}</p>"
    for kind in DATA_KINDS:
        found = row[f"{kind} evidence"]
        text += (
            f"<div>{VERDICT_COLUMNS[kind][0]}: {rerun_verdict(row, kind)}</div><p>{escape_markup(found['because'])}</p>"
        )
        for other in row[f"{kind} others"]:
            text += f"<p>{escape_markup(_source(other))} has another verdict: {escape_markup(other['short'])}.</p>"
    return text


def _source(evidence: dict) -> str:
    """Name the run or record that some evidence comes from."""
    return f"Record {evidence['record']}" if evidence["record"] else "The run behind the page"


def rerun_verdict(row: dict, kind: str) -> str:
    """Format the verdict of reruns, with links to the chapter that tested the claim and to the record, if there is one.

    Marks say where the verdict is not the whole story: another run or record has another one, or the rule was not fixed
    before the run. The links fit a page in a folder of the book, such as `book` or `notebooks`.

    row: a row of the scoreboard's table.
    kind: the kind of data, "phantom" or "real".
    """
    found = row[f"{kind} evidence"]
    marks = [
        text
        for text, shown in (
            ("real, but smaller than what matters", found["small_but_real"]),
            ("exploratory", found["exploratory"]),
            ("another run has another verdict", row[f"{kind} others"]),
        )
        if shown
    ]
    return (
        rerun_verdict_link(row, kind)
        + (
            f' <small><a href="../book/run_statistics.html#kept-records">record {escape_markup(found["record"])}</a>'
            "</small>"
            if found["record"]
            else ""
        )
        + (f" <small>{escape_markup('; '.join(marks))}</small>" if marks else "")
    )


def rerun_verdict_link(row: dict, kind: str) -> str:
    """Format the verdict of reruns as a link to the section that measured, or as text if nothing was measured.

    row: a row of the scoreboard's table.
    kind: the kind of data, "phantom" or "real".
    """
    found = row[f"{kind} evidence"]
    if not found["chapter"] or not found["section"]:
        return verdict_html(row[kind])
    return verdict_link(row[kind], f"../{notebook_page(found['chapter'])}.html#{found['section']}")


LEGEND = {
    "supported": "the difference that the claim is about is there, and large enough to matter",
    "contradicted": "the difference is the other way round, and large enough to matter; a claim that two things are "
    "alike: they differ by more than the margin",
    "no difference that matters": "any difference is smaller than the smallest one that matters",
    "inconclusive": "the interval is too wide to say any of these",
    "not tested": "no rule, no run, or a run that lacks what the rule needs",
}


def legend_html() -> HTML:
    """Format what the verdicts of reruns mean, as a list."""
    entries = "".join(
        f"<div>{verdict_html(word)}: <span>{escape_markup(text)}</span></div>" for word, text in LEGEND.items()
    )
    return HTML(f'<div class="pneumo-scoreboard legend">{entries}</div>')


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
