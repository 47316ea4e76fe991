"""Log a notebook's kernel, print the progress of its cells, and clean up their output."""

import sys
import time
from pathlib import Path

from jupyter_client import AsyncKernelManager


def logging_kernel_manager(path: Path) -> type[AsyncKernelManager]:
    """Return a kernel manager class that appends the output of the kernel process to a file.

    path: the log file.
    """

    class LoggedKernelManager(AsyncKernelManager):
        async def _async_launch_kernel(self, kernel_cmd, **kw):
            with open(path, "a", encoding="utf-8") as log:
                await super()._async_launch_kernel(kernel_cmd, **kw, stdout=log, stderr=log)

    return LoggedKernelManager


def last_heading(source: str) -> str:
    """Return the last heading in a Markdown text, or an empty text if there is none.

    source: the Markdown text.
    """
    return next((line.lstrip("#").strip() for line in reversed(source.splitlines()) if line.startswith("#")), "")


def cell_heading(notebook, index: int) -> str:
    """Return the nearest heading above a cell, or an empty text if there is none.

    notebook: an `nbformat` notebook.
    index: the position of the cell.
    """
    headings = (last_heading(cell.source) for cell in reversed(notebook.cells[:index]) if cell.cell_type == "markdown")
    return next(filter(None, headings), "")


def format_clock(seconds: float) -> str:
    """Format a number of seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float) -> str:
    """Format a number of seconds with its unit, such as 42 s, 3:05 min or 1:20:00 h."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{format_clock(seconds)} {'min' if seconds < 3600 else 'h'}"


class Progress:
    """Print a line when a cell starts and what the cell prints, on a stream and in the run's log.

    stream: a text file to print on; by default standard output.
    """

    def __init__(self, stream=None):
        self._stream, self._log = stream or sys.stdout, None
        self._cell, self._n_cells, self._heading, self._line_open = 0, 0, "", False

    def start(self, name: str, n_cells: int, log: Path) -> None:
        """Open the log and print that the run starts.

        name: the name of the chapter.
        n_cells: the number of its code cells.
        log: the log file, which is overwritten.
        """
        self._log, self._start, self._n_cells = open(log, "w", encoding="utf-8"), time.time(), n_cells
        self.say(f"{name}: running its {n_cells} cells")

    def stop(self) -> None:
        """Close the log."""
        if self._log:
            self._log.close()
        self._log = None

    def say(self, line: str) -> None:
        """Print a message on a new line.

        line: the message, without a line break.
        """
        if self._line_open:
            self._put("\n")
        self._put(line + "\n")

    def write(self, text: str) -> None:
        """Print output of the running cell, indented.

        text: the output, in which a progress bar's carriage returns start a line again.
        """
        for line in text.splitlines(keepends=True):
            if not self._line_open:
                self._put("      | ")
            self._put(line)

    def flush(self) -> None:
        """Flush the output stream, as papermill expects of a file."""
        self._stream.flush()

    def cell_start(self, cell, cell_index) -> None:
        """Print the number and heading of a code cell when it starts.

        cell, cell_index: the cell and its position; papermill passes both by name.
        """
        if cell.cell_type == "markdown":
            self._heading = last_heading(cell.source) or self._heading
        elif cell.source.strip():
            self._cell, self._cell_start = self._cell + 1, time.time()
            self.say(
                f"  [{self._cell:2}/{self._n_cells}] {format_clock(time.time() - self._start):>5}  {self._heading}"
            )

    def cell_executed(self, cell, cell_index, execute_reply) -> None:
        """Print the time of a cell that took 5 seconds or more.

        cell, cell_index, execute_reply: the cell, its position and the kernel's reply; papermill passes them by name.
        """
        seconds = time.time() - self._cell_start
        if seconds >= 5:
            self.say(f"        this cell took {format_clock(seconds)}")

    def where(self) -> str:
        """Describe in words which cell is running."""
        if not self._cell:
            return "before its first cell"
        return f"in cell {self._cell} of {self._n_cells}" + (f" ({self._heading})" if self._heading else "")

    def _put(self, text: str) -> None:
        self._line_open = not text.endswith(("\n", "\r"))
        self._stream.write(text)
        self._stream.flush()
        if self._log:
            self._log.write(text)
            self._log.flush()


def remove_blank_streams(notebook) -> None:
    """Remove what erased progress bars left in the outputs of a notebook's cells, in place.

    nbclient's `coalesce_streams` has joined the parts of each stream and applied the carriage returns between them.
    Spaces and carriage returns at the end are removed here, and then streams without any text.

    notebook: an executed `nbformat` notebook.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = output.text.rstrip(" \r")
            cell.outputs = [output for output in cell.outputs if output.output_type != "stream" or output.text.strip()]
