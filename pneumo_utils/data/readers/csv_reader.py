"""Tables as people leave them: any line ends, a byte-order mark, trailing columns, gzipped; a wrong header is told
by name.
"""

import csv
import difflib
import gzip
import io
import zlib
from pathlib import Path

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import open_regular

# The largest tables are NIH's, 112,120 rows in 8 MB (10 MB with the ages in words), and RSNA's, 30,227 rows in 1 MB.
LARGEST = 40_000_000  # bytes, unpacked
MOST_ROWS = 200_000
MOST_COLUMNS = 1_000


def read(path: Path, columns: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """The wanted columns as text, under our names, and `line`, the number of each row in its file."""
    header, text = _open(path)
    place = {}
    for ours, names in columns.items():
        wanted = {_same(each) for each in names}
        there = [at for at, name in enumerate(header) if _same(name) in wanted]
        if len(there) > 1:
            raise _no_table(path, f"{len(there)} of its columns are called {header[there[0]]!r}")
        if there:
            place[ours] = there[0]
    if missing := [names[0] for ours, names in columns.items() if ours not in place]:
        _wrong_header(path, header, [names[0] for names in columns.values()], missing)
    try:
        table = pd.read_csv(
            text,
            header=None,
            names=range(len(header)),
            usecols=range(len(header)),
            dtype=str,
            keep_default_na=False,
            index_col=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        raise _no_table(path, error) from error
    table = pd.DataFrame({ours: table[at].str.strip() for ours, at in place.items()})
    return table.assign(line=range(2, len(table) + 2))


def rows(path: Path, columns: list[str], header_begins: str) -> pd.DataFrame:
    """A table whose header cannot be split at its commas: columns go by position."""
    header, text = _open(path)
    if not ",".join(header).lower().startswith(header_begins.lower()):
        _wrong_header(path, header, [header_begins], [header_begins])
    try:
        found = [line for line in csv.reader(text) if line]
    except csv.Error as error:
        raise _no_table(path, error) from error
    if short := next((at for at, line in enumerate(found, 2) if len(line) < len(columns)), None):
        raise StudyError(
            f"{path} line {short} has {len(found[short - 2])} fields, and {len(columns)} are wanted: "
            f"{', '.join(columns)}. Fetch it again."
        )
    table = pd.DataFrame([line[: len(columns)] for line in found], columns=columns, dtype=str)
    return table.apply(lambda column: column.str.strip()).assign(line=range(2, len(table) + 2))


def numbers(path: Path, table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """These columns as numbers, blanks as NaN; anything else is told by its line."""
    made = {}
    for name in columns:
        made[name] = pd.to_numeric(table[name].where(table[name] != ""), errors="coerce").astype(float)
        wrong = made[name].isna() & (table[name] != "")
        if wrong.any():
            first = table[wrong].iloc[0]
            raise StudyError(
                f"{path} line {first['line']}: {name} is {_short(first[name])!r}, not a number. Correct the "
                f"line or fetch the table again."
            )
    return table.assign(**made)


def known(path: Path, table: pd.DataFrame, column: str, allowed) -> None:
    """Every value of a column is one of those allowed."""
    allowed = list(allowed)
    strange = ~table[column].isin(allowed)
    if strange.any():
        first = table[strange].iloc[0]
        near = difflib.get_close_matches(_short(first[column]), allowed, n=1)
        raise StudyError(
            f"{path} line {first['line']}: nobody knows the label "
            f"{_short(first[column])!r}."
            + (f" Did it mean {near[0]!r}?" if near else "")
            + f" Known are {', '.join(allowed)}. Correct the line or fetch the table again."
        )


def names(path: Path) -> list[str]:
    """A list of file names, one a line, with or without a newline at the end."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _open(path: Path) -> tuple[list[str], io.StringIO]:
    """The fields of the header, and the rows as text, whatever ends the lines."""
    text = _text(path).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise StudyError(f"{path} is empty. Fetch it again.")
    if (found := text.count("\n")) > MOST_ROWS:
        raise StudyError(
            f"{path} has {found:,} lines, and no table of these releases has more than {MOST_ROWS:,}. Fetch it from "
            f"the publisher."
        )
    first, _, rest = text.partition("\n")
    try:
        header = next(csv.reader([first]))
    except csv.Error as error:
        raise _no_table(path, error) from error
    if len(header) > MOST_COLUMNS:
        raise _no_table(path, f"its first line names {len(header):,} columns")
    return header, io.StringIO(rest)


def _no_table(path: Path, why) -> StudyError:
    return StudyError(f"{path} is not a table throughout: {why}. Fetch it again.")


def _text(path: Path) -> str:
    try:
        with open_regular(path) as file, gzip.open(file) if path.suffix.lower() == ".gz" else file as unpacked:
            data = unpacked.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if len(data) > LARGEST:
        raise StudyError(
            f"{path} holds more than {LARGEST:,} bytes, which no table of these releases does. Fetch it "
            f"from the publisher."
        )
    if b"\0" in data:
        raise StudyError(f"{path} is not a text table. Fetch it again.")
    if instead := _instead(data):
        raise StudyError(f"{path} is {instead}, not what its name says. Fetch it again.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _instead(data: bytes) -> str:
    """What a download that went wrong has left in the place of a table."""
    begin = data[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if begin.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page"
    if begin.startswith(b"version https://git-lfs"):
        return "a pointer of git-LFS (the file itself was not fetched: `git lfs pull`)"
    return ""


def _short(text: str, letters: int = 100) -> str:
    return text if len(text) <= letters else f"{text[:letters]}..."


def _same(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "#")


def _wrong_header(path: Path, header: list[str], wanted: list[str], missing: list[str]):
    if not any(_same(name) in {_same(each) for each in wanted} for name in header) and any(
        any(c.isdigit() for c in name) for name in header
    ):
        raise StudyError(
            f"{path} has no header: its first line is {','.join(header)[:100]!r} and should name the "
            f"columns {', '.join(wanted)}. "
            "Put the header back, or fetch the table again."
        )
    near = [
        f"{name!r} (there is {hit[0]!r})"
        if (hit := difflib.get_close_matches(name, map(_short, header), n=1, cutoff=0.5))
        else repr(name)
        for name in missing
    ]
    raise StudyError(
        f"{path} has no column {', '.join(near)}. Its columns are "
        f"{_short(', '.join(name for name in header if name), 500)}. "
        "Rename them, or fetch the table again."
    )
