"""What a chapter calls: `begin`, and the run that keeps its results and figures."""

import base64
import io
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from pneumo_utils import ROOT
from pneumo_utils.common import files, run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.study import records, result_cache
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.kernel import took
from pneumo_utils.study.parallel import kept_each
from pneumo_utils.study.parameters import Parameter, check, declared, tier
from pneumo_utils.study.run_status import listing, versions

PNG, JPEG = "image/png", "image/jpeg"
ENDINGS = {PNG: "png", JPEG: "jpg"}
BAND = 8  # of 255: by so much a smooth shade may be off before an eye sees a step
BANDED = 0.002  # of a figure's pixels: letters and lines alone have fewer


def encoded(figure) -> tuple[str, bytes]:
    """The kind of file and its bytes."""
    from PIL import Image

    drawn, data = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=144, bbox_inches="tight")
    with Image.open(drawn) as opened:
        picture = opened.convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    off = abs(np.asarray(few.convert("RGB"), dtype=int) - np.asarray(picture)).max(axis=2)
    if (off > BAND).mean() > BANDED:
        # letters blur where colours are kept coarser than shades
        picture.save(data, "JPEG", quality=88, subsampling=0, optimize=True)
        return JPEG, data.getvalue()
    few.save(data, "PNG", optimize=True)
    return PNG, data.getvalue()


def kind_of(output: dict) -> str:
    """Which picture an output of a notebook holds; an empty text where it holds none."""
    return next((kind for kind in ENDINGS if kind in output.get("data", {})), "")


INJECTED = "# Parameters"  # how the cell begins that papermill puts behind the parameters cell


def begin(chapter: str) -> "Run":
    """Check the parameters above this cell, however they came there, and open the run's folder."""
    _still_what_no_reader_can_mend()
    known, values = parameters_above()
    return Run(chapter, known, values)


def parameters_above() -> tuple[dict[str, Parameter], dict]:
    """The parameters cell is found in what this kernel has run, so the check holds under papermill and in Jupyter
    alike.
    """
    from IPython import get_ipython

    user = get_ipython().user_ns
    cells = user["In"]
    for at in range(len(cells) - 1, -1, -1):
        try:
            known = declared(cells[at])
        except (StudyError, SyntaxError):
            continue
        if known:
            break
    else:
        raise StudyError("No parameters cell has been run in this kernel: run the notebook from its top.")
    given = {}
    for source in cells[at + 1 :]:
        if source.startswith(INJECTED):
            exec(source, {}, given)
    values = {name: user.get(name) for name in known} | given
    check(known, values)
    return known, values


