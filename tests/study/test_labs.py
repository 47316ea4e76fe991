"""The labs: their limits, what students get, every named wrong answer, nbgrader's grades, and JupyterLab."""

import ast
import json
import os
import re
import subprocess
import sys
import time

import nbformat
import pytest
from chapter_runs import ROOT
from click.testing import CliRunner
from lab_submissions import course, grade, nbgrader, submit

from pneumo_utils import cli
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json
from pneumo_utils.study import labs

NUMBERS = [1, 2, 3, 4, 5]
WHOLE = bool(os.environ.get("ALL_LABS"))  # `make labs-test`: the experiments too, and nbgrader for every lab
GRADED = NUMBERS if WHOLE else [5]
# lines of fastai and torch that given code and hints have too
IDIOMS = {"with learn.no_bar(), learn.no_logging():", "learn.fit(epochs)", "with torch.no_grad():"}


@pytest.fixture(scope="module", params=NUMBERS)
def lab(request):
    return labs.read_lab(request.param)


def lines_of(text: str) -> set[str]:
    """The lines of code that say something: `return x` does, `else:` does not."""
    return {line.strip() for line in text.splitlines() if len(line.strip()) > 12 and not line.strip().startswith("#")}


def statements_of(text: str) -> set[str]:
    return {ast.dump(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)}


def test_a_lab_keeps_its_limits(lab):
    size, tasks = labs.lab_size(lab), labs.lab_tasks(lab)
    assert size.cells <= 30 and size.given_lines <= 120 and size.first_task <= 6
    assert sum(task.minutes for task in tasks) == 55
    assert all(len(task.wrong_answers) >= 2 and task.points > 0 for task in tasks)
    manual = [labs.points_of(cell) for cell in lab["cells"] if labs.is_graded(cell, manually=True)]
    assert sum(manual) == sum(task.points for task in tasks) == 10 and sum(manual[-2:]) >= 8
    for path in labs.FOLDER.glob("*.npz"):
        assert path.stat().st_size < 2e6


def test_students_get_no_line_of_a_solution(lab):
    student = labs.student_lab(lab)
    nbformat.validate(nbformat.from_dict(student))
    text = "\n".join(labs.source_of(cell) for cell in student["cells"])
    code = [labs.source_of(cell) for cell in student["cells"] if cell["cell_type"] == "code"]
    assert "HIDDEN" not in text and "SOLUTION" not in text and "wrong answer" not in text
    assert text.count("raise NotImplementedError()") >= len(labs.lab_tasks(lab)) + 1  # the first is in the instructions
    for task in labs.lab_tasks(lab):
        for solution in re.findall(r"(?s)### BEGIN SOLUTION\n(.*?)### END SOLUTION", task.solution):
            assert not lines_of(solution) & lines_of(text) - IDIOMS
        bodies = [node for node in ast.walk(ast.parse(task.solution)) if isinstance(node, ast.FunctionDef)]
        solved = {ast.dump(body) for node in bodies for body in node.body if not isinstance(body, ast.Expr)}
        assert not solved & set().union(*map(statements_of, code))
    answers = [labs.source_of(cell) for cell in lab["cells"] if labs.is_graded(cell, manually=True)]
    assert all(answer not in text for answer in answers)


def test_checks_say_what_is_wrong_with_each_named_answer(lab, tmp_path, monkeypatch, capsys):
    """In one process: the solved notebook passes; then each wrong answer fails its check with its message."""
    monkeypatch.chdir(labs.FOLDER)
    names = {"display": print}
    for cell in lab["cells"]:
        if cell["cell_type"] == "code" and not labs.has_tag(cell, labs.WRONG_ANSWER):
            if WHOLE or not labs.has_tag(cell, labs.SKIPPED):
                exec(labs.source_of(cell), names)
    tasks = labs.lab_tasks(lab)
    assert capsys.readouterr().out.count("passed\n") == len(tasks)
    stub = labs.student_lab(lab)
    stubs = {
        cell["metadata"]["nbgrader"]["grade_id"]: labs.source_of(cell)
        for cell in stub["cells"]
        if labs.is_solution(cell)
    }
    for task in tasks:
        for answer in task.wrong_answers:
            exec(answer.code, names)
            with pytest.raises(AssertionError, match=re.escape(answer.message)):
                exec(task.check, names)
        exec(stubs[task.name], names)
        with pytest.raises(NotImplementedError):
            exec(task.check, names)
    others = [task for task in tasks[1:] if "Learner" not in task.solution]  # the first task is a stub now
    for task in others:
        exec(task.solution, names)
        exec(task.check, names)


