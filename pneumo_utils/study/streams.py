"""What cells printed, as a terminal would be left with it: a progress bar that has wiped itself away leaves nothing
on a page.
"""


def tidy(notebook) -> None:
    """Join the pieces in which each stream came, play back their carriage returns, and drop what leaves no mark."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in _joined(cell.outputs) if each.output_type != "stream" or each.text.strip()]


def _joined(outputs: list) -> list:
    whole, open_streams = [], {}
    for output in outputs:
        if output.output_type != "stream":
            whole.append(output)
        elif output.name in open_streams:
            open_streams[output.name].text += output.text
        else:
            open_streams[output.name] = output
            whole.append(output)
    for stream in open_streams.values():
        stream.text = "\n".join(left_of(line) for line in stream.text.split("\n"))
    return whole


def left_of(line: str) -> str:
    """What stands in a line after its carriage returns: later text lies over earlier, and the longer one's end
    shows.
    """
    shown = ""
    for text in line.split("\r"):
        shown = text + shown[len(text) :]
    return shown.rstrip() if "\r" in line else shown
