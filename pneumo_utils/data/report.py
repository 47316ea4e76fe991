"""A check of a release as one HTML file with pictures, to be opened in any browser."""

import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo_utils.common.files import write
from pneumo_utils.data.check import GOOD, TOLD, WRONG, Example, Finding
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.decode import grey
from pneumo_utils.data.shortcuts import FRAME, SMALL

SIDE = 160  # pixels along the longer edge of a picture
AVERAGED = 500  # images of a class behind its average
TITLES = {WRONG: "What is wrong", TOLD: "What is worth knowing", GOOD: "What is as it should be"}

STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --quiet: #555f6d;
  --wrong: #a3231f; --worth: #7a5200; --good: #1d6b35; }
@media (prefers-color-scheme: dark) {
  :root { --line: #4a525e; --quiet: #a9b3c1; --wrong: #ff9d96; --worth: #f0c060; --good: #86d69b; }
}
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 0; }
section.finding { border-left: .25rem solid var(--line); padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
section.finding.wrong { border-color: var(--wrong); } .wrong h3 { color: var(--wrong); }
section.finding.worth { border-color: var(--worth); } .worth h3 { color: var(--worth); }
section.finding.good { border-color: var(--good); } .good h3 { color: var(--good); }
p { margin: .3rem 0; } .quiet { color: var(--quiet); }
.group { display: flex; flex-wrap: wrap; gap: .6rem; padding: .6rem 0; border-top: 1px solid var(--line); }
figure { margin: 0; width: 10rem; max-width: 45%; }
figure img { width: 100%; height: auto; background: #000; display: block; }
figure img.small { image-rendering: pixelated; }
figcaption { font-size: .8rem; color: var(--quiet); }
"""


def write_report(path: Path, folder: Path, findings: list[Finding]) -> None:
    """Write the findings on a folder as one HTML file, the gravest first, with the images that show them."""
    body = [f"<h1>{escape(Path(folder).name or str(folder))}: what a check found</h1>", f"<p>{_summary(findings)}</p>"]
    drawn: set[int] = set()  # cohorts whose classes are shown already: once is enough for all of their shortcuts
    for level in (WRONG, TOLD, GOOD):
        if these := [finding for finding in findings if finding.level == level]:
            body += [f"<h2>{TITLES[level]}</h2>", *(_section(finding, drawn) for finding in these)]
    body.append(
        '<p class="quiet">Made by <code>pneumo data check</code>. This is part of a study, not of a medical device: '
        "nothing here may guide the care of a person.</p>"
    )
    write(
        path,
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(Path(folder).name)}: what a check found</title><style>{STYLE}</style></head>"
        f"<body><main>\n{chr(10).join(body)}\n</main></body></html>\n",
    )


def _summary(findings: list[Finding]) -> str:
    wrong, worth = (sum(finding.level == level for finding in findings) for level in (WRONG, TOLD))
    things = "Nothing is wrong" if not wrong else "1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong"
    return f"{things}; {worth} {'is' if worth == 1 else 'are'} worth knowing."


def _section(finding: Finding, drawn: set[int]) -> str:
    kind = {WRONG: "wrong", TOLD: "worth", GOOD: "good"}[finding.level]
    text = f'<section class="finding {kind}"><h3>{escape(finding.about)}</h3><p>{escape(finding.text)}</p>'
    groups = finding.groups
    if finding.about == "shortcuts" and groups:
        cohort = groups[0][0].cohort
        text += '<p class="quiet">A property that says nothing about the class has an AUROC of 0.50.</p>'
        if id(cohort) in drawn:
            groups = ()
        else:
            drawn.add(id(cohort))
            text += _averages(cohort)
    return text + "".join(map(_group, groups)) + "</section>"


def _group(examples: tuple[Example, ...]) -> str:
    return f'<div class="group">{"".join(map(_figure, examples))}</div>'


def _figure(example: Example) -> str:
    row = example.cohort.table.loc[example.row]
    caption = " · ".join(filter(None, [example.name, str(row["split"]), str(row["labels"])]))
    image = Image.fromarray(grey(example.cohort.images.paths[example.row]))
    image.thumbnail((SIDE, SIDE))
    return _picture(image, f"radiograph {example.name}", caption)


def _averages(cohort: Cohort) -> str:
    """The average image of each class, whole and the frame alone: what a linear model on pixels works with."""
    figures = []
    for name, rows in cohort.table.groupby("labels", sort=False).groups.items():
        some = cohort.where(cohort.table.index.isin(rows)).sample(AVERAGED, 0)
        mean = np.asarray(some.pixels(SMALL)[:], float).mean(0)
        frame = mean.copy()
        frame[FRAME:-FRAME, FRAME:-FRAME] = 0
        for pixels, what in ((mean, "average"), (frame, "average of the outermost pixels")):
            image = Image.fromarray(pixels.round().astype(np.uint8))
            figures.append(_picture(image, f"{what}, {name}", f"{what}, {len(some):,} images: {name}", "small"))
    return f'<div class="group">{"".join(figures)}</div>'


def _picture(image: Image.Image, alt: str, caption: str, kind: str = "") -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img class="{kind}" src="data:image/png;base64,{source}" alt="{escape(alt, quote=True)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