class Run:
    """What a chapter made of its parameters, and where it is kept."""

    def __init__(self, chapter: str, known: dict[str, Parameter], values: dict):
        self.chapter, self.values = chapter, values
        self.folder = run_paths.current(chapter)
        (self.folder / "figures").mkdir(parents=True, exist_ok=True)
        self._began = time.time()
        self._data = {
            name: listing(Path(values[name]))
            for name, p in known.items()
            if p.path_to and Path(values[name] or " ").exists()
        }
        self._source = {"data": "", "weights": "", "real": False}
        self.results, self._claims, self._sections, self._figures, self._verdicts = {}, {}, {}, {}, ""

    def uses(self, data: str, weights: str, real: bool = False) -> None:
        """Say in words what the run stands on; `real` when it is radiographs of people."""
        self._source = {"data": data, "weights": weights, "real": real}

    def result(self, name: str, value, low=None, high=None, baseline=None, note: str = ""):
        """Keep a number under a name, with its interval and its trivial baseline, and hand it back."""
        entry = {
            "value": _plain(value),
            "low": _plain(low),
            "high": _plain(high),
            "baseline": _plain(baseline),
            "note": note,
        }
        self.results[name] = {key: each for key, each in entry.items() if each not in (None, "")}
        return value

    def claim(self, claim_id: str, value: float, low: float, high: float) -> None:
        """Keep what this run says of a claim of the ledger: a score, or a paired difference, with its interval."""
        self._claims[claim_id] = {"value": _plain(value), "low": _plain(low), "high": _plain(high)}
        self._sections[claim_id] = self._section()

    def paper_says(self, claims: list[str]):
        """What the paper claims, by ids of the ledger: the first of a chapter's tables."""
        import pandas as pd

        from pneumo_utils.claims.ledger import load
        from pneumo_utils.plots.tables import claim, table

        ledger = load()
        told = [
            claim(each.says, each.printed or (each.value if isinstance(each.value, (int, float, str)) else None))
            for each in map(ledger.__getitem__, claims)
        ]
        return table(
            pd.DataFrame({"the paper says": told}),
            name="claims",
            caption="What the paper says, in the words of this book's ledger, with the number where there is one.",
        )

    def judge(self, judged: dict, **named: str):
        """Keep comparisons by the claims of the ledger that they decide, and lay them out: a claim shows here where
        the difference that it needs is above 0.
        """
        import pandas as pd

        from pneumo_utils.claims.ledger import load
        from pneumo_utils.plots.tables import claim, table

        ledger, rows = load(), []
        for name, told in judged.items():
            self.claim(name, *told.claim)
            value = ledger[name].value
            rows.append(
                {
                    "the paper says": claim(ledger[name].says, value if isinstance(value, str) else None),
                    "the difference that it needs": f"{told.value:+z.3f} ({told.low:+z.3f} to {told.high:+z.3f})",
                    "shows here": "yes" if told.better else "the other way round" if told.worse else "no",
                }
            )
        return table(pd.DataFrame(rows), **named)

    def survey(
        self,
        name: str,
        found: dict[str, list],
        note: str = "",
        least: float = 0.0,
        most: float = 1.0,
        overlap: float = 0.0,
    ) -> None:
        """Keep the scores of several things, a list over draws each, as means with Student's intervals; `overlap` is
        that of draws which share training images.
        """
        from pneumo_utils.evaluation.comparison import mean_over

        for what, each in found.items():
            self.result(
                f"{name}: {what}",
                *mean_over(each, least, most, overlap),
                note=f"{note + ', ' if note else ''}mean of {len(each)} draws",
            )

    def beside(self, *surveys: str) -> None:
        """Show what this run and the chapter's records have of surveys, under their names."""
        from IPython.display import display

        from pneumo_utils.plots.comparison import survey_table

        runs = {"this run": self.results} | {record.title: record.results for record in self.recorded.values()}
        for name in surveys:
            display(survey_table(name, runs))

    def figure(self, figure, name: str, alt: str, caption: str = "") -> None:
        """Keep a figure as a file and show it with words for who cannot see it."""
        from IPython.display import display

        kind, data = encoded(figure)
        file = f"figures/{name}.{ENDINGS[kind]}"
        files.write(self.folder / file, data)
        self._figures[name] = {"file": file, "alt": alt, "caption": caption}
        shown = {"alt": alt, "caption": caption, "name": name, "width": round(figure.get_size_inches()[0] * 100)}
        display({kind: base64.b64encode(data).decode(), "text/plain": alt}, raw=True, metadata={kind: shown})
        _close(figure)

    def leave(self, name: str, rows: list[dict]) -> None:
        """Leave a table in the run's folder for the pages that the book makes of it."""
        files.write_json(self.folder / f"{name}.json", rows)

    def kept(self, name: str, make, **depends_on):
        """What `make(**depends_on)` returns, made once: found again by all that it depends on, its own code and data
        included.
        """
        return result_cache.kept(run_paths.runs() / "kept" / self.chapter, name, make, depends_on, self._data)

    def kept_each(self, make, pieces: dict[str, dict], first=None) -> dict:
        """The same for pieces that do not need each other, name -> arguments, side by side where there are cores;
        what they share `first` may compute.
        """
        return kept_each(run_paths.runs() / "kept" / self.chapter, make, pieces, self._data, first)

    @property
    def recorded(self) -> dict[str, records.Record]:
        """The chapter's records by name: runs that were made once, longer or on real radiographs, and are shown
        beside this one.
        """
        return records.of(self.chapter)

    def show_records(self):
        """What was run for the chapter's records, or how the first is made."""
        from IPython.display import Markdown

        from pneumo_utils.plots.tables import records_table

        called = self._notebook().number or self.chapter
        none = Markdown(f"*No record is kept yet: `pneumo record {called} NAME -p ...` makes one.*")
        return records_table(self.recorded.values(), took) if self.recorded else none

    def verdicts(self, claims: list[str]):
        """What has become of claims of the ledger, by their ids: the last of a chapter's tables of results."""
        from pneumo_utils.claims.ledger import gather, load
        from pneumo_utils.claims.verdicts import here
        from pneumo_utils.plots.tables import table

        return table(
            here(load(), claims, gather(self.evidence())),
            name="verdicts",
            caption="What has become of the chapter's claims. On paper: the audit's verdict, from the paper's own "
            "numbers and public tables. Phantom and real: those of reruns. A printed score can only be "
            "judged on the paper's data at its "
            "settings; of an order or an effect, reproduced means that a paired difference with its interval lies "
            "above 0.",
        )

    def evidence(self) -> list[dict]:
        """What this run has said of claims so far, and what the chapter's records say, as `claims.evidence.gather`
        takes it.
        """
        self._verdicts = self._section()
        own = {
            "chapter": self.chapter,
            "tier": self._tier(),
            "real": self._source["real"],
            "claims": dict(self._claims),
        }
        return [own, *(record.evidence for record in self.recorded.values())]

    def _tier(self) -> str:
        source = self._notebook()
        return tier(source, self.values) if source.path.exists() else "by hand"

    def _section(self) -> str:
        """The label of the section in which the running cell stands."""
        from IPython import get_ipython

        source = self._notebook()
        return source.section_of(get_ipython().user_ns["In"][-1]) if source.path.exists() else ""

    def _notebook(self) -> Chapter:
        return Chapter(ROOT / "notebooks" / f"{self.chapter}.ipynb")

    def finish(self) -> None:
        """Write results.json: a run without one is not a finished run."""
        if not self._source["data"]:
            raise StudyError("The notebook has not said what it stands on: call run.uses(data=..., weights=...).")
        files.write_json(
            self.folder / "results.json",
            {
                "chapter": self.chapter,
                "parameters": self.values,
                "tier": self._tier(),
                **self._source,
                "device": _device(),
                "seconds": round(time.time() - self._began, 2),
                "peak_memory_mb": _peak_memory(),
                "versions": versions(),
                "results": self.results,
                "claims": self._claims,
                "sections": self._sections,
                "verdicts": self._verdicts,
                "figures": self._figures,
            },
        )
        print(
            f"results: {len(self.results)}, figures: {len(self._figures)}, "
            + (f"in {os.path.relpath(self.folder)}" if run_paths.CURRENT not in os.environ else "kept")
        )


def _plain(value):
    """A number as JSON has it: what NumPy and torch hand out has an `item`."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value != value:
        return "undefined"
    return value


def _still_what_no_reader_can_mend() -> None:
    """Warnings of libraries to their own authors, which would stand in a notebook with paths of the machine."""
    warnings.filterwarnings("ignore", "IProgress not found")
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)


def _close(figure) -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def _peak_memory() -> int | None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows does not tell
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit
    )
