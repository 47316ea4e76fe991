"""The functions that a notebook calls: `begin` opens a run, and `Run` stores its results and figures."""

import base64
import inspect
import io
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumo_utils.common import files, run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT
from pneumo_utils.common.renamed import RUN_METHODS
from pneumo_utils.study import records, result_cache
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.cluster import scheduler_address
from pneumo_utils.study.kernel import format_duration
from pneumo_utils.study.measurements import RESULTS_FORMAT, save_predictions, to_measured, write_scores
from pneumo_utils.study.parallel_map import cached_results
from pneumo_utils.study.parameters import Parameter, check_parameters, parse_parameters, tier
from pneumo_utils.study.run_status import files_digest, versions

if TYPE_CHECKING:
    from pneumo_utils.claims.judging import Verdict
    from pneumo_utils.claims.measured import Measured

PNG, JPEG = "image/png", "image/jpeg"
SUFFIXES = {PNG: "png", JPEG: "jpg"}
MAX_SHADE_ERROR = 8  # of 255 grey levels: a larger error in a smooth shade is visible as a step
MAX_BANDED_SHARE = 0.002  # share of a figure's pixels; a figure of only letters and lines has fewer visible steps


def encode_figure(figure) -> tuple[str, bytes]:
    """Encode a Matplotlib figure as an image file and return its media type and its bytes.

    The file is a PNG with 256 colours. It is a JPEG if 256 colours would show steps in smooth shades.

    figure: a `matplotlib.figure.Figure`.
    """
    from PIL import Image

    rendered, data = io.BytesIO(), io.BytesIO()
    figure.savefig(rendered, format="png", dpi=144, bbox_inches="tight")
    with Image.open(rendered) as opened:
        image = opened.convert("RGB")
    quantized = image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    error = abs(np.asarray(quantized.convert("RGB"), dtype=int) - np.asarray(image)).max(axis=2)
    if (error > MAX_SHADE_ERROR).mean() > MAX_BANDED_SHARE:
        # chroma subsampling would blur coloured letters, so it is off
        image.save(data, "JPEG", quality=88, subsampling=0, optimize=True)
        return JPEG, data.getvalue()
    quantized.save(data, "PNG", optimize=True)
    return PNG, data.getvalue()


def image_media_type(output: dict) -> str:
    """Return the media type of the image in a notebook's output, or an empty text if it has no image.

    output: one entry of a code cell's `outputs`.
    """
    return next((media_type for media_type in SUFFIXES if media_type in output.get("data", {})), "")


INJECTED_CELL_START = "# Parameters"  # first line of the cell that papermill inserts below the parameters cell


def begin(chapter: str) -> "Run":
    """Check the parameters in the cells above this one and open the run's folder.

    After this call, cells can also import the modules beside the notebooks, wherever the kernel was started.

    chapter: the notebook's file name without its suffix.
    """
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # an editable install makes only the package importable, not `notebooks`
    _silence_library_warnings()
    known, values = read_kernel_parameters()
    return Run(chapter, known, values)


def read_kernel_parameters() -> tuple[dict[str, Parameter], dict]:
    """Read the declared parameters and their values from the cells that this kernel has run, and check them.

    This works under papermill and in Jupyter. Raises a StudyError if no parameters cell has been run, and a
    ParameterError for an invalid value.
    """
    from IPython import get_ipython

    user = get_ipython().user_ns
    cells = user["In"]
    for index in range(len(cells) - 1, -1, -1):
        try:
            known = parse_parameters(cells[index])
        except (StudyError, SyntaxError):
            continue
        if known:
            break
    else:
        raise StudyError("No parameters cell has been run in this kernel: run the notebook from its top.")
    given = {}
    for source in cells[index + 1 :]:
        if source.startswith(INJECTED_CELL_START):
            exec(source, {}, given)
    values = {name: user.get(name) for name in known} | given
    check_parameters(known, values)
    return known, values


