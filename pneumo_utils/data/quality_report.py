"""Check a release for missing, unreadable and duplicate images and for shortcuts; write the findings as HTML."""

import base64
import io
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from pneumo_utils.common.files import write_atomically
from pneumo_utils.common.markup import html_page
from pneumo_utils.data import duplicates, shortcuts
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.image_reader import read_grey
from pneumo_utils.data.readers import find_reader
from pneumo_utils.data.readers.file_tree import FileTree
from pneumo_utils.data.shortcuts import BORDER_IMAGE_SIZE, BORDER_WIDTH

GOOD, NOTABLE, WRONG = "as it should be", "worth knowing", "wrong"
MIN_SHORTCUT_AUROC = 0.6  # from here on a property of the file is called a shortcut
# and it must lie this many standard deviations above one half, since in a small release some property does so by chance
MIN_CHANCE_STDS = 3
WRONG_PIXEL_AUROC = 0.95  # from here on a linear model on border or texture is called wrong; pixels may show disease
MAX_NAMED = 3  # names in the text of a finding
MAX_GROUPS = 12  # groups of images that a report shows for one finding
EXAMPLES_PER_CLASS = 4


class Example(NamedTuple):
    """One image of a release: its cohort, and its index in the cohort's table."""

    cohort: Cohort
    row: int

    @property
    def name(self) -> str:
        """The name of the image in the release."""
        return str(self.cohort.table.at[self.row, "image"])


@dataclass(frozen=True)
class QualityFinding:
    """The result of one check.

    level: `GOOD`, `NOTABLE` or `WRONG`.
    about: the topic, such as "counts" or "duplicates".
    text: the result as a sentence.
    groups: groups of images that show it.
    """

    level: str
    about: str
    text: str
    groups: tuple[tuple[Example, ...], ...] = field(default=(), compare=False, repr=False)

    def as_json(self) -> dict:
        """Convert the finding to a dictionary for JSON, with images by name."""
        images = [[example.name for example in group] for group in self.groups]
        return {"level": self.level, "about": self.about, "text": self.text, "images": images}


def has_problems(findings: list[QualityFinding], strict: bool = False) -> bool:
    """Tell whether a check found a problem.

    findings: the results of all checks.
    strict: whether findings worth knowing count as problems too, except the names of the release and its licence.
    """
    return any(
        finding.level == WRONG or (strict and finding.level == NOTABLE and finding.about not in ("release", "licence"))
        for finding in findings
    )


def check_release(root: str | Path, other_root: str | Path | None = None) -> list[QualityFinding]:
    """Run all checks on a release.

    root: the folder or the archive of the release.
    other_root: the folder of a second release; images that are in both are reported.
    """
    module = find_reader(root)
    findings = []
    for cohort in _read(module, root):
        findings.append(QualityFinding(NOTABLE, "release", cohort.summary()[0]))
        published = getattr(module, "PUBLISHED", None) or module.PUBLISHED_BY_SET[cohort.name.split()[-1].split("_")[0]]
        findings += [*_checksum(module, cohort), *_counts(cohort, published), *_excluded(cohort)]
        cohort, broken = _decodable(cohort)
        findings += [
            *broken,
            *_duplicates(cohort),
            *_patients(cohort),
            *_shortcuts(cohort),
            *_ages(cohort, module.ADULT),
        ]
        findings += [QualityFinding(NOTABLE, "notes", note) for note in cohort.notes]
        if other_root:
            findings += _overlap(cohort, other_root)
    findings.append(QualityFinding(NOTABLE, "licence", module.LICENCE))
    return findings


def _read(module, root) -> list[Cohort]:
    if module.__name__.endswith("medmnist"):  # the only release that holds several sets
        return [module.read(root, name, say=None) for name in sorted(module.array_files(FileTree.open(root)))]
    return [module.read(root, say=None)]


def _checksum(module, cohort: Cohort) -> list[QualityFinding]:
    """Compare an array file with its published checksum, since altered copies of these files are in circulation."""
    import hashlib

    path = Path(cohort.images.paths[0].split("::")[0])
    if path.name not in getattr(module, "MD5", {}):
        return []
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    if md5 == module.MD5[path.name]:
        return [QualityFinding(GOOD, "checksum", f"{path.name} is the published file")]
    return [
        QualityFinding(
            WRONG, "checksum", f"{path.name} is not the published file: md5 {md5}, published {module.MD5[path.name]}"
        )
    ]


