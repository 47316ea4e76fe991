"""The kernel that a notebook runs in, its progress and its output streams."""

import sys
import time
from pathlib import Path

from jupyter_client import AsyncKernelManager


def logged_to(path: Path) -> type[AsyncKernelManager]:
    """Return a kernel manager class that appends the kernel's own output to a file."""

    class LoggedKernelManager(AsyncKernelManager):
        async def _async_launch_kernel(self, kernel_cmd, **kw):
            with open(path, "a", encoding="utf-8") as log:
                await super()._async_launch_kernel(kernel_cmd, **kw, stdout=log, stderr=log)

    return LoggedKernelManager


def heading(source: str) -> str:
    """Return the last heading in a Markdown text, or an empty text."""
    return next((line.lstrip("#").strip() for line in reversed(source.splitlines()) if line.startswith("#")), "")


def cell_name(notebook, at: int) -> str:
    """The nearest heading above a cell."""
    return next(
        (
            name
            for cell in reversed(notebook.cells[:at])
            if cell.cell_type == "markdown" and (name := heading(cell.source))
        ),
        "",
    )


def clock(seconds: float) -> str:
    """Format seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def took(seconds: float) -> str:
    """A time with its unit."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{clock(seconds)} {'min' if seconds < 3600 else 'h'}"


class Progress:
    """One line as a cell starts, what it prints behind a bar, and the same into the run's log."""

    def __init__(self, stream=None):
        self._stream, self._log = stream or sys.stdout, None
        self._cell, self._of, self._heading, self._line_open = 0, 0, "", False

    def start(self, name: str, code_cells: int, log: Path) -> None:
        """Open the log and announce the run."""
        self._log, self._began, self._of = open(log, "w", encoding="utf-8"), time.time(), code_cells
        self.say(f"{name}: running its {code_cells} cells")

    def stop(self) -> None:
        """Close the log."""
        if self._log:
            self._log.close()
        self._log = None

    def say(self, line: str) -> None:
        """Print a message on a line of its own."""
        if self._line_open:
            self._put("\n")
        self._put(line + "\n")

    def write(self, text: str) -> None:
        """What the running cell prints; a carriage return of a progress bar starts the line anew."""
        for line in text.splitlines(keepends=True):
            if not self._line_open:
                self._put("      | ")
            self._put(line)

    def flush(self) -> None:
        """Flush the output stream."""
        self._stream.flush()

    def cell_start(self, cell, cell_index) -> None:
        """Print the number and heading of a code cell as it starts."""
        if cell.cell_type == "markdown":
            self._heading = heading(cell.source) or self._heading
        elif cell.source.strip():
            self._cell, self._cell_began = self._cell + 1, time.time()
            self.say(f"  [{self._cell:2}/{self._of}] {clock(time.time() - self._began):>5}  {self._heading}")

    def cell_executed(self, cell, cell_index, execute_reply) -> None:
        """Print the time of a cell that took 5 seconds or more."""
        seconds = time.time() - self._cell_began
        if seconds >= 5:
            self.say(f"        this cell took {clock(seconds)}")

    def where(self) -> str:
        """Where the run is, in words."""
        if not self._cell:
            return "before its first cell"
        return f"in cell {self._cell} of {self._of}" + (f" ({self._heading})" if self._heading else "")

    def _put(self, text: str) -> None:
        self._line_open = not text.endswith(("\n", "\r"))
        self._stream.write(text)
        self._stream.flush()
        if self._log:
            self._log.write(text)
            self._log.flush()


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