def test_lab_command_writes_for_students_teacher_and_course(tmp_path):
    out = tmp_path / "labs"
    done = CliRunner().invoke(cli.main, ["lab", "3", "--out", str(out), "--seed", "17"])
    assert done.exit_code == 0, done.output
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {
        "student/lab_3.ipynb",
        "student/lab_3.npz",
        "teacher/lab_3.ipynb",
        "teacher/lab_3.npz",
        "teacher/03_xception_kfold_solutions.ipynb",
        "course/nbgrader_config.py",
        "course/source/lab_3/lab_3.ipynb",
        "course/source/lab_3/lab_3.npz",
    }
    texts = {}
    for path in out.rglob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        texts[path.parent.name, path.name] = "\n".join(cell.source for cell in notebook.cells)
        markdown = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert not re.search(r"\{\w[\w:]*\}`|^:::|^\([\w-]+\)=$", markdown, re.MULTILINE), "MyST's roles are left"
    teacher, source = texts["teacher", "lab_3.ipynb"], texts["lab_3", "lab_3.ipynb"]
    assert "seed = 17  # set by pneumo lab --seed" in teacher and "seed = 17  #" in source
    assert "**Wrong answer: scaler fitted on all data.**" in teacher and "wrong answer" not in source
    assert "## Task 1: Two kinds of recall · 10 minutes · 2 points" in texts["student", "lab_3.ipynb"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    done = CliRunner().invoke(cli.main, ["lab", "2", "3", "--out", str(out)])
    assert done.exit_code == 1 and "may hold somebody's work" in done.output
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}, "nothing is written over"


@pytest.mark.parametrize("number", ["0", "6"])
def test_unknown_labs_are_refused(number, tmp_path):
    done = CliRunner().invoke(cli.main, ["lab", number, "--out", str(tmp_path / "labs")])
    assert done.exit_code == 1 and "the labs are 1, 2, 3, 4, 5" in done.output and not (tmp_path / "labs").exists()


def test_wrong_answers_have_a_name_and_a_message(lab):
    broken = json.loads(json.dumps(lab))
    cell = next(cell for cell in broken["cells"] if labs.has_tag(cell, labs.WRONG_ANSWER))
    cell["source"] = ["# a wrong answer without a message\n"]
    with pytest.raises(StudyError, match="has to begin with two lines"):
        labs.lab_tasks(broken)


@pytest.mark.parametrize(
    "text, plain",
    [
        ("{term}`draws <draw>` and {term}`fold`", "draws and fold"),
        (
            "see {numref}`tab-1-scores` and {numref}`fig-1-worth`",
            "see the table `tab-1-scores` and the figure `fig-1-worth`",
        ),
        ("(label)=\n## Title {cite:p}`chollet2017`", "## Title (chollet2017)"),
        (":::{margin}\nA note\nof two lines.\n:::", "> A note\n> of two lines."),
        (
            "[the audit](paper-1), [](../book/teach.md), [site](https://example.org)",
            "the audit, teach, [site](https://example.org)",
        ),
        ("`a[0](b)` stays? no links in `{x}`", "`a[0](b)` stays? no links in `{x}`"),
    ],
)
def test_markdown_of_the_book_becomes_plain(text, plain):
    assert labs.plain_markdown(text) == plain


def test_commands_of_the_page_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "book" / "teach.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?m)^pneumo (.+)$", text)
    assert commands
    for command in commands:
        done = CliRunner().invoke(cli.main, command.split())
        assert done.exit_code == 0, done.output
    targets = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if re.match(r"[a-z-]+:", line)
    }
    assert set(re.findall(r"(?m)^make ([a-z-]+)", text)) <= targets


def test_page_shows_what_is_planned_and_measured():
    values = labs.page_values()
    for number in NUMBERS:
        minutes = [int(found) for found in re.findall(r"\| (\d+) \| \d+ \|", values["plan"][number])]
        assert sum(minutes) == 90 and 3 <= len(re.findall(r'(?m)^\| "', values["students_say"][number])) <= 6
        measured = read_json(labs.RECORD)["labs"][str(number)]
        size = labs.lab_size(labs.read_lab(number))
        assert (measured["cells"], measured["lines_before"]) == (size.cells, size.lines_before), (
            "run benchmarks/labs.py"
        )
        assert measured["ready_seconds"] <= 20 and measured["peak_memory_mb"] < 1500


