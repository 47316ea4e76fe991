"""Run the chapters that a user's folders of radiographs allow, and show the results beside those of the book."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.claims.ledger import Paper, load_ledger
from pneumo_utils.claims.measured import Measured
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.claims.verdict_html import legend_html, verdict_html
from pneumo_utils.claims.verdicts import Verdict, correct_for_many, rerun_verdicts, short_verdict
from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json, write_atomically
from pneumo_utils.common.markup import code_markup, escape_markup, html_page
from pneumo_utils.data.readers import RELEASE_NAMES, find_reader
from pneumo_utils.evaluation.scores import format_ci
from pneumo_utils.plots.tables import format_claim
from pneumo_utils.study import exercises, records
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.kernel import format_duration
from pneumo_utils.study.pages import FRONT_PAGE_RESULTS
from pneumo_utils.study.parallel_runs import allocate_cores
from pneumo_utils.study.parameters import resolve_parameters
from pneumo_utils.study.rerun_footer import data_parameters
from pneumo_utils.study.run import Outcome
from pneumo_utils.study.run_status import chapter_status, completed_runs, read_run
from pneumo_utils.study.sweep import PlannedRun, plan_sweep

PAGE = "your_data.html"  # in the folder of runs
TITLE = "Your radiographs beside the papers and the phantoms"
YOURS, PHANTOMS, RECORDED = "your data", "the book's phantoms", "real radiographs on record"


@dataclass(frozen=True)
class Plan:
    """What can be run on a user's folders."""

    releases: dict[str, Path]  # the user's folders by release
    runs: list[PlannedRun]
    skipped: dict[Chapter, str]  # chapters that cannot be run on these folders, and why


def plan_own_runs(
    chapters: list[Chapter], folders: list[Path], words: Sequence[tuple[str, str]] = (), file: Path | None = None
) -> Plan:
    """Plan a run of each chapter whose data are among some folders.

    Raises a StudyError for a folder that no reader knows, for two folders of one release, and if no chapter can be run.

    chapters: the chapters to choose from; those that read no radiographs are left out.
    folders: folders or archives of radiographs.
    words: pairs of a parameter's name and its values as typed, for all runs.
    file: a YAML file of parameters for all runs.
    """
    releases: dict[str, Path] = {}
    for folder in folders:
        name = find_reader(folder).__name__.rpartition(".")[2]
        if name in releases:
            raise StudyError(f"{releases[name]} and {folder} are both {name}: give one folder of each release.")
        releases[name] = Path(folder)
    runs, skipped = [], {}
    for chapter in chapters:
        wanted = {name: of for name, of in data_parameters(chapter).items() if set(of[0]) & set(RELEASE_NAMES)}
        given = {
            parameter: next((releases[name] for name in names if name in releases), None)
            for parameter, (names, _) in wanted.items()
        }
        missing = [
            " or ".join(names) for parameter, (names, needed) in wanted.items() if needed and not given[parameter]
        ]
        if missing:
            skipped[chapter] = f"needs {' and '.join(missing)}"
        elif any(given.values()):
            folder_words = [(parameter, str(path)) for parameter, path in given.items() if path]
            runs += plan_sweep([chapter], [*words, *folder_words], file)
    if not runs:
        nearest = {
            chapter: why
            for chapter, why in skipped.items()
            if any(set(names) & releases.keys() for names, _ in data_parameters(chapter).values())
        }
        reasons = "; ".join(f"{chapter.name} {why}" for chapter, why in nearest.items())
        raise StudyError(
            f"No chapter can be run on {' and '.join(releases)} alone{f': {reasons}' if reasons else ''}. The book's "
            "page on data says which chapter reads what."
        )
    return Plan(releases, runs, skipped)


def _title(planned: PlannedRun) -> str:
    """Name a run by its chapter's number and title, and by the parameters in which it differs from others."""
    name = f"{planned.chapter.number} {planned.chapter.title}".strip()
    return ", ".join([name, *(f"{parameter} = {value}" for parameter, value in planned.apart.items())])


def measured_cost(planned: PlannedRun) -> tuple[float | None, float | None, str]:
    """Return the seconds and the megabytes of memory that a run probably takes, and where they were measured.

    They are those of a run with the same settings on this machine, or else of the book's measurements, or of a record.

    planned: the run.
    """
    data, values = data_parameters(planned.chapter), resolve_parameters(planned.chapter, planned.overrides)
    settings = {name: value for name, value in values.items() if name not in data}
    for _, manifest in completed_runs(planned.chapter):
        if settings.items() <= manifest["parameters"].items():
            return manifest["seconds"], manifest["peak_memory_mb"], f"{manifest['data']}, {manifest['device']}"
    timing = exercises.read_timings()["chapters"].get(planned.chapter.name, {})
    if timing.get("seconds"):
        return timing["seconds"], timing["peak_memory_mb"], f"the book's phantoms, {timing['device']}"
    if record := records.read_records(planned.chapter.name).get(records.REAL_RECORD):
        return record.seconds, record.peak_memory_mb, f"the record {records.REAL_RECORD}, {record.device}"
    return None, None, ""


