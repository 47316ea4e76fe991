"""The output streams of cells: what of them is kept on a page."""

import nbformat
import nbformat.v4 as nb

from pneumo_utils.study.kernel import remove_blank_streams

BARS = """
import sys
def bar(*parts):
    for part in parts:
        print(part, end="", file=sys.stderr, flush=True)
bar("\\rimages: 1/3", "\\rimages: 3/3")
print("three images")
bar("\\r           ", "\\r")
"""


def test_cleared_progress_bar_leaves_no_output(small, pneumo, runs):
    left = "bar('10 %', '\\r50 %', '\\r100 %', '\\n', 'said\\n', '\\rimages', '\\r      ', '\\r')"
    done = pneumo("run", small(BARS, left))
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(next(runs.glob("demo/*/notebook.ipynb")), 4).cells
    printed = {
        cell.source: [(output.name, output.text) for output in cell.outputs] for cell in cells if "bar(" in cell.source
    }
    assert printed == {BARS: [("stdout", "three images\n")], left: [("stderr", "100 %\nsaid\n")]}


def test_warnings_are_kept():
    streams = [nb.new_output("stream", name="stderr", text=text) for text in ("UserWarning: look here\n", "    \r")]
    table = nb.new_output("display_data", data={"text/plain": "a table"})
    cell = nb.new_code_cell("work()", outputs=[*streams, table])
    remove_blank_streams(nb.new_notebook(cells=[nb.new_markdown_cell("text"), cell]))
    assert cell.outputs == [streams[0], table] and streams[0].text == "UserWarning: look here\n"
