"""List every numeral of a paper's text by section, and compare the list with the ledger.

    python -m pneumo_utils.claims.numeral_coverage FOLDER     # FOLDER holds the papers' texts, 1_*.txt to 5_*.txt

This reads the texts and writes the inventories in pneumo_utils/claims/papers/numerals/. The texts belong to their
authors and are not part of this repository; an inventory holds only numbers.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import yaml

from pneumo_utils.claims.ledger import LEDGER_FOLDER, Paper, load_ledger
from pneumo_utils.common.files import sha256_hex

NUMERAL_PATTERN = re.compile(r"\d+(?:\.\d+)?e-?\d+|\d+(?:,\d{3})*(?!\d)(?:\.\d+)?|\.\d+|\d+")
REFERENCES_HEADING = re.compile(r"(?im)^[#\s*]*references[\s*]*$")

# Numerals that count parts of the text, or belong to a name: reason -> regular expression. All others must be in the
# ledger.
IGNORED_NUMERALS = {
    "citation mark": r"(?<!\\in )\[\d+(?:[-–,]\s*\d+)*\]|<sup>[\d,\s-]+</sup>|(?<=In )<sup>\d+</sup>",
    "number of a figure, table, equation or section": (
        r"(?i)\b(?:figures?|figs?\.?|tab(?:le|\.)|eq\.?|equations?|sections?)\s*\d+(?:\.\d+)*(?:\s*(?:,|&|and|-|–)\s*\d+(?:\.\d+)*)*"
        r"|\\tag\{\d+\}|^ *\(\d+\) *$"
    ),
    "number of a heading": r"(?m)^[#\s]*\d+(?:\.\d+)*\.?\s+(?=[A-Z])",
    "heading cited by its number": r"\b\d\.\d(?:\.\d)? (?=Methods|Results|Data|Bounding)",
    "year of a cited work": r"\bet\.? al\.? \d{4}\b",
    "part of a name": (
        r"(?i)\b(?:resnet[ -]?|vgg-?|densenet-?|mobilenet ?v|efficientnet-b|yolo "
        r"?v|f_?|\bl|chestx-ray|cxr|covid-|u-|cs )\d+(?:v\d+)?"
        r"|\b[23]D\b|£\d"
    ),
    "mathematics of a formula": r"\$[^$]*(?:\\frac(?!\{\d+\}\{\d)|\\sum|\\sigma|\\log|\\in \\\{0,1\\\}|\\in "
    r"\[0,1\])[^$]*\$",
}


def strip_references(text: str) -> str:
    """Return a paper's text without its list of references.

    text: the whole text of the paper.
    """
    headings = list(REFERENCES_HEADING.finditer(text))
    return text[: headings[-1].start()] if headings else text


def normalise_heading(line: str) -> str:
    """Normalise a heading: collapse its white space and strip its Markdown marks.

    line: a line of the text.
    """
    return " ".join(line.split()).strip("#* ")


def split_sections(text: str, sections: tuple[str, ...]) -> dict[str, str]:
    """Split a paper's text at its headings; return heading -> text.

    text: the whole text of the paper.
    sections: the headings, in order; "Front matter" is the text before the first one. Raises `ValueError` if a heading
        is missing.
    """
    parts, current, pending = {"": ""}, "", list(sections)
    if pending and pending[0] == "Front matter":
        current = pending.pop(0)
        parts = {current: ""}
    for line in strip_references(text).splitlines():
        if pending and normalise_heading(line) == pending[0]:
            current = pending.pop(0)
            parts[current] = ""
        else:
            parts[current] += line + "\n"
    if pending:
        raise ValueError(f"the text has no line {pending[0]!r}")
    return {name: part for name, part in parts.items() if name}


def list_numerals(text: str, sections: tuple[str, ...]) -> dict:
    """List the numerals of each section in order, and count the ignored ones by reason.

    The keys of the result are `furniture` (reason -> number of ignored numerals) and `sections` (heading -> numerals).

    text: the whole text of the paper.
    sections: its headings, in order.
    """
    ignored, numerals = Counter(), {}
    for name, part in split_sections(text, sections).items():
        for reason, pattern in IGNORED_NUMERALS.items():
            for match in re.finditer(pattern, part, re.MULTILINE):
                ignored[reason] += len(NUMERAL_PATTERN.findall(match.group()))
            part = re.sub(pattern, " ", part, flags=re.MULTILINE)
        numerals[name] = NUMERAL_PATTERN.findall(part)
    return {"furniture": dict(ignored), "sections": numerals}


def accounted_numerals(paper: Paper) -> dict[str, Counter]:
    """Count the numerals that the ledger accounts for, by section: those of claims, of repetitions and of exclusions.

    paper: the paper's entries in the ledger.
    """
    counts = {section: Counter() for section in paper.sections}
    for claim in paper.claims:
        counts[claim.where].update(claim.numerals)
        for section, numerals in claim.again.items():
            counts[section].update(numerals)
    for exclusion in paper.excluded:
        counts[exclusion["where"]].update(exclusion["numerals"])
    return counts


def compare_with_ledger(paper: Paper, numerals: dict) -> dict[str, dict[str, list[str]]]:
    """Compare the ledger with a text: list numerals that only one of them has, by section; empty if they agree.

    paper: the paper's entries in the ledger.
    numerals: the inventory of the paper's text, from `list_numerals`.
    """
    counts, gaps = accounted_numerals(paper), {}
    for section, texts in numerals["sections"].items():
        in_text = Counter(texts)
        if missing := in_text - counts[section]:
            gaps.setdefault(section, {})["not in the ledger"] = sorted(missing.elements())
        if extra := counts[section] - in_text:
            gaps.setdefault(section, {})["not in the text"] = sorted(extra.elements())
    return gaps


def inventory_path(stem: str, folder: Path = LEDGER_FOLDER) -> Path:
    """Return the path of a paper's inventory of numerals.

    stem: the name of the paper's ledger file, without its ending.
    folder: where the ledger is.
    """
    return folder / "numerals" / f"{stem}.yml"


def main(texts: Path) -> None:
    """Write the inventory of numerals of every paper, and print the numerals that the ledger lacks.

    texts: the folder of the papers' texts, one file `N_*.txt` per paper.
    """
    for ledger_file, paper in zip(sorted(LEDGER_FOLDER.glob("[0-9]_*.yml")), load_ledger().papers):
        (source,) = texts.glob(f"{paper.paper}_*.txt")
        text = source.read_text(encoding="utf-8")
        numerals = list_numerals(text, paper.sections)
        record = {"text_sha256": sha256_hex(text), **numerals}
        target = inventory_path(ledger_file.stem)
        target.parent.mkdir(exist_ok=True)
        target.write_text(
            yaml.safe_dump(record, sort_keys=False, width=120, default_flow_style=None, allow_unicode=True),
            encoding="utf-8",
        )
        gaps = compare_with_ledger(paper, numerals)
        print(
            f"{ledger_file.name}: {sum(map(len, numerals['sections'].values()))} numerals, {len(paper.claims)} claims, "
            + ("all accounted for" if not gaps else "gaps:")
        )
        for section, gap in gaps.items():
            for kind, differing in gap.items():
                print(f"  {section}: {kind}: {' '.join(differing)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
