"""Read CSV tables with any line ends, a byte-order mark, trailing columns or gzip; errors name the line and column."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import open_regular_file
from pneumo_utils.common.suggest import did_you_mean, most_similar

# The largest tables are NIH's, 112,120 rows in 8 MB (10 MB with the ages in words), and RSNA's, 30,227 rows in 1 MB.
MAX_BYTES = 40_000_000  # unpacked
MAX_ROWS = 200_000
MAX_COLUMNS = 1_000


def read_csv_table(path: Path, columns: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """Read columns of a table as text; raise `StudyError` if the table is damaged or a column is missing.

    path: the table, plain or gzipped.
    columns: our name of each column, and its possible names in the file; case and punctuation are ignored.

    The result has one more column, `line`: the number of the row's line in the file.
    """
    header, text = _open(path)
    position = {}
    for ours, names in columns.items():
        wanted = {_normalise(name) for name in names}
        matches = [index for index, name in enumerate(header) if _normalise(name) in wanted]
        if len(matches) > 1:
            raise _damaged_table(path, f"{len(matches)} of its columns are called {header[matches[0]]!r}")
        if matches:
            position[ours] = matches[0]
    if missing := [names[0] for ours, names in columns.items() if ours not in position]:
        _raise_wrong_header(path, header, [names[0] for names in columns.values()], missing)
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
        raise _damaged_table(path, error) from error
    table = pd.DataFrame({ours: table[index].str.strip() for ours, index in position.items()})
    return table.assign(line=range(2, len(table) + 2))


def read_csv_by_position(path: Path, columns: list[str], header_start: str) -> pd.DataFrame:
    """Read a table by the position of its columns, since its header cannot be split at the commas.

    path: the table, plain or gzipped.
    columns: our names of the first columns, in order.
    header_start: how the header begins; `StudyError` is raised if it does not.

    The columns are text. The result has one more column, `line`: the number of the row's line in the file.
    """
    header, text = _open(path)
    if not ",".join(header).lower().startswith(header_start.lower()):
        _raise_wrong_header(path, header, [header_start], [header_start])
    try:
        lines = [line for line in csv.reader(text) if line]
    except csv.Error as error:
        raise _damaged_table(path, error) from error
    if short := next((number for number, line in enumerate(lines, 2) if len(line) < len(columns)), None):
        raise StudyError(
            f"{path} line {short} has {len(lines[short - 2])} fields, and {len(columns)} are wanted: "
            f"{', '.join(columns)}. Fetch it again."
        )
    table = pd.DataFrame([line[: len(columns)] for line in lines], columns=columns, dtype=str)
    return table.apply(lambda column: column.str.strip()).assign(line=range(2, len(table) + 2))


def parse_numbers(path: Path, table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Convert columns from text to floats, blanks to NaN; raise `StudyError` with the line of any other value.

    path: the file of the table, for messages.
    table: a table from `read_csv_table` or `read_csv_by_position`.
    columns: the names of the columns to convert.
    """
    converted = {}
    for name in columns:
        converted[name] = pd.to_numeric(table[name].where(table[name] != ""), errors="coerce").astype(float)
        invalid = converted[name].isna() & (table[name] != "")
        if invalid.any():
            first = table[invalid].iloc[0]
            raise StudyError(
                f"{path} line {first['line']}: {name} is {_shorten(first[name])!r}, not a number. Correct the "
                f"line or fetch the table again."
            )
    return table.assign(**converted)


def check_values(path: Path, table: pd.DataFrame, column: str, allowed: Iterable[str]) -> None:
    """Raise `StudyError` with the line of the first value of a column that is not allowed.

    path: the file of the table, for messages.
    table: a table with the column `line`.
    column: the column to check.
    allowed: the allowed values.
    """
    allowed = list(allowed)
    unknown = ~table[column].isin(allowed)
    if unknown.any():
        first = table[unknown].iloc[0]
        value = _shorten(first[column])
        raise StudyError(
            f"{path} line {first['line']}: nobody knows the label {value!r}{did_you_mean(value, allowed)} "
            f"Known are {', '.join(allowed)}. Correct the line or fetch the table again."
        )


def read_name_list(path: Path) -> list[str]:
    """Read a list of file names, one per line.

    path: the list, plain or gzipped.
    """
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _open(path: Path) -> tuple[list[str], io.StringIO]:
    """Return the fields of the header, and the remaining lines as text with uniform line ends."""
    text = _text(path).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise StudyError(f"{path} is empty. Fetch it again.")
    if (n_lines := text.count("\n")) > MAX_ROWS:
        raise StudyError(
            f"{path} has {n_lines:,} lines, and no table of these releases has more than {MAX_ROWS:,}. Fetch it from "
            f"the publisher."
        )
    first, _, rest = text.partition("\n")
    try:
        header = next(csv.reader([first]))
    except csv.Error as error:
        raise _damaged_table(path, error) from error
    if len(header) > MAX_COLUMNS:
        raise _damaged_table(path, f"its first line names {len(header):,} columns")
    return header, io.StringIO(rest)


def _damaged_table(path: Path, reason) -> StudyError:
    return StudyError(f"{path} is not a table throughout: {reason}. Fetch it again.")


def _text(path: Path) -> str:
    """Read a text file, plain or gzipped; raise `StudyError` if it is too large or no text."""
    try:
        with open_regular_file(path) as file, gzip.open(file) if path.suffix.lower() == ".gz" else file as unpacked:
            data = unpacked.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if len(data) > MAX_BYTES:
        raise StudyError(
            f"{path} holds more than {MAX_BYTES:,} bytes, which no table of these releases does. Fetch it "
            f"from the publisher."
        )
    if b"\0" in data:
        raise StudyError(f"{path} is not a text table. Fetch it again.")
    if other := _recognise_failed_download(data):
        raise StudyError(f"{path} is {other}, not what its name says. Fetch it again.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _recognise_failed_download(data: bytes) -> str:
    """Tell what a failed download left instead of a table; an empty string if it is neither page nor pointer."""
    start = data[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of git-LFS (the file itself was not fetched: `git lfs pull`)"
    return ""


def _shorten(text: str, length: int = 100) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _normalise(name: str) -> str:
    """Reduce a column name to lower-case letters, digits and #."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "#")


def _raise_wrong_header(path: Path, header: list[str], wanted: list[str], missing: list[str]) -> NoReturn:
    """Raise `StudyError` for a table without a header, or with columns missing."""
    normalised = {_normalise(name) for name in wanted}
    if not any(_normalise(name) in normalised for name in header) and any(
        any(c.isdigit() for c in name) for name in header
    ):
        raise StudyError(
            f"{path} has no header: its first line is {','.join(header)[:100]!r} and should name the "
            f"columns {', '.join(wanted)}. "
            "Put the header back, or fetch the table again."
        )
    near = [
        f"{name!r} (there is {similar!r})"
        if (similar := most_similar(name, map(_shorten, header), cutoff=0.5))
        else repr(name)
        for name in missing
    ]
    raise StudyError(
        f"{path} has no column {', '.join(near)}. Its columns are "
        f"{_shorten(', '.join(name for name in header if name), 500)}. "
        "Rename them, or fetch the table again."
    )