def describe_plan(plan: Plan) -> list[str]:
    """Describe a plan in lines: which chapters run on which folders, how long, what they need, and which cannot run.

    plan: the plan.
    """
    lines = [f"{name}: {path}" for name, path in plan.releases.items()]
    paths = {str(path): name for name, path in plan.releases.items()}
    known, unknown = [], []
    for planned in plan.runs:
        used = [paths[str(value)] for value in planned.overrides.values() if str(value) in paths]
        seconds, memory, where = measured_cost(planned)
        (unknown if seconds is None else known).append(seconds)
        cost = (
            "time not measured yet"
            if seconds is None
            else f"about {format_duration(seconds)}"
            + (f", {memory / 1000:.1f} GB of memory" if memory else "")
            + f" (measured on {where})"
        )
        lines.append(f"  {_title(planned)}, on {' and '.join(used)}: {cost}")
    lines += [f"  not {chapter.number or chapter.name}: {why}" for chapter, why in plan.skipped.items()]
    processes, _ = allocate_cores(len(plan.runs))
    total = max(sum(known) / processes, max(known, default=0))
    lines.append(
        f"{len(plan.runs)} {'run' if len(plan.runs) == 1 else 'runs'}, {processes} at a time"
        + (f": about {format_duration(total)}" if known else "")
        + (f", and {len(unknown)} whose time is not known" if unknown else "")
        + ". More images than in the measured runs take longer."
    )
    return lines


def write_page(made: list[tuple[PlannedRun, Outcome]]) -> Path:
    """Write a page that shows runs on a user's data beside the book's phantoms, its records and the papers.

    Returns the path of the page.

    made: the runs with their outcomes.
    """
    compared = {planned.chapter: _book_results(planned.chapter) for planned, _ in made}
    own = [read_run(outcome.folder) for _, outcome in made]
    book = [source for sources in compared.values() for source in sources.values()]
    body = [
        f"<h1>{TITLE}</h1>",
        "<p>Each network is compared with a baseline that uses no network. Each claim is judged by the book's rule, "
        "which was fixed before the run.</p>",
        "<p>This is a study, not a medical device: nothing here may guide the care of a person.</p>",
        "<h2>Scores</h2>",
        _scores_table(made, compared),
        "<h2>What the papers claim</h2>",
        legend_html().data,
    ]
    for paper in load_ledger().papers:
        chosen = {
            YOURS: [source for source in own if _is_of(source, paper)],
            PHANTOMS: [source for source, _ in book if _is_of(source, paper) and not source.real],
            RECORDED: [source for source, _ in book if _is_of(source, paper) and source.real],
        }
        if chosen[YOURS]:
            body += [f"<h3>Paper {paper.paper}: {escape_markup(paper.title)}</h3>", _claims_table(paper, chosen)]
    body += ["<h2>All numbers of these runs</h2>"]
    body += [_numbers(planned, outcome, compared[planned.chapter]) for planned, outcome in made]
    path = run_paths.runs_dir() / PAGE
    write_atomically(path, html_page(TITLE, "\n".join(body), STYLE))
    return path


def _is_of(source: Measured, paper: Paper) -> bool:
    return source.chapter.startswith(f"{paper.paper:02d}")


def _book_results(chapter: Chapter) -> dict[str, tuple[Measured, dict]]:
    """Return what the book's run of a chapter and its record on real radiographs have measured, and their results."""
    found = {}
    folder = chapter_status(chapter).folder
    if folder and not (measured := read_run(folder)).real:
        found[PHANTOMS] = measured, read_json(folder / "results.json")["results"]
    if record := records.read_records(chapter.name).get(records.REAL_RECORD):
        found[RECORDED] = record.measured, record.results
    return found


def _results_by_column(outcome: Outcome, compared: dict[str, tuple[Measured, dict]]) -> dict[str, dict]:
    own = read_json(outcome.folder / "results.json")["results"]
    return {YOURS: own} | {title: compared[title][1] if title in compared else {} for title in (PHANTOMS, RECORDED)}