def _counts(cohort: Cohort, published: dict[str, int]) -> list[QualityFinding]:
    counts = {
        "images": len(cohort),
        "patients": cohort.table["patient"].nunique(),
        "boxes": len(cohort.boxes),
        **cohort.counts().to_dict(),
    }
    counts |= {name: int((cohort.table["split"] == name).sum()) for name in ("train", "valid", "test")}
    if differ := [
        f"{name} {counts.get(name, 0):,} of {count:,}"
        for name, count in published.items()
        if counts.get(name, 0) != count
    ]:
        return [QualityFinding(NOTABLE, "counts", f"not the published ones: {', '.join(differ)}")]
    return [
        QualityFinding(
            GOOD, "counts", f"the published ones: {', '.join(f'{name} {count:,}' for name, count in published.items())}"
        )
    ]


def _excluded(cohort: Cohort) -> list[QualityFinding]:
    findings = [
        QualityFinding(WRONG, "excluded files", f"{reason}: {_count_and_names(list(images))}")
        for reason, images in cohort.excluded.groupby("reason", sort=False)["image"]
    ]
    return findings or [QualityFinding(GOOD, "excluded files", "nothing")]


def _count_and_names(names: list[str]) -> str:
    return f"{len(names):,} ({', '.join(names[:MAX_NAMED])}{', ...' if len(names) > MAX_NAMED else ''})"


def _decodable(cohort: Cohort) -> tuple[Cohort, list[QualityFinding]]:
    """Decode every image once, and return the cohort without the images that cannot be decoded."""
    broken = cohort.undecodable(2 * duplicates.HASH_SIDE)
    if not broken:
        return cohort, [QualityFinding(GOOD, "decoding", f"all {len(cohort):,} images can be decoded")]
    listed = ", ".join(f"{name}: {reason}" for name, reason in list(broken.items())[:MAX_NAMED])
    return cohort.without(list(broken)), [
        QualityFinding(WRONG, "decoding", f"{len(broken):,} images look whole and cannot be decoded ({listed})")
    ]


def _duplicates(cohort: Cohort) -> list[QualityFinding]:
    name, split, label = (cohort.table[column] for column in ("image", "split", "labels"))
    findings, identical = [], duplicates.identical_files(cohort)
    if identical:
        listed = [" = ".join(name[rows]) for rows in identical]
        findings.append(
            QualityFinding(
                WRONG,
                "duplicates",
                f"{sum(map(len, identical)):,} byte-identical files in {len(identical):,} groups "
                f"({'; '.join(listed[:MAX_NAMED])})",
                _example_groups(cohort, identical),
            )
        )
    exact = {
        frozenset(pair)
        for rows in identical
        for index, one in enumerate(rows)
        for pair in ((one, other) for other in rows[index + 1 :])
    }
    pairs = duplicates.near_duplicates(cohort)
    near = pairs[[frozenset(pair) not in exact for pair in zip(pairs["one"], pairs["other"])]]
    if len(near):
        listed = [f"{name[one]} ~ {name[other]}" for one, other in zip(near["one"], near["other"])]
        findings.append(
            QualityFinding(
                WRONG,
                "duplicates",
                f"{len(near):,} pairs of files with the same picture ({'; '.join(listed[:MAX_NAMED])})",
                _example_groups(cohort, near[["one", "other"]].to_numpy()),
            )
        )
    across = pairs[(split[pairs["one"]].to_numpy() != split[pairs["other"]].to_numpy())]
    if len(across):
        findings.append(
            QualityFinding(
                WRONG,
                "duplicates",
                f"{len(across):,} pairs of the same picture lie in different parts of the split",
                _example_groups(cohort, across[["one", "other"]].to_numpy()),
            )
        )
    contradictory = pairs[(label[pairs["one"]].to_numpy() != label[pairs["other"]].to_numpy())]
    if len(contradictory):
        findings.append(
            QualityFinding(
                WRONG,
                "duplicates",
                f"{len(contradictory):,} pairs of the same picture have different labels",
                _example_groups(cohort, contradictory[["one", "other"]].to_numpy()),
            )
        )
    return findings or [QualityFinding(GOOD, "duplicates", "none, exact or near")]


def _example_groups(cohort: Cohort, rows, other: Cohort | None = None) -> tuple[tuple[Example, ...], ...]:
    """Convert the first groups of rows to examples; with `other`, the second row of a pair is from that cohort."""
    return tuple(
        tuple(Example(other if other is not None and index else cohort, row) for index, row in enumerate(group))
        for group in list(rows)[:MAX_GROUPS]
    )


def _class_examples(cohort: Cohort) -> tuple[tuple[Example, ...], ...]:
    """Return some images of each class."""
    return tuple(
        tuple(Example(cohort, row) for row in rows[:EXAMPLES_PER_CLASS])
        for _, rows in list(cohort.table.groupby("labels", sort=False).groups.items())[:MAX_GROUPS]
    )


