"""Every numeral of a paper's text, section by section: what the ledger has to account for.

    python -m pneumo_utils.claims.numeral_coverage FOLDER     # FOLDER holds the papers' texts, 1_*.txt to 5_*.txt

reads the texts and writes the inventories in pneumo_utils/claims/papers/numerals/. The texts are their authors' and
stay outside; an inventory is numbers only.
"""

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

import yaml

from pneumo_utils.claims.ledger import FOLDER, Paper, load

NUMERAL = re.compile(r"\d+(?:\.\d+)?e-?\d+|\d+(?:,\d{3})*(?!\d)(?:\.\d+)?|\.\d+|\d+")
REFERENCES = re.compile(r"(?im)^[#\s*]*references[\s*]*$")

# Numerals that number the text itself, or are part of a name. Everything else has to be in the ledger.
FURNITURE = {
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


def body(text: str) -> str:
    """The text before its list of references."""
    marks = list(REFERENCES.finditer(text))
    return text[: marks[-1].start()] if marks else text


def heading(line: str) -> str:
    """Normalise a heading line: collapse its white space and strip its Markdown marks."""
    return " ".join(line.split()).strip("#* ")


def by_section(text: str, sections: tuple[str, ...]) -> dict[str, str]:
    """The text cut at the paper's heading lines, each of which must be met, in order."""
    parts, current, waiting = {"": ""}, "", list(sections)
    if waiting and waiting[0] == "Front matter":
        current = waiting.pop(0)
        parts = {current: ""}
    for line in body(text).splitlines():
        if waiting and heading(line) == waiting[0]:
            current = waiting.pop(0)
            parts[current] = ""
        else:
            parts[current] += line + "\n"
    if waiting:
        raise ValueError(f"the text has no line {waiting[0]!r}")
    return {name: part for name, part in parts.items() if name}


def inventory(text: str, sections: tuple[str, ...]) -> dict:
    """The numerals of each section in order, and how many were set aside as furniture, by reason."""
    aside, found = Counter(), {}
    for name, part in by_section(text, sections).items():
        for reason, pattern in FURNITURE.items():
            for match in re.finditer(pattern, part, re.MULTILINE):
                aside[reason] += len(NUMERAL.findall(match.group()))
            part = re.sub(pattern, " ", part, flags=re.MULTILINE)
        found[name] = NUMERAL.findall(part)
    return {"furniture": dict(aside), "sections": found}


def accounted(paper: Paper) -> dict[str, Counter]:
    """What the ledger accounts for: the numerals of its entries, their restatements, and the exclusions."""
    counts = {section: Counter() for section in paper.sections}
    for claim in paper.claims:
        counts[claim.where].update(claim.numerals)
        for section, numerals in claim.again.items():
            counts[section].update(numerals)
    for exclusion in paper.excluded:
        counts[exclusion["where"]].update(exclusion["numerals"])
    return counts


def unaccounted(paper: Paper, found: dict) -> dict[str, dict[str, list[str]]]:
    """Section by section, numerals that no entry has, and numerals that entries have and the text has not."""
    counts, gaps = accounted(paper), {}
    for section, numerals in found["sections"].items():
        text = Counter(numerals)
        if missing := text - counts[section]:
            gaps.setdefault(section, {})["not in the ledger"] = sorted(missing.elements())
        if invented := counts[section] - text:
            gaps.setdefault(section, {})["not in the text"] = sorted(invented.elements())
    return gaps


def inventory_file(stem: str, folder: Path = FOLDER) -> Path:
    """Return the path of a paper's inventory of numerals."""
    return folder / "numerals" / f"{stem}.yml"


def main(texts: Path) -> None:
    """Write the inventory of numerals of every paper and print which numerals the ledger misses."""
    for ledger_file, paper in zip(sorted(FOLDER.glob("[0-9]_*.yml")), load().papers):
        (source,) = texts.glob(f"{paper.paper}_*.txt")
        text = source.read_text(encoding="utf-8")
        found = inventory(text, paper.sections)
        record = {"text_sha256": hashlib.sha256(text.encode()).hexdigest(), **found}
        target = inventory_file(ledger_file.stem)
        target.parent.mkdir(exist_ok=True)
        target.write_text(
            yaml.safe_dump(record, sort_keys=False, width=120, default_flow_style=None, allow_unicode=True),
            encoding="utf-8",
        )
        gaps = unaccounted(paper, found)
        print(
            f"{ledger_file.name}: {sum(map(len, found['sections'].values()))} numerals, {len(paper.claims)} claims, "
            + ("all accounted for" if not gaps else "gaps:")
        )
        for section, gap in gaps.items():
            for what, numerals in gap.items():
                print(f"  {section}: {what}: {' '.join(numerals)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
