"""What is left on a page of what cells printed."""

import nbformat.v4 as nb
import pytest

from pneumo_utils.study.kernel import apply_carriage_returns, clean_streams


@pytest.mark.parametrize(
    "line, left",
    [
        ("plain", "plain"),
        ("kept, with its space ", "kept, with its space "),
        ("10 %\r50 %\r100 %", "100 %"),
        ("a long line\rshort", "shortg line"),
        ("working 3/9\r           \r", ""),
        ("\r      done\r", "      done"),
    ],
)
def test_carriage_returns_overwrite_the_line(line, left):
    assert apply_carriage_returns(line) == left


def test_cleared_progress_bar_leaves_no_output():
    bar = [
        nb.new_output("stream", name="stderr", text=text)
        for text in ("\rimages: 1/3", "\rimages: 3/3", "\r           ", "\r")
    ]
    printed = nb.new_output("stream", name="stdout", text="three images\n")
    cell = nb.new_code_cell(
        "work()", outputs=[*bar[:2], printed, *bar[2:], nb.new_output("display_data", data={"text/plain": "a table"})]
    )
    notebook = nb.new_notebook(cells=[nb.new_markdown_cell("text"), cell])
    clean_streams(notebook)
    assert [(output.output_type, output.get("text")) for output in cell.outputs] == [
        ("stream", "three images\n"),
        ("display_data", None),
    ]


def test_warnings_are_kept():
    cell = nb.new_code_cell("work()", outputs=[nb.new_output("stream", name="stderr", text="UserWarning: look here\n")])
    clean_streams(nb.new_notebook(cells=[cell]))
    assert cell.outputs[0].text == "UserWarning: look here\n"