def _patients(cohort: Cohort) -> list[QualityFinding]:
    if (cohort.table["patient"] == "").all():
        return [
            QualityFinding(
                NOTABLE, "patients", "not named: a split can only be by image, and nobody can tell who is on both sides"
            )
        ]
    shared = cohort.shared_patients()
    findings = [
        QualityFinding(
            WRONG,
            "patients",
            f"{row['patients']:,} of {row['of patients']:,} patients of {row['of']} are "
            f"in {row['also in']} too, "
            f"with {row['images']:,} images",
        )
        for row in shared.to_dict("records")
        if row["patients"]
    ]
    if not findings and len(shared):
        findings = [QualityFinding(GOOD, "patients", "none is in two parts of the split")]
    images_per_patient = cohort.table["patient"][cohort.table["patient"] != ""].value_counts()
    if (images_per_patient > 1).any():
        by_image = cohort.split(by="image", test=0.1, valid=0.1).shared_patients()
        row = by_image[(by_image["of"] == "test") & (by_image["also in"] == "train")].iloc[0]
        findings.append(
            QualityFinding(
                NOTABLE,
                "patients",
                f"a random split by image would have {row['share of images']:.0%} of "
                f"test images from patients of the "
                f"training part ({images_per_patient.mean():.1f} images a patient)",
            )
        )
    return findings


def _shortcuts(cohort: Cohort) -> list[QualityFinding]:
    findings = [
        QualityFinding(WRONG, "shortcuts", text, _class_examples(cohort))
        for text in shortcuts.modes_of_one_class(cohort)
    ]
    by_file = shortcuts.file_property_auroc(cohort)
    strong = by_file[
        (by_file["auroc"] >= MIN_SHORTCUT_AUROC) & (by_file["auroc"] - 0.5 > MIN_CHANCE_STDS * by_file["chance"])
    ]
    for row in strong.sort_values("auroc", ascending=False).groupby("by", sort=False).head(1).to_dict("records"):
        findings.append(
            QualityFinding(
                WRONG,
                "shortcuts",
                f"{row['by']} alone tells {row['class']} with an AUROC of {row['auroc']:.2f}",
                _class_examples(cohort),
            )
        )
    if not findings:
        findings.append(QualityFinding(GOOD, "shortcuts", "colour mode, size, and bytes a pixel tell no class"))
    for region, aurocs in (
        ("the outermost pixels", shortcuts.border_auroc(cohort)),
        ("the fine texture", shortcuts.texture_auroc(cohort)),
    ):
        for row in aurocs.to_dict("records"):
            level = WRONG if row["auroc"] >= WRONG_PIXEL_AUROC else NOTABLE
            findings.append(
                QualityFinding(
                    level,
                    "shortcuts",
                    f"{region} alone, through a linear model: {row['class']} with an AUROC of {row['auroc']:.2f}",
                    _class_examples(cohort),
                )
            )
    return findings


def _ages(cohort: Cohort, adult: bool) -> list[QualityFinding]:
    age = cohort.table["age"]
    if not adult or age.isna().all():
        return []
    n_minors = int((age < 18).sum())
    return [
        QualityFinding(
            WRONG if n_minors else GOOD,
            "ages",
            f"{n_minors:,} of {len(cohort):,} images are of people under 18, "
            f"in a set of adults; "
            f"ages run from {age.min():.0f} to {age.max():.0f}",
        )
    ]


def _overlap(cohort: Cohort, against: str | Path) -> list[QualityFinding]:
    """Find the images of a release that are also in another one."""
    other = find_reader(against).read(against, say=None)
    pairs = duplicates.near_duplicates(cohort, other)
    if pairs.empty:
        return [QualityFinding(GOOD, "overlap", f"no picture is also in {other.name}")]
    shared = pairs.drop_duplicates("one")
    label_counts = pd.Series(cohort.table["labels"][shared["one"]].to_numpy()).value_counts()
    first = f"{cohort.table['image'][pairs['one'].iloc[0]]} ~ {other.table['image'][pairs['other'].iloc[0]]}"
    return [
        QualityFinding(
            WRONG,
            "overlap",
            f"{len(shared):,} of {len(cohort):,} pictures are also in {other.name} "
            f"({', '.join(f'{count:,} {name}' for name, count in label_counts.items())}; {first})",
            _example_groups(cohort, pairs[["one", "other"]].to_numpy(), other),
        )
    ]