@pytest.mark.parametrize("number", GRADED)
def test_nbgrader_grades_and_survives_bad_submissions(number, tmp_path, monkeypatch):
    """Right, empty and wrong submissions, and some that loop, flood, do not import, or are no notebook."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    place = course(tmp_path, number, timeout=120 if WHOLE else 15)
    released = nbformat.read(place / "release" / f"lab_{number}" / f"lab_{number}.ipynb", 4)
    ours = nbformat.read(tmp_path / "labs" / "student" / f"lab_{number}.ipynb", 4)
    assert [cell.source.strip() for cell in released.cells] == [cell.source.strip() for cell in ours.cells]

    tasks = labs.lab_tasks(labs.read_lab(number))
    right, total = {task.name: task.solution for task in tasks}, sum(task.points for task in tasks)
    first, second = tasks[:2]
    submit(place, number, "right", right)
    submit(place, number, "empty", {})
    imports = {second.name: "import a_package_that_nobody_has\n"}
    submit(place, number, "wrong", right | {first.name: first.wrong_answers[0].code} | imports)
    if not WHOLE or number == 1:
        submit(place, number, "loops", {first.name: "while True:\n    pass", second.name: second.solution})
        submit(
            place, number, "floods", {first.name: "while True:\n    print('x' * 1000)", second.name: second.solution}
        )
    submit(place, number, "damaged", {})
    (place / "submitted" / "damaged" / f"lab_{number}" / f"lab_{number}.ipynb").write_text("this is no JSON")
    points = grade(place, number)
    assert points["right"] == total and points["empty"] == 0
    assert points["wrong"] == total - first.points - second.points
    assert points.get("damaged", 0) == 0 and "damaged" in (place / "autograde.log").read_text()
    for student in ("loops", "floods") if not WHOLE or number == 1 else ():
        assert points[student] <= second.points, "a task that never ends is worth nothing"
    if number == GRADED[0]:
        assert nbgrader(place, "generate_feedback", f"lab_{number}", "--student=wrong").returncode == 0
        feedback = (place / "feedback" / "wrong" / f"lab_{number}" / f"lab_{number}.html").read_text()
        assert first.wrong_answers[0].message in feedback


@pytest.mark.browser
def test_jupyterlab_runs_lab_5_and_shows_no_raw_role(browser, tmp_path):
    labs.write_labs([5], tmp_path / "labs", seed=0)
    folder = tmp_path / "labs" / "teacher"
    settings = {**os.environ, "PNEUMO_RUNS": str(tmp_path / "runs"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    words = ["lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    words += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder}"]
    log = tmp_path / "server.log"
    with (
        log.open("w") as lines,
        subprocess.Popen([sys.executable, "-m", "jupyter", *words], env=settings, stderr=lines) as server,
    ):
        try:
            end = time.monotonic() + 60
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())) and time.monotonic() < end:
                time.sleep(0.2)
            address = found[0]
            page = browser.new_page()
            page.goto(f"{address}/lab/tree/lab_5.ipynb")
            page.locator(".jp-RenderedMarkdown", has_text="The best of many").first.wait_for(timeout=60_000)
            page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
            shown = page.locator(".jp-Notebook").inner_text()
            assert "Task 1: What does a constant have?" in shown and not re.search(r"\{[\w:]+\}`|:::", shown), (
                "a raw role is shown"
            )
            commands = "() => { const run = window.jupyterapp.commands; run.execute('notebook:run-all-cells')"
            page.evaluate(
                f"{commands}.then(() => run.execute('docmanager:save')).then(() => {{ window.ran = true }}) }}"
            )
            page.wait_for_function("window.ran", timeout=240_000)
            assert re.search(r"on 500 images has 0\.\d", page.locator(".jp-Notebook").inner_text())
        finally:
            server.terminate()
    cells = [cell for cell in nbformat.read(folder / "lab_5.ipynb", 4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum(output.get("text", "").count("passed\n") for output in outputs) == 5