class Run:
    """One run of a chapter: collects results, scores and figures, and writes them to the run's folder.

    chapter: the notebook's file name without its suffix.
    parameters: the declared parameters by name.
    values: the value of each parameter by name.
    """

    def __init__(self, chapter: str, parameters: dict[str, Parameter], values: dict):
        self.chapter, self.values = chapter, values
        self.folder = run_paths.current_run_dir(chapter)
        (self.folder / "figures").mkdir(parents=True, exist_ok=True)
        self._start_time = time.time()
        self._data_folders = {
            name: Path(values[name])
            for name, parameter in parameters.items()
            if parameter.path_kind and Path(values[name] or " ").exists()
        }
        self._data = {name: files_digest(folder) for name, folder in self._data_folders.items()}
        self._source = {"data": "", "weights": "", "real": False}
        self.results, self._figures = {}, {}
        self._scores, self._experiments, self._quantities = [], {}, {}

    def __getattr__(self, name: str):
        if name in RUN_METHODS:
            raise StudyError(f"run.{name} is now run.{RUN_METHODS[name]}: change the name in this cell.")
        raise AttributeError(f"A run has no attribute {name!r}.")

    def describe_inputs(self, data: str, weights: str, real: bool = False) -> None:
        """Describe the inputs of the run; every notebook has to call this before `finish`.

        data: the data in words, such as "phantom children".
        weights: the initial weights in words.
        real: whether the data are radiographs of real patients.
        """
        self._source = {"data": data, "weights": weights, "real": real}

    def result(self, name: str, value, low=None, high=None, baseline=None, note: str = ""):
        """Store a number under a name and return it.

        name: the name of the result, unique in the run.
        value: a number, also one of NumPy or torch.
        low, high: the bounds of its confidence interval.
        baseline: the score of a trivial baseline.
        note: a remark for the table of results.
        """
        entry = {
            "value": _plain(value),
            "low": _plain(low),
            "high": _plain(high),
            "baseline": _plain(baseline),
            "note": note,
        }
        self.results[name] = {key: field for key, field in entry.items() if field not in (None, "")}
        return value

    def scores(
        self,
        experiment: str,
        variants: Mapping[str, Sequence],
        metrics: str | Sequence[str],
        unit: str = "draw",
        n: int | None = None,
        baselines: Sequence[str] = (),
        overlap: float = 0.0,
        **facts: float | str,
    ) -> None:
        """Store the scores of some variants, one for each repetition; the rules of claims compare variants in them.

        Predictions are also saved, in `predictions` in the run's folder.

        experiment: the name of the experiment. Calls with the same name add variants and metrics to it.
        variants: by variant, its predictions in each repetition; or its scores.
        metrics: the names of metrics to compute from predictions; or the name of the one metric that the scores are of.
        unit: what is repeated: draw, seed or fold. Repetitions of two variants with the same number are a pair.
        n: the number of images behind a score, where no predictions tell it.
        baselines: the variants that use no network.
        overlap: number of test images over number of training images, if the repetitions are overlapping splits.
        facts: what a rule may ask for: `passes` over the training images, `steps`, `training_images`, `learned_by` (the
            metric in which a network has to beat its baseline, AUROC by default).
        """
        from pneumo_utils.evaluation.predictions import Predictions
        from pneumo_utils.evaluation.scores import metric_values

        entry = self._experiments.setdefault(experiment, {"unit": unit, "section": self._section()})
        if entry["unit"] != unit:
            raise StudyError(f"{experiment} repeats by {entry['unit']}, and now by {unit}: give it another name.")
        entry["baselines"] = list(dict.fromkeys([*entry.get("baselines", []), *baselines]))
        entry |= {name: _plain(fact) for name, fact in facts.items()} | (
            {"overlap": _plain(overlap)} if overlap else {}
        )
        predicted = {}
        for variant, repetitions in variants.items():
            of_images = len(repetitions) > 0 and all(isinstance(each, Predictions) for each in repetitions)
            columns: dict[str, Sequence | np.ndarray]
            if of_images:
                predicted |= {(variant, index): each for index, each in enumerate(repetitions)}
                columns = {
                    metric: metric_values(repetitions, metric)
                    for metric in ([metrics] if isinstance(metrics, str) else metrics)
                }
            elif isinstance(metrics, str):
                columns = {metrics: repetitions}
            else:
                raise StudyError(f"{experiment}: {variant} has no predictions to compute {', '.join(metrics)} from.")
            for metric, values in columns.items():
                for index, value in enumerate(values):
                    row = {"experiment": experiment, "variant": variant, "metric": metric, "value": float(value)}
                    row |= {"seed": self.values.get("seed", "")} | {unit: index}
                    row["n"] = len(repetitions[index]) if of_images else n
                    self._scores.append(row)
        if predicted:
            name = re.sub(r"[^a-z0-9]+", "_", experiment.lower()).strip("_")
            save_predictions(self.folder / "predictions" / f"{name}.npz", predicted)

    def quantity(self, name: str, value: float, resamples: Sequence[float] | np.ndarray, n: int | None = None) -> None:
        """Store a quantity with its bootstrap resamples, where a rule needs more than scores.

        name: the name of the quantity, unique in the run.
        value: its value on the original images.
        resamples: its value on each resample of the patients.
        n: the number of images behind it.
        """
        self._quantities[name] = {
            "value": _plain(value),
            "resamples": [_plain(float(f"{each:.5g}")) for each in np.asarray(resamples, dtype=float)],
            "section": self._section(),
        } | ({"n": n} if n else {})

    def paper_claims(self, claims: list[str]):
        """Return a table of the paper's claims; it is the first table of a chapter.

        claims: ids of claims in the ledger.
        """
        import pandas as pd

        from pneumo_utils.claims.ledger import load_ledger
        from pneumo_utils.plots.tables import format_claim, html_table

        ledger = load_ledger()
        cells = [
            format_claim(
                entry.says, entry.printed or (entry.value if isinstance(entry.value, (int, float, str)) else None)
            )
            for entry in map(ledger.__getitem__, claims)
        ]
        return html_table(
            pd.DataFrame({"the paper says": cells}),
            name="claims",
            caption="What the paper says, in the words of this book's ledger, with the number where there is one.",
        )

    def mean_results(
        self,
        name: str,
        scores: dict[str, list],
        note: str = "",
        min_value: float = 0.0,
        max_value: float = 1.0,
        overlap: float = 0.0,
    ) -> None:
        """Store the mean score over repeated runs of each model, with Student's confidence interval.

        Each mean becomes the result "NAME: MODEL".

        name: the first part of the results' names.
        scores: by model (or setting), a list with the score of each repeated run.
        note: a remark for the table of results.
        min_value, max_value: the range of the score; the interval is clipped to it.
        overlap: for runs that share training images, the number of test images over that of training images;
            this widens the interval. With k folds it is 1 / (k - 1).
        """
        from pneumo_utils.evaluation.comparison import mean_ci

        for model, model_scores in scores.items():
            self.result(
                f"{name}: {model}",
                *mean_ci(model_scores, min_value, max_value, overlap),
                note=f"{note + ', ' if note else ''}mean of {len(model_scores)} draws",
            )

    def compare_with_records(self, *names: str) -> None:
        """Show tables that compare mean scores of this run with those of the chapter's records.

        names: the first parts of the results' names; one table is shown for each.
        """
        from IPython.display import display

        from pneumo_utils.plots.comparison import survey_table

        runs = {"this run": self.results} | {record.title: record.results for record in self.recorded.values()}
        for name in names:
            display(survey_table(name, runs))

    def figure(self, figure, name: str, alt: str, caption: str = "") -> None:
        """Write a figure to a file and display it with its alternative text.

        figure: a `matplotlib.figure.Figure`; it is closed.
        name: the name of the file without its suffix.
        alt: the alternative text for readers who cannot see the figure.
        caption: the text below the figure.
        """
        from IPython.display import display

        media_type, data = encode_figure(figure)
        file = f"figures/{name}.{SUFFIXES[media_type]}"
        files.write_atomically(self.folder / file, data)
        self._figures[name] = {"file": file, "alt": alt, "caption": caption}
        metadata = {"alt": alt, "caption": caption, "name": name, "width": round(figure.get_size_inches()[0] * 100)}
        display(
            {media_type: base64.b64encode(data).decode(), "text/plain": alt}, raw=True, metadata={media_type: metadata}
        )
        _close(figure)

    def save_table(self, name: str, rows: list[dict]) -> None:
        """Write a table to the run's folder as JSON, for the pages that the book generates from it.

        name: the name of the file without its suffix.
        rows: the rows of the table.
        """
        files.write_json(self.folder / f"{name}.json", rows)

    def cached_result(self, name: str, make, **arguments):
        """Return `make(**arguments)`, from the cache if it was computed before.

        The cache key covers the arguments, the code of the function, the run's data and the library versions.

        name: the first part of the cache entry's file name.
        make: a function that returns numbers, texts, lists, dictionaries, arrays, tensors or data frames.
        arguments: the keyword arguments of the function.
        """
        return result_cache.cached_result(run_paths.kept_dir(self.chapter), name, make, arguments, self._data)

    def cached_results(self, make, calls: dict[str, dict], prepare=None) -> dict:
        """Call a function with each set of arguments, in parallel and from the cache, and return the values by name.

        The calls are made on this machine, or on the workers of the scheduler in the environment's PNEUMO_SCHEDULER.

        make: a function that returns values which the cache can store; the calls must not depend on each other.
        calls: by name, the keyword arguments of one call.
        prepare: called once before any uncached call, for data that the parallel processes then share.
        """
        folders = list(self._data_folders.values())
        return cached_results(run_paths.kept_dir(self.chapter), make, calls, self._data, prepare, folders)

    @property
    def recorded(self) -> dict[str, records.Record]:
        """Return the chapter's committed records by name: earlier runs, longer or on real radiographs."""
        return records.read_records(self.chapter)

    def show_records(self):
        """Return a table of the chapter's records, or a text with the command that makes one."""
        import pandas as pd
        from IPython.display import Markdown

        from pneumo_utils.plots.tables import html_table

        if not self.recorded:
            chapter = self._notebook().number or self.chapter
            return Markdown(f"*No record is kept yet: `pneumo record {chapter} NAME` makes one.*")
        rows = [
            {
                "record": record.title.removeprefix("on record, "),
                "data": record.data,
                "weights": record.weights,
                "settings": record.tier,
                "made": f"in {format_duration(record.seconds)} on {record.device}, {record.finished[:10]}",
            }
            for record in self.recorded.values()
        ]
        return html_table(
            pd.DataFrame(rows),
            name="records",
            caption="The records of this chapter. A record keeps numbers, settings and a digest of the data, and no "
            "picture of anyone.",
        )

    def verdicts(self, claims: Sequence[str] = ()):
        """Return the table of verdicts on a paper's comparative claims, from this run and from the chapter's records.

        claims: ids of claims in the ledger; all claims of the paper that have a rule, if none are given.
        """
        from pneumo_utils.claims.ledger import load_ledger
        from pneumo_utils.claims.verdicts import verdict_table
        from pneumo_utils.plots.tables import html_table

        ledger = load_ledger()
        ids = claims or [
            claim.id
            for claim in ledger.claims
            if self.chapter.startswith(f"{claim.paper:02d}") and claim.comparative and claim.rule
        ]
        return html_table(
            verdict_table(ledger, ids, [self.measured, *(record.measured for record in self.recorded.values())]),
            name="verdicts",
            folded="the rule",
            caption="The verdict on each claim, from this run and from each record, with the difference that decides "
            "it, its 95 % confidence interval, and the smallest difference that matters. Open a rule to see what is "
            "asked. Could see: the smallest difference that this run would find, with 80 % power.",
        )

    def ask(
        self, compare: str, experiment: str, metric: str, paired_by: str = "draw", of: "Measured | None" = None
    ) -> "Verdict":
        """Return the verdict on a question of the book's own, from scores that this run or a record has stored.

        compare: the comparison, such as "A > B" or "A ~ B", of two variants of the experiment.
        experiment: the name of the experiment.
        metric: the metric, whose smallest difference that matters is the book's.
        paired_by: what repetition pairs two scores.
        of: the run or record whose scores are compared; None for this run.
        """
        from pneumo_utils.claims.judging import apply_rule
        from pneumo_utils.claims.rules import own_question

        return apply_rule(own_question(compare, experiment, metric, paired_by), of or self.measured)

    def tell(self, compare: str, experiment: str, metric: str, paired_by: str = "draw") -> str:
        """Return the verdicts on a question of the book's own, of this run and of the record on real radiographs.

        compare, experiment, metric, paired_by: the question, as for `ask`.
        """
        from pneumo_utils.claims.verdicts import mark_verdict, short_verdict

        question = compare, experiment, metric, paired_by
        here = short_verdict(self.ask(*question))
        if not (record := self.evidence).record:
            return f"{mark_verdict(here)}."
        on_record = short_verdict(self.ask(*question, of=record), remarks=False)
        return f"On phantoms: {mark_verdict(here)}. On real radiographs: {mark_verdict(on_record)}."

    @property
    def evidence(self) -> "Measured":
        """Return what advice rests on: this run, or if it is on phantoms the record on real radiographs, if any."""
        real = self.recorded.get(records.REAL_RECORD)
        return real.measured if real and not self._source["real"] else self.measured

    @property
    def evidence_results(self) -> Mapping[str, dict]:
        """Return the results of the run or record that `evidence` takes."""
        return self.recorded[name].results if (name := self.evidence.record) else self.results

    def in_short(self, question: str) -> None:
        """Show a box that `answer` fills in at the end of the run; the book shows it below the chapter's title.

        question: the question of the chapter, in a sentence.
        """
        from IPython.display import Markdown, display

        self._question = question
        self._box = display(
            Markdown(f"**In short.** {question} *The answer stands here once the notebook has run to its end.*"),
            display_id=True,
        )

    def answer(self, sentences: Sequence[str], results: Mapping[str, str], claims: Sequence[str], advice: str) -> None:
        """Fill in the box of `in_short`: the answer, the main numbers of this run and its records, and main verdicts.

        sentences: the answer, computed from this run's numbers.
        results: the names of the results to tabulate, by what they are called in the table.
        claims: the ids of the paper's main claims; none for a page that is on no paper.
        advice: what a practitioner should do, computed from this run's numbers.
        """
        from IPython.display import Markdown

        from pneumo_utils.claims.ledger import load_ledger
        from pneumo_utils.claims.verdicts import verdict_table
        from pneumo_utils.common.markup import escape_markup
        from pneumo_utils.plots.comparison import format_result
        from pneumo_utils.study.pages import markdown_table

        runs = {"this run": self.results} | {
            record.title.removeprefix("on record, "): record.results for record in self.recorded.values()
        }
        runs = {title: found for title, found in runs.items() if set(results.values()) & found.keys()}
        numbers = [
            [label, *(format_result(found.get(name)) or "-" for found in runs.values())]
            for label, name in results.items()
            if any(name in found for found in runs.values())
        ]
        basis = "the record on real radiographs" if self.evidence.record else f"this run ({self._source['data']})"
        tables = [markdown_table(["", *runs], numbers)] if numbers else []
        if claims:
            sources = [self.measured, *(record.measured for record in self.recorded.values())]
            verdicts = verdict_table(load_ledger(), claims, sources).drop(columns=["the rule", "matters from"])
            cells = [list(map(escape_markup, row)) for row in verdicts.to_numpy().tolist()]
            tables.append(markdown_table(list(verdicts), cells))
        shown = "\n".join([*sentences, *tables])
        note = " ".join(
            text
            for text, mark in (
                ("In brackets: 95 % intervals.", " to "),
                ("Could see: the smallest difference that this run would find, with 80 % power.", "could see"),
                ("A network that is not better than its baseline decides nothing.", "did not beat its baseline"),
            )
            if mark in shown
        )
        if len(runs) > 1:
            page = f"{run_paths.book_folder(self.chapter)}/run_statistics.md"
            note += f" Columns beside this run are [records]({page}): stored runs, longer or on real radiographs."
        parts = [
            f"**In short.** {self._question}",
            "\n".join(f"- {sentence}" for sentence in sentences),
            f"**What to do**, going by {basis}: {advice}",
            *([f"*{note.strip()}*"] if note else []),
            *tables,
        ]
        self._box.update(Markdown("\n\n".join(parts)))

    def show_code(self, *functions: Callable):
        """Return the source of functions that a module beside the notebook defines, as a code block.

        functions: the functions or classes.
        """
        from IPython.display import Markdown

        return Markdown("```python\n" + "\n\n".join(inspect.getsource(each) for each in functions) + "```")

    @property
    def measured(self) -> "Measured":
        """Return what this run has measured so far, as the rules of claims read it."""
        origin = {"chapter": self.chapter, "parameters": self.values, "tier": self._tier(), **self._source}
        return to_measured(origin | self._measurements(), self._scores)

    def _measurements(self) -> dict:
        return {"experiments": self._experiments, "quantities": self._quantities, "rules": _rule_digests()}

    def _tier(self) -> str:
        source = self._notebook()
        return tier(source, self.values) if source.path.exists() else "by hand"

    def _section(self) -> str:
        """Return the label of the section that contains the running cell."""
        from IPython import get_ipython

        source = self._notebook()
        return source.section_label(get_ipython().user_ns["In"][-1]) if source.path.exists() else ""

    def _notebook(self) -> Chapter:
        return Chapter(ROOT / f"{run_paths.notebook_page(self.chapter)}.ipynb")

    def finish(self) -> None:
        """Write results.json and print a summary; a run without this file counts as unfinished.

        Raises a StudyError if the notebook has not described its inputs.
        """
        if not self._source["data"]:
            raise StudyError(
                "The notebook has not named its data and weights: call run.describe_inputs(data=..., weights=...)."
            )
        write_scores(self.folder / "scores.csv", self._scores)
        files.write_json(
            self.folder / "results.json",
            {
                "format": RESULTS_FORMAT,
                "chapter": self.chapter,
                "parameters": self.values,
                "tier": self._tier(),
                **self._source,
                "device": _device() + ", and the workers of a cluster" * bool(scheduler_address()),
                "seconds": round(time.time() - self._start_time, 2),
                "peak_memory_mb": _peak_memory(),
                "versions": versions(),
                "results": self.results,
                **self._measurements(),
                "figures": self._figures,
            },
        )
        print(
            f"results: {len(self.results)}, figures: {len(self._figures)}, "
            + (f"in {os.path.relpath(self.folder)}" if run_paths.CURRENT_RUN_VARIABLE not in os.environ else "kept")
        )


def _rule_digests() -> dict[str, str]:
    """Return the digest of the rule of each claim as it is now."""
    from pneumo_utils.claims.ledger import load_ledger
    from pneumo_utils.claims.rules import rule_of

    return {claim.id: rule.digest for claim in load_ledger().claims if (rule := rule_of(claim))}


def _plain(value):
    """Convert a number of NumPy or torch to one that JSON can hold; NaN becomes "undefined"."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value != value:
        return "undefined"
    return value


def _silence_library_warnings() -> None:
    """Ignore warnings that readers can do nothing about and that would put paths of this machine into a notebook."""
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
    except ModuleNotFoundError:  # not available on Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit
    )