THUMBNAIL_SIDE = 160  # pixels along the longer edge of an image in the report
MAX_AVERAGED_IMAGES = 500  # images of a class whose average is shown
TITLES = {WRONG: "What is wrong", NOTABLE: "What is worth knowing", GOOD: "What is as it should be"}

STYLE = """
main { max-width: 62rem; margin: auto; }
section.finding { border-left: .25rem solid var(--line); padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
section.finding.wrong { border-color: var(--wrong); } .wrong h3 { color: var(--wrong); }
section.finding.worth { border-color: var(--worth); } .worth h3 { color: var(--worth); }
section.finding.good { border-color: var(--good); } .good h3 { color: var(--good); }
.group { display: flex; flex-wrap: wrap; gap: .6rem; padding: .6rem 0; border-top: 1px solid var(--line); }
figure { margin: 0; width: 10rem; max-width: 45%; }
figure img { width: 100%; height: auto; background: #000; display: block; }
figure img.small { image-rendering: pixelated; }
figcaption { font-size: .8rem; color: var(--quiet); }
"""


def write_report(path: Path, folder: Path, findings: list[QualityFinding]) -> None:
    """Write the findings as one HTML file, the worst first, with example images.

    path: the HTML file.
    folder: the folder that was checked; its name is the title.
    findings: the results of all checks.
    """
    html = [f"<h1>{escape(Path(folder).name or str(folder))}: what a check found</h1>", f"<p>{_summary(findings)}</p>"]
    shown: set[int] = set()  # cohorts whose averages are shown already: once is enough for all of their shortcuts
    for level in (WRONG, NOTABLE, GOOD):
        if selected := [finding for finding in findings if finding.level == level]:
            html += [f"<h2>{TITLES[level]}</h2>", *(_section(finding, shown) for finding in selected)]
    html.append(
        '<p class="quiet">Made by <code>pneumo data check</code>. This is part of a study, not of a medical device: '
        "nothing here may guide the care of a person.</p>"
    )
    write_atomically(path, html_page(f"{Path(folder).name}: what a check found", "\n".join(html), STYLE))


def _summary(findings: list[QualityFinding]) -> str:
    wrong, worth = (sum(finding.level == level for finding in findings) for level in (WRONG, NOTABLE))
    problems = "Nothing is wrong" if not wrong else "1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong"
    return f"{problems}; {worth} {'is' if worth == 1 else 'are'} worth knowing."


def _section(finding: QualityFinding, shown: set[int]) -> str:
    kind = {WRONG: "wrong", NOTABLE: "worth", GOOD: "good"}[finding.level]
    text = f'<section class="finding {kind}"><h3>{escape(finding.about)}</h3><p>{escape(finding.text)}</p>'
    groups = finding.groups
    if finding.about == "shortcuts" and groups:
        cohort = groups[0][0].cohort
        text += '<p class="quiet">A property that says nothing about the class has an AUROC of 0.50.</p>'
        if id(cohort) in shown:
            groups = ()
        else:
            shown.add(id(cohort))
            text += _averages(cohort)
    return text + "".join(map(_group, groups)) + "</section>"


def _group(examples: tuple[Example, ...]) -> str:
    """Draw a group of examples as HTML."""
    return f'<div class="group">{"".join(map(_figure, examples))}</div>'


def _figure(example: Example) -> str:
    row = example.cohort.table.loc[example.row]
    caption = " · ".join(filter(None, [example.name, str(row["split"]), str(row["labels"])]))
    image = Image.fromarray(read_grey(example.cohort.images.paths[example.row]))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return _image_tag(image, f"radiograph {example.name}", caption)


def _averages(cohort: Cohort) -> str:
    """Draw the average image of each class, and its border alone, which is what the linear model gets."""
    figures = []
    for name, rows in cohort.table.groupby("labels", sort=False).groups.items():
        sample = cohort.where(cohort.table.index.isin(rows)).sample(MAX_AVERAGED_IMAGES, 0)
        mean = np.asarray(sample.pixels(BORDER_IMAGE_SIZE)[:], float).mean(0)
        frame = mean.copy()
        frame[BORDER_WIDTH:-BORDER_WIDTH, BORDER_WIDTH:-BORDER_WIDTH] = 0
        for pixels, title in ((mean, "average"), (frame, "average of the outermost pixels")):
            image = Image.fromarray(pixels.round().astype(np.uint8))
            figures.append(_image_tag(image, f"{title}, {name}", f"{title}, {len(sample):,} images: {name}", "small"))
    return f'<div class="group">{"".join(figures)}</div>'


def _image_tag(image: Image.Image, alt: str, caption: str, kind: str = "") -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img class="{kind}" src="data:image/png;base64,{source}" alt="{escape(alt, quote=True)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