def _scores_table(made: list[tuple[PlannedRun, Outcome]], compared: dict[Chapter, dict]) -> str:
    rows = []
    for planned, outcome in made:
        if planned.chapter.name not in FRONT_PAGE_RESULTS:
            continue
        metric, *names = FRONT_PAGE_RESULTS[planned.chapter.name]
        columns = _results_by_column(outcome, compared[planned.chapter])
        for title, name in zip(("network", "no network"), names):
            cells = "".join(f"<td>{_interval(results.get(name))}</td>" for results in columns.values())
            words = f"{escape_markup(_title(planned))}: {title}"
            rows.append(f"<tr><th scope='row'>{words}</th><td>{escape_markup(metric)}</td>{cells}</tr>")
    return _table(["", "measure", YOURS, PHANTOMS, RECORDED], rows)


def _interval(entry: dict | None) -> str:
    """Format a result as a number with its interval and as a bar from 0 to 1, if it lies there."""
    if not entry or isinstance(entry["value"], str):
        return "-"
    low, high = entry.get("low", entry["value"]), entry.get("high", entry["value"])
    text = escape_markup(format_ci(entry["value"], low, high))
    if not 0 <= low <= high <= 1:
        return text
    return (
        f'{text}<span class="scale" aria-hidden="true"><span style="left: {100 * low:.1f}%; '
        f'width: {100 * (high - low):.1f}%"></span><i style="left: {100 * entry["value"]:.1f}%"></i></span>'
    )


def _claims_table(paper: Paper, sources_by_column: dict[str, list[Measured]]) -> str:
    """Tabulate the claims of a paper that some run has tested, with the verdicts of each column's runs."""
    claims = [claim for claim in paper.claims if rule_of(claim)]
    columns: dict[str, dict[str, Verdict]] = {}
    for title, sources in sources_by_column.items():
        found = {}
        for claim in claims:
            verdicts = [verdict for of_kind in rerun_verdicts(claim, sources).values() for verdict in of_kind]
            found[claim.id] = next((verdict for verdict in verdicts if verdict.tested), verdicts[0])
        columns[title] = found | correct_for_many({claim.id: found[claim.id] for claim in claims if claim.comparative})
    shown = [claim for claim in claims if any(column[claim.id].tested for column in columns.values())]
    rows = [
        f"<tr><td>{escape_markup(format_claim(claim.says, claim.printed or claim.value))}</td>"
        + "".join(
            f"<td>{verdict_html(column[claim.id].verdict)}<br><small>{_numbers_of(column[claim.id])}</small></td>"
            for column in columns.values()
        )
        + "</tr>"
        for claim in shown
    ]
    rest = len(claims) - len(shown)
    return (_table(["the paper says", *columns], rows) if rows else "") + (
        f"<p>{rest} more claims with a rule were tested by none of these runs.</p>" if rest else ""
    )


def _numbers_of(verdict: Verdict) -> str:
    return escape_markup(short_verdict(verdict).removeprefix(f"{verdict.verdict}: "))


def _numbers(planned: PlannedRun, outcome: Outcome, compared: dict[str, tuple[Measured, dict]]) -> str:
    """Tabulate all results of a run beside those of the book, folded, with the way to its notebook."""
    content = read_json(outcome.folder / "results.json")
    columns = _results_by_column(outcome, compared)
    rows = [
        f"<tr><th scope='row'>{escape_markup(name)}</th>"
        + "".join(f"<td>{_interval(results.get(name))}</td>" for results in columns.values())
        + "</tr>"
        for name in content["results"]
    ]
    origin = f"{content['data']}; weights: {content['weights']}; {format_duration(content['seconds'])}."
    return (
        f"<details><summary>{escape_markup(_title(planned))}: {len(rows)} numbers</summary>"
        f"<p>{escape_markup(origin)} The executed notebook is {code_markup(outcome.folder / 'notebook.ipynb')}.</p>"
        f"{_table(['result', *columns], rows)}</details>"
    )


def _table(head: list[str], rows: list[str]) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="table">{table}</div>'


STYLE = """
main { max-width: 80rem; margin: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-top: 1px solid var(--line); padding: .35rem .7rem; text-align: left; vertical-align: top; }
tbody th { font-weight: 500; }
.scale { display: block; position: relative; height: .5rem; margin-top: .25rem; min-width: 8rem;
  border-bottom: 1px solid var(--line); }
.scale span { position: absolute; top: .1rem; height: .3rem; background: var(--bar); }
.scale i { position: absolute; top: 0; height: .5rem; width: 2px; background: currentColor; }
.verdict { font-weight: 600; }
.supported, .matches { color: var(--good); } .contradicted, .differs { color: var(--wrong); }
.legend div { margin: .2rem 0; } summary { cursor: pointer; padding: .3rem 0; }
"""
